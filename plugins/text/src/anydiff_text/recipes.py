"""Named experiments on texts. A recipe is data: everything that can change its result stands here."""

from __future__ import annotations

from anydiff.recipes import Recipe

CHARACTERS = "\n !\"&'()*,-./0123456789:;?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]_abcdefghijklmnopqrstuvwxyz{}"
"""The 84 characters of Shakespeare's works."""


def shakespeare() -> Recipe:
    """Masked diffusion of Shakespeare's characters, 256 at a time."""
    recipe = {
        "name": "text/shakespeare",
        "help": "masked diffusion of Shakespeare: 256 characters, a network that is not told the time (RADD)",
        "domain": {
            "name": "text", "options": {"length": 256, "tokeniser": "character", "vocabulary": CHARACTERS}
        },
        "dataset": {"name": "text/works", "options": {"stride": 64}},
        "network": {"name": "tokens", "options": {"width": 144, "blocks": 4, "heads": 4}},
        "path": "masked",
        "parametrization": "logits",
        "objective": {"name": "masked-cross-entropy", "options": {"form": "lambda"}},
        "training": {
            "steps": 3000,
            "batch_size": 32,
            "learning_rate": 1e-3,
            "warmup_steps": 100,
            "schedule": "cosine",
            "ema_decay": 0.99,
            "checkpoint_every": 250,
        },
        "sampling": {"solver": "ancestral", "nfe": 64},
        "metrics": ["text/ngram-divergence"],
    }  # fmt: skip
    return Recipe.parse(recipe, f"recipe {recipe['name']!r}")
