"""Exact denoisers of classes: a table of a joint law, and a Markov chain by forward and backward sums."""

from __future__ import annotations

import torch
from torch import Tensor

from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.kinds import PredictionKind
from anydiff.errors import AnydiffError
from anydiff.paths.categorical import CategoricalPath
from anydiff.states import UNCONDITIONAL, Conditioning, StateSpec


def likelihoods(path: CategoricalPath, x: Tensor, t: float | Tensor) -> Tensor:
    """q(x_t = x | x_0 = u) of each entry and class u, up to a factor of the entry: float64 ``[B, L, K]``."""
    shape = (-1, *[1] * x.ndim)
    kept, replaced, masked = (torch.as_tensor(p, dtype=torch.float64).reshape(shape) for p in path.marginal(t))
    law, classes = path.law_tensor(x), path.bound
    is_mask = (x >= classes)[..., None]
    present = torch.where(is_mask[..., 0], 0, x).long()
    same = torch.nn.functional.one_hot(present, classes).double()
    own = kept * same + replaced * law[present][..., None]
    own = torch.where(replaced == 0, same, own)  # a class that is there is certain, whatever was its chance to stay
    return torch.where(is_mask, masked, own)


class TableOracle(Denoiser):
    """p(x_0^i | x_t) of a joint law that is given whole.

    Args:
        path: bound to the states.
        spec: one categorical leaf of L entries.
        law: probabilities of all sequences, ``[K] * L``; positive sum.

    Raises:
        AnydiffError: a table of another shape, or numbers that are no probabilities.
    """

    native_kind: PredictionKind = "data"

    def __init__(self, path: CategoricalPath, spec: StateSpec, law: Tensor) -> None:
        wanted = (path.bound,) * spec.size
        if tuple(law.shape) != wanted:
            raise AnydiffError(f"the table has shape {tuple(law.shape)}, but the states need {wanted}.")
        if not bool((law >= 0).all()) or not 0 < float(law.sum()) < float("inf"):
            raise AnydiffError("the table must hold probabilities: no negative numbers, and a positive, finite sum.")
        self.path, self.spec, self.law = path, spec, law.double() / law.double().sum()

    @property
    def time_free(self) -> bool:
        """On a masked path, what masks hide depends on the classes that are there, and not on the time."""
        return isinstance(self.path, CategoricalPath) and self.path.share == 1

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """Exact probabilities ``[B, *shape, K]``, float64."""
        path = self.path
        assert isinstance(path, CategoricalPath)
        flat = x.flatten(1)
        likelihood, places = likelihoods(path, flat, t), flat.shape[1]
        joint = self.law.expand(len(x), *self.law.shape)
        for place in range(places):
            view = [len(x), *[1] * places, 1]
            view[1 + place] = path.bound
            joint = joint * likelihood[:, place].reshape(view[:-1])
        joint = joint / joint.flatten(1).sum(1).reshape(-1, *[1] * places)
        kept = [joint.movedim(1 + place, 1).reshape(len(x), path.bound, -1).sum(2) for place in range(places)]
        return torch.stack(kept, dim=1).reshape(*x.shape, path.bound)


class ChainOracle(Denoiser):
    """p(x_0^i | x_t) of a Markov chain along the entries, by the forward and backward recursions.

    Args:
        path: bound to the states.
        spec: one categorical leaf with one axis.
        first: law of the first entry, ``[K]``.
        transition: row u holds the law of the entry after u, ``[K, K]``.

    Raises:
        AnydiffError: arguments of another shape, or rows that do not sum to 1.
    """

    native_kind: PredictionKind = "data"

    def __init__(self, path: CategoricalPath, spec: StateSpec, first: Tensor, transition: Tensor) -> None:
        classes = path.bound
        if first.shape != (classes,) or transition.shape != (classes, classes):
            raise AnydiffError(
                f"first has shape {tuple(first.shape)} and transition {tuple(transition.shape)}, but there are "
                f"{classes} classes."
            )
        rows = torch.cat([first[None], transition]).double()
        if not bool((rows >= 0).all()) or not torch.allclose(rows.sum(1), torch.ones(len(rows)).double()):
            raise AnydiffError("first and every row of transition must be laws: no negative numbers, and a sum of 1.")
        self.path, self.spec = path, spec
        self.first, self.transition = first.double(), transition.double()

    @property
    def time_free(self) -> bool:
        """As of a table."""
        return isinstance(self.path, CategoricalPath) and self.path.share == 1

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """Exact probabilities ``[B, L, K]``, float64."""
        path = self.path
        assert isinstance(path, CategoricalPath)
        likelihood, places = likelihoods(path, x, t), x.shape[1]
        ahead = [likelihood[:, 0] * self.first]
        for place in range(1, places):
            ahead.append(_normal(ahead[-1]) @ self.transition * likelihood[:, place])
        behind = [torch.ones_like(ahead[0])]
        for place in range(places - 1, 0, -1):
            behind.append(_normal(behind[-1] * likelihood[:, place]) @ self.transition.T)
        return torch.stack([_normal(a * b) for a, b in zip(ahead, behind[::-1], strict=True)], dim=1)


def _normal(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True)
