"""The ending of a file name says what the file holds, so a wrong one is refused before any work."""

from __future__ import annotations

import pytest

from anydiff.errors import AnydiffError
from anydiff.files import check_suffix


@pytest.mark.parametrize(
    ("name", "suffixes", "found"),
    [
        ("a.nii.gz", (".gz", ".nii.gz"), ".nii.gz"),
        ("A.CSV", (".csv",), ".csv"),
        ("v1.5.csv", (".csv", ""), ".csv"),
        ("folder", (".png", ""), ""),
        ("anything.at-all", (), ""),
    ],
)
def test_the_ending_is_found(name, suffixes, found, tmp_path):
    assert check_suffix(tmp_path / name, suffixes, "samples") == found


def test_a_folder_that_exists_may_have_a_dot(tmp_path):
    (tmp_path / "run.v1").mkdir()
    assert check_suffix(tmp_path / "run.v1", ("", ".png"), "pictures") == ""


@pytest.mark.parametrize(
    ("name", "suffixes", "sentence"),
    [
        (
            "x.parquet",
            (".csv", ".json"),
            "ends in '.parquet', but series are written to a file that ends in .csv or .j",
        ),
        ("x.jpg", (".npz", ""), "ends in '.jpg', but series are written to a file that ends in .npz or to a folder"),
        ("x", (".nc",), "has no ending, but series are written to a file that ends in .nc; choose such a name"),
        (".csv", (".csv",), "has no ending"),
    ],
)
def test_another_ending_is_refused_with_those_there_are(name, suffixes, sentence, tmp_path):
    with pytest.raises(AnydiffError, match=sentence):
        check_suffix(tmp_path / name, suffixes, "series")
