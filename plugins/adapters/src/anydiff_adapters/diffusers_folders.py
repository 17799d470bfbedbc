"""Folders that ``save_pretrained`` of diffusers wrote: a network, or a pipeline of parts. No code of theirs runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from anydiff.data.reading import read_json
from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff_adapters.diffusers_schedulers import Conventions, from_config
from anydiff_adapters.libraries import imported

INDEX, CONFIG, SCHEDULER = "model_index.json", "config.json", "scheduler_config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_NETWORKS = ("unet", "transformer", "denoiser")
"""Parts of a pipeline that are the network."""


@dataclass(frozen=True)
class Folder:
    """What a folder holds.

    Attributes:
        kind: class of the network.
        config: of the network, without the library's private keys.
        conventions: of the scheduler.
        tensors: weights by the library's own names.
        metadata: licence and card, where there are some.
    """

    kind: str
    config: dict[str, Any]
    conventions: Conventions
    tensors: dict[str, Tensor]
    metadata: dict[str, str] = field(default_factory=dict)


def read_folder(folder: Path, known: Iterable[str]) -> Folder:
    """The network and the scheduler of a folder.

    Args:
        folder: that ``save_pretrained`` wrote.
        known: classes of networks.

    Raises:
        UnknownNameError: a class that is not known, with the nearest.
        AnydiffError: no model, no scheduler, or weights that are pickled.
    """
    if not folder.is_dir():
        raise AnydiffError(f"{str(folder)!r} is no folder; give one that save_pretrained of diffusers wrote.")
    inner = _network_folder(folder) if (folder / INDEX).is_file() else folder
    if not (inner / CONFIG).is_file():
        raise AnydiffError(
            f"{str(inner)!r} has no {CONFIG}, so it is no model of diffusers; give a folder that save_pretrained wrote."
        )
    config = _object(inner / CONFIG)
    kind = str(config.get("_class_name"))
    if kind not in known:
        raise UnknownNameError(f"class of diffusers in {str(inner / CONFIG)!r}:", kind, list(known))
    plain = {name: value for name, value in config.items() if not name.startswith("_")}
    library = imported("diffusers", f"loading {str(folder)!r}", "anydiff-adapters[diffusers]")
    told = from_config(library, *_scheduler(folder, inner))
    return Folder(kind, plain, told, _tensors(inner), _card(folder))


def _object(path: Path) -> dict[str, Any]:
    found = read_json(path, "a JSON file of diffusers", "save the model again")
    if not isinstance(found, dict):
        raise FileFormatError(f"{str(path)!r} holds a {type(found).__name__}, but an object is needed; save it again.")
    return found


def _network_folder(folder: Path) -> Path:
    parts = _object(folder / INDEX)
    named = [name for name in _NETWORKS if isinstance(parts.get(name), list) and parts[name][0]]
    if len(named) != 1:
        raise AnydiffError(
            f"{str(folder / INDEX)!r} names {' and '.join(named) or 'no network'}, but exactly one of "
            f"{', '.join(_NETWORKS)} is needed; give the folder of one network."
        )
    if any(isinstance(parts.get(name), list) and parts[name][0] for name in ("vae", "vqvae", "movq")):
        raise AnydiffError(
            f"{str(folder)!r} diffuses in the latents of an autoencoder, which is not read; give "
            f"{str(folder / named[0])!r} for samples of latents, and decode these with diffusers."
        )
    return folder / named[0]


def _scheduler(folder: Path, inner: Path) -> tuple[Mapping[str, Any], str]:
    folders = (inner, folder / "scheduler", inner / "scheduler", inner.parent / "scheduler")
    for place in (each / SCHEDULER for each in folders):
        if place.is_file():
            return _object(place), repr(str(place))
    raise AnydiffError(
        f"{str(folder)!r} has no {SCHEDULER}, which says what the network predicts; save the scheduler there too "
        f"(scheduler.save_pretrained({str(inner)!r}))."
    )


def _tensors(folder: Path) -> dict[str, Tensor]:
    file = folder / WEIGHTS
    if not file.is_file():
        pickled = sorted(each.name for each in folder.iterdir() if each.suffix in PICKLED)
        sharded = (folder / f"{WEIGHTS}.index.json").is_file()
        if sharded:
            return _shards(folder)
        reason = f"only {pickled[0]!r}, which is pickled" if pickled else f"no {WEIGHTS}"
        raise AnydiffError(
            f"{str(folder)!r} holds {reason}; save it with safe_serialization=True, or get the safetensors file."
        )
    return _opened(file)


def _shards(folder: Path) -> dict[str, Tensor]:
    index = _object(folder / f"{WEIGHTS}.index.json").get("weight_map")
    names = sorted(set(index.values())) if isinstance(index, dict) else []
    found: dict[str, Tensor] = {}
    for name in names:
        if "/" in str(name) or not str(name).endswith(".safetensors"):
            raise FileFormatError(f"the index in {str(folder)!r} names {name!r}, which is no file of its own folder.")
        found.update(_opened(folder / str(name)))
    return found


def _opened(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise FileFormatError(f"{str(file)!r} is truncated or no safetensors file ({reason}); get it again.") from error


def _card(folder: Path) -> dict[str, str]:
    card = folder / "README.md"
    return {"card": card.read_text(encoding="utf-8", errors="replace")[:20000]} if card.is_file() else {}
