"""A TSDiff pipeline as a GluonTS predictor: ``make_evaluation_predictions`` and ``Evaluator`` run on it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from gluonts.model.forecast import SampleForecast
from gluonts.model.predictor import Predictor
from numpy.typing import NDArray

from anydiff.data.reading import read_json
from anydiff.denoisers.wrappers import Wrapper
from anydiff.domains.kit import Scale
from anydiff.errors import AnydiffError, FileFormatError, natural_number
from anydiff.files import write_atomic
from anydiff.pipeline import Pipeline, load
from anydiff.recipes import build_guidance
from anydiff_timeseries.domain import TimeSeries, last_values
from anydiff_timeseries.scaling import observation
from anydiff_timeseries.series import Series, as_series, distinct, from_entry
from anydiff_timeseries.series import entries as read_entries
from anydiff_timeseries.tsdiff import ObservationGuidance, quantile_levels

MOST_SAMPLES = 1 << 20
WEIGHTS, OPTIONS = "model.safetensors", "predictor.json"
OPTION_TYPES: dict[str, tuple[type, ...]] = {
    "energy": (str, type(None)),
    "scale": (int, float, type(None)),
    "num_samples": (int,),
    "nfe": (int, type(None)),
    "solver": (str, type(None)),
    "seed": (int,),
    "batch_size": (int,),
}
"""What a predictor's file holds."""


class TSDiffPredictor(Predictor):  # type: ignore[misc]  # GluonTS says nothing of its types
    """Forecasts of a pipeline of this domain, guided by what was observed, or told it (TSDiff-Cond).

    The context is the last ``context`` steps of each series; missing values among them are simply not observed. A
    forecast does not depend on the units of its series, nor on how many series are forecast together: sample k of the
    i-th series is number i · 2^20 + k of the seed's sample set.

    Args:
        pipeline: a trained pipeline whose domain is ``timeseries``.
        energy: ``"quantile"`` (TSDiff-Q) or ``"squared"`` (TSDiff-MS): the published guidance; None takes the recipe's
            own, unless ``scale`` is given. Without meaning where the network is told the context.
        scale: s of the published guidance, of TSDiff-Q unless ``energy`` says otherwise; None takes the recipe's, or
            1 where the recipe has another guidance.
        num_samples: samples per forecast, unless :meth:`predict` is told another number.
        nfe: network calls per sample; None takes the recipe's.
        solver: a registered solver; None takes the recipe's.
        seed: whole number.
        batch_size: samples per network call.
        guidance: another guidance altogether, in place of ``energy``, ``scale`` and the recipe's.

    Raises:
        AnydiffError: a pipeline of another domain.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        energy: str | None = None,
        scale: float | None = None,
        num_samples: int = 100,
        nfe: int | None = None,
        solver: str | None = None,
        seed: int = 0,
        batch_size: int = 512,
        guidance: Wrapper | None = None,
    ) -> None:
        if not isinstance(pipeline.domain, TimeSeries):
            raise AnydiffError(
                f"the pipeline {pipeline.recipe.name!r} is of the domain {pipeline.domain.name!r}, but forecasts need "
                "'timeseries'; load another."
            )
        super().__init__(prediction_length=pipeline.domain.prediction)
        self.pipeline, self.domain = pipeline, pipeline.domain
        self.options: dict[str, Any] = {
            "energy": energy,
            "scale": scale,
            "num_samples": natural_number("num_samples", num_samples),
            "nfe": nfe,
            "solver": solver,
            "seed": seed,
            "batch_size": natural_number("batch_size", batch_size),
        }
        self.guidance = [guidance] if guidance is not None else self._guidance()

    def predict(
        self, dataset: Iterable[Any], num_samples: int | None = None, **kwargs: Any
    ) -> Iterator[SampleForecast]:
        """A ``SampleForecast`` for each series of a GluonTS data set, in its order.

        Args:
            dataset: entries with ``start`` and ``target [n]``, n at least the context; NaN where missing.
            num_samples: samples per forecast.
            kwargs: none is known; GluonTS's own callers may pass some.

        Raises:
            AnydiffError: a series that cannot be forecast; the sentence names it.
        """
        members = natural_number("num_samples", self.options["num_samples"] if num_samples is None else num_samples)
        if members > MOST_SAMPLES:
            raise AnydiffError(f"num_samples is {members}, but can be at most {MOST_SAMPLES}; use several seeds.")
        together = max(1, self.options["batch_size"] // members)
        for chunk in _batched(enumerate(read_entries(dataset)), together):
            given = [entry for _, entry in chunk]
            series = [from_entry(entry, self.domain.freq, position) for position, entry in chunk]
            samples = self.samples(series, members, [position for position, _ in chunk])
            for one, entry, drawn in zip(series, given, samples, strict=True):
                yield SampleForecast(
                    samples=drawn,
                    start_date=one.start + len(one),
                    item_id=entry.get("item_id"),
                    info=entry.get("info"),
                )

    def forecast(self, data: Any, num_samples: int | None = None) -> dict[str, pd.DataFrame]:
        """Forecasts of pandas data (or a GluonTS data set): for each series by name a frame [prediction, samples].

        Args:
            data: see :func:`anydiff_timeseries.series.as_series`.
            num_samples: samples per forecast.

        Raises:
            AnydiffError: a series that cannot be forecast, or two of one name.
        """
        series = distinct(as_series(data, self.domain.freq))
        entries = [{"start": one.start, "target": one.values, "item_id": one.name} for one in series]
        frames = {}
        for one, forecast in zip(series, self.predict(entries, num_samples), strict=True):
            frames[one.name] = pd.DataFrame(forecast.samples.T, index=forecast.index).rename_axis(columns="sample")
        return frames

    def samples(self, series: list[Series], members: int, positions: list[int]) -> NDArray[np.float64]:
        """Samples ``[series, members, prediction]`` in the units of each series."""
        context = np.stack([last_values(one.values, one.name, self.domain.context) for one in series])
        # Divided before it meets float32, so that no unit is too large or too small for it.
        unit = np.nanmean(np.abs(context), axis=1)
        observed = observation(Scale(unit[:, None]).encode(context), self.prediction_length).repeat_interleave(
            members, 0
        )
        condition = {"observed": observed}
        if any("quantile_level" in layer.reads for layer in self.guidance):
            condition["quantile_level"] = quantile_levels(members).repeat(len(series))
        indices = [position * MOST_SAMPLES + member for position in positions for member in range(members)]
        drawn = self.pipeline.sample_set(
            indices,
            nfe=self.options["nfe"],
            solver=self.options["solver"],
            seed=self.options["seed"],
            batch_size=self.options["batch_size"],
            guidance=self.guidance,
            condition=condition,
        )
        values = self.domain.values(drawn.states, drawn.condition)[:, self.domain.context :]
        return Scale(unit[:, None, None]).decode(values.reshape(len(series), members, -1).numpy())

    def serialize(self, path: Path) -> None:
        """Write the weights (safetensors, with their recipe) and the options (JSON) into the folder ``path``.

        Raises:
            AnydiffError: a ``guidance`` of one's own, which no file can hold.
        """
        if self.guidance != self._guidance():
            raise AnydiffError("a predictor with a guidance of its own cannot be written; write its pipeline instead.")
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        super().serialize(path)
        self.pipeline.save(path / WEIGHTS, overwrite=True)
        write_atomic(path / OPTIONS, json.dumps(self.options, indent=2))

    @classmethod
    def deserialize(cls, path: Path, **kwargs: Any) -> TSDiffPredictor:
        """The predictor that :meth:`serialize` wrote; nothing in its files is executed.

        Raises:
            FileFormatError: a file is missing or damaged.
        """
        path = Path(path)
        if not (path / OPTIONS).is_file() or not (path / WEIGHTS).is_file():
            raise FileFormatError(f"{str(path)!r} holds no predictor, or a part of one; serialize it again.")
        options = read_json(path / OPTIONS, "the options of a predictor", "serialize it again")
        if not isinstance(options, Mapping) or set(options) != set(OPTION_TYPES):
            raise FileFormatError(
                f"{str(path / OPTIONS)!r} does not hold the options {', '.join(OPTION_TYPES)}; serialize it again."
            )
        for name, types in OPTION_TYPES.items():
            if type(options[name]) not in types:
                raise FileFormatError(
                    f"{str(path / OPTIONS)!r} has {name} = {options[name]!r}, which it cannot be; serialize it again."
                )
        return cls(load(path / WEIGHTS), **{**options, **kwargs})

    def __eq__(self, other: object) -> bool:
        """Whether both have the same weights and options, and so the same forecasts."""
        return (
            isinstance(other, TSDiffPredictor)
            and self.pipeline.recipe == other.pipeline.recipe
            and self.pipeline.weights_hash == other.pipeline.weights_hash
            and self.options == other.options
            and self.guidance == other.guidance
        )

    __hash__ = None  # type: ignore[assignment]

    def _guidance(self) -> list[Wrapper]:
        if getattr(self.pipeline.denoiser.network, "reads", ()):
            return []
        parts = self.pipeline.recipe.sampling.guidance
        energy, scale = self.options["energy"], self.options["scale"]
        if energy is None and scale is None:
            return build_guidance(parts)
        own = next((part.options for part in parts if part.name == "timeseries/observation"), {"scale": 1.0})
        told = {"energy": energy, "scale": scale}
        return [ObservationGuidance(**{**own, **{name: value for name, value in told.items() if value is not None}})]


def _batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
