"""Objectives of residual denoising diffusion (Liu et al., CVPR 2024, arXiv 2308.13712).

**Every route.** A network that is told (A, B) can be trained on pairs beside those of its own path, and then serves the
routes that remove the residual first, or the noise.

**Automatic selection** of what a network predicts, the residual or the noise. One output o is read as both: with a
learnt scalar q, 1/2 at first,

    R̂ = q o + (1 - q) R(o as noise),    ε̂ = q ε(o as residual) + (1 - q) o,    loss = q |R̂ - R| + (1 - q) |ε̂ - ε|,

until |q - 1/2| reaches a threshold. Then the kind is chosen, the residual where q > 1/2, and trained plainly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from anydiff.denoisers.base import Denoiser, convert
from anydiff.denoisers.network import NetworkDenoiser
from anydiff.denoisers.rerouted import rerouted
from anydiff.errors import AnydiffError
from anydiff.objectives.base import element_mean
from anydiff.objectives.call import Call
from anydiff.objectives.prediction import Prediction, target
from anydiff.paths.path import Path


class EveryRoute(Prediction):
    """:class:`Prediction` on the route ``any`` of the path: half of the examples see the path's own pairs (A, B), the
    others any pair. Sampling then follows whatever route one asks for (``--path-option route=residual-first``).

    Arguments as for :class:`Prediction`, without a law of times, which are uniform.
    """

    def __init__(self, norm: str = "l2") -> None:
        super().__init__(norm)

    def prepare(self, denoiser: Denoiser) -> None:
        """Refuse a denoiser whose path has one route.

        Raises:
            AnydiffError: it has.
        """
        self._anywhere(denoiser)

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B]; the sum over the predictions."""
        anywhere = self._anywhere(call.denoiser)
        uniform = (call.t - call.path.t_end) / (call.path.t_start - call.path.t_end)
        return super().loss(Call(anywhere, self.times, call.clean, call.noise, uniform, call.condition, call.draws))

    @staticmethod
    def _anywhere(denoiser: Denoiser) -> NetworkDenoiser:
        if "route" not in denoiser.path.reroutes or not isinstance(denoiser, NetworkDenoiser):
            raise AnydiffError(
                f"the objective 'every-route' trains a network on a path with routes, which {denoiser.path!r} has not; "
                "choose the path rddm, or the objective 'prediction'."
            )
        return rerouted(denoiser, {"route": "any"})


Chosen = Literal["residual", "noise"]
PAIR: tuple[Chosen, Chosen] = ("residual", "noise")


class Selector(nn.Module):
    """q, and the kind once it is chosen, so that a training that goes on knows both."""

    chosen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("chosen", torch.tensor(-1))


class AutomaticSelection(Prediction):
    """Chooses between ``residual`` and ``noise`` prediction while it trains, then trains by the chosen one.

    The recipe's ``parametrization`` is one of the two, and says how the network's output is read when samples are
    drawn. Where the other one is chosen, training ends with a sentence that says so: that parametrization is then
    trained from new weights, as in the paper. Each error stands in the log under its name; a log with one of them alone
    is past the choice.

    Args:
        norm: ``l1``, the paper's, or ``l2``.
        threshold: how far q is from 1/2 when the kind is chosen, in (0, 1/2).
        edge: share of the path's times left out at either end before the choice, where one kind does not determine the
            other; in (0, 1/2).
        times: law of the training times, see :class:`~anydiff.objectives.times.TimeLaw`.

    Raises:
        UnknownNameError: no such norm or time law.
        AnydiffError: ``threshold`` or ``edge`` outside its range.
    """

    def __init__(self, norm: str = "l1", threshold: float = 0.01, edge: float = 0.05, times: str = "uniform") -> None:
        super().__init__(norm, times)
        for name, value in (("threshold", threshold), ("edge", edge)):
            if not 0 < value < 0.5:
                raise AnydiffError(f"{name} is {value}, but must lie between 0 and 1/2.")
        self.threshold, self.edge = float(threshold), float(edge)
        self.selector = Selector()

    @property
    def chosen(self) -> Chosen | None:
        """The kind that was chosen; None before."""
        place = int(self.selector.chosen)
        return None if place < 0 else PAIR[place]

    def modules(self) -> Mapping[str, nn.Module]:
        """``selector``: q and the choice."""
        return {"selector": self.selector}

    def prepare(self, denoiser: Denoiser) -> None:
        """Refuse a denoiser that predicts anything but one of the two.

        Raises:
            AnydiffError: it does.
        """
        if len(denoiser.native_kinds) > 1 or denoiser.native_kind not in PAIR:
            raise AnydiffError(
                f"parametrization is {', '.join(denoiser.native_kinds)}, but the selection is between residual and "
                "noise; set one of these, or choose the objective 'prediction'."
            )

    def times(self, path: Path, uniform: Tensor) -> Tensor:
        """Times [B] from uniform numbers [B] in (0, 1); before the choice without the path's ends."""
        if self.chosen is not None:
            return super().times(path, uniform)
        middle = (path.t_start + path.t_end) / 2
        return middle + (1 - 2 * self.edge) * (super().times(path, uniform) - middle)

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B]: the sum of both errors, or the chosen one."""
        first, *others = self.losses(call).values()
        return sum(others, start=first)

    def losses(self, call: Call) -> dict[str, Tensor]:
        """The weighted errors ``residual`` and ``noise``, each [B]; the chosen one alone after the choice.

        Raises:
            AnydiffError: the kind was chosen that the denoiser does not predict.
        """
        output, q = call.native, self.selector.q
        native = call.denoiser.native_kind
        self._choose(native)
        if self.chosen is not None:
            plain = self._error(call, output, self.chosen) + 0.0 * q  # q stays in the graph: no parameter is unused
            return {self.chosen: plain}
        derived = {kind: self._derived(call, output, other, kind) for kind, other in (PAIR, PAIR[::-1])}
        residual = q * output + (1 - q) * derived["residual"]
        noise = q * derived["noise"] + (1 - q) * output
        return {
            "residual": q * self._error(call, residual, "residual"),
            "noise": (1 - q) * self._error(call, noise, "noise"),
        }

    def _choose(self, native: str) -> None:
        q = float(self.selector.q.detach())
        if self.chosen is None and abs(q - 0.5) >= self.threshold:
            self.selector.chosen.fill_(0 if q > 0.5 else 1)
        if self.chosen not in (None, native):
            raise AnydiffError(
                f"the selection chose the {self.chosen} prediction (q = {q:.3f}), but "
                f"parametrization is {native!r}; train anew with parametrization={self.chosen}."
            )

    def _error(self, call: Call, prediction: Tensor, kind: str) -> Tensor:
        wanted = target(call.linear_path, call.t, kind, call.sources, call.denoiser.sigma_data)
        return element_mean(self.error(prediction - wanted), call.entry_weights)

    @staticmethod
    def _derived(call: Call, output: Tensor, source: Chosen, kind: Chosen) -> Tensor:
        return convert(call.denoiser, call.x, call.t, output, source, kind, call.condition)
