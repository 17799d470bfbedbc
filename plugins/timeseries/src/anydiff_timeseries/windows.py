"""Windows of context and prediction, each in units of its own level: the mean of |context| over what was observed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.data import Dataset, overlapping
from anydiff.domains.kit import check_split, content_hash
from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.states import Conditioning, permutation
from anydiff_timeseries.domain import TimeSeries
from anydiff_timeseries.frequency import frequency
from anydiff_timeseries.origins import Origin
from anydiff_timeseries.scaling import observation, unit
from anydiff_timeseries.series import Series, check_trainable

LOSSES = ("all", "prediction")
HIDDEN = ("none", "random", "start", "end")


class WindowDataset(Dataset):
    """Windows of series: states ``[B, 1, L]`` in units of their level, and the condition ``observed [B, 2, L]``.

    Training windows start at every ``stride``-th step and are fully observed; the others are passed over. Test windows
    are a fixed number of forecasts spread evenly over the series: the prediction is fully observed, the context at
    least by half. All windows of a series that is too short for one are refused.

    Args:
        name: the registered name.
        series: where the windows come from.
        split: ``"train"`` or ``"test"``.
        domain: context and prediction length.
        stride: steps between the starts of training windows.
        test_windows: how many forecasts the test split has, at most.
        loss: ``"all"`` trains on the whole window, ``"prediction"`` on the prediction alone (TSDiff-Cond).
        hide: the half of each context that is not observed, as in the paper's trials with missing values: ``"none"``,
            steps at ``"random"`` (the same ones whenever the window is read), those at the ``"start"`` or at the
            ``"end"``. The state keeps its values; its unit is the level of what is observed.

    Raises:
        AnydiffError: a series is constant or shorter than a window, or no window is complete.
    """

    def __init__(
        self,
        name: str,
        series: Sequence[Series],
        split: str,
        domain: TimeSeries,
        stride: int = 1,
        test_windows: int = 64,
        loss: str = "all",
        hide: str = "none",
    ) -> None:
        check_split(split)
        if loss not in LOSSES:
            raise UnknownNameError("loss", str(loss), LOSSES)
        if hide not in HIDDEN:
            raise UnknownNameError("half to hide", str(hide), HIDDEN)
        self.name, self.split, self.loss, self.hide = name, split, loss, hide
        self._domain = domain
        for one in series:
            if frequency(one.start.freqstr).grid != domain.frequency.grid:
                raise AnydiffError(
                    f"series {one.name!r} has frequency {one.start.freqstr!r}, but the domain {domain.freq!r}; give "
                    "both the same."
                )
        self.series = [check_trainable(one, domain.length) for one in series]
        natural_number("stride", stride)
        natural_number("test_windows", test_windows)
        chosen = [
            (number, start) for number, one in enumerate(self.series) for start in self._starts(one.values, stride)
        ]
        if split == "test" and len(chosen) > test_windows:
            chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, test_windows).round().astype(int)]
        if not chosen:
            raise AnydiffError(
                f"data set {name!r} has no {split} window of {domain.length} steps without gaps; choose a shorter "
                "context or fill the gaps."
            )
        self.chosen = chosen

    @property
    def domain(self) -> TimeSeries:
        """The codec of these windows."""
        return self._domain

    @property
    def statistics(self) -> dict[str, Any]:
        """What the data decide of their domain: the length of a step, the season and the unit."""
        return {"freq": self._domain.freq, "season": self._domain.season, "unit": self._domain.unit}

    @property
    def dependence(self) -> int:
        """How many following windows of a series share a step with a window; other series are taken as independent."""
        length = self._domain.length
        starts = [[start for number, start in self.chosen if number == one] for one in range(len(self.series))]
        return max(overlapping(each, [start + length for start in each]) for each in starts)

    def __len__(self) -> int:
        return len(self.chosen)

    @cached_property
    def hash(self) -> str:
        """sha256 of the series' values and of everything that chooses the windows."""
        options = f"{self.split}:{self.loss}:{self._domain.context}:{self._domain.prediction}"
        hidden = "" if self.hide == "none" else self.hide
        series = [part for one in self.series for part in (f"{one.start}:{len(one)};", one.values)]
        return content_hash(options, hidden, *series, np.array(self.chosen, dtype=np.int64))

    def windows(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """The windows in the series' own units ``[B, L]``, NaN where missing."""
        length = self._domain.length
        rows = [self.chosen[index] for index in indices]
        return np.stack([self.series[number].values[start : start + length] for number, start in rows])

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States float32 ``[B, 1, L]`` and ``observed [B, 2, L]``, in the series' own units, prediction unseen.

        A missing value of the context is 0 in the state. With ``loss="prediction"`` the loss weighs that alone.
        """
        windows = self.windows(indices)
        context, prediction = self._domain.context, self._domain.prediction
        observed = observation(self._shown(windows[:, :context], indices), prediction)
        scaled = unit(observed.double()).encode(torch.from_numpy(windows))
        states = torch.nan_to_num(scaled, nan=0.0).float()[:, None]
        weight = None
        if self.loss == "prediction":
            weight = torch.zeros_like(states)
            weight[..., context:] = 1
        return states, Conditioning({"observed": observed}, loss_weight=weight)

    def case_labels(self, indices: Sequence[int]) -> list[Origin]:
        """The name of the series and the time of each window."""
        chosen = (self.chosen[index] for index in indices)
        return [Origin.of(self.series[number], start) for number, start in chosen]

    def _shown(self, contexts: NDArray[np.float64], indices: Sequence[int]) -> NDArray[np.float64]:
        """``contexts [B, C]`` with NaN on the half that is hidden."""
        if self.hide == "none":
            return contexts
        context = contexts.shape[1]
        place = np.broadcast_to(np.arange(context), contexts.shape)
        if self.hide == "random":
            # Keyed by the window's place in its series, not by its number among those chosen.
            keys = [self.chosen[index][0] * (1 << 32) + self.chosen[index][1] for index in indices]
            order = np.stack([permutation(0, key, "timeseries/hidden", context) for key in keys])
            place = np.argsort(order, axis=1)
        hidden = place < context // 2 if self.hide != "end" else place >= context - context // 2
        return np.where(hidden, np.nan, contexts)

    def _starts(self, values: NDArray[np.float64], stride: int) -> list[int]:
        length, context = self._domain.length, self._domain.context
        seen = np.concatenate([[0], np.cumsum(~np.isnan(values))])
        starts = np.arange(0, len(values) - length + 1, stride if self.split == "train" else 1)
        past = seen[starts + context] - seen[starts]
        future = seen[starts + length] - seen[starts + context]
        complete = future == length - context
        enough = past == context if self.split == "train" else 2 * past >= context
        size = np.concatenate([[0.0], np.cumsum(np.nan_to_num(np.abs(values)))])
        alive = size[starts + context] > size[starts]  # a context of zeros has no level
        return [int(start) for start in starts[complete & enough & alive]]
