"""Named experiments on texts. A recipe is data: everything that can change its result stands here."""

from __future__ import annotations

from typing import Any

from anydiff.recipes import Recipe

CHARACTERS = "\n !\"&'()*,-./0123456789:;?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]_abcdefghijklmnopqrstuvwxyz{}"
"""The 84 characters of Shakespeare's works."""


_TRAINING = {
    "steps": 3000,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "warmup_steps": 100,
    "schedule": "cosine",
    "ema_decay": 0.99,
    "checkpoint_every": 250,
}
_NETWORK = {"width": 144, "blocks": 4, "heads": 4}


def shakespeare() -> Recipe:
    """Masked diffusion of Shakespeare's characters, 256 at a time."""
    recipe = {
        "name": "text/shakespeare",
        "help": "masked diffusion of Shakespeare: 256 characters, a network that is not told the time (RADD)",
        **_texts(),
        "network": {"name": "tokens", "options": _NETWORK},
        "objective": {"name": "masked-cross-entropy", "options": {"form": "lambda"}},
        "sampling": {"solver": "ancestral", "nfe": 64},
    }
    return Recipe.parse(recipe, f"recipe {recipe['name']!r}")


def autoregressive() -> Recipe:
    """Shakespeare's characters one after the other, by a network of the same size: the baseline."""
    recipe = {
        "name": "text/autoregressive",
        "help": "Shakespeare character by character: the network of text/shakespeare, causal",
        **_texts(),
        "network": {"name": "tokens", "options": {**_NETWORK, "causal": True}},
        "objective": "next-token",
        "sampling": {
            "solver": {"name": "unmasking", "options": {"places": "left-to-right"}}, "nfe": 256, "fixed": True,
        },
    }  # fmt: skip
    return Recipe.parse(recipe, f"recipe {recipe['name']!r}")


def edlm() -> Recipe:
    """An energy of whole texts, which corrects the proposals of a masked model; train that one first."""
    recipe = {
        "name": "text/edlm",
        "help": "an energy of whole texts for the samples of text/shakespeare, by noise contrast (EDLM)",
        **_texts(),
        "network": {"name": "token-energy", "options": _NETWORK},
        "objective": "noise-contrastive",
        "companions": {"proposal": "text/shakespeare"},
        "sampling": {"solver": "ancestral", "nfe": 64},
    }
    return Recipe.parse(recipe, f"recipe {recipe['name']!r}")


def _texts() -> dict[str, Any]:
    """What all recipes of Shakespeare share."""
    options = {"length": 256, "tokeniser": "character", "vocabulary": CHARACTERS}
    return {
        "domain": {"name": "text", "options": options},
        "dataset": {"name": "text/works", "options": {"stride": 64}},
        "path": "masked",
        "parametrization": "logits",
        "training": _TRAINING,
        "metrics": ["text/ngram-divergence"],
    }
