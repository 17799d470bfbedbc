"""The trajectory domain of anydiff: what it registers. Imports nothing heavy."""

from __future__ import annotations

from anydiff.hookspecs import Register, hookimpl

ANYDIFF_API = ">=2.0,<3"
ANYDIFF_CHECK_OPTIONS = {
    # The other heads are trained by the objective, not through the prediction; this plugin's own tests check them.
    "trajectories/planner": {"heads": ["inverse"], "hide": ["action"]},
}


@hookimpl
def register_domains(register: Register) -> None:
    """Windows of experience."""
    register(
        "trajectories",
        "windows of observations and actions of an environment",
        "anydiff_trajectories.domain:Trajectories",
    )


@hookimpl
def register_datasets(register: Register) -> None:
    """Generated runs, and the user's own files."""
    data = "anydiff_trajectories.data"
    register("trajectories/maze-runs", "waypoint runs through a maze, made with a seed", f"{data}:MazeRuns")
    register("trajectories/pendulum-runs", "Pendulum swing-ups of several qualities", f"{data}:PendulumRuns")
    register("trajectories/file", "your own D4RL HDF5 file or Minari folder", f"{data}:EpisodeFile")


@hookimpl
def register_networks(register: Register) -> None:
    """The temporal U-Net with its heads."""
    register(
        "trajectories/planner", "temporal U-Net with known ends and heads", "anydiff_trajectories.networks:Planner"
    )


@hookimpl
def register_objectives(register: Register) -> None:
    """Denoising with the heads' losses."""
    register(
        "trajectories/planning",
        "denoising outside known entries, and the heads",
        "anydiff_trajectories.objective:Planning",
    )
    register(
        "trajectories/head",
        "error of one head of a planner, a term of a sum",
        "anydiff_trajectories.objective:HeadError",
        network="trajectories/planner",
    )


@hookimpl
def register_metrics(register: Register) -> None:
    """What a set of plans can be judged by without acting."""
    metrics = "anydiff_trajectories.metrics"
    register("trajectories/dynamics-error", "one-step error of plans under the simulator", f"{metrics}:DynamicsError")
    register("trajectories/goal-error", "distance between a plan's end and its goal", f"{metrics}:GoalError")


@hookimpl
def register_recipes(register: Register) -> None:
    """Planners and a model of experience."""
    recipes = "anydiff_trajectories.recipes"
    weights = "anydiff_trajectories:weights"
    register(
        "trajectories/maze",
        "Diffuser in a maze, start and goal known",
        f"{recipes}:maze",
        weights=f"{weights}/maze.safetensors",
    )
    register(
        "trajectories/maze-optimiser",
        "Trajectory Diffuser in the same maze",
        f"{recipes}:maze_optimiser",
        weights=f"{weights}/maze-optimiser.safetensors",
    )
    register(
        "trajectories/pendulum",
        "Diffuser with value guidance on Pendulum",
        f"{recipes}:pendulum",
        weights=f"{weights}/pendulum.safetensors",
    )
    register(
        "trajectories/pendulum-decision",
        "Decision Diffuser on Pendulum, returns as condition",
        f"{recipes}:pendulum_decision",
        weights=f"{weights}/pendulum-decision.safetensors",
    )
    register(
        "trajectories/pendulum-experience",
        "synthetic Pendulum experience for policies",
        f"{recipes}:pendulum_experience",
        weights=f"{weights}/pendulum-experience.safetensors",
    )


@hookimpl
def register_tasks(register: Register) -> None:
    """Closed-loop rollouts."""
    register("trajectories/maze@2", "reach goals never joined in the data", "anydiff_trajectories.tasks:maze")
    register("trajectories/pendulum@1", "swing up, better than the data", "anydiff_trajectories.tasks:pendulum")


@hookimpl
def register_commands(register: Register) -> None:
    """Data, recipes and rollouts."""
    register("trajectories", "Make offline data, recipes for your own, rollouts.", "anydiff_trajectories.commands:app")
