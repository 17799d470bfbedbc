"""The unit of a window: its level, the mean of |value| over the observed steps (the MeanScaler of GluonTS).

What is observed of a window travels as the condition ``observed [B, 2, L]``, in the series' own units: the values, then
the mask (1 observed, 0 not). The level follows from it, so nothing else has to be carried along to get the units back.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.domains.kit import Scale
from anydiff.errors import AnydiffError


def level(observed: Tensor) -> Tensor:
    """Mean of |value| over the observed steps, ``[B]``, from ``observed [B, 2, L]`` (values, mask); 1 where that is 0.

    The unit of a window's state: the same series in other units gives the same state.
    """
    mask = (observed[:, 1] > 0).to(observed.dtype)
    mean = known_values(observed)[:, 0].abs().sum(1) / mask.sum(1).clamp_min(1)
    return torch.where(mean > 0, mean, 1.0)


def unit(observed: Tensor) -> Scale:
    """Windows ``[B, L]`` in units of their :func:`level`, and back, in the type of ``observed``."""
    return Scale(level(observed)[:, None])


def relative(observed: Tensor) -> Tensor:
    """``observed [B, 2, L]`` with the values in units of :func:`level`, and 0 where nothing was observed."""
    known = known_values(observed)
    return torch.stack([unit(known).encode(known[:, 0]), known[:, 1]], dim=1)


def known_values(observed: Tensor) -> Tensor:
    """``observed [B, 2, L]`` with 0 where nothing was observed, whatever stood there, NaN included."""
    return torch.stack([torch.where(observed[:, 1] > 0, observed[:, 0], 0), observed[:, 1]], dim=1)


def observation(context: NDArray[np.float64] | Tensor, prediction: int) -> Tensor:
    """``observed [B, 2, C + prediction]`` (float32) of contexts ``[B, C]``, NaN where missing; no future is seen."""
    values = torch.as_tensor(context, dtype=torch.float32)
    seen = ~values.isnan()
    future = torch.zeros(len(values), prediction)
    return torch.stack(
        [torch.cat([torch.where(seen, values, 0), future], 1), torch.cat([seen.float(), future], 1)], dim=1
    )


def checked_observation(observed: Tensor, data: Tensor, scaled: bool) -> Tensor:
    """``observed [B, 2, L]`` as the guidance of states ``data [B, 1, L]`` needs it: in their units and their type.

    Args:
        observed: values and mask.
        data: states, or a prediction of them.
        scaled: whether the values are in the units of the states already.

    Raises:
        AnydiffError: the shapes do not go together.
    """
    rows, length = data.shape[0], data.shape[-1]
    if data.ndim != 3 or data.shape[1] != 1 or observed.shape != (rows, 2, length):
        raise AnydiffError(
            f"observed has shape {tuple(observed.shape)} for states of shape {tuple(data.shape)}; give "
            f"[{rows}, 2, {length}]: the values and the mask."
        )
    return known_values(observed.to(data.dtype)) if scaled else relative(observed.to(data.dtype))
