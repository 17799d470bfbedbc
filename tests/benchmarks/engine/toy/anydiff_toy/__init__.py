"""A domain for tests: points in the plane, with a network that is exact. Imports nothing heavy."""

from anydiff.hookspecs import hookimpl


@hookimpl
def register_domains(register):
    register("toy", "points in the plane", "anydiff_toy.parts:Points")


@hookimpl
def register_datasets(register):
    register("toy/mixture", "four spots in two classes", "anydiff_toy.parts:Mixture")


@hookimpl
def register_networks(register):
    register("toy/exact", "the exact noise prediction", "anydiff_toy.parts:Exact")


@hookimpl
def register_metrics(register):
    register("toy/frechet", "Fréchet distance of the points", "anydiff_toy.parts:Frechet")
    register("toy/near", "share of points near their class", "anydiff_toy.parts:Near")
    register("toy/touchy", "fails", "anydiff_toy.parts:Touchy")
    register("toy/best", "distance of the nearest member", "anydiff_toy.parts:BestOfMembers", oracle=True)


@hookimpl
def register_solvers(register):
    register("toy/broken", "fails when it is compiled", "anydiff_toy.parts:Broken")


@hookimpl
def register_recipes(register):
    register("toy/points", "points", "anydiff_toy.parts:points", weights="anydiff_toy:points.safetensors")
    register("toy/cut", "truncated", "anydiff_toy.parts:points", weights="anydiff_toy:cut.safetensors")
    register("toy/touchy", "odd", "anydiff_toy.parts:touchy", weights="anydiff_toy:touchy.safetensors")
    register("toy/ensembles", "ens", "anydiff_toy.parts:ensembles", weights="anydiff_toy:points.safetensors")
    register("toy/bare", "no weights", "anydiff_toy.parts:points")


@hookimpl
def register_tasks(register):
    register("toy/points@1", "points, an older version", "anydiff_toy.parts:points_task_1")
    register("toy/points@2", "points", "anydiff_toy.parts:points_task")
    register("toy/cut@1", "truncated weights", "anydiff_toy.parts:cut_task")
    register("toy/touchy@1", "a metric that fails", "anydiff_toy.parts:touchy_task")
    register("toy/large@1", "of the full tier", "anydiff_toy.parts:large_task")
    register("toy/members@1", "ensembles", "anydiff_toy.parts:members_task")
    register("toy/loop@1", "a closed loop", "anydiff_toy.parts:loop_task")
    register("toy/broken@1", "cannot be imported", "anydiff_toy.absent:task")
