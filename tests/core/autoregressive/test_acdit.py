"""ACDiT: memory is invisible, clean features depend on nothing else, and no position sees what it must not."""

import pytest
import torch

from anydiff.autoregressive import BlockSampler, compile_blocks
from anydiff.autoregressive.acdit import ACDiT
from anydiff.denoisers import NetworkDenoiser
from anydiff.denoisers.past import Past, Written
from anydiff.errors import AnydiffError
from anydiff.guidance import ClassifierFree
from anydiff.networks.sequence.places import CLEAN, NOISED, PREFIX, Places, allowed
from anydiff.objectives import BlockDenoising, Denoising
from anydiff.paths import VPCosine
from anydiff.samplers import SampleRequest
from anydiff.states import ClassCondition, Conditioning, StateSpec, positions_spec

SPEC, PATH = StateSpec.single((2, 4, 4)), VPCosine()


def awake(network, seed=0):
    """Every parameter random, zero-initialised layers too."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


def made(block=4, kind="noise", **options):
    network = awake(ACDiT(SPEC, {"label": ClassCondition(3)}, block=block, width=16, blocks=2, heads=2, **options))
    return NetworkDenoiser(network, PATH, kind, 0.7, positions_spec(SPEC, network.order))


def batch(rows=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    clean, noise = (torch.randn(rows, 16, 2, 1, 1, generator=generator) for _ in range(2))
    times = 0.1 + 0.8 * torch.rand(rows, 16, generator=generator, dtype=torch.float64)
    return clean, noise, times


def by_block(denoiser, clean, x, times, label):
    """The prediction of each block by a memory that was written block by block."""
    order, past, found = denoiser.order, Past(len(clean)), []
    for turn, places in enumerate(order.groups()):
        at = denoiser.with_past(past, places, turn)
        found.append(at.predict(x[:, places], times[:, places], "noise", label))
        past.commit(Written(clean[:, places], places, turn))
    return torch.cat(found, dim=1), past


@pytest.mark.parametrize(("block", "window"), [(1, None), (4, None), (8, None), (16, None), (2, 2), (4, 1)])
@torch.no_grad()
def test_cached_is_one_masked_pass(block, window):
    denoiser = made(block, window=window)
    clean, noise, times = batch()
    label = Conditioning({"label": torch.tensor([0, 2, 1])})
    x = PATH.mix(times, x0=clean, noise=noise)
    whole = denoiser.predict(x, times, "noise", Conditioning({"label": label.given["label"]}, context=clean))
    cached, past = by_block(denoiser, clean, x, times, label)
    assert torch.allclose(cached, whole, atol=1e-5)
    (kept,) = past.kept.values()
    assert kept.memory.nbytes == kept.memory.layout.nbytes(3, torch.float32), "allocated is what was predicted"
    assert past.positions_remembered == 16 - block, "the last block is never encoded"


@torch.no_grad()
def test_rewound_is_never_written_and_more_room_changes_nothing():
    denoiser = made(4)
    clean, noise, times = batch()
    places = denoiser.order.groups()

    def predict(past):
        return denoiser.with_past(past, places[2], 2).predict(noise[:, places[2]], times[:, places[2]])

    plain, other = Past(3), Past(3)
    for past in (plain, other):
        past.commit(Written(clean[:, places[0]], places[0], 0))
    wanted = predict(plain)
    predict(other)
    mark = other.mark()
    other.commit(Written(clean[:, places[1]], places[1], 1))
    assert not torch.equal(predict(other), wanted)
    other.rewind(mark)
    assert torch.equal(predict(other), wanted), "bit for bit"
    some = plain.of_rows(torch.tensor([2, 0]))
    assert torch.allclose(
        denoiser.with_past(some, places[2], 2).predict(noise[[2, 0]][:, places[2]], times[[2, 0]][:, places[2]]),
        wanted[[2, 0]], atol=1e-6,
    )  # fmt: skip


def features_of(denoiser, clean, noised, times, label):
    """The hidden states of all tokens, clean ones first, after the trunk."""
    seen = []
    hook = denoiser.network.trunk.trunk.register_forward_hook(lambda module, args, out: seen.append(out))
    denoiser.predict(noised, times, "noise", Conditioning({"label": label}, context=clean))
    hook.remove()
    return seen[0][:, :16]


@torch.no_grad()
def test_clean_features_depend_on_no_time_noise_label_or_later_block():
    denoiser = made(4)
    clean, noise, times = batch()
    label = torch.tensor([0, 2, 1])
    wanted = features_of(denoiser, clean, noise, times, label)
    later = clean.clone()
    later[:, 8:] += 1
    for changed in (
        features_of(denoiser, clean, noise + 1, times, label),
        features_of(denoiser, clean, noise, times.flip(1), label),
        features_of(denoiser, clean, noise, times, label.flip(0)),
    ):
        assert torch.equal(changed, wanted)
    assert torch.equal(features_of(denoiser, later, noise, times, label)[:, :8], wanted[:, :8])


@pytest.mark.parametrize("block", [1, 4, 16])
def test_gradients_of_forbidden_pairs_are_exactly_zero(block):
    denoiser = made(block)
    clean, noise, times = batch(1)
    turns = torch.tensor(denoiser.order.turns)
    clean, noise = clean.requires_grad_(), noise.requires_grad_()
    out = denoiser.predict(noise, times, "noise", Conditioning({"label": torch.tensor([1])}, context=clean))
    for turn in range(int(turns.max()) + 1):
        by_clean, by_noise = torch.autograd.grad(out[0, turns == turn].sum(), [clean, noise], retain_graph=True)
        reached = by_clean[0].flatten(1).abs().sum(1)
        assert bool((reached[turns >= turn] == 0).all())
        assert bool((reached[turns < turn] > 0).all())
        other = by_noise[0].flatten(1).abs().sum(1)
        assert bool((other[turns != turn] == 0).all())
        assert bool((other[turns == turn] > 0).all())


def test_one_rule_gives_every_mask():
    turn, line = torch.tensor([0, 0, 1, 1, 2, 2]), torch.arange(6)
    full = allowed(Places.of(turn * 0, CLEAN), Places.of(turn * 0, CLEAN))
    assert bool(full.all())
    causal = allowed(Places.of(line, CLEAN), Places.of(line, CLEAN))
    assert torch.equal(causal, torch.ones(6, 6).tril().bool())
    blocks = allowed(Places.of(turn, CLEAN), Places.of(turn, CLEAN))
    assert torch.equal(blocks, turn[:, None] >= turn)
    prefixed = Places.of(torch.zeros(2, dtype=torch.int64), PREFIX).then(Places.of(torch.arange(4), CLEAN))
    expected = torch.ones(6, 6).tril().bool()
    expected[:2, :2] = True
    assert torch.equal(allowed(prefixed, prefixed), expected)
    both = Places.of(turn, CLEAN).then(Places.of(turn, NOISED))
    skip = torch.zeros(12, 12, dtype=torch.bool)
    skip[:6, :6] = turn[:, None] >= turn
    skip[6:, :6] = turn[:, None] > turn
    skip[6:, 6:] = turn[:, None] == turn
    assert torch.equal(allowed(both, both), skip)
    near = allowed(Places.of(line, CLEAN), Places.of(line, CLEAN), window=2)
    assert torch.equal(near, (line[:, None] >= line) & (line[:, None] - line <= 2))
    rows = allowed(Places.of(torch.stack([line, line.flip(0)]), CLEAN), Places.of(torch.stack([line] * 2), CLEAN))
    assert rows.shape == (2, 6, 6)


def plan_of(denoiser, nfe=8):
    return compile_blocks("dpm-solver++-2m", PATH, denoiser.order, nfe)


def drawn(denoiser, count=4, guidance=None, **request):
    label = (
        torch.arange(64)[: count if isinstance(count, int) else None][
            [*range(count)] if isinstance(count, int) else count
        ]
        % 3
    )
    asked = SampleRequest(count, condition={"label": label}, guidance=guidance, **request)
    return BlockSampler(plan_of(denoiser)).sample(asked, denoiser, denoiser.spec)


@pytest.mark.parametrize("guidance", [None, ClassifierFree(2.0)])
def test_sample_37_alone_is_sample_37_of_64(guidance):
    denoiser = made(8, "data")
    whole = drawn(denoiser, 64, guidance)
    for size in (1, 5):
        assert torch.allclose(drawn(denoiser, 64, guidance, batch_size=size), whole, atol=1e-5)
    assert torch.allclose(drawn(denoiser, [37], guidance)[0], whole[37], atol=1e-5)


def test_both_halves_of_a_guided_call_read_one_memory(monkeypatch):
    denoiser, pasts = made(4, "data"), []
    plain = Past.__init__
    monkeypatch.setattr(Past, "__init__", lambda self, *args: (plain(self, *args), pasts.append(self))[0])
    guided = drawn(denoiser, 4, ClassifierFree(2.0))
    memories = [each.memory for past in pasts for each in past.kept.values()]
    assert len(memories) == 1
    assert memories[0].rows == 4
    assert memories[0].nbytes == memories[0].layout.nbytes(4, torch.float32)
    monkeypatch.undo()
    monkeypatch.setattr(ACDiT, "remembered_conditions", ("label",))
    assert torch.allclose(drawn(denoiser, 4, ClassifierFree(2.0)), guided, atol=1e-5), "two memories, the same samples"
    assert torch.allclose(drawn(denoiser, 4, ClassifierFree(1.0)), drawn(denoiser, 4), atol=1e-6)


def test_where_features_depend_on_a_hidden_condition_each_half_has_its_own_memory(monkeypatch):
    """The mutant: the memory of the unguided half read by the guided one."""
    monkeypatch.setattr(ACDiT, "remembered_conditions", ("label",))
    monkeypatch.setattr(
        ACDiT, "remember",
        lambda self, memory, values, positions, turn, condition: self.trunk.remember(
            self._tokens(values) + self.conditioning.encoder(len(values), condition)[:, None], memory, positions, turn
        ),
    )  # fmt: skip
    denoiser = made(4, "data")
    guided = drawn(denoiser, 4, ClassifierFree(2.0))
    for parameter in denoiser.network.conditioning.encoder.nulls.values():
        parameter.data += 0.5
    assert not torch.allclose(drawn(denoiser, 4, ClassifierFree(2.0)), guided, atol=1e-3)


def test_training_with_one_block_is_the_ordinary_loss_and_times_of_blocks_come_of_the_uniform_numbers():
    denoiser, objective = made(16), BlockDenoising()
    objective.prepare(denoiser)
    clean, noise, _ = batch()
    uniform = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    assert objective.uniform_shape(denoiser.spec) == (1,)
    blocked, plain = objective(denoiser, clean, noise, uniform[:, None]), Denoising()(denoiser, clean, noise, uniform)
    assert torch.allclose(blocked, plain, rtol=1e-5)
    denoiser = made(4)
    numbers = torch.tensor([[0.5, 0.9, 0.1, 0.3]], dtype=torch.float64)
    for layout, shares in {"independent": [0.5, 0.9, 0.1, 0.3], "sorted": [0.9, 0.5, 0.3, 0.1]}.items():
        objective = BlockDenoising(layout=layout)
        objective.prepare(denoiser)
        law = PATH.t_end + (PATH.t_start - PATH.t_end) * torch.tensor(shares, dtype=torch.float64)
        assert torch.allclose(objective.times(PATH, numbers)[0], law.repeat_interleave(4))


def test_a_clean_prefix_has_no_weight():
    denoiser, objective = made(4), BlockDenoising(layout="prefix")
    objective.prepare(denoiser)
    clean, noise, _ = batch(2)
    uniform = torch.tensor([[0.4, 0.6], [0.4, 0.0]], dtype=torch.float64)  # prefixes of 2 blocks and of none
    times = objective.times(PATH, uniform)
    assert bool((times[0, :8] == PATH.t_end).all())
    assert bool((times[:, 8:] == times[1, 0]).all())
    moved = noise.clone()
    moved[0, :8] += 1
    assert torch.allclose(objective(denoiser, clean, noise, uniform)[0], objective(denoiser, clean, moved, uniform)[0])


def test_bad_input_is_one_sentence():
    with pytest.raises(AnydiffError, match="block is 5, but must divide the 16"):
        ACDiT(SPEC, block=5)
    with pytest.raises(AnydiffError, match="3 does not divide the 4"):
        ACDiT(SPEC, patch=3)
    with pytest.raises(AnydiffError, match="one leaf"):
        ACDiT(StateSpec([*SPEC.leaves, *StateSpec.single((2,), name="other").leaves]))
    denoiser = made(4)
    clean, noise, _ = batch()
    places = denoiser.order.groups()[0]
    past = Past(2)
    with pytest.raises(AnydiffError, match="3 rows are asked of a memory of 2 rows"):
        denoiser.with_past(past, places, 0).predict(noise[:, places], 0.5)
    memory = denoiser.network.new_memory(2, noise)
    for network, states in ((denoiser.network, noise[:, places]), (made(8).network, noise[:2, places]),
                            (made(4).network.double(), noise[:2, places])):  # fmt: skip
        with pytest.raises(AnydiffError, match="the memory was made for 2 rows"):
            network(states, torch.zeros(len(states)), memory=memory, positions=places)
    with pytest.raises(AnydiffError, match="3 rows are finished, but this past has 2"):
        past.commit(Written(clean[:, places], places, 0))
    with pytest.raises(AnydiffError, match="needs a network with an order"):
        BlockDenoising().prepare(NetworkDenoiser(torch.nn.Identity(), PATH))
    with pytest.raises(AnydiffError, match="one for each position"):
        Denoising()(denoiser, clean, noise, torch.rand(3, 15, dtype=torch.float64))
