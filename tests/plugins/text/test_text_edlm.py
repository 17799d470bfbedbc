"""The recipe text/edlm from the command line: a base, an energy of its texts, samples with candidates."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from anydiff.cli.app import app
from anydiff.pipeline import load
from anydiff.recipes import Part

SMALL = [
    "domain.options.length=16", "dataset.options.size=64", "network.options.width=16", "network.options.blocks=1",
    "training.steps=2", "training.batch_size=8", "training.warmup_steps=0",
]  # fmt: skip


def run(*words: str) -> tuple[int, str]:
    made = CliRunner().invoke(app, list(words))
    return made.exit_code, " ".join((made.output + (str(made.exception) if made.exception else "")).split())


def train(recipe: str, out, *changes: str) -> tuple[int, str]:
    return run("train", recipe, "--out", str(out), *(word for each in [*SMALL, *changes] for word in ("--set", each)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("edlm")
    assert train("text/shakespeare", folder / "base")[0] == 0
    code, said = train("text/edlm", folder / "energy", f"companions.proposal={folder / 'base'}")
    assert code == 0, said
    return folder


def test_candidates_are_drawn_from_the_base_and_weighed_by_the_trained_energy(runs, tmp_path) -> None:
    out = tmp_path / "texts.jsonl"
    words = [
        "--guidance",
        "energy",
        "--guidance-option",
        f"model={runs / 'energy'}",
        "--guidance-option",
        "candidates=4",
    ]
    code, said = run("sample", str(runs / "base"), "--count", "2", "--nfe", "2", *words, "--out", str(out))
    assert code == 0, said
    guidance = Part(name="energy", options={"candidates": 4, "model": str(runs / "energy")})
    found = load(runs / "base").sample(2, nfe=2, guidance=guidance, batch_size=1)
    assert found == [json.loads(line)["text"] for line in out.read_text().splitlines()]


def test_the_run_says_by_hash_which_base_its_energy_is_of(runs) -> None:
    recipe, base = load(runs / "energy").recipe, load(runs / "base")
    proposal = recipe.companions["proposal"]
    assert (proposal.recipe_hash, proposal.weights_hash) == (base.recipe.hash, base.weights_hash)


def test_training_moved_the_energy_and_left_the_base_alone(runs) -> None:
    from anydiff.pipeline import Pipeline

    trained, fresh = load(runs / "energy"), Pipeline.untrained(load(runs / "energy").recipe)
    one, two = (each.denoiser.network.scalar[0].weight for each in (trained, fresh))
    assert not torch.equal(one, two)
    assert load(runs / "base").weights_hash == load(runs / "energy").recipe.companions["proposal"].weights_hash


def test_without_a_trained_base_the_sentence_says_how_to_get_one(tmp_path) -> None:
    code, said = train("text/edlm", tmp_path / "energy")
    assert code == 1
    assert "train it with `anydiff train text/shakespeare`" in said
    assert not (tmp_path / "energy" / "model.safetensors").exists()
