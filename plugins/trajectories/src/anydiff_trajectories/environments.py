"""Gymnasium environments by id: ours are registered here, others are made if their package is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Dict

from anydiff.errors import AnydiffError

MAZE = "anydiff/Maze-v0"
PENDULUM = "Pendulum-v1"

_PACKAGES = {
    ("PointMaze", "AntMaze", "Adroit", "Fetch", "FrankaKitchen", "Hand"): "gymnasium-robotics 'mujoco==3.3.*'",
    ("Hopper", "HalfCheetah", "Walker2d", "Ant", "Humanoid", "Swimmer", "Reacher", "Pusher", "InvertedPendulum",
     "InvertedDoublePendulum"): "'mujoco==3.3.*' imageio",
    ("LunarLander", "BipedalWalker", "CarRacing"): "'gymnasium[box2d]'",
}  # fmt: skip


def register_environments() -> None:
    """Make ``anydiff/Maze-v0`` known to Gymnasium; a second call changes nothing."""
    if MAZE not in gymnasium.registry:
        gymnasium.register(
            MAZE,
            entry_point="anydiff_trajectories.maze:MazeEnv",
            vector_entry_point="anydiff_trajectories.maze:MazeVectorEnv",
            max_episode_steps=100,
        )


register_environments()


def _package_for(name: str) -> str:
    bare = name.rpartition("/")[2]
    for prefixes, package in _PACKAGES.items():
        if bare.startswith(prefixes):
            return package
    return ""


def _register_robotics(name: str) -> None:
    if name not in gymnasium.registry and "gymnasium-robotics" in _package_for(name):
        try:
            import gymnasium_robotics
        except ImportError:
            return
        gymnasium.register_envs(gymnasium_robotics)


def environment_spec(name: str, options: Mapping[str, Any] | None = None) -> EnvSpec:
    """Gymnasium's spec of ``name`` with ``options`` as its arguments.

    Raises:
        AnydiffError: the id is not installed; says what to install.
    """
    _register_robotics(name)
    try:
        spec = gymnasium.spec(name)
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        raise _not_installed(name, error) from error
    spec = EnvSpec.from_json(spec.to_json())
    spec.kwargs = {**spec.kwargs, **(options or {})}
    return spec


def make(name: str, options: Mapping[str, Any] | None = None, **more: Any) -> gymnasium.Env[Any, Any]:
    """One environment; ``options`` and ``more`` are its arguments.

    Raises:
        AnydiffError: the id or its simulator is not installed, or its actions are discrete.
    """
    spec = environment_spec(name, options)
    try:
        environment = gymnasium.make(spec, **more)
    except (gymnasium.error.Error, ImportError) as error:
        raise _not_installed(name, error) from error
    check_actions(name, environment.action_space)
    return environment


def make_many(
    name: str, count: int, options: Mapping[str, Any] | None = None
) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """``count`` environments stepped together (in one NumPy program where the environment has one)."""
    spec = environment_spec(name, options)
    mode = "vector_entry_point" if spec.vector_entry_point is not None and name == MAZE else "sync"
    try:
        environments = gymnasium.make_vec(spec, num_envs=count, vectorization_mode=mode)
    except (gymnasium.error.Error, ImportError) as error:
        raise _not_installed(name, error) from error
    check_actions(name, environments.single_action_space)
    return environments


def frame_of(environment: gymnasium.Env[Any, Any]) -> Any:
    """The environment's picture of now, RGB pixels ``[H, W, 3]``.

    Raises:
        AnydiffError: what it draws with is not installed, or it draws nothing.
    """
    name = environment.spec.id if environment.spec is not None else type(environment).__name__
    try:
        frame = environment.render()
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise AnydiffError(f"environment {name!r} cannot be drawn: {' '.join(str(error).split())[:150]}.") from error
    if frame is None:
        raise AnydiffError(f"environment {name!r} draws no frames; give one with render_mode 'rgb_array'.")
    return frame


def check_actions(name: str, space: gymnasium.Space[Any]) -> None:
    """Refuse discrete actions."""
    if not isinstance(space, Box):
        raise AnydiffError(
            f"environment {name!r} has the action space {space}, but planning needs continuous actions (a Box); choose "
            "another environment."
        )


def is_goal_environment(space: gymnasium.Space[Any]) -> bool:
    """Whether observations are dictionaries with ``observation`` and ``desired_goal``."""
    return isinstance(space, Dict) and {"observation", "desired_goal"} <= set(space.spaces)


def _not_installed(name: str, error: Exception) -> AnydiffError:
    package = _package_for(name)
    advice = f"install it with `pip install {package}`" if package else "check its name, or install its package"
    reason = " ".join(str(error).split())[:100]
    return AnydiffError(f"environment {name!r} is not installed ({reason}); {advice}.")
