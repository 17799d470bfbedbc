"""Folders from a hub: fetched by ``huggingface_hub``, pinned by commit and by the sha256 of every file, never executed.

Only weights as safetensors, configurations and texts are kept; code and pickled files are left out and counted. Without
a network nothing here is asked: a folder that was pulled is found by its name.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anydiff.data.cache import data_folder, file_sha256
from anydiff.data.reading import read_json
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import atomic_folder, write_atomic
from anydiff.optional import require

MANIFEST = "anydiff-hub.json"
KEPT = (".safetensors", ".json", ".md", ".txt", ".yaml", "license")
"""Endings of what is kept."""
INSTALL = "anydiff[hub]"
_NAME = re.compile(r"(?P<owner>\w[\w.-]*)/(?P<name>\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?")


@dataclass(frozen=True)
class Pulled:
    """What a pull brought.

    Attributes:
        folder: in the cache.
        commit: of the repository.
        licence: as its card says; ``unknown`` where it says none.
        files: how many were kept.
        left_out: names of files that were not.
        fresh: whether they were fetched now.
    """

    folder: Path
    commit: str
    licence: str
    files: int
    left_out: tuple[str, ...]
    fresh: bool


def hub_name(text: str) -> tuple[str, str] | None:
    """(``owner/name``, revision) of ``owner/name[@revision]``; None where the text is none."""
    match = _NAME.fullmatch(text)
    if match is None or ".." in text:
        return None
    return f"{match['owner']}/{match['name']}", match["revision"] or "main"


def pull(text: str) -> Pulled:
    """Fetch ``owner/name[@revision]`` into the cache, whole or not at all; what is there already is checked.

    Raises:
        AnydiffError: a wrong name, no network, no such repository; the sentence says what to copy where.
        FileFormatError: what is in the cache was changed since.
    """
    repository, revision = _required(text)
    hub = require("huggingface_hub", f"pulling {repository!r}", INSTALL)
    try:
        info = hub.HfApi().model_info(repository, revision=revision, files_metadata=True)
        commit = str(info.sha)
        folder = _place(repository) / commit
        names = [str(each.rfilename) for each in info.siblings or []]
        fresh = not folder.is_dir()
        if fresh:
            _fetch(hub, repository, commit, folder, names, _licence(info))
    except (AnydiffError, KeyboardInterrupt):
        raise
    except Exception as error:  # the library raises what its own libraries raise
        raise _unreachable(repository, revision, error) from error
    manifest = check_pulled(folder)
    write_atomic(_place(repository) / "refs" / f"{revision.replace('/', '--')}.txt", f"{commit}\n")
    left = tuple(name for name in names if name not in manifest["files"])
    return Pulled(folder, commit, str(manifest["licence"]), len(manifest["files"]), left, fresh)


def pulled_folder(text: str) -> Path:
    """The folder of ``owner/name[@revision]`` in the cache, checked; nothing is fetched.

    Raises:
        AnydiffError: it was not pulled; the sentence gives the command.
        FileFormatError: a file was changed since.
    """
    repository, revision = _required(text)
    place = _place(repository)
    ref = place / "refs" / f"{revision.replace('/', '--')}.txt"
    folder = place / (ref.read_text(encoding="utf-8").strip() if ref.is_file() else revision)
    if not folder.is_dir():
        raise AnydiffError(f"{text!r} is no folder here and was not pulled; run `anydiff pull {text}` first.")
    check_pulled(folder)
    return folder


def check_pulled(folder: Path) -> dict[str, Any]:
    """What the manifest of a pulled folder says, every file compared with its sha256.

    Raises:
        FileFormatError: a file is missing or has another hash, or there is no manifest.
    """
    found = read_json(folder / MANIFEST, "the manifest of a pulled folder", "pull it again")
    files = found.get("files") if isinstance(found, dict) else None
    if not isinstance(files, dict):
        raise FileFormatError(f"{str(folder / MANIFEST)!r} lists no files; delete the folder and pull it again.")
    for name, wanted in files.items():
        path = folder / name
        has = file_sha256(path) if path.is_file() else "nothing"
        if has != wanted:
            raise FileFormatError(
                f"{str(path)!r} has sha256 {has[:16]}, but {found.get('name')!r} was pulled with {str(wanted)[:16]}; "
                "delete the folder and pull it again."
            )
    checked: dict[str, Any] = found
    return checked


def push(folder: Path, text: str, message: str) -> str:
    """Upload the files of ``folder`` to ``owner/name``, which is made where it does not exist; the commit's address.

    Raises:
        AnydiffError: a wrong name, no network, or no right to write.
    """
    repository, revision = _required(text)
    hub = require("huggingface_hub", f"pushing to {repository!r}", INSTALL)
    try:
        api = hub.HfApi()
        api.create_repo(repository, exist_ok=True, repo_type="model")
        made = api.upload_folder(
            folder_path=str(folder), repo_id=repository, revision=revision, commit_message=message
        )  # fmt: skip
    except Exception as error:  # see pull
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise AnydiffError(
            f"cannot push to {repository!r} ({reason}); check the connection and `hf auth login`, or upload the "
            "files by hand."
        ) from error
    return str(getattr(made, "oid", made))


def _required(text: str) -> tuple[str, str]:
    found = hub_name(text)
    if found is None:
        raise AnydiffError(
            f"{text!r} is no name on a hub; write OWNER/NAME or OWNER/NAME@REVISION, without '..' and spaces."
        )
    return found


def _place(repository: str) -> Path:
    return data_folder() / "hub" / repository.replace("/", "--")


def _kept(name: str) -> bool:
    parts = name.split("/")
    return ".." not in parts and not name.startswith("/") and name.lower().endswith(KEPT)


def _licence(info: Any) -> str:
    card = getattr(info, "card_data", None)
    return str((card.to_dict() if card is not None else {}).get("license") or "unknown")


def _fetch(hub: Any, repository: str, commit: str, folder: Path, names: list[str], licence: str) -> None:
    kept = [name for name in names if _kept(name)]
    if not any(name.endswith(".safetensors") for name in kept):
        raise AnydiffError(
            f"{repository!r} holds no .safetensors file, and pickled weights are not fetched; get them yourself and "
            "run `anydiff convert`."
        )
    with atomic_folder(folder) as made:
        for name in kept:
            hub.hf_hub_download(repository, name, revision=commit, local_dir=str(made))
        hashes = {name: file_sha256(made / name) for name in kept}
        manifest = {"name": repository, "commit": commit, "licence": licence, "files": hashes}
        (made / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")


def _unreachable(repository: str, revision: str, error: Exception) -> AnydiffError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return AnydiffError(
        f"cannot pull {repository!r} at {revision!r} ({reason}); check name and connection, or copy the folder "
        f"{str(_place(repository))!r} from a machine that pulled it."
    )
