"""Scores of forecasts: by hand, against xskillscore and scoringrules, with areas, and the pictures of them."""

import numpy as np
import pytest
import scoringrules
import torch
import xarray
import xskillscore

from anydiff.errors import AnydiffError
from anydiff.metrics import SampleSet
from anydiff.metrics import ensembles as core
from anydiff.registry import registry
from anydiff_weather import metrics, pictures
from anydiff_weather.climatology import Climatology
from anydiff_weather.data import Era5Members
from anydiff_weather.grids import cell_weights

LATITUDE, LONGITUDE = np.array([-60.0, 0.0, 60.0]), np.arange(0, 360, 45.0)


def world(members=12, times=30, seed=0, noise=1.0):
    """A calibrated ensemble, its truth and its climatology."""
    generator = np.random.default_rng(seed)
    shape = (times, 1, 3, 8)
    signal = generator.normal(size=shape)
    x = 280 + signal + noise * generator.normal(size=(times, members, 3, 8))
    y = 280 + (signal + generator.normal(size=shape))[:, 0]
    axes = {"latitude": LATITUDE, "longitude": LONGITUDE}
    time = np.array("2001-01-01", "datetime64[ns]") + np.arange(times) * np.timedelta64(10, "D")
    dims = ("time", "number", "latitude", "longitude")
    forecast = xarray.Dataset({"t": (dims, x, {"units": "K"})}, {**axes, "time": time, "number": np.arange(members)})
    truth = xarray.Dataset({"t": (("time", "latitude", "longitude"), y, {"units": "K"})}, {**axes, "time": time})
    days = {"dayofyear": np.arange(1, 367), **axes}
    still = np.ones((366, 3, 8), np.float32)
    field = ("dayofyear", "latitude", "longitude")
    mean = xarray.Dataset({"t": (field, 280 * still, {"units": "K"})}, days)
    std = xarray.Dataset({"t": (field, np.float32(np.sqrt(2)) * still, {"units": "K"})}, days)
    return forecast, truth, Climatology(mean, std)


def test_the_table_is_that_of_the_fields_libraries():
    forecast, truth, climatology = world()
    table = metrics.verify(forecast, truth, climatology, threshold=1.0)["t"]
    value = {str(name): float(table.sel(score=name)) for name in table["score"].to_numpy()}
    area = xarray.DataArray(cell_weights(truth), dims=("latitude", "longitude")).broadcast_like(truth["t"])
    x, y = forecast["t"], truth["t"]
    axes = ["time", "latitude", "longitude"]
    crps = float(xskillscore.crps_ensemble(y, x, member_dim="number", dim=axes, weights=area))
    assert value["crps"] == pytest.approx(crps, rel=1e-6)
    assert value["rmse"] == pytest.approx(
        float(xskillscore.rmse(x.mean("number"), y, dim=axes, weights=area)), rel=1e-9
    )
    event = y > 280 + np.sqrt(2)
    chance = (x > 280 + np.sqrt(2)).mean("number")
    brier = xskillscore.brier_score(event, chance, dim=axes, weights=area)
    assert value["brier"] == pytest.approx(float(brier), rel=1e-6)
    fair = xskillscore.brier_score(
        event, (x > 280 + np.sqrt(2)), member_dim="number", fair=True, dim=axes, weights=area
    )
    assert value["brier_fair"] == pytest.approx(float(fair), rel=1e-6)
    assert value["spread_skill"] == pytest.approx(1.0, abs=0.1)
    assert 0.6 < value["roc_area"] < 1
    assert value["crps_fair"] < value["crps"]
    assert value["brier_skill"] > 0


def test_anomaly_correlation_is_one_for_the_truth_and_independent_of_scale():
    _, truth, climatology = world()
    anomaly = truth["t"].to_numpy() - 280
    weights = cell_weights(truth)
    assert metrics.anomaly_correlation(anomaly, anomaly, weights) == pytest.approx(1.0)
    assert metrics.anomaly_correlation(-3 * anomaly, anomaly, weights) == pytest.approx(-1.0)
    perfect = truth.expand_dims(number=[0, 1])
    table = metrics.verify(perfect, truth, climatology)["t"]
    assert float(table.sel(score="crps")) == pytest.approx(0.0, abs=1e-12)
    assert float(table.sel(score="acc")) == pytest.approx(1.0)


def test_roc_area_of_perfect_useless_and_tied_chances():
    event = np.array([True, False, True, False, False])
    assert metrics.roc_area(event, event.astype(float)) == pytest.approx(1.0)
    assert metrics.roc_area(event, 1.0 - event) == pytest.approx(0.0)
    assert metrics.roc_area(event, np.full(5, 0.3)) == pytest.approx(0.5)
    # Mann-Whitney: of 6 pairs 4 are in order, 1 is tied.
    assert metrics.roc_area(event, np.array([0.9, 0.5, 0.5, 0.7, 0.1])) == pytest.approx(4.5 / 6)
    assert np.isnan(metrics.roc_area(np.zeros(5, bool), np.zeros(5)))


def test_reliability_counts_and_spectra_sum():
    event = np.array([0, 1, 1, 0], bool)
    forecast, observed, number = metrics.reliability(event, np.array([0.0, 0.05, 1.0, 0.95]), bins=2)
    assert number.tolist() == [2, 2]
    assert observed.tolist() == [0.5, 0.5]
    assert forecast.tolist() == pytest.approx([0.025, 0.975])
    for size in (8, 9):
        field = np.random.default_rng(0).normal(size=(5, size))
        assert metrics.power_spectrum(field).sum() == pytest.approx(np.square(field).mean())
    wave = np.cos(2 * np.pi * 3 * np.arange(16) / 16)
    np.testing.assert_allclose(metrics.power_spectrum(wave), np.eye(9)[3] / 2, atol=1e-12)


def test_the_energy_score_is_the_crps_of_one_number_and_weighs_areas():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 5, 1, generator=generator), torch.randn(6, 1, generator=generator)
    assert metrics.energy_score(x, y) == pytest.approx(float(core.crps(x, y).mean()), rel=1e-6)
    x, y = torch.randn(6, 5, 2, generator=generator), torch.randn(6, 2, generator=generator)
    expected = np.mean(scoringrules.es_ensemble(y[:, :1].numpy(), x[:, :, :1].numpy(), m_axis=1, v_axis=2))
    assert metrics.energy_score(x, y, torch.tensor([2.0, 0.0])) == pytest.approx(expected, rel=1e-5)


def test_metrics_weigh_cells_by_area():
    data = Era5Members()
    states, condition = data.batch(range(4))
    truth = SampleSet(states, condition, data.domain)
    weights = data.domain.weights
    assert weights.shape == (15, 30)
    polar = torch.zeros_like(states)
    polar[:, :, -1] = 1.0  # all the error in the last row, of small area
    metric = registry().build("metrics", "weather/crps")
    value = metric.compute(SampleSet(states + polar, condition, data.domain), truth)
    assert value == pytest.approx(float(weights[-1].mean()) / 15, rel=1e-4)
    assert "area" in metric.card.version
    assert "standard" in metric.card.version


def test_verify_says_what_does_not_fit():
    forecast, truth, climatology = world(times=5)
    with pytest.raises(AnydiffError, match="1 of 5 fields of the ensemble have valid times that the truth lacks"):
        metrics.verify(forecast, truth.isel(time=slice(4)), climatology)
    with pytest.raises(AnydiffError, match="needs 'number'"):
        metrics.verify(truth, truth, climatology)


def test_pictures_are_written(tmp_path):
    data = Era5Members()
    states, condition = data.batch(range(9))
    objects = data.domain.decode(states, condition)
    data.domain.draw(objects, tmp_path / "maps.png", data.domain.describe_condition(condition))
    forecast, truth, _ = world()
    histogram = core.rank_histogram(torch.from_numpy(forecast["t"].to_numpy()), torch.from_numpy(truth["t"].to_numpy()))
    pictures.draw_rank_histogram({"full": histogram.numpy(), "again": histogram.numpy()}, tmp_path / "ranks.png")
    event, chance = np.random.default_rng(0).random((2, 300))
    diagram = metrics.reliability(event < chance, chance)
    pictures.draw_reliability({"calibrated": diagram}, tmp_path / "reliability.png")
    for name in ("maps", "ranks", "reliability"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
