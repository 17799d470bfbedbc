"""The loss of MT-Diffusion (ICLR 2024, arXiv 2407.17571): the noise, and every part of a sample, from one network call.

    L = w(t) |ε - ε̂|² + Σ_i λ_i g(t) L_i(x̂_i, x_i),

ε̂ and all x̂_i read off the same features (:mod:`anydiff.networks.heads`). L_i is the cross-entropy where x_i is a class
number, else the squared error. Both are one number per sample, in nats and as a mean over the entries: λ_i is in these
units. At the noisy end of a path nothing can be read off any more, and the error that stays there is most of a head's
loss; g(t) = α²/(α² + σ²) leaves it out (``weighting: signal``), g = 1 is the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from anydiff.denoisers.base import Denoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.objectives.base import element_mean
from anydiff.objectives.call import Call
from anydiff.objectives.terms import Sum, Term

Weighting = Literal["uniform", "signal"]
NOISE = "denoising"
"""The term of the noise prediction."""


class HeadLoss(Term):
    """What a head of the network reads off x_t against what is there: a source or condition of the head's own name.

    Rows in which the condition is absent are left out.

    Args:
        head: its name: a vector of the network, or a further exit.
        weighting: g(t): ``uniform`` 1, or ``signal`` α²/(α² + σ²).

    Raises:
        UnknownNameError: no such weighting.
    """

    def __init__(self, head: str, weighting: Weighting = "uniform") -> None:
        if weighting not in get_args(Weighting):
            raise UnknownNameError("weighting of a head", str(weighting), get_args(Weighting))
        self.head, self.weighting = head, weighting

    def prepare(self, denoiser: Denoiser) -> None:
        """Refuse a network without the head.

        Raises:
            AnydiffError: it has none, or the name is that of a prediction.
        """
        network = getattr(denoiser, "network", None)
        offered = [*getattr(network, "predicts", ()), *getattr(network, "vectors", ())]
        self._check(self.head in offered and self.head not in denoiser.native_kinds, offered)

    def loss(self, call: Call) -> Tensor:
        """Loss per example [B].

        Raises:
            AnydiffError: the network has no such head, the data set gives nothing of its name, or what it gives has
                another shape or a class that does not exist.
        """
        made = call.exits
        self._check(self.head in made and self.head not in call.denoiser.native_kinds, list(made))
        read, (wanted, present) = made[self.head], self._wanted(call)
        if wanted.is_floating_point():
            self._check_shape(wanted, tuple(read.shape), "the head gives")
            weights = call.entry_weights if wanted.shape == call.clean.shape else None
            error = element_mean((read - wanted.to(read)).square(), weights)
        else:
            self._check_shape(wanted, tuple(read.shape[:1]), "there must be one class number per row:")
            error = functional.cross_entropy(read, self._classes(wanted, read.shape[-1]), reduction="none")
        if present is not None:
            error = torch.where(present, error, 0.0)
        if self.weighting == "uniform":
            return error
        alpha, sigma = call.gaussian_path.alpha(call.t), call.gaussian_path.sigma(call.t)
        return error * (alpha**2 / (alpha**2 + sigma**2)).to(error)

    def _wanted(self, call: Call) -> tuple[Tensor, Tensor | None]:
        """The head's data, and in which rows they are there; None for all."""
        condition = call.condition
        if self.head in condition.sources:
            return condition.sources[self.head], None
        if self.head not in condition.given:
            there = [*condition.given, *condition.sources]
            raise AnydiffError(
                f"the head {self.head!r} has no data to be trained on: the data set gives "
                f"{', '.join(there) or 'nothing beside its states'}; choose a data set with {self.head!r} (or a latent "
                "with that part), or leave the head out."
            )
        value = condition.given[self.head]
        if self.head not in condition.present:
            return value, None
        present = condition.presence(self.head)
        return torch.where(present.reshape(-1, *[1] * (value.ndim - 1)), value, 0), present

    def _check(self, there: bool, offered: list[str]) -> None:
        if not there:
            raise AnydiffError(
                f"heads names {self.head!r}, but the network offers {', '.join(offered) or 'one prediction'}; give it "
                f"that exit (network: heads, predicts or vectors), under a name that is no kind of prediction."
            )

    def _check_shape(self, wanted: Tensor, shape: tuple[int, ...], what: str) -> None:
        if tuple(wanted.shape) != shape:
            raise AnydiffError(
                f"the data of the head {self.head!r} have shape {tuple(wanted.shape)}, but {what} {shape}; give the "
                "head the size of its data."
            )

    def _classes(self, labels: Tensor, classes: int) -> Tensor:
        wrong = labels[(labels < 0) | (labels >= classes)]
        if wrong.numel():
            raise AnydiffError(
                f"the data of the head {self.head!r} have class {int(wrong[0])}, but the head has the classes 0 to "
                f"{classes - 1}; give it more, or repair the labels."
            )
        return labels.long()


class MTDiffusion(Sum):
    """Denoising, and a loss for each head, on one network call; each stands in the log under its name.

    Args:
        heads: name of a head -> ``{weight: 0.5}``, and ``weighting`` as for :class:`HeadLoss`.
        denoising: options of :class:`~anydiff.objectives.Denoising`.

    Raises:
        UnknownNameError: no such key of a head.
        AnydiffError: no heads, one without weight, or one called as the term of the noise is.
    """

    def __init__(self, heads: Mapping[str, Any], denoising: Mapping[str, Any] | None = None) -> None:
        if not isinstance(heads, Mapping) or not heads:
            raise AnydiffError(
                f"heads is {heads!r}, but must be a table with at least one head: NAME: {{weight: 0.5}}."
            )
        terms: dict[str, Any] = {NOISE: {"weight": 1.0, "options": dict(denoising or {})}}
        for name, value in heads.items():
            if name in terms:
                raise AnydiffError(f"a head is called {name!r}, as the term of the noise is; give it another name.")
            if not isinstance(value, Mapping):
                raise AnydiffError(f"heads.{name} is {value!r}, but must be a table: {{weight: 0.5}}.")
            for key in value:
                if key not in ("weight", "weighting"):
                    raise UnknownNameError(f"key of heads.{name}:", str(key), ("weight", "weighting"))
            if value.get("weight") is None:
                raise AnydiffError(f"heads.{name} has no weight; give it one: heads.{name}.weight=0.5.")
            options = {key: each for key, each in value.items() if key != "weight"}
            terms[name] = {"name": "head", "weight": value["weight"], "options": {"head": name, **options}}
        super().__init__(terms)
