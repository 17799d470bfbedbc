"""A Zarr group names the clips and persons that its cases are of, as other outputs do."""

from __future__ import annotations

from anydiff_pose import cases


def test_names_and_persons_of_clips():
    arrays = cases.arrays(["a/1.png", ("a/2.png", 4), ("a/2.png", 7)])
    image, track = arrays["image"], arrays["track"]
    assert [image.attributes["names"][place] for place in image.values] == ["a/1.png", "a/2.png", "a/2.png"]
    assert (image.dimensions, track.values.tolist()) == (("case",), [-1, 4, 7])


def test_frames_without_names_are_numbers():
    arrays = cases.arrays([0, 1, 5])
    assert (set(arrays), arrays["image"].values.tolist()) == ({"image"}, [0, 1, 5])
