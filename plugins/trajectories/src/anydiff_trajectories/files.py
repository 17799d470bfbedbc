"""Files of episodes: D4RL's HDF5 (:mod:`.d4rl`) and Minari's folders (:mod:`.minari_folder`), in and out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anydiff.errors import AnydiffError
from anydiff.files import check_suffix
from anydiff_trajectories.d4rl import read_d4rl, write_d4rl
from anydiff_trajectories.episodes import Episode
from anydiff_trajectories.minari_folder import minari_environment, read_minari, write_minari

D4RL_SUFFIXES = (".hdf5", ".h5")
SUFFIXES = (*D4RL_SUFFIXES, ".minari", "")


def read_episodes(path: Path, episode_steps: int | None = None) -> list[Episode]:
    """Episodes of a D4RL file or of a Minari folder, whichever ``path`` is.

    Raises:
        AnydiffError: nothing is there, or an array holds what an episode cannot.
        FileFormatError: the file is damaged or of another kind.
    """
    if not path.exists():
        raise AnydiffError(f"{str(path)!r} does not exist; give a D4RL .hdf5 file or a Minari folder.")
    return read_minari(path) if path.is_dir() else read_d4rl(path, episode_steps)


def write_episodes(
    episodes: Sequence[Episode],
    path: Path,
    environment: str = "",
    environment_options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a D4RL HDF5 file where ``path`` ends in ``.hdf5`` or ``.h5``, else a Minari folder.

    Raises:
        AnydiffError: another ending, nothing to write, or a folder that stands there (unless ``overwrite``).
    """
    if check_suffix(path, SUFFIXES, "episodes") in D4RL_SUFFIXES:
        write_d4rl(episodes, path)
    else:
        write_minari(episodes, path, environment, environment_options, overwrite)


def require_same_environment(path: Path, environment: str) -> None:
    """Refuse a Minari folder that says it was recorded in another environment than ``environment``.

    Versions of one environment (``-v4``, ``-v5``) may be mixed; where either side names none, nothing can be said.

    Raises:
        AnydiffError: the two differ.
    """
    recorded = minari_environment(path) if path.is_dir() else ""
    if recorded and environment and recorded.rpartition("-v")[0] != environment.rpartition("-v")[0]:
        raise AnydiffError(
            f"{str(path)!r} was recorded in {recorded!r}, but domain.options.environment is {environment!r}; give the "
            "environment of the data, or none."
        )
