"""Losses of the whole batch: micro batches and devices change nothing but rounding, and resumption changes no bit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from anydiff.errors import AnydiffError
from anydiff.objectives import Call, Coupled, Denoising, Sum, Weighted
from anydiff.training import Hardware, ObjectiveMethod, RunFolder, TrainingSettings, fit

sys.path.insert(0, str(Path(__file__).parent))
from toy import SETTINGS, Rings, denoiser


class Energy(Coupled):
    """Energy distance between predictions and data, over all pairs of the batch."""

    passes = 0

    def outputs(self, call: Call):
        return {"made": call.predict("data"), "real": call.clean, "label": call.condition.given["label"]}

    def batch_loss(self, outputs):
        type(self).passes += 1
        made, real = outputs["made"], outputs["real"]
        assert outputs["label"].dtype == torch.int64
        apart = torch.cdist(made, real, compute_mode="donot_use_mm_for_euclid_dist").mean()
        return 2 * apart - _mean_of_pairs(made) - _mean_of_pairs(real)


def _mean_of_pairs(x):
    n = len(x)
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").sum() / (n * (n - 1))


class Rows(Coupled):
    """The mean over all examples, row by row: what an ordinary term is, too."""

    def outputs(self, call):
        return {"error": (call.native - call.noise).square().mean(1)}

    def batch_loss(self, outputs):
        return outputs["error"].mean()


def both(weight=0.5):
    return Sum({"denoising": Weighted(Denoising(), 1.0), "energy": Weighted(Energy(), weight)})


def trained(folder, objective, resume=False, hardware=None, dropout=0.0, steps=1, **settings):
    settings = {"batch_size": 32, "precision": "64-true", "gradient_clip": None, **settings}
    merged = TrainingSettings.parse({**SETTINGS, **settings, "steps": steps, "log_every": 1}, "the test")
    run = RunFolder.create(folder, merged.model_dump(mode="json"), {"recipe": "{}"}, resume=resume)
    method = ObjectiveMethod(denoiser(dropout).double(), objective)
    fit(method, Rings(), merged, run, resume=resume, hardware=hardware or Hardware())
    return run, torch.load(run.path / "state.pt", weights_only=True)


def gradient(folder, objective, **settings):
    """The gradient of one step, by a step of plain descent at a rate of 1."""
    options = {"optimiser": "sgd", "betas": [0.0, 0.0], "learning_rate": 1.0, "warmup_steps": 0, "weight_decay": 0.0}
    run, state = trained(folder, objective, **{**options, **settings})
    before = denoiser(0.0).double().network.state_dict()
    after = state["modules"]["network"]
    return torch.cat([(before[name] - after[name].double()).flatten() for name in before]), run


def test_micro_batches_and_devices_give_one_gradient(tmp_path):
    whole, run = gradient(tmp_path / "whole", both())
    assert float(whole.norm()) > 0.1
    for name, options in {
        "micro": {"micro_batch_size": 4},
        "ragged": {"micro_batch_size": 7},
        "two": {"hardware": Hardware(2, "cpu", "ddp_fork")},
        "two-micro": {"hardware": Hardware(2, "cpu", "ddp_fork"), "micro_batch_size": 5},
    }.items():
        parts, other = gradient(tmp_path / name, both(), **options)
        assert float((parts - whole).norm() / whole.norm()) < 1e-12, name
        for one, two in zip(run.records(), other.records(), strict=True):
            for key in ("loss", "loss/network/energy"):
                assert one[key] == pytest.approx(two[key], rel=1e-6), (name, key)


def test_the_mean_of_the_losses_of_micro_batches_is_another_estimator(tmp_path):
    """What the two passes are for: without them the gradient is far away."""

    class Apart(Energy):
        couples = False  # so that each micro batch is a batch of its own

    whole, _ = gradient(tmp_path / "whole", Sum({"d": Weighted(Denoising(), 1e-9), "e": Weighted(Energy(), 1.0)}))
    apart, _ = gradient(
        tmp_path / "apart", Sum({"d": Weighted(Denoising(), 1e-9), "e": Weighted(Apart(), 1.0)}), micro_batch_size=4
    )
    assert float((apart - whole).norm() / whole.norm()) > 0.05


def test_a_sum_over_examples_is_the_ordinary_term(tmp_path):
    whole, _ = gradient(tmp_path / "plain", Denoising())
    coupled, _ = gradient(
        tmp_path / "rows",
        Sum({"d": Weighted(Denoising(), 0.25), "rows": Weighted(Rows(), 0.75)}),
        micro_batch_size=8,
        noise_levels=1,
    )
    assert float((coupled - whole).norm() / whole.norm()) < 1e-12


@pytest.mark.parametrize("changes", [{}, {"noise_levels": 2}, {"dropout": 0.2}])
def test_resumed_bit_for_bit(tmp_path, changes):
    options = {"precision": "32-true", "micro_batch_size": 8, "checkpoint_every": 3, **changes}
    _, whole = trained(tmp_path / "whole", both(), steps=6, **options)
    trained(tmp_path / "part", both(), steps=3, **options)
    _, again = trained(tmp_path / "part", both(), resume=True, steps=6, **options)
    for kind in ("modules", "averages"):
        one = whole[kind]["network"].get("tensors", whole[kind]["network"])
        two = again[kind]["network"].get("tensors", again[kind]["network"])
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_loss_is_made_once_per_step_and_not_per_micro_batch(tmp_path):
    Energy.passes = 0
    trained(tmp_path / "run", both(), steps=3, micro_batch_size=4)
    assert Energy.passes == 3


def test_dropout_is_the_same_in_both_passes(tmp_path):
    """With other masks in the second pass the gradient would be that of no function: here it vanishes with the loss."""

    seen = []

    class Same(Coupled):
        def outputs(self, call):
            seen.append(call.predict("data").detach().clone())
            return {"made": call.predict("data")}

        def batch_loss(self, outputs):
            return outputs["made"].square().mean()

    trained(
        tmp_path / "run", Sum({"d": Weighted(Denoising(), 1.0), "same": Weighted(Same(), 1.0)}), dropout=0.5,
        micro_batch_size=16,
    )  # fmt: skip
    first, second = seen[:2], seen[2:]
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])


def test_an_output_without_a_row_per_example_is_refused():
    class Wrong(Rows):
        def outputs(self, call):
            return {"error": call.native.mean()}

    call = Call(denoiser(0.0), Denoising().times, torch.zeros(3, 2), torch.ones(3, 2), torch.full((3,), 0.5))
    with pytest.raises(AnydiffError, match=r"the output 'error' of the term Wrong has shape \(\)"):
        Wrong().loss(call)
    assert Rows().loss(call).shape == (3,)
