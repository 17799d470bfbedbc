"""D4RL HDF5 files and Minari data sets, in and out.

D4RL: flat arrays over all steps, ``observations (N, d_o)``, ``actions (N, d_a)``, ``rewards (N,)``, ``terminals (N,)``
and ``timeouts (N,)``; an episode ends where either of the last two is true. ``next_observations`` at a timeout is, in
many published files, the first state of the next episode, so it is not used there.

Minari: a folder with ``data/main_data.hdf5`` and ``data/metadata.json``; an episode has one observation more than
actions. The Minari library itself reads and writes it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from anydiff.errors import AnydiffError, FileFormatError, natural_number
from anydiff.files import atomic_path
from anydiff_trajectories.episodes import Episode

REQUIRED = ("observations", "actions", "rewards", "terminals")
Array = NDArray[np.float64]


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
    episodes: Sequence[Episode], path: Path, environment: str = "", environment_options: Mapping[str, Any] | None = None
) -> None:
    """Write a Minari folder where ``path`` ends in ``.minari``, else one D4RL HDF5 file."""
    if path.suffix == ".minari":
        write_minari(episodes, path, environment, environment_options)
    else:
        write_d4rl(episodes, path)


# D4RL ---------------------------------------------------------------------------------------------------------------


def read_d4rl(path: Path, episode_steps: int | None = None) -> list[Episode]:
    """Episodes of a D4RL HDF5 file, in order.

    Args:
        path: the file.
        episode_steps: the time limit of the environment, for the oldest files, which have no ``timeouts``.

    Raises:
        FileFormatError: no HDF5, truncated, or without a required array.
        AnydiffError: arrays of other lengths, values that are not finite, discrete actions.
    """
    arrays = _read_arrays(path)
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
        arrays[name] = value[:, 0] if name not in ("observations", "actions") and value.ndim == 2 else value
        if len(value) != count:
            raise FileFormatError(
                f"{name} in {str(path)!r} has {len(value)} rows, but observations has {count}; the file is damaged."
            )
    bad = np.argwhere(~np.isfinite(arrays["rewards"].astype(np.float64)))
    if len(bad):
        raise AnydiffError(f"rewards in {str(path)!r} is not finite at row {bad[0][0]}; repair or drop that episode.")
    return _split(arrays, count)


def _split(arrays: Mapping[str, NDArray[Any]], count: int) -> list[Episode]:
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


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of an HDF5 file by its path; groups are walked, scalars left out."""
    arrays: dict[str, NDArray[Any]] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim:
            arrays[name] = item[()]

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except (OSError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:120]
        raise FileFormatError(
            f"{str(path)!r} is no readable HDF5 file, or was cut short ({reason}); get it again."
        ) from error
    return arrays


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


def _last(episode: Episode, value: bool) -> NDArray[np.bool_]:
    flags = np.zeros(len(episode), dtype=bool)
    flags[-1] = value
    return flags


# Minari -------------------------------------------------------------------------------------------------------------


def read_minari(path: Path) -> list[Episode]:
    """Episodes of a Minari data set's folder. Of dictionary observations, ``observation`` is taken.

    The goals of goal environments are kept in ``infos["goal"]``.

    Raises:
        FileFormatError: no Minari data set, or a damaged one.
        AnydiffError: discrete actions, or values that are not finite.
    """
    from minari import MinariDataset

    folder = path if (path / "metadata.json").exists() else path / "data"
    if not (folder / "metadata.json").exists():
        raise FileFormatError(f"{str(path)!r} is a folder without data/metadata.json, so it is no Minari data set.")
    try:
        dataset = MinariDataset(folder)
        found = list(dataset.iterate_episodes())
    except Exception as error:  # Minari and h5py report damage in many ways
        reason = " ".join(str(error).split())[:120]
        raise FileFormatError(f"{str(path)!r} is no readable Minari data set ({reason}); get it again.") from error
    return [_from_minari(each) for each in found]


def _from_minari(data: Any) -> Episode:
    observations, infos = data.observations, {}
    steps = len(data.rewards)
    if isinstance(observations, dict):
        if "desired_goal" in observations:
            infos["goal"] = np.asarray(observations["desired_goal"])[:steps]
        if "observation" not in observations:
            raise AnydiffError(
                f"episode {data.id} has observations {sorted(observations)}, but needs an array or a dictionary with "
                "'observation'."
            )
        observations = observations["observation"]
    if len(observations) != steps + 1:
        raise FileFormatError(
            f"episode {data.id} has {len(observations)} observations for {steps} steps, but Minari keeps one more than "
            "steps; the file is damaged."
        )
    return Episode(
        observations[:-1],
        data.actions,
        data.rewards,
        terminal=bool(data.terminations[-1]),
        timeout=bool(data.truncations[-1]),
        final_observation=observations[-1],
        infos=infos,
    )


def write_minari(
    episodes: Sequence[Episode], path: Path, environment: str = "", environment_options: Mapping[str, Any] | None = None
) -> None:
    """Write a Minari data set into the new folder ``path``, whole or not at all.

    An episode that does not know its last observation gives its last row for it (and so one transition less).

    Raises:
        AnydiffError: the folder exists, or there is no episode.
    """
    if path.exists():
        raise AnydiffError(f"{str(path)!r} exists, and a Minari data set is written into a new folder; choose another.")
    if not episodes:
        raise AnydiffError("there is no episode to write; give at least one.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        _fill(episodes, temporary / "data", path.stem, environment, environment_options)
        temporary.rename(path)
    except OSError as error:
        raise AnydiffError(f"cannot write {str(path)!r}: {error.strerror}; choose another folder.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fill(
    episodes: Sequence[Episode], folder: Path, name: str, environment: str, options: Mapping[str, Any] | None
) -> None:
    import gymnasium
    import minari
    from gymnasium.spaces import Box
    from minari.dataset.minari_storage import MinariStorage

    from anydiff_trajectories.environments import environment_spec

    first = episodes[0]
    spec = environment_spec(environment, options) if environment else None
    storage = MinariStorage.new(
        folder,
        observation_space=Box(-np.inf, np.inf, (first.observations.shape[1],), dtype=np.float64),
        action_space=Box(-np.inf, np.inf, (first.actions.shape[1],), dtype=np.float64),
        env_spec=spec,
    )
    storage.update_metadata(
        {
            "dataset_id": f"{_identifier(name)}-v0",
            "minari_version": minari.__version__,
            "algorithm_name": "",
            "requirements": [f"gymnasium>={gymnasium.__version__}"],
        }
    )
    storage.update_episodes([_to_minari(number, episode) for number, episode in enumerate(episodes)])


def _to_minari(number: int, episode: Episode) -> Any:
    from minari.data_collector import EpisodeBuffer

    observations, steps = episode.observations, len(episode)
    if episode.final_observation is None:
        steps -= 1
    else:
        observations = np.concatenate([observations, episode.final_observation[None]])
    flags = np.zeros(steps, dtype=bool)
    terminations, truncations = flags.copy(), flags.copy()
    terminations[-1] = episode.terminal
    truncations[-1] = not episode.terminal
    return EpisodeBuffer(
        id=number,
        observations=list(observations),
        actions=list(episode.actions[:steps]),
        rewards=list(episode.rewards[:steps]),
        terminations=list(terminations),
        truncations=list(truncations),
    )


def _identifier(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter == "-" else "-" for letter in name).strip("-") or "episodes"
