"""D4RL HDF5 files, in and out.

Flat arrays over all steps: ``observations (N, d_o)``, ``actions (N, d_a)``, ``rewards (N,)``, ``terminals (N,)`` and
``timeouts (N,)``; an episode ends where either of the last two is true. ``next_observations`` at a timeout is, in many
published files, the first state of the next episode, so it is not used there. What D4RL has no place for, the bounds of
the actions, stands in the attributes ``low`` and ``high`` of ``actions``, which other readers pass over.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from anydiff.data import check_hdf5
from anydiff.data.reading import reading
from anydiff.errors import AnydiffError, FileFormatError, natural_number
from anydiff.files import atomic_path
from anydiff_trajectories.episodes import Episode, real_numbers, shared_bounds

ADVICE = "write it as D4RL does, with h5py and one array for each of observations, actions, rewards and terminals"
REQUIRED = ("observations", "actions", "rewards", "terminals")


def read_d4rl(path: Path, episode_steps: int | None = None) -> list[Episode]:
    """Episodes of a D4RL HDF5 file, in order.

    Args:
        path: the file.
        episode_steps: the time limit of the environment, for the oldest files, which have no ``timeouts``.

    Raises:
        FileFormatError: no HDF5, truncated, or without a required array.
        AnydiffError: arrays of other lengths, values that are not finite, discrete actions.
    """
    arrays, bounds = _read_arrays(path)
    for name in REQUIRED:
        if name not in arrays:
            raise FileFormatError(
                f"{str(path)!r} has no array {name!r}; a D4RL file has {', '.join(REQUIRED)} and timeouts."
            )
    count = len(arrays["observations"])
    if "timeouts" not in arrays:
        if episode_steps is None:
            raise FileFormatError(
                f"{str(path)!r} has no array 'timeouts', so where its episodes end is unknown; give "
                "episode_steps=<time limit of the environment>."
            )
        arrays["timeouts"] = _counted_timeouts(arrays["terminals"], natural_number("episode_steps", episode_steps))
    for name in (*REQUIRED, "timeouts"):
        value = arrays[name]
        arrays[name] = _one_column(value, name, path) if name not in ("observations", "actions") else value
        if len(value) != count:
            raise FileFormatError(
                f"{name} in {str(path)!r} has {len(value)} rows, but observations has {count}; the file is damaged."
            )
    bad = np.argwhere(~np.isfinite(real_numbers("rewards", arrays["rewards"])))
    if len(bad):
        raise AnydiffError(f"rewards in {str(path)!r} is not finite at row {bad[0][0]}; repair or drop that episode.")
    left = [name for name, value in arrays.items() if name.startswith("infos/") and len(value) != count]
    if left:
        warnings.warn(
            f"{len(left)} infos of {str(path)!r} have no row per step and are left out: {', '.join(left[:3])}.",
            stacklevel=2,
        )
    return _split(arrays, count, bounds)


def _one_column(value: NDArray[Any], name: str, path: Path) -> NDArray[Any]:
    """Rewards or ends ``[rows]``; some files hold them as ``[rows, 1]``.

    Raises:
        FileFormatError: several columns, or an end that is neither 0 nor 1.
    """
    if value.ndim > 2 or (value.ndim == 2 and value.shape[1] != 1):
        raise FileFormatError(f"{name} in {str(path)!r} has shape {value.shape}, but needs one number per step.")
    column = value[:, 0] if value.ndim == 2 else value
    if name != "rewards" and not np.isin(column, (0, 1)).all():
        wrong = column[~np.isin(column, (0, 1))][0]
        raise FileFormatError(f"{name} in {str(path)!r} holds {wrong}, but must be 0 or 1 at each step; correct it.")
    return column


def _split(
    arrays: Mapping[str, NDArray[Any]], count: int, bounds: tuple[NDArray[Any], NDArray[Any]] | None
) -> list[Episode]:
    terminals, timeouts = arrays["terminals"].astype(bool), arrays["timeouts"].astype(bool)
    ends = [int(end) + 1 for end in np.flatnonzero(terminals | timeouts)]
    if not ends or ends[-1] != count:
        ends.append(count)  # what was being recorded when the file was closed
    infos = {n.removeprefix("infos/"): v for n, v in arrays.items() if n.startswith("infos/") and len(v) == count}
    following = arrays.get("next_observations")
    episodes, start = [], 0
    for end in ends:
        rows = slice(start, end)
        # After a timeout the file's next observation may belong to another episode.
        known = following is not None and (terminals[end - 1] or not timeouts[end - 1])
        episodes.append(
            Episode(
                arrays["observations"][rows],
                arrays["actions"][rows],
                arrays["rewards"][rows],
                terminal=bool(terminals[end - 1]),
                timeout=bool(timeouts[end - 1]),
                final_observation=following[end - 1] if known and following is not None else None,
                infos={name: value[rows] for name, value in infos.items()},
                action_bounds=bounds,
            )
        )
        start = end
    return episodes


def _counted_timeouts(terminals: NDArray[Any], steps: int) -> NDArray[np.bool_]:
    timeouts = np.zeros(len(terminals), dtype=bool)
    elapsed = 0
    for index, terminal in enumerate(terminals.reshape(len(terminals), -1)[:, 0]):
        elapsed += 1
        if terminal or elapsed == steps:
            timeouts[index] = not terminal
            elapsed = 0
    return timeouts


def _read_arrays(path: Path) -> tuple[dict[str, NDArray[Any]], tuple[NDArray[Any], NDArray[Any]] | None]:
    """Every array of an HDF5 file by its path (groups are walked, scalars left out), and the bounds of the actions."""
    arrays: dict[str, NDArray[Any]] = {}
    bounds = None

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim:
            arrays[name] = item[()]

    check_hdf5(path, "an HDF5 file", ADVICE)
    with reading(path, "an HDF5 file", ADVICE), h5py.File(path, "r") as file:
        file.visititems(visit)
        file.visititems_links(lambda name, link: visit(name, file[name]) if isinstance(link, h5py.SoftLink) else None)
        noted = file["actions"].attrs if "actions" in file else {}
        if "low" in noted and "high" in noted:
            bounds = np.asarray(noted["low"], np.float64), np.asarray(noted["high"], np.float64)
    return arrays, bounds


def write_d4rl(episodes: Sequence[Episode], path: Path) -> None:
    """Write episodes as one D4RL HDF5 file (float32 arrays, gzip), atomically.

    ``next_observations`` is written where every episode knows its last one. Infos that all episodes have are kept.
    """
    if not episodes:
        raise AnydiffError("there is no episode to write; give at least one.")
    columns: dict[str, NDArray[Any]] = {
        "observations": np.concatenate([e.observations for e in episodes]).astype(np.float32),
        "actions": np.concatenate([e.actions for e in episodes]).astype(np.float32),
        "rewards": np.concatenate([e.rewards for e in episodes]).astype(np.float32),
        "terminals": np.concatenate([_last(e, e.terminal) for e in episodes]),
        # The file has no other way to say that an episode ends here.
        "timeouts": np.concatenate([_last(e, e.timeout or not e.terminal) for e in episodes]),
    }
    if all(e.final_observation is not None for e in episodes):
        columns["next_observations"] = np.concatenate(
            [np.concatenate([e.observations[1:], np.asarray(e.final_observation)[None]]) for e in episodes]
        ).astype(np.float32)
    shared = set.intersection(*(set(e.infos) for e in episodes))
    for name in sorted(shared):
        columns[f"infos/{name}"] = np.concatenate([np.asarray(e.infos[name]) for e in episodes])
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for name, value in columns.items():
            file.create_dataset(name, data=value, compression="gzip")
        bounds = shared_bounds(episodes)
        if bounds is not None:
            file["actions"].attrs["low"], file["actions"].attrs["high"] = bounds


def _last(episode: Episode, value: bool) -> NDArray[np.bool_]:
    flags = np.zeros(len(episode), dtype=bool)
    flags[-1] = value
    return flags
