"""Files of other people: formats told by their bytes, other grids, levels and units, and what contradicts a domain."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray
from weather_worlds import GRID, climatology, days, perfect, saved, truth

import anydiff_weather
from anydiff.data import hdf5
from anydiff.errors import AnydiffError, FileFormatError, NonFiniteError
from anydiff_weather.checks import check_fields
from anydiff_weather.climatology import Climatology
from anydiff_weather.domain import Weather
from anydiff_weather.files import open_dataset, write_dataset
from anydiff_weather.forecasts import forecast_conditions
from anydiff_weather.metrics import verify


@pytest.fixture(scope="module")
def past():
    return climatology()


@pytest.fixture(scope="module")
def path(past, tmp_path_factory):
    file = tmp_path_factory.mktemp("files") / "climatology.nc"
    past.write(file)
    return file


@pytest.fixture
def domain(path):
    return Weather(str(path))


# Formats --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["NETCDF3_CLASSIC", "NETCDF3_64BIT", "NETCDF4", "zarr 2", "zarr 3"])
def test_formats_are_told_by_their_bytes(kind, domain, tmp_path):
    data, file = perfect(4), tmp_path / "forecast.data"
    if kind.startswith("zarr"):
        data.to_zarr(file, consolidated=False, zarr_format=int(kind[-1]))
    elif kind == "NETCDF4":
        data.to_netcdf(file, engine="h5netcdf")
    else:
        data.to_netcdf(file, engine="scipy", format=kind)
    found = forecast_conditions(domain, open_dataset(file))
    for name, value in forecast_conditions(domain, data).items():
        np.testing.assert_array_equal(found[name], value)


def test_every_reader_is_a_declared_requirement():
    plugin = Path(anydiff_weather.__file__).parents[2]
    declared = tomllib.loads((plugin / "pyproject.toml").read_text())["project"]["dependencies"]
    needed = {each.split(">")[0].split("[")[0] for each in declared}
    assert {"h5netcdf", "h5py", "scipy", "cftime", "xarray"} <= needed


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"CDF\x05" + bytes(40), "64-bit data format .* `nccopy -k nc4"),
        (b"CDF\x01\x00\x00", "cannot be read as a NetCDF, Zarr or GRIB file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "cannot be read as a NetCDF, Zarr or GRIB file"),
        (b"time,t\n1,2\n", "begins as none of them"),
        (b"", "begins as none of them"),
    ],
)
def test_what_is_no_file_of_fields_is_one_sentence(content, sentence, tmp_path):
    (tmp_path / "a.nc").write_bytes(content)
    with pytest.raises(FileFormatError, match=sentence):
        open_dataset(tmp_path / "a.nc")


def test_a_folder_and_an_absent_file_are_one_sentence(tmp_path):
    with pytest.raises(AnydiffError, match="cannot"):
        open_dataset(tmp_path)
    with pytest.raises(AnydiffError, match="does not exist"):
        open_dataset(tmp_path / "none.zarr")


def test_more_memory_than_a_file_can_hold_is_not_granted(tmp_path):
    import h5netcdf

    with h5netcdf.File(tmp_path / "bomb.nc", "w") as file:
        file.dimensions = {"x": 10**9}
        file.create_variable("t", ("x",), "f8", chunks=(10**6,))
    with pytest.raises(FileFormatError, match="asks for 8,000,000,000 bytes"):
        open_dataset(tmp_path / "bomb.nc")


def test_a_file_in_which_the_library_loops_is_stopped(tmp_path, monkeypatch):
    content = bytearray(Path(saved(perfect(2), tmp_path / "a.nc")).read_bytes())
    heap = content.index(b"GCOL")  # HDF5's heap of attributes; an object of number 0 and size 0 has no next one
    content[heap + 288 : heap + 314] = bytes(26)
    (tmp_path / "loop.nc").write_bytes(content)
    open_dataset(tmp_path / "a.nc")
    monkeypatch.setattr(hdf5, "SECONDS", 0.5)
    with pytest.raises(FileFormatError, match=r"loop.nc' did not end opening within 0.5 s, so it is damaged"):
        open_dataset(tmp_path / "loop.nc")
    monkeypatch.undo()
    assert open_dataset(saved(perfect(3), tmp_path / "b.nc")).sizes["time"] == 3


def test_damaged_stores_end_in_one_sentence_or_are_read(tmp_path):
    store = Path(saved(perfect(2), tmp_path / "a.zarr"))
    files = sorted(each for each in store.rglob("*") if each.is_file())
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(12):
        file = files[int(generator.integers(len(files)))]
        whole = file.read_bytes()
        file.write_bytes(whole[: int(generator.integers(len(whole)))])
        try:
            open_dataset(store)
        except AnydiffError:
            refused += 1
        file.write_bytes(whole)
    assert refused >= 6
    assert open_dataset(store).sizes["time"] == 2


def test_complex_numbers_and_text_are_no_fields(domain):
    data = perfect(2)
    for values in (data["t"].astype(np.complex64), data["t"].astype(str)):
        with pytest.raises(AnydiffError, match="not real numbers"):
            forecast_conditions(domain, data.assign(t=values.assign_attrs(units="K")))


# Writing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.zarr", "a.nc"])
def test_what_stood_there_is_kept_until_the_new_file_is_whole(name, tmp_path, monkeypatch):
    first, second = truth(3), truth(4)
    write_dataset(first, tmp_path / name)
    method = "to_zarr" if name.endswith("zarr") else "to_netcdf"
    real = getattr(xarray.Dataset, method)

    def dies(data, *given, **options):
        real(data, *given, **options)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(xarray.Dataset, method, dies)
        with pytest.raises(AnydiffError, match="No space left"):
            write_dataset(second, tmp_path / name)
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert open_dataset(tmp_path / name).sizes["time"] == 3
    write_dataset(second, tmp_path / name)
    assert [each.name for each in tmp_path.iterdir()] == [name]
    xarray.testing.assert_equal(open_dataset(tmp_path / name), second)


def test_other_endings_and_other_folders_are_refused(tmp_path):
    with pytest.raises(AnydiffError, match=r"ends in '\.grib', but .* \.nc, \.nc4 or \.zarr"):
        write_dataset(truth(3), tmp_path / "a.grib")
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "thesis.txt").write_text("mine")
    with pytest.raises(AnydiffError, match="is no Zarr group, so it is not overwritten"):
        write_dataset(truth(3), tmp_path / "a.zarr")
    assert (tmp_path / "a.zarr" / "thesis.txt").read_text() == "mine"


# Grids ----------------------------------------------------------------------------------------------------------------


def rolled(data, first):
    """The same fields with longitudes from ``first`` on."""
    longitude = (data["longitude"].to_numpy() - first) % 360 + first
    return data.assign_coords(longitude=longitude).sortby("longitude")


@pytest.mark.parametrize("first", [-180.0, -360.0, 50.0, 0.0])
def test_longitudes_are_rolled_to_the_order_of_the_model(first, domain, past, tmp_path):
    data = rolled(perfect(4), first)
    found = forecast_conditions(domain, data)
    for name, value in forecast_conditions(domain, perfect(4)).items():
        np.testing.assert_array_equal(found[name], value)
    assert float(verify(data, truth(4, 3), past)["t"].sel(score="crps")) == 0
    objects = domain.read(saved(data, tmp_path / "a.nc"))
    domain.write(domain.decode(domain.encode(objects[:1])), tmp_path / "b.nc")
    np.testing.assert_array_equal(xarray.open_dataset(tmp_path / "b.nc")["longitude"], GRID["longitude"])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.assign_coords(longitude=GRID["longitude"] + 3), "the longitude of the forecast has 5 values"),
        (lambda d: d.isel(longitude=[0, 2, 1, 3, 4]), "longitudes of the forecast are not ascending"),
        (lambda d: d.isel(longitude=[0, 1, 2, 3, 4, 0]), "not ascending|around the globe"),
        (
            lambda d: xarray.concat([d, d.isel(longitude=[0]).assign_coords(longitude=[360.0])], "longitude"),
            "around the globe and onto themselves; drop the last one",
        ),
        (lambda d: d.isel(latitude=[0, 0]), "latitudes of the forecast are not in order"),
        (lambda d: _units(d, "latitude", "radians"), "latitudes of the forecast are in radians"),
        (lambda d: d.rename(number="ens"), r"if 'ens' is that axis, rename it: data.rename\(ens='number'\)"),
        (lambda d: d.rename(latitude="rlat"), r"rename it: data.rename\(rlat='latitude'\)"),
        (lambda d: d.isel(number=0, drop=True), "holds one member; give the file of the ensemble"),
        (lambda d: d.isel(number=0), r"becomes an axis by data.expand_dims\('number'\)"),
        (lambda d: _curved(d), "two-dimensional .* regrid"),
    ],
)
def test_another_grid_is_refused_with_advice_that_helps(change, sentence, domain):
    with pytest.raises(AnydiffError, match=sentence):
        forecast_conditions(domain, change(perfect(2)))


def _units(data, axis, units):
    return data.assign_coords({axis: data[axis].assign_attrs(units=units)})


def _curved(data):
    bent = data.rename(latitude="y", longitude="x").drop_vars(["y", "x"])
    grid = np.meshgrid(GRID["latitude"], GRID["longitude"], indexing="ij")
    return bent.assign_coords(latitude=(("y", "x"), grid[0]), longitude=(("y", "x"), grid[1]))


def test_north_first_and_rolled_at_once(domain):
    data = rolled(perfect(4), -180.0).isel(latitude=slice(None, None, -1))
    found = forecast_conditions(domain, data)
    np.testing.assert_array_equal(found["members"], forecast_conditions(domain, perfect(4))["members"])


@pytest.mark.parametrize(
    ("unit", "sentence"),
    [("degC", "add 273.15"), ("celsius", "add 273.15"), ("m", "in 'm', but must be in 'K'; convert it")],
)
def test_units_come_with_the_conversion_that_is_right(unit, sentence, domain):
    data = perfect(2)
    with pytest.raises(AnydiffError, match=sentence):
        forecast_conditions(domain, data.assign(t=data["t"].assign_attrs(units=unit)))


# What contradicts the domain ------------------------------------------------------------------------------------------


def at_level(data, **coordinate):
    name, (value, unit) = next(iter(coordinate.items()))
    return data.assign_coords({name: ((), value, {"units": unit})})


def past_states(**coordinate):
    when = days(600, 5, "2001-01-01")
    values = 280 + np.random.default_rng(0).normal(size=(600, 2, 5))
    data = xarray.Dataset({"t": (("time", *GRID), values, {"units": "K"})}, {"time": when, **GRID})
    return at_level(data, **coordinate) if coordinate else data


def test_a_domain_knows_its_level(tmp_path):
    Climatology.fit(past_states(isobaricInhPa=(850, "hPa"))).write(tmp_path / "c.nc")
    domain = Weather(str(tmp_path / "c.nc"))
    data = perfect(2)
    for right in ({"pressure_level": (850.0, "hPa")}, {"plev": (85000.0, "Pa")}, {"level": (850, "millibars")}):
        forecast_conditions(domain, at_level(data, **right))
        forecast_conditions(domain, at_level(data, **right).expand_dims(next(iter(right))))
    with pytest.raises(AnydiffError, match="is at 500 hPa, but must be at 850 hPa"):
        forecast_conditions(domain, at_level(data, plev=(50000.0, "Pa")))


def test_domains_of_equal_spec_and_unequal_options_differ_in_codec(path, tmp_path):
    variants = {
        "another level": past_states(isobaricInhPa=(500, "hPa")),
        "no level": past_states(),
        "other values": past_states() * 1.01,
        "other grid": past_states().assign_coords(longitude=GRID["longitude"] + 1),
        "other name": past_states().rename(t="u"),
        "other units": past_states(),
        "other calendar": past_states().convert_calendar("noleap", use_cftime=True),
    }
    domains = [Weather(str(path)), Weather(str(path), seeds=3)]
    for name, data in variants.items():
        for field in data.data_vars.values():
            field.attrs["units"] = "degC" if name == "other units" else "K"
        Climatology.fit(data).write(tmp_path / f"{name}.nc")
        domains.append(Weather(str(tmp_path / f"{name}.nc")))
    codecs = [domain.codec for domain in domains]
    assert len({tuple(domain.spec.shape) for domain in domains}) == 1
    assert all(codecs[i] != codecs[j] for i in range(len(codecs)) for j in range(i))
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "copy.nc").write_bytes(path.read_bytes())
    assert Weather(str(tmp_path / "moved" / "copy.nc")).codec == codecs[0]  # the same numbers from another place


def test_a_climatology_without_sense_is_refused(past, tmp_path):
    broken = past.std.copy(deep=True)
    broken["t"][3] = np.nan
    Climatology(past.mean, broken).write(tmp_path / "nan.nc")
    with pytest.raises(NonFiniteError, match=r"the standard deviations of .* 10 of 3660 values that are not finite"):
        Weather(str(tmp_path / "nan.nc"))
    Climatology(past.mean, past.std * 0).write(tmp_path / "zero.nc")
    with pytest.raises(FileFormatError, match="not above 0"):
        Weather(str(tmp_path / "zero.nc"))


def test_pictures_of_fields_without_titles(tmp_path):
    domain = Weather("lorenz96")
    domain.draw(domain.decode(torch.randn(3, *domain.spec.shape)), tmp_path / "a.png", [])
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


# GRIB -----------------------------------------------------------------------------------------------------------------

FIELDS = {"2t": (2, 0, 0, 280.0), "10u": (10, 2, 2, 3.0), "10v": (10, 2, 3, -2.0)}
"""Short name: height (m), category, number, value."""


def write_surface_grib(path, fields, members=2, steps=(24,)):
    """GRIB 2 messages of constant fields at a height above ground, 3 x 4 points, north first."""
    import eccodes

    with path.open("wb") as file:
        for number in range(members):
            for step in steps:
                for short, (height, category, parameter, value) in fields.items():
                    message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
                    keys = {
                        "productDefinitionTemplateNumber": 1, "numberOfForecastsInEnsemble": members,
                        "perturbationNumber": number, "dataDate": 20200101, "dataTime": 0, "Ni": 4, "Nj": 3,
                        "latitudeOfFirstGridPointInDegrees": 30.0, "latitudeOfLastGridPointInDegrees": -30.0,
                        "longitudeOfFirstGridPointInDegrees": 0.0, "longitudeOfLastGridPointInDegrees": 270.0,
                        "iDirectionIncrementInDegrees": 90.0, "jDirectionIncrementInDegrees": 30.0,
                        "bitsPerValue": 24, "parameterCategory": category, "parameterNumber": parameter,
                        "typeOfFirstFixedSurface": 103, "scaleFactorOfFirstFixedSurface": 0,
                        "scaledValueOfFirstFixedSurface": height, "stepRange": step,
                    }  # fmt: skip
                    for key, content in keys.items():
                        eccodes.codes_set(message, key, content)
                    assert eccodes.codes_get(message, "shortName") == short
                    eccodes.codes_set_values(message, np.arange(12.0) + value + 100 * number)
                    eccodes.codes_write(message, file)
                    eccodes.codes_release(message)


def test_grib_fields_of_two_heights_are_read_together(tmp_path):
    pytest.importorskip("cfgrib", reason="reads GRIB: pip install 'anydiff-weather[grib]'")
    write_surface_grib(tmp_path / "a.grib2", FIELDS)
    data = check_fields(open_dataset(tmp_path / "a.grib2"), "the file", axes=("number",))
    assert {str(name) for name in data.data_vars} == {"t2m", "u10", "v10"}
    assert data["step"].to_numpy() == np.timedelta64(1, "D")
    assert data["time"].to_numpy() == np.datetime64("2020-01-01")
    for name, value in {"t2m": 280.0, "u10": 3.0, "v10": -2.0}.items():
        expected = (np.arange(12.0) + value).reshape(3, 4)[::-1] + np.array([0, 100])[:, None, None]
        np.testing.assert_allclose(data[name].transpose("number", "latitude", "longitude"), expected, atol=1e-4)
    assert [each.name for each in tmp_path.iterdir()] == ["a.grib2"]


def test_grib_fields_that_do_not_fit_together_are_refused(tmp_path):
    pytest.importorskip("cfgrib", reason="reads GRIB: pip install 'anydiff-weather[grib]'")
    write_surface_grib(tmp_path / "a.grib2", {"2t": FIELDS["2t"]}, steps=(24,))
    write_surface_grib(tmp_path / "b.grib2", {"10u": FIELDS["10u"]}, steps=(48,))
    both = tmp_path / "both.grib2"
    both.write_bytes((tmp_path / "a.grib2").read_bytes() + (tmp_path / "b.grib2").read_bytes())
    with pytest.raises(AnydiffError, match=r"do not share times, members or grid .* filter_by_keys"):
        open_dataset(both)
