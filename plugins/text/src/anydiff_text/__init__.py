"""The text domain of anydiff: what it registers. Imports nothing heavy."""

from __future__ import annotations

from anydiff.hookspecs import Register, hookimpl

ANYDIFF_API = ">=2.0,<3"

_SMALL = {
    "domain.options.length": 32,
    "dataset.options.size": 64,
    "network.options.width": 16,
    "network.options.blocks": 1,
}
ANYDIFF_EXPECTED_FAILURES = {
    "metric.direction[text/copied]": "noise copies nothing, and so do held-out texts",
}
ANYDIFF_CHECK_OPTIONS = {
    "text": {"length": 32, "tokeniser": "byte"},
    "text/works": {"size": 64, "domain": {"length": 32, "tokeniser": "byte"}},
    "text/shakespeare": _SMALL,
    "text/autoregressive": {**_SMALL, "sampling.nfe": 32},
    "text/edlm": _SMALL,
}


@hookimpl
def register_domains(register: Register) -> None:
    """Strings."""
    register("text", "texts as tokens: characters or bytes", "anydiff_text.domain:Texts")


@hookimpl
def register_datasets(register: Register) -> None:
    """Shakespeare."""
    register(
        "text/works",
        "windows of Shakespeare's 42 works, the last tenth of each held out; bundled",
        "anydiff_text.data:Shakespeare",
        ledger="anydiff_text.ledger:SHAKESPEARE",
    )


@hookimpl
def register_metrics(register: Register) -> None:
    """n-grams, an independent judge, and copies of the training texts."""
    register("text/ngram-divergence", "divergence of trigrams", "anydiff_text.metrics:NgramDivergence")
    register("text/judge-departure", "bits under an n-gram judge", "anydiff_text.metrics:JudgeDeparture")
    register("text/copied", "share copied from the training texts", "anydiff_text.metrics:Copied")


@hookimpl
def register_commands(register: Register) -> None:
    """Bits per character."""
    register("text", "How well a model foretells texts.", "anydiff_text.commands:app")


@hookimpl
def register_tasks(register: Register) -> None:
    """Texts of Shakespeare."""
    register("text/shakespeare@1", "64 texts of 256 characters of Shakespeare", "anydiff_text.tasks:shakespeare")


@hookimpl
def register_recipes(register: Register) -> None:
    """Masked diffusion of characters, autoregression, and an energy."""
    register("text/shakespeare", "masked diffusion of Shakespeare's characters", "anydiff_text.recipes:shakespeare")
    register("text/autoregressive", "Shakespeare character by character", "anydiff_text.recipes:autoregressive")
    register("text/edlm", "an energy that corrects a masked model of texts", "anydiff_text.recipes:edlm")
