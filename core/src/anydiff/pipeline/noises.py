"""What noises belong to beside their plan: the model, what it was told, and the guidance."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from anydiff.denoisers.wrappers import Wrapper
from anydiff.editing import NoiseRecord
from anydiff.errors import AnydiffError
from anydiff.guidance import ClassifierFree
from anydiff.states import Conditioning

if TYPE_CHECKING:
    from anydiff.pipeline.pipeline import Pipeline


def facts_of(pipeline: Pipeline, told: Conditioning, layers: Sequence[Wrapper]) -> dict[str, str]:
    """What noises that are found with ``layers`` around the denoiser, which is ``told`` so, belong to."""
    return {
        "model": pipeline.weights_hash,
        "condition": condition_hash(told),
        "guidance": ", ".join(repr(layer) for layer in layers if not _neutral(layer)) or "none",
    }


def _neutral(layer: Wrapper) -> bool:
    """Whether a layer leaves predictions as they are."""
    return isinstance(layer, ClassifierFree) and not isinstance(layer.scale, Tensor) and layer.scale == 1


def condition_hash(condition: Conditioning) -> str:
    """sha256 (hex) of all that is given."""
    found = hashlib.sha256()
    for name, value in sorted(condition.tensors(), key=lambda pair: pair[0]):
        if name != "index":
            whole = value.detach().cpu().contiguous()
            found.update(f"{name} {whole.dtype} {tuple(whole.shape)}".encode() + whole.numpy().tobytes())
    return found.hexdigest()


def check_record(record: NoiseRecord, pipeline: Pipeline, told: Conditioning, layers: Sequence[Wrapper]) -> None:
    """Refuse a record of another model; warn where the guidance under the same condition is another.

    Raises:
        AnydiffError: as said.
    """
    now = facts_of(pipeline, told, layers)
    before = {**now, **record.facts}
    if before["model"] != now["model"]:
        raise AnydiffError(
            f"{record!r} was made with the weights {before['model'][:12]}, but {pipeline.recipe.name!r} has "
            f"{now['model'][:12]}; invert with this model, or use pipeline.edit(model=)."
        )
    if before["condition"] == now["condition"] and before["guidance"] != now["guidance"]:
        warnings.warn(
            f"the noises were found under the guidance {before['guidance']}, but are replayed under {now['guidance']}, "
            "so the objects do not come out as they were; give the same guidance.",
            stacklevel=5,
        )
