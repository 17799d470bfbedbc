"""A network with its parametrisation: the trained denoiser."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anydiff.denoisers.base import KINDS, Denoiser, PredictionKind, batch_times
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths.base import GaussianPath, per_row
from anydiff.states import UNCONDITIONAL, Conditioning, Known, StateSpec


class NetworkDenoiser(nn.Module, Denoiser):
    """E[x_0 | x_t] from a network that predicts data, noise, velocity, score, flow or EDM's F.

    The network sees c_in x_t with c_in = 1/sqrt(α² σ_data² + σ²), so that its input has unit scale on every path, and
    the log-SNR λ_t in place of a time, so that it outlives path and grid. With ``parametrization="score"`` the network
    predicts σ ∇log p_t, which has unit scale (Song et al. 2021).

    Args:
        network: ``forward(x [B, *shape], log_snr [B], condition) -> [B, *shape]``. It may have a method
            ``encode_condition(condition) -> condition``, see :meth:`Denoiser.encode_condition`; ``forward`` then
            takes both forms, and what the method does not know it hands on. It may have a method
            ``seen_clean(condition) -> Known | None``, see :meth:`Denoiser.seen_clean`.
        path: the path it was or will be trained on.
        parametrization: what the network's output means.
        sigma_data: standard deviation of the data.
        spec: the leaves of the state; where some are masked, training leaves absent entries out.
    """

    def __init__(
        self,
        network: nn.Module,
        path: GaussianPath,
        parametrization: PredictionKind = "noise",
        sigma_data: float = 1.0,
        spec: StateSpec | None = None,
    ) -> None:
        super().__init__()
        if parametrization not in KINDS:
            raise UnknownNameError("parametrization", parametrization, KINDS)
        if path.known and parametrization != "data":
            raise AnydiffError(
                f"parametrization is {parametrization!r}, but on {path!r}, which leads to a known {path.known[0]}, "
                "a network predicts the data; set parametrization: data."
            )
        self.network = network
        self.path = path
        self.native_kind = parametrization
        self.sigma_data = sigma_data
        self.spec = spec

    def forward(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """E[x_0 | x_t] ``[B, *shape]``."""
        return self.predict(x, t, "data", condition)

    # nn.Module's __call__ runs hooks and then forward, which is what a trained denoiser needs.
    __call__ = nn.Module.__call__

    def encode_condition(self, condition: Conditioning) -> Conditioning:
        """The condition as the network encodes it; as it is if the network has no ``encode_condition``."""
        encode = getattr(self.network, "encode_condition", None)
        return condition if encode is None else encode(condition)

    def seen_clean(self, condition: Conditioning) -> Known | None:
        """What the network says it sees clean; None if it has no ``seen_clean``."""
        seen = getattr(self.network, "seen_clean", None)
        return None if seen is None else seen(condition)

    def native(self, x: Tensor, t: float | Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """The network's own output at (x, t), of kind ``native_kind``."""
        times = t if isinstance(t, Tensor) and t.ndim else batch_times(t, x[:1])
        scaled, log_snr, _ = self.network_input(x, times)
        output: Tensor = self.network(scaled, log_snr, condition)
        output = output.to(x.dtype)
        return output / per_row(self.path.sigma(times), x) if self.native_kind == "score" else output

    def network_input(self, x: Tensor, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the network is called with for states ``[B, *shape]`` at times ``[B]`` (or ``[1]``).

        The scaled state, λ ``[B]`` float32, and c_in as the path gives it (float64).
        """
        alpha, sigma = self.path.alpha(times), self.path.sigma(times)
        scale = torch.rsqrt((alpha * self.sigma_data) ** 2 + sigma**2)
        log_snr = self.path.log_snr(times).to(dtype=torch.float32, device=x.device).expand(x.shape[0])
        return per_row(scale, x) * x, log_snr, scale
