"""A network, or a network with its plan, as one graph that runs without anydiff: torch.export and ONNX.

Everything that depends on times alone is a number in the graph: what the network is told, how it sees the state, and
the two factors of each conversion. Noise is an input, so that whoever runs the graph decides it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from anydiff.autoregressive import BlockPlan
from anydiff.denoisers import PredictionKind, conversion
from anydiff.denoisers.wrappers.thresholding import Limit
from anydiff.errors import AnydiffError
from anydiff.files import atomic_path, check_suffix
from anydiff.guidance import ClassifierFree
from anydiff.optional import require
from anydiff.paths.base import GaussianPath
from anydiff.recipes.build import build_guidance
from anydiff.solvers.plan import Combine, Evaluate, Noise, Plan
from anydiff.states import Conditioning

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline

FORMATS = {"torch-export": ".pt2", "onnx": ".onnx"}
"""Format -> ending of its files."""
PARTS = ("network", "sampler")


class NetworkGraph(nn.Module):
    """``(x [B, *shape], told [B], *conditions) -> prediction``: the network alone, called as denoisers call it.

    Args:
        network: of the denoiser.
        conditions: names, in the order of the further inputs.
    """

    def __init__(self, network: nn.Module, conditions: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.network, self.names = network, conditions

    def forward(self, x: Tensor, told: Tensor, *given: Tensor) -> Tensor:
        """The network's own prediction."""
        answer = self.network(x, told, Conditioning(dict(zip(self.names, given, strict=True))))
        prediction: Tensor = answer[next(iter(answer))] if isinstance(answer, Mapping) else answer
        return prediction


class SamplerGraph(nn.Module):
    """``(noise [D + 1, B, *shape], *conditions) -> states``: the whole plan; row 0 of the noise is the prior's.

    Args:
        pipeline: the model.
        plan: of real numbers, without named operations.
        conditions: names, in the order of the further inputs.

    Raises:
        AnydiffError: a path without a log-SNR, a plan with constants, operations or classes, or several predictions.
    """

    def __init__(self, pipeline: Pipeline, plan: Plan, conditions: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.inner = NetworkGraph(pipeline.denoiser.network, conditions)
        denoiser, path = pipeline.denoiser, pipeline.denoiser.path
        if not isinstance(path, GaussianPath) or path.known or path.told_size:
            raise AnydiffError(
                f"a graph needs a path of data and noise alone, which {path!r} is not; export the network."
            )
        if len(denoiser.native_kinds) > 1:
            raise AnydiffError(
                "the network makes several predictions, which a graph does not convert; export the network."
            )
        self.prior, self.result, self.draws = path.prior_std, plan.result, 1
        self.steps: list[tuple[Any, ...]] = []
        self.to_data: dict[Any, tuple[float, ...]] = {}
        layers = build_guidance(pipeline.recipe.sampling.guidance)
        if not conditions:  # where nothing is asked for, there is nothing to lead away from
            layers = [layer for layer in layers if not isinstance(layer, ClassifierFree)]
        self.limits = [layer for layer in layers if isinstance(layer, Limit)]
        if len(self.limits) < len(layers):
            raise AnydiffError(
                f"{pipeline.recipe.name!r} samples with a guidance, which a graph does not hold; export the network."
            )
        if plan.constants or plan.values:
            raise AnydiffError("the plan reads constants, which a graph does not hold; take another solver.")
        for each in plan.instructions:
            if isinstance(each, Evaluate):
                native = "data" if self.limits else denoiser.native_kind
                self.steps.append(("evaluate", each.outs, each.state, *_numbers(pipeline, path, each, native)))
                found = conversion(path, each.t, denoiser.native_kind, "data", denoiser.sigma_data)
                self.to_data[each.outs] = tuple(float(value) for value in found)
            elif isinstance(each, Combine):
                self.steps.append(("combine", each.out, _terms(each)))
            elif isinstance(each, Noise):
                self.steps.append(("noise", each.out, self.draws))
                self.draws += 1
            else:
                raise AnydiffError(
                    f"the plan has {type(each).__name__}, which a graph does not hold; take a solver of real numbers."
                )
        if isinstance(pipeline.denoiser.native_kind, str) and pipeline.denoiser.native_kind == "score":
            raise AnydiffError(
                "a score network is scaled by the noise level, which a graph does not; export the network."
            )

    def forward(self, noise: Tensor, *given: Tensor) -> Tensor:
        """The states ``[B, *shape]`` that the plan ends at."""
        registers = {Plan.START: self.prior * noise[0]}
        for kind, out, *rest in self.steps:
            if kind == "evaluate":
                state, scale, told, factors = rest
                x = registers[state]
                answer = self.inner(scale * x, torch.full((x.shape[0],), told, dtype=x.dtype), *given)
                if self.limits:
                    p, q = self.to_data[out]
                    answer = p * x + q * answer
                    for limit in self.limits:
                        answer = limit.limit(answer)
                for name, (p, q) in zip(out, factors, strict=True):
                    registers[name] = q * answer if p == 0 else p * x + q * answer
            elif kind == "combine":
                first, *others = [registers[name] * factor for name, factor in rest[0]]
                for each in others:
                    first = first + each
                registers[out] = first
            else:
                registers[out] = noise[rest[0]]
        return registers[self.result]


def _numbers(pipeline: Pipeline, path: GaussianPath, each: Evaluate, native: PredictionKind) -> tuple[Any, ...]:
    """(scale of the input, what is told, factors of each register): all that depends on the time alone."""
    denoiser = pipeline.denoiser
    t = torch.tensor([each.t], dtype=torch.float64)
    scale = path.input_scale(t, denoiser.sigma_data)
    told = path.told(t)
    if scale.numel() != 1 or told.numel() != 1:
        raise AnydiffError(f"{path!r} has one factor per entry, which a graph does not hold; export the network.")
    factors = [
        tuple(float(value) for value in conversion(path, each.t, native, kind, denoiser.sigma_data))
        for kind in each.kinds
    ]
    return float(scale), float(told.float()), factors


def _terms(each: Combine) -> list[tuple[str, float]]:
    for name, factor in each.terms:
        if isinstance(factor, np.ndarray) and factor.size != 1:
            raise AnydiffError(f"the plan multiplies {name!r} by one factor per entry, which a graph does not hold.")
    return [(name, float(factor)) for name, factor in each.terms]


def export_graph(
    pipeline: Pipeline,
    out: Path,
    form: str,
    part: str,
    *,
    batch: int = 1,
    condition: Mapping[str, Tensor] | None = None,
    **options: Any,
) -> list[str]:
    """Write the network, or the network with its plan, as a graph that runs without anydiff; the names of its inputs.

    Args:
        pipeline: the model.
        out: the file.
        form: ``torch-export`` or ``onnx``.
        part: ``network`` or ``sampler``.
        batch: rows of the example; the graph takes exactly as many.
        condition: conditions that become further inputs, ``[batch, ...]`` each.
        options: of :meth:`Pipeline.plan`: ``nfe``, ``solver``, ``grid``, ``end``.

    Raises:
        AnydiffError: another ending, a guidance, a model whose plan is no graph, or an operator that the format lacks.
    """
    check_suffix(out, (FORMATS[form],), f"a graph of format {form}")
    if part == "sampler" and pipeline.latent is not None:
        raise AnydiffError(
            f"{pipeline.recipe.name!r} samples in latents, which a graph does not hold; export the network "
            "(--part network)."
        )
    names = tuple(condition or {})
    given = tuple((condition or {}).values())
    shape = pipeline.denoiser.spec.shape if pipeline.denoiser.spec else pipeline.domain.spec.shape
    graph: nn.Module
    if part == "network":
        graph = NetworkGraph(pipeline.denoiser.network, names)
        example: tuple[Tensor, ...] = (torch.randn(batch, *shape), torch.zeros(batch), *given)
        inputs = ["x", "told", *names]
    else:
        plan = pipeline.plan(**options)
        if isinstance(plan, BlockPlan):
            raise AnydiffError(
                f"{pipeline.recipe.name!r} draws a sample block by block, which a graph does not hold; export the "
                "network (--part network)."
            )
        graph = SamplerGraph(pipeline, plan, names)
        example = (torch.randn(graph.draws, batch, *shape), *given)
        inputs = ["noise", *names]
    try:
        exported = torch.export.export(graph.eval(), example, strict=False)
        with atomic_path(out) as temporary:
            _write(exported, example, temporary, form, inputs)
    except (AnydiffError, KeyboardInterrupt, OSError):
        raise
    except Exception as error:  # the exporters raise what they raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:240]
        raise AnydiffError(
            f"the {part} of {pipeline.recipe.name!r} cannot be written as {form} ({reason}); take the other format, or "
            "export its weights alone."
        ) from error
    return inputs


def _write(exported: Any, example: tuple[Tensor, ...], out: Path, form: str, inputs: list[str]) -> None:
    if form == "torch-export":
        with open(out, "wb") as file:
            torch.export.save(exported, file)
        return
    require("onnxscript", "exporting ONNX", "anydiff[export]")
    program = torch.onnx.export(
        exported, example, input_names=inputs, output_names=["states"], dynamo=True, verbose=False
    )  # fmt: skip
    assert program is not None
    program.save(str(out))
