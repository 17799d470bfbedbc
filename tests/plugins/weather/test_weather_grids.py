"""Grids: the cubed sphere's geometry, exact areas, regridding both ways."""

import numpy as np
import pytest
import xarray

from anydiff.errors import AnydiffError
from anydiff_weather import grids


@pytest.mark.parametrize("size", [1, 2, 7, 48])
def test_the_cubed_sphere_is_one(size):
    points = grids.cubed_sphere_points(size)
    flat = points.reshape(-1, 3)
    assert points.shape == (6, size, size, 3)
    np.testing.assert_allclose(np.linalg.norm(flat, axis=1), 1.0, rtol=1e-15)
    rounded = {tuple(row) for row in np.round(flat, 9) + 0.0}
    assert len(rounded) == 6 * size**2
    assert {tuple(row) for row in np.round(-flat, 9) + 0.0} == rounded  # every point has its antipode
    areas = grids.cubed_sphere_areas(size)
    assert areas.sum() == pytest.approx(4 * np.pi, rel=1e-12)
    assert (areas > 0).all()


def test_edges_angles_and_areas_are_those_of_the_paper():
    points = grids.cubed_sphere_points(48)
    angle = np.arctan2(points[0, :, 0, 2], points[0, :, 0, 0])
    np.testing.assert_allclose(angle, -np.pi / 4 + (np.arange(48) + 0.5) * np.pi / 96, atol=1e-12)
    areas = grids.cubed_sphere_areas(48)
    assert areas.max() / areas.min() == pytest.approx(1.39, abs=0.01)
    # The area of a small cell is that of the parallelogram its neighbours span.
    east, north = points[0, 24, 25] - points[0, 24, 23], points[0, 25, 24] - points[0, 23, 24]
    assert areas[0, 24, 24] == pytest.approx(np.linalg.norm(np.cross(east, north)) / 4, rel=2e-3)


def test_longitudes_and_latitudes_come_back():
    points = grids.cubed_sphere_points(6)
    np.testing.assert_allclose(grids.unit_vectors(*grids.lonlat(points)), points, atol=1e-12)


def fields(function, latitude, longitude):
    around, up = np.meshgrid(longitude, latitude)
    values = function(grids.unit_vectors(around, up))
    axes = {"latitude": latitude, "longitude": longitude}
    return xarray.Dataset({"a": (("latitude", "longitude"), values, {"units": "K"})}, axes)


def test_regridding_keeps_a_constant():
    data = fields(lambda p: np.full(p.shape[:-1], 7.25), np.linspace(-87.5, 87.5, 36), np.arange(0, 360, 5.0))
    cube = grids.to_cubed_sphere(data, 8)
    assert cube["a"].dims == ("face", "y", "x")
    assert cube["a"].attrs["units"] == "K"
    np.testing.assert_allclose(cube["a"], 7.25, atol=1e-12)
    back = grids.to_latitude_longitude(cube, np.linspace(-90, 90, 19), np.arange(0, 360, 10.0))
    np.testing.assert_allclose(back["a"], 7.25, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_harmonics_of_degree_one_survive_both_ways(axis):
    latitude, longitude = np.linspace(-90, 90, 91), np.arange(0, 360, 2.0)
    points = grids.cubed_sphere_points(48)
    cube = xarray.Dataset({"a": (grids.FACE_AXES, points[..., axis], {"units": "1"})})
    back = grids.to_latitude_longitude(cube, latitude, longitude)
    exact = fields(lambda p: p[..., axis], latitude, longitude)["a"]
    error = np.abs(back["a"].to_numpy() - exact.to_numpy())
    assert error.max() <= 0.02
    assert error.max() == pytest.approx(0.0094, abs=0.002)
    forth = grids.to_cubed_sphere(exact.to_dataset().assign(a=exact.assign_attrs(units="1")), 48)
    assert np.abs(forth["a"].to_numpy() - points[..., axis]).max() < 2e-3


def test_a_point_of_the_cube_keeps_its_value_and_other_axes_their_place():
    values = np.random.default_rng(0).normal(size=(3, 6, 4, 4))
    cube = xarray.Dataset({"a": (("number", *grids.FACE_AXES), values, {"units": "1"})}, {"number": [5, 6, 7]})
    longitude, latitude = grids.lonlat(grids.cubed_sphere_points(4))
    back = grids.to_latitude_longitude(cube, latitude[2, 1, :1], longitude[2, 1, :1])
    np.testing.assert_allclose(back["a"].to_numpy()[:, 0, 0], values[:, 2, 1, 0], rtol=1e-9)
    assert back["number"].to_numpy().tolist() == [5, 6, 7]


def test_what_cannot_be_regridded_is_said():
    regional = fields(lambda p: p[..., 0], np.linspace(30, 60, 4), np.arange(0, 40, 5.0))
    with pytest.raises(AnydiffError, match="not around the globe"):
        grids.to_cubed_sphere(regional, 4)
    with pytest.raises(AnydiffError, match="a cubed sphere has 'face'"):
        grids.to_latitude_longitude(regional, np.zeros(1), np.zeros(1))


def test_weights_follow_the_cosine_of_the_latitude():
    data = fields(lambda p: p[..., 0], np.array([-60.0, 0.0, 60.0]), np.arange(0, 360, 90.0))
    weights = grids.cell_weights(data)
    assert weights.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(weights[1] / weights[0], 2.0)
    cube = grids.cell_weights(xarray.Dataset({"a": (grids.FACE_AXES, np.zeros((6, 3, 3)))}))
    assert cube.mean() == pytest.approx(1.0)
