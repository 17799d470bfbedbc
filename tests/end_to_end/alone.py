"""An environment with one plugin's wheel and its declared requirements alone, made without a network.

The wheels of the core and of the plugin are built, unpacked and linked into a fresh virtual environment. What their
metadata require, directly or not, is linked in from the environment of the tests; nothing else is there. So an import
that no ``pyproject.toml`` declares fails here as it does for a user.
"""

from __future__ import annotations

import compileall
import functools
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


class Alone:
    """``folder`` holds the environment of the distributions in ``projects``, paths below the root of the workspace.

    Of ``extras`` what those of the distributions that have an extra of this name need is there, too.
    """

    def __init__(self, folder: Path, *projects: str, extras: str = "") -> None:
        self.folder = folder
        venv.EnvBuilder(symlinks=True, with_pip=False).create(folder / "venv")
        self.python = folder / "venv" / "bin" / "python"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        self.site = folder / "venv" / "lib" / version / "site-packages"
        self.wheels = {}
        for project in projects:
            self.wheels[project], files = unpacked(project)
            for part in files.iterdir():
                (self.site / part.name).symlink_to(part)
        names = [dist.metadata["Name"] for dist in importlib.metadata.distributions(path=[str(self.site)])]
        self.linked = self._link([Requirement(f"{name}[{extras}]" if extras else name) for name in names])

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``python ...`` in this environment, in a folder and with a home of its own."""
        hidden = ("PYTHONPATH", "PYTHONHOME", "ANYDIFF_")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
        environment |= {"HOME": str(self.folder), "ANYDIFF_HOME": str(self.folder / "home"), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [str(self.python), *arguments], cwd=self.folder, env=environment, capture_output=True, text=True,
            timeout=600, check=False,
        )  # fmt: skip

    def _link(self, todo: list[Requirement]) -> set[str]:
        """Link in what ``todo`` requires, directly or not; names of the distributions that are then there."""
        own = {
            canonicalize_name(dist.metadata["Name"]): dist
            for dist in importlib.metadata.distributions(path=[str(self.site)])
        }
        done: set[tuple[str, str]] = set()
        linked: set[str] = set(own)
        while todo:
            requirement = todo.pop()
            name = canonicalize_name(requirement.name)
            distribution = own.get(name) or importlib.metadata.distribution(name)
            if name not in linked:
                linked.add(name)
                self._link_files(distribution)
            for extra in ("", *requirement.extras):
                if (name, extra) in done:
                    continue
                done.add((name, extra))
                needed = [Requirement(text) for text in distribution.requires or []]
                todo += [each for each in needed if each.marker is None or each.marker.evaluate({"extra": extra})]
        return linked

    def _link_files(self, distribution: importlib.metadata.Distribution) -> None:
        base = Path(str(distribution.locate_file("")))
        tops = {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            target = self.site / top
            if not target.exists() and not target.is_symlink():
                target.symlink_to(base / top)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []
"""Gone with this process."""


@functools.cache
def unpacked(project: str) -> tuple[Path, Path]:
    """The wheel of ``project`` as pip would build it, and the folder of its files, compiled as pip would: made once."""
    _KEPT.append(tempfile.TemporaryDirectory())
    folder = Path(_KEPT[-1].name)
    wheel = Path(next(WheelBuilder(str(ROOT / project)).build(directory=str(folder), versions=["standard"])))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "files")
    compileall.compile_dir(folder / "files", quiet=2)
    return wheel, folder / "files"
