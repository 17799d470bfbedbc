"""A start from stored latents: each noise jumps to one of them, by a coupling that was fitted beforehand.

Of semi-discrete optimal transport (DPM-OT, ICCV 2023): the map from noise x to latents y_j is piecewise constant,

    T(x) = y_j*,    j* = argmax_j <x, y_j> + h_j,

with a potential h_j per latent (:func:`anydiff.calibration.semi_discrete` fits them). With h_j = -|y_j|²/2 it is the
nearest latent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, NotApplicableError
from anydiff.paths.path import Path
from anydiff.solvers.executor import DrawsNoise
from anydiff.solvers.start import Start
from anydiff.states import Conditioning

CHUNK = 2048


def cells(x: Tensor, latents: Tensor, potentials: Tensor, chunk: int = CHUNK) -> Tensor:
    """The latent that each row of ``x`` jumps to; of ones that are equal to the last bit the first.

    Args:
        x: ``[B, *shape]``.
        latents: ``[n, *shape]``.
        potentials: h ``[n]``.
        chunk: latents that are looked at together.

    Returns:
        int64 ``[B]``.
    """
    x, y = x.flatten(1).double(), latents.flatten(1).double()
    best = torch.full((len(x),), -torch.inf, dtype=torch.float64, device=x.device)
    found = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for begin in range(0, len(y), chunk):
        value, place = (x @ y[begin : begin + chunk].T + potentials[begin : begin + chunk].double()).max(1)
        found = torch.where(value > best, place + begin, found)
        best = torch.maximum(value, best)
    return found


@dataclass(frozen=True, eq=False)
class Coupled(Start):
    """Stored latents at ``time``, one of them for each sample, as its own prior draw says.

    Args:
        latents: states at ``time``, ``[n, *shape]``.
        potentials: ``[n]``.
        time: of the node where the latents lie.
        given: the one condition ``name -> value`` that the latents are of; empty for none.

    Raises:
        AnydiffError: numbers of latents and potentials differ, or one of them is not finite.
    """

    latents: Tensor
    potentials: Tensor
    time: float
    given: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.latents) or tuple(self.potentials.shape) != (len(self.latents),):
            raise AnydiffError(
                f"there are {len(self.latents)} latents and potentials of shape {tuple(self.potentials.shape)}; give "
                "one potential for each latent."
            )
        if not bool(torch.isfinite(self.latents).all() and torch.isfinite(self.potentials).all()):
            raise AnydiffError("a latent or potential to begin with is not finite; check them where they were made.")

    def states(
        self, path: Path, samples: Sequence[int], noise: DrawsNoise, condition: Conditioning, like: Tensor
    ) -> Tensor:
        """The latent of each sample's cell.

        Raises:
            AnydiffError: the latents are of another shape than states.
            NotApplicableError: they are of another condition.
        """
        if self.latents.shape[1:] != like.shape[1:]:
            raise AnydiffError(
                f"the stored latents have shape {tuple(self.latents.shape[1:])}, but one sample has "
                f"{tuple(like.shape[1:])}; store latents of this model."
            )
        self._require(condition)
        drawn = noise.draw(samples, 0, like.dtype, like.device)
        places = cells(drawn, self.latents.to(like.device), self.potentials.to(like.device))
        return self.latents.to(like.device)[places].to(like)

    def _require(self, condition: Conditioning) -> None:
        for name in dict.fromkeys((*self.given, *condition.given)):
            asked, own = condition.given.get(name), self.given.get(name)
            there = asked is not None and bool(condition.presence(name).all())
            if own is None or asked is None or not there or not bool((asked == own.to(asked)).all()):
                stored = "nothing" if own is None else f"{own.tolist()}"
                raise NotApplicableError(
                    f"the stored latents are of the condition {name}={stored}, but other samples are asked for; ask "
                    "for this one, or store latents of the other."
                )
