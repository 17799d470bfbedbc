r"""Categorical paths: each entry keeps its class, or is replaced by a class of a law m, or by the mask.

With K classes, the mask M = K and three numbers for any times s < t, the kernel from u to v is

    q(x_t = v | x_s = u) = α [v = u] + β m_v for classes u, v;    γ for v = M;    M stays M,

α = ᾱ_t/ᾱ_s, 1 - γ = (1 - γ̄_t)/(1 - γ̄_s), β = 1 - α - γ, and kernels of these compose exactly (Chapman-Kolmogorov), so
a step of any length needs no approximation and no K × K matrix. The kernels of D3PM (Austin et al. 2021,
arXiv:2107.03006), multinomial diffusion (Hoogeboom et al. 2021, arXiv:2102.05379), SEDD and MDLM (masked), VQ-Diffusion
(mask and replace) and DiGress (marginal) are such.

t runs from 1, where nothing of the data is left, to 0, where the states are the data: a sampler's last step needs no
rule of its own. The clock is λ_t = logit ᾱ_t.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, NotApplicableError, UnknownNameError
from anydiff.paths.base import leading
from anydiff.paths.path import ClockedPath, Path, Time
from anydiff.states.conditions import UNCONDITIONAL, Conditioning
from anydiff.states.noise import NoiseLaw, UniformNoise
from anydiff.states.spec import StateSpec

SCHEDULES = ("linear", "cosine", "geometric")
#: σ̄ of the geometric schedule at its two ends (Lou et al. 2024, arXiv:2310.16834).
GEOMETRIC = (1e-4, 20.0)

CATEGORICAL_KINDS = ("data", "logits", "ratio", "cavity")
"""Kinds of prediction of classes; see :mod:`anydiff.denoisers.categorical`."""


class Kernel(NamedTuple):
    """Probabilities of one kernel, numbers or float64 tensors of one shape; they sum to 1.

    Attributes:
        keep: α, of keeping the class (beyond what a replacement gives back).
        replace: β, of a class drawn from the law m.
        mask: γ, of the mask.
    """

    keep: float | Tensor
    replace: float | Tensor
    mask: float | Tensor


class CategoricalPath(ClockedPath):
    """The base of all: a schedule ᾱ, a law m of replacements and a share of masks.

    Attributes:
        classes: K; 0 before :meth:`bind`.
        masks: whether noised states may hold the mask.
    """

    sources = {"x0": "clean", "noise": "noise"}  # noqa: RUF012 (read only, as in every path)
    default_grid: ClassVar[str] = "time"
    default_solver: ClassVar[str | None] = "ancestral"
    noise_law: NoiseLaw = UniformNoise()
    kinds = CATEGORICAL_KINDS
    t_start: float = 1.0
    t_end: float = 0.0
    classes: int
    schedule: str

    @property
    @abstractmethod
    def share(self) -> float:
        """γ̄_t/(1 - ᾱ_t): the share of masks among what is not kept."""

    @property
    def law(self) -> tuple[float, ...] | None:
        """m, K numbers; None for the uniform law."""
        return None

    @property
    def masks(self) -> bool:
        """Whether noised states may hold the mask."""
        return self.share > 0

    def keep(self, t: Time) -> Time:
        """ᾱ_t: the probability of keeping a class, 1 at t = 0 and 0 at t = 1."""
        return self._evaluate("_keep", t)

    def lost(self, t: Time) -> Time:
        """1 - ᾱ_t, to all digits near t = 0."""
        return self._evaluate("_lost", t)

    def decay(self, t: Tensor) -> Tensor:
        """-dᾱ/dt, float64."""
        with torch.inference_mode(False), torch.enable_grad():
            times = t.detach().double().clone().requires_grad_()
            (slope,) = torch.autograd.grad(self._keep(times).sum(), times)
        return -slope

    def when_lost(self, lost: Tensor) -> Tensor:
        """The times at which 1 - ᾱ is ``lost``, in [0, 1]."""
        if self.schedule == "linear":
            return lost.double()
        if self.schedule == "cosine":
            return 4 / math.pi * torch.asin(torch.sqrt(lost.double() / 2))
        first, last = GEOMETRIC
        rest = math.exp(-first) - math.exp(-last)
        total = first - torch.log1p(-lost.double() * rest / math.exp(-first))
        return (torch.log(total) - math.log(first)) / (math.log(last) - math.log(first))

    def kernel(self, s: Time, t: Time) -> Kernel:
        """The kernel from ``s`` to ``t``, s <= t: floats for numbers, float64 tensors for tensors."""
        kept_s, kept_t, lost_s, lost_t = (
            torch.as_tensor(p, dtype=torch.float64) for p in (self.keep(s), self.keep(t), self.lost(s), self.lost(t))
        )
        # 1 - γ̄ = 1 - share (1 - ᾱ); differences are taken of what is lost, so that short steps keep their digits.
        alpha = torch.where(kept_s > 0, kept_t / kept_s.clamp_min(1e-300), 1.0)
        masked = self.share * (lost_t - lost_s) / (1 - self.share * lost_s).clamp_min(1e-300)
        replaced = ((lost_t - lost_s) / kept_s.clamp_min(1e-300) - masked).clamp_min(0.0)
        replaced = torch.where(kept_s > 0, replaced, 0.0) if self.share < 1 else torch.zeros_like(alpha)
        if isinstance(s, Tensor) or isinstance(t, Tensor):
            return Kernel(alpha, replaced, masked)
        return Kernel(float(alpha), float(replaced), float(masked))

    def marginal(self, t: Time) -> Kernel:
        """The kernel from the data to ``t``."""
        kept, lost = self.keep(t), self.lost(t)
        return Kernel(kept, (1 - self.share) * lost, self.share * lost)

    def law_tensor(self, like: Tensor) -> Tensor:
        """m ``[K]`` in float64 on the device of ``like``."""
        law = self.law
        if law is None:
            return torch.full((self.bound,), 1 / self.bound, dtype=torch.float64, device=like.device)
        return torch.tensor(law, dtype=torch.float64, device=like.device)

    def noised(self, t: Tensor, clean: Tensor, noise: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """x_t ``[B, *shape]`` of clean classes, by one number in (0, 1) per entry; see :meth:`Path.noised`."""
        u = noise.double()
        kept, replaced, _ = (torch.as_tensor(p, dtype=torch.float64, device=u.device) for p in self.marginal(t))
        kept, replaced = (leading(p, u) for p in (kept, replaced))
        out = torch.where(u < kept, clean, self.bound if self.masks else clean)
        if self.share < 1:
            drawn = self._replacement((u - kept) / replaced.clamp_min(1e-300))
            out = torch.where((u >= kept) & (u < kept + replaced), drawn.to(clean.dtype), out)
            if not self.masks:
                out = torch.where(u >= kept, drawn.to(clean.dtype), out)
        return out

    def first(self, noise: Tensor, condition: Conditioning) -> Tensor:
        """x_1, int64 ``[B, *shape]``: masks, and classes of the law m where the path replaces."""
        drawn = torch.full(noise.shape, self.bound, dtype=torch.int64, device=noise.device)
        if self.share == 1:
            return drawn
        u = noise.double()
        replaced = self._replacement(u / (1 - self.share))
        return torch.where(u < 1 - self.share, replaced, drawn) if self.masks else replaced

    def _replacement(self, u: Tensor) -> Tensor:
        """A class of the law m by inverse CDF, int64, of numbers in (0, 1); what lies outside is cut to the ends."""
        if self.law is None:
            return (u * self.bound).floor().clamp(0, self.bound - 1).long()
        cumulative = self.law_tensor(u).cumsum(0)
        last = int((self.law_tensor(u) > 0).nonzero()[-1])
        return torch.searchsorted(cumulative, u.clamp(0, 1).contiguous(), right=True).clamp_max(last)

    def seen(self, x: Tensor, t: Tensor, sigma_data: float) -> Tensor:
        """The classes as they are."""
        return x

    def prediction_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """K numbers per entry."""
        return (*shape, self.bound)

    @property
    def bound(self) -> int:
        """K; an error before :meth:`bind`."""
        if not self.classes:
            raise AnydiffError(f"{self!r} does not know the number of classes; use path.bind(spec).")
        return self.classes

    def bind(self, spec: StateSpec) -> CategoricalPath:
        """This path for states of ``spec``, which says K.

        Raises:
            AnydiffError: a leaf is not categorical, or leaves have different numbers of classes.
        """
        for leaf in spec.leaves:
            if not leaf.categorical:
                raise AnydiffError(
                    f"leaf {leaf.name!r} is continuous, but {self!r} replaces classes; take a path of real numbers for "
                    "it, by a product path where there are leaves of both kinds."
                )
        found = {leaf.classes for leaf in spec.leaves}
        if len(found) > 1:
            raise AnydiffError(
                f"the leaves have {sorted(c for c in found if c)} classes, but {self!r} is of one number; give each "
                "leaf a path of its own (product)."
            )
        classes = found.pop() or 0
        if self.classes and self.classes != classes:
            raise AnydiffError(f"{self!r} is of {self.classes} classes, but the states have {classes}; leave one out.")
        if self.law is not None and len(self.law) != classes:
            raise AnydiffError(
                f"the law of {self!r} has {len(self.law)} numbers, but the states {classes} classes; give one per "
                "class."
            )
        return replace(self, classes=classes)  # type: ignore[type-var]

    def _keep(self, t: Tensor) -> Tensor:
        if self.schedule == "linear":
            return 1 - t
        if self.schedule == "cosine":
            return torch.where(t >= 1, 0.0, torch.cos(math.pi / 2 * t))
        first, last = (math.exp(-sigma) for sigma in GEOMETRIC)
        return (torch.exp(-_geometric(t)) - last) / (first - last)

    def _lost(self, t: Tensor) -> Tensor:
        if self.schedule == "linear":
            return t.clone()
        if self.schedule == "cosine":
            return torch.where(t >= 1, 1.0, 2 * torch.sin(math.pi / 4 * t) ** 2)
        first, last = GEOMETRIC
        rest = math.exp(-first) - math.exp(-last)
        return math.exp(-first) * -torch.expm1(first - _geometric(t)) / rest

    def _log_snr(self, t: Tensor) -> Tensor:
        return torch.log(self._keep(t)) - torch.log(self._lost(t))


def _geometric(t: Tensor) -> Tensor:
    low, high = (math.log(sigma) for sigma in GEOMETRIC)
    return torch.exp(low + (high - low) * t)


def _check(path: CategoricalPath) -> None:
    if path.schedule not in SCHEDULES:
        raise UnknownNameError("schedule", path.schedule, SCHEDULES)


@dataclass(frozen=True)
class Masked(CategoricalPath):
    """Each entry becomes the mask with probability 1 - ᾱ_t, and stays it (absorbing; Sahoo et al. 2024,
    arXiv:2406.07524).

    Args:
        schedule: ``linear`` ᾱ = 1 - t (which is log-linear in the total noise), ``cosine`` ᾱ = cos(π t/2), not squared,
            or ``geometric``, the total noise from 1e-4 to 20 and ᾱ stretched to [0, 1].
        classes: K; the spec says it.
    """

    shows_clean: ClassVar[bool] = True
    schedule: str = "linear"
    classes: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        _check(self)

    @property
    def share(self) -> float:
        """1: nothing is replaced."""
        return 1.0


@dataclass(frozen=True)
class Uniform(CategoricalPath):
    """Each entry is drawn anew from all K classes with probability 1 - ᾱ_t (multinomial diffusion).

    Args:
        schedule: as for :class:`Masked`.
        classes: K; the spec says it.
    """

    schedule: str = "linear"
    classes: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        _check(self)

    @property
    def share(self) -> float:
        """0: there is no mask."""
        return 0.0


@dataclass(frozen=True)
class MaskAndReplace(CategoricalPath):
    """Masks with a share of uniform replacements (VQ-Diffusion; Gu et al. 2022, arXiv:2111.14822).

    Args:
        masked: γ̄_t/(1 - ᾱ_t), in (0, 1).
        schedule: as for :class:`Masked`.
        classes: K; the spec says it.
    """

    masked: float = 0.9
    schedule: str = "linear"
    classes: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        _check(self)
        if not 0 < self.masked < 1:
            raise AnydiffError(
                f"masked is {self.masked}, but must lie between 0 and 1; take the path uniform for 0 and masked for 1."
            )

    @property
    def share(self) -> float:
        """As given."""
        return self.masked


@dataclass(frozen=True)
class Marginal(CategoricalPath):
    """Each entry is drawn anew from a law m with probability 1 - ᾱ_t (DiGress; Vignac et al. 2023, arXiv:2209.14734).

    Args:
        probabilities: m, one number per class, the classes' frequencies in the data, say.
        schedule: as for :class:`Masked`.
        classes: K; the spec says it.

    Raises:
        AnydiffError: a negative number, or numbers that do not sum to 1.
    """

    probabilities: tuple[float, ...] = ()
    schedule: str = "linear"
    classes: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        _check(self)
        law = _law(self.probabilities)
        object.__setattr__(self, "probabilities", law)

    @property
    def law(self) -> tuple[float, ...] | None:
        """m."""
        return self.probabilities

    @property
    def share(self) -> float:
        """0: there is no mask."""
        return 0.0


def _law(values: Sequence[float]) -> tuple[float, ...]:
    law = tuple(float(value) for value in values)
    if len(law) < 2:
        raise AnydiffError(f"probabilities is {list(law)}, but the law needs one number for each of the classes.")
    if min(law) < 0 or not math.isfinite(sum(law)):
        raise AnydiffError(f"probabilities holds {min(law):g}, but a law has no negative numbers; correct it.")
    if abs(sum(law) - 1) > 1e-6:
        raise AnydiffError(f"probabilities sum to {sum(law):.9g}, but must sum to 1; divide by their sum.")
    return tuple(value / sum(law) for value in law)


def categorical(path: Path, what: str) -> CategoricalPath:
    """``path`` itself, if it is one of classes.

    Raises:
        AnydiffError: it is another, on which ``what`` has no meaning.
    """
    if not isinstance(path, CategoricalPath):
        raise NotApplicableError(
            f"{what} needs a path of classes (masked, uniform, mask-and-replace, marginal), which {path!r} is not; "
            "choose one for real numbers, or another path."
        )
    return path
