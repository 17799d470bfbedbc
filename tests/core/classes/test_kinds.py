"""Kinds of prediction of classes: ways there and back, the published closed forms, and what is refused."""

from __future__ import annotations

import pytest
import torch
from laws import spec

from anydiff.denoisers.categorical import check_prediction, convert_classes
from anydiff.errors import AnydiffError, NonFiniteError
from anydiff.paths import Marginal, MaskAndReplace, Masked, Uniform, VPLinear
from anydiff.solvers import compile_plan
from anydiff.solvers.transitions import draw_class, posterior, posterior_law
from anydiff.states import Leaf, StateSpec

PATHS = [Masked(), Uniform(), MaskAndReplace(), Marginal((0.5, 0.3, 0.2))]


def given(path) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.tensor([[0, 1, 2, 2], [2, 0, 1, 0]])
    if path.share == 1:
        x = torch.full_like(x, 3)
    elif path.masks:
        x[0, 1] = x[1, 2] = 3
    logits = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x, logits


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("kind", ["data", "logits", "cavity", "ratio"])
def test_every_kind_leads_to_every_other_and_back(path, kind: str) -> None:
    path = path.bind(spec())
    x, logits = given(path)
    t = torch.tensor([0.3, 0.7], dtype=torch.float64)
    data = convert_classes(path, x, t, logits, "logits", "data")
    there = convert_classes(path, x, t, data, "data", kind)
    assert torch.allclose(convert_classes(path, x, t, there, kind, "data"), data, atol=1e-10)
    assert torch.allclose(data.sum(-1), torch.ones(2, 4, dtype=torch.float64))


def test_ratios_of_masks_are_the_published_ones() -> None:
    """s_v = p_v ᾱ/(1 - ᾱ) on a masked path."""
    path = Masked().bind(spec())
    x, logits = given(path)
    ratio = convert_classes(path, x, 0.3, logits, "logits", "ratio")
    assert torch.allclose(ratio.exp(), torch.softmax(logits, -1) * 0.7 / 0.3)


def test_ratios_of_uniform_noise_are_the_published_ones() -> None:
    """s_y = 1 - p_x r/(1 + r) + r p_y for y other than x, r = K ᾱ/(1 - ᾱ)."""
    path = Uniform().bind(spec())
    x, logits = given(path)
    p, r = torch.softmax(logits, -1), 3 * 0.7 / 0.3
    expected = 1 - p.gather(-1, x[..., None]) * r / (1 + r) + r * p
    expected = expected.scatter(-1, x[..., None], 1.0)
    assert torch.allclose(convert_classes(path, x, 0.3, logits, "logits", "ratio").exp(), expected)


def test_a_class_that_is_there_is_certain_on_a_masked_path() -> None:
    path = Masked().bind(spec())
    logits = torch.zeros(1, 4, 3)
    data = convert_classes(path, torch.tensor([[0, 3, 2, 3]]), 0.5, logits, "logits", "data")
    third = 1 / 3
    expected = torch.tensor([[[1, 0, 0], [third] * 3, [0, 0, 1], [third] * 3]])
    assert torch.allclose(data, expected)


def test_score_steps_are_ancestral_steps() -> None:
    """Tweedie's step of the concrete score (SEDD, uniform noise) is the posterior of the same prediction."""
    path = Uniform().bind(spec())
    x, logits = given(path)
    t, s = 0.6, 0.25
    score = convert_classes(path, x, t, logits, "logits", "ratio").exp()
    growth = path.keep(s) / path.keep(t)  # e^d, d = σ̄_t - σ̄_s
    moved = growth * score + (1 - growth) / 3 * score.sum(-1, keepdim=True)
    alpha, beta, _ = path.kernel(s, t)
    weights = moved * (beta / 3 + alpha * torch.nn.functional.one_hot(x, 3))
    cavity = convert_classes(path, x, t, logits, "logits", "cavity")
    found = posterior_law(x, cavity, classes=3, data=path.marginal(s), step=path.kernel(s, t))
    assert torch.allclose(found[..., :3], weights / weights.sum(-1, keepdim=True), atol=1e-12)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)
def test_draws_follow_the_law_number_by_number(path) -> None:
    """Of evenly spread numbers each class gets its share, to the spacing of the numbers."""
    path = path.bind(spec())
    x, logits = given(path)
    options = {"classes": 3, "data": path.marginal(0.25), "step": path.kernel(0.25, 0.6), "law": path.law}
    law = posterior_law(x, logits, **options)
    count = 20_000
    numbers = ((torch.arange(count, dtype=torch.float64) + 0.5) / count).reshape(-1, 1, 1).expand(count, 2, 4)
    many = (each.expand(count, *each.shape).flatten(0, 1) for each in (x, logits))
    state, cavity = many
    drawn = posterior(state, cavity, numbers.flatten(0, 1), **options).reshape(count, 2, 4)
    shares = torch.nn.functional.one_hot(drawn, 4).double().mean(0)
    assert float((shares - law).abs().max()) < 5e-4


def test_both_ends_of_the_uniform_numbers_are_safe() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]]).expand(4, 5)
    numbers = torch.tensor([2.0**-54, 1 - 2.0**-53, 1.0, 1e-300], dtype=torch.float64)
    assert draw_class(logits, numbers).tolist() == [1, 3, 3, 1]


def test_a_class_of_small_probability_is_drawn_as_often_as_it_should() -> None:
    """2^-30, which a uniform number in float32 cannot resolve below 1."""
    logits = torch.tensor([[0.0, -30 * 0.6931471805599453]], dtype=torch.float64)
    assert draw_class(logits, torch.tensor([1 - 2.0**-31], dtype=torch.float64)).item() == 1
    assert draw_class(logits, torch.tensor([1 - 2.0**-29], dtype=torch.float64)).item() == 0


@pytest.mark.parametrize("bad", [[float("nan"), 0.0, 1.0], [-torch.inf] * 3, [torch.inf, 0.0, 0.0]])
def test_logits_from_which_nothing_can_be_drawn_are_refused(bad: list[float]) -> None:
    path = Masked().bind(spec(1))
    plan = compile_plan("ancestral", path, 1)
    options = plan.instructions[1].options
    with pytest.raises(NonFiniteError, match="NaN, \\+inf, or -inf for every class"):
        posterior(torch.tensor([[3]]), torch.tensor([[bad]]), torch.tensor([[0.5]]), **options)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Marginal((0.5, 0.6, -0.1)), "probabilities holds -0.1"),
        (lambda: Marginal((0.5, 0.6)), "sum to 1.1, but must sum to 1"),
        (lambda: Marginal((0.5, 0.5)).bind(spec()), "2 numbers, but the states 3 classes"),
        (lambda: MaskAndReplace(1.0), "masked is 1.0, but must lie between 0 and 1"),
        (lambda: Masked("cosin"), "did you mean 'cosine'"),
        (lambda: Masked().bind(StateSpec.single((3,))), "is continuous, but Masked"),
        (lambda: VPLinear().bind(spec()), "is categorical, but VPLinear"),
        (lambda: Uniform().bound, "does not know the number of classes"),
        (lambda: compile_plan("ddim", Masked().bind(spec()), 4), "moves real numbers, but Masked"),
        (lambda: compile_plan("ancestral", VPLinear(), 4), "draws classes, but VPLinear"),
        (
            lambda: Masked().bind(StateSpec([Leaf("a", (2,), "categorical", 3), Leaf("b", (2,), "categorical", 4)])),
            "have \\[3, 4\\] classes",
        ),
        (
            lambda: check_prediction(Masked().bind(spec()), torch.zeros(1, 4).long(), torch.zeros(1, 4, 5)),
            "has shape \\(1, 4, 5\\) for states of shape \\(1, 4\\)",
        ),
        (lambda: spec().check_classes(torch.tensor([[0, 1, 3, 0]]), "data set 'x'"), "holds 3, the mask"),
        (lambda: spec().check_classes(torch.tensor([[0, 1, -2, 0]]), "data set 'x'"), "of data set 'x' holds -2"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_fix(make, sentence: str) -> None:
    with pytest.raises(AnydiffError, match=sentence):
        make()
