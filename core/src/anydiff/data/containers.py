"""Reads members of package archives (wheel, zip, tar, Debian) as bytes, without installing or executing anything.

Debian packages are ``ar`` archives (deb(5)) whose ``data.tar.*`` member holds the files; those compressed with a method
this Python lacks are handed to ``dpkg-deb --fsys-tarfile``.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from anydiff.errors import AnydiffError, FileFormatError


def read_members(archive: str | Path, members: Iterable[str]) -> dict[str, bytes]:
    """The bytes of ``members`` of the archive, in one pass.

    Args:
        archive: a ``.whl``, ``.zip``, ``.tgz``, ``.tar``, ``.tar.gz``, ``.tar.xz`` or ``.deb`` file.
        members: paths inside it, without a leading ``./``.

    Raises:
        AnydiffError: the file does not exist.
        FileFormatError: it is truncated, of an unknown format, or lacks a member.
    """
    path = Path(archive)
    wanted = list(members)
    if not path.is_file():
        raise AnydiffError(f"the archive {str(path)!r} does not exist; check the path.")
    try:
        if path.suffix in (".whl", ".zip"):
            found = _from_zip(path, wanted)
        elif path.suffix == ".deb":
            found = _from_tar(_debian_payload(path), wanted, path)
        elif path.suffix in (".tgz", ".tar") or path.name.endswith((".tar.gz", ".tar.xz", ".tar.bz2")):
            found = _from_tar(path.open("rb"), wanted, path)
        else:
            raise FileFormatError(
                f"{path.name!r} is no archive anydiff reads; give a .whl, .zip, .tgz, .tar.* or .deb file."
            )
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, ValueError) as error:
        if isinstance(error, AnydiffError):
            raise
        raise FileFormatError(f"{str(path)!r} is truncated or damaged ({error}); fetch it again.") from error
    missing = [name for name in wanted if name not in found]
    if missing:
        raise FileFormatError(
            f"{path.name!r} has no member {missing[0]!r}; it is not the expected version of this package."
        )
    return found


def _from_zip(path: Path, wanted: list[str]) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        names = set(file.namelist())
        return {name: file.read(name) for name in wanted if name in names}


def _from_tar(stream: io.BufferedIOBase, wanted: list[str], path: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with stream, tarfile.open(fileobj=stream, mode="r|*") as file:
        for member in file:
            name = member.name.removeprefix("./")
            if name in wanted and member.isfile():
                content = file.extractfile(member)
                assert content is not None, f"{name} of {path} is a file"
                found[name] = content.read()
                if len(found) == len(wanted):
                    break
    return found


def _debian_payload(path: Path) -> io.BufferedIOBase:
    content = path.read_bytes()
    if not content.startswith(b"!<arch>\n"):
        raise FileFormatError(
            f"{path.name!r} is no Debian package (its first bytes are not '!<arch>'); fetch it again."
        )
    position = 8
    while position + 60 <= len(content):
        header = content[position : position + 60]
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        start = position + 60
        if start + size > len(content):
            break
        if name.startswith("data.tar"):
            if name.rpartition(".")[2] in ("tar", "gz", "xz", "bz2"):
                return io.BytesIO(content[start : start + size])
            return _debian_payload_by_dpkg(path)
        position = start + size + size % 2
    raise FileFormatError(f"{path.name!r} is a truncated Debian package; fetch it again.")


def _debian_payload_by_dpkg(path: Path) -> io.BufferedIOBase:
    client = shutil.which("dpkg-deb")
    if client is None:
        raise AnydiffError(
            f"{path.name!r} is compressed with a method this Python cannot read, and dpkg-deb is not installed; "
            "install dpkg, or unpack the package yourself and give path=."
        )
    result = subprocess.run([client, "--fsys-tarfile", str(path)], capture_output=True, check=False)
    if result.returncode != 0:
        raise FileFormatError(
            f"{path.name!r} cannot be unpacked: {result.stderr.decode(errors='replace').strip()[-200:]}"
        )
    return io.BytesIO(result.stdout)
