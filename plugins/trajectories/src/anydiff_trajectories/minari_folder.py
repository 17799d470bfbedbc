"""Minari data sets: a folder with ``data/main_data.hdf5`` and ``data/metadata.json``, written by the Minari library.

An episode has one observation more than actions. Goals (``infos["goal"]``) are the ``desired_goal`` of dictionary
observations and places reached (``infos["achieved_goal"]``) the ``achieved_goal``, as Gymnasium's goal environments
have them. Every other array of ``infos`` is kept as an info, its last row once more for the observation at the end. The
bounds of the actions are those of the action space.

Where the observation after the last action is not known (D4RL files, windows), Minari has no place for the last step.
Other readers then see the episode one step shorter, cut instead of ended, every transition in it true. The step itself
stands in the attributes ``anydiff/...`` of the episode, from which :func:`read_minari` puts it back.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anydiff.data import check_hdf5
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.files import atomic_folder
from anydiff_trajectories.episodes import Episode, shared_bounds

GOALS = {"goal": "desired_goal", "achieved_goal": "achieved_goal"}
"""Infos that are parts of the observation in Gymnasium's goal environments: our name and theirs."""


def _data_folder(path: Path) -> Path:
    return path if (path / "metadata.json").exists() else path / "data"


def minari_environment(path: Path) -> str:
    """The Gymnasium id that a Minari folder says it was recorded in; empty where it says none."""
    try:
        metadata = json.loads((_data_folder(path) / "metadata.json").read_text(encoding="utf-8"))
        return str(json.loads(metadata["env_spec"])["id"])
    except (OSError, ValueError, KeyError, TypeError):  # what is damaged is said by the reader of the episodes
        return ""


def read_minari(path: Path) -> list[Episode]:
    """Episodes of a Minari data set's folder. Of dictionary observations, ``observation`` is taken.

    Raises:
        FileFormatError: no Minari data set, or a damaged one.
        AnydiffError: discrete actions, or values that are not finite.
    """
    from gymnasium.spaces import Box
    from minari import MinariDataset

    folder = _data_folder(path).absolute()
    if not (folder / "metadata.json").exists():
        raise FileFormatError(f"{str(path)!r} is a folder without data/metadata.json, so it is no Minari data set.")
    for file in sorted(folder.glob("*.hdf5")):
        check_hdf5(file, "the episodes of a Minari data set")
    try:
        dataset = MinariDataset(folder)
        found = list(dataset.iterate_episodes())
        notes = list(dataset.storage.get_episode_metadata([each.id for each in found]))
    except Exception as error:  # Minari and h5py report damage in many ways
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise FileFormatError(f"{str(path)!r} is no readable Minari data set ({reason}); get it again.") from error
    space = dataset.action_space
    bounded = isinstance(space, Box) and np.isfinite(space.low).all() and np.isfinite(space.high).all()
    bounds = (np.asarray(space.low, np.float64), np.asarray(space.high, np.float64)) if bounded else None
    left: Counter[str] = Counter()
    episodes = [
        _from_minari(each, note.get("anydiff", {}), bounds, left) for each, note in zip(found, notes, strict=True)
    ]
    if left:
        names = ", ".join(f"{name!r} of {count}" for name, count in sorted(left.items()))
        warnings.warn(
            f"parts of the episodes of {str(path)!r} are left out, since they are neither 'observation' nor goals "
            f"or have no row per step: {names} of {len(found)} episodes.",
            stacklevel=3,
        )
    return episodes


def _from_minari(
    data: Any, note: Mapping[str, Any], bounds: tuple[NDArray[Any], NDArray[Any]] | None, left: Counter[str]
) -> Episode:
    """One episode; what has no place in it is counted in ``left``."""
    observations, infos = data.observations, dict(_flat(data.infos or {}))
    steps = len(data.rewards)
    if not steps:
        raise FileFormatError(f"episode {data.id} has no steps; leave it out, or get the data set again.")
    over = np.asarray(data.terminations[:-1]) | np.asarray(data.truncations[:-1])
    if over.any():
        raise FileFormatError(
            f"episode {data.id} of {steps} steps ends at step {int(over.argmax())} already; cut it there into two."
        )
    if isinstance(observations, dict):
        left.update(f"observations/{name}" for name in observations if name not in ("observation", *GOALS.values()))
        infos |= {ours: observations[theirs] for ours, theirs in GOALS.items() if theirs in observations}
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
    actions, rewards = np.asarray(data.actions), np.asarray(data.rewards)
    terminal, timeout = bool(data.terminations[-1]), bool(data.truncations[-1])
    final: Any = observations[-1]
    if "last_step" in note:
        last = json.loads(note["last_step"])
        actions = np.concatenate([actions, np.asarray(last["action"], dtype=actions.dtype)[None]])
        rewards = np.append(rewards, last["reward"])
        terminal, timeout, final, steps = last["terminal"], last["timeout"], None, steps + 1
    elif "timeout" in note:
        timeout = bool(note["timeout"])
    left.update(f"infos/{name}" for name, value in infos.items() if len(value) not in (steps, steps + 1))
    kept = {name: np.asarray(value)[:steps] for name, value in infos.items() if len(value) in (steps, steps + 1)}
    return Episode(observations[:steps], actions, rewards, terminal, timeout, final, kept, bounds)


def _flat(infos: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    """Infos by their path; what has no rows is no info of a step."""
    for name, value in infos.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}/")
        elif np.ndim(value):
            yield f"{above}{name}", np.asarray(value)


def write_minari(
    episodes: Sequence[Episode],
    path: Path,
    environment: str = "",
    environment_options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a Minari data set into the folder ``path``, whole or not at all.

    Args:
        episodes: at least one.
        path: a new folder, or with ``overwrite`` one that holds a Minari data set, which is then replaced.
        environment: the Gymnasium id they belong to.
        environment_options: arguments of that environment.
        overwrite: replace the data set that stands there.

    Raises:
        AnydiffError: the folder exists, there is no episode, or one of a single step does not know what came after it.
    """
    path = path.absolute()  # Minari joins a relative folder with itself
    if path.exists() and not (overwrite and (path / "data" / "metadata.json").exists()):
        raise AnydiffError(f"{str(path)!r} exists, and a Minari data set is written into a new folder; choose another.")
    if not episodes:
        raise AnydiffError("there is no episode to write; give at least one.")
    short = [number for number, each in enumerate(episodes) if len(each) == 1 and each.final_observation is None]
    if short:
        raise AnydiffError(
            f"{len(short)} of {len(episodes)} episodes (the first is number {short[0]}) have a single step and do not "
            "know the observation after it, which Minari cannot hold; write them as .hdf5, or leave them out."
        )
    with atomic_folder(path, replace=overwrite) as temporary:
        _fill(episodes, temporary / "data", path.stem, environment, environment_options)


def _fill(
    episodes: Sequence[Episode], folder: Path, name: str, environment: str, options: Mapping[str, Any] | None
) -> None:
    import gymnasium
    import minari
    from gymnasium.spaces import Box, Dict, Space
    from minari.dataset.minari_storage import MinariStorage

    from anydiff_trajectories.environments import environment_spec

    goals = [key for key in GOALS if all(key in each.infos and np.ndim(each.infos[key]) == 2 for each in episodes)]
    goals = goals if "goal" in goals else []
    widths = {"observation": episodes[0].observations.shape[1]}
    widths |= {GOALS[key]: episodes[0].infos[key].shape[1] for key in goals}
    spaces: dict[str, Space[Any]] = {
        key: Box(-np.inf, np.inf, (width,), dtype=np.float64) for key, width in widths.items()
    }
    observation_space: Space[Any] = Dict(spaces) if goals else spaces["observation"]
    low, high = _bounds(episodes, environment, options)
    storage = MinariStorage.new(
        folder,
        observation_space=observation_space,
        action_space=Box(low, high, dtype=np.float64),
        env_spec=environment_spec(environment, options) if environment else None,
    )
    storage.update_metadata(
        {
            "dataset_id": f"{_identifier(name)}-v0",
            "minari_version": minari.__version__,
            "algorithm_name": "",
            "requirements": [f"gymnasium>={gymnasium.__version__}"],
        }
    )
    storage.update_episodes([_to_minari(number, episode, goals) for number, episode in enumerate(episodes)])
    storage.update_episode_metadata([_note(episode) for episode in episodes])


def _bounds(
    episodes: Sequence[Episode], environment: str, options: Mapping[str, Any] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The bounds that the episodes know, else the environment's where every action keeps within them, else none."""
    from anydiff_trajectories.environments import make

    known = shared_bounds(episodes)
    if known is not None:
        return known
    width = episodes[0].actions.shape[1]
    free = np.full(width, -np.inf), np.full(width, np.inf)
    if not environment:
        return free
    try:
        made = make(environment, options)
    except AnydiffError:  # its simulator is not installed
        return free
    space: Any = made.action_space
    made.close()
    within = space.shape == (width,) and all(
        ((each.actions >= space.low - 1e-6) & (each.actions <= space.high + 1e-6)).all() for each in episodes
    )
    return (space.low.astype(np.float64), space.high.astype(np.float64)) if within else free


def _to_minari(number: int, episode: Episode, goals: Sequence[str]) -> Any:
    from minari.data_collector import EpisodeBuffer

    steps = len(episode) if episode.final_observation is not None else len(episode) - 1

    def rows(value: Any, last: Any = None) -> NDArray[Any]:
        """One row more than steps; where nothing came after the last, it stands twice."""
        value = np.asarray(value)
        extra = value[-1] if last is None else last
        return np.concatenate([value, np.asarray(extra)[None]])[: steps + 1]

    observations: Any = rows(episode.observations, episode.final_observation)
    if goals:
        observations = {"observation": observations, **{GOALS[key]: rows(episode.infos[key]) for key in goals}}
    ends = np.zeros(steps, dtype=bool)
    ends[-1] = episode.terminal and episode.final_observation is not None
    return EpisodeBuffer(
        id=number,
        observations=observations,
        actions=episode.actions[:steps],
        rewards=episode.rewards[:steps],
        terminations=ends,
        truncations=np.arange(steps) == (-1 if ends[-1] else steps - 1),
        infos={name: rows(value) for name, value in episode.infos.items() if name not in goals} or None,
    )


def _note(episode: Episode) -> dict[str, Any]:
    """What Minari has no place for: the step whose following observation is not known, and an end that is none."""
    if episode.final_observation is None:
        last = {"action": episode.actions[-1].tolist(), "reward": float(episode.rewards[-1])}
        return {"anydiff/last_step": json.dumps({**last, "terminal": episode.terminal, "timeout": episode.timeout})}
    # An episode in Minari is ended or cut; a recording that just stops is neither.
    return {} if episode.terminal or episode.timeout else {"anydiff/timeout": False}


def _identifier(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter == "-" else "-" for letter in name).strip("-") or "episodes"
