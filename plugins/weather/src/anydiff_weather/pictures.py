"""The pictures of ensemble forecasting: members with mean and spread, rank histogram, reliability diagram."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from numpy.typing import NDArray

from anydiff.domains.kit.pictures import panels, write_figure

PANELS = 10
"""Members drawn; mean and spread come beside them."""


def draw_members(objects: Sequence[xarray.Dataset], path: Path, titles: Sequence[str] | None, variable: str) -> None:
    """Maps of ``variable``: the first members, their mean and their spread, each with its own scale bar.

    Fields of one latitude are drawn as curves: members thin, mean thick, spread shaded. Cubed spheres are regridded.
    """
    fields = [_on_latitudes(data)[variable] for data in objects]
    draw = _curves if fields[0].sizes["latitude"] == 1 else _maps
    write_figure(draw(fields, variable, titles), path)


def draw_rank_histogram(histograms: dict[str, NDArray[np.float64]], path: str | Path) -> None:
    """Rank histograms side by side, as multiples of the flat one.

    Args:
        histograms: name -> shares ``[m + 1]`` (:func:`anydiff.metrics.ensembles.rank_histogram`).
        path: the PNG.
    """
    figure, axes = panels(len(histograms), 3.4, 2.8, columns=len(histograms))
    for axis, (name, shares) in zip(axes, histograms.items(), strict=True):
        shares = np.asarray(shares)
        axis.bar(np.arange(len(shares)), shares * len(shares), width=0.9)
        axis.axhline(1.0, color="black", linewidth=1)
        axis.set(title=name, xlabel="members below the truth", ylabel="share / flat share", ylim=(0, None))
    write_figure(figure, path)


def draw_reliability(
    diagrams: dict[str, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]], path: str | Path
) -> None:
    """Observed frequency against forecast probability; below, how often each probability was given.

    Args:
        diagrams: name -> (forecast, observed, number) of :func:`anydiff_weather.metrics.reliability`.
        path: the PNG.
    """
    figure, (upper, lower) = panels(2, 4.2, 2.6, columns=1)
    lower.sharex(upper)
    grid = upper.get_gridspec()
    assert grid is not None
    grid.set_height_ratios((3, 1))
    upper.plot([0, 1], [0, 1], color="black", linewidth=1, label="reliable")
    width = 0.08 / len(diagrams)
    for number, (name, (forecast, observed, count)) in enumerate(diagrams.items()):
        shown = count > 0
        upper.plot(forecast[shown], observed[shown], marker="o", markersize=4, label=name)
        place = (np.arange(len(count)) + 0.5) / len(count) + (number - (len(diagrams) - 1) / 2) * width
        lower.bar(place, count, width)
    upper.set(ylabel="observed frequency", ylim=(0, 1), xlim=(0, 1))
    upper.legend(frameon=False, fontsize="small", loc="lower left", bbox_to_anchor=(0, 1))
    lower.set(xlabel="forecast probability", ylabel="cases", ylim=(0, None))
    write_figure(figure, path)


def _on_latitudes(data: xarray.Dataset) -> xarray.Dataset:
    if "face" not in data.dims:
        return data
    from anydiff_weather.grids import to_latitude_longitude

    return to_latitude_longitude(data, np.linspace(-87.5, 87.5, 36), np.arange(0.0, 360.0, 5.0))


def _label(field: xarray.DataArray, variable: str) -> str:
    name = str(field.attrs.get("long_name", variable))
    unit = str(field.attrs.get("units", "1"))
    return name if unit == "1" else f"{name} ({unit})"


def _curves(fields: Sequence[xarray.DataArray], variable: str, titles: Sequence[str] | None) -> Any:
    longitude = fields[0]["longitude"].to_numpy()
    values = np.stack([field.squeeze("latitude").to_numpy() for field in fields])
    cases = _by_title(len(fields), titles)
    figure, axes = panels(len(cases), 7, 2.2 + 0.4 / len(cases), columns=1)
    for axis, (title, rows) in zip(axes, cases.items(), strict=True):
        mean, spread = values[rows].mean(0), values[rows].std(0)
        axis.fill_between(longitude, mean - spread, mean + spread, alpha=0.25, linewidth=0, label="mean ± deviation")
        axis.plot(longitude, values[rows[:PANELS]].T, color="grey", linewidth=0.6)
        axis.plot(longitude, mean, linewidth=2, label="mean")
        axis.set(title=title, ylabel=_label(fields[0], variable))
    axes[0].legend(frameon=False, ncols=2, fontsize="small")
    axes[-1].set_xlabel("longitude (degrees east)")
    return figure


def _by_title(count: int, titles: Sequence[str] | None) -> dict[str, list[int]]:
    """Rows that share a title are members of one case; at most four cases are drawn."""
    if not titles:
        return {"": list(range(count))}
    cases: dict[str, list[int]] = {}
    for row, title in enumerate(titles):
        cases.setdefault(title, []).append(row)
    return dict(list(cases.items())[:4])


def _maps(fields: Sequence[xarray.DataArray], variable: str, titles: Sequence[str] | None) -> Any:
    values = np.stack([field.transpose("latitude", "longitude").to_numpy() for field in fields])
    longitude, latitude = fields[0]["longitude"].to_numpy(), fields[0]["latitude"].to_numpy()
    shown = list(values[:PANELS])
    names = [titles[row] if titles else f"member {row}" for row in range(len(shown))]
    drawn = [*zip(names, shown, strict=True), ("mean", values.mean(0)), ("spread", values.std(0))]
    figure, axes = panels(len(drawn), 3.2, 2.1)
    limits = {"vmin": values.min(), "vmax": values.max()}
    for axis, (name, field) in zip(axes, drawn, strict=True):
        spread = name == "spread"
        scale = {"vmin": 0.0} if spread else limits
        mesh = axis.pcolormesh(
            longitude, latitude, field, shading="nearest", cmap="magma" if spread else "viridis", **scale
        )
        axis.set_title(name, fontsize="small")
        axis.tick_params(labelsize="x-small")
        if spread or name == "mean":
            figure.colorbar(mesh, ax=axis, shrink=0.9)
    figure.suptitle(_label(fields[0], variable), fontsize="medium")
    return figure
