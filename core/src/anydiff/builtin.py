"""What the core itself provides, announced through the same hooks as any plugin.

To add something: one ``register(...)`` line in the function of its kind. References are imported on first use only, so
this module must import nothing but the hook marker.
"""

from __future__ import annotations

import math

from anydiff.builtin_commands import COMMANDS
from anydiff.builtin_solvers import CALIBRATIONS, EDITS, INVERSE_METHODS, OPERATORS, SOLVERS
from anydiff.hookspecs import Register, hookimpl

#: Small enough for the conformance kit (:mod:`anydiff.testing`).
ANYDIFF_EXPECTED_FAILURES = {
    "network.gradients[token-energy]": "the layers of its head 'energy' are trained by noise-contrastive, and not by "
    "the logits that it gives when it is called",
    "path.differentiable[ladder]": "its log-SNR is linear between rungs, so that its slope jumps at each of them",
    "path.differentiable[vp-discrete]": "its log-SNR is linear between rungs, so that its slope jumps at each of them",
}

ANYDIFF_CHECK_OPTIONS = {
    "product": {"leaves": {"state": "vp-linear"}},
    "mask": {"shape": [4, 6], "mask": [[True, False] * 3] * 4},
    "average-pooling": {"shape": [4, 6]},
    "blur": {"shape": [4, 6], "std": 0.8},
    "fourier": {"shape": [4, 6], "mask": [[True, False, True] * 2] * 4},
    "matrix": {"shape": [4, 6], "matrix": [[1.0, -0.5, 0.25] * 8, [0.5, 0.0, 1.0, 0.0] * 6]},
    "sparse-matrix": {"shape": [4, 6], "matrix": [[1.0, 0.0, 0.0] * 8, [0.5, 0.0, 1.0, 0.0] * 6]},
    "radon": {"shape": [6, 6], "angles": 4},
    "clipped": {"shape": [4, 6], "low": -0.5, "high": 0.5},
    "magnitude": {"shape": [4, 6]},
    "quantised": {"shape": [4, 6], "step": 0.25},
    "look-ahead": {"direction": 1.0, "target": 0.5},
    "naive": {"direction": 1.0, "target": 0.5},
    "sum": {"terms": {"denoising": {"weight": 1.0}, "flow-matching": {"weight": 0.5}}},
    "head": {"head": "label"},
    "mmd": {"nfe": 2},
    "v3": {"points": 61},
    "s3": {"evaluations": 4},
    "auto": {"evaluations": 4},
    "progressive": {"grid": [1.0, 0.7, 0.4, 0.2, 0.001]},
    "mt-diffusion": {"heads": {"label": {"weight": 0.5}}},
    "mlp": {"width": 16, "blocks": 2},
    "potential": {"options": {"width": 16, "blocks": 2}},
    "unet": {"spec": [1, 8, 8], "channels": 8, "multipliers": [1, 2], "blocks": 1},
    "networks:quantised": {
        "network": {"name": "mlp", "options": {"width": 16, "blocks": 2}},
        "weights": 16,
        "activations": 16,
        "layers": {"conditioning.entry": "time", "blocks.0.film": "time", "blocks.0.entry": "state"},
        "times": [-2.0, -1.0, -2 / 3, 0.0, 2 / 3, 1.0, 2.0],
    },
    "autoencoder": {"spec": [1, 8, 8], "channels": 8},
    "tokens": {"spec": {"shape": [6], "kind": "categorical", "classes": 5}, "width": 16, "blocks": 1, "heads": 2},
    "token-energy": {"spec": {"shape": [6], "kind": "categorical", "classes": 5}, "width": 16, "blocks": 1, "heads": 2},
    "energy": {"candidates": 3, "energy": lambda candidates, *_: 0.5 * candidates.flatten(2).sum(-1)},
    "marginal": {"probabilities": [0.5, 0.3, 0.2]},
    "dit": {"spec": [1, 8, 8], "width": 16, "blocks": 1, "heads": 2, "patch_size": 4},
}


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
    register("potential", "any network as a scalar, whose gradient it predicts", "anydiff.denoisers:Potential")
    register("quantised", "packed integers, as `anydiff quantise` makes them", "anydiff.compression:Quantised")
    register("heads", "a backbone with several exits: predictions and vectors", "anydiff.networks.heads:Heads")
    register("tokens", "transformer over classes on a line or a grid", "anydiff.networks.sequence:Tokens")
    register("token-energy", "energy of classes beside noised ones", "anydiff.networks.sequence:TokenEnergy")
    register("acdit", "blocks of positions, each diffused given those before", "anydiff.autoregressive.acdit:ACDiT")
    register("autoencoder", "a latent space for 1, 2 and 3 dimensions", "anydiff.networks:Autoencoder")


@hookimpl
def register_paths(register: Register) -> None:
    """How data becomes noise."""
    register("vp-linear", "variance preserving, linear beta", "anydiff.paths:VPLinear")
    register("vp-cosine", "variance preserving, cosine", "anydiff.paths:VPCosine")
    register("sub-vp", "sub-variance preserving", "anydiff.paths:SubVP")
    register("ve", "variance exploding", "anydiff.paths:VE")
    register("ve-exponential", "variance exploding from clean data, g = b^t", "anydiff.paths:ExponentialVE")
    register("edm", "sigma = t, data not scaled", "anydiff.paths:EDM")
    register("mean-reverting", "to a known observation and noise around it", "anydiff.paths:MeanReverting")
    register("mean-shift", "variance preserving, around a growing share of a known mean", "anydiff.paths:MeanShift")
    register("known-shift", "another path, around a fixed share of a known input", "anydiff.paths:known_shift")
    register("aggregated", "the same, where the data are that mean", "anydiff.paths:Aggregated")
    register("ornstein-uhlenbeck", "dx = -x dt + dw, to a variance of 1/2", "anydiff.paths:OrnsteinUhlenbeck")
    register("product", "each leaf of the state on its own path", "anydiff.paths.mixed:product")
    register("flow", "straight lines from noise to data (rectified flow)", "anydiff.paths:Flow")
    register("pfgm++", "EDM with heavy-tailed noise of dof degrees of freedom", "anydiff.paths:PFGMPlusPlus")
    register("rddm", "to a known input: residual and noise on their own schedules", "anydiff.paths:RDDM")
    register("flow-shifted", "straight lines, longer in noise by a shift", "anydiff.paths:ShiftedFlow")
    register("ladder", "variance preserving at whole times, which networks are told", "anydiff.paths:Ladder")
    register("vp-discrete", "variance preserving in whole steps: the chain of DDPM", "anydiff.paths:DiscreteVP")
    register("foreign", "a path under another library's conventions", "anydiff.paths:foreign")
    register("interpolant", "a bridge between two data sets", "anydiff.paths:Interpolant")
    register("interpolant-one-sided", "the interpolant from Gaussian noise", "anydiff.paths:OneSided")
    register("masked", "classes become the mask (absorbing)", "anydiff.paths:Masked", states="classes")
    register("uniform", "classes are drawn anew from all (multinomial)", "anydiff.paths:Uniform", states="classes")
    register(
        "mask-and-replace",
        "classes become the mask or are drawn anew",
        "anydiff.paths:MaskAndReplace",
        states="classes",
    )
    register("marginal", "classes are drawn anew by their frequencies", "anydiff.paths:Marginal", states="classes")


@hookimpl
def register_solvers(register: Register) -> None:
    """Compilers of plans. Metadata: order, kind, calls_per_step, stochastic, source."""
    for line in SOLVERS.strip().splitlines():
        name, help_, reference, order, kind, calls, noise, source = (cell.strip() for cell in line.split("|"))
        register(
            name,
            help_,
            f"anydiff.solvers.{reference}",
            order=int(order),
            kind=kind,
            calls_per_step=int(calls),
            stochastic=bool(noise),
            source=source,
            states="classes" if kind == "classes" else "numbers",
        )


@hookimpl
def register_operations(register: Register) -> None:
    """Named operations of plugins; those of the core are :data:`anydiff.solvers.operations.OPERATIONS`."""


@hookimpl
def register_samplers(register: Register) -> None:
    """What draws samples without being a plan."""
    register(
        "adaptive-ode",
        "probability-flow ODE, Runge-Kutta with step control",
        "anydiff.samplers:AdaptiveODE",
        stochastic=False,
        source="Song et al. 2021",
    )
    register(
        "adaptive-dpm-solver",
        "DPM-Solver-12 and -23, steps by an error estimate",
        "anydiff.samplers:AdaptiveDPMSolver",
        stochastic=False,
        source="Lu et al. 2022",
    )


@hookimpl
def register_guidance(register: Register) -> None:
    """Functions from denoiser to denoiser."""
    register(
        "classifier-free",
        "extrapolate from unconditional to conditional",
        "anydiff.guidance:ClassifierFree",
        neutral={"scale": 1.0},
    )
    register(
        "look-ahead",
        "ask a linear reward for a value, through the network",
        "anydiff.guidance:LookAhead",
        neutral={"noise_std": math.inf},
        posterior={"operator": "direction", "measurement": "target"},
    )
    register(
        "naive",
        "ask a linear reward for a value, past the network",
        "anydiff.guidance:NaiveGradient",
        neutral={"noise_std": math.inf},
    )
    wrappers = "anydiff.denoisers.wrappers"
    register("clamp", "clamp the data prediction to the value range", f"{wrappers}:Clamp")
    register("dynamic-threshold", "clamp at a quantile and rescale", f"{wrappers}:DynamicThreshold")
    register("top-k", "classes: the k most probable of each entry", f"{wrappers}:TopK", states="classes")
    register("nucleus", "classes: the most probable with a share", f"{wrappers}:Nucleus", states="classes")
    register(
        "unchanged",
        "classes: keeps predictions of rows that stay",
        "anydiff.guidance.unchanged:Unchanged",
        states="classes",
    )
    register(
        "energy",
        "classes: whole predictions, chosen by an energy",
        "anydiff.guidance.energy:Energy",
        states="classes",
    )
    register("known", "entries known before sampling (inpainting)", f"{wrappers}:KnownEntries", neutral={})
    register(
        "time-shift",
        "time as the state's variance tells",
        f"{wrappers}:TimeShift",
        neutral={"window": 0.0},
    )


@hookimpl
def register_operators(register: Register) -> None:
    """What a measurement makes of a state. Metadata: linear."""
    for line in OPERATORS.strip().splitlines():
        name, help_, made, linear = (cell.strip() for cell in line.split("|"))
        register(name, help_, f"anydiff.inverse.operators:{made}", linear=bool(linear))


@hookimpl
def register_inverse_methods(register: Register) -> None:
    """Methods for inverse problems. Metadata: kind, estimate, takes, source."""
    for line in INVERSE_METHODS.strip().splitlines():
        name, help_, made, kind, estimate, takes, source = (cell.strip() for cell in line.split("|"))
        about = {"kind": kind, "estimate": estimate, "takes": takes, "source": source, "posterior": name == "mmps"}
        register(name, help_, f"anydiff.inverse:{made}", **about)


@hookimpl
def register_edits(register: Register) -> None:
    """Methods that edit samples. Metadata: exact, takes, source."""
    for line in EDITS.strip().splitlines():
        name, help_, made, exact, takes, source = (cell.strip() for cell in line.split("|"))
        register(name, help_, f"anydiff.editing:{made}", exact=bool(exact), takes=takes, source=source)


@hookimpl
def register_calibrations(register: Register) -> None:
    """Methods of calibration. Metadata: source."""
    for line in CALIBRATIONS.strip().splitlines():
        name, help_, made, source = (cell.strip() for cell in line.split("|"))
        register(name, help_, f"anydiff.calibration:{made}", source=source)


@hookimpl
def register_objectives(register: Register) -> None:
    """What training minimises."""
    register("denoising", "weighted squared error of the denoiser", "anydiff.objectives:Denoising")
    register(
        "reconstruction", "what an autoencoder minimises", "anydiff.objectives:Reconstruction", network="autoencoder"
    )
    register("flow-matching", "squared error of the flow velocity", "anydiff.objectives:FlowMatching")
    register(
        "fokker-planck",
        "residual of the Fokker-Planck equation, a term of a sum",
        "anydiff.objectives:FokkerPlanck",
        network="potential",
    )
    register(
        "stable-target", "denoising towards the mean over the batch", "anydiff.objectives:StableTarget", coupled=True
    )
    register("prediction", "each prediction against its own target, l2 or l1", "anydiff.objectives:Prediction")
    register(
        "every-route", "predictions on every route of the path rddm", "anydiff.objectives:EveryRoute",
        path="rddm", parametrization="residual",
    )  # fmt: skip
    register("automatic-selection", "residual or noise, by a learnt scalar", "anydiff.objectives:AutomaticSelection")
    register(
        "interpolant", "velocity and score of a bridge, with antithetic pairs", "anydiff.objectives:InterpolantLoss"
    )
    register(
        "head",
        "a head of the network against what it reads off, a term of a sum",
        "anydiff.objectives:HeadLoss",
        heads={"label": 3},
    )
    register(
        "mt-diffusion",
        "denoising, and a loss for each head of the network",
        "anydiff.objectives:MTDiffusion",
        heads={"label": 3},
    )
    register("block-denoising", "a time for each block", "anydiff.objectives:BlockDenoising", network="acdit")
    register("mmd", "discrepancy of samples by a fixed plan from data", "anydiff.distillation:MMD", coupled=True)
    register("progressive", "two steps of a teacher in one of its student", "anydiff.distillation:Progressive")
    register("spectral", "a teacher's spectrum, a term of a sum", "anydiff.distillation:Spectral", network="unet")
    studio = "anydiff.distillation.domain_studio"
    register(
        "pair-similarities", "how alike examples are to one another, as a frozen source has it: a term of a sum",
        f"{studio}:PairSimilarities", coupled=True, network="unet", path="vp-cosine",
    )  # fmt: skip
    register(
        "wavelet-details", "details of the prediction: a term of a sum", f"{studio}:WaveletDetails", network="unet"
    )
    register("sum", "named, weighted terms on one network call", "anydiff.objectives:Sum")
    register(
        "cross-entropy", "cross-entropy of one-hot leaves under Gaussian noise", "anydiff.objectives:CrossEntropy",
        parametrization="data",
    )  # fmt: skip
    _objectives_of_classes(register)


def _objectives_of_classes(register: Register) -> None:
    tokens = {"network": "tokens", "parametrization": "logits"}
    register(
        "masked-cross-entropy", "log-likelihood bound of masked classes", "anydiff.objectives:MaskedCrossEntropy",
        path="masked", **tokens,
    )  # fmt: skip
    register(
        "discrete-bound", "log-likelihood bound of classes on any path of classes", "anydiff.objectives:DiscreteBound",
        path="uniform", **tokens,
    )  # fmt: skip
    register(
        "score-entropy", "bound of classes by the concrete scores", "anydiff.objectives:ScoreEntropy",
        path="uniform", **{**tokens, "parametrization": "ratio"},
    )  # fmt: skip
    register(
        "next-token", "exact log-likelihood of an autoregressive network", "anydiff.objectives:NextToken",
        path="masked", network_options={"causal": True}, **tokens,
    )  # fmt: skip
    register(
        "noise-contrastive", "energy of whole states against a proposal", "anydiff.objectives:NoiseContrastive",
        path="masked", **{**tokens, "network": "token-energy"},
    )  # fmt: skip
    register("mixed", "squared errors of numbers and bounds of classes", "anydiff.objectives:Mixed", states="mixed")


@hookimpl
def register_training_methods(register: Register) -> None:
    """Which modules are trained, and by which losses."""
    register("objective", "the objective moves the network, and no more", "anydiff.training:ObjectiveMethod")
    register("shared-time", "the same, all examples of a step at one time", "anydiff.training:SharedTime")


@hookimpl
def register_metrics(register: Register) -> None:
    """Metrics of any domain: those of ensembles, which know the case that a sample was made for (``paired``)."""
    ensemble = "anydiff.metrics.ensembles"
    register("crps", "CRPS of the members, standard estimator", f"{ensemble}:EnsembleCRPS", paired=True)
    register("crps-fair", "CRPS of the members, fair estimator", f"{ensemble}:FairEnsembleCRPS", paired=True)
    register("ensemble-rmse", "error of the ensemble mean", f"{ensemble}:EnsembleRMSE", paired=True)
    register("spread-skill", "departure of spread over skill from 1", f"{ensemble}:SpreadSkill", paired=True)
    register("rank-histogram", "departure of the ranks from flat", f"{ensemble}:RankHistogramDistance", paired=True)
    register(
        "restoration/mse", "squared error where nothing was measured", "anydiff.metrics.restoration:HiddenError",
        paired=True,
    )  # fmt: skip
    register(
        "restoration/crps", "CRPS where nothing was measured", "anydiff.metrics.restoration:HiddenCRPS", paired=True
    )
    register("coverage-error", "coverage of an interval against its level", f"{ensemble}:CoverageError", paired=True)


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
    for name, help, reference in COMMANDS:
        register(name, help, f"anydiff.cli.{reference}")


@hookimpl
def register_adapters(register: Register) -> None:
    """Other libraries' networks; those of libraries with conventions of their own are a plugin's."""
    register("module", "any torch network, by what its options say", "anydiff.adapters:ModuleAdapter")
