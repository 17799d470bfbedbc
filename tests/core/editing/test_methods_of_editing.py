"""Methods that edit, on two rings with exact denoisers: what is kept is the angle."""

from __future__ import annotations

import pytest
import torch

from anydiff.denoisers import GaussianMixtureOracle
from anydiff.editing import (
    DDIB,
    CycleDiffusion,
    EditFriendly,
    NoiseRecord,
    SDEdit,
    Side,
    Steering,
    Travel,
    invert,
    steered,
)
from anydiff.errors import AnydiffError
from anydiff.paths import VPCosine, VPLinear
from anydiff.samplers import sample
from anydiff.solvers import compile_plan
from anydiff.states import NoiseSource, StateSpec

PATH, STD, COUNT = VPLinear(), 0.004**0.5, 300
ANGLES = torch.arange(12, dtype=torch.float64) * (torch.pi / 6)
CIRCLE = torch.stack([ANGLES.cos(), ANGLES.sin()], 1)
SIDES = {radius: Side(GaussianMixtureOracle(PATH, radius * CIRCLE, STD)) for radius in (1.0, 1.6)}


def shoes(count=COUNT):
    noise = torch.randn(count, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return CIRCLE[torch.arange(count) % 12] + STD * noise


def kept(method, **options):
    """Share of samples that keep their angle, and share that are near a mode of the target."""
    found = method.edit(
        shoes(), (2,), SIDES[1.0], SIDES[1.6], **{"travel": Travel(nfe=100), "batch_size": COUNT, **options}
    )
    distance = torch.cdist(found, 1.6 * CIRCLE)
    same = (distance.argmin(1) == torch.arange(COUNT) % 12).double().mean()
    return float(same), float((distance.amin(1) < 0.25).double().mean())


def test_independent_noises_keep_the_angle_native_ones_half_of_them_and_fresh_ones_none():
    independent, native, fresh = kept(EditFriendly(skip=0.0)), kept(CycleDiffusion(skip=0.0)), kept(SDEdit(skip=0.0))
    assert independent[0] >= 0.9
    assert independent[0] >= native[0] + 0.25
    assert native[0] >= fresh[0] + 0.2
    assert min(independent[1], native[1], fresh[1]) >= 0.95


def test_the_ode_keeps_the_angle_too():
    assert kept(DDIB())[0] >= 0.9


@pytest.mark.parametrize(
    "method", [EditFriendly(), CycleDiffusion(), DDIB(rtol=1e-8, atol=1e-8)], ids=lambda m: type(m).__name__
)
def test_the_same_side_twice_gives_the_samples_back(method):
    clean = shoes(12)
    found = method.edit(clean, (2,), SIDES[1.0], SIDES[1.0], travel=Travel(nfe=20))
    torch.testing.assert_close(found, clean, rtol=0, atol=1e-5)


def test_a_tail_of_the_grid_has_the_nodes_of_the_whole():
    whole = Travel(nfe=20, solver="seeds-2").plan(PATH, "ddpm")
    tail = Travel(nfe=20, solver="seeds-2").plan(PATH, "ddpm", 0.3)
    assert tail.nodes == whole.nodes[3:]
    assert tail.nfe == 14
    assert Travel(nfe=20).plan(PATH, "ddpm", 0.9).nfe == 2


def test_skipping_nearly_all_leaves_the_samples_where_they_are():
    found = EditFriendly(skip=0.97).edit(shoes(24), (2,), SIDES[1.0], SIDES[1.6], travel=Travel(nfe=100))
    assert float((found - shoes(24)).abs().max()) < 0.05


def test_the_best_of_several_trials_is_kept():
    def outwards(found, clean):
        return found.norm(dim=1)

    one = CycleDiffusion(skip=0.3)
    many = CycleDiffusion(skip=0.3, trials=4, rank=outwards)
    arguments = (shoes(24), (2,), SIDES[1.0], SIDES[1.6])
    first, best = (each.edit(*arguments, travel=Travel(nfe=20)) for each in (one, many))
    assert bool((best.norm(dim=1) >= first.norm(dim=1) - 1e-9).all())
    assert float(best.norm(dim=1).mean()) > float(first.norm(dim=1).mean())


def test_refinement_goes_back_and_down_on_the_targets_side():
    plain, refined = kept(CycleDiffusion(skip=0.0)), kept(CycleDiffusion(skip=0.0, refine=0.1))
    assert refined[1] >= plain[1] - 0.02
    assert refined[0] > 0.3


def test_a_latent_is_shared_by_two_models():
    """1000 shared noises decoded by both models: the sheet's cosine is 0.87 at eta 1, and 0.995 at eta 0.1."""
    for eta, least in ((1.0, 0.6), (0.1, 0.9)):
        plan = compile_plan("ddim", PATH, 100, eta=eta)
        first, second = (
            sample(side.denoiser, (2,), 500, solver=plan, seed=1, dtype=torch.float64, batch_size=500)
            for side in SIDES.values()
        )
        cosine = torch.nn.functional.cosine_similarity(first, second, dim=1).mean()
        assert float(cosine) > least, eta


def test_noises_that_a_model_drew_are_found_again():
    """The encoder that takes the true trajectory returns the draws; here by a plan of one step, which has no other."""
    path, plan = VPCosine(), compile_plan("ddpm", VPCosine(), 1)
    oracle = GaussianMixtureOracle(path, CIRCLE, STD)
    clean = sample(oracle, (2,), 5, solver=plan, seed=4, dtype=torch.float64)
    record = invert(plan, oracle, clean, (2,), "native", seed=9)
    again = sample(oracle, (2,), 5, solver=plan, noise=record, dtype=torch.float64)
    torch.testing.assert_close(record.finished(again), clean, rtol=0, atol=1e-12)


def test_two_inversions_differ_and_both_give_the_sample():
    plan, oracle, clean = compile_plan("ddpm", PATH, 20), SIDES[1.0].denoiser, shoes(200)
    first, second = (invert(plan, oracle, clean, (2,), seed=seed) for seed in (0, 1))
    for number in list(first.draws)[:-4]:
        pair = torch.stack([first.draws[number].flatten(), second.draws[number].flatten()])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.2, number


def test_energies_steer_the_noises():
    plan, side = compile_plan("ddim", PATH, 10, eta=0.1), SIDES[1.0]
    record = invert(plan, side.denoiser, shoes(12), (2,), "native")
    start = torch.randn(12, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spec = StateSpec.single((2,))
    draws = {m: NoiseSource(spec, 5).draw(range(12), m, torch.float64) for m in record.draws}
    free = NoiseRecord(
        samples=record.samples, plan=record.plan, time=record.time, start=start, draws=draws, clean=record.clean,
        residual=torch.zeros_like(start),
    )  # fmt: skip

    def right(found):
        return (found[:, 0] - 1).square()

    steered_to = steered(free, plan, side, spec, Steering([(20.0, right)], 15, 0.05, batch_size=12))
    before = sample(side.denoiser, spec, 12, solver=plan, noise=free, dtype=torch.float64)
    assert float(right(steered_to.clean).mean()) < 0.3 * float(right(before).mean())
    again = sample(side.denoiser, spec, 12, solver=plan, noise=steered_to, dtype=torch.float64)
    torch.testing.assert_close(again, steered_to.clean, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "options", "match"),
    [
        (EditFriendly(skip=1.0), {}, "skip is 1.0"),
        (EditFriendly(skip=-0.1), {}, "skip is -0.1"),
        (EditFriendly(skip=0.9), {"nfe": 4}, "leaves no step"),
        (EditFriendly(), {"solver": "dpm-solver++-2m"}, "'ddib'"),
        (EditFriendly(), {"solver": "ddim", "options": {"eta": 0.0}}, "'ddib'"),
        (DDIB(), {"solver": "ddpm"}, "solver is 'ddpm'"),
    ],
)
def test_bad_options_are_one_sentence(method, options, match):
    with pytest.raises(AnydiffError, match=match):
        method.edit(shoes(3), (2,), SIDES[1.0], SIDES[1.6], travel=Travel(**{"nfe": 10, **options}))


def test_bad_methods_are_one_sentence():
    with pytest.raises(AnydiffError, match="refine is 1"):
        CycleDiffusion(refine=1.0)
    with pytest.raises(AnydiffError, match="trials is 3"):
        CycleDiffusion(trials=3)
    with pytest.raises(AnydiffError, match="not finite"):
        EditFriendly().edit(shoes(3) / 0, (2,), SIDES[1.0], SIDES[1.6])
