"""Origin and licence of the bundled anatomy. Imports nothing heavy."""

from __future__ import annotations

from anydiff.data import Container, LedgerRow

MNI152 = LedgerRow(
    name="volumes/population",
    title="MNI152 2009a nonlinear template: T1, grey and white matter, block means at 3 mm",
    licence="MNI permissive notice: use, copy, modify and distribute for any purpose, without fee, with the notice "
    "kept (Copyright 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute)",
    origin="https://www.bic.mni.mcgill.ca/ServicesAtlases/ICBM152NLin2009",
    citation="Fonov et al. 2011, doi:10.1016/j.neuroimage.2010.07.033",
    bundled="56 x 64 x 56 voxels of 3 mm, 3 maps, 8 bits, 225 kB; made from nilearn's copy by "
    "python -m anydiff_volumes.templates",
    notes="one anatomy: populations and sequences are random smooth deformations of it (demonstration size)",
)

_REFERENCE = "totalsegmentator-2.18.0/tests/reference_files"
CT_ORGANS_MEMBERS = {
    "scan": f"{_REFERENCE}/example_ct.nii.gz",
    "labels": f"{_REFERENCE}/example_seg_fast_force_split.nii.gz",
}
"""What -> its file inside the source archive of totalsegmentator."""

CT_ORGANS = LedgerRow(
    name="volumes/ct-organs",
    title="one CT scan of a trunk, 122 x 101 x 112 voxels of 3 mm, with organ labels (TotalSegmentator's test case)",
    licence="Apache-2.0",
    origin="https://github.com/wasserth/TotalSegmentator",
    citation="Wasserthal et al. 2023, TotalSegmentator, doi:10.1148/ryai.230024",
    container=Container(
        kind="pypi",
        package="totalsegmentator",
        version="2.18.0",
        file="totalsegmentator-2.18.0.tar.gz",
        bytes=38049988,
        sha256="5d4223ef93973bc36d710869d11e7742ead2c154c72f7f9edcaaadd5b6c4bd03",
        members=tuple(CT_ORGANS_MEMBERS.values()),
    ),
    notes="one patient; the labels were made by a network, not by a person; nothing of the package is installed or run",
)
