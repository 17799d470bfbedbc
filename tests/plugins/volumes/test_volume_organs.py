"""A CT scan with organ labels from its container, and what happens to labels on the way to a grid and back."""

import gzip
import io
import tarfile

import nibabel
import numpy as np
import pytest

from anydiff.data.cache import is_cached
from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff_volumes import ledger
from anydiff_volumes.metrics import label_dice
from anydiff_volumes.organs import CTOrgans, scan_with_labels
from anydiff_volumes.placement import place

AFFINE = np.diag([-3.0, 3, 3, 1])


def archive(folder, scan, labels):
    path = folder / "archive.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        for member, content in zip(ledger.CT_ORGANS_MEMBERS.values(), (scan, labels), strict=True):
            packed = content if isinstance(content, bytes) else gzip.compress(content.to_bytes())
            entry = tarfile.TarInfo(member)
            entry.size = len(packed)
            file.addfile(entry, io.BytesIO(packed))
    return path


def phantom(shape=(24, 20, 32)):
    """Air, and a box of organ 7 (50 HU) with a core of organ 3 (400 HU)."""
    labels = np.zeros(shape, dtype=np.uint8)
    labels[4:20, 4:16, 2:30] = 7
    labels[8:14, 8:12, 6:28] = 3
    values = np.select([labels == 7, labels == 3], [50, 400], -1000).astype(np.int16)
    return nibabel.Nifti1Image(values, AFFINE), nibabel.Nifti1Image(labels, AFFINE)


def test_patches_hold_the_labels_of_their_own_voxels(tmp_path):
    path = str(archive(tmp_path, *phantom()))
    train, test = (CTOrgans(split, shape=(8, 8, 8), stride=4, path=path) for split in ("train", "test"))
    states, condition = train.batch(range(len(train)))
    labels = condition.truth["labels"]
    for organ, units in ((7, 50), (3, 400), (0, -1000)):
        assert states[:, 0][labels == organ].unique().item() == pytest.approx(units / 1000, abs=1e-6)
    assert max(corner[2] + 8 for corner in train.corners) <= 24 == min(corner[2] for corner in test.corners)
    scan, _ = scan_with_labels(tmp_path / "archive.tar.gz")
    assert nibabel.aff2axcodes(scan.affine) == ("R", "A", "S")
    assert train.hash != test.hash


def test_wrong_containers_and_options_are_one_sentence(tmp_path):
    scan, labels = phantom()
    shifted = nibabel.Nifti1Image(np.asarray(labels.dataobj), AFFINE + np.eye(4, 4, 3))
    for content, error, message in [
        ((scan, shifted), AnydiffError, "give labels of the same grid"),
        ((scan, nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), AFFINE)), AnydiffError, r"labels \(4, 4, 4\)"),
        ((scan, gzip.compress(b"no volume")), FileFormatError, "cannot be read as a NIfTI file"),
        ((scan, b"not even packed"), FileFormatError, "cannot be read as a NIfTI file"),
    ]:
        with pytest.raises(error, match=message):
            scan_with_labels(archive(tmp_path, *content))
    path = str(archive(tmp_path, scan, labels))
    with pytest.raises(UnknownNameError, match="unknown split"):
        CTOrgans("val", path=path)
    with pytest.raises(AnydiffError, match="choose smaller patches"):
        CTOrgans(shape=(8, 8, 40), path=path)
    with pytest.raises(AnydiffError, match="bring them to one grid"):
        label_dice(np.zeros((2, 2), int), np.zeros((3, 2), int))


def test_labels_come_back_as_labels():
    """Between two names lies none: the way back from a coarser grid takes the nearest, as the way there does."""
    _, labels = phantom()
    truth = np.asarray(labels.dataobj)
    assert label_dice(truth, truth) == {3: 1.0, 7: 1.0}
    for size, least in ((3.0, 1.0), (4.5, 0.75)):
        placed, placement = place(labels, (32, 32, 40), size, "ct", "the labels", labels=True)
        back = np.asarray(placement.restore(placed).dataobj)
        found = label_dice(back, truth)
        assert set(found) == {3, 7}
        assert min(found.values()) >= least


@pytest.mark.skipif(not is_cached(ledger.CT_ORGANS), reason="`anydiff data get volumes/ct-organs` was not run")
def test_the_real_scan_is_read_and_its_organs_survive_the_way_to_its_own_grid():
    scan, labels = scan_with_labels()
    assert scan.shape == labels.shape == (122, 101, 112)
    truth = np.asarray(labels.dataobj)
    placed, placement = place(labels, (128, 128, 128), 3.0, "ct", "the labels", labels=True)
    found = label_dice(np.asarray(placement.restore(placed).dataobj), truth)
    assert len(found) == 61
    assert set(found.values()) == {1.0}
    data = CTOrgans()
    states, condition = data.batch([0, len(data) - 1])
    assert states.shape == (2, 1, 32, 32, 24)
    assert float(states.abs().max()) <= 1
    assert condition.truth["labels"].max() > 0
