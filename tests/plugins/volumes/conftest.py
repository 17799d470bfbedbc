"""One thread, fewer volumes per metric than the kit takes of smaller states, and slices of DICOM series."""

from __future__ import annotations

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    torch.set_num_threads(1)
    # A volume has 25,000 numbers: 400 of them for each check would take minutes and say no more.
    monkeypatch.setattr("anydiff.testing.metrics.MOST", 64)


@pytest.fixture
def write_slice():
    """A function that writes one DICOM file; tests that ask for it are skipped without pydicom."""
    pydicom = pytest.importorskip("pydicom")

    def write_slice(path, number, *, z=None, series="1.2.3", rows=4, aside=0.0, **tags):
        """Slice ``number`` of a tilted series of 5 columns; each pixel holds 100 slice + 10 row + column."""
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = f"1.2.3.{number}"
        data.SeriesInstanceUID = series
        data.Rows, data.Columns = rows, 5
        data.ImageOrientationPatient = [1, 0, 0, 0, 0.8, 0.6]
        place = np.array([10.0, -20.0, 5.0]) + (3.0 * number if z is None else z) * np.array([0.0, -0.6, 0.8])
        place = place + aside * np.array([0.0, 0.8, 0.6])
        data.ImagePositionPatient = [float(each) for each in place]
        data.PixelSpacing = [2.0, 1.5]
        data.RescaleSlope, data.RescaleIntercept = 2, -1000
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 15, 0, 1
        data.PhotometricInterpretation = "MONOCHROME2"
        pixels = 100 * number + 10 * np.arange(rows)[:, None] + np.arange(5)
        data.PixelData = pixels.astype(np.uint16).tobytes()
        for name, value in tags.items():
            if value is None:
                delattr(data, name)
            else:
                setattr(data, name, value)
        data.save_as(path, enforce_file_format=True)

    return write_slice
