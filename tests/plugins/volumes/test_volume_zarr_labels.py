"""A Zarr group names the held-out cases that its samples are of, as files of volumes do."""

from __future__ import annotations

from anydiff_volumes import cases


def test_names_and_sources_of_cases():
    found = cases.arrays(cases.numbered_cases("volumes/x", {"seed": 1}, [3, 0]))
    told = {name: [array.attributes["names"][place] for place in array.values] for name, array in found.items()}
    assert told["name"] == ["case0003", "case0000"]
    assert len(set(told["source"])) == 1
    assert told["source"][0].startswith("volumes/x@")
    assert all(array.dimensions == ("case",) for array in found.values())
