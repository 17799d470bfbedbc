"""SEEDS: pairs, climatology of two days, exchangeable seeds, the simulator, and a sentence for each bad forecast."""

import numpy as np
import pytest
import torch
import xarray

from anydiff.errors import AnydiffError, FileFormatError, NonFiniteError
from anydiff.states import ArrayCondition, Conditioning, StateSpec, VectorCondition
from anydiff_weather import lorenz96
from anydiff_weather.climatology import Climatology
from anydiff_weather.data import ForecastCases, Lorenz96Cases
from anydiff_weather.domain import Weather, decode_day, encode_day
from anydiff_weather.forecast_files import ForecastFiles
from anydiff_weather.forecasts import forecast_conditions
from anydiff_weather.networks import SetAxialAttention
from anydiff_weather.seeds import TRUTH, training_pairs


def past(years=3, size=5, seed=0):
    """A field with a seasonal mean and spread that are known."""
    generator = np.random.default_rng(seed)
    time = np.arange("2001-01-01", f"{2001 + years}-01-01", dtype="datetime64[D]").astype("datetime64[ns]")
    angle = 2 * np.pi * xarray.DataArray(time).dt.dayofyear.to_numpy() / 365.25
    mean = 280 + 10 * np.cos(angle)[:, None, None] + np.arange(size)
    values = mean + (2 + np.sin(angle))[:, None, None] * generator.normal(size=(len(time), 2, size))
    axes = {"time": time, "latitude": [-10.0, 10.0], "longitude": np.arange(size) * 360.0 / size}
    return xarray.Dataset({"t": (("time", "latitude", "longitude"), values, {"units": "K"})}, axes)


def forecast(times=4, members=5, size=5, lead=30):
    generator = np.random.default_rng(1)
    time = np.array("2003-03-01", "datetime64[ns]") + np.arange(times) * np.timedelta64(40, "D")
    values = 280 + 3 * generator.normal(size=(times, members, 2, size)).astype(np.float32)
    axes = {
        "time": time,
        "number": np.arange(members),
        "latitude": [-10.0, 10.0],
        "longitude": np.arange(size) * 360.0 / size,
        "step": np.timedelta64(lead, "D").astype("timedelta64[ns]"),
    }
    dims = ("time", "number", "latitude", "longitude")
    return xarray.Dataset({"t": (dims, values, {"units": "K", "standard_name": "air_temperature"})}, axes)


@pytest.fixture(scope="module")
def climatology(tmp_path_factory):
    path = tmp_path_factory.mktemp("climatology") / "climatology.nc"
    Climatology.fit(past(years=12), harmonics=1).write(path)
    return path


def test_pairs_are_every_choice_of_seeds_with_its_labels():
    seeds, label = training_pairs(5, 2, 3, 0)
    assert seeds.shape == (30, 2)
    assert all(each not in chosen for chosen, each in zip(seeds.tolist(), label.tolist(), strict=True))
    _, label = training_pairs(5, 2, 3, 4)
    assert (label == TRUTH).mean() == pytest.approx(4 / 7)
    for wrong, sentence in [((4, 2, 3, 0), "has 4 members"), ((5, 2, 0, 0), "nothing to learn")]:
        with pytest.raises(AnydiffError, match=sentence):
            training_pairs(*wrong)


def test_the_climatology_finds_the_season_of_mean_and_spread(climatology):
    found = Climatology.read(climatology)
    day = np.arange(1, 367)
    angle = 2 * np.pi * day / 365.25
    mean, std = found.arrays
    assert np.abs(mean[:, 0, 0, 2] - (282 + 10 * np.cos(angle))).max() < 0.35
    expected = np.sqrt(4.5 + 4 * np.sin(angle))  # the part of (2 + sin)² in one harmonic
    assert np.abs(std[:, 0, 0, 2] - expected).max() < 0.3
    assert found.variables == ("t",)
    assert found.grid == ("latitude", "longitude")


def test_anomalies_are_those_of_the_valid_day_and_the_field_told_is_that_of_the_base_day(climatology):
    domain = Weather(str(climatology))
    data = forecast(lead=150)
    condition = forecast_conditions(domain, data)
    base, valid = (data["time"] + lag for lag in (np.timedelta64(0, "D"), np.timedelta64(150, "D")))
    assert decode_day(condition["valid_day"]).tolist() == valid.dt.dayofyear.to_numpy().tolist()
    mean, std = domain.climatology.arrays
    row, day = 2, int(valid.dt.dayofyear[2]) - 1
    expected = (data["t"][row, :2].to_numpy() - mean[day]) / std[day]
    np.testing.assert_allclose(condition["members"][row, :, 0], expected[:, :], rtol=1e-4, atol=1e-5)
    yearly_mean, yearly_std = domain.climatology.yearly
    told = (mean[int(base.dt.dayofyear[row]) - 1] - yearly_mean) / yearly_std
    np.testing.assert_allclose(condition["climatology"][row], told, rtol=1e-5, atol=1e-6)
    swapped = (mean[day] - yearly_mean) / yearly_std
    assert np.abs(told - swapped).max() > 0.5  # at this lead the two days tell different things


def test_normalising_and_back_is_the_identity(climatology):
    domain = Weather(str(climatology))
    values = np.random.default_rng(2).normal(280, 5, (6, 1, 2, 5))
    day = np.array([1, 60, 180, 200, 365, 366])
    again = domain.climatology.denormalise(domain.climatology.normalise(values, day), day)
    np.testing.assert_allclose(again, values, rtol=1e-6)
    assert decode_day(encode_day(np.arange(1, 367))).tolist() == list(range(1, 367))


def test_fields_come_back_with_names_units_and_coordinates(climatology, tmp_path):
    domain = Weather(str(climatology))
    data = forecast()
    condition = Conditioning(forecast_conditions(domain, data))
    states = condition.given["members"][:, 0]
    objects = domain.decode(states, condition)
    first = objects[1]
    np.testing.assert_allclose(first["t"], data["t"][1, 0], rtol=1e-5)
    assert first["t"].attrs["units"] == "K"
    assert int(first["dayofyear"]) == decode_day(condition.given["valid_day"])[1]
    torch.testing.assert_close(domain.encode(objects), states, rtol=1e-4, atol=1e-4)
    for name in ("a.nc", "a.zarr", "a.nc4"):
        domain.write(objects, tmp_path / name)
        torch.testing.assert_close(domain.encode(domain.read(tmp_path / name)), states, rtol=1e-4, atol=1e-4)
    parsed = domain.parse_condition({"members": _saved(data, tmp_path / "forecast.nc")}, 4)
    torch.testing.assert_close(parsed["members"], condition.given["members"])
    for count in (1, 6):
        with pytest.raises(AnydiffError, match=f"has 4 times, .* {count} samples were asked for"):
            domain.parse_condition({"members": str(tmp_path / "forecast.nc")}, count)
    assert domain.describe_condition(condition)[0].startswith("day ")
    with pytest.raises(AnydiffError, match="follows from the forecast"):
        domain.parse_condition({"climatology": "x"}, 2)


def _saved(data, path):
    data.to_netcdf(path, engine="h5netcdf")
    return str(path)


def _with(data, **changes):
    return data.assign(t=data["t"].assign_attrs(changes))


def _spoil(data, member):
    values = data["t"].to_numpy().copy()
    values[1, slice(None) if member is None else member, 0, 0] = np.nan
    if member is not None:
        values[1, member] = np.nan
    return data.assign(t=(data["t"].dims, values, data["t"].attrs))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.drop_vars("latitude"), "no coordinate 'latitude'"),
        (lambda d: d.rename(t="t2m"), "no variable 't', but \\['t2m'\\]"),
        (lambda d: _with(d, units="degC"), "is in 'degC', but must be in 'K'"),
        (lambda d: d.assign(t=d["t"].drop_attrs()), "'t' of the forecast has no units"),
        (lambda d: d.isel(longitude=slice(0, 4)), "the longitude of the forecast has 4 values .* regrid it"),
        (lambda d: d.assign_coords(latitude=[-20.0, 20.0]), "the latitude of the forecast has 2 values from -20"),
        (lambda d: d.isel(longitude=[1, 0, 2, 3, 4]), "longitudes of the forecast are not ascending"),
        (lambda d: d.isel(number=0, drop=True), "needs 'number'"),
        (lambda d: d.isel(number=slice(0, 1)), "has 1 members, but 2 seeds"),
        (lambda d: d.drop_vars("step"), "neither 'valid_time' nor one 'step'"),
        (lambda d: d.drop_vars("time"), "no coordinate 'time'"),
        (lambda d: d.assign_coords(time=np.arange(4)), "are int64, not dates"),
        (lambda d: d.drop_vars("t"), "no variables|no variable 't'"),
    ],
)
def test_a_forecast_that_does_not_fit_gets_one_sentence(climatology, change, sentence):
    with pytest.raises(AnydiffError, match=sentence):
        forecast_conditions(Weather(str(climatology)), change(forecast()))


def test_values_that_are_not_finite_are_located(climatology):
    domain = Weather(str(climatology))
    with pytest.raises(NonFiniteError, match=r"'t' of the forecast has 5 values .* time 1, number 0"):
        forecast_conditions(domain, _spoil(forecast(), None))
    with pytest.raises(NonFiniteError, match="members are missing for some cases"):
        forecast_conditions(domain, _spoil(forecast(), 1))


def test_descending_latitudes_and_other_spellings_are_the_same_forecast(climatology):
    domain = Weather(str(climatology))
    data = forecast()
    turned = data.isel(latitude=slice(None, None, -1)).rename(latitude="lat", longitude="lon", number="realization")
    expected = forecast_conditions(domain, data)
    found = forecast_conditions(domain, _with(turned, units="kelvin"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    renamed = data.assign_coords(valid_time=("time", (data["time"] + data["step"]).to_numpy())).drop_vars("step")
    assert torch.equal(forecast_conditions(domain, renamed)["valid_day"], expected["valid_day"])


def test_own_files_train_and_are_matched_with_their_truth(climatology, tmp_path):
    data = forecast(times=10)
    valid = (data["time"] + data["step"]).to_numpy()
    truth = data.isel(number=0, drop=True).drop_vars("step").assign_coords(time=valid)
    paths = {"forecast": _saved(data, tmp_path / "f.nc"), "climatology": str(climatology)}
    train = ForecastFiles(**paths, truth=_saved(truth, tmp_path / "t.nc"), truth_labels=1)
    test = ForecastFiles(**paths, truth=str(tmp_path / "t.nc"), split="test")
    assert (len(train), len(test)) == (8 * 40, 2)
    states, condition = test.batch([0, 1])
    torch.testing.assert_close(states, condition.given["members"][:, 0])
    late = _saved(truth.isel(time=slice(1, None)), tmp_path / "late.nc")
    with pytest.raises(AnydiffError, match=r"1 of 8 fields .* the truth lacks \(first 2003-03-31T00:00"):
        ForecastFiles(**paths, truth=late)
    other = truth.convert_calendar("noleap", use_cftime=True)
    with pytest.raises(AnydiffError, match=r"calendar of the forecast is .* 'noleap'"):
        ForecastFiles(**paths, truth=_saved(other, tmp_path / "noleap.nc"))
    with pytest.raises(AnydiffError, match="does not exist"):
        ForecastFiles("none.nc", str(climatology))
    with pytest.raises(FileFormatError, match="is no climatology"):
        Weather(paths["forecast"])
    (tmp_path / "bad.nc").write_bytes(b"no netcdf")
    with pytest.raises(FileFormatError, match="cannot be read"):
        ForecastFiles(str(tmp_path / "bad.nc"), str(climatology))
    with pytest.raises(AnydiffError, match="truth_labels is 1, but no truth"):
        ForecastFiles(**paths, truth_labels=1)


def test_a_constant_variable_and_a_short_past_have_no_climatology():
    with pytest.raises(AnydiffError, match="is constant at some place"):
        Climatology.fit(past().map(lambda f: f.copy(data=np.full(f.shape, 3.0)), keep_attrs=True))
    with pytest.raises(AnydiffError, match="need at least 10"):
        Climatology.fit(past().isel(time=slice(0, 6)))


CONDITIONS = {
    "members": ArrayCondition((2, 1, 1, 12)),
    "climatology": ArrayCondition((1, 1, 12)),
    "valid_day": VectorCondition(2),
}


def network(shape=(1, 1, 12), conditions=CONDITIONS, **options):
    torch.manual_seed(0)
    made = SetAxialAttention(StateSpec.single(shape), conditions, width=16, blocks=2, heads=2, **options)
    for parameter in made.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def test_the_network_does_not_know_the_order_or_the_number_of_its_seeds():
    net = network()
    x, level, day = torch.randn(3, 1, 1, 12), torch.randn(3), torch.randn(3, 2)
    climatology = torch.randn(3, 1, 1, 12)
    for count in (1, 2, 5):
        members = torch.randn(3, count, 1, 1, 12)
        with torch.no_grad():
            condition = Conditioning.of(members=members, climatology=climatology, valid_day=day)
            one = net(x, level, condition)
            order = torch.randperm(count)
            two = net(x, level, condition.with_given(members=members[:, order]))
            three = net(x, level, net.encode_condition(condition))
        torch.testing.assert_close(one, two, rtol=0, atol=1e-5)
        torch.testing.assert_close(one, three, rtol=0, atol=1e-6)
    with torch.no_grad():
        assert (net(x, level, Conditioning.of(members=members + 1, climatology=climatology)) - one).abs().max() > 1e-3


def test_hidden_conditions_have_no_influence():
    net = network()
    x, level = torch.randn(3, 1, 1, 12), torch.randn(3)
    members, climatology = torch.randn(3, 2, 1, 1, 12), torch.randn(3, 1, 1, 12)
    shown = torch.tensor([True, False, True])
    with torch.no_grad():
        without = net(x, level, Conditioning.of(climatology=climatology))
        full = net(x, level, Conditioning.of(members=members, climatology=climatology))
        spoilt = members.clone()
        spoilt[1] = float("nan")
        given = {"members": spoilt, "climatology": climatology}
        half = net(x, level, Conditioning(given, present={"members": shown}))
    torch.testing.assert_close(half[1], without[1])
    torch.testing.assert_close(half[[0, 2]], full[[0, 2]])


def test_the_network_runs_on_a_cubed_sphere_and_refuses_what_it_cannot_read():
    conditions = {"members": ArrayCondition((2, 3, 6, 4, 4)), "climatology": ArrayCondition((3, 6, 4, 4))}
    net = network((3, 6, 4, 4), conditions, periodic=(False, False, False))
    given = {"members": torch.randn(2, 2, 3, 6, 4, 4), "climatology": torch.randn(2, 3, 6, 4, 4)}
    assert net(torch.randn(2, 3, 6, 4, 4), torch.zeros(2), Conditioning(given)).shape == (2, 3, 6, 4, 4)
    with pytest.raises(AnydiffError, match="reads the condition 'members'"):
        network(conditions={})
    with pytest.raises(AnydiffError, match="periodic is"):
        network(periodic=(True,))
    with pytest.raises(AnydiffError, match="condition 'members' has shape"):
        network()(torch.randn(2, 1, 1, 12), torch.zeros(2), Conditioning.of(members=torch.randn(2, 2, 1, 1, 11)))


def test_advection_and_exchange_conserve_energy():
    model = lorenz96.Lorenz96(forcing=0.0, zonal=0.0, season=0.0)
    state = torch.randn(4, model.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slope = model.tendency(state, torch.zeros(4, model.slow, dtype=torch.float64))
    x, y = state[:, : model.slow], state[:, model.slow :]
    # d/dt of half the sum of squares: damping alone is left (X at rate 1, Y at rate c); advection and exchange cancel.
    power = (state * slope).sum(1)
    expected = -(x.square().sum(1) + model.time_scale * y.square().sum(1))
    torch.testing.assert_close(power, expected, rtol=1e-12, atol=1e-10)
    shifted = torch.cat([torch.roll(x, 3, 1), torch.roll(y, 3 * model.fast, 1)], 1)
    turned = model.tendency(shifted, torch.zeros(4, model.slow, dtype=torch.float64))
    torch.testing.assert_close(turned[:, : model.slow], torch.roll(slope[:, : model.slow], 3, 1))


def test_the_integrator_is_of_fourth_order():
    errors = []
    for steps in (10, 20):
        state = torch.ones(1, 1, dtype=torch.float64)
        for _ in range(steps):
            state = lorenz96.runge_kutta(lambda s: -s.square(), state, 1 / steps)
        errors.append(abs(float(state) - 0.5))
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.2)


def test_the_simulator_is_repeatable_and_the_perfect_system_exchangeable():
    small = lorenz96.simulate(6, 3, 1.0, seed=5, spacing=2.0, chain=2)
    again = lorenz96.simulate(6, 3, 1.0, seed=5, spacing=2.0, chain=2)
    torch.testing.assert_close(small.perfect, again.perfect)
    assert small.biased.shape == (6, 3, 40)
    error = (small.perfect - small.truth[:, None]).std()
    between = (small.perfect[:, 0] - small.perfect[:, 1]).std()
    assert float(error / between) == pytest.approx(1.0, abs=0.25)
    assert float((small.biased - small.truth[:, None]).mean()) == pytest.approx(lorenz96.BIAS, abs=0.4)


def test_bundled_cases_have_truth_seeds_and_members():
    train, test = Lorenz96Cases(), Lorenz96Cases("test", system="biased", truth_labels=1, member_labels=0)
    assert (len(train), len(test)) == (4000 * 30, 256)
    states, condition = test.batch(range(4))
    assert states.shape == (4, 1, 1, 40)
    torch.testing.assert_close(states, test.truth[:4])
    torch.testing.assert_close(condition.given["members"], test.members[:4, :2])
    assert float(train.truth.std()) == pytest.approx(1.0, abs=0.02)
    assert float(test.members.mean()) > 0.4
    first, second = train.batch([0])[0], train.batch([29])[0]
    torch.testing.assert_close(first[0], train.members[0, 2])
    torch.testing.assert_close(second[0], train.members[0, 2])  # seeds 3 and 4: labels 0, 1, 2


def test_cases_without_truth_take_another_member(climatology):
    domain = Weather(str(climatology))
    values = np.random.default_rng(0).normal(280, 3, (3, 4, 1, 2, 5))
    day = np.array([1, 2, 3])
    cases = ForecastCases("x", domain, values, day, day, None, split="test")
    states, condition = cases.batch([2])
    torch.testing.assert_close(states[0], cases.members[2, 2])
    torch.testing.assert_close(condition.given["members"][0], cases.members[2, :2])
