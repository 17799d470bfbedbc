"""Pipelines: load, sample, evaluate, save, and everything that can be wrong with a file."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import anydiff
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.guidance import Guidance, ScoreGuidance
from anydiff.metrics import MetricCard, SampleSet, Score
from anydiff.pipeline import Pipeline, load, train
from anydiff.plugins import hooks
from anydiff.samplers import AdaptiveODE
from anydiff.solvers import compile_plan
from anydiff.states import Known


def test_a_run_holds_what_it_promises(run):
    names = {entry.name for entry in run.iterdir()}
    assert {"config.yaml", "model.safetensors", "state.pt", "log.jsonl", "card.md"} <= names
    assert "two_moons/small" in (run / "card.md").read_text()


def test_samples_are_native_objects_keyed_by_seed_and_index(run):
    pipeline = load(run)
    points = pipeline.sample(8, nfe=4, seed=3, condition={"label": [0, 1] * 4})
    assert len(points) == 8
    assert isinstance(points[0], np.ndarray)
    alone = pipeline.sample([5], nfe=4, seed=3, condition={"label": [1]})
    np.testing.assert_allclose(alone[0], points[5], rtol=1e-5, atol=1e-6)
    other = pipeline.sample(8, nfe=4, seed=4, condition={"label": [0, 1] * 4})
    assert np.abs(np.array(other) - np.array(points)).max() > 1e-3


def test_save_and_load_keep_samples_and_recipe(run, tmp_path):
    pipeline = load(run)
    pipeline.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.recipe == pipeline.recipe
    assert again.weights_hash == pipeline.weights_hash
    assert torch.equal(again.sample_set(4, seed=1).states, pipeline.sample_set(4, seed=1).states)
    with pytest.raises(AnydiffError, match="exists"):
        pipeline.save(tmp_path / "model.safetensors")
    pipeline.save(tmp_path / "half.safetensors", dtype=torch.float16)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.65 * (tmp_path / "model.safetensors").stat().st_size
    np.testing.assert_allclose(
        load(tmp_path / "half.safetensors").sample_set(4, seed=1).states,
        pipeline.sample_set(4, seed=1).states,
        atol=0.05,
    )


def test_sampling_defaults_can_change_and_what_was_trained_cannot(run, tmp_path):
    pipeline = load(run).with_changes(["sampling.nfe=3", "sampling.grid=time"])
    pipeline.save(tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").plan().nfe == 3
    with pytest.raises(AnydiffError, match="train with it"):
        load(run).with_changes(["path=edm"])


def test_evaluate_reports_cards(run):
    scores = load(run).evaluate(64, nfe=2)
    score = scores["two_moons/mean-distance"]
    assert score.samples == 64
    assert score.card.direction == "lower"
    assert np.isfinite(score.value)


def test_evaluating_the_reference_itself_is_ideal(run):
    pipeline = load(run)
    objects = pipeline.domain.decode(pipeline.reference().states)
    assert pipeline.evaluate_objects(objects)["two_moons/mean-distance"].value < 1e-6


def test_resume_of_a_finished_run_changes_nothing(run, recipe):
    before = load(run).weights_hash
    assert train(recipe, run, resume=True).weights_hash == before


def test_a_run_folder_that_exists_is_not_touched(run, recipe):
    before = {entry.name: entry.read_bytes() for entry in run.iterdir() if entry.is_file()}
    with pytest.raises(AnydiffError, match="not empty"):
        train(recipe, run)
    assert {entry.name: entry.read_bytes() for entry in run.iterdir() if entry.is_file()} == before


def test_truncated_foreign_and_mismatched_weights(run, tmp_path):
    whole = (run / "model.safetensors").read_bytes()
    bad = tmp_path / "bad.safetensors"
    for content in (whole[: len(whole) // 2], b"", b"not weights at all", whole[:100]):
        bad.write_bytes(content)
        with pytest.raises(FileFormatError, match=r"bad\.safetensors"):
            load(bad)
    save_file({"a": torch.zeros(2)}, bad)
    with pytest.raises(FileFormatError, match="no anydiff format"):
        load(bad)
    with safe_open(run / "model.safetensors", framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = next(iter(tensors))
    save_file({**tensors, name: torch.zeros(3)}, bad, metadata)
    with pytest.raises(FileFormatError, match=name):
        load(bad)
    save_file({k: v for k, v in tensors.items() if k != name}, bad, metadata)
    with pytest.raises(FileFormatError, match="lacks"):
        load(bad)
    save_file(tensors, bad, {k: v for k, v in metadata.items() if k != "recipe"})
    with pytest.raises(FileFormatError, match="no recipe"):
        load(bad)
    save_file(tensors, bad, {**metadata, "recipe": "{"})
    with pytest.raises(FileFormatError, match="damaged"):
        load(bad)


def test_what_is_neither_recipe_nor_run_nor_weights(tmp_path):
    with pytest.raises(AnydiffError, match=r"no run folder and no weights file.*unknown recipe"):
        load("nothing/here")
    with pytest.raises(AnydiffError, match=r"without model\.safetensors"):
        load(tmp_path)
    with pytest.raises(AnydiffError, match="no bundled weights"):
        load("two_moons/small")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"count": 0}, "count"),
        ({"count": 2, "seed": -1}, "seed"),
        ({"count": 2, "seed": 1.5}, "seed"),
        ({"count": 2, "nfe": 0}, "nfe"),
        ({"count": 2, "solver": "ddimm"}, "did you mean 'ddim'"),
        ({"count": 2, "solver": "ddim", "etta": 1.0}, "did you mean 'eta'"),
        ({"count": 2, "grid": "tim"}, "did you mean 'time'"),
        ({"count": 2, "end": "cleen"}, "did you mean 'clean'"),
        ({"count": 2, "condition": {"lable": [0, 1]}}, "lable"),
        ({"count": 2, "condition": {"label": [0, 1, 1]}}, "label"),
        ({"count": 2, "guidance": 3.0}, "condition"),
        ({"count": 2, "guidance": float("nan"), "condition": {"label": 1}}, "finite"),
        ({"count": 2, "nfe": 1, "end": "denoise"}, "nfe"),
    ],
)
def test_bad_input_is_one_sentence(recipe, options, expected):
    pipeline = Pipeline.untrained(recipe)
    with pytest.raises(AnydiffError) as error:
        pipeline.sample(**options)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@dataclass(frozen=True)
class _Towards(Guidance):
    """Reads a condition of its own, which is none of the domain's."""

    reads = ("target",)

    def data(self, denoiser, x, t, condition):
        def log_density(value, t, condition):
            return -(value - condition.given["target"]).square().sum(1)

        return ScoreGuidance(log_density, 0.5, names=("target",)).data(denoiser, x, t, condition)


def test_guidance_may_read_a_condition_of_its_own(run):
    pipeline = load(run)
    condition = {"label": [0, 1], "target": torch.ones(2, 2)}
    guided = pipeline.sample_set(2, nfe=4, condition=condition, guidance=_Towards())
    plain = pipeline.sample_set(2, nfe=4, condition={"label": [0, 1]})
    assert (guided.states - 1).abs().mean() < (plain.states - 1).abs().mean()
    with pytest.raises(AnydiffError, match="target"):
        pipeline.sample_set(2, nfe=4, condition=condition)


def test_guidance_changes_samples_and_scale_one_does_not(run):
    pipeline = load(run)
    condition = {"label": torch.ones(4, dtype=torch.long)}
    plain = pipeline.sample_set(4, condition=condition, nfe=4).states
    assert torch.equal(pipeline.sample_set(4, condition=condition, nfe=4, guidance=1.0).states, plain)
    assert not torch.allclose(pipeline.sample_set(4, condition=condition, nfe=4, guidance=4.0).states, plain)


def test_known_entries_come_out_as_they_went_in(run):
    pipeline = load(run)
    mask = torch.tensor([True, False])
    states = pipeline.sample_set(6, nfe=4, known=torch.tensor([0.7, 0.0]), known_mask=mask).states
    assert torch.equal(states[:, 0], torch.full((6,), 0.7))
    points = pipeline.sample(2, nfe=4, known=[np.array([0.7, 0.0])] * 2, known_mask=mask)
    np.testing.assert_allclose([point[0] for point in points], 0.7, rtol=1e-6)
    with pytest.raises(AnydiffError, match="given without known_mask"):
        pipeline.sample(2, known=torch.zeros(2))
    with pytest.raises(AnydiffError, match=r"known_mask has shape \(3,\)"):
        pipeline.sample(2, known=torch.zeros(2), known_mask=torch.ones(3, dtype=torch.bool))


def test_a_domain_says_which_entries_a_condition_fixes(run, monkeypatch):
    pipeline = load(run)

    def fixed(condition):
        label = condition.given["label"]
        known = torch.stack([label.float(), torch.zeros(len(label))], dim=1)
        return Known(known, torch.tensor([True, False]).expand_as(known))

    monkeypatch.setattr(pipeline.domain, "known_entries", fixed, raising=False)
    states = pipeline.sample_set(4, nfe=4, condition={"label": [0, 1, 1, 0]}).states
    assert states[:, 0].tolist() == [0.0, 1.0, 1.0, 0.0]
    own = torch.full((2,), 0.5)
    kept = pipeline.sample_set(2, nfe=4, condition={"label": [0, 1]}, known=own, known_mask=own > 0).states
    assert kept.unique().tolist() == [0.5], "what the caller fixes stands before what the domain fixes"


def test_a_domain_adds_scores_of_its_own(run, monkeypatch):
    pipeline = load(run)
    card = MetricCard("own/length", "higher", "1", (0.0, 1.0), 1.0, 1)

    def trials(pipeline, count, *, seed, report, nfe):
        report(count, count)
        return {"own/length": Score(float(nfe), card, count)}

    monkeypatch.setattr(pipeline.domain, "evaluate", trials, raising=False)
    told = []
    scores = pipeline.evaluate(20, nfe=3, report=lambda *counts: told.append(counts))
    assert scores["own/length"].value == 3.0
    assert told == [(20, 20)]
    assert len(scores) > 1


def test_a_plan_can_be_given(run):
    pipeline = load(run)
    plan = compile_plan("ddim", pipeline.denoiser.path, 6)
    assert torch.equal(
        pipeline.sample_set(3, solver=plan).states,
        pipeline.sample_set(3, solver="ddim", nfe=6).states,
    )


def test_latents_and_likelihoods_of_native_objects(run):
    pytest.importorskip("torchdiffeq")
    pipeline = load(run)
    condition = {"label": [0, 1, 0, 1]}
    points = pipeline.sample(4, nfe=8, seed=3, condition=condition)
    ode = AdaptiveODE(rtol=1e-5, atol=1e-5)
    latents = pipeline.encode(points, condition=condition, ode=ode)
    assert latents.shape == (4, 2)
    labels = {"label": torch.tensor(condition["label"])}
    back = ode.decode(pipeline.denoiser, latents, condition=labels)
    torch.testing.assert_close(back, pipeline.domain.encode(points).double(), rtol=0, atol=2e-3)
    assert (pipeline.encode(points, condition={"label": [1, 0, 1, 0]}, ode=ode) - latents).abs().max() > 1e-3
    assert (pipeline.encode(points, condition=condition, ode=ode, guidance=3.0) - latents).abs().max() > 1e-3
    nats = pipeline.log_likelihood(points, condition=condition, ode=ode)
    expected = ode.log_likelihood(pipeline.denoiser, pipeline.domain.encode(points), condition=labels)
    assert torch.equal(nats, expected)
    assert nats.dtype == torch.float64


@pytest.fixture
def told(monkeypatch):
    """The names of the hooks that are called, in order; transforms leave their argument as it is."""
    names = []
    real = hooks()

    def transform(hook, /, **arguments):
        names.append(hook)
        return next(iter(arguments.values()))

    monkeypatch.setattr(real, "has", lambda hook: True)
    monkeypatch.setattr(real, "notify", lambda hook, /, **arguments: names.append(hook))
    monkeypatch.setattr(real, "transform", transform)
    return names


def test_every_sampling_hook_is_called(recipe, told):
    Pipeline.untrained(recipe).evaluate(16, nfe=3)
    assert told == ["wrap_denoiser", *["sampling_step"] * 3, "samples_ready", "evaluation_finished"]


def test_training_hooks_are_called_in_order(recipe, tmp_path, told):
    train(recipe.with_changes(["training.steps=2", "training.log_every=1"]), tmp_path / "hooked")
    assert told[0] == "training_started"
    assert told.count("transform_batch") == 2
    assert told.count("training_step") == 2
    assert told[-1] == "checkpoint_saved"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_write_permission_names_the_folder(recipe, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(AnydiffError, match="locked"):
        train(recipe, locked / "run")


def test_a_full_disk_leaves_the_old_file(run, monkeypatch):
    pipeline = load(run)
    before = (run / "model.safetensors").read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AnydiffError, match="No space left"):
        pipeline.save(run / "model.safetensors", overwrite=True)
    assert (run / "model.safetensors").read_bytes() == before
    assert not list(run.glob(".*part"))


def test_the_public_names_resolve():
    for name in anydiff.__all__:
        assert getattr(anydiff, name) is not None


def test_an_ensemble_has_members_for_each_case_and_keeps_them(run):
    pipeline = load(run)
    condition = {"label": torch.tensor([0, 1, 1])}
    few = pipeline.ensemble_set(2, condition, nfe=3, seed=5)
    assert few.condition.given["label"].tolist() == [0, 1, 1, 0, 1, 1]
    assert torch.equal(few.states, pipeline.sample_set(6, nfe=3, seed=5, condition=few.condition).states)
    more = pipeline.ensemble_set(4, condition, nfe=3, seed=5)
    torch.testing.assert_close(more.states[:6], few.states)
    later = pipeline.ensemble_set([2, 3], condition, nfe=3, seed=5)
    torch.testing.assert_close(later.states, more.states[6:])
    native = pipeline.ensemble(2, condition, nfe=3, seed=5)
    assert [len(members) for members in native] == [2, 2, 2]
    np.testing.assert_array_equal(native[1][1], pipeline.domain.decode(few.states[4:5])[0])
    with pytest.raises(AnydiffError, match="different numbers of rows"):
        pipeline.ensemble_set(2, condition, cases=2)
    with pytest.raises(AnydiffError, match="give cases="):
        pipeline.ensemble_set(2, {"label": "0"})


def test_what_only_metrics_may_know_reaches_no_model(run):
    pipeline = load(run)
    reference = pipeline.reference(12)
    secret = replace(reference.condition, truth={"radius": torch.ones(12)}, loss_weight=torch.ones(12, 1))
    known = SampleSet(reference.states, secret, reference.domain)
    assert [name for name, _ in known.asked(4).tensors()] == [name for name, _ in reference.condition.tensors()]
    assert all(len(value) == 4 for _, value in known.asked(4).tensors())
    metric = "two_moons/mean-distance"
    assert (
        pipeline.evaluate(24, nfe=2, reference=known)[metric]
        == pipeline.evaluate(24, nfe=2, reference=reference)[metric]
    )


def test_samples_of_one_case_are_those_of_its_repeated_condition(run):
    pipeline = load(run)
    shared = pipeline.sample_set(6, nfe=3, condition={"label": [0, 1, 1]}, cases=3)
    repeated = pipeline.sample_set(6, nfe=3, condition={"label": [0, 1, 1, 0, 1, 1]})
    assert torch.equal(shared.states, repeated.states)
    assert torch.equal(shared.condition.given["label"], repeated.condition.given["label"])
