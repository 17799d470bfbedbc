"""The loop: it learns, and devices, micro batches, interruptions and listeners do not change what is learned."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from anydiff.denoisers import GaussianOracle
from anydiff.errors import AnydiffError, FileFormatError, NonFiniteError
from anydiff.networks import MLP
from anydiff.objectives import Denoising
from anydiff.states import UNCONDITIONAL
from anydiff.training import (
    EMA,
    Hardware,
    ObjectiveMethod,
    RunFolder,
    TrainingEvents,
    TrainingSettings,
    fit,
    load_into,
    weights_hash,
)
from anydiff.training.examples import ExampleStream

sys.path.insert(0, str(Path(__file__).parent))
from toy import SETTINGS, Rings, denoiser, train


def final(run: RunFolder):
    return run.load_weights()[0]


def stream(dataset=None, events=(), **settings) -> ExampleStream:
    return ExampleStream(dataset or Rings(), denoiser().path, TrainingSettings(**{**SETTINGS, **settings}), events)


def difference(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in one)


class Gaussian(Rings):
    """Draws from N((1, -1), 0.25 I), whose best denoiser is known."""

    def __init__(self) -> None:
        super().__init__(4096)
        noise = torch.randn(4096, 2, generator=torch.Generator().manual_seed(1))
        self.points = torch.tensor([1.0, -1.0]) + 0.5 * noise


def test_training_finds_the_exact_denoiser_and_logs_its_way(tmp_path):
    settings = {"steps": 300, "batch_size": 64, "learning_rate": 5e-3, "schedule": "cosine", "checkpoint_every": 300}
    run = train(tmp_path / "run", dataset=Gaussian(), dropout=0.0, log_every=25, ema_decay=0.98, **settings)
    records = run.records()
    assert [record["step"] for record in records] == list(range(25, 301, 25))
    assert {"loss", "gradient_norm", "learning_rate", "samples_per_second", "seconds"} <= set(records[0])
    metadata = run.load_weights()[1]
    assert metadata["step"] == "300"
    assert metadata["dataset_hash"] == Gaussian().hash
    trained = denoiser(0.0)
    load_into(trained.network, final(run), "the run")
    exact = GaussianOracle(trained.path, torch.tensor([1.0, -1.0]), 0.25)
    generator = torch.Generator().manual_seed(2)
    for t in (0.2, 0.5, 0.8):
        clean = torch.tensor([1.0, -1.0]) + 0.5 * torch.randn(2000, 2, generator=generator)
        noise = torch.randn(2000, 2, generator=generator)
        x = trained.path.alpha(t) * clean + trained.path.sigma(t) * noise
        with torch.no_grad():
            error = trained.eval().predict(x, t, "noise") - exact.predict(x, t, "noise")
        assert error.square().mean().sqrt() < 0.12, t


def test_every_epoch_is_a_permutation_and_examples_depend_on_their_position_alone():
    examples = stream()
    first, second = examples.indices(range(100)), examples.indices(range(100, 200))
    assert sorted(first) == sorted(second) == list(range(100))
    assert first != second
    whole = examples.examples(0, range(90, 110))
    other = stream(batch_size=64, micro_batch_size=2)
    for position in (93, 104):
        alone = other.examples(5, [position])
        row = position - 90
        assert torch.equal(alone.clean[0], whole.clean[row])
        assert torch.equal(alone.noise[0], whole.noise[row])
        assert alone.uniform[0] == whole.uniform[row]
        assert alone.condition.present["label"][0] == whole.condition.present["label"][row]
    assert not torch.equal(stream(seed=4).examples(0, [0]).noise, examples.examples(0, [0]).noise)
    hidden = examples.examples(0, range(4000)).condition.present["label"]
    assert abs((~hidden).float().mean() - 0.3) < 0.03


def test_accumulation_gives_the_gradient_of_the_whole_batch(tmp_path):
    options = {"dropout": 0.0, "steps": 10, "batch_size": 32, "precision": "64-true"}
    whole = final(train(tmp_path / "whole", **options))
    for size in (16, 5):
        parts = final(train(tmp_path / str(size), micro_batch_size=size, **options))
        # Adam divides by the gradient's size, so rounding shows where a gradient is nearly zero.
        assert difference(whole, parts) < 1e-6


class Encoding(torch.nn.Module):
    """Hands a network its condition with an encoding that it counts and reads."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.scale, self.encoded = denoiser(0.0).network, torch.nn.Parameter(torch.ones(2)), 0

    def encode_condition(self, condition=UNCONDITIONAL):
        self.encoded += 1
        assert len(condition.given["label"]) == 8
        return condition.with_parts("label", shift=self.scale * condition.given["label"][:, None])

    def forward(self, x, log_snr, condition=UNCONDITIONAL):
        return self.inner(x + condition.parts["label"]["shift"], log_snr, condition)


def test_several_noise_levels_share_one_encoding_and_are_spread_evenly(tmp_path):
    many, one = stream(noise_levels=4).examples(0, range(8)), stream().examples(0, range(8))
    assert torch.equal(many.noise[::4], one.noise)
    assert torch.equal(many.uniform[::4], one.uniform)
    assert len(many.clean) == len(many.condition.given["label"]) == 8
    assert torch.allclose(many.uniform.reshape(8, 4).sort(dim=1).values.diff(dim=1), torch.tensor(0.25).double())
    assert abs(torch.corrcoef(many.noise.reshape(8, 4, 2).permute(1, 0, 2).flatten(1)) - torch.eye(4)).max() < 0.8

    trained = denoiser(0.0)
    trained.network = Encoding()
    settings = TrainingSettings(**{**SETTINGS, "steps": 2, "log_every": 1, "noise_levels": 4})
    by_hand = trained.network.encode_condition(many.condition).repeat(4)
    expected = Denoising()(trained, many.clean.repeat_interleave(4, dim=0), many.noise, many.uniform, by_hand).mean()
    trained.network.encoded = 0
    run = RunFolder.create(tmp_path / "run", {})
    fit(ObjectiveMethod(trained, Denoising()), Rings(), settings, run)
    assert run.records()[0]["loss"] == pytest.approx(expected.item(), rel=1e-6)
    assert trained.network.encoded == 2
    assert (trained.network.scale != 1).all(), "the gradient reaches the encoder"


def test_resumed_is_uninterrupted_bit_for_bit(tmp_path):
    whole = train(tmp_path / "whole")
    parts = train(tmp_path / "parts", steps=10)
    torch.manual_seed(99)  # the caller's random state has no say
    train(tmp_path / "parts", resume=True)
    assert weights_hash(final(whole)) == weights_hash(final(parts))
    states = [run.load_state() for run in (whole, parts)]
    networks = [weights_hash(state["modules"]["network"]) for state in states]
    averages = [state["averages"]["network"] for state in states]
    assert networks[0] == networks[1] != weights_hash(final(whole))
    assert weights_hash(final(whole)) == weights_hash(averages[0]["tensors"]) == weights_hash(averages[1]["tensors"])
    assert averages[0]["counter"] == averages[1]["counter"] == 20
    assert [r["loss"] for r in whole.records()] == [r["loss"] for r in parts.records()]


def test_training_leaves_the_callers_random_state(tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    dataset = Rings()
    settings = TrainingSettings(steps=2, batch_size=4)
    run = RunFolder.create(tmp_path / "run", {})
    network = denoiser()
    torch.manual_seed(7)
    fit(ObjectiveMethod(network, Denoising()), dataset, settings, run)
    assert torch.equal(torch.rand(1), expected)


class Interrupting(TrainingEvents):
    def __init__(self, at: int) -> None:
        self.at = at

    def transform_batch(self, batch, step, positions):
        if step == self.at:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_saves_and_resuming_changes_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt, match=r"stopped at step 14 of 20 and saved in .*resume"):
        train(tmp_path / "run", options={"callbacks": [Interrupting(13)]})
    assert RunFolder.open(tmp_path / "run").load_state()["step"] == 14
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed, whole = train(tmp_path / "run", resume=True), train(tmp_path / "whole")
    assert weights_hash(final(resumed)) == weights_hash(final(whole))
    # Step 14 lies between two lines of the log: the mean loss of the line at 15 must not notice.
    assert [r["loss"] for r in resumed.records()] == [r["loss"] for r in whole.records()]


class Recording(TrainingEvents):
    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def training_started(self, folder, denoiser, step):
        self.told.append(("started", step))

    def training_step(self, folder, step, values):
        assert values["loss"] > 0
        self.told.append(("step", step))

    def checkpoint_saved(self, folder, step):
        assert RunFolder.open(folder).load_state()["step"] == step
        self.told.append(("saved", step))


class Shifting(TrainingEvents):
    def transform_batch(self, batch, step, positions):
        return batch[0] + 100, batch[1]


def test_listeners_are_told_in_order_and_may_change_the_batch(tmp_path):
    recording = Recording()
    train(tmp_path / "run", options={"callbacks": [recording]})
    assert recording.told == [
        ("started", 0),
        *[("step", 5), ("step", 10), ("saved", 10)],
        *[("step", 15), ("step", 20), ("saved", 20)],
    ]
    recording.told.clear()
    train(tmp_path / "run", steps=22, resume=True, options={"callbacks": [recording]})
    assert recording.told == [("started", 20), ("step", 22), ("saved", 22)]
    plain, shifted = stream().examples(0, range(4)), stream(events=[Shifting()]).examples(0, range(4))
    assert torch.equal(shifted.clean, plain.clean + 100)
    assert torch.equal(shifted.noise, plain.noise)


class NaNRings(Rings):
    def batch(self, indices):
        states, condition = super().batch(indices)
        states = states.clone()
        states[[index == 17 for index in indices]] = float("nan")
        return states, condition


class Poisoning(TrainingEvents):
    """After ten steps, break one tensor of the network."""

    def __init__(self, poison) -> None:
        self.poison = poison

    def training_started(self, folder, denoiser, step):
        self.denoiser = denoiser

    def checkpoint_saved(self, folder, step):
        if step == 10:
            self.poison(self.denoiser.network)


class Overflow(torch.nn.Module):
    def forward(self, x):
        return x * 1e38 * 1e38 * 0


class SteepRoot(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("inf")


class BadGradient(torch.nn.Module):
    def forward(self, x):
        return SteepRoot.apply(x)


def poison_weight(network):
    with torch.no_grad():
        network.blocks[1].entry.weight[3, 2] = float("inf")


def poison_activation(network):
    network.blocks[0].dropout = Overflow()


def poison_gradient(network):
    network.blocks[1].dropout = BadGradient()


@pytest.mark.parametrize(
    ("poison", "message"),
    [
        (poison_weight, r"step 11: the parameter 'network.blocks.1.entry.weight' is NaN"),
        (poison_activation, r"step 11: the output of the layer 'network.blocks.0.dropout' \(Overflow\)"),
        (poison_gradient, r"step 11: the gradient of the parameter 'network.blocks.1.entry"),
    ],
)
def test_the_first_bad_tensor_is_named_and_the_checkpoint_kept(tmp_path, poison, message):
    with pytest.raises(NonFiniteError, match=message) as caught:
        train(tmp_path / "run", options={"callbacks": [Poisoning(poison)]}, micro_batch_size=3)
    assert "last checkpoint is of step 10" in str(caught.value)
    assert all(torch.isfinite(tensor).all() for tensor in final(RunFolder.open(tmp_path / "run")).values())


def test_bad_data_is_named_by_its_index(tmp_path):
    with pytest.raises(NonFiniteError, match="the states of example 17 of the data set"):
        train(tmp_path / "run", dataset=NaNRings())


def test_ema_is_the_weighted_mean_of_the_weights_with_a_counter():
    module = torch.nn.Linear(1, 1, bias=False)
    module.register_buffer("count", torch.tensor(0))
    ema = EMA(module, decay=0.5)
    expected = module.weight.item()
    for step in range(1, 30):
        with torch.no_grad():
            module.weight.fill_(step)
            module.count.fill_(step)
        ema.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        assert ema.tensors["weight"].item() == pytest.approx(expected, rel=1e-5)
    assert ema.counter == 29
    assert ema.tensors["count"] == 29
    other = EMA(module, decay=0.5)
    other.load_state_dict(ema.state_dict())
    other.copy_to(module)
    assert module.weight.item() == pytest.approx(expected, rel=1e-5)
    half = EMA(module.bfloat16(), 0.5)
    assert half.tensors["weight"].dtype == torch.float32


def test_resume_refuses_other_settings_data_and_networks(tmp_path, monkeypatch):
    train(tmp_path / "run", steps=10)
    with pytest.raises(AnydiffError, match=r"learning_rate is 0.5, but the run was begun with 0.001"):
        train(tmp_path / "run", resume=True, learning_rate=0.5)
    with pytest.raises(AnydiffError, match="data set 'rings' has the hash"):
        train(tmp_path / "run", resume=True, dataset=Rings(98))
    monkeypatch.setattr("toy.MLP", lambda *a, **o: MLP(*a, **{**o, "width": 24}))
    with pytest.raises(FileFormatError, match="belongs to another network"):
        train(tmp_path / "run", resume=True)


def test_bad_devices_precision_and_data_are_named(tmp_path):
    for options, message in (
        ({"accelerator": "cpu", "strategy": "fsdp"}, "strategy is 'fsdp'"),
        ({"devices": 0}, "devices is 0"),
        ({"devices": "two"}, "devices is 'two'"),
        ({"accelerator": "teapot"}, "cannot train on 1 'teapot'"),
    ):
        with pytest.raises(AnydiffError, match=message):
            train(tmp_path / message, hardware=Hardware(**options))
    with pytest.raises(AnydiffError, match="precision is '16-mixed'"):
        train(tmp_path / "half", hardware=Hardware(accelerator="cpu"), precision="16-mixed")
    empty = Rings()
    empty.points = empty.points[:0]
    with pytest.raises(AnydiffError, match="empty"):
        train(tmp_path / "empty", dataset=empty)


def test_mixed_precision_rounds_no_time_on_its_way_to_the_method(tmp_path):
    seen = []

    class Looking(ObjectiveMethod):
        def step(self, examples, progress, groups):
            seen.append(examples.uniform)
            return super().step(examples, progress, groups)

    settings = TrainingSettings(**{**SETTINGS, "steps": 1, "precision": "bf16-mixed"})
    fit(Looking(denoiser(0.0), Denoising()), Rings(), settings, RunFolder.create(tmp_path / "run", {}))
    assert seen[0].dtype == torch.float64
    assert torch.equal(seen[0], stream().examples(0, range(len(seen[0]))).uniform)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_other_precisions_train_and_resume_exactly(tmp_path, precision):
    whole = train(tmp_path / "whole", steps=12, checkpoint_every=6, precision=precision)
    train(tmp_path / "parts", steps=6, checkpoint_every=6, precision=precision)
    parts = train(tmp_path / "parts", steps=12, checkpoint_every=6, precision=precision, resume=True)
    assert weights_hash(final(whole)) == weights_hash(final(parts))
    exact = final(train(tmp_path / "exact", steps=12))
    assert difference({k: v.double() for k, v in final(whole).items()}, exact) < 0.02


def test_progress_shows_loss_rate_and_time_left(tmp_path):
    for terminal in (False, True):
        text = io.StringIO()
        console = Console(file=text, force_terminal=terminal, width=120)
        train(tmp_path / str(terminal), options={"console": console})
        assert "loss" in text.getvalue()
        assert "samples/s" in text.getvalue()
        assert "left" in text.getvalue()


def test_two_processes_train_the_same_model_as_one(tmp_path):
    one = train(tmp_path / "one", dropout=0.0, batch_size=16)
    toy = str(Path(__file__).parent / "toy.py")
    command = [sys.executable, toy, str(tmp_path / "two"), "devices=2", "batch_size=16"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    two = RunFolder.open(tmp_path / "two")
    assert difference(final(one), final(two)) < 1e-5
    for a, b in zip(one.records(), two.records(), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
        assert a["learning_rate"] == b["learning_rate"]


def test_what_only_metrics_may_know_is_not_trained_on():
    class Knowing(Rings):
        def batch(self, indices):
            points, condition = super().batch(indices)
            return points, replace(condition, truth={"angle": points[:, 0]})

    assert not stream(dataset=Knowing()).examples(0, [0, 1]).condition.truth
