"""DomainStudio: pairs by hand, invariances, wavelet details, what gradients reach, one time per step."""

from __future__ import annotations

import math

import pytest
import torch

from anydiff.denoisers import NetworkDenoiser
from anydiff.distillation import PairSimilarities, WaveletDetails, details, pair_divergence
from anydiff.errors import AnydiffError
from anydiff.networks import MLP, UNet
from anydiff.networks.wavelets import haar
from anydiff.objectives import Denoising
from anydiff.objectives.call import Beside, Call
from anydiff.paths import VPCosine, VPLinear
from anydiff.states import Conditioning, Draws, StateSpec
from anydiff.testing.networks import awake
from anydiff.training import SharedTime
from anydiff.training.examples import Examples

SPEC = StateSpec.single((2, 6, 5))


def denoiser(seed, factor=1.0):
    torch.manual_seed(seed)
    made = NetworkDenoiser(awake(UNet(SPEC, {}, channels=8, multipliers=(1,))), VPLinear(), "noise", spec=SPEC)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(factor)
    return made


def call(adapted, source, term, time=0.4, rows=5, condition=None):
    generator = torch.Generator().manual_seed(1)
    clean, noise = (torch.randn(rows, *SPEC.shape, generator=generator) for _ in range(2))
    beside, draws = Beside({"source": source}), Draws(0, range(rows), name="objective/pairs")
    condition = condition or Conditioning()
    return Call(adapted, term.times, clean, noise, torch.full((rows,), time), condition, draws, beside)


def by_hand(source, made):
    """The double loop, in plain numbers."""

    def rows(x):
        found = []
        for i, one in enumerate(x):
            cosines = {j: float(one @ two / (one.norm() * two.norm())) for j, two in enumerate(x) if j != i}
            total = sum(math.exp(each) for each in cosines.values())
            found.append({j: math.exp(each) / total for j, each in cosines.items()})
        return found

    p, q = rows(source), rows(made)
    pairs = len(made) * (len(made) - 1)
    return [sum(p[i][j] * math.log(p[i][j] / q[i][j]) for j in p[i]) for i in range(len(made))], pairs


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_three_rows_by_hand():
    """Cosines of .5 and .1 give the probabilities .599 and .401."""
    p = torch.tensor([0.5, 0.1]).softmax(0)
    assert torch.allclose(p, torch.tensor([0.599, 0.401]), atol=5e-4)
    angles = torch.tensor([0.0, math.acos(0.5), -math.acos(0.1)], dtype=torch.float64)
    source = torch.stack([angles.cos(), angles.sin()], 1)
    made = random(3, 4)
    kl, pairs = by_hand(source, made)
    assert float(pair_divergence(source, made)) == pytest.approx(sum(kl) / pairs, abs=1e-12)
    q = torch.nn.functional.normalize(made, dim=1)
    first = torch.stack([q[0] @ q[1], q[0] @ q[2]]).log_softmax(0)
    assert kl[0] == pytest.approx(float((p.double() * (p.double().log() - first)).sum()), abs=1e-7)


def test_it_is_the_mean_of_the_divergences_of_the_rows_over_the_pairs_and_not_negative():
    source, made = random(7, 12), random(7, 12, seed=1)
    kl, pairs = by_hand(source, made)
    assert all(each >= 0 for each in kl)
    assert float(pair_divergence(source, made)) == pytest.approx(sum(kl) / pairs, abs=1e-7)
    assert float(pair_divergence(source, made)) != pytest.approx(float(pair_divergence(made, source)), rel=1e-3), (
        "the source is the first argument of the divergence"
    )


def test_a_factor_and_a_rotation_change_nothing():
    source, made = random(5, 6), random(5, 6, seed=1)
    turn = torch.linalg.qr(random(6, 6, seed=2))[0]
    wanted = pair_divergence(source, made)
    assert torch.allclose(pair_divergence(3.7 * source, 0.2 * made), wanted, atol=1e-12)
    assert torch.allclose(pair_divergence(source @ turn, made @ turn), wanted, atol=1e-12)
    assert bool(pair_divergence(source, 0 * made).isfinite())


def test_of_two_rows_it_is_zero():
    assert float(pair_divergence(random(2, 6), random(2, 6, seed=1))) == 0


def test_details_of_a_constant_are_none_and_bands_keep_the_energy():
    assert float(details(torch.full((1, 2, 6, 6), 0.7)).abs().max()) < 1e-6
    x = random(2, 3, 8, 6)
    assert torch.allclose(haar(x).square().sum(), x.square().sum())
    board = (torch.arange(6)[:, None] + torch.arange(6)) % 2 * 2.0 - 1
    bands = haar(board[None, None])
    assert bands[:, :3].abs().max() < 1e-6, "of a checkerboard all is in the band of both differences"
    assert torch.equal(details(board[None, None]), bands[:, 3])
    assert torch.allclose(details(x), haar(x)[:, 1] + haar(x)[:, 2] + haar(x)[:, 3])


@pytest.mark.parametrize("of_details", [False, True])
def test_a_model_that_is_its_source_has_no_loss_and_no_gradient(of_details):
    same, term = denoiser(0), PairSimilarities(of_details)
    loss = term.loss(call(same, same, term))
    loss.sum().backward()
    assert loss.abs().max() < 1e-12
    assert all(each.grad is None or each.grad.abs().max() < 1e-9 for each in same.parameters())


@pytest.mark.parametrize("of_details", [False, True])
def test_the_loss_is_that_of_the_predictions_and_moves_the_adapted_model_alone(of_details):
    adapted, source, term = denoiser(0), denoiser(1, 1.3).requires_grad_(False), PairSimilarities(of_details)
    made = call(adapted, source, term)
    loss = term.loss(made)
    one, two = (each.double() for each in (made.predicted_by("source"), made.predict("data")))
    if of_details:
        one, two = details(one), details(two)
    kl, pairs = by_hand(one.flatten(1), two.detach().flatten(1))
    assert loss.tolist() == pytest.approx([sum(kl) / pairs] * 5, rel=1e-4)
    loss.sum().backward()
    assert any(each.grad is not None and each.grad.any() for each in adapted.parameters())
    assert all(each.grad is None for each in source.parameters())


def test_the_error_of_details_is_zero_at_the_example_and_a_mean_over_entries():
    adapted, term = denoiser(0), WaveletDetails()
    made = call(adapted, adapted, term)
    missed = details(made.predict("data") - made.clean)
    assert torch.allclose(term.loss(made), missed.square().flatten(1).mean(1), rtol=1e-5)

    class Right(torch.nn.Module):
        def forward(self, x, log_snr, condition=None):
            return made.noise

    perfect = call(NetworkDenoiser(Right(), VPLinear(), "noise", spec=SPEC), adapted, term)
    assert float(term.loss(perfect).max()) < 1e-9
    assert float(Denoising().loss(perfect).max()) == 0


def test_rows_that_are_nearly_noise_count_for_nothing():
    adapted, source = denoiser(0), denoiser(1, 1.3)
    for term in (PairSimilarities(), WaveletDetails()):
        assert not term.loss(call(adapted, source, term, time=0.999)).any()
        assert bool((term.loss(call(adapted, source, term, time=0.4)) > 0).all())
    term = PairSimilarities()
    made = call(adapted, source, term)
    made.uniform[0] = 0.999  # one row of five is too noisy, so what the others are like counts
    outputs = {name: each.detach() for name, each in term.outputs(made).items()}
    assert outputs["counted"].tolist() == [False, True, True, True, True]
    kl, pairs = by_hand(outputs["source"].double(), outputs["made"].double())
    assert float(term.batch_loss(outputs)) == pytest.approx(sum(kl[1:]) / pairs, rel=1e-6)


def test_entries_without_weight_have_no_influence():
    adapted, source, mask = denoiser(0), denoiser(1, 1.3), torch.ones(5, *SPEC.shape)
    mask[:, :, 2:4] = 0.0  # whole cells of the transform
    for term in (PairSimilarities(), PairSimilarities(of_details=True), WaveletDetails()):
        made = call(adapted, source, term, condition=Conditioning(loss_weight=mask))
        natural = dict(made.natives)
        first = term.loss(made)
        made._made["exits"] = {kind: torch.where(mask > 0, each, 5.0) for kind, each in natural.items()}
        assert torch.allclose(term.loss(made), first, rtol=1e-5)
        plain = call(adapted, source, term, condition=Conditioning(loss_weight=torch.ones_like(mask)))
        assert not torch.allclose(first, term.loss(plain), rtol=1e-3)


def test_one_time_for_a_step_whatever_its_micro_batches():
    method = SharedTime(denoiser(0), Denoising())
    seen = []
    method.terms = lambda examples: seen.append(examples.uniform) or {}

    def times(positions, levels=1):
        draws = Draws(3, positions, levels, "objective", together=6)
        rows = len(positions)
        zeros = torch.zeros(rows, *SPEC.shape)
        uniform = torch.zeros(rows * levels, dtype=torch.float64)
        method.step(Examples(zeros, zeros, uniform, Conditioning(), list(positions), draws), 0.0, ["network"])
        return seen[-1]

    first, second = times(range(6)), times(range(6, 12))
    assert len(set(first.tolist())) == 1
    assert first[0] != second[0]
    assert torch.equal(torch.cat([times(range(6, 9)), times(range(9, 12))]), second)
    spread = times(range(6), levels=2).reshape(6, 2)
    assert torch.equal(spread[:, 0], first)
    assert torch.allclose((spread[:, 1] - spread[:, 0]).abs(), torch.tensor(0.5, dtype=torch.float64))
    many = torch.tensor([float(times(range(6 * k, 6 * k + 6))[0]) for k in range(300)])
    assert 0.45 < float(many.mean()) < 0.55


def test_what_is_refused():
    flat = StateSpec.single((6,))
    small = NetworkDenoiser(MLP(flat, {}, width=8, blocks=1), VPLinear(), "noise", spec=flat)
    PairSimilarities().meet(small, {"source": small})
    with pytest.raises(AnydiffError, match="have no spatial axes and so no details"):
        PairSimilarities(of_details=True).meet(small, {"source": small})
    with pytest.raises(AnydiffError, match="have no spatial axes and so no details"):
        WaveletDetails().prepare(small)
    with pytest.raises(AnydiffError, match=r"the source is of states of shape \(2, 6, 5\), but the adapted model"):
        PairSimilarities().meet(small, {"source": denoiser(0)})
    other = NetworkDenoiser(denoiser(0).network, VPCosine(), "noise", spec=SPEC)
    with pytest.raises(AnydiffError, match="the source's path is VPCosine"):
        PairSimilarities().meet(denoiser(0), {"source": other})
    two = call(denoiser(0), denoiser(1), PairSimilarities(), rows=2)
    with pytest.raises(AnydiffError, match="of two each is all that the other can be like"):
        PairSimilarities().loss(two)
    assert PairSimilarities().fewest_rows == 3
    for largest in (0, -1.0, float("inf"), True, "much"):
        with pytest.raises(AnydiffError, match="largest is"):
            WaveletDetails(largest)
