"""From a trained pipeline to one with integer weights, on the plan that its recipe samples with (TFMQ-DM)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from anydiff.compression.post_training import Decided, QuantiseOptions, between_ends, decided
from anydiff.compression.quantised import TIME, Quantised
from anydiff.compression.temporal import Calibration, found_layers, recorded
from anydiff.errors import AnydiffError
from anydiff.networks import Autoencoder
from anydiff.pipeline.fixed import require_whole
from anydiff.recipes import Part
from anydiff.recipes.build import build_denoiser
from anydiff.states import ClassCondition, Conditioning

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline


def quantise(
    pipeline: Pipeline, options: QuantiseOptions | None = None, calibration: Calibration | None = None
) -> Pipeline:
    """``pipeline`` with a network of packed integers, for the plan of its recipe (:func:`calibrated` on it).

    Args:
        pipeline: trained; it is not changed.
        options: how.
        calibration: of this pipeline on this plan, where it was made already.

    Raises:
        AnydiffError: an autoencoder, a network that is quantised already, one without layers to quantise, or a
            calibration on another plan.
    """
    options = options or QuantiseOptions()
    refuse(pipeline)
    plan = repr(pipeline.plan())
    calibration = calibration or calibrated(pipeline, options)
    if calibration.plan != plan:
        raise AnydiffError(
            "the calibration was made on another plan than the recipe samples with, so its tables would be of other "
            "times; calibrate anew, or set the recipe's sampling to that plan."
        )
    kinds = between_ends(found_layers(pipeline.denoiser.network, calibration))
    if not kinds:
        raise AnydiffError(
            f"the network of {pipeline.recipe.name!r} has no linear layer or convolution between its first and its "
            "last, so nothing would be quantised."
        )
    return packed(pipeline, decided(pipeline.denoiser.network, calibration, kinds, options), calibration)


def described(pipeline: Pipeline) -> str:
    """What a quantised pipeline holds, in a few words."""
    network = pipeline.denoiser.network
    assert isinstance(network, Quantised)
    kinds = list(network.layers.values())
    return (
        f"{len(kinds)} layers of {network.weights} bits, {kinds.count(TIME)} of them of the time alone, for "
        f"{len(network.table)} times; arithmetic here: {network.arithmetic}"
    )


def refuse(pipeline: Pipeline) -> None:
    """Refuse what cannot be quantised.

    Raises:
        AnydiffError: the network is quantised already, or an autoencoder.
    """
    require_whole(pipeline, "quantisation")
    if isinstance(pipeline.denoiser.network, Quantised):
        raise AnydiffError(
            f"{pipeline.recipe.name!r} is quantised already ({pipeline.denoiser.network.weights} bits); quantise the "
            "model that it was made from."
        )
    if isinstance(pipeline.denoiser.network, Autoencoder):
        raise AnydiffError(
            f"{pipeline.recipe.name!r} is an autoencoder, which is called at no times; quantise a model that samples."
        )


def calibrated(pipeline: Pipeline, options: QuantiseOptions) -> Calibration:
    """What the network is called with while the recipe's plan runs: guidance, presence and inner times included.

    Conditions are those of held-out cases; classes are taken in turn, so that each occurs.
    """
    rows, condition = _conditions(pipeline, options.samples)
    plan = pipeline.plan()

    def run() -> None:
        with torch.no_grad():
            pipeline.sample_set(rows, solver=plan, condition=condition, seed=options.seed)

    return recorded(pipeline.denoiser.network, run, repr(plan))


def _conditions(pipeline: Pipeline, samples: int) -> tuple[int, Conditioning]:
    kinds = pipeline.domain.conditions
    classes = {name: kind.classes for name, kind in kinds.items() if isinstance(kind, ClassCondition)}
    rows = max([samples, *classes.values()])
    if not kinds and not pipeline.domain.spec.masked:
        return rows, Conditioning()
    if set(kinds) == set(classes) and not pipeline.domain.spec.masked:
        asked = Conditioning()
    else:
        reference = pipeline.reference(rows)
        asked = reference.asked(rows)
    given = {name: torch.arange(rows) % count for name, count in classes.items()}
    return rows, asked.with_given(**given)


def packed(pipeline: Pipeline, found: Decided, calibration: Calibration) -> Pipeline:
    """The pipeline whose network holds the integers."""
    recipe, options = pipeline.recipe, found.options
    settings = {
        "network": recipe.network.model_dump(mode="json"),
        "weights": options.weights,
        "activations": options.activations,
        "layers": dict(found.kinds),
        "times": calibration.times,
        "scope": options.scope,
    }
    sampling = recipe.sampling.model_copy(update={"fixed": True})
    made = recipe.model_copy(update={"network": Part(name="quantised", options=settings), "sampling": sampling})
    spec = None if pipeline.latent is None else pipeline.latent.spec
    denoiser = build_denoiser(made, pipeline.domain, spec).eval()
    network = denoiser.network
    assert isinstance(network, Quantised)
    whole, own = pipeline.denoiser.network.state_dict(), network.inner.state_dict()
    network.inner.load_state_dict({name: whole[name] if name in whole else own[name] for name in own})
    found.fill(network)
    metadata = {**pipeline.metadata, "quantised_from": pipeline.weights_hash}
    return replace(pipeline, recipe=made, denoiser=denoiser, metadata=metadata, origin="")
