"""Energies of whole states: laws against the table, signs, rows, streams; autoregressive and learnt energies."""

from __future__ import annotations

import itertools

import pytest
import torch
from laws import CLASSES, LENGTH, distance, law_p, sequences, spec
from torch import nn

from anydiff.denoisers import NetworkDenoiser
from anydiff.denoisers.base import FunctionDenoiser
from anydiff.denoisers.table import TableOracle
from anydiff.denoisers.wrappers import KnownEntries
from anydiff.errors import AnydiffError
from anydiff.guidance import AutoregressiveEnergy, Energy
from anydiff.networks.sequence import TokenEnergy, Tokens
from anydiff.objectives import Beside, NextToken, NoiseContrastive
from anydiff.paths import Masked, Uniform, VPLinear
from anydiff.samplers import sample
from anydiff.solvers import compile_plan
from anydiff.solvers.unmasking import Unmasking
from anydiff.states import UNCONDITIONAL, Conditioning, Draws, Known, NoiseSource, uniform

P = law_p()
PATH = Masked().bind(spec())
ORACLE = TableOracle(PATH, spec(), P)


def exact(candidates, log_proposal, x, t, condition, sign=1.0):
    """-log p(x_0 | x_t)/q, by the table."""
    states = sequences(CLASSES, LENGTH)
    fits = ((states[None] == x[:, None]) | (x[:, None] == CLASSES)).all(-1)
    there = torch.log((fits * P.flatten()).sum(1))
    chance = P[tuple(candidates.unbind(-1))].log() - there[:, None]
    return sign * (log_proposal - chance)


def drawn(guidance, nfe: int = 1, count: int = 12_000, **options) -> torch.Tensor:
    plan = compile_plan("ancestral", PATH, nfe)
    found = sample(ORACLE, spec(), count, solver=plan, batch_size=4096, guidance=guidance, **options)
    numbers = (found * CLASSES ** torch.arange(LENGTH - 1, -1, -1)).sum(1)
    return torch.bincount(numbers, minlength=CLASSES**LENGTH) / count


def test_more_candidates_come_nearer_the_joint_law_and_the_wrong_sign_leads_away() -> None:
    found = {k: distance(drawn(Energy(k, energy=exact)), P) for k in (1, 2, 8, 64)}
    assert found[1] > 0.3
    assert found[2] < 0.8 * found[1]
    assert found[8] < 0.35 * found[1]
    assert found[64] < 0.06  # 81 frequencies of 12,000 draws alone are off by 0.03
    wrong = Energy(8, energy=lambda *given: exact(*given, sign=-1.0))
    assert distance(drawn(wrong), P) > 1.2 * found[1]


def test_one_candidate_or_no_time_within_the_window_changes_nothing_bit_for_bit() -> None:
    plan, plain = compile_plan("ancestral", PATH, 4), None
    for guidance in (None, Energy(1, energy=exact), Energy(8, window=(0.0, 0.1), energy=exact)):
        found = sample(ORACLE, spec(), 64, solver=plan, guidance=guidance)
        plain = found if plain is None else plain
        assert torch.equal(found, plain)


def test_a_constant_in_the_energy_changes_nothing_and_temperature_is_divided_by() -> None:
    plan = compile_plan("ancestral", PATH, 2)

    def drawn_by(energy, temperature=1.0):
        return sample(ORACLE, spec(), 200, solver=plan, guidance=Energy(4, temperature=temperature, energy=energy))

    assert torch.equal(drawn_by(exact), drawn_by(lambda *given: exact(*given) + 7.0 * given[2].sum(1, keepdim=True)))
    assert torch.equal(drawn_by(exact), drawn_by(lambda *given: 3 * exact(*given), 3.0))


@pytest.mark.parametrize("solver", ["ancestral", "unmasking", "tau-leaping"])
def test_sample_k_is_the_same_in_every_batch_and_another_for_another_seed(solver: str) -> None:
    plan = compile_plan(solver, PATH, 3)
    whole = sample(ORACLE, spec(), 64, solver=plan, guidance=Energy(4, energy=exact))
    for size in (1, 7):
        assert torch.equal(
            whole, sample(ORACLE, spec(), 64, solver=plan, guidance=Energy(4, energy=exact), batch_size=size)
        )
    turned = [9, 3, 60]
    assert torch.equal(whole[turned], sample(ORACLE, spec(), turned, solver=plan, guidance=Energy(4, energy=exact)))
    first = Energy(4, energy=exact).for_seed(1).for_run(range(64))
    assert first.proposals(torch.zeros(64, 4, 3), range(64), 1.0)[0].shape == (64, 4, 4)
    other = Energy(4, energy=exact).for_seed(2)
    made = [each.proposals(torch.zeros(64, 4, 3), range(64), 1.0)[0] for each in (first, other)]
    assert not torch.equal(*made)


def test_every_row_keeps_its_own_known_tokens() -> None:
    values = torch.tensor([[0, 0, 0, 0], [2, 0, 0, 1], [1, 2, 0, 0]])
    mask = torch.tensor([[True, False, False, False], [True, False, False, True], [True, True, False, False]])
    layers = [Energy(4, energy=exact), KnownEntries()]
    found = sample(
        ORACLE, spec(), 3, solver=compile_plan("ancestral", PATH, 2), guidance=layers,
        condition=Conditioning(known=Known(values, mask)),
    )  # fmt: skip
    assert torch.equal(found[mask], values[mask])


def test_the_record_counts_energies_and_effective_candidates() -> None:
    guidance = Energy(4, energy=lambda candidates, *_: torch.zeros(candidates.shape[:2]))
    drawn(guidance, nfe=2, count=100)
    assert (guidance.record.calls, guidance.record.energies, guidance.record.rows) == (2, 800, 200)
    assert guidance.record.effective_candidates == pytest.approx(4.0)
    sharp = Energy(4, energy=lambda candidates, *_: 1e4 * torch.arange(4.0).expand(candidates.shape[:2]))
    drawn(sharp, count=100)
    assert sharp.record.effective_candidates == pytest.approx(1.0)


def causal() -> NetworkDenoiser:
    torch.manual_seed(0)
    network = Tokens(spec(), width=16, blocks=2, heads=2, causal=True)
    nn.init.normal_(network.exit.weight)
    return NetworkDenoiser(network.eval(), PATH, "logits", spec=spec())


def log_law(denoiser: NetworkDenoiser) -> torch.Tensor:
    """log p of all 81 sequences, by the objective."""
    states = sequences(CLASSES, LENGTH)
    noise = NoiseSource(spec(), 1, PATH.noise_law).draw(range(81), 0)
    with torch.no_grad():
        return -NextToken()(denoiser, states, noise, uniform(1, range(81), 0, "time")).double() * LENGTH


def test_next_token_is_a_law_and_unmasking_from_the_left_draws_from_it() -> None:
    denoiser = causal()
    law = log_law(denoiser).exp()
    assert float(law.sum()) == pytest.approx(1.0, abs=1e-5)
    plan = compile_plan(Unmasking("left-to-right"), PATH, LENGTH)
    found = sample(denoiser, spec(), 6000, solver=plan, batch_size=6000)
    numbers = (found * CLASSES ** torch.arange(LENGTH - 1, -1, -1)).sum(1)
    assert distance(torch.bincount(numbers, minlength=81) / 6000, law) < 0.06


def test_a_causal_prediction_sees_no_later_place_and_not_its_own() -> None:
    denoiser, x = causal(), torch.tensor([[0, 1, 2, 0]])
    with torch.no_grad():
        for place in range(LENGTH):
            other = x.clone()
            other[0, place:] = torch.tensor([2, 0, 1, 3])[: LENGTH - place]
            made = [denoiser.predict(each, 0.5, "logits")[0, place] for each in (x, other)]
            raw = [denoiser.native(each, 0.5)[0, place] for each in (x, other)]
            assert torch.allclose(*raw, atol=1e-5), made


def test_carried_over_completions_of_every_mask_pattern_sum_to_one() -> None:
    energy, states = AutoregressiveEnergy(causal(), carry_over=True), sequences(CLASSES, LENGTH)
    true = torch.tensor([1, 0, 2, 2])
    with torch.no_grad():
        for masks in itertools.product([False, True], repeat=LENGTH):
            hidden = torch.tensor(masks)
            x = torch.where(hidden, CLASSES, true)
            fits = states[(states[:, ~hidden] == true[~hidden]).all(1)]
            log_q = torch.zeros(1, len(fits), dtype=torch.float64)
            found = torch.exp(-energy(fits[None], log_q, x[None], 0.5, UNCONDITIONAL))
            assert float(found.sum()) == pytest.approx(1.0, abs=1e-6)


def test_with_an_autoregressive_energy_samples_take_its_law() -> None:
    denoiser = causal()
    uniform_proposal = FunctionDenoiser(
        lambda x, t: torch.where(
            (torch.arange(3) == x[..., None]) | (x[..., None] == 3), 0.0, -torch.inf
        ), PATH, "logits",
    )  # fmt: skip
    guidance = Energy(32, energy=AutoregressiveEnergy(denoiser))
    with torch.no_grad():
        found = sample(uniform_proposal, spec(), 1500, solver=compile_plan("ancestral", PATH, 1), guidance=guidance)
    numbers = (found * CLASSES ** torch.arange(LENGTH - 1, -1, -1)).sum(1)
    law = log_law(denoiser).exp()
    assert distance(torch.bincount(numbers, minlength=81) / 1500, law) < 0.6 * distance(torch.full((81,), 1 / 81), law)


class Table(nn.Module):
    """An energy of its own for each pair of a noised and a clean state of two entries."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(16, 9))
        self.heads = {"energy": self.energy}

    def energy(self, candidates, x, condition):
        row, column = x @ torch.tensor([4, 1]), candidates @ torch.tensor([3, 1])
        return self.table[row[:, None], column]

    def forward(self, x, log_snr, condition):
        return torch.zeros(*x.shape, 3)


def test_the_optimum_of_noise_contrastive_is_the_ratio_of_the_laws() -> None:
    law = P.sum((2, 3))
    path = Masked().bind(spec(2))
    oracle, table = TableOracle(path, spec(2), law), Table()
    denoiser = NetworkDenoiser(table, path, "logits", spec=spec(2))
    objective = NoiseContrastive()
    objective.prepare(denoiser)
    objective.meet(denoiser, {"proposal": oracle})
    optimiser, states, count = torch.optim.Adam(table.parameters(), 0.05), sequences(3, 2), 8192
    numbers = torch.multinomial(law.flatten(), count, replacement=True, generator=torch.Generator().manual_seed(0))
    for step in range(50):
        rows = range(step * count, (step + 1) * count)
        noise = NoiseSource(spec(2), 5, path.noise_law).draw(rows, 0)
        given = (denoiser, states[numbers], noise, uniform(5, rows, 0, "time"), UNCONDITIONAL, Draws(5, rows))
        (loss,) = objective.terms(*given, Beside({"proposal": oracle})).values()
        optimiser.param_groups[0]["lr"] = 0.2 if step < 35 else 0.02
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
    found = torch.exp(-table.table[15].detach()).double()  # both entries are masks
    marginals = (law.sum(1)[:, None] * law.sum(0)).flatten()
    ratio = law.flatten() / marginals
    # The table was fitted to the frequencies of this sample.
    seen = torch.bincount(numbers, minlength=9) / count / marginals
    assert float(((found - seen) / seen).abs().max()) < 0.1
    assert float(((found - ratio) / ratio).abs().max()) < 0.15


def faulty(value):
    return lambda candidates, *_: value(candidates)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Energy(0), "candidates"),
        (lambda: Energy(window=(0.5, 0.2)), "window is"),
        (lambda: Energy(temperature=0.0), "temperature is 0.0"),
        (lambda: drawn(Energy(2), count=2), "has no energy; give the option model"),
        (
            lambda: drawn(Energy(2, energy=faulty(lambda c: c.sum((1, 2)).double())), count=2),
            r"gives \(2,\) for 2 cand",
        ),
        (lambda: drawn(Energy(2, energy=faulty(lambda c: c[..., 0] * torch.nan)), count=2), "energies of row 0 at t=1"),
        (lambda: drawn(Energy(2, energy=faulty(lambda c: c[..., 0] + torch.inf)), count=2), "none can be chosen"),
        (lambda: AutoregressiveEnergy(ORACLE), "needs a model whose network is causal"),
        (lambda: NextToken().prepare(ORACLE), "network.options.causal=true"),
        (lambda: NoiseContrastive().prepare(causal()), "choose the network token-energy"),
        (lambda: NoiseContrastive().times(VPLinear(), torch.tensor([0.5])), "needs a path of classes"),
        (
            lambda: NoiseContrastive().meet(learnt(), {"proposal": TableOracle(Uniform().bind(spec()), spec(), P)}),
            "same domain",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fix(make, sentence: str) -> None:
    with pytest.raises(AnydiffError, match=sentence):
        make()


def learnt() -> NetworkDenoiser:
    return NetworkDenoiser(TokenEnergy(spec(), width=16, blocks=1, heads=2), PATH, "logits", spec=spec())
