"""What the core itself provides, announced through the same hooks as any plugin.

To add something: one ``register(...)`` line in the function of its kind. References are imported on first use only, so
this module must import nothing but the hook marker.
"""

from __future__ import annotations

from anydiff.hookspecs import Register, hookimpl


@hookimpl
def register_domains(register: Register) -> None:
    """Domains live in plugins; the core has none."""


@hookimpl
def register_datasets(register: Register) -> None:
    """Data sets live in plugins; the core has none."""


@hookimpl
def register_networks(register: Register) -> None:
    """Shared backbones."""
    register("mlp", "residual multi-layer perceptron for vectors", "anydiff.networks:MLP")
    register("unet", "U-Net for 1, 2 and 3 dimensions", "anydiff.networks:UNet")
    register("dit", "diffusion transformer on patches", "anydiff.networks:DiT")


@hookimpl
def register_paths(register: Register) -> None:
    """How data becomes noise."""
    register("vp-linear", "variance preserving, linear beta", "anydiff.paths:VPLinear")
    register("vp-cosine", "variance preserving, cosine", "anydiff.paths:VPCosine")
    register("sub-vp", "sub-variance preserving", "anydiff.paths:SubVP")
    register("ve", "variance exploding", "anydiff.paths:VE")
    register("edm", "sigma = t, data not scaled", "anydiff.paths:EDM")
    register("flow", "straight lines from noise to data (rectified flow)", "anydiff.paths:Flow")


@hookimpl
def register_solvers(register: Register) -> None:
    """Compilers of plans. Metadata: order, kind, calls_per_step, stochastic, source."""
    table = [
        ("ddpm", "DDPM ancestral", "ddim:DDPM", 1, "ancestral", 1, True, "Ho et al. 2020"),
        ("ddim", "DDIM with noise fraction eta", "ddim:DDIM", 1, "exponential", 1, False, "Song et al. 2021"),
        ("euler", "Euler in time", "runge_kutta:Euler", 1, "Runge-Kutta", 1, False, "Song et al. 2021"),
        ("heun", "Heun in time", "runge_kutta:Heun", 2, "Runge-Kutta", 2, False, "Karras et al. 2022"),
        (
            "edm",
            "EDM: Heun in the noise level, with churn",
            "runge_kutta:EDMHeun",
            2,
            "Runge-Kutta",
            2,
            False,
            "Karras et al. 2022",
        ),
        (
            "dpm-solver++-2m",
            "DPM-Solver++ multistep",
            "dpm_solver_pp:DPMSolverPP2M",
            2,
            "multistep",
            1,
            False,
            "Lu et al. 2022",
        ),
    ]
    for name, help_, reference, order, kind, calls, stochastic, source in table:
        register(
            name,
            help_,
            f"anydiff.solvers.{reference}",
            order=order,
            kind=kind,
            calls_per_step=calls,
            stochastic=stochastic,
            source=source,
        )


@hookimpl
def register_guidance(register: Register) -> None:
    """Functions from denoiser to denoiser."""
    register("classifier-free", "extrapolate from unconditional to conditional", "anydiff.guidance:ClassifierFree")
    register("clamp", "clamp the data prediction to the value range", "anydiff.guidance:Clamp")
    register("dynamic-threshold", "clamp at a quantile and rescale", "anydiff.guidance:DynamicThreshold")


@hookimpl
def register_objectives(register: Register) -> None:
    """What training minimises."""
    register("denoising", "weighted squared error of the denoiser", "anydiff.objectives:Denoising")
    register("flow-matching", "squared error of the flow velocity", "anydiff.objectives:FlowMatching")


@hookimpl
def register_metrics(register: Register) -> None:
    """Metrics of any domain."""


@hookimpl
def register_recipes(register: Register) -> None:
    """Recipes live in plugins; the core has none."""


@hookimpl
def register_tasks(register: Register) -> None:
    """Benchmark tasks of any domain."""


@hookimpl
def register_commands(register: Register) -> None:
    """Commands of ``anydiff``, in the order of ``anydiff --help``.

    A command module in ``anydiff.cli`` has a function ``command`` or a typer app ``app``.
    """
    register("recipes", "List the recipes: named, complete experiments.", "anydiff.cli.recipes:command")
    register("train", "Train a recipe; resume or extend a run.", "anydiff.cli.train:command")
    register("sample", "Draw samples from a run or from bundled weights.", "anydiff.cli.sample:command")
    register("evaluate", "Compute the metrics of a run or of samples.", "anydiff.cli.evaluate:command")
    register("show", "Draw pictures of a run or of samples.", "anydiff.cli.show:command")
    register("export", "Write one self-describing weights file from a run.", "anydiff.cli.export:command")
    register("bench", "Compare solvers over domains, budgets and seeds.", "anydiff.cli.bench:command")
    register("data", "Fetch, check and list data sets.", "anydiff.cli.data:command")
    register("solvers", "List the solvers; print the plan of one.", "anydiff.cli.solvers:app")
    register("plugins", "List, check, enable and disable plugins.", "anydiff.cli.plugins:app")
