"""A header whose two forms are mirror images: which side is left depends on the reader."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from anydiff.errors import AnydiffError
from anydiff_volumes.domain import Volumes


@pytest.mark.parametrize(("qform", "refused"), [([-3.0, 3, 3, 1], True), ([-3.0, -3, 3, 1], False)])
def test_mirrored_forms_are_refused_and_turned_ones_are_two_spaces(tmp_path, qform, refused):
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.diag([3.0, 3, 3, 1]))
    image.set_sform(np.diag([3.0, 3, 3, 1]), 4)
    image.set_qform(np.diag(qform), 1)
    nibabel.save(image, tmp_path / "a.nii")
    if refused:
        with pytest.raises(AnydiffError, match="mirror images of one another, so left and right are unknown"):
            Volumes().read(tmp_path / "a.nii")
    else:
        assert len(Volumes().read(tmp_path / "a.nii")) == 1
