"""Skeletons of plugins. ``common/`` and one folder per kind hold plain files with ``@NAME@`` marks.

``dot`` at the beginning of a file's name stands for ``.``, ``MODULE`` in a path for the module's name, and the suffix
``.txt`` after another one is dropped, so that no tool takes a template for what it will become.
"""

from __future__ import annotations

import re
import tempfile
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from anydiff.errors import AnydiffError, UnknownNameError

KINDS = ("domain", "solver", "metric", "guidance")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write_plugin(name: str, kind: str, out: Path) -> Path:
    """Write the skeleton of a plugin into ``out/anydiff-<name>`` and return that folder.

    Args:
        name: the plugin's name, small letters, digits and single ``-``.
        kind: ``domain``, ``solver``, ``metric`` or ``guidance``.
        out: where the folder is made.

    Raises:
        UnknownNameError: no such kind.
        AnydiffError: the name cannot be a package's, or the folder exists.
    """
    _check_name(name)
    if kind not in KINDS:
        raise UnknownNameError("kind of plugin", kind, KINDS)
    folder = Path(out) / f"anydiff-{name}"
    if folder.exists() or folder.is_symlink():
        raise AnydiffError(f"{str(folder)!r} exists, and nothing is overwritten; choose another name or --out.")
    marks = {
        "@NAME@": name,
        "@MODULE@": f"anydiff_{name.replace('-', '_')}",
        "@CLASS@": "".join(part.capitalize() for part in name.split("-")),
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Written beside its place and renamed, so that a full disk leaves no half of a package.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            root = Path(temporary) / folder.name
            for part in ("common", kind):
                _copy(resources.files(__name__).joinpath(part), root, marks)
            root.rename(folder)
    except OSError as error:
        raise AnydiffError(f"cannot write {str(folder)!r}: {error.strerror}; choose another --out.") from error
    return folder


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise AnydiffError(
            f"the plugin's name is {name!r}, but must be small letters, digits and single '-', beginning with a "
            "letter, as in my-weather."
        )
    if name in ("anydiff", "core", "benchmarks"):
        raise AnydiffError(f"the plugin's name is {name!r}, which is reserved; choose another.")


def _copy(source: Traversable, target: Path, marks: dict[str, str]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for item in source.iterdir():
        if item.name == "__pycache__":
            continue
        name = item.name.replace("MODULE", marks["@MODULE@"]).removesuffix(".txt")
        name = f".{name.removeprefix('dot')}" if name.startswith("dot") else name
        if item.is_dir():
            _copy(item, target / name, marks)
            continue
        text = item.read_text("utf-8")
        for mark, value in marks.items():
            text = text.replace(mark, value)
        (target / name).write_text(text, "utf-8")
