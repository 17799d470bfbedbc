"""``anydiff pull``, ``push`` and ``convert``: folders of a hub, and pickled checkpoints, made safe to load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anydiff.cli import common
from anydiff.cli.output import tell

Name = Annotated[str, typer.Argument(help="OWNER/NAME, or OWNER/NAME@REVISION.")]


def pull(name: Name) -> None:
    """Fetch a model's folder from a hub into the cache: pinned by commit and hashes, safetensors and texts alone.

    Examples:
      anydiff pull google/ddpm-cat-256
      anydiff sample diffusers:google/ddpm-cat-256 --nfe 10
    """
    from anydiff.data.hub import pull as fetch

    found = fetch(name)
    left = f", {len(found.left_out)} left out ({', '.join(found.left_out[:3])})" if found.left_out else ""
    how = "pulled" if found.fresh else "has been pulled before"
    tell(f"{name} {how}: commit {found.commit[:12]}, {found.files} files{left}, licence {found.licence}.")
    typer.echo(str(found.folder))


def push(
    source: common.Source,
    name: Name,
    message: Annotated[str, typer.Option(help="Of the commit.")] = "A model of anydiff",
) -> None:
    """Upload a run's weights with its recipe and card to a hub, by your own login of huggingface_hub.

    Examples:
      anydiff push runs/fashion me/fashion
    """
    import tempfile

    from anydiff.data.hub import push as upload
    from anydiff.pipeline import load

    pipeline = load(source)
    with tempfile.TemporaryDirectory(prefix="anydiff-push-") as folder:
        pipeline.save(Path(folder) / "model.safetensors")
        Path(folder, "recipe.yaml").write_text(pipeline.recipe.to_yaml(), encoding="utf-8")
        card = Path(source) / "card.md"
        text = card.read_text(encoding="utf-8") if card.is_file() else f"# {pipeline.recipe.name}\n"
        Path(folder, "README.md").write_text(text, encoding="utf-8")
        made = upload(Path(folder), name, message)
    tell(f"pushed {pipeline.recipe.name} to {name} ({made}).")


def convert(
    file: Annotated[Path, typer.Argument(help="A checkpoint that torch.save wrote (.ckpt, .pt, .bin).")],
    out: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    key: Annotated[str | None, typer.Option(help="Which table of tensors, where there are several: ema, say.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Turn a pickled checkpoint into safetensors, without building any of its objects.

    Examples:
      anydiff convert model.ckpt model.safetensors --key state_dict
      anydiff convert unet/diffusion_pytorch_model.bin unet/diffusion_pytorch_model.safetensors
    """
    from anydiff.data.pickled import tensors_of_checkpoint, write_tensors
    from anydiff.files import check_suffix

    check_suffix(out, (".safetensors",), "weights")
    common.refuse_existing(out, overwrite)
    tensors = tensors_of_checkpoint(file, key)
    write_tensors(out, tensors)
    tell(f"wrote {len(tensors)} tensors to {str(out)!r}.")
