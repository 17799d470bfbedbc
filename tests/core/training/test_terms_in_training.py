"""Terms in a training: the log, parameters of their own, and draws that resumption and micro batches do not change."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from anydiff.errors import AnydiffError
from anydiff.objectives import Denoising, Sum, Term, Weighted
from anydiff.training import ObjectiveMethod, RunFolder, TrainingMethod, TrainingSettings, fit, load_weights
from anydiff.training.method import checked_groups

sys.path.insert(0, str(Path(__file__).parent))
from toy import SETTINGS, Rings, denoiser


class Scaled(Term):
    """(s + z - |D|)², s a parameter of its own and z a draw of its own."""

    def __init__(self) -> None:
        self.scale = nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            self.scale.weight.fill_(0.3)

    def modules(self):
        return {"scale": self.scale}

    def loss(self, call):
        size = call.predict("data").norm(dim=1)
        wanted = self.scale.weight[0, 0] + 0.1 * call.draws.normal("jitter").to(size)
        return (wanted - size).square() * torch.sigmoid(call.path.log_snr(call.t)).to(size)


def trained(folder, resume=False, objective=None, **settings):
    objective = objective or Sum({"denoising": Weighted(Denoising(), 1.0), "scaled": Weighted(Scaled(), 0.5)})
    merged = TrainingSettings.parse({**SETTINGS, **settings}, "the test")
    run = RunFolder.create(folder, merged.model_dump(mode="json"), {"recipe": "{}"}, resume=resume)
    method = ObjectiveMethod(denoiser(0.0), objective)
    fit(method, Rings(), merged, run, resume=resume)
    return run, objective


def state(run):
    return torch.load(run.path / "state.pt", weights_only=True)


def test_each_term_stands_in_the_log_and_they_add_up(tmp_path):
    run, _ = trained(tmp_path / "run")
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    for line in lines:
        assert line["loss"] == pytest.approx(line["loss/network/denoising"] + line["loss/network/scaled"], rel=1e-6)
    alone, _ = trained(tmp_path / "alone", objective=Denoising())
    assert "loss/network/loss" not in (alone.path / "log.jsonl").read_text()


def test_parameters_of_a_term_are_trained_and_stored_and_not_exported(tmp_path):
    run, objective = trained(tmp_path / "run")
    scale = objective.parts["scaled"].objective.scale.weight
    assert abs(float(scale.detach()) - 0.3) > 1e-4
    assert torch.equal(state(run)["modules"]["objective/scaled/scale"]["weight"], scale.detach())
    assert set(load_weights(run.weights_path)[0]) == set(denoiser().network.state_dict())


@pytest.mark.parametrize("changes", [{"micro_batch_size": 3}, {"prefetch": 0}, {"noise_levels": 2}])
def test_resumed_in_micro_batches_the_same_training(tmp_path, changes):
    """Micro batches change the order of a sum, and so the last digits; resumption changes no bit."""
    whole, objective = trained(tmp_path / "whole", **changes)
    part, _ = trained(tmp_path / "part", **{**changes, "steps": 10})
    again, resumed = trained(tmp_path / "part", resume=True, **changes)
    for name, tensor in load_weights(whole.weights_path)[0].items():
        assert torch.equal(tensor, load_weights(again.weights_path)[0][name]), name
    scale = objective.parts["scaled"].objective.scale.weight
    assert torch.equal(scale, resumed.parts["scaled"].objective.scale.weight)
    assert part.path == again.path
    if "noise_levels" not in changes:
        _, usual = trained(tmp_path / "usual")
        torch.testing.assert_close(scale, usual.parts["scaled"].objective.scale.weight, rtol=1e-4, atol=1e-6)


def test_a_run_with_another_objective_is_not_resumed(tmp_path):
    trained(tmp_path / "run", steps=10)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    with pytest.raises(AnydiffError, match="its modules are network, objective/scaled/scale"):
        trained(tmp_path / "copy", resume=True, objective=Denoising())


def test_a_method_that_forgets_the_modules_of_its_objective_is_refused():
    class Forgetful(TrainingMethod):
        def modules(self):
            return {"network": self.denoiser.network}

        def step(self, examples, progress, groups):
            return {"network": {"loss": self.loss(examples)}}

    objective = Sum({"denoising": Weighted(Denoising(), 1.0), "scaled": Weighted(Scaled(), 0.5)})
    with pytest.raises(AnydiffError, match="Forgetful does not train the module 'scaled/scale' of its objective"):
        checked_groups(Forgetful(denoiser(), objective))


def test_terms_that_do_not_fit_are_refused_before_the_training():
    class Picky(Scaled):
        def prepare(self, denoiser):
            raise AnydiffError("not this one.")

    with pytest.raises(AnydiffError, match="not this one"):
        ObjectiveMethod(denoiser(), Sum({"a": Weighted(Denoising(), 1.0), "b": Weighted(Picky(), 1.0)}))
