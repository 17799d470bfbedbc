"""Models of texts together: autoregression, energies, companions; training resumed and in micro batches."""

from __future__ import annotations

import json
import math
import re
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from anydiff.cli.app import app
from anydiff.errors import AnydiffError
from anydiff.pipeline import load
from anydiff.pipeline.companions import require_same_classes
from anydiff.recipes import Part
from anydiff_text.domain import Texts

SMALL = [
    "domain.options.length=24", "dataset.options.size=64", "network.options.width=16", "network.options.blocks=1",
    "training.steps=2", "training.batch_size=8", "training.warmup_steps=0",
]  # fmt: skip
CAUSAL = ["sampling.nfe=24"]
CONTRASTIVE = ["objective=noise-contrastive", "network.name=token-energy"]


def run(*words: str) -> tuple[int, str]:
    made = CliRunner().invoke(app, list(words))
    return made.exit_code, " ".join((made.output + (str(made.exception) if made.exception else "")).split())


def train(recipe: str, out, changes: list[str]) -> tuple[int, str]:
    return run("train", recipe, "--out", str(out), *(word for each in [*SMALL, *changes] for word in ("--set", each)))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of tiny runs: masked, causal, of another length, told the time, and an energy."""
    folder = tmp_path_factory.mktemp("models")
    made = {
        "masked": ("text/shakespeare", []),
        "causal": ("text/autoregressive", CAUSAL),
        "short": ("text/shakespeare", ["domain.options.length=20"]),
        "learnt": ("text/shakespeare", [*CONTRASTIVE, f"companions.proposal={folder / 'masked'}"]),
    }
    for name, (recipe, changes) in made.items():
        code, said = train(recipe, folder / name, changes)
        assert code == 0, said
    return {name: str(folder / name) for name in made}


@pytest.mark.parametrize("energy", ["causal", "learnt"])
def test_a_model_gives_the_energy_of_another(models, energy: str, tmp_path) -> None:
    words = ["sample", models["masked"], "--count", "3", "--nfe", "3", "--guidance", "energy"]
    given = ["--guidance-option", f"model={models[energy]}", "--guidance-option", "candidates=3"]
    code, said = run(*words, *given, "--out", str(tmp_path / "one.jsonl"))
    assert code == 0, said
    guidance = Part(name="energy", options={"candidates": 3, "model": models[energy]})
    found = load(models["masked"]).sample(3, nfe=3, guidance=guidance, batch_size=1)
    written = [json.loads(line)["text"] for line in (tmp_path / "one.jsonl").read_text().splitlines()]
    assert found == written, "sample k is the same in a batch of its own"


def test_an_autoregressive_model_gives_exact_bits_and_continues_a_beginning(models, tmp_path) -> None:
    pipeline = load(models["causal"])
    found = pipeline.bound(["To be", "or not"], draws=3)
    assert torch.equal(found, pipeline.bound(["To be", "or not"], draws=64, seed=9))
    assert float(found[0]) == pytest.approx(24 * math.log(85), rel=0.1), "it was hardly trained"
    code, said = run("sample", models["causal"], "--known", "To be", "--count", "2", "--out", str(tmp_path / "o.jsonl"))
    assert code == 0, said
    assert all(json.loads(line)["text"].startswith("To be") for line in (tmp_path / "o.jsonl").read_text().splitlines())
    code, said = run("text", "score", models["causal"], str(tmp_path / "o.jsonl"))
    assert code == 0
    assert "the model's own law, exactly" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["sample", "causal", "--known", "To {2} be"], "sees what stands before a place alone"),
        (["sample", "causal", "--solver", "ancestral"], "is a denoiser on its own plan alone"),
        (["sample", "masked", "--guidance", "energy"], "has no energy; give the option model"),
        (["sample", "masked", "--guidance", "energy", "--guidance-option", "model=short"], r"of states \(20,\) of 85"),
        (["sample", "masked", "--guidance", "energy", "--guidance-option", "model=masked"], "gives no energy"),
        (
            ["sample", "masked", "--guidance", "energy", "--guidance-option", "model=causal", "--guidance-option",
             "model_hash=abc"],
            "but model_hash says abc",
        ),
        (["sample", "masked", "--solver", "ddim"], "take a solver of classes"),
        (["sample", "masked", "--temperature", "-1"], "temperature is -1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_sentence_and_writes_nothing(models, words, sentence: str, tmp_path) -> None:
    named = [f"model={models[word.removeprefix('model=')]}" if word.startswith("model=") else models.get(word, word)
             for word in words]  # fmt: skip
    out = tmp_path / "out.jsonl"
    code, said = run(*named, "--count", "2", "--out", str(out))
    assert code == 1
    assert re.search(sentence, said), said
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ([*CONTRASTIVE, "companions.proposal=short"], "companions.proposal is of states (20,) with 85 classes"),
        (CONTRASTIVE, "asks for the companion 'proposal'"),
        (["objective=next-token"], "set network.options.causal=true"),
        (["objective=noise-contrastive"], "choose the network token-energy"),
        (["objective=denoising"], "what is made for classes (objectives masked-cross-entropy"),
        (["path=uniform"], "is the bound of the path 'masked'"),
        (["path=vp-linear"], "leaf 'tokens' is categorical"),
    ],
)
def test_a_training_that_cannot_be_is_refused(models, changes, sentence: str, tmp_path) -> None:
    named = [each.replace("=short", f"={models['short']}") for each in changes]
    code, said = train("text/shakespeare", tmp_path / "run", named)
    assert code == 1
    assert sentence in said, said
    assert not (tmp_path / "run" / "model.safetensors").exists()


def weights(folder) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(f"{folder}/model.safetensors")


def test_training_goes_on_bit_for_bit_and_micro_batches_change_rounding_alone(models, tmp_path) -> None:
    constant = ["training.schedule=constant"]
    for name, changes in (("whole", ["training.steps=4"]), ("parts", ["training.steps=2"])):
        code, said = train("text/shakespeare", tmp_path / name, [*constant, *changes])
        assert code == 0, said
    changes = [word for each in [*SMALL, *constant, "training.steps=4"] for word in ("--set", each)]
    code, said = run("train", "text/shakespeare", "--out", str(tmp_path / "parts"), "--resume", *changes)
    assert code == 0, said
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(one[name], two[name]) for name in one)
    code, said = train(
        "text/shakespeare", tmp_path / "micro", [*constant, "training.steps=4", "training.micro_batch_size=2"]
    )
    assert code == 0, said
    three = weights(tmp_path / "micro")
    assert all(torch.allclose(one[name], three[name], atol=2e-3) for name in one)


def test_another_vocabulary_of_as_many_classes_is_refused() -> None:
    one, two = (
        SimpleNamespace(domain=Texts(24, "character", letters), recipe=SimpleNamespace(name="own"))
        for letters in ("ab", "ba")
    )
    require_same_classes(one, one, "companions.proposal")
    with pytest.raises(AnydiffError, match=r"companions.proposal is of vocabulary .* but 'own' of vocabulary"):
        require_same_classes(one, two, "companions.proposal")
