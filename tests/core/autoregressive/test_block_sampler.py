"""Blocks drawn by plans: the exact law of an AR(1) process by the sheet's table, the cost to the call, and streams.

With an exact denoiser every plan is linear in its noise, so the law of the samples is found exactly from a few of them.
"""

import pytest
import torch

from anydiff.autoregressive import BlockPlan, BlockSampler, Budget, compile_blocks, rollout
from anydiff.denoisers import GaussianOracle, GaussianSequence
from anydiff.denoisers.wrappers import KnownEntries
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.paths import VPLinear
from anydiff.samplers import SampleRequest
from anydiff.states import Conditioning, Cut, Known, NoiseSource, Order, StateSpec, derived_seed

RHO, LENGTH, PATH = 0.9, 16, VPLinear()
COVARIANCE = RHO ** (torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)).abs().double()


def denoiser_of(order):
    return GaussianSequence(PATH, COVARIANCE, order)


def blocks(size):
    return Order.blocks(Cut((LENGTH,), (1,)), size)


def grid_of(steps):
    """Uniform in the log-SNR from -5 to 5."""
    return [PATH.t_start, *(PATH.time(float(level)) for level in torch.linspace(-5, 5, steps + 1)[1:])]


def drawn(plan, order, count=40, **request):
    denoiser = denoiser_of(order)
    asked = SampleRequest(count, dtype=torch.float64, **request)
    return BlockSampler(plan).sample(asked, denoiser, denoiser.spec)


def covariance_of(plan, order):
    """The covariance of the samples, exactly: they are a linear map of the noise that each block begins with."""
    x = drawn(plan, order)[..., 0]
    noise = []
    for places in order.groups():
        seed = derived_seed(0, f"autoregressive/{int(places[0])}")
        noise.append(NoiseSource(StateSpec.single((len(places), 1)), seed).draw(range(40), 0, torch.float64)[..., 0])
    matrix = torch.linalg.lstsq(torch.cat(noise, dim=1), x).solution
    assert torch.allclose(torch.cat(noise, dim=1) @ matrix, x, atol=1e-9), "linear in the noise"
    return matrix.T @ matrix


def error(solver, size, steps):
    order = blocks(size)
    plan = compile_blocks(solver, PATH, order, Budget(steps * order.count, grid_of(steps)))
    assert plan.nfe == LENGTH // size * steps
    return float((covariance_of(plan, order) - COVARIANCE).norm() / COVARIANCE.norm())


def test_the_law_of_an_ar1_process_for_every_block_size():
    """The sheet: DDIM 0.61-0.65, 0.39-0.41, 0.18-0.21 at 5, 10, 25 steps, whatever the block; 2M below 0.035 at 25."""
    table = {steps: [error("ddim", size, steps) for size in (1, 2, 4, 8, 16)] for steps in (5, 10, 25)}
    for steps, (low, high) in {5: (0.61, 0.65), 10: (0.39, 0.41), 25: (0.18, 0.21)}.items():
        assert low - 0.005 <= min(table[steps]) <= max(table[steps]) <= high + 0.005, table
        assert max(table[steps]) - min(table[steps]) < 0.15 * max(table[steps])
    assert all(0.40 <= last / first <= 0.55 for last, first in zip(table[25], table[10], strict=True))
    for size in (1, 2, 4, 8, 16):
        assert error("dpm-solver++-2m", size, 10) < 0.09
        assert error("dpm-solver++-2m", size, 25) < 0.035


@pytest.mark.parametrize("size", [1, 4, 16])
def test_calls_are_counted_to_the_last_one_and_told_for_the_whole_sample(size):
    order, steps, told = blocks(size), 3, []
    plan = compile_blocks("ddim", PATH, order, steps * order.count)
    drawn(plan, order, 3, callbacks=[lambda step: told.append((step.index, step.total))])
    total = LENGTH // size * steps
    assert told == [(call, total) for call in range(1, total + 1)]


def test_a_budget_is_for_the_whole_sample_and_split_over_the_groups():
    order = blocks(4)
    plan = compile_blocks("ddim", PATH, order, 14)
    assert [plan[group].nfe for group in range(4)] == [4, 4, 3, 3]
    assert plan.nfe == 14
    assert compile_blocks("heun", PATH, order, 14).nfe <= 14
    with pytest.raises(AnydiffError, match=r"nfe is 3 for a whole sample of 4 groups.* raise nfe to 4 or more"):
        compile_blocks("ddim", PATH, order, 3)
    with pytest.raises(AnydiffError, match=r"needs at least 2 calls .* raise nfe to 8 or more"):
        compile_blocks("dpm-solver++-2s", PATH, order, Budget(7, end="denoise"))
    with pytest.raises(AnydiffError, match="chooses its own steps"):
        compile_blocks("adaptive-ode", PATH, order)


def test_a_block_plan_is_data():
    plan = compile_blocks("dpm-solver++-2m", PATH, blocks(4), 14)
    again = BlockPlan.from_json(plan.to_json())
    assert again == plan
    assert len(plan.plans) == 2, "equal plans are kept once"
    assert "4 groups, 14 NFE" in str(plan)
    assert "groups 0, 1:" in str(plan)
    for text in ("{", "{}", plan.to_json().replace('"format": 1', '"format": 9'), plan.plans[0].to_json()):
        with pytest.raises(FileFormatError):
            BlockPlan.from_json(text)


def test_each_block_begins_anew_and_given_the_others_has_its_own_law():
    """A multistep solver's history is not carried over: a block alone, given its past, is the same numbers."""
    order = blocks(8)
    plan = compile_blocks("dpm-solver++-2m", PATH, order, 12)
    x = drawn(plan, order)
    weights, covariance = denoiser_of(order).conditional(range(8, 16), range(8))
    assert torch.allclose(weights[:, -1], RHO ** torch.arange(1, 9).double())

    class Second(GaussianOracle):
        def native(self, y, t, condition):
            return self.posterior_mean(y, t, (x[:, :8, 0] @ weights.T)[..., None])

    oracle = Second(PATH, torch.zeros(8, 1), covariance)
    seed = derived_seed(0, "autoregressive/8")
    from anydiff.samplers import sample

    alone = sample(oracle, (8, 1), 40, solver=plan[1], seed=seed, dtype=torch.float64)
    assert torch.allclose(alone, x[:, 8:], atol=1e-12)


@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
@pytest.mark.parametrize("some", [False, True])
def test_a_sample_depends_on_its_seed_and_number_alone(solver, some):
    order = blocks(4)
    plan = compile_blocks(solver, PATH, order, 12)

    def condition(rows):
        if not some:
            return Conditioning()
        mask = torch.stack([torch.arange(LENGTH) < 4 * (row % 4) for row in rows])[..., None]
        values = torch.stack([torch.full((LENGTH, 1), 0.1 * row, dtype=torch.float64) for row in rows])
        return Conditioning(known=Known(torch.where(mask, values, float("nan")), mask))

    whole = drawn(plan, order, 64, seed=5, condition=condition(range(64)))
    for batch in (1, 5):
        again = drawn(plan, order, 64, seed=5, batch_size=batch, condition=condition(range(64)))
        assert torch.allclose(again, whole, atol=1e-9)
    alone = drawn(plan, order, [37], seed=5, condition=condition([37]))
    assert torch.allclose(alone[0], whole[37], atol=1e-9)
    if some:
        for row in range(64):
            given = 4 * (row % 4)
            assert bool((whole[row, :given] == 0.1 * row).all()), "given positions stay bit for bit"


def test_blocks_known_in_part_keep_what_is_known():
    order = blocks(8)
    plan = compile_blocks("ddim", PATH, order, 8)
    mask = (torch.arange(LENGTH) % 2 == 0).reshape(1, LENGTH, 1).expand(4, -1, -1)
    values = torch.randn(4, LENGTH, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    known = Conditioning(known=Known(values, mask))
    with pytest.warns(UserWarning, match="not drawn from their exact law"):
        x = drawn(plan, order, 4, condition=known)
    assert torch.equal(x[mask], values[mask])
    x = drawn(plan, order, 4, condition=known, guidance=KnownEntries(shown="clean"))
    assert torch.equal(x[mask], values[mask])


def test_bad_input_is_one_sentence():
    order = blocks(4)
    plan = compile_blocks("ddim", PATH, order, 8)
    with pytest.raises(AnydiffError, match="has no order of positions"):
        BlockSampler(plan).sample(SampleRequest(2), GaussianOracle(PATH, torch.zeros(3), 1.0), (3,))
    with pytest.raises(AnydiffError, match="the plan has 4 groups, but the order of the denoiser has 2"):
        drawn(plan, blocks(8))
    with pytest.raises(AnydiffError, match="begins each block at noise"):
        drawn(plan, order, 2, start=torch.zeros(2, LENGTH, 1))
    mask = torch.zeros(2, LENGTH, 1, dtype=torch.bool)
    mask[1, :4] = True
    values = torch.full((2, LENGTH, 1), float("nan"))
    with pytest.raises(AnydiffError, match="known holds a value that is not finite"):
        drawn(plan, order, 2, condition=Conditioning(known=Known(values, mask)))
    with pytest.raises(AnydiffError, match="position 0 of row 1 is given, but holds a value that is not finite"):
        rollout(lambda context: values, values, mask[..., 0])
