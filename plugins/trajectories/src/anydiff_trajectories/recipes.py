"""Named experiments on trajectories. A recipe is data: everything that can change its result stands here.

The normalisers' numbers were fitted to generated data by ``fit_normaliser``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from anydiff.recipes import Recipe

if TYPE_CHECKING:
    from anydiff_trajectories.episodes import Episode

Cells = list[list[int]]

WAYS: list[Cells] = [
    [[1, 1], [2, 1], [3, 1], [3, 2], [3, 3], [3, 4], [3, 5], [4, 5], [5, 5]],
    [[5, 1], [4, 1], [3, 1], [3, 2], [3, 3], [3, 4], [3, 5], [2, 5], [1, 5]],
]
"""The ways of the maze ``hallway`` from corner to diagonal corner, through its corridor; runs go both ways."""


def never_joined(ends: Cells) -> dict[str, list[Cells]]:
    """The pairs of ``ends`` that lie on no way of the data, so that no run joins them: what planners are tested on.

    In two groups, by the way between the two: ``corridor`` leads through it (8 cells), ``straight`` past it (4 cells).
    """
    apart = [[a, b] for a in ends for b in ends if a != b and not any(a in way and b in way for way in WAYS)]
    return {
        "corridor": [[a, b] for a, b in apart if a[1] != b[1]],
        "straight": [[a, b] for a, b in apart if a[1] == b[1]],
    }


CORNERS = [[1, 1], [5, 1], [1, 5], [5, 5]]
"""Starts and goals of the test."""

BESIDE_CORNERS = [[2, 1], [4, 1], [2, 5], [4, 5]]
"""Starts and goals that settings are chosen on, never joined in the data either."""

MAZE_PARTS = {"action": 2, "observation": 4}
MAZE_NORMALISERS = {
    "action": {"name": "gaussian", "mean": [-0.00964597, 0.00306531], "std": [0.527485, 0.448435]},
    "observation": {
        "name": "gaussian",
        "mean": [2.97489, 3.01582, -0.00259525, 0.000940269],
        "std": [1.6773, 1.21365, 0.117323, 0.0915571],
    },
}


MAZE_RUNS: dict[str, Any] = {
    "pairs": [pair for way in WAYS for pair in ([way[0], way[-1]], [way[-1], way[0]])],
    "episodes": 400,
    "steps": 68,
}
"""Runs from corner to diagonal corner, which take about 36 steps and then stay at their goals."""

MAZE_STOPS = 1
"""As many windows that stop on the way as windows that do not. With a horizon of 48, every window of a run ends at rest
at its goal, and every one that begins in a corner arrives after 36 steps. A planner of those alone fills 36 steps and
goes through the corridor even where the way leads straight past it; one that has seen stops chooses when to arrive.

The U-Net of the planner sees 18 rows to each side, less than half of a plan: what is near the start depends on the
start, what is near the goal on the goal, and so plans join what no run of the data joins. A network that sees the whole
plan learns the data's pairs by heart.
"""


def maze_domain(horizon: int = 48) -> dict[str, Any]:
    """Options of the maze's domain."""
    return {
        "horizon": horizon,
        "parts": MAZE_PARTS,
        "normalisers": MAZE_NORMALISERS,
        "environment": "anydiff/Maze-v0",
        "environment_options": {"layout": "hallway", "pairs": never_joined(CORNERS)},
        "known": ["start", "goal"],
        "goal_size": 2,
    }


def _training(steps: int, **more: Any) -> dict[str, Any]:
    settings = {
        "steps": steps,
        "batch_size": 32,
        "learning_rate": 1.5e-3,
        "warmup_steps": 100,
        "schedule": "cosine",
        "ema_decay": 0.995,
        "checkpoint_every": 500,
    }
    return {**settings, **more}


def _planner(parts: Mapping[str, int], heads: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    options = {"parts": dict(parts), "channels": 32, "multipliers": [1, 2], "heads": list(heads)}
    return {"name": "trajectories/planner", "options": {**options, **more}}


def maze() -> Recipe:
    """Diffuser in a maze: joint actions and observations between a known start and a known goal."""
    domain = maze_domain()
    recipe = {
        "name": "trajectories/maze",
        "help": "Diffuser: plans through a maze between a start and a goal never seen joined",
        "domain": {"name": "trajectories", "options": domain},
        "dataset": {"name": "trajectories/maze-runs", "options": MAZE_RUNS | {"domain": domain, "stops": MAZE_STOPS}},
        "network": _planner(MAZE_PARTS, heads=("inverse",)),
        "path": "vp-cosine",
        "parametrization": "data",
        "objective": {"name": "trajectories/planning", "options": {"weighting": "data"}},
        "training": _training(1500),
        "sampling": {"solver": "dpm-solver++-2m", "nfe": 10},
        "metrics": ["trajectories/dynamics-error"],
    }
    return Recipe.parse(recipe, "recipe 'trajectories/maze'")


def maze_optimiser() -> Recipe:
    """Trajectory Diffuser in the same maze: observations, actions by inverse dynamics, an autoregressive start."""
    domain = maze_domain()
    recipe = {
        "name": "trajectories/maze-optimiser",
        "help": "Trajectory Diffuser: an autoregressive plan, optimised by a few steps of diffusion",
        "domain": {"name": "trajectories", "options": domain},
        "dataset": {"name": "trajectories/maze-runs", "options": MAZE_RUNS | {"domain": domain, "stops": MAZE_STOPS}},
        "network": _planner(MAZE_PARTS, heads=("inverse", "rollout"), hide=["action"]),
        "path": "vp-cosine",
        "parametrization": "data",
        "objective": {"name": "trajectories/planning", "options": {"weighting": "data"}},
        "training": _training(5000),
        "sampling": {"solver": "dpm-solver++-2m", "nfe": 10},
    }
    return Recipe.parse(recipe, "recipe 'trajectories/maze-optimiser'")


PENDULUM_NORMALISERS = {
    "action": {"name": "limits", "low": [-2.0], "high": [2.0]},
    "observation": {
        "name": "gaussian",
        "mean": [0.396702, 0.00117934, 0.0386855],
        "std": [0.735938, 0.548655, 3.17238],
    },
}


def pendulum_domain(horizon: int = 32, parts: Mapping[str, int] | None = None, **more: Any) -> dict[str, Any]:
    """Options of Pendulum's domain.

    The return looks beyond the window: a swing-up takes 50 steps, and who looks 32 ahead would rather hold still than
    swing back. With a discount of 0.98 it hardly depends on how much of the episode is left.
    """
    return {
        "horizon": horizon,
        "parts": dict(parts or {"action": 1, "observation": 3}),
        "normalisers": PENDULUM_NORMALISERS,
        "environment": "Pendulum-v1",
        "known": ["start"],
        "returns": "episode",
        "discount": 0.98,
        "returns_scale": 100.0,
        **more,
    }


def pendulum() -> Recipe:
    """Diffuser on Pendulum: joint plans and a value of noisy plans, from a learner's whole replay memory."""
    domain = pendulum_domain(planning={"candidates": 8, "value_scale": 1.0, "replan_every": 4})
    recipe = {
        "name": "trajectories/pendulum",
        "help": "Diffuser with value guidance on Pendulum replay data",
        "domain": {"name": "trajectories", "options": domain},
        "dataset": {"name": "trajectories/pendulum-runs", "options": {"domain": domain, "quality": "replay"}},
        "network": _planner({"action": 1, "observation": 3}, heads=("inverse", "value"), unread=["returns"]),
        "path": "vp-cosine",
        "parametrization": "data",
        "objective": {
            "name": "trajectories/planning",
            "options": {"weighting": "data", "first_action_weight": 10.0},
        },
        "training": _training(2000),
        "sampling": {"solver": "dpm-solver++-2m", "nfe": 10},
    }
    return Recipe.parse(recipe, "recipe 'trajectories/pendulum'")


def pendulum_decision() -> Recipe:
    """Decision Diffuser on Pendulum: observations given the return, actions by inverse dynamics; also an AR start."""
    parts = {"action": 1, "observation": 3, "return": 1}
    # Of the data's windows half earn less than -99 (falling) and a quarter more than -0.3 (standing); -40 gets up.
    planning = {"from_noise": True, "target_return": -40.0, "replan_every": 4}
    domain = pendulum_domain(parts=parts, returns="window", discount=0.99, planning=planning)
    recipe = {
        "name": "trajectories/pendulum-decision",
        "help": "Decision Diffuser on Pendulum replay data, with the autoregressive start of Trajectory Diffuser",
        "domain": {"name": "trajectories", "options": domain},
        "dataset": {"name": "trajectories/pendulum-runs", "options": {"domain": domain, "quality": "replay"}},
        "network": _planner(parts, heads=("inverse", "rollout"), hide=["action", "return"]),
        "path": "vp-cosine",
        "parametrization": "data",
        "objective": {"name": "trajectories/planning", "options": {"weighting": "data"}},
        "training": _training(2000, condition_dropout=0.25),
        "sampling": {
            "solver": "dpm-solver++-2m",
            "nfe": 10,
            "guidance": [{"name": "classifier-free", "options": {"scale": 1.2, "names": ["returns"]}}],
        },
    }
    return Recipe.parse(recipe, "recipe 'trajectories/pendulum-decision'")


def pendulum_experience() -> Recipe:
    """The model of experience that policy-guided diffusion samples from: actions, observations, rewards and ends."""
    parts = {"action": 1, "observation": 3, "reward": 1}
    domain = {
        "horizon": 32,
        "parts": parts,
        "normalisers": {
            "observation": PENDULUM_NORMALISERS["observation"],
            "action": {"name": "squashed-gaussian", "mean": [-0.00218707], "std": [1.53959], "limit": [2.0]},
            "reward": {"name": "gaussian", "mean": [-3.00139], "std": [4.09696]},
        },
        "environment": "Pendulum-v1",
    }
    recipe = {
        "name": "trajectories/pendulum-experience",
        "help": "Policy-guided diffusion: synthetic Pendulum experience",
        "domain": {"name": "trajectories", "options": domain},
        "dataset": {"name": "trajectories/pendulum-runs", "options": {"domain": domain, "quality": "replay"}},
        "network": _planner(parts),
        "path": "edm",
        "parametrization": "edm",
        "objective": {"name": "denoising", "options": {"weighting": "edm"}},
        "training": _training(5000),
        "sampling": {"solver": "dpm-solver++-2m", "nfe": 20, "grid": "karras"},
        "metrics": ["trajectories/dynamics-error"],
    }
    return Recipe.parse(recipe, "recipe 'trajectories/pendulum-experience'")


def own_file(
    path: str, episodes: Sequence[Episode], environment: str, horizon: int, normaliser: str, episode_steps: int | None
) -> Recipe:
    """A planner for the user's own file: sizes, normalisers and the scale of returns are fitted to its episodes.

    Where episodes were cut, by a time limit say, their returns are reckoned as if they had gone on (``cut``), so that a
    step before the limit does not look like one before a fall.
    """
    import numpy as np

    from anydiff.domains.kit import fit_normaliser
    from anydiff_trajectories.episodes import returns_to_go, windows

    windows(episodes, horizon)
    digits = 10 if normaliser == "cdf" else 6  # knots may lie close together
    observations = np.concatenate([episode.observations for episode in episodes])
    actions = np.concatenate([episode.actions for episode in episodes])
    cut = "end" if all(episode.terminal for episode in episodes) else "continue"
    returns = np.concatenate([returns_to_go(episode, 0.99, cut) for episode in episodes])
    parts = {"action": actions.shape[1], "observation": observations.shape[1]}
    domain = {
        "horizon": horizon,
        "parts": parts,
        "normalisers": {
            "action": fit_normaliser(normaliser, actions, digits).to_json(),
            "observation": fit_normaliser(normaliser, observations, digits).to_json(),
        },
        "environment": environment,
        "known": ["start"],
        "returns": "episode",
        "discount": 0.99,
        "returns_scale": float(f"{max(float(np.abs(returns).max()), 1e-6):.6g}"),
        "cut": cut,
    }
    data: dict[str, Any] = {"path": path, "domain": domain}
    if episode_steps is not None:
        data["episode_steps"] = episode_steps
    recipe = {
        "name": "trajectories/own",
        "help": f"Diffuser with value guidance on {path}",
        "domain": {"name": "trajectories", "options": domain},
        "dataset": {"name": "trajectories/file", "options": data},
        "network": _planner(parts, heads=("inverse", "value"), unread=["returns"], multipliers=[1, 2, 2]),
        "path": "vp-cosine",
        "parametrization": "data",
        "objective": {"name": "trajectories/planning", "options": {"weighting": "data", "first_action_weight": 10.0}},
        "training": _training(20000),
        "sampling": {"solver": "dpm-solver++-2m", "nfe": 20},
    }
    return Recipe.parse(recipe, "the recipe of your file")
