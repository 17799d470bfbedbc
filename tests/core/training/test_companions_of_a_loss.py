"""Frozen models that a loss asks: asked in any kind, in no optimiser, no average and no export, named by their hash."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from anydiff.denoisers import NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.objectives import Beside, Call, Denoising, Sum, Term, Weighted
from anydiff.states import Conditioning
from anydiff.training import ObjectiveMethod, RunFolder, TrainingSettings, fit, load_weights, weights_hash
from anydiff.training.companions import meet

sys.path.insert(0, str(Path(__file__).parent))
from toy import SETTINGS, Rings, denoiser


class Near(Term):
    """How far the trained network is from a teacher."""

    needs = ("teacher",)

    def loss(self, call):
        wanted = call.predicted_by("teacher", "noise")
        assert not wanted.requires_grad
        return (call.predict("noise") - wanted).square().mean(1)


def other(seed=5):
    """A teacher of other weights."""
    made = denoiser(0.5)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return made


def method(teacher, dropout=0.1):
    terms = Sum({"denoising": Weighted(Denoising(), 1.0), "near": Weighted(Near(), 0.5)})
    made = ObjectiveMethod(denoiser(dropout), terms)
    meet(made, {"teacher": teacher})
    return made


def trained(folder, teacher, resume=False, **settings):
    merged = TrainingSettings.parse({**SETTINGS, **settings}, "the test")
    run = RunFolder.create(folder, merged.model_dump(mode="json"), {"recipe": "{}"}, resume=resume)
    fit(method(teacher), Rings(), merged, run, resume=resume)
    return run, torch.load(run.path / "state.pt", weights_only=True)


def test_a_companion_is_trained_and_exported_nowhere_and_named_by_its_hash(tmp_path):
    teacher = other()
    before = weights_hash(teacher.state_dict())
    run, state = trained(tmp_path / "run", teacher)
    assert weights_hash(teacher.state_dict()) == before == state["frozen"]["companion/teacher"]
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    own = denoiser().network.state_dict()
    assert set(state["modules"]) == set(state["averages"]) == {"network"}
    assert len(state["optimisers"]["network"]["state"]) == len(list(denoiser().network.parameters()))
    assert set(load_weights(run.weights_path)[0]) == set(own)
    assert all("near" in str(line) for line in run.records())


def test_resumed_bit_for_bit_and_not_with_another_companion(tmp_path):
    _, whole = trained(tmp_path / "whole", other())
    trained(tmp_path / "part", other(), steps=10)
    with pytest.raises(AnydiffError, match="the frozen companion 'companion/teacher' has the weights"):
        trained(tmp_path / "part", other(6), resume=True)
    _, again = trained(tmp_path / "part", other(), resume=True)
    assert all(torch.equal(whole["modules"]["network"][n], v) for n, v in again["modules"]["network"].items())


def batch(levels=1):
    points = Rings()
    clean, condition = points.batch(list(range(6)))
    noise = torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    return clean, noise, torch.linspace(0.1, 0.9, 6, dtype=torch.float64), condition


def test_a_companion_is_asked_in_any_kind_and_called_once():
    teacher = other().eval()
    calls = []
    teacher.network.register_forward_hook(lambda *given: calls.append(1))
    call = Call(denoiser(0.0), Denoising().times, *batch(), beside=Beside({"teacher": teacher}))
    with torch.no_grad():
        data, noise = (call.named("a").predicted_by("teacher", kind) for kind in ("data", "noise"))
        assert len(calls) == 1
        torch.testing.assert_close(data, teacher.predict(call.x, call.t, "data", call.condition))
    torch.testing.assert_close(call.path.mix(call.t, x0=data, noise=noise), call.x)
    with pytest.raises(AnydiffError, match="asks for the companion 'critic', but there is teacher"):
        call.companion("critic")


def test_a_gradient_flows_through_a_companion_to_what_it_is_asked_about():
    teacher = other().requires_grad_(False)
    x = torch.ones(2, 2, requires_grad=True)
    teacher.predict(x, 0.5, "data", Conditioning({"label": torch.tensor([0, 1])})).sum().backward()
    assert float(x.grad.abs().sum()) > 0


def test_what_the_trained_network_made_of_a_condition_is_not_for_its_companion():
    class Spoilt(torch.nn.Module):
        """Reads the parts of a condition where there are some."""

        def forward(self, x, told, condition):
            return condition.parts["label"]["made"].expand_as(x)

        def encode_condition(self, condition):
            return condition.with_parts("label", made=torch.full((len(condition.given["label"]), 1), self.number))

    student, teacher = (NetworkDenoiser(Spoilt(), denoiser().path) for _ in range(2))
    student.network.number, teacher.network.number = 1.0, 2.0
    clean, noise, uniform, condition = batch()
    seen = student.encode_condition(replace(condition))
    call = Call(student, Denoising().times, clean, noise, uniform, seen, beside=Beside({"teacher": teacher}))
    assert float(call.native[0, 0]) == 1.0
    assert float(call.predicted_by("teacher", "noise")[0, 0]) == 2.0


def test_a_companion_that_is_missing_is_named():
    with pytest.raises(AnydiffError, match=r"asks for the companion 'teacher', but the recipe names none; set"):
        meet(ObjectiveMethod(denoiser(), Near()), {})
