"""Refinement: forecasts of any base model, moved towards what the diffusion model finds likely (TSDiff, section 4.2).

From a base forecast y_0 (with the context in place) the steps

    most likely   y ← y - η ∇E(y)
    Langevin      y ← y - η ∇E(y) + sqrt(2 η) γ z

descend E(y) = |ε - ε_θ(α y + σ ε, t)|² + λ R(y, y_0), ε drawn anew at each step and one representative noise level.
R is Σ m (y - y_0)² (``squared``) or Σ m ρ_q(y_0 - y) (``quantile``) over the anchored steps m. The paper's code anchors
the observed steps alone in the first case, so that the forecast is held by its start and nothing else, and every step
in the second; both are options here, and those are the defaults.

A base forecast that is a point stays too narrow: refinement improves it, but do not expect calibration.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from gluonts.model.forecast import SampleForecast
from gluonts.model.predictor import Predictor
from torch import Tensor

from anydiff.denoisers import Denoiser
from anydiff.domains.kit import Scale
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.inverse import descend
from anydiff.objectives import denoising_energy
from anydiff.pipeline import Pipeline
from anydiff.states import NoiseSource, StateSpec
from anydiff_timeseries.domain import TimeSeries, last_values
from anydiff_timeseries.scaling import level, observation, relative
from anydiff_timeseries.series import entries, from_entry
from anydiff_timeseries.tsdiff import ENERGIES, quantile_energy, quantile_levels, squared_energy

Method = Literal["most-likely", "langevin"]
Anchor = Literal["observed", "all"]


@dataclass(frozen=True)
class Refinement:
    """How forecasts are refined; see the module.

    Attributes:
        method: ``"most-likely"`` or ``"langevin"``.
        regulariser: ``"squared"`` or ``"quantile"``.
        anchor: the steps the regulariser holds: ``"observed"`` or ``"all"``; None takes the paper's code's.
        iterations: steps; each is one network call and one backward pass.
        step_size: η.
        noise: γ of Langevin, a temperature.
        weight: λ.
        log_snr: of the noise level; 0.71 is the paper's step 20 of 100.
    """

    method: Method = "most-likely"
    regulariser: str = "squared"
    anchor: Anchor | None = None
    iterations: int = 20
    step_size: float = 0.1
    noise: float = 0.1
    weight: float = 1.0
    log_snr: float = 0.71

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise UnknownNameError("method of refinement", self.method, get_args(Method))
        if self.regulariser not in ENERGIES:
            raise UnknownNameError("regulariser", self.regulariser, ENERGIES)
        if self.anchor is not None and self.anchor not in get_args(Anchor):
            raise UnknownNameError("anchor", self.anchor, get_args(Anchor))
        natural_number("iterations", self.iterations, 0)
        if not (self.step_size > 0 and math.isfinite(self.step_size)):
            raise AnydiffError(f"step_size is {self.step_size}, but must be a positive number; the paper's is 0.1.")

    def __call__(
        self,
        denoiser: Denoiser,
        start: Tensor,
        mask: Tensor,
        level: Tensor,
        seed: int = 0,
        samples: Sequence[int] | None = None,
    ) -> Tensor:
        """Refined states ``[B, 1, L]``.

        Args:
            denoiser: the unconditional model.
            start: y_0 ``[B, 1, L]``: the context and a base forecast, sorted so that row b is at its level.
            mask: the observed steps ``[B, L]``.
            level: q ``[B]`` of each row, for the quantile regulariser.
            seed: of the noise.
            samples: numbers of the rows in their sample set; ``range(B)`` by default.
        """
        anchor = self.anchor or ("observed" if self.regulariser == "squared" else "all")
        held = torch.stack([start[:, 0], torch.ones_like(start[:, 0]) if anchor == "all" else mask.to(start.dtype)], 1)
        source = NoiseSource(StateSpec.single(tuple(start.shape[1:])), seed)
        indices = range(len(start)) if samples is None else samples

        def draw(number: int) -> Tensor:
            return source.draw(indices, number, start.dtype, start.device)

        def gradient(y: Tensor, noise: Tensor, t: float) -> Tensor:
            with torch.enable_grad():
                leaf = y.detach().requires_grad_()
                energy = denoising_energy(denoiser, leaf, t, noise) + self.weight * self._regulariser(leaf, held, level)
                (found,) = torch.autograd.grad(energy.sum(), leaf)
            return found

        def step(number: int, y: Tensor, slope: Tensor) -> Tensor:
            y = y - self.step_size * slope
            if self.method == "langevin":
                y = y + math.sqrt(2 * self.step_size) * self.noise * draw(2 * number + 1)
            return y

        times = [denoiser.gaussian_path.time(self.log_snr)] * self.iterations
        return descend(start, times, gradient, step, lambda number: draw(2 * number))

    def _regulariser(self, y: Tensor, held: Tensor, level: Tensor) -> Tensor:
        if self.regulariser == "squared":
            return squared_energy(y, held)
        return quantile_energy(y, held, level)


class RefinedPredictor(Predictor):  # type: ignore[misc]  # GluonTS says nothing of its types
    """Another GluonTS predictor, its forecasts refined by a pipeline of this domain.

    Args:
        base: any predictor; its forecasts are resampled to ``num_samples`` quantiles.
        pipeline: an unconditional pipeline (TSDiff).
        refinement: how; the paper's most-likely form by default.
        num_samples: samples per forecast.
        seed: whole number.
    """

    def __init__(
        self,
        base: Predictor,
        pipeline: Pipeline,
        refinement: Refinement | None = None,
        num_samples: int = 100,
        seed: int = 0,
    ) -> None:
        if not isinstance(pipeline.domain, TimeSeries):
            raise AnydiffError(f"the pipeline is of the domain {pipeline.domain.name!r}, but must be of 'timeseries'.")
        if base.prediction_length != pipeline.domain.prediction:
            raise AnydiffError(
                f"the base forecasts {base.prediction_length} steps, but the pipeline {pipeline.domain.prediction}; "
                "use one prediction length."
            )
        super().__init__(prediction_length=base.prediction_length)
        self.base, self.pipeline, self.domain = base, pipeline, pipeline.domain
        self.refinement = Refinement() if refinement is None else refinement
        self.num_samples = natural_number("num_samples", num_samples)
        self.seed = seed

    def predict(
        self, dataset: Iterable[Any], num_samples: int | None = None, **kwargs: Any
    ) -> Iterator[SampleForecast]:
        """A refined ``SampleForecast`` for each series, in order; arguments as for the base."""
        members = natural_number("num_samples", self.num_samples if num_samples is None else num_samples)
        given = list(entries(dataset))
        # All are checked before the base model meets one.
        checked = [from_entry(entry, self.domain.freq, position) for position, entry in enumerate(given)]
        forecasts = self.base.predict(given, **kwargs)
        for position, (series, forecast) in enumerate(zip(checked, forecasts, strict=True)):
            context = last_values(series.values, series.name, self.domain.context)
            levels = quantile_levels(members)
            # Each step's quantiles in order, so that row k lies at the level q_k throughout.
            start = np.stack([np.asarray(forecast.quantile(float(q)), dtype=np.float64) for q in levels])
            samples = self.refined(context, start, position)
            yield SampleForecast(
                samples=samples, start_date=forecast.start_date, item_id=forecast.item_id, info=forecast.info
            )

    def refined(
        self, context: np.ndarray[Any, Any], forecast: np.ndarray[Any, Any], position: int = 0
    ) -> np.ndarray[Any, Any]:
        """One forecast ``[samples, H]``, its rows in order of their levels, refined; ``context [C]`` with NaN gaps.

        A gap in the context starts at the level of the context and is refined with the forecast.
        """
        members = len(forecast)
        own = float(np.nanmean(np.abs(context)))
        observed = observation(Scale(own).encode(context)[None], self.prediction_length)
        scale = Scale(own * float(level(observed)[0]))
        values = relative(observed)[0, 0].expand(members, -1).clone()
        mask = observed[0, 1].expand(members, -1)
        values[:, : self.domain.context][mask[:, : self.domain.context] == 0] = 1.0
        values[:, self.domain.context :] = torch.from_numpy(np.array(scale.encode(forecast)))
        refined = self.refinement(
            self.pipeline.denoiser,
            values[:, None],
            mask,
            quantile_levels(members),
            self.seed,
            [position * (1 << 20) + member for member in range(members)],
        )
        return scale.decode(refined[:, 0, self.domain.context :].double().numpy())
