"""Origin and licence of the bundled anatomy. Imports nothing heavy."""

from __future__ import annotations

from anydiff.data.ledger import LedgerRow

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
