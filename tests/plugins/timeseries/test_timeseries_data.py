"""Series and windows: what is read is what was meant, and what cannot be read is refused in one sentence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anydiff.data.cache import is_cached
from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff.states import Conditioning
from anydiff_timeseries import bundle, ledger
from anydiff_timeseries.baselines import gaussian_given, linear_gaussian, seasonal_naive, weekly_naive
from anydiff_timeseries.data import (
    BeijingPM25,
    CSVSeries,
    ExchangeRate,
    FrameSeries,
    SeasonalGaussian,
    Traffic,
    conditional,
)
from anydiff_timeseries.domain import TimeSeries, last_values
from anydiff_timeseries.scaling import known_values, level, observation, relative
from anydiff_timeseries.series import as_series, from_entry

HOURS = pd.date_range("2020-01-01", periods=72, freq="h")


def wave(count: int = 72) -> np.ndarray:
    return 10 + 3 * np.sin(np.arange(count) * 2 * np.pi / 24)


def small(**options) -> TimeSeries:
    return TimeSeries(**{"context": 24, "prediction": 6, "season": 12, **options})


# Series ---------------------------------------------------------------------------------------------------------------


def test_every_form_gives_the_same_series():
    frame = pd.Series(wave(), index=HOURS, name="load")
    forms = [
        frame,
        frame.to_frame(),
        {"load": frame},
        [{"start": pd.Period("2020-01-01", "h"), "target": wave(), "item_id": "load"}],
        [{"start": "2020-01-01 00:00", "target": wave().tolist(), "item_id": "load"}],
        frame.set_axis(HOURS.to_period("h")),
    ]
    for form in forms:
        (one,) = as_series(form, "h")
        assert one.name == "load"
        assert str(one.start) == "2020-01-01 00:00"
        np.testing.assert_array_equal(one.values, wave())
    assert as_series(frame, "h")[0].to_pandas().index[-1] == pd.Period("2020-01-03 23:00", "h")


def test_a_gap_in_the_stamps_is_missing_values():
    holed = pd.Series(wave(), index=HOURS, name="load").drop(HOURS[5:9])
    (one,) = as_series(holed, "h")
    assert len(one) == 72
    assert np.isnan(one.values[5:9]).all()
    assert np.isnan(one.values).sum() == 4


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (HOURS.tz_localize("Europe/Berlin"), "time zone"),
        (HOURS[[0, 1, 1, *range(3, 72)]], "twice"),
        (HOURS[::-1], "not in order"),
        (HOURS[:71].append(pd.DatetimeIndex(["2020-01-03 23:17"])), "irregular"),
        (pd.RangeIndex(72), "time stamps"),
        (HOURS.to_period("D"), "frequency"),
        (pd.DatetimeIndex([pd.NaT, *HOURS[1:]]), "missing time stamp"),
    ],
)
def test_bad_time_stamps_are_refused_with_the_series_name(index, says):
    with pytest.raises(AnydiffError, match=says) as error:
        as_series(pd.Series(wave(), index=index, name="load"), "h")
    assert "'load'" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.full(72, np.nan), "no observed value"),
        (np.where(np.arange(72) == 9, np.inf, wave()), "infinite at 2020-01-01 09:00"),
        (np.array(["a"] * 72, dtype=object), "no number"),
    ],
)
def test_bad_values_are_refused(values, says):
    with pytest.raises(AnydiffError, match=says):
        as_series(pd.Series(values, index=HOURS, name="load"), "h")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"target": [1.0]}, "'start'"),
        ({"start": pd.Period("2020-01-01", "h")}, "'target'"),
        ({"start": pd.Period("2020-01-01", "D"), "target": [1.0]}, "frequency 'D'"),
        ({"start": pd.Timestamp("2020-01-01", tz="Europe/Berlin"), "target": [1.0]}, "time zone"),
        ({"start": pd.Period("2020-01-01", "h"), "target": [[1.0]]}, "univariate"),
    ],
)
def test_bad_entries_are_refused(entry, says):
    with pytest.raises(AnydiffError, match=says):
        from_entry({"item_id": "load", **entry}, "h")


def test_data_that_are_no_series_are_refused():
    for data, says in (
        (3, "int"),
        ([], "no series"),
        ([1.0, 2.0], "mapping"),
        (pd.Series([], index=HOURS[:0]), "empty"),
    ):
        with pytest.raises(AnydiffError, match=says):
            as_series(data, "h")


# Windows --------------------------------------------------------------------------------------------------------------


def test_training_windows_are_complete_and_in_units_of_their_level():
    values = wave(200)
    values[70] = np.nan
    data = FrameSeries(pd.Series(values, index=pd.date_range("2020", periods=200, freq="h")), small())
    assert len(data) == (70 - 30 + 1) + (129 - 30 + 1)
    states, condition = data.batch(range(len(data)))
    torch.testing.assert_close(states[:, 0, :24].abs().mean(1), torch.ones(len(data)))
    assert torch.equal(condition.given["observed"][:, 1], (torch.arange(30) < 24).float().expand(len(data), 30))
    back = data.domain.values(states, condition)
    np.testing.assert_allclose(back.numpy(), data.windows(range(len(data))), rtol=1e-6)


def test_test_contexts_may_have_gaps_and_predictions_may_not():
    values = wave(200)
    values[[30, 31, 90]] = np.nan
    data = FrameSeries(
        pd.Series(values, index=pd.date_range("2020", periods=200, freq="h")), small(), "test", test_windows=10_000
    )
    windows = data.windows(range(len(data)))
    assert not np.isnan(windows[:, 24:]).any()
    assert np.isnan(windows[:, :24]).any()
    states, condition = data.batch(range(len(data)))
    assert states.isfinite().all()
    missing = torch.from_numpy(np.isnan(windows[:, :24]))
    assert torch.equal(condition.given["observed"][:, 1, :24] == 0, missing)


def test_the_loss_of_the_conditional_twin_is_on_the_prediction():
    data = FrameSeries(pd.Series(wave(), index=HOURS), small(), loss="prediction")
    _, condition = data.batch([0, 1])
    assert torch.equal(condition.loss_weight[0, 0], (torch.arange(30) >= 24).float())


@pytest.mark.parametrize("hide", ["random", "start", "end"])
def test_half_of_the_context_can_be_hidden(hide):
    whole = FrameSeries(pd.Series(wave(), index=HOURS), small())
    half = FrameSeries(pd.Series(wave(), index=HOURS), small(), hide=hide)
    assert half.hash != whole.hash
    states, condition = half.batch(range(len(half)))
    shown = condition.given["observed"][:, 1, :24]
    assert shown.sum(1).tolist() == [12.0] * len(half)
    if hide != "random":
        assert torch.equal(shown[0] > 0, (torch.arange(24) < 12) == (hide == "end"))
    # What is hidden is hidden from the network, not from the loss; the unit follows from what is shown.
    np.testing.assert_allclose(
        half.domain.values(states, condition).numpy(), whole.windows(range(len(whole))), rtol=1e-6
    )
    assert torch.equal(half.batch([5])[1].given["observed"][0], condition.given["observed"][5])


@pytest.mark.parametrize(
    ("values", "options", "says"),
    [
        (wave(20), {}, "20 steps, but a window has 30"),
        (np.full(72, 4.0), {}, "constant"),
        (np.where(np.arange(72) % 20 == 0, np.nan, wave()), {}, "no train window"),
        (wave(), {"split": "tset"}, "split"),
        (wave(), {"loss": "some"}, "loss"),
        (wave(), {"hide": "all"}, "half to hide"),
        (wave(), {"stride": 0}, "stride"),
    ],
)
def test_series_that_cannot_be_trained_on_are_refused(values, options, says):
    frame = pd.Series(values, index=HOURS[: len(values)], name="load")
    with pytest.raises(AnydiffError, match=says):
        FrameSeries(frame, small(), **options)


def test_bundled_series_are_the_published_ones():
    traffic, pm25 = bundle.read_bundle("traffic"), bundle.read_bundle("pm25")
    assert (len(traffic), int(np.isnan(traffic.values).sum())) == (52551, 11976)
    assert (len(pm25), int(np.isnan(pm25.values).sum())) == (43824, 2067)
    assert traffic.values[0] == 5545
    assert str(traffic.start) == "2012-10-02 09:00"
    assert np.nanmax(pm25.values) == 994
    assert bundle.BUNDLE.stat().st_size < 5_000_000


def test_train_and_test_do_not_overlap():
    train, test = Traffic("train"), Traffic("test")
    assert len(test) == 64
    last = train.series[0].start + train.chosen[-1][1] + train.domain.length - 1
    first = test.series[0].start + test.chosen[0][1] + test.domain.context
    assert last < first
    assert first >= pd.Period("2018-04-01 00:00", "h")
    gaps = BeijingPM25("test").batch(range(64))[1].given["observed"][:, 1, :168]
    assert bool((gaps == 0).any())


def test_exchange_rates_of_a_file(tmp_path, monkeypatch):
    rates = np.random.default_rng(0).uniform(0.5, 1.5, (4400, 8)).round(6)
    np.savetxt(tmp_path / "exchange_rate.txt", rates, fmt="%.6f", delimiter=",")
    train, test = (ExchangeRate(split, path=tmp_path / "exchange_rate.txt") for split in ("train", "test"))
    assert [len(one) for one in train.series] == [4175] * 8
    assert len(test) == 64
    np.testing.assert_allclose(train.windows([0])[0], rates[:150, 0])
    assert {number for number, _ in test.chosen} == set(range(8))
    for text, says in (("1.0,2.0\n" * 9, "2 columns"), ("a,b\n", "cannot be read"), ("nan," * 7 + "1\n", "not finite")):
        (tmp_path / "exchange_rate.txt").write_text(text)
        with pytest.raises(AnydiffError, match=says):
            ExchangeRate(path=tmp_path / "exchange_rate.txt")
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path / "empty"))
    with pytest.raises(AnydiffError, match="anydiff data get timeseries/exchange-rate"):
        ExchangeRate()


@pytest.mark.skipif(
    not is_cached(ledger.EXCHANGE), reason="not bundled; `anydiff data get timeseries/exchange-rate` fetches it"
)
def test_the_real_exchange_rates():
    train, test = ExchangeRate("train"), ExchangeRate("test")
    assert len(train.series) == 8
    assert len(train.series[0]) + len(test.series[0]) - test.domain.context == 7588
    assert len(test) == 64
    assert train.series[0].values[0] == pytest.approx(0.7855)
    assert train.batch([0])[0].shape == (1, 1, 150)


def test_damaged_bundle(tmp_path):
    (tmp_path / "hourly.npz").write_bytes(b"PK")
    with pytest.raises(FileFormatError, match="install anydiff-timeseries again"):
        bundle.read_bundle("traffic", tmp_path / "hourly.npz")


def test_csv_of_ones_own(tmp_path):
    path = tmp_path / "load.csv"
    frame = pd.DataFrame({"when": pd.date_range("2020", periods=300, freq="h"), "load": wave(300)})
    frame.loc[50, "load"] = np.nan
    frame.to_csv(path, index=False)
    train = CSVSeries(str(path), "2020-01-08", context=24, prediction=6, season=12)
    test = CSVSeries(str(path), "2020-01-08", "test", context=24, prediction=6, season=12)
    assert len(train) > len(test) > 5
    for text, says in (("when\n1\n", "1 column"), ("a,b\nx,1\n", "no time stamp"), ("", "no CSV")):
        path.write_text(text)
        with pytest.raises(FileFormatError, match=says):
            CSVSeries(str(path), "2020-01-08")
    with pytest.raises(AnydiffError, match="check the path"):
        CSVSeries(str(tmp_path / "none.csv"), "2020-01-08")
    frame.to_csv(path, index=False)
    with pytest.raises(AnydiffError, match="boundary"):
        CSVSeries(str(path), "2021-01-08")


# Domain ---------------------------------------------------------------------------------------------------------------


def test_decoding_gives_the_series_own_units_back():
    domain = small()
    windows = [wave(30), 1000 * wave(30)]
    states = domain.encode(windows)
    torch.testing.assert_close(states[0], states[1])
    observed = observation(np.stack(windows)[:, :24], 6)
    for window, decoded in zip(windows, domain.decode(states, Conditioning.of(observed=observed)), strict=True):
        np.testing.assert_allclose(decoded, window, rtol=1e-6)
        assert list(decoded.index) == list(range(-24, 6))


def test_files(tmp_path):
    domain = small()
    windows = domain.decode(domain.encode([wave(30), wave(30)[::-1]]))
    domain.write(windows, tmp_path / "w.csv")
    for one, two in zip(windows, domain.read(tmp_path / "w.csv"), strict=True):
        np.testing.assert_array_equal(one, two)
    with pytest.raises(FileFormatError, match="another context"):
        TimeSeries(20, 6, season=10).read(tmp_path / "w.csv")
    (tmp_path / "w.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FileFormatError, match="columns"):
        domain.read(tmp_path / "w.csv")


def test_a_history_on_the_command_line(tmp_path):
    domain, path = small(), tmp_path / "history.csv"
    pd.DataFrame({"when": HOURS, "load": wave()}).to_csv(path, index=False)
    parsed = domain.parse_condition({"observed": str(path)}, 3)["observed"]
    assert parsed.shape == (3, 2, 30)
    np.testing.assert_allclose(parsed[0, 0, :24], wave()[-24:], rtol=1e-6)
    assert domain.describe_condition(Conditioning.of(observed=parsed)) == ["case 0"] * 3
    with pytest.raises(UnknownNameError, match="observed"):
        domain.parse_condition({"observe": str(path)}, 3)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (wave(20), "20 steps, but the context is 24"),
        (np.r_[wave(10), np.full(24, np.nan)], "all missing"),
        (np.r_[wave(10), np.zeros(24)], "all zero"),
    ],
)
def test_pasts_that_give_no_forecast(values, says):
    with pytest.raises(AnydiffError, match=says) as error:
        last_values(values, "load", 24)
    assert "'load'" in str(error.value)


def test_bad_domains_and_windows():
    for options, says in (
        ({"context": 0}, "context"),
        ({"season": 25}, "season"),
        ({"freq": "fortnight"}, "freq"),
    ):
        with pytest.raises(AnydiffError, match=says):
            small(**options)
    for window, says in ((wave(29), "shape"), (np.full(30, np.nan), "missing"), (["x"] * 30, "no numbers")):
        with pytest.raises(AnydiffError, match=says):
            small().encode([window])
    assert small().encode([]).shape == (0, 1, 30)


@settings(deadline=None, max_examples=30)
@given(st.floats(1e-3, 1e6), st.integers(0, 2**24 - 2))
def test_level_is_of_the_observed_alone(unit, hidden):
    mask = torch.tensor([(hidden >> bit) & 1 for bit in range(24)], dtype=torch.float64)
    mask[0] = 1
    values = torch.from_numpy(unit * wave(24))
    spoilt = torch.where(mask > 0, values, torch.nan)
    observed = torch.stack([spoilt, mask])[None]
    assert float(level(observed)) == pytest.approx(float(values[mask > 0].abs().mean()), rel=1e-9)
    assert known_values(observed).isfinite().all()
    seen = relative(observed)[0, 0][mask > 0]
    assert float(seen.abs().mean()) == pytest.approx(1.0, rel=1e-9)


# Baselines ------------------------------------------------------------------------------------------------------------


def test_seasonal_naive_repeats_the_last_season_and_steps_over_gaps():
    domain = small()
    context = wave(24)
    context[-3] = np.nan
    data = FrameSeries(pd.Series(wave(), index=HOURS), domain)
    condition = Conditioning.of(observed=observation(context[None], 6))
    states = seasonal_naive(data, condition, 1, 0)
    ahead = domain.values(states, condition)[0, 24:].numpy()
    np.testing.assert_allclose(ahead, context[12:18], rtol=1e-6)
    late = TimeSeries(24, 12, season=12)
    condition = Conditioning.of(observed=observation(context[None], 12))
    full = seasonal_naive(FrameSeries(pd.Series(wave(), index=HOURS), late), condition, 1, 0)
    ahead = late.values(full, condition)[0, 24:].numpy()
    assert ahead[9] == pytest.approx(context[9], rel=1e-6)  # the gap: the season before


def test_a_season_longer_than_the_context_is_refused():
    data = FrameSeries(pd.Series(wave(), index=HOURS), small())
    with pytest.raises(AnydiffError, match="168 steps cannot be repeated from a context of 24"):
        weekly_naive(data, Conditioning.of(observed=observation(wave(24)[None], 6)), 1, 0)


def test_the_linear_forecast_is_the_conditional_gaussian():
    from anydiff_timeseries.data import seasonal_covariance

    covariance = seasonal_covariance()
    _, condition = SeasonalGaussian("test", 3).batch(range(3))
    seen = condition.given["observed"].double()
    mean, rest = conditional(seen, covariance)
    noise = torch.randn(20000, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = seen[:1, 0].expand(20000, -1)
    drawn = gaussian_given(torch.zeros(40).double(), covariance, seen[0, 1] > 0, values, noise)
    torch.testing.assert_close(drawn[:, 32:].mean(0), mean[0], rtol=0, atol=0.02)
    torch.testing.assert_close(drawn[:, 32:].T.cov(), rest, rtol=0, atol=0.02)
    assert torch.equal(drawn[:, :32], values[:, :32])
    data = SeasonalGaussian(count=500)
    states = linear_gaussian(data, condition, 3, 0)
    assert states.shape == (3, 1, 40)
    assert torch.equal(states, linear_gaussian(data, condition, 3, 0))
