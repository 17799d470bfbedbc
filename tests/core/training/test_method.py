"""Training methods: several modules, groups that move in turn, companions, and what is refused by name."""

from __future__ import annotations

import copy
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from anydiff.errors import AnydiffError, FileFormatError
from anydiff.objectives import Denoising
from anydiff.training import (
    Average,
    Hardware,
    ObjectiveMethod,
    RunFolder,
    TrainingMethod,
    TrainingSettings,
    fit,
    weights_hash,
)

sys.path.insert(0, str(Path(__file__).parent))
from toy import SETTINGS, Rings, denoiser, train


class Critical(TrainingMethod):
    """A critic that moves before the network, a frozen teacher and a slow copy of the critic."""

    def __init__(self) -> None:
        super().__init__(denoiser(0.0), Denoising())
        torch.manual_seed(5)
        self.critic, self.teacher = nn.Linear(2, 1), nn.Linear(2, 1)
        self.slow = copy.deepcopy(self.critic)
        self.seen = []

    def modules(self):
        return {**super().modules(), "critic": self.critic}

    def frozen(self):
        return {"teacher": self.teacher}

    def averages(self):
        return {"slow": Average(self.slow, "critic", 0.9)}

    def order(self):
        return [["critic"], ["network"]]

    def optimiser(self, group, settings):
        chosen = super().optimiser(group, settings)
        return replace(chosen, name="sgd", learning_rate=0.1, schedule="cosine") if group == "critic" else chosen

    def step(self, examples, progress, groups):
        self.seen.append((progress, groups, self.critic.weight.detach().clone()))
        judged, taught = self.critic(examples.clean)[:, 0], self.teacher(examples.clean)[:, 0]
        if groups == ("critic",):
            return {"critic": {"error": (judged - taught).square()}}
        assert not self.critic.weight.requires_grad
        slow = self.slow(self.denoiser(examples.clean, 0.5))[:, 0]
        return {"network": {"objective": self.loss(examples), "slow": 0.1 * (1 - progress) * slow.square()}}


def run_method(folder, method=None, resume=False, options=None, **settings):
    method = method or Critical()
    merged = TrainingSettings(**{**SETTINGS, **settings})
    run = RunFolder.create(folder, {}, resume=resume)
    fit(method, Rings(), merged, run, resume=resume, hardware=Hardware(accelerator="cpu", **(options or {})))
    return method, run


def digest(run):
    state = run.load_state()
    parts = {**state["modules"], **{name: each["tensors"] for name, each in state["averages"].items()}}
    return {name: weights_hash(part) for name, part in parts.items()}


def test_groups_move_in_their_order_by_optimisers_of_their_own(tmp_path):
    method, run = run_method(tmp_path / "run", steps=4, checkpoint_every=4, log_every=2, prefetch=0)
    assert [(progress, groups) for progress, groups, _ in method.seen[:4]] == [
        (0.0, ("critic",)), (0.0, ("network",)), (0.25, ("critic",)), (0.25, ("network",)),
    ]  # fmt: skip
    assert not torch.equal(method.seen[0][2], method.seen[1][2]), "the network sees the critic of its own step"
    assert torch.equal(method.seen[1][2], method.seen[2][2])
    record = run.records()[0]
    names = {"loss", "loss/critic/error", "loss/network/objective", "loss/network/slow", "gradient_norm/critic"}
    assert names <= set(record)
    assert record["loss"] == pytest.approx(record["loss/network/objective"] + record["loss/network/slow"])
    # Cosine after half of the steps but one, times the warm-up of five steps.
    assert record["learning_rate/critic"] == pytest.approx(0.1 * 0.5 * (1 + 2**-0.5) * 2 / 5)
    untouched = Critical()
    assert weights_hash(method.teacher.state_dict()) == weights_hash(untouched.teacher.state_dict())
    assert weights_hash(method.slow.state_dict()) not in {
        weights_hash(each.critic.state_dict()) for each in (method, untouched)
    }


@pytest.mark.parametrize("halfway", [10, 15])
def test_several_modules_resume_bit_for_bit(tmp_path, halfway):
    _, whole = run_method(tmp_path / "whole", checkpoint_every=5)

    class Stop(Exception):
        pass

    class Stopping(Critical):
        def step(self, examples, progress, groups):
            if progress >= halfway / 20:
                raise Stop
            return super().step(examples, progress, groups)

    with pytest.raises(Stop):
        run_method(tmp_path / "parts", Stopping(), checkpoint_every=5)
    method, parts = run_method(tmp_path / "parts", checkpoint_every=5, resume=True)
    assert method.seen[0][0] == halfway / 20
    assert digest(whole) == digest(parts)
    assert [record["loss"] for record in whole.records()] == [record["loss"] for record in parts.records()]


def test_micro_batches_change_no_more_than_rounding(tmp_path):
    options = {"steps": 10, "batch_size": 16, "precision": "64-true", "checkpoint_every": 10}
    states = [
        run_method(tmp_path / str(size), micro_batch_size=size, **options)[1].load_state()["modules"]
        for size in (16, 5)
    ]
    for name in ("network", "critic"):
        for key, value in states[0][name].items():
            assert torch.allclose(value, states[1][name][key], atol=1e-6), (name, key)


def test_two_devices_train_what_one_does(tmp_path):
    options = {"steps": 6, "checkpoint_every": 6, "batch_size": 8}
    one = run_method(tmp_path / "one", **options)[1].load_state()["modules"]
    run_method(tmp_path / "two", options={"devices": 2, "strategy": "ddp_fork"}, **options)
    two = RunFolder.open(tmp_path / "two").load_state()["modules"]
    for name in ("network", "critic"):
        for key, value in one[name].items():
            assert torch.allclose(value, two[name][key], atol=1e-4), (name, key)


class Overlapping(Critical):
    def groups(self):
        found = dict(super().groups())
        return {**found, "critic": [*found["critic"], next(iter(found["network"]))]}


class Missing(Critical):
    def groups(self):
        return {**super().groups(), "critic": [self.critic.weight]}


class Foreign(Critical):
    def groups(self):
        return {**super().groups(), "critic": [*self.critic.parameters(), self.teacher.weight]}


class Unmoved(Critical):
    def order(self):
        return [["network"]]


class Unknown(Critical):
    def order(self):
        return [["critic", "generator"], ["network"]]


class Elsewhere(Critical):
    def modules(self):
        return {"student": self.denoiser.network, "critic": self.critic}


class Reduced(Critical):
    def step(self, examples, progress, groups):
        losses = super().step(examples, progress, groups)
        return {group: {name: loss.mean() for name, loss in terms.items()} for group, terms in losses.items()}


class Other(Critical):
    def step(self, examples, progress, groups):
        return super().step(examples, progress, ("critic",))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Overlapping, r"groups 'network' and 'critic' of the training method Overlapping overlap: .*'network\."),
        (Missing, r"miss 1 trainable parameter\(s\), the first of them 'critic\.bias'; put"),
        (Foreign, r"group 'critic' .* parameter of shape \(1, 2\) that is in none of its modules \(network, critic\)"),
        (Unmoved, r"group 'critic' of the training method Unmoved is not in its order"),
        (Unknown, r"order of the training method Unknown names 'generator', but its groups are network, critic"),
        (Elsewhere, r"does not train the denoiser's network as modules\(\)\['network'\]"),
        (Reduced, r"loss 'error' of the group 'critic' .* has shape \(\), but must be \(8,\)"),
        (Other, r"was asked for the losses of network, but gave those of critic"),
    ],
)
def test_a_method_that_does_not_add_up_is_refused_by_name(tmp_path, method, message):
    with pytest.raises(AnydiffError, match=message):
        run_method(tmp_path / "run", method())
    assert not (tmp_path / "run" / "state.pt").exists()


def test_checkpoints_of_other_methods_companions_and_lengths_are_refused(tmp_path):
    train(tmp_path / "plain", steps=10, dropout=0.0)
    before = (tmp_path / "plain" / "state.pt").read_bytes()
    with pytest.raises(
        FileFormatError, match=r"another training method: its modules are network, but .* critic, network"
    ):
        run_method(tmp_path / "plain", steps=10, resume=True)
    assert (tmp_path / "plain" / "state.pt").read_bytes() == before
    run_method(tmp_path / "run", steps=10)
    with pytest.raises(AnydiffError, match="steps is 20, but the run was begun with 10"):
        run_method(tmp_path / "run", steps=20, resume=True)  # the share of the steps that is done would jump
    other = Critical()
    with torch.no_grad():
        other.teacher.weight += 1
    with pytest.raises(AnydiffError, match="frozen companion 'teacher' has the weights"):
        run_method(tmp_path / "run", other, steps=10, resume=True)


def test_a_state_that_was_stored_before_methods_had_names_resumes(tmp_path):
    stored = Path(__file__).parent / "stored" / "state-1"
    shutil.copytree(stored, tmp_path / "run")
    assert b"anydiff-state-1" in (stored / "state.pt").read_bytes()
    resumed = train(tmp_path / "run", resume=True, dropout=0.0)
    whole = train(tmp_path / "whole", dropout=0.0)
    for name, value in whole.load_weights()[
        0
    ].items():  # not bit for bit: another processor may have made the first half
        assert torch.allclose(value, resumed.load_weights()[0][name], atol=1e-5), name
    assert [r["loss"] for r in resumed.records()] == pytest.approx([r["loss"] for r in whole.records()], rel=1e-4)


# Examples made ahead -------------------------------------------------------------------------------------------------


class Watched(Rings):
    """Notes in which thread each batch is made."""

    def __init__(self) -> None:
        super().__init__()
        self.threads = []

    def batch(self, indices):
        self.threads.append(threading.current_thread().name)
        return super().batch(indices)


class Drawing(Watched):
    """Draws from torch's global stream, which a data set should not do, but which trained the same model each time."""

    def batch(self, indices):
        states, condition = super().batch(indices)
        return states + 0.01 * torch.randn(states.shape), condition


@pytest.mark.parametrize("dataset", [Watched, Drawing])
def test_examples_made_ahead_are_the_same(tmp_path, dataset):
    found = {}
    for ahead in (0, 1, 3):
        data = dataset()
        run = train(tmp_path / str(ahead), dataset=data, prefetch=ahead, micro_batch_size=3)
        found[ahead] = weights_hash(run.load_weights()[0])
        in_thread = data.threads.count("anydiff-examples")
        assert len(data.threads) == 60
        assert in_thread == (59 if ahead and dataset is Watched else 0)
    assert len(set(found.values())) == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "anydiff-examples"]


class Failing(Rings):
    def batch(self, indices):
        if self.left == 0:
            raise OSError("the disk is gone")
        self.left -= 1
        return super().batch(indices)


def test_what_the_thread_raises_is_raised_at_its_step(tmp_path):
    data = Failing()
    data.left = 7
    with pytest.raises(OSError, match="the disk is gone"):
        train(tmp_path / "run", dataset=data, checkpoint_every=1, prefetch=3)
    assert RunFolder.open(tmp_path / "run").load_state()["step"] == 7
    assert not [thread for thread in threading.enumerate() if thread.name == "anydiff-examples"]


def test_precisions_that_change_the_default_type_make_examples_in_turn(tmp_path):
    data = Watched()
    train(tmp_path / "run", dataset=data, precision="bf16-true", steps=4)
    assert "anydiff-examples" not in data.threads


def test_the_simplest_method_is_one_group_of_one_module():
    method = ObjectiveMethod(denoiser(), Denoising())
    assert [list(each) for each in (method.modules(), method.groups(), method.frozen(), method.averages())] == [
        ["network"], ["network"], [], [],
    ]  # fmt: skip
    assert method.order() == [["network"]]
    assert not method.uses_progress
