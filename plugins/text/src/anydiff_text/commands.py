"""``anydiff text``: how well a model foretells texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anydiff.cli import tell

app = typer.Typer(add_completion=False, no_args_is_help=True, help="How well a model foretells texts.")


@app.callback()
def group() -> None:
    """How well a model foretells texts."""


@app.command()
def score(
    model: Annotated[str, typer.Argument(help="A run folder or weights file.")],
    file: Annotated[Path, typer.Argument(help="Texts: .txt, .jsonl or a folder; each at most as long as a state.")],
    draws: Annotated[int, typer.Option(help="Levels of masking of each text; more make the estimate finer.")] = 64,
    seed: Annotated[int, typer.Option(help="Whole number.")] = 0,
) -> None:
    """Print the bound of the model in bits per character, over all texts and of each.

    Examples:
      anydiff text score runs/shakespeare verses.jsonl
    """
    from anydiff.pipeline import load
    from anydiff_text.scores import bits_per_character

    pipeline = load(model)
    texts = pipeline.domain.read(file)
    total, each = bits_per_character(pipeline, texts, draws, seed)
    for text, bits in zip(texts, each, strict=True):
        print(f"{bits:.3f}\t{' '.join(text.split())[:60]}")
    if pipeline.denoiser.causal:
        tell(f"{total:.3f} bits per character over {len(texts)} texts (the model's own law, exactly).")
        return
    tell(f"{total:.3f} bits per character at most over {len(texts)} texts (masked cross-entropy, {draws} draws).")
