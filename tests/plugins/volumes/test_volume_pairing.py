"""Volumes of a folder are judged with the case that their file names, in whatever order; others are refused."""

from __future__ import annotations

import pytest

from anydiff.errors import AnydiffError
from anydiff_volumes.ellipsoids import Ellipsoids


@pytest.fixture(scope="module")
def data():
    return Ellipsoids("test", test_size=4)


@pytest.fixture
def folder(data, tmp_path):
    """Two members of each of the cases 3 and 1."""
    states, _ = data.batch([3, 1, 3, 1])
    labels = data.case_labels([3, 1, 3, 1])
    data.domain.write(data.domain.labelled(data.domain.decode(states), labels, [0, 0, 1, 1]), tmp_path / "out")
    return tmp_path / "out"


def test_case_and_member_are_the_names_of_the_files(data, folder):
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"case000{case}_member{member}.nii.gz" for case in (1, 3) for member in (0, 1)]
    read = data.domain.read(folder)
    assert data.domain.match(read, data.case_labels(range(4))) == [1, 1, 3, 3]
    assert read[0].header["descrip"].item().decode().startswith("anydiff case0001 member0 of volumes/ellipsoids@")


def test_the_number_of_cases_is_no_part_of_what_they_are(data, folder):
    more = Ellipsoids("test", test_size=6)
    assert data.domain.match(data.domain.read(folder), more.case_labels(range(6))) == [1, 1, 3, 3]


def test_volumes_of_other_data_are_refused(data, folder):
    read = data.domain.read(folder)
    with pytest.raises(AnydiffError, match=r"volume 2 \('case0003_member0.nii.gz'\) is of case0003, which is none of"):
        data.domain.match(read, data.case_labels(range(3)))
    other = Ellipsoids("test", test_size=4, seed=1)
    with pytest.raises(AnydiffError, match=r"is of case0001 of volumes/ellipsoids@\w+, but held out are"):
        data.domain.match(read, other.case_labels(range(4)))


def test_a_file_under_the_name_of_another_case_is_refused(data, folder):
    (folder / "case0003_member0.nii.gz").rename(folder / "case0002_member0.nii.gz")
    with pytest.raises(AnydiffError, match=r"'case0002_member0.nii.gz', but its header says that it is of case0003"):
        data.domain.match(data.domain.read(folder), data.case_labels(range(4)))


def test_a_name_alone_tells_the_case_and_one_without_is_refused(data, tmp_path):
    states, _ = data.batch([2, 0])
    data.domain.write(data.domain.decode(states), tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["0000.nii.gz", "0001.nii.gz"]
    labels = data.case_labels(range(4))
    assert data.domain.match(data.domain.read(tmp_path / "out"), labels) is None
    (tmp_path / "out" / "0000.nii.gz").rename(tmp_path / "out" / "case0002.nii.gz")
    with pytest.raises(AnydiffError, match=r"volume 0 \('0001.nii.gz'\) does not say of which case it is"):
        data.domain.match(data.domain.read(tmp_path / "out"), labels)
    (tmp_path / "out" / "0001.nii.gz").rename(tmp_path / "out" / "Case0000_member5.nii.gz")
    assert data.domain.match(data.domain.read(tmp_path / "out"), labels) == [0, 2]


def test_one_file_of_any_name_says_its_case(data, tmp_path):
    (volume,) = data.domain.labelled(data.domain.decode(data.batch([2])[0]), data.case_labels([2]), [7])
    data.domain.write([volume], tmp_path / "mine.nii")
    assert data.domain.match(data.domain.read(tmp_path / "mine.nii"), data.case_labels(range(4))) == [2]
