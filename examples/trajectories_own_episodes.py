"""Your own recorded episodes as a data set to plan with (here made with a seed, so that the example runs as it is).

Try `anydiff --plugins-dir examples train trajectories_own_episodes/small`. With a D4RL file or a Minari folder of your
own no code is needed: `anydiff trajectories recipe FILE --environment ID --out own.yaml` writes the recipe.
"""

from anydiff import hookimpl
from anydiff.recipes import load_recipe


@hookimpl
def register_datasets(register):
    register("trajectories_own_episodes", "windows of own episodes", "trajectories_own_episodes:own_episodes")


@hookimpl
def register_recipes(register):
    register("trajectories_own_episodes/small", "Diffuser, small, on them", "trajectories_own_episodes:small")


def own_episodes(split="train"):
    from anydiff.recipes import build_domain
    from anydiff_trajectories.data import EpisodeWindows
    from anydiff_trajectories.generate import maze_episodes

    episodes = maze_episodes(episodes=20, steps=60)  # or files.read_episodes("mine.hdf5")
    domain = build_domain(load_recipe("trajectories/maze"))
    return EpisodeWindows("trajectories_own_episodes", episodes, domain, split)


def small():
    recipe = load_recipe("trajectories/maze", ["network.options.channels=8", "metrics=[]"])
    name = "trajectories_own_episodes"
    return {**recipe.model_dump(mode="json"), "name": f"{name}/small", "dataset": name}
