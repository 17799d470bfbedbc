"""Mixed states: a number and its class on one loop, one call per node, with an exact denoiser of both."""

from __future__ import annotations

import pytest
import torch

from anydiff.denoisers.base import FunctionDenoiser
from anydiff.errors import AnydiffError
from anydiff.paths import Flow, Masked, Uniform, VPLinear
from anydiff.paths.mixed import MixedPath, product
from anydiff.samplers import sample
from anydiff.solvers import Plan, compile_plan
from anydiff.states import Leaf, NoiseSource, StateSpec

SPEC = StateSpec([Leaf("x", (1,)), Leaf("c", (1,), "categorical", 2)])
CHANCE, STD = 0.3, 0.25


def oracle(path: MixedPath) -> FunctionDenoiser:
    """P(c = 1) = 0.3 and x | c normal at ±1 with deviation 0.25; exact, as data and logits of the class."""
    leaf = path.numbers
    ((_, classes),) = path.classes

    def exact(state: torch.Tensor, t: float) -> torch.Tensor:
        x, c = state[:, 0].double(), state[:, 1].long()
        alpha, sigma = leaf.alpha(t), leaf.sigma(t)
        prior = torch.tensor([1 - CHANCE, CHANCE]).double().log()
        means, spread = torch.tensor([-1.0, 1.0]).double(), alpha**2 * STD**2 + sigma**2
        near = -((x[:, None] - alpha * means) ** 2) / (2 * spread)
        kept, replaced, masked = classes.marginal(t)
        own = torch.full((3, 2), replaced / 2, dtype=torch.float64) + kept * torch.eye(3, 2).double()
        own[2] = masked
        own = torch.where((own[:2] == 0).any(), torch.cat([torch.eye(2).double(), own[2:]]), own)
        logits = torch.log_softmax(prior + near + own.log()[c], dim=1)
        data = means + alpha * STD**2 / spread * (x[:, None] - alpha * means)
        return torch.cat([(logits.exp() * data).sum(1, keepdim=True), logits], dim=1).to(state.dtype)

    made = FunctionDenoiser(exact, path, "data")
    made.spec = SPEC
    return made


def mixed(numbers=None, classes=None) -> MixedPath:
    return MixedPath((("x", numbers or Flow()), ("c", classes or Masked()))).bind(SPEC)


def agreement(path: MixedPath, plan: Plan, count: int = 8000) -> float:
    found = sample(oracle(path), SPEC, count, solver=plan, batch_size=count)
    assert set(found[:, 1].tolist()) <= {0.0, 1.0}
    return float(((found[:, 0] > 0) == (found[:, 1] == 1)).double().mean())


@pytest.mark.parametrize(("nfe", "low", "high"), [(1, 0.68, 0.72), (2, 0.9, 1), (4, 0.98, 1), (8, 0.995, 1)])
def test_sign_and_class_agree_more_with_every_call(nfe: int, low: float, high: float) -> None:
    path = mixed()
    plan = compile_plan("ddpm", path, nfe, grid="time")
    assert plan.nfe == nfe
    assert low <= agreement(path, plan) <= high


@pytest.mark.parametrize("solver", ["ddim", "euler", "dpm-solver++-2m", "adams-3"])
@pytest.mark.parametrize("path", [mixed(), mixed(VPLinear(), Uniform())], ids=["flow-masked", "vp-uniform"])
def test_any_solver_of_one_call_per_node_carries_classes(solver: str, path: MixedPath) -> None:
    plan = compile_plan(solver, path, 24, grid="time")
    found = sample(oracle(path), SPEC, 4000, solver=plan, batch_size=4000)
    assert float((found[:, 1] == 1).double().mean()) == pytest.approx(CHANCE, abs=0.03)
    assert float(((found[:, 0] > 0) == (found[:, 1] == 1)).double().mean()) > 0.97
    assert float(found[found[:, 1] == 1, 0].mean()) == pytest.approx(1.0, abs=0.05)


def test_a_sample_does_not_depend_on_its_batch_and_a_plan_is_data() -> None:
    path = mixed()
    plan = compile_plan("ddpm", path, 5)
    whole = sample(oracle(path), SPEC, 6, solver=plan)
    assert torch.equal(whole, sample(oracle(path), SPEC, 6, solver=Plan.from_json(plan.to_json()), batch_size=2))
    for end in ("denoise", "stop"):
        assert sample(oracle(path), SPEC, 6, solver=compile_plan("ddim", path, 5, end=end)).isfinite().all()


def test_noised_data_keep_class_numbers() -> None:
    path = mixed()
    clean = torch.tensor([[0.3, 1.0]]).expand(2000, 2)
    noise = NoiseSource(SPEC, 1, path.noise_law).draw(range(2000), 0)
    assert noise.dtype == torch.float64
    found = path.noised(torch.full((2000,), 0.4).double(), clean, noise)
    assert found.dtype == torch.float32
    assert float((found[:, 1] == 2).double().mean()) == pytest.approx(0.4, abs=0.04)
    assert float(found[:, 0].std()) == pytest.approx(0.4, abs=0.03)


def test_the_path_is_made_by_the_product_of_both_kinds() -> None:
    assert isinstance(product({"x": "flow", "c": "masked"}), MixedPath)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: compile_plan("heun", mixed(), 8), "calls the network other than once at each node"),
        (lambda: compile_plan("ancestral", mixed(), 8), "draws classes, but Flow"),
        (lambda: MixedPath((("c", Masked()), ("d", Uniform()))), "a mixed product takes leaves on paths of data"),
        (lambda: MixedPath((("x", Flow()), ("c", Masked())), clock="c"), "must be one of the continuous leaves"),
        (lambda: mixed(Masked(), Flow()), "is continuous, but Masked"),
        (lambda: SPEC.dtype(torch.float16), "rounds class numbers"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fix(make, sentence: str) -> None:
    with pytest.raises(AnydiffError, match=sentence):
        make()
