"""Forecasts: the GluonTS predictor, the metrics against GluonTS's own, the network."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff.metrics import SampleSet
from anydiff.metrics.ensembles import repeat_cases
from anydiff.pipeline import Pipeline, load
from anydiff.recipes import load_recipe
from anydiff.registry import KINDS, registry
from anydiff.states import ArrayCondition, Conditioning, StateSpec
from anydiff_timeseries.bundle import read_bundle
from anydiff_timeseries.domain import TimeSeries
from anydiff_timeseries.metrics import (
    AutocorrelationDistance,
    ForecastCoverage,
    LinearPredictiveScore,
    MeanWeightedQuantileLoss,
    RelativeCRPS,
    ScaledError,
    mean_weighted_quantile_loss,
)
from anydiff_timeseries.networks import StateSpace, WindowNetwork
from anydiff_timeseries.pictures import draw_forecasts
from anydiff_timeseries.predictor import TSDiffPredictor
from anydiff_timeseries.refine import RefinedPredictor, Refinement
from anydiff_timeseries.scaling import observation
from anydiff_timeseries.tsdiff import ObservationGuidance

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from gluonts.evaluation import Evaluator, make_evaluation_predictions
    from gluonts.model.predictor import Predictor
    from gluonts.model.seasonal_naive import SeasonalNaivePredictor

SMALL = [f"network.options.{change}" for change in ("width=16", "blocks=2", "cycle=2")]


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    """Untrained but awake, so that its forecasts differ from nothing."""
    made = Pipeline.untrained(load_recipe("timeseries/traffic", SMALL))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.denoiser.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made


def entries(count: int = 3, length: int = 400) -> list[dict[str, object]]:
    values = read_bundle("traffic").values[-2000:]
    start = read_bundle("traffic").start + len(read_bundle("traffic").values) - 2000
    return [
        {"start": start + 97 * k, "target": values[97 * k : 97 * k + length].copy(), "item_id": f"road {k}"}
        for k in range(count)
    ]


def predictor(pipeline: Pipeline, **options) -> TSDiffPredictor:
    return TSDiffPredictor(pipeline, **{"num_samples": 7, "nfe": 3, **options})


# Predictor ------------------------------------------------------------------------------------------------------------


def test_gluonts_evaluates_it(pipeline):
    forecasts, truth = (list(each) for each in make_evaluation_predictions(entries(), predictor(pipeline), 7))
    assert [forecast.item_id for forecast in forecasts] == ["road 0", "road 1", "road 2"]
    for forecast, series in zip(forecasts, truth, strict=True):
        assert forecast.samples.shape == (7, 24)
        assert forecast.index[0] == series.index[-24]
        assert forecast.index[-1] == series.index[-1]
    total, each = Evaluator(num_workers=0)(truth, forecasts)
    assert np.isfinite(total["mean_wQuantileLoss"])
    assert len(each) == 3


def test_it_serialises_without_pickle(pipeline, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("pickle was used")

    made = predictor(pipeline, energy="squared", scale=0.5, seed=3)
    monkeypatch.setattr(pickle, "dumps", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    made.serialize(tmp_path)
    again = Predictor.deserialize(tmp_path)
    assert again == made
    assert again != predictor(pipeline)
    assert {path.name for path in tmp_path.iterdir()} == {"gluonts-config.json", "model.safetensors", "predictor.json"}
    one, two = (next(iter(each.predict(entries(1)))).samples for each in (made, again))
    np.testing.assert_array_equal(one, two)


def test_a_damaged_predictor_is_refused(pipeline, tmp_path):
    with pytest.raises(FileFormatError, match="no predictor"):
        TSDiffPredictor.deserialize(tmp_path)
    predictor(pipeline).serialize(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(FileFormatError):
        TSDiffPredictor.deserialize(tmp_path)
    options = json.loads((tmp_path / "predictor.json").read_text())
    for text, says in (
        (json.dumps([1]), "does not hold the options"),
        (json.dumps({**options, "sed": 1}), "does not hold the options"),
        (json.dumps({**options, "scale": "4"}), "scale = '4'"),
        ("[" * 5000, "nested"),
    ):
        (tmp_path / "predictor.json").write_text(text)
        with pytest.raises(FileFormatError, match=says):
            TSDiffPredictor.deserialize(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileFormatError, match="a part of one"):
        TSDiffPredictor.deserialize(tmp_path)


def test_a_forecast_stands_on_its_own(pipeline):
    """Not on its neighbours, the batch size or how many more members are drawn, but on its place and the seed."""
    together = [forecast.samples for forecast in predictor(pipeline).predict(entries())]
    cut = [forecast.samples for forecast in predictor(pipeline, batch_size=5).predict(entries())]
    for one, two in zip(together, cut, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5 * np.abs(one).max())
    alone = next(iter(predictor(pipeline).predict(entries(1)))).samples
    np.testing.assert_allclose(alone, together[0], rtol=1e-4, atol=1e-5 * np.abs(alone).max())
    other = next(iter(predictor(pipeline, seed=1).predict(entries(1)))).samples
    assert np.abs(other - alone).mean() > 1


@pytest.mark.parametrize("unit", [1e-6, 0.37, 1e7])
def test_a_forecast_follows_the_unit_of_its_series(pipeline, unit):
    one = next(iter(predictor(pipeline).predict(entries(1)))).samples
    scaled = [{**entry, "target": entry["target"] * unit} for entry in entries(1)]
    two = next(iter(predictor(pipeline).predict(scaled))).samples
    np.testing.assert_allclose(two / unit, one, rtol=1e-4, atol=1e-5 * np.abs(one).mean())


def test_missing_values_in_the_context_are_not_observed(pipeline):
    """Random, at the start and at the end: whatever stood there plays no part."""
    (entry,) = entries(1)
    for gap in (slice(240, 300), slice(380, 400), np.random.default_rng(0).choice(np.arange(232, 400), 84, False)):
        holed = entry["target"].copy()
        holed[gap] = np.nan
        forecast = next(iter(predictor(pipeline).predict([{**entry, "target": holed}])))
        assert np.isfinite(forecast.samples).all()
        longer = next(iter(predictor(pipeline).predict([{**entry, "target": np.r_[np.full(50, np.nan), holed]}])))
        np.testing.assert_allclose(longer.samples, forecast.samples, rtol=1e-6)


def test_pandas_in_and_out(pipeline):
    index = pd.date_range("2024-01-01", periods=200, freq="h")
    frame = pd.DataFrame({"a": 5 + np.sin(np.arange(200) / 4), "b": 900 + np.cos(np.arange(200) / 4)}, index=index)
    forecasts = predictor(pipeline).forecast(frame)
    assert list(forecasts) == ["a", "b"]
    assert forecasts["b"].shape == (24, 7)
    assert forecasts["a"].index[0] == pd.Period("2024-01-09 08:00", "h")
    with pytest.raises(AnydiffError, match="2 series are named 'a'"):
        predictor(pipeline).forecast(pd.concat([frame["a"], frame["a"]], axis=1))
    rows = [frame[[name]].set_axis(["target"], axis=1).assign(item_id=name) for name in ("a", "b")]
    long = predictor(pipeline).forecast(pd.concat(rows))
    for name in ("a", "b"):
        pd.testing.assert_frame_equal(long[name], forecasts[name])
    utc = predictor(pipeline).forecast(frame.tz_localize("UTC"))
    pd.testing.assert_frame_equal(utc["b"], forecasts["b"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"target": np.ones(100)}, "100 steps, but the context is 168"),
        ({"target": np.full(400, np.nan)}, "no observed value"),
        ({"target": np.zeros(400)}, "all zero"),
        ({"start": pd.Period("2020-01-01", "D")}, "frequency 'D'"),
    ],
)
def test_series_without_a_forecast_are_named(pipeline, change, says):
    with pytest.raises(AnydiffError, match=says) as error:
        list(predictor(pipeline).predict([{**entries(1)[0], **change}]))
    assert "'road 0'" in str(error.value)


def test_a_constant_series_has_a_forecast(pipeline):
    forecast = next(iter(predictor(pipeline).predict([{**entries(1)[0], "target": np.full(400, 7.0)}])))
    assert np.isfinite(forecast.samples).all()


def test_bad_predictors(pipeline):
    with pytest.raises(UnknownNameError, match="energy"):
        predictor(pipeline, energy="quantil")
    with pytest.raises(AnydiffError, match="num_samples"):
        predictor(pipeline, num_samples=0)
    with pytest.raises(AnydiffError, match="cannot be written"):
        predictor(pipeline, guidance=ObservationGuidance("squared", 9.0)).serialize(Path("never"))


def test_the_conditional_twin_reads_the_context_and_is_not_guided():
    made = Pipeline.untrained(load_recipe("timeseries/traffic-conditional", SMALL))
    with torch.no_grad():
        for parameter in made.denoiser.parameters():
            parameter.add_(0.1)
    told = predictor(made)
    assert told.guidance == []
    first, second = (forecast.samples for forecast in told.predict(entries(2)))
    assert first.shape == second.shape == (7, 24)
    assert not np.allclose(first / first.mean(), second / second.mean())


# Refinement ----------------------------------------------------------------------------------------------------------


def test_refined_predictor(pipeline):
    base = SeasonalNaivePredictor(prediction_length=24, season_length=24)
    still = RefinedPredictor(base, pipeline, Refinement(iterations=0), num_samples=5)
    moved = RefinedPredictor(base, pipeline, Refinement("langevin"), num_samples=5)
    naive = next(iter(base.predict(entries(1))))
    same = next(iter(still.predict(entries(1))))
    assert same.samples.shape == (5, 24)
    np.testing.assert_allclose(same.samples, np.repeat(naive.samples, 5, 0), rtol=1e-5)
    assert same.start_date == naive.start_date
    other = next(iter(moved.predict(entries(1)))).samples
    assert np.abs(other - same.samples).max() > 0.1
    np.testing.assert_array_equal(other, next(iter(moved.predict(entries(1)))).samples)
    with pytest.raises(AnydiffError, match="'road 0' has frequency 'D'"):
        next(iter(moved.predict([{**entries(1)[0], "start": pd.Period("2020-01-01", "D")}])))
    with pytest.raises(AnydiffError, match="use one prediction length"):
        RefinedPredictor(SeasonalNaivePredictor(prediction_length=3, season_length=24), pipeline)


# Metrics -------------------------------------------------------------------------------------------------------------


def forecasts_and_reference(cases: int = 4, members: int = 9):
    """Random forecasts in the layout of ensembles, the reference, and both as GluonTS has them."""
    domain = TimeSeries(24, 6, season=12)
    generator = np.random.default_rng(1)
    past = generator.uniform(5, 50, (cases, 1)) * (1 + 0.2 * generator.standard_normal((cases, 24)))
    truth = past[:, -6:] * generator.uniform(0.8, 1.2, (cases, 6))
    drawn = truth[:, None] * generator.uniform(0.7, 1.4, (cases, members, 6))
    condition = Conditioning.of(observed=observation(past, 6))
    reference = SampleSet(domain.encode(np.c_[past, truth]), condition, domain)
    scale = np.abs(past).mean(1)[:, None, None]
    states = np.concatenate([np.repeat(past[:, None], members, 1), drawn], axis=2) / scale
    ordered = torch.from_numpy(states).float().transpose(0, 1).reshape(cases * members, 1, 30)
    samples = SampleSet(ordered, repeat_cases(condition, members), domain)
    return samples, reference, past, truth, drawn


def test_the_metrics_are_those_of_gluonts():
    from gluonts.model.forecast import SampleForecast

    samples, reference, past, truth, drawn = forecasts_and_reference()
    start = pd.Period("2024-01-01", "h")
    series = [
        pd.DataFrame(np.r_[p, y], index=pd.period_range(start, periods=30, freq="h"))
        for p, y in zip(past, truth, strict=True)
    ]
    forecasts = [SampleForecast(each, start + 24) for each in drawn]
    total, _ = Evaluator(seasonality=12, num_workers=0)(series, forecasts)
    assert MeanWeightedQuantileLoss().compute(samples, reference) == pytest.approx(
        total["mean_wQuantileLoss"], rel=1e-5
    )
    assert ScaledError().compute(samples, reference) == pytest.approx(total["MASE"], rel=1e-5)


def test_the_loss_over_all_levels_is_the_crps():
    """2 ∫ pinball dq = CRPS, by a fine grid of levels; and N(0, 1) at 0 has 0.233695."""
    samples, reference, *_ = forecasts_and_reference()
    levels = (np.arange(20_000) + 0.5) / 20_000
    _, _, _, truth, drawn = forecasts_and_reference()
    total = 0.0
    for members, y in zip(drawn, truth, strict=True):
        quantile = np.quantile(members, levels, axis=0, method="inverted_cdf")
        total += (2 * np.abs((quantile - y) * ((y <= quantile) - levels[:, None]))).mean(0).sum()
    assert RelativeCRPS().compute(samples, reference) == pytest.approx(total / np.abs(truth).sum(), rel=1e-3)
    from statistics import NormalDist

    normal = np.array([NormalDist().inv_cdf(q) for q in levels])
    assert (2 * np.abs(normal * ((normal >= 0) - levels))).mean() == pytest.approx(0.233695, abs=1e-4)


def test_perfect_forecasts_and_bad_input():
    samples, reference, *_ = forecasts_and_reference(members=1)
    perfect = SampleSet(reference.states, reference.condition, reference.domain)
    for metric in (MeanWeightedQuantileLoss(), RelativeCRPS(), ScaledError()):
        assert metric.compute(perfect, reference) == pytest.approx(0.0, abs=1e-6)
    assert 0 <= ForecastCoverage().compute(samples, reference) <= 0.9
    with pytest.raises(AnydiffError, match="zero everywhere"):
        mean_weighted_quantile_loss(np.ones((1, 1, 2)), np.zeros((1, 2)))
    flat = SampleSet(torch.ones(2, 1, 30), Conditioning.of(observed=observation(np.ones((2, 24)), 6)), reference.domain)
    with pytest.raises(AnydiffError, match="MASE is undefined"):
        ScaledError().compute(flat, flat)


def test_linear_predictive_score_finds_good_training_data():
    from anydiff_timeseries.data import SeasonalGaussian

    train, test = SeasonalGaussian(count=1500), SeasonalGaussian("test", 200)
    sets = [SampleSet(*data.batch(range(len(data))), data.domain) for data in (train, test)]
    score, distance = LinearPredictiveScore(), AutocorrelationDistance()
    shuffled = sets[0].states[:, :, torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    broken = SampleSet(shuffled, sets[0].condition, sets[0].domain)
    assert score.compute(sets[0], sets[1]) < 0.8 * score.compute(broken, sets[1])
    assert distance.compute(sets[0], sets[1]) < 0.3 * distance.compute(broken, sets[1])


# Network --------------------------------------------------------------------------------------------------------------


def test_the_state_space_is_its_recurrence_in_both_directions():
    """y_n = Σ_{m <= n} k(n - m) x_m + Σ_{m > n} k'(m - n - 1) x_m + d x_n, before the mixing of channels."""
    torch.manual_seed(0)
    layer, length = StateSpace(3, states=4), 11
    layer.mix = torch.nn.Identity()
    x = torch.randn(2, 3, length)
    forward, backward = layer.kernel(length)
    expected = layer.direct[:, None] * x
    expected = expected.clone()
    for n in range(length):
        for m in range(length):
            weight = forward[:, n - m] if m <= n else backward[:, m - n - 1]
            expected[:, :, n] += weight * x[:, :, m]
    torch.testing.assert_close(layer(x), torch.nn.functional.silu(expected), rtol=1e-4, atol=1e-5)


def test_network_options():
    spec, conditions = StateSpec.single((1, 48)), {"observed": ArrayCondition((2, 48))}
    for mixer in ("dilated", "state-space"):
        for patch in (1, 5):
            network = WindowNetwork(
                spec, conditions, width=8, blocks=2, mixer=mixer, patch_size=patch, reads=["observed"]
            )
            assert network(torch.zeros(3, 1, 48), torch.zeros(3)).shape == (3, 1, 48)
    for options, says in (
        ({"mixer": "lstm"}, "mixer"),
        ({"reads": ["past"]}, "array condition"),
        ({"width": 0}, "width"),
    ):
        with pytest.raises(AnydiffError, match=says):
            WindowNetwork(spec, conditions, **options)
    with pytest.raises(AnydiffError, match=r"\(channels, steps\)"):
        WindowNetwork(StateSpec.single((4,)))
    network = WindowNetwork(spec, conditions, width=8, blocks=1, reads=["observed"])
    with pytest.raises(AnydiffError, match="values and the mask"):
        network(torch.zeros(3, 1, 48), torch.zeros(3), Conditioning.of(observed=torch.zeros(3, 48)))


def test_an_observation_that_is_absent_has_no_influence():
    torch.manual_seed(0)
    spec, conditions = StateSpec.single((1, 48)), {"observed": ArrayCondition((2, 48))}
    network = WindowNetwork(spec, conditions, width=8, blocks=1, reads=["observed"])
    torch.nn.init.normal_(network.exit.weight)
    x, level, observed = torch.randn(2, 1, 48), torch.zeros(2), torch.ones(2, 2, 48)
    observed[1] = torch.nan
    half = network(x, level, Conditioning({"observed": observed}, present={"observed": torch.tensor([True, False])}))
    full = network(x, level, Conditioning({"observed": torch.ones(2, 2, 48)}))
    torch.testing.assert_close(half, torch.cat([full[:1], network(x, level)[1:]]))
    assert not torch.equal(full[1], half[1])


# Plugin ---------------------------------------------------------------------------------------------------------------


def test_everything_registered_loads():
    found = [entry for kind in KINDS for entry in registry().entries(kind) if entry.plugin == "timeseries"]
    assert {"domains", "datasets", "networks", "guidance", "metrics", "recipes"} <= {entry.kind for entry in found}
    for entry in found:
        assert callable(entry.load()), entry


def test_importing_the_plugin_imports_nothing_heavy():
    code = (
        "import sys, anydiff_timeseries, anydiff_timeseries.ledger\n"
        "print({'torch', 'numpy', 'pandas', 'gluonts'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_fan_chart(tmp_path):
    past, members = np.random.default_rng(0).random((2, 48)), np.random.default_rng(1).random((2, 20, 24))
    past[0, 10:14] = np.nan
    draw_forecasts(past, members, tmp_path / "fan.png", members[:, 0], ["a", "b"], "vehicles", tail=30)
    assert (tmp_path / "fan.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(AnydiffError, match="no window"):
        TimeSeries().draw([], tmp_path / "none.png")


def test_weights_that_are_bundled_forecast():
    bundled = [e for e in registry().entries("recipes") if e.plugin == "timeseries" and e.metadata.get("weights")]
    for entry in bundled:
        forecast = next(iter(TSDiffPredictor(load(entry.name), num_samples=3, nfe=5).predict(entries(1))))
        assert np.isfinite(forecast.samples).all()
