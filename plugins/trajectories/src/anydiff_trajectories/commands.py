"""``anydiff trajectories``: make data, write a recipe for your own file, roll a planner out, draw how it plans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from anydiff.cli import refuse_existing, tell

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what stands at --out.")]

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Make offline data, recipes for your own, rollouts.")


@app.command()
def make(
    what: Annotated[str, typer.Argument(help="maze, or a quality of Pendulum: random, medium, expert, replay, ...")],
    out: Annotated[Path, typer.Option(help="A .hdf5 file (D4RL) or a .minari folder.")],
    episodes: Annotated[int, typer.Option(help="How many episodes.")] = 200,
    seed: Annotated[int, typer.Option(help="Whole number; the same seed makes the same file.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Make offline data with a seed and store it as D4RL HDF5 or Minari.

    Examples:
      anydiff trajectories make maze --out maze.hdf5
      anydiff trajectories make medium-expert --out pendulum.minari --episodes 500
    """
    from anydiff_trajectories.files import write_episodes
    from anydiff_trajectories.generate import maze_episodes, pendulum_episodes
    from anydiff_trajectories.recipes import MAZE_RUNS

    refuse_existing(out, overwrite)
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
    overwrite: Overwrite = False,
) -> None:
    """Write a recipe for your own data: sizes, normalisers and scales are fitted to it.

    Examples:
      anydiff trajectories recipe hopper-medium-v2.hdf5 --environment Hopper-v5 --out hopper.yaml
      anydiff train hopper.yaml --out runs/hopper
    """
    from anydiff.files import write_atomic
    from anydiff_trajectories.files import read_episodes
    from anydiff_trajectories.recipes import own_file

    refuse_existing(out, overwrite)
    episodes = read_episodes(data, episode_steps)
    made = own_file(str(data), episodes, environment, horizon, normaliser, episode_steps)
    write_atomic(out, made.to_yaml())
    short, whole = sum(len(each) < horizon for each in episodes), sum(each.terminal for each in episodes)
    tell(
        f"read {len(episodes)} episodes: {whole} ended, {len(episodes) - whole} were cut and count as going on; "
        f"{short} are shorter than the horizon of {horizon} and will be padded (nothing is learned from the padding)."
    )
    tell(f"wrote {str(out)!r}; next: anydiff train {out} --out runs/{out.stem}")


@app.command()
def rollout(
    source: Annotated[str, typer.Argument(help="A recipe with bundled weights, a run folder, or a weights file.")],
    out: Annotated[Path, typer.Option(help="The .gif file to write.")],
    seed: Annotated[int, typer.Option(help="Of the task and the plan.")] = 0,
    nfe: Annotated[int | None, typer.Option(help="Network calls per plan.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Act in the recipe's environment for one episode and write it as an animated GIF.

    Examples:
      anydiff trajectories rollout trajectories/maze --out maze.gif --seed 3
    """
    from anydiff.domains.kit.pictures import write_animation
    from anydiff.errors import AnydiffError
    from anydiff.files import check_suffix
    from anydiff.pipeline import load
    from anydiff_trajectories.environments import frame_of
    from anydiff_trajectories.environments import make as make_environment
    from anydiff_trajectories.policy import DiffusionPolicy
    from anydiff_trajectories.rollout import FIRST_SEED

    check_suffix(out, (".gif",), "animations")
    refuse_existing(out, overwrite)
    pipeline = load(source)
    options: dict[str, Any] = {} if nfe is None else {"nfe": nfe}
    policy = DiffusionPolicy(pipeline, seed=seed, **options)
    domain = policy.domain
    if not domain.environment:
        raise AnydiffError(f"recipe {pipeline.recipe.name!r} names no environment; set domain.options.environment.")
    environment = make_environment(domain.environment, domain.environment_options, render_mode="rgb_array")
    observation, _ = environment.reset(seed=FIRST_SEED + seed)
    frames = [frame_of(environment)]
    total, over = 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = environment.step(policy.act(observation))
        frames.append(frame_of(environment))
        total, over = total + float(reward), terminated or truncated
    environment.close()
    write_animation(frames, out)
    tell(f"drew {len(frames)} frames to {str(out)!r}; return {total:.1f}.")


@app.command()
def reverse(
    source: Annotated[str, typer.Argument(help="A maze recipe with bundled weights, a run folder, or a weights file.")],
    out: Annotated[Path, typer.Option(help="The .png file to write.")],
    start: Annotated[str, typer.Option(help="Where the plan begins, x and y in cells.")] = "1 1",
    goal: Annotated[str, typer.Option(help="Where it ends, x and y in cells.")] = "5 1",
    seed: Annotated[int, typer.Option(help="Of the plan.")] = 0,
    nfe: Annotated[int | None, typer.Option(help="Network calls.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw one plan over its maze at several times of the reverse process.

    Examples:
      anydiff trajectories reverse trajectories/maze --out reverse.png --start "1 1" --goal "5 1"
    """
    from anydiff.errors import AnydiffError
    from anydiff.pipeline import load
    from anydiff.states import Conditioning
    from anydiff_trajectories.domain import Trajectories
    from anydiff_trajectories.environments import MAZE
    from anydiff_trajectories.maze import Maze
    from anydiff_trajectories.pictures import draw_reverse_process, plan_frames

    refuse_existing(out, overwrite)
    pipeline = load(source)
    domain = pipeline.domain
    if not isinstance(domain, Trajectories) or domain.environment != MAZE:
        raise AnydiffError(f"recipe {pipeline.recipe.name!r} plans through no maze; give 'trajectories/maze', say.")
    condition = Conditioning(domain.parse_condition({"start": start, "goal": goal}, 1))
    frames = plan_frames(pipeline, condition, seed, nfe=nfe)
    maze = Maze(domain.environment_options.get("layout", "hallway"))
    draw_reverse_process(frames, out, maze, domain.raw_condition("goal", condition.given["goal"])[0].numpy())
    tell(f"drew {len(frames)} times of one plan to {str(out)!r}.")


@app.command()
def compare(
    source: Annotated[str, typer.Argument(help="A recipe with bundled weights, a run folder, or a weights file.")],
    out: Annotated[Path, typer.Option(help="The .png file to write: every episode's return, by agent.")],
    count: Annotated[int, typer.Option(help="Episodes per agent and seed.")] = 64,
    seeds: Annotated[int, typer.Option(help="How many seeds: 0, 1, ...")] = 3,
    nfe: Annotated[int | None, typer.Option(help="Network calls per plan.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compare a planner with random actions, behaviour cloning, the expert and the data's own returns.

    Examples:
      anydiff trajectories compare trajectories/pendulum --out returns.png --seeds 3
    """
    from anydiff.cli import counted, print_table
    from anydiff.pipeline import load
    from anydiff_trajectories.compare import compare_agents, rows_of
    from anydiff_trajectories.pictures import draw_returns

    refuse_existing(out, overwrite)
    pipeline = load(source)
    with counted("episodes") as report:
        found = compare_agents(pipeline, count, range(seeds), report, nfe=nfe)
    print_table(["agent", found.label, "95 % interval", "seeds", "success", "ms per decision"], rows_of(found))
    draw_returns({name: each.returns.tolist() for name, each in found.agents.items()}, out, found.label)
    tell(f"drew the returns of {len(found.agents)} agents to {str(out)!r}.")
