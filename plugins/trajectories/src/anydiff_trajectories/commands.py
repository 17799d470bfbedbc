"""``anydiff trajectories``: make data, write a recipe for your own file, roll a planner out into a GIF."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from anydiff.cli.output import tell

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Make offline data, recipes for your own, rollouts.")


@app.command()
def make(
    what: Annotated[str, typer.Argument(help="maze, or a quality of Pendulum: random, medium, expert, replay, ...")],
    out: Annotated[Path, typer.Option(help="A .hdf5 file (D4RL) or a .minari folder.")],
    episodes: Annotated[int, typer.Option(help="How many episodes.")] = 200,
    seed: Annotated[int, typer.Option(help="Whole number; the same seed makes the same file.")] = 0,
) -> None:
    """Make offline data with a seed and store it as D4RL HDF5 or Minari.

    Examples:
      anydiff trajectories make maze --out maze.hdf5
      anydiff trajectories make medium-expert --out pendulum.minari --episodes 500
    """
    from anydiff.errors import AnydiffError
    from anydiff_trajectories.files import write_episodes
    from anydiff_trajectories.generate import maze_episodes, pendulum_episodes
    from anydiff_trajectories.recipes import MAZE_RUNS

    if out.exists():
        raise AnydiffError(f"{str(out)!r} exists; choose another --out.")
    if what == "maze":
        made = maze_episodes(**{**MAZE_RUNS, "episodes": episodes}, seed=seed)
        environment = "anydiff/Maze-v0"
    else:
        made = pendulum_episodes(what, episodes, seed=seed)
        environment = "Pendulum-v1"
    write_episodes(made, out, environment)
    tell(f"wrote {len(made)} episodes to {str(out)!r}.")


@app.command()
def recipe(
    data: Annotated[Path, typer.Argument(help="Your D4RL .hdf5 file or Minari folder.")],
    out: Annotated[Path, typer.Option(help="The YAML file to write.")],
    environment: Annotated[str, typer.Option(help="Gymnasium id for rollouts, Hopper-v5 say.")] = "",
    horizon: Annotated[int, typer.Option(help="Steps of a plan.")] = 32,
    normaliser: Annotated[str, typer.Option(help="gaussian, limits or cdf.")] = "gaussian",
    episode_steps: Annotated[int | None, typer.Option(help="Time limit, for files without timeouts.")] = None,
) -> None:
    """Write a recipe for your own data: sizes, normalisers and scales are fitted to it.

    Examples:
      anydiff trajectories recipe hopper-medium-v2.hdf5 --environment Hopper-v5 --out hopper.yaml
      anydiff train hopper.yaml --out runs/hopper
    """
    from anydiff.errors import AnydiffError
    from anydiff.files import write_atomic
    from anydiff_trajectories.files import read_episodes
    from anydiff_trajectories.recipes import own_file

    if out.exists():
        raise AnydiffError(f"{str(out)!r} exists; choose another --out.")
    episodes = read_episodes(data, episode_steps)
    made = own_file(str(data), episodes, environment, horizon, normaliser, episode_steps)
    write_atomic(out, made.to_yaml())
    tell(f"wrote {str(out)!r}; next: anydiff train {out} --out runs/{out.stem}")


@app.command()
def rollout(
    source: Annotated[str, typer.Argument(help="A recipe with bundled weights, a run folder, or a weights file.")],
    out: Annotated[Path, typer.Option(help="The .gif file to write.")],
    seed: Annotated[int, typer.Option(help="Of the task and the plan.")] = 0,
    nfe: Annotated[int | None, typer.Option(help="Network calls per plan.")] = None,
) -> None:
    """Act in the recipe's environment for one episode and write it as an animated GIF.

    Examples:
      anydiff trajectories rollout trajectories/maze --out maze.gif --seed 3
    """
    from anydiff.errors import AnydiffError
    from anydiff.pipeline import load
    from anydiff_trajectories.environments import make as make_environment
    from anydiff_trajectories.pictures import write_gif
    from anydiff_trajectories.policy import DiffusionPolicy
    from anydiff_trajectories.rollout import FIRST_SEED

    pipeline = load(source)
    options: dict[str, Any] = {} if nfe is None else {"nfe": nfe}
    policy = DiffusionPolicy(pipeline, seed=seed, **options)
    domain = policy.domain
    if not domain.environment:
        raise AnydiffError(f"recipe {pipeline.recipe.name!r} names no environment; set domain.options.environment.")
    environment = make_environment(domain.environment, domain.environment_options, render_mode="rgb_array")
    observation, _ = environment.reset(seed=FIRST_SEED + seed)
    frames = [environment.render()]
    total, over = 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = environment.step(policy.act(observation))
        frames.append(environment.render())
        total, over = total + float(reward), terminated or truncated
    environment.close()
    write_gif(frames, out)  # type: ignore[arg-type]
    tell(f"drew {len(frames)} frames to {str(out)!r}; return {total:.1f}.")
