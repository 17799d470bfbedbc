"""An aggregate of parts: encoders and the way back, read-outs against exact posteriors, and parts that are known."""

from __future__ import annotations

import math

import pytest
import torch
from killing import assert_killed

from anydiff.denoisers import Denoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths import VPLinear
from anydiff.pipeline import Aggregate, Encoder, ReadOut
from anydiff.pipeline.aggregate import aggregate_of
from anydiff.pipeline.encoders import codes
from anydiff.recipes import Aggregation
from anydiff.samplers import sample
from anydiff.states import UNCONDITIONAL, Conditioning, Known, Leaf, StateSpec

DATA = StateSpec([Leaf("point", (2,)), Leaf("label", (3,))])
ROTATION = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))).Q
SIGNS = torch.tensor([[-1.0, 1.0, 0.5], [-1.0, 0.3, 1.0]], dtype=torch.float64)
ENCODERS = [
    Encoder("point", (2,), 4, 0.8, matrix=ROTATION[:, :2].contiguous()),
    Encoder("label", (3,), 4, 1.3, matrix=ROTATION[:, 2:] @ SIGNS, classes=True),
]
SPACE = Aggregate(DATA, ENCODERS, (4,))
PLACES = torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0], [0.7, 0.7]], dtype=torch.float64)
LABELS, SPREAD = torch.tensor([0, 1, 2, 1]), 0.2


class Exact(Denoiser):
    """Points around four places with a label each: noise by Tweedie's rule from the density, heads by Bayes' rule."""

    path = VPLinear()
    native_kind = "noise"
    spec = SPACE.spec

    def _energies(self, x, t):
        """log p(x, place) ``[B, 4]``: x = w Q y around each place and code, in the rotated space."""
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        turned = x @ ROTATION
        point, code = 0.8 * alpha * PLACES, 1.3 * alpha * SIGNS.T[LABELS]
        wide = (0.8 * alpha * SPREAD) ** 2 + sigma**2
        near = (turned[:, None, :2] - point).square().sum(2) / (2 * wide)
        near = near + (turned[:, None, 2:] - code).square().sum(2) / (2 * sigma**2)
        return -near - math.log(wide) - 2 * math.log(sigma)

    def exits(self, x, t, condition=UNCONDITIONAL):
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            (score,) = torch.autograd.grad(self._energies(point, t).logsumexp(1).sum(), point)
        share = self._energies(x, t).softmax(1)
        wide = (0.8 * alpha * SPREAD) ** 2 + sigma**2
        gain = 0.8 * alpha * SPREAD**2 / wide
        seen = (x @ ROTATION)[:, None, :2]
        means = PLACES + gain * (seen - 0.8 * alpha * PLACES)
        mean = (share[:, :, None] * means).sum(1)
        labels = torch.stack([share[:, label == LABELS].sum(1) for label in range(3)], 1)
        return {"noise": -sigma * score, "point": mean @ ROTATION[:, :2].T, "label": labels.log()}

    def native(self, x, t, condition=UNCONDITIONAL):
        return self.exits(x, t, condition)["noise"]


def states(rows=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    place = torch.randint(4, (rows,), generator=generator)
    point = PLACES[place].float() + SPREAD * torch.randn(rows, 2, generator=generator)
    return DATA.pack({"point": point, "label": torch.nn.functional.one_hot(LABELS[place], 3).float()})


def test_parts_come_back_from_their_aggregate():
    given = states(50)
    latents = SPACE.to_latent(given)
    leaves = DATA.unpack(given)
    by_hand = 0.8 * leaves["point"].double() @ ROTATION[:, :2].T
    by_hand = by_hand + 1.3 * (leaves["label"].double() @ SIGNS.T) @ ROTATION[:, 2:].T
    torch.testing.assert_close(latents.double(), by_hand, rtol=0, atol=1e-6)
    torch.testing.assert_close(SPACE.to_data(latents), given, rtol=0, atol=1e-6)
    assert SPACE.to_data(latents[:0]).shape == (0, 5)


@pytest.mark.parametrize("t", [0.02, 0.2, 0.5, 0.95])
def test_exact_heads_and_exact_noise_are_read_as_one(t):
    """Linear encoders and optimal heads: both read-outs are E[z | z_t], to 1e-8."""
    z = torch.randn(200, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    noise, heads = (ReadOut(Exact(), SPACE, name)(z, t) for name in ("noise", "heads"))
    torch.testing.assert_close(heads, noise, rtol=0, atol=1e-8)
    torch.testing.assert_close(noise, Exact()(z, t), rtol=0, atol=1e-12)


def test_known_parts_stand_in_every_prediction():
    given = states(200, seed=4)
    beside = SPACE.beside(given)
    clean = SPACE.to_latent(given).double()
    z = torch.randn(200, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for read_out in ("noise", "heads"):
        reader = ReadOut(Exact(), SPACE, read_out)
        everything = reader(z, 0.4, Conditioning(sources=beside))
        torch.testing.assert_close(everything, clean, rtol=0, atol=1e-6)
        label = reader(z, 0.4, Conditioning(sources={"label": beside["label"]}))
        torch.testing.assert_close((label @ ROTATION)[:, 2:], (clean @ ROTATION)[:, 2:], rtol=0, atol=1e-6)
        torch.testing.assert_close((label @ ROTATION)[:, :2], (reader(z, 0.4) @ ROTATION)[:, :2], rtol=0, atol=1e-8)


def test_with_all_parts_known_the_states_have_the_marginal_of_the_process():
    """z_t ~ N(A z_0, (1 - A²) I) on the way, and the parts themselves at the end."""
    count, path = 4000, VPLinear()
    one = states(1, seed=7)
    beside = {name: value.expand(count, *value.shape[1:]) for name, value in SPACE.beside(one).items()}
    clean = SPACE.to_latent(one).double()[0]
    reader, told = ReadOut(Exact(), SPACE, "heads"), Conditioning(sources=beside)
    grid = torch.linspace(1.0, 0.35, 14, dtype=torch.float64).tolist()
    options = {"condition": told, "batch_size": count, "dtype": torch.float64, "seed": 2}
    middle = sample(reader, SPACE.spec, count, solver="ddpm", nfe=13, grid=grid, end="stop", **options)
    alpha, sigma = path.alpha(0.35), path.sigma(0.35)
    assert float((middle.mean(0) - alpha * clean).abs().max()) < 4 * sigma / math.sqrt(count)
    assert float((torch.cov(middle.T) / sigma**2 - torch.eye(4)).abs().max()) < 5 * math.sqrt(2 / count)
    end = sample(
        reader, SPACE.spec, 3, solver="ddpm", nfe=20, end="denoise", condition=told.rows(slice(3)), dtype=torch.float64
    )
    torch.testing.assert_close(SPACE.to_data(end), one.expand(3, 5), rtol=0, atol=1e-5)


def test_labels_are_codes_of_cosines_in_dimensions_of_their_own():
    class Pictures:
        name = "pictures"
        spec = StateSpec([Leaf("image", (1, 4, 6)), Leaf("label", (5,))])

    asked = Aggregation.parse(
        {"parts": {"image": {}, "label": {"encoder": "codes", "shape": [2, 4, 6], "weight": 0.3}}}, "the test"
    )
    space = aggregate_of(Pictures(), asked)
    assert space.spec.shape == (3, 4, 6)
    codes = space.encoders["label"].matrix
    torch.testing.assert_close(codes.T @ codes / 48, torch.eye(5).double(), rtol=0, atol=1e-12)
    assert torch.equal(codes[:, 0], torch.ones(48).double()), "the slowest pattern is a constant"
    given = Pictures.spec.pack({"image": torch.rand(5, 1, 4, 6), "label": torch.eye(5)})
    latents = space.to_latent(given)
    assert torch.equal(latents[:, :1], Pictures.spec.unpack(given)["image"]), "a picture enters as it is"
    assert torch.equal(space.to_data(latents), given)
    parts = {**asked.parts, "label": asked.parts["label"].model_copy(update={"weight": 0.5})}
    assert aggregate_of(Pictures(), asked.model_copy(update={"parts": parts})).identity != space.identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: Aggregate(DATA, ENCODERS[:1], (4,)), "the parts are point, but the states hold point, label"),
        (lambda: Aggregate(DATA, ENCODERS[::-1], (4,)), "name each of these once, in this order"),
        (
            lambda: Aggregate(DATA, [ENCODERS[0], Encoder("label", (3,), 4, first=1)], (4,)),
            "'point' and 'label' share dimensions",
        ),
        (
            lambda: Encoder("label", (3,), 4, matrix=torch.ones(2, 3).double(), classes=True),
            "'label' does not follow from its code of 2 numbers",
        ),
        (lambda: Encoder("point", (2,), 4, matrix=torch.ones(3, 2).double()), r"'point' does not follow.*rank 1"),
    ],
)
def test_parts_that_do_not_follow_from_their_sum_are_refused(change, message):
    with pytest.raises(AnydiffError, match=message):
        change()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"image": {}}, "latent.parts names image, but the domain 'pictures' has the leaves image, label"),
        ({"image": {}, "label": {}}, "cannot be stacked"),
        ({"image": {}, "label": {"encoder": "codes"}}, "need the shape of their patterns"),
        ({"image": {}, "label": {"encoder": "codes", "shape": [1, 2, 6]}}, r"cannot be stacked"),
        ({"image": {"shape": [1, 2, 2]}, "label": {}}, "enters as it is, with shape"),
        ({"image": {"tile": [1, 1, 1]}, "label": {}}, "enters as it is, with shape"),
        ({"image": {"encoder": "codes", "shape": [1, 1, 2]}, "label": {}}, "codes are for one-hot classes"),
    ],
)
def test_parts_that_do_not_fit_the_domain_are_refused(parts, message):
    class Pictures:
        name = "pictures"
        spec = StateSpec([Leaf("image", (1, 1, 2)), Leaf("label", (5,))])

    with pytest.raises(AnydiffError, match=message):
        aggregate_of(Pictures(), Aggregation.parse({"parts": parts}, "the test"))


def test_tiles_tell_the_class_at_every_place():
    found = codes((1, 4, 6), 3, (1, 2, 3)).reshape(4, 6, 3)
    for row in (0, 2):
        assert torch.equal(found[row : row + 2, :3], found[:2, :3])
        assert torch.equal(found[row : row + 2, 3:], found[:2, :3])
    flat = found.reshape(24, 3)
    torch.testing.assert_close(flat.T @ flat / 24, torch.eye(3).double(), rtol=0, atol=1e-12)
    for tile in ((1, 3, 3), (2, 2), (1, 2, 0)):
        with pytest.raises(AnydiffError, match=r"does not fill shape \[1, 4, 6\]"):
            codes((1, 4, 6), 3, tile)
    with pytest.raises(AnydiffError, match="room for 2 patterns, but there are 3"):
        codes((1, 4, 6), 3, (1, 1, 2))


def test_too_many_classes_for_a_pattern_are_refused():
    class Vectors:
        name = "vectors"
        spec = StateSpec([Leaf("point", (2,)), Leaf("label", (5,))])

    few = {"point": {}, "label": {"encoder": "codes", "shape": [4]}}
    with pytest.raises(AnydiffError, match=r"shape \[4\] has room for 4 patterns, but there are 5"):
        aggregate_of(Vectors(), Aggregation.parse({"parts": few}, "the test"))
    with pytest.raises(AnydiffError, match=r"weight in the test is 0"):
        Aggregation.parse({"parts": {"label": {"weight": 0}}}, "the test")


def test_known_entries_are_whole_parts():
    given = states(3)
    mask = torch.zeros(3, 5, dtype=torch.bool)
    assert SPACE.given(Known(given, mask)) == {}
    mask[:, :2] = True
    assert list(SPACE.given(Known(given, mask))) == ["point"]
    mask[1, 1] = False
    with pytest.raises(AnydiffError, match="some entries of the part 'point' are known and others are not"):
        SPACE.given(Known(given, mask))


def test_a_part_that_no_head_reads_is_refused():
    class Lacking(Exact):
        def exits(self, x, t, condition=UNCONDITIONAL):
            return {"noise": super().exits(x, t, condition)["noise"]}

    z = torch.zeros(2, 4, dtype=torch.float64)
    with pytest.raises(AnydiffError, match="read_out is 'heads', but the network has no head 'point'"):
        ReadOut(Lacking(), SPACE, "heads")(z, 0.5)
    assert ReadOut(Lacking(), SPACE, "noise")(z, 0.5).shape == (2, 4)
    with pytest.raises(UnknownNameError, match="read_out"):
        ReadOut(Exact(), SPACE, "votes")


SHARE, JOINED = Aggregate.share, Aggregate.joined


def likeliest(self, name, told, like):
    if self.encoders[name].classes and told.is_floating_point():
        told = told.argmax(-1)
    return SHARE(self, name, told, like)


MUTANTS = {
    "the likeliest label in place of the mean": (
        (Aggregate, "share", likeliest),
        lambda: test_exact_heads_and_exact_noise_are_read_as_one(0.5),
    ),
    "parts without their weights": (
        (Aggregate, "joined", lambda self, shares: self._shaped(sum(shares.values()))),
        test_parts_come_back_from_their_aggregate,
    ),
    "a known part that is added and not put in place": (
        (Encoder, "projected", lambda self, share: torch.zeros_like(share)),
        test_known_parts_stand_in_every_prediction,
    ),
    "a part read without its weight": (
        (Aggregate, "decoded", lambda self, z: self.data.pack({n: e.values(z) for n, e in self.encoders.items()})),
        test_parts_come_back_from_their_aggregate,
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_mutant_is_killed(name, monkeypatch):
    assert_killed(*MUTANTS[name], monkeypatch)
