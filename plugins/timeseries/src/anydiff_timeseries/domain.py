"""Windows of a univariate series as states ``[B, 1, L]``: context, then prediction, in units of the context's level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from anydiff.domains import Domain, LabelledArray, Measurement
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.files import check_suffix
from anydiff.states import UNCONDITIONAL, Conditioning, Leaf, StateSpec
from anydiff_timeseries.frequency import frequency
from anydiff_timeseries.origins import Origin, match, origin_arrays
from anydiff_timeseries.scaling import observation, unit

if TYPE_CHECKING:
    from anydiff.states import ArrayCondition
    from anydiff_timeseries.series import Series


class TimeSeries(Domain):
    """Windows of ``context + prediction`` steps.

    A window's object is a ``pandas.Series`` whose index ``step`` runs from -context to prediction - 1: step 0 is the
    first that is predicted. Where its case is known (:meth:`labelled`), it is named after its series and indexed by the
    series' own time stamps. Its state is the window in units of its level, the mean of |value| over the context.

    The condition ``observed [B, 2, L]`` holds values in the series' own units and a mask (1 observed, 0 not). Decoded
    with it, samples come in those units; without it, in units of their level (1 is the mean of |context|).

    Args:
        context: steps of the past.
        prediction: steps to predict.
        freq: the frequency, as pandas writes it: ``"h"`` (the default), ``"15min"``, ``"B"``, ``"ME"`` or ``"MS"``.
        season: steps of the season that a naive forecast repeats; 24 by default.
        unit: what the values are, for pictures. Training takes frequency, season and unit from its data.
    """

    name = "timeseries"
    suffixes = (".csv",)
    condition_help = MappingProxyType({"observed": "history.csv"})

    def __init__(
        self,
        context: int = 168,
        prediction: int = 24,
        freq: str | None = None,
        season: int | None = None,
        unit: str | None = None,
    ) -> None:
        freq, season, unit = freq or "h", 24 if season is None else season, unit or ""
        self.context = natural_number("context", context)
        self.prediction = natural_number("prediction", prediction)
        self.season = natural_number("season", season)
        if self.season > self.context:
            raise AnydiffError(f"season is {season}, but must fit into the context of {context} steps.")
        self.frequency = frequency(freq)
        self.freq, self.unit = freq, unit
        self._spec = StateSpec([Leaf("window", (1, self.length))])

    @property
    def length(self) -> int:
        """Steps of a window, L."""
        return self.context + self.prediction

    @property
    def spec(self) -> StateSpec:
        """One leaf named ``window``, ``(1, L)``."""
        return self._spec

    @property
    def codec(self) -> dict[str, Any]:
        """What a state of L steps does not show: where its context ends, how long a step and a season are, the unit."""
        return {
            "context": self.context,
            "prediction": self.prediction,
            "freq": self.frequency.grid,
            "season": self.season,
            "unit": self.unit,
        }

    @property
    def conditions(self) -> dict[str, ArrayCondition]:
        """``observed``: values and mask, ``(2, L)``."""
        from anydiff.states import ArrayCondition

        return {"observed": ArrayCondition((2, self.length))}

    @property
    def steps(self) -> pd.RangeIndex:
        """The index of a window."""
        return pd.RangeIndex(-self.context, self.prediction, name="step")

    def encode(self, objects: Sequence[Any]) -> Tensor:
        """States of windows: ``pandas.Series`` or arrays ``[L]``, in any units.

        Raises:
            AnydiffError: a window of another length, or with values that are missing or infinite.
        """
        return self.encode_asked(objects, UNCONDITIONAL)

    def encode_asked(self, objects: Sequence[Any], condition: Conditioning) -> Tensor:
        """States of windows in units of the level of ``observed``, where it is given: what they are forecasts of."""
        if not len(objects):
            return torch.empty(0, *self.spec.shape)
        windows = np.stack([self._window(one, row) for row, one in enumerate(objects)])
        observed = condition.given.get("observed", observation(windows[:, : self.context], self.prediction))
        return unit(observed.detach().cpu().double()).encode(torch.from_numpy(windows)).float()[:, None]

    def decode(self, states: Tensor, condition: Conditioning | None = None) -> list[pd.Series]:
        """Windows of ``states [B, 1, L]``, in the units of the condition ``observed`` if it is given."""
        self.spec.check(states)
        values = self.values(states, condition).numpy()
        return [pd.Series(row, index=self.steps, name="target") for row in values]

    def in_units(self, states: Tensor, condition: Conditioning) -> Tensor:
        """``states [B, 1, L]`` as values ``[B, L]`` in the units of :meth:`values`, differentiable."""
        if "observed" not in condition.given:
            return states[:, 0]
        return unit(condition.given["observed"].to(states)).decode(states[:, 0])

    def values(self, states: Tensor, condition: Conditioning | None = None) -> Tensor:
        """``states [B, 1, L]`` as float64 ``[B, L]`` in the units of ``observed``, else of the level."""
        values = states.detach().to("cpu", torch.float64)[:, 0]
        if condition is not None and "observed" in condition.given:
            return unit(condition.given["observed"].cpu().double()).decode(values)
        return values

    def _window(self, window: Any, row: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        from anydiff_timeseries.series import check_window, numbers

        try:
            values = numbers(window, "")
        except AnydiffError:
            raise AnydiffError(f"window {row} holds values that are no numbers; convert it first.") from None
        check_window(window, self.frequency, f"window {row}")
        if values.shape != (self.length,):
            raise AnydiffError(
                f"window {row} has shape {values.shape}, but needs {self.length} steps: {self.context} of context and "
                f"{self.prediction} of prediction."
            )
        if not np.isfinite(values).all():
            raise AnydiffError(
                f"window {row} has a missing or infinite value at step {int((~np.isfinite(values)).argmax())}; fill "
                "it, or forecast with TSDiffPredictor, which takes gaps."
            )
        return values

    def read(self, path: str | Path) -> list[pd.Series]:
        """Windows of a CSV file that :meth:`write` wrote."""
        from anydiff_timeseries import files

        return files.read_windows(Path(path), self.steps)

    def read_measurement(self, path: str | Path, output: Sequence[int], mask: str | Path | None = None) -> Measurement:
        """Series with gaps (empty cells) of as many rows as an operator gives, each a case: ``timestamp, target`` (and
        ``item_id``), or windows as :meth:`write` writes them. Their level is that of what was observed.

        Raises:
            AnydiffError: another number of steps, or a file of masks, which series do not need.
        """
        from anydiff_timeseries.measured import read_measurement

        if mask is not None:
            raise AnydiffError(f"--mask is {str(mask)!r}, but series tell gaps by empty cells; leave it out.")
        return read_measurement(self, Path(path), tuple(output))

    def measured_condition(self, values: Tensor) -> dict[str, Tensor]:
        """``observed``, by which the unit of each window is the level of what was measured of it."""
        return {"observed": observation(values[:, 0], 0)}

    def write(self, objects: Sequence[Any], path: str | Path) -> None:
        """Write windows as CSV (``.csv``), a row per step with all digits: the columns ``window``, ``item_id``,
        ``sample``, ``step``, ``timestamp`` and ``target``; ``window``, ``step`` and ``target`` where no time is known.

        ``sample`` counts the windows of one series at one time; rows from step 0 on are the prediction.
        """
        from anydiff_timeseries import files

        check_suffix(path, self.suffixes, "windows of series")
        files.write_windows(objects, self.steps, Path(path))

    def draw(self, objects: Sequence[Any], path: str | Path, titles: Sequence[str] | None = None) -> None:
        """Write small line plots of the windows (PNG); the prediction is shaded.

        Windows of one title are drawn together, as members with their 50 % and 90 % intervals. Windows with time stamps
        have their name and the time of their forecast as title.
        """
        from anydiff_timeseries import pictures

        pictures.draw_windows(objects, self, Path(path), titles)

    def parse_condition(self, text: Mapping[str, str], count: int) -> dict[str, Tensor]:
        """``{"observed": "history.csv"}``: the last ``context`` values of a series, for every sample; of ``count``
        series, one each.

        The file is CSV, with a column of time stamps and one of numbers, or JSON lines; gaps and empty cells are
        missing values. What it leaves open is told as in ``"{path: history.csv, value: load, day_first: true}"``, the
        options of :class:`anydiff_timeseries.tables.Layout`.

        Raises:
            UnknownNameError: another condition.
            AnydiffError: a file that is no such series, too short, or of another number of series.
        """
        for name in text:
            if name != "observed":
                raise UnknownNameError("condition", name, self.conditions)
        if "observed" not in text:
            return {}
        found = self._histories(text["observed"])
        if len(found) not in (1, count):
            raise AnydiffError(
                f"{text['observed']!r} holds {len(found)} series, but {count} cases are asked for; ask for all "
                f"of them: cases={len(found)}."
            )
        context = np.stack([last_values(one.values, one.name, self.context) for one in found])
        return {"observed": observation(context, self.prediction).expand(count, -1, -1)}

    def labels(self, text: Mapping[str, str]) -> list[Origin] | None:
        """The name and the time of the window of each series in the file of ``observed``."""
        if "observed" not in text:
            return None
        found = self._histories(text["observed"])
        return [Origin.of(one, max(0, len(one) - self.context)) for one in found]

    def _histories(self, text: str) -> list[Series]:
        from anydiff_timeseries import files

        path, layout = files.parse_source(text)
        return files.read_series(path, self.freq, layout)

    def labelled(self, objects: Sequence[Any], labels: Sequence[Any], members: Sequence[int]) -> list[pd.Series]:
        """The windows with the names and the time stamps of their series."""
        return [
            pd.Series(np.asarray(window), index=label.stamps(self.frequency, self.length), name=label.name)
            for window, label in zip(objects, labels, strict=True)
        ]

    def label_arrays(self, labels: Sequence[Any]) -> dict[str, LabelledArray]:
        """``timestamp [case]`` of the first predicted step, and ``series [case]`` with the names."""
        return origin_arrays(labels, self.frequency, self.context)

    def match(self, objects: Sequence[Any], labels: Sequence[Any]) -> list[int] | None:
        """The held-out window of each window that has time stamps, by its name and its first stamp."""
        return match(objects, labels, self.frequency)

    def describe_condition(self, condition: Conditioning) -> list[str]:
        """One title per distinct observation, so that the members of a case are drawn together."""
        if "observed" not in condition.given:
            return []
        seen: dict[bytes, int] = {}
        rows = condition.given["observed"].cpu().contiguous().numpy()
        return [f"case {seen.setdefault(row.tobytes(), len(seen))}" for row in rows]

    def arrays(self, states: Tensor, condition: Conditioning | None = None) -> dict[str, LabelledArray]:
        """``target [B, step]`` in the units of ``observed``."""
        return {"target": LabelledArray(self.values(states, condition).numpy(), ("step",), {"units": self.unit})}

    def coordinates(self) -> dict[str, LabelledArray]:
        """``step``, 0 being the first that is predicted."""
        return {"step": LabelledArray(np.asarray(self.steps), ("step",), {"freq": self.freq})}


def last_values(
    values: np.ndarray[Any, np.dtype[np.float64]], name: str, context: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The last ``context`` values of a series to forecast from.

    Raises:
        AnydiffError: fewer values, nothing observed among them, or nothing but zeros.
    """
    if len(values) < context:
        raise AnydiffError(
            f"series {name!r} has {len(values)} steps, but the context is {context}; give more of its past (missing "
            "values may be NaN)."
        )
    last = values[-context:]
    if np.isnan(last).all():
        raise AnydiffError(f"the last {context} steps of series {name!r} are all missing; there is no context to use.")
    if not np.nanmax(np.abs(last)) > 0:
        raise AnydiffError(
            f"the last {context} steps of series {name!r} are all zero, so it has no level to scale by; leave it out."
        )
    return last
