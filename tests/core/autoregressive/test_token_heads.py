"""Token heads: exact probabilities, draws keyed by sample and position, the diffusion head as an ordinary denoiser."""

import math

import pytest
import torch
from scipy import stats

from anydiff.autoregressive import DiffusionHead, GaussianHead, SoftmaxHead, TokenKeys
from anydiff.errors import AnydiffError
from anydiff.guidance import ClassifierFree
from anydiff.solvers import compile_plan
from anydiff.states import Draws

MANY = 20_000


def keys(rows, positions=None, seed=0):
    return TokenKeys(seed, range(rows), [3] * rows if positions is None else positions)


def vectors(rows, size=5, seed=0):
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))


def awake(head, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for parameter in head.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return head


@torch.no_grad()
def test_a_gaussian_head_draws_what_it_says():
    head, hidden = awake(GaussianHead(5, 2)), vectors(1)
    mean, deviation = (each[0] for each in head.law(hidden))
    x = head.sample(hidden.expand(MANY, -1), keys(MANY)).double()
    for entry in range(2):
        law = stats.norm(float(mean[entry]), float(deviation[entry]))
        assert stats.kstest(x[:, entry].numpy(), law.cdf).pvalue > 1e-3
    wanted = torch.distributions.Normal(mean, deviation).log_prob(x[:7]).sum(1)
    assert torch.allclose(head.log_prob(hidden.expand(7, -1), x[:7]), wanted)
    assert float(head.loss(hidden.expand(7, -1), x[:7].float())) == pytest.approx(-float(wanted.mean()) / 2, rel=1e-5)


@torch.no_grad()
def test_a_softmax_head_draws_what_it_says():
    head, hidden = awake(SoftmaxHead(5, 4)), vectors(1)
    table = head.table(hidden)[0].exp()
    classes = head.sample(hidden.expand(MANY, -1), keys(MANY))
    assert stats.chisquare(torch.bincount(classes, minlength=4), MANY * table).pvalue > 1e-3
    assert float(head.log_prob(hidden, torch.tensor([2]))[0]) == pytest.approx(math.log(float(table[2])))
    assert float(head.loss(hidden, torch.tensor([2]))) == pytest.approx(-math.log(float(table[2])), rel=1e-5)


@pytest.mark.parametrize("head", [GaussianHead(5, 3), SoftmaxHead(5, 3), DiffusionHead(5, 3, width=8, blocks=1)])
@torch.no_grad()
def test_a_token_depends_on_its_sample_and_position_alone(head):
    head, hidden = awake(head), vectors(6)
    whole = head.sample(hidden, TokenKeys(4, [0, 0, 5, 5, 9, 9], [1, 7, 1, 7, 1, 7]))
    alone = head.sample(hidden[3:4], TokenKeys(4, [5], [7]))
    assert torch.allclose(alone[0], whole[3], atol=1e-6)
    same = vectors(1).expand(3, -1)
    drawn = head.sample(same.repeat(40, 1), TokenKeys.of(4, range(40), torch.tensor([1, 2, 3])))
    other = head.sample(same.repeat(40, 1), TokenKeys.of(5, range(40), torch.tensor([1, 2, 3])))
    assert not torch.equal(drawn, other)
    assert not torch.equal(drawn[::3], drawn[1::3]), "positions have numbers of their own"


@pytest.mark.parametrize("head", [GaussianHead(5, 3), SoftmaxHead(5, 3), DiffusionHead(5, 3, width=8, blocks=1)])
def test_tokens_without_weight_give_no_gradient(head):
    awake(head)
    hidden = vectors(4).requires_grad_()
    target = torch.tensor([0, 1, 2, 1]) if isinstance(head, SoftmaxHead) else vectors(4, 3)
    weight = torch.tensor([1.0, 0.0, 2.0, 0.0])
    head.loss(hidden, target, weight).backward()
    reached = hidden.grad.abs().sum(1)
    assert bool((reached[[1, 3]] == 0).all())
    assert bool((reached[[0, 2]] > 0).all())
    losses = head.losses(hidden, target, Draws(0, range(4)))
    wanted = (losses[0] + 2 * losses[2]).detach() / 3
    assert float(head.loss(hidden, target, weight).detach()) == pytest.approx(float(wanted), rel=1e-5)
    assert float(head.loss(hidden, target, torch.zeros(4))) == 0


def test_a_diffusion_head_uses_each_hidden_vector_at_so_many_times():
    head, seen = DiffusionHead(5, 3, width=8, blocks=1), []
    head.denoiser.network.register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    losses = head.losses(vectors(6), vectors(6, 3), Draws(0, range(10, 16)))
    assert losses.shape == (6,)
    assert [len(each) for each in seen] == [24], "one call"
    assert len(set(seen[0].tolist())) == 24, "all of them different"
    again = head.losses(vectors(6)[2:3], vectors(6, 3)[2:3], Draws(0, [12]))
    assert float(again[0]) == pytest.approx(float(losses[2]), rel=1e-5), "keyed by the example, not by its batch"


@torch.no_grad()
def test_every_solver_and_guidance_works_in_a_diffusion_head():
    head, hidden = awake(DiffusionHead(5, 3, width=8, blocks=1)), vectors(6)
    plain = head.sample(hidden, keys(6), nfe=4)
    one = head.sample(hidden, keys(6), nfe=4, guidance=ClassifierFree(1.0))
    two = head.sample(hidden, keys(6), nfe=4, guidance=ClassifierFree(3.0))
    assert torch.allclose(plain, one, atol=1e-5)
    assert not torch.allclose(plain, two, atol=1e-3)
    assert bool(torch.isfinite(head.sample(hidden, keys(6), nfe=4, solver="heun")).all())


@torch.no_grad()
def test_a_path_of_a_diffusion_head_is_its_sample_and_has_the_probability_of_its_noise():
    head, hidden = awake(DiffusionHead(5, 3, width=8, blocks=1)).double(), vectors(4).double()
    plan = compile_plan("ddpm", head.denoiser.path, 5, end="stop")
    told = TokenKeys(2, [0, 1, 2, 2], [0, 0, 0, 1])
    path = head.path(hidden, told, plan)
    assert torch.allclose(path.end(plan), head.sample(hidden, told, solver=plan), atol=1e-5), "in single precision"
    own = head.log_prob(hidden, path, plan)
    other = head.log_prob(hidden + 1, path, plan)
    assert own.shape == (4,)
    assert float(own.sum()) != float(other.sum())
    with pytest.raises(AnydiffError, match="plan is missing"):
        head.log_prob(hidden, path)
    with pytest.raises(AnydiffError, match="draws no noise"):
        head.path(hidden, told, compile_plan("ddim", head.denoiser.path, 5))


@torch.no_grad()
def test_the_loss_of_a_diffusion_head_is_the_squared_error_of_the_velocity():
    """An untrained head predicts 0, so its loss is the mean of (α ε - σ x0)² over the four times."""
    head, target = DiffusionHead(5, 3, width=8, blocks=1), vectors(6, 3)
    draws, path, wanted = Draws(7, range(6)), head.denoiser.path, []
    for number in range(4):
        own = draws.named(f"time {number}")
        t = head.objective.times(path, own.uniform("time"))
        noise = own.normal("noise", (3,))
        velocity = path.alpha(t)[:, None] * noise - path.sigma(t)[:, None] * target
        wanted.append(velocity.square().mean(1))
    assert torch.allclose(head.losses(vectors(6), target, draws).double(), torch.stack(wanted).mean(0), rtol=1e-4)


def test_bad_input_is_one_sentence():
    head = GaussianHead(5, 2)
    with pytest.raises(AnydiffError, match=r"hidden has shape \(4, 3\), but this head reads \[N, 5\]"):
        head.loss(vectors(4, 3), vectors(4, 2))
    with pytest.raises(AnydiffError, match=r"hidden has 4 rows, target the shape \(3, 2\)"):
        head.loss(vectors(4), vectors(3, 2))
    with pytest.raises(AnydiffError, match="2 samples and 1 positions"):
        TokenKeys(0, [0, 1], [0])
    with pytest.raises(AnydiffError, match="channels is 0"):
        GaussianHead(5, 0)
    with pytest.raises(AnydiffError, match="times is 0"):
        DiffusionHead(5, 2, times=0)
