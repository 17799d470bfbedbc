r"""A network as a scalar: its prediction is a gradient, so the score is that of a log-density, which can be asked for.

A network predicts F with score = p x + q F, p and q functions of the time alone (:mod:`anydiff.denoisers.base`), and
sees z = c x with the input scale c. Where F = ∇_z φ(z, λ) for a scalar φ, the score is the gradient by x of

    u(x, t) = p |x|²/2 + (q/c) φ(c x, λ) - d/2 log 2π(α² σ_data² + σ²),

a log-density up to a function of the time, which φ may learn. The last term is the constant of the Gaussian that data
of deviation σ_data would have: of ``edm`` predictions with φ = 0, u is that Gaussian.

Source of the idea for the Fokker-Planck equation: arXiv 2311.15996; energies as score models: Salimans and Ho,
"Should EBMs model the energy or the score?", 2021.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from anydiff.denoisers.base import Denoiser, batch_times
from anydiff.denoisers.kinds import conversion
from anydiff.denoisers.network import NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.networks.around import AroundNetwork
from anydiff.registry import registry
from anydiff.states import UNCONDITIONAL, Condition, Conditioning, StateSpec

BENT = (
    "Relu", "LeakyRelu", "Prelu", "RreluWithNoise", "Hardtanh", "Hardswish", "Hardsigmoid", "Threshold", "Softshrink",
    "Hardshrink", "MaxPool", "AdaptiveMaxPool",
)  # fmt: skip
"""How autograd calls what is made of straight pieces: its second derivative is zero, but for the bends."""


class Potential(AroundNetwork):
    """Any network N as the gradient of a scalar: F(z, λ) = ∇_z φ(z, λ) with φ = Σ_i (1 + z_i) N_i(z, λ).

    With it every kind of prediction is a gradient, and so is the score (see the module's text). Sampling costs one
    backward pass by the input more than N does; training differentiates twice.

    Args:
        spec: the state.
        conditions: name -> condition, handed to N.
        network: the registered name of N; one of smooth layers where second derivatives are wanted.
        options: of N.

    Raises:
        UnknownNameError: no such network, or no such option of it.
        AnydiffError: N is itself a potential.
    """

    def __init__(
        self,
        spec: StateSpec,
        conditions: Mapping[str, Condition] | None = None,
        *,
        network: str = "mlp",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        given = dict(options or {})
        self.network: nn.Module = registry().build("networks", network, spec=spec, conditions=conditions, **given)
        if isinstance(self.network, Potential):
            raise AnydiffError(f"network is {network!r}, which is a potential itself; name the network under it.")

    def scalar(self, z: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """φ(z, λ) ``[B]`` of scaled states ``[B, *shape]`` and λ ``[B]``."""
        with twice_differentiable_attention():
            output: Tensor = self.network(z, log_snr, condition)
        return ((1 + z) * output).flatten(1).sum(1)

    def forward(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """∇_z φ ``[B, *shape]``; differentiable itself where gradients are recorded."""
        recorded = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            if not (recorded and x.requires_grad):
                x = x.detach().clone().requires_grad_()
            value = self.scalar(x, log_snr if recorded else log_snr.clone(), condition)
            gradient: Tensor = torch.autograd.grad(value.sum(), x, create_graph=recorded)[0]
        return gradient


def has_log_density(denoiser: Denoiser) -> bool:
    """Whether :func:`log_density` has an answer: a network that is a :class:`Potential`, or an exact denoiser."""
    return hasattr(denoiser, "log_density") or hasattr(getattr(denoiser, "network", None), "scalar")


def log_density(denoiser: Denoiser, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
    """u(x, t) ``[B]``, whose gradient by ``x`` is the denoiser's score: log p_t up to a function of the time.

    Differentiable by ``x`` and by ``t`` (``[B]`` float64). An exact denoiser gives log p_t itself.

    Args:
        denoiser: one that :func:`has_log_density`.
        x: states ``[B, *shape]``.
        t: a time, or one per row.
        condition: handed to the network.

    Raises:
        AnydiffError: the network is no potential, or each entry has coefficients of its own (a product path).
    """
    own: Callable[..., Tensor] | None = getattr(denoiser, "log_density", None)
    if own is not None:
        return own(x, t, condition)
    network = getattr(denoiser, "network", None)
    if not isinstance(denoiser, NetworkDenoiser) or not hasattr(network, "scalar"):
        raise AnydiffError(
            "the denoiser has a score, but no log-density, since its network is no potential; train the recipe with "
            "network.name=potential and the network's own name and options below it."
        )
    times = batch_times(t, x)
    scaled, log_snr, scale = denoiser.network_input(x, times)
    p, q = conversion(denoiser.gaussian_path, times, denoiser.native_kind, "score", denoiser.sigma_data)
    alpha, sigma = denoiser.gaussian_path.alpha(times), denoiser.gaussian_path.sigma(times)
    if denoiser.native_kind == "score":  # the network predicts σ times the score
        q = 1 / sigma
    if any(each.ndim > 1 for each in (p, q, scale)):
        raise AnydiffError(
            f"a potential needs one noise level for all entries of a state, but {denoiser.path!r} has one for each; "
            "choose another path."
        )
    phi: Tensor = cast(Any, network).scalar(scaled, log_snr, condition)
    constant = -x[0].numel() / 2 * torch.log(2 * math.pi * ((alpha * denoiser.sigma_data) ** 2 + sigma**2))
    quadratic = x.flatten(1).square().sum(1) / 2
    return p.to(x) * quadratic + (q / scale).to(x) * phi + constant.to(x)


class StraightPiecesError(AnydiffError):
    """A network is made of straight pieces where its second derivatives are asked for."""


def require_smooth(denoiser: Denoiser, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> None:
    """Refuse a network whose second derivatives are zero, or hide in the bends of straight pieces.

    A network of ReLUs is linear almost everywhere: its Laplacian is zero wherever it is asked for, and an equation that
    contains it would be trained on a wrong one.

    Args:
        denoiser: what is to be differentiated twice; an exact one always passes.
        x: some states ``[B, *shape]``.
        t: a time, or one per row.
        condition: handed to the network.

    Raises:
        StraightPiecesError: the network is made of straight pieces.
    """
    if not isinstance(denoiser, NetworkDenoiser):
        return
    network = copy.deepcopy(denoiser.network)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # many layers are zero at the start, and zero has no curvature
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(parameter))
    with torch.inference_mode(False), torch.enable_grad(), twice_differentiable_attention():
        scaled, log_snr, _ = denoiser.network_input(x.detach(), batch_times(t, x))
        point = scaled.detach().clone().requires_grad_()
        inner: Any = network.network if isinstance(network, Potential) else network
        output = inner(point, log_snr.detach(), condition)
        bend = _bend(output)
        (slope,) = torch.autograd.grad(output.sum(), point, create_graph=True)
        curved = slope.requires_grad and bool(_curvature(slope, point).ne(0).any())
    if bend or not curved:
        why = f"it uses {bend}" if bend else "they are zero at every state"
        raise StraightPiecesError(
            f"the network {type(inner).__name__} is made of straight pieces ({why}), so its second derivatives say "
            "nothing and its Laplacian would be zero; choose one of smooth activations (SiLU, softplus, tanh), such as "
            "'mlp'."
        )


def _curvature(slope: Tensor, point: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(slope.sum(), point, allow_unused=True)
    return torch.zeros_like(point) if found is None else found


def _bend(output: Tensor) -> str:
    """The name of the first operation of straight pieces in the graph behind ``output``; empty if there is none."""
    waiting, seen = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for bent in BENT:
            if node.name().startswith(bent):
                return bent
        waiting.extend(following for following, _ in node.next_functions)
    return ""


def twice_differentiable_attention() -> AbstractContextManager[Any]:
    """Attention in plain matrix products: the fused kernels have no second derivative."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return cast(AbstractContextManager[Any], sdpa_kernel(SDPBackend.MATH))


@contextmanager
def third_derivatives() -> Iterator[None]:
    """Within it networks have third derivatives that are right.

    Those of PyTorch's layer norm are wrong, without a word: its second derivative takes mean and deviation of the input
    for constants. Here the norm is made of plain arithmetic.
    """
    with twice_differentiable_attention(), _PlainNorms():
        yield


class _PlainNorms(TorchFunctionMode):
    """Puts arithmetic in place of norms whose higher derivatives are wrong."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.layer_norm or func is torch.layer_norm:
            return _layer_norm(*args, **(kwargs or {}))
        if func is functional.instance_norm or func is torch.instance_norm:
            raise AnydiffError(
                "the network has an instance norm, whose third derivatives PyTorch gets wrong; choose one with layer "
                "norm or group norm."
            )
        return func(*args, **(kwargs or {}))


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    """As :func:`torch.nn.functional.layer_norm`."""
    axes = tuple(range(-len(normalized_shape), 0))
    values = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
    centred = values - values.mean(axes, keepdim=True)
    normed = centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + eps)
    normed = normed if weight is None else normed * weight
    return normed if bias is None else normed + bias
