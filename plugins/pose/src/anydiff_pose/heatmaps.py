"""Key points as heatmaps and back, with sub-pixel decoding; mirrors and aggregation of several estimates.

Image coordinates (x, y) are continuous: (0, 0) is the corner of the first pixel, whose centre is (0.5, 0.5). A heatmap
of stride s has its cell (row i, column j) centred at ((j + 0.5) s, (i + 0.5) s), so that resizing moves nothing (the
unbiased convention of Huang et al., "The devil is in the details", CVPR 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.errors import AnydiffError, UnknownNameError

Decoding = Literal["dark", "quarter", "argmax"]
Reduction = Literal["mean-heatmap", "mean-keypoints", "medoid"]
Array = NDArray[np.float64]

_TINY = 1e-6
"""A heatmap below this is background; its logarithm is cut there."""


def draw_heatmaps(keypoints: Tensor, labelled: Tensor, height: int, width: int, stride: float, sigma: float) -> Tensor:
    """Gaussians exp(-|p - u|²/(2 sigma²)), u the key point in cells: float64 ``[B, J, height, width]`` in [0, 1].

    Args:
        keypoints: image coordinates ``[B, J, 2]``.
        labelled: bool ``[B, J]``; the heatmap of a joint that is not labelled is zero.
        height: rows of the heatmap.
        width: columns.
        stride: image pixels per cell.
        sigma: in cells.
    """
    cells = keypoints.double() / stride - 0.5
    rows = torch.arange(height, dtype=torch.float64)
    columns = torch.arange(width, dtype=torch.float64)
    x, y = cells[..., 0, None], cells[..., 1, None]
    along_x = torch.exp(-((columns - x) ** 2) / (2 * sigma**2))
    along_y = torch.exp(-((rows - y) ** 2) / (2 * sigma**2))
    return along_y[..., :, None] * along_x[..., None, :] * labelled[..., None, None]


def decode_heatmaps(heatmaps: Tensor, stride: float, method: Decoding = "dark") -> tuple[Array, Array]:
    """Key points ``[B, J, 2]`` (image coordinates) and scores ``[B, J]`` (the maxima, in [0, 1]).

    ``argmax`` is the centre of the greatest cell; ``quarter`` moves it a quarter of a cell towards the greater
    neighbour along each axis; ``dark`` fits a parabola to the logarithm at three cells around it along each axis, which
    is exact for a Gaussian wherever its centre is (Zhang et al., "Distribution-aware coordinate representation", CVPR
    2020), and moves by at most one cell.

    Raises:
        UnknownNameError: no such method.
        AnydiffError: heatmaps that are not ``[B, J, height, width]`` or smaller than 3 by 3 cells.
    """
    if method not in get_args(Decoding):
        raise UnknownNameError("decoding", str(method), get_args(Decoding))
    if heatmaps.ndim != 4 or min(heatmaps.shape[2:]) < 3:
        raise AnydiffError(f"heatmaps have shape {tuple(heatmaps.shape)}, but must be [B, J, >= 3, >= 3].")
    values = heatmaps.detach().to("cpu", torch.float64).numpy()
    batch, joints, height, width = values.shape
    best = values.reshape(batch, joints, -1).argmax(axis=-1)
    row, column = np.unravel_index(best, (height, width))
    b, j = np.ogrid[:batch, :joints]
    score = np.clip(values[b, j, row, column], 0.0, 1.0)
    offsets = []
    for axis, (place, size) in enumerate(((column, width), (row, height))):
        centre = np.clip(place, 1, size - 2)
        steps = [centre - 1, centre, centre + 1]
        three = [values[b, j, row, each] if axis == 0 else values[b, j, each, column] for each in steps]
        if method == "argmax":
            offsets.append(place + 0.0)
        elif method == "quarter":
            inner = (place > 0) & (place < size - 1)
            offsets.append(place + 0.25 * np.sign(three[2] - three[0]) * inner)
        else:
            offsets.append(_vertex(three, centre, place))
    cells = np.stack(offsets, axis=-1)
    keypoints = (cells + 0.5) * stride
    return np.where(score[..., None] > 0, keypoints, 0.0), score


def _vertex(three: Sequence[Array], centre: NDArray[np.int64], place: NDArray[np.int64]) -> Array:
    """Where the parabola through the logarithms at centre - 1, centre, centre + 1 peaks, within 1 of ``place``."""
    low, mid, high = (np.log(np.maximum(value, _TINY)) for value in three)
    curvature = low - 2 * mid + high
    shift = np.divide(low - high, 2 * curvature, out=np.zeros_like(low), where=curvature < -1e-12)
    return np.asarray(np.clip(centre + shift, place - 1.0, place + 1.0))


def mirror_heatmaps(heatmaps: Tensor, mirror: Sequence[int] | NDArray[np.int64]) -> Tensor:
    """Heatmaps ``[..., J, height, width]`` of the mirrored image: columns reversed, left and right exchanged."""
    return heatmaps.flip(-1)[..., torch.as_tensor(np.asarray(mirror)), :, :]


def aggregate(heatmaps: Tensor, reduction: Reduction = "mean-heatmap", stride: float = 1.0) -> Tensor:
    """One heatmap per case and joint from several estimates: ``[cases, estimates, J, h, w] -> [cases, J, h, w]``.

    ``mean-heatmap`` averages before any maximum is taken, so the modes of a multi-modal estimate vote. ``medoid`` takes
    per joint the estimate whose key point has the least summed distance to the others. For coordinates' own mean see
    :func:`mean_keypoints`.

    Raises:
        UnknownNameError: no such reduction.
    """
    if reduction == "mean-heatmap":
        # The order of the estimates must not matter, not even in the last digit.
        return heatmaps.double().sort(dim=1).values.mean(dim=1).to(heatmaps.dtype)
    if reduction != "medoid":
        raise UnknownNameError("reduction of heatmaps", str(reduction), ("mean-heatmap", "medoid"))
    cases, estimates, joints = heatmaps.shape[:3]
    points, _ = decode_heatmaps(heatmaps.flatten(0, 1), stride)
    points = points.reshape(cases, estimates, joints, 2)
    distance = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1).sum(axis=2)
    chosen = torch.from_numpy(distance.argmin(axis=1))
    case, joint = torch.meshgrid(torch.arange(cases), torch.arange(joints), indexing="ij")
    return heatmaps[case, chosen, joint]


def mean_keypoints(heatmaps: Tensor, stride: float, method: Decoding = "dark") -> tuple[Array, Array]:
    """Key points ``[cases, J, 2]`` and scores ``[cases, J]``: the mean over estimates ``[cases, estimates, J, h, w]``.

    Between two modes this lies in neither; it is here to be compared with :func:`aggregate`.
    """
    cases, estimates = heatmaps.shape[:2]
    points, scores = decode_heatmaps(heatmaps.flatten(0, 1), stride, method)
    shape = (cases, estimates, *points.shape[1:])
    return points.reshape(shape).mean(axis=1), scores.reshape(shape[:-1]).mean(axis=1)
