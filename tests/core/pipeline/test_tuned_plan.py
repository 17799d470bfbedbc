"""A recipe whose loss tunes a sampler as a whole: the plan it tunes is the plan it carries, and it learns."""

from __future__ import annotations

import pytest
import torch

from anydiff.errors import AnydiffError
from anydiff.metrics import sliced_wasserstein
from anydiff.pipeline import load, train
from anydiff.recipes import load_recipe

PLAN = ["sampling.solver=ddim", "sampling.nfe=3", "sampling.fixed=true", "sampling.guidance=[]"]
LOSS = ["objective={name: mmd, options: {nfe: 3, kernel: energy}}"]
SHORT = ["training.steps=25", "training.batch_size=64", "training.learning_rate=0.004", "training.micro_batch_size=32"]


def test_samples_come_nearer_to_data(run, tmp_path):
    recipe = load_recipe("two_moons/small", [*PLAN, *LOSS, *SHORT, "training.ema_decay=0.5"])
    tuned, base = train(recipe, tmp_path / "tuned", start=run), load(run)
    reference = base.reference(512).states
    before = base.like(base.reference(512), 512, solver=tuned.plan(), guidance=[]).states
    after = tuned.like(base.reference(512), 512).states
    assert sliced_wasserstein(after.double(), reference.double()) < 0.7 * sliced_wasserstein(
        before.double(), reference.double()
    )
    with pytest.raises(AnydiffError, match="a denoiser on its own plan alone"):
        tuned.sample(2, nfe=4)


def test_without_learning_the_samples_are_those_of_the_base(run, tmp_path):
    recipe = load_recipe("two_moons/small", [*PLAN, *LOSS, *SHORT, "training.steps=1", "training.learning_rate=1e-30"])
    tuned = train(recipe, tmp_path / "tuned", start=run)
    same = load(run).sample_set(8, solver=tuned.plan(), guidance=[]).states
    assert torch.equal(tuned.sample_set(8).states, same)


@pytest.mark.parametrize("change", ["sampling.nfe=4", "sampling.fixed=false", "sampling.grid=karras"])
def test_another_plan_than_the_one_that_is_tuned_is_refused(run, tmp_path, change):
    recipe = load_recipe("two_moons/small", [*PLAN, *LOSS, change])
    with pytest.raises(AnydiffError, match=r"the objective tunes the plan of .*set sampling to the same solver"):
        train(recipe, tmp_path / "no", start=run)
    assert not (tmp_path / "no").exists()
