"""Noise records: kept on disk, selected, edited; and refused where they do not belong."""

from __future__ import annotations

import pytest
import torch
from exact import CENTRES, mixture

from anydiff.denoisers import FunctionDenoiser, GaussianMixtureOracle
from anydiff.editing import NoiseRecord, invert
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.paths import VPLinear
from anydiff.samplers import sample
from anydiff.solvers import compile_plan
from anydiff.states import Leaf, NoiseSource, StateSpec

PATH = VPLinear()
PLAN = compile_plan("ddpm", PATH, 6)
SPEC = StateSpec.single((2,))


def oracle():
    return mixture(PATH)


def record(**options):
    clean = CENTRES[torch.tensor([0, 1, 2, 1])] + torch.tensor([0.1, -0.05], dtype=torch.float64)
    return invert(PLAN, oracle(), clean, SPEC, **options)


def replayed(found, count=4, plan=PLAN, **options):
    return sample(oracle(), SPEC, count, solver=plan, noise=found, **{"dtype": torch.float64, **options})


def test_a_record_survives_the_disk_bit_for_bit(tmp_path):
    made = record(facts={"model": "an oracle"})
    made.save(tmp_path / "noises.safetensors")
    again = NoiseRecord.load(tmp_path / "noises.safetensors")
    assert again.facts == made.facts
    assert again.samples == made.samples
    assert torch.equal(replayed(again), replayed(made))
    assert torch.equal(again.finished(replayed(again)), made.finished(replayed(made)))


def test_rows_are_found_by_the_index_of_their_sample():
    made = record()
    whole = replayed(made)
    torch.testing.assert_close(replayed(made, [2, 0]), whole[[2, 0]], rtol=0, atol=1e-12)
    some = made.selected([3, 1])
    torch.testing.assert_close(some.finished(replayed(some, [1]), [1]), made.clean[[1]], rtol=0, atol=1e-12)
    with pytest.raises(AnydiffError, match="has no sample 0"):
        replayed(some, 1)


def test_ordinary_draws_through_a_record_are_the_ordinary_sampler_bit_for_bit():
    """Whatever record has standard normal numbers in it: start and draws of the streams of seed 5."""
    source = NoiseSource(SPEC, 5)
    drawn = {m: source.draw(range(4), m, torch.float64) for m in range(len(record().draws) + 1)}
    made = record()
    start = PATH.prior_std * drawn.pop(0)
    normal = NoiseRecord(
        samples=made.samples, plan=made.plan, time=made.time, start=start, draws=drawn, clean=made.clean,
        residual=torch.zeros_like(start),
    )  # fmt: skip
    assert torch.equal(replayed(normal), sample(oracle(), SPEC, 4, solver=PLAN, seed=5, dtype=torch.float64))


def test_a_roll_moves_what_the_noises_make():
    spec = StateSpec.single((1, 8))
    centres = torch.zeros(8, 8, dtype=torch.float64) + 2 * torch.eye(8, dtype=torch.float64)
    moved = GaussianMixtureOracle(PATH, centres.reshape(8, 1, 8), 0.1)
    clean = centres[[2, 5]].reshape(2, 1, 8)
    made = invert(compile_plan("ddpm", PATH, 30), moved, clean, spec)
    settings = {"solver": compile_plan("ddpm", PATH, 30), "dtype": torch.float64}
    rolled = made.roll(2, 1)
    found = rolled.finished(sample(moved, spec, 2, noise=rolled, **settings))
    torch.testing.assert_close(found, clean.roll(2, -1), rtol=0, atol=1e-9)
    filled = made.roll(2, -1, refill=1)
    assert not torch.equal(filled.draws[3][..., :2], rolled.draws[3][..., :2])
    assert torch.equal(filled.draws[3][..., 2:], rolled.draws[3][..., 2:])


def test_a_tint_leads_masked_entries_to_other_values():
    made = record()
    mask = torch.tensor([False, True])
    towards = 0.9
    tinted = made.tint(mask, towards, 1.0, (0.0, 1.0))
    before, after = replayed(made), replayed(tinted)
    assert float((after[:, 1] - towards).abs().mean()) < float((before[:, 1] - towards).abs().mean())
    assert torch.equal(tinted.draws[2][:, 0], made.draws[2][:, 0])


def test_a_blend_of_nothing_is_the_record_and_of_all_the_other():
    first, second = record(seed=1), record(seed=2)
    assert torch.equal(first.blend(second, 0.0).draws[3], first.draws[3])
    assert torch.equal(first.blend(second, 1.0).draws[3], second.draws[3])
    mask = torch.tensor([True, False])
    mixed = first.blend(second, mask).draws[3]
    assert torch.equal(mixed[:, 0], second.draws[3][:, 0])
    assert torch.equal(mixed[:, 1], first.draws[3][:, 1])


@pytest.mark.parametrize(
    "other",
    [
        compile_plan("ddpm", PATH, 7),
        compile_plan("ddpm", PATH, 6, grid="time"),
        compile_plan("ddpm", PATH, 6, end="stop"),
        compile_plan("sde-dpm-solver++-1", PATH, 6),
    ],
    ids=["calls", "grid", "end", "solver"],
)
def test_another_plan_is_refused(other):
    with pytest.raises(AnydiffError, match="is another plan"):
        replayed(record(), plan=other)


def test_what_does_not_belong_is_refused():
    made = record()
    with pytest.raises(AnydiffError, match=r"replayed in torch\.float32"):
        replayed(made, dtype=torch.float32)
    with pytest.raises(AnydiffError, match=r"states of shape \(2,\), but these have \(3,\)"):
        sample(oracle(), (3,), 4, solver=PLAN, noise=made, dtype=torch.float64)
    with pytest.raises(AnydiffError, match="of different plans"):
        made.blend(invert(compile_plan("ddpm", PATH, 7), oracle(), made.clean, SPEC), 0.5)
    with pytest.raises(AnydiffError, match="share is 2"):
        made.blend(made, 2.0)
    for mask, words in (
        (torch.zeros(2), "no entry"),
        (torch.ones(2), "every entry"),
        (torch.ones(3), r"shape \(3,\)"),
    ):
        with pytest.raises(AnydiffError, match=words):
            made.tint(mask, 0.0, 1.0)
    with pytest.raises(AnydiffError, match="offset is 2"):
        made.roll(2, 0)
    with pytest.raises(AnydiffError, match="axis is 1"):
        made.roll(1, 1)
    with pytest.raises(AnydiffError, match="between is"):
        made.tint(torch.tensor([True, False]), 0.0, 1.0, (0.6, 0.3))


def test_a_symmetric_leaf_is_not_rolled():
    spec = StateSpec([Leaf("edges", (3, 3), symmetric=True)])
    oracle = FunctionDenoiser(lambda x, t: 0.1 * x, PATH)
    clean = torch.eye(3, dtype=torch.float64).reshape(1, *spec.shape)
    made = invert(PLAN, oracle, clean, spec)
    with pytest.raises(AnydiffError, match="symmetric"):
        made.roll(1, 0)


@pytest.mark.parametrize("content", [b"", b"no record", None])
def test_a_damaged_file_is_one_sentence(tmp_path, content):
    path = tmp_path / "noises.safetensors"
    if content is None:
        record().save(path)
        content = path.read_bytes()[:-40]
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"noises\.safetensors"):
        NoiseRecord.load(path)
