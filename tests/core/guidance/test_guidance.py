"""Guidance: exact at its neutral values, one call of twice the rows, the same in every kind, per sample."""

from __future__ import annotations

import math

import pytest
import torch
from checks import check_classifier_free, check_threshold
from exact import CENTRES, PATHS, Counting
from hypothesis import given
from hypothesis import strategies as st

from anydiff.denoisers import FunctionDenoiser, GaussianMixtureOracle
from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.wrappers import Clamp, DynamicThreshold, wrapped
from anydiff.errors import AnydiffError
from anydiff.guidance import ClassifierFree
from anydiff.paths import EDM, VPLinear
from anydiff.solvers import compile_plan, execute
from anydiff.states import UNCONDITIONAL, Conditioning

LABEL = torch.tensor([0, 1, 2, 0, 1])


def oracle(path=None) -> GaussianMixtureOracle:
    return GaussianMixtureOracle(path or VPLinear(), CENTRES, 0.3)


def states(rows: int = 5) -> torch.Tensor:
    return torch.randn(rows, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [1.0, 1, torch.tensor(1.0), torch.ones(5), lambda t: 1.0])
def test_scale_1_is_the_conditional_model_bit_for_bit(scale):
    guided = ClassifierFree(scale)(oracle())
    assert torch.equal(
        guided(states(), 0.4, Conditioning({"label": LABEL})), oracle()(states(), 0.4, Conditioning({"label": LABEL}))
    )


@pytest.mark.parametrize("scale", [0.0, 0, torch.tensor(0.0), torch.zeros(5), lambda t: 0.0])
def test_scale_0_is_the_unconditional_model_bit_for_bit(scale):
    guided = ClassifierFree(scale)(oracle())
    assert torch.equal(guided(states(), 0.4, Conditioning({"label": LABEL})), oracle()(states(), 0.4))


@pytest.mark.parametrize("name", sorted(PATHS))
def test_formula_on_every_path(name):
    check_classifier_free(PATHS[name])


@pytest.mark.parametrize("kind", ["data", "noise", "velocity", "score", "flow", "edm"])
def test_the_same_in_every_native_kind(kind):
    inner = FunctionDenoiser(lambda x, t, c: oracle().predict(x, t, kind, c), VPLinear(), kind)
    x = states()
    expected = ClassifierFree(3.0)(oracle())
    for target in ("data", "noise", "score"):
        value = ClassifierFree(3.0)(inner).predict(x, 0.4, target, Conditioning({"label": LABEL}))
        torch.testing.assert_close(
            value, expected.predict(x, 0.4, target, Conditioning({"label": LABEL})), rtol=1e-10, atol=1e-10
        )


def test_two_predictions_are_one_call_of_twice_the_rows():
    counting = Counting(oracle())
    ClassifierFree(3.0)(counting)(states(), 0.4, Conditioning({"label": LABEL}))
    assert counting.calls == [(0.4, 10)]
    for scale in (1.0, 0.0):
        counting.calls.clear()
        ClassifierFree(scale)(counting)(states(), 0.4, Conditioning({"label": LABEL}))
        assert counting.calls == [(0.4, 5)]


def test_tensor_scale_is_per_sample_and_callable_is_of_time():
    scales = torch.tensor([0.0, 0.5, 1.0, 2.0, 7.0])
    together = ClassifierFree(scales)(oracle())(states(), 0.4, Conditioning({"label": LABEL}))
    for row, scale in enumerate(scales.tolist()):
        alone = ClassifierFree(scale)(oracle())(
            states()[row : row + 1], 0.4, Conditioning({"label": LABEL[row : row + 1]})
        )
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-13, atol=1e-13)
    timed = ClassifierFree(lambda t: 10 * t)(oracle())
    fixed = ClassifierFree(4.0)(oracle())
    assert torch.equal(
        timed(states(), 0.4, Conditioning({"label": LABEL})), fixed(states(), 0.4, Conditioning({"label": LABEL}))
    )
    with pytest.raises(AnydiffError, match="function of time"):
        timed(states(), torch.full((5,), 0.4), Conditioning({"label": LABEL}))
    with pytest.raises(AnydiffError, match="scale has shape"):
        ClassifierFree(torch.ones(4))(oracle())(states(), 0.4, Conditioning({"label": LABEL}))


def test_interval_is_in_noise_levels_and_includes_its_ends():
    path = EDM()
    counting = Counting(oracle(path))
    guided = ClassifierFree(3.0, interval=(0.5, 2.0))(counting)
    for level, rows in ((0.49, 5), (0.5, 10), (1.0, 10), (2.0, 10), (2.01, 5)):
        counting.calls.clear()
        value = guided(states(), level, Conditioning({"label": LABEL}))
        assert counting.calls == [(level, rows)]
        expected = ClassifierFree(3.0 if rows == 10 else 1.0)(oracle(path))(
            states(), level, Conditioning({"label": LABEL})
        )
        assert torch.equal(value, expected)
    levels = torch.tensor([0.1, 0.5, 1.0, 2.0, 9.0], dtype=torch.float64)
    mixed = guided(states(), levels, Conditioning({"label": LABEL}))
    single = [
        guided(states()[i : i + 1], float(t), Conditioning({"label": LABEL[i : i + 1]})) for i, t in enumerate(levels)
    ]
    torch.testing.assert_close(mixed, torch.cat(single), rtol=1e-12, atol=1e-12)


def test_only_the_named_conditions_are_dropped():
    seen = []

    class Spy(Denoiser):
        path = VPLinear()

        def native(self, x, t, condition=UNCONDITIONAL):
            seen.append(condition)
            return x

    ClassifierFree(2.0, names=("label",))(Spy())(
        states(), 0.4, Conditioning({"label": LABEL, "dose": torch.ones(5, 2)}, mask=torch.ones(5, 2))
    )
    (both,) = seen
    assert torch.equal(both.present["label"], torch.tensor([True] * 5 + [False] * 5))
    assert "dose" not in both.present
    assert both.mask.shape == (10, 2)
    seen.clear()
    present = torch.tensor([True, False, True, True, True])
    ClassifierFree(2.0)(Spy())(states(), 0.4, Conditioning({"label": LABEL}, {"label": present}))
    assert torch.equal(seen[0].present["label"], torch.cat([present, torch.zeros(5, dtype=torch.bool)]))


def test_bad_guidance():
    with pytest.raises(AnydiffError, match="finite"):
        ClassifierFree(math.nan)
    with pytest.raises(AnydiffError, match="interval"):
        ClassifierFree(2.0, interval=(2.0, 1.0))
    with pytest.raises(AnydiffError, match="drops the condition"):
        ClassifierFree(2.0)(oracle())(states(), 0.4)
    with pytest.raises(AnydiffError, match="drops the condition 'text'"):
        ClassifierFree(2.0, names=("text",))(oracle())(states(), 0.4, Conditioning({"label": LABEL}))
    with pytest.raises(AnydiffError, match="low"):
        Clamp(1.0, -1.0)
    with pytest.raises(AnydiffError, match="quantile"):
        DynamicThreshold(0.0)


def test_guidance_moves_samples_into_the_class():
    """Sampling with the label gives the class's own law; more guidance leaves less of the others."""
    plan = compile_plan("dpm-solver++-2m", VPLinear(), 40)
    x = torch.randn(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    label = torch.zeros(200, dtype=torch.long)
    out = execute(plan, ClassifierFree(1.0)(oracle()), x, condition=Conditioning({"label": label}))
    torch.testing.assert_close(out.mean(0), CENTRES[0], rtol=0, atol=0.08)
    strong = execute(plan, ClassifierFree(3.0)(oracle()), x, condition=Conditioning({"label": label}))
    assert float((strong - CENTRES[0])[:, 0].mean()) < float((out - CENTRES[0])[:, 0].mean()) - 0.05


@given(st.integers(1, 40), st.integers(1, 5), st.floats(0.05, 1.0), st.floats(0.1, 5.0))
def test_threshold_on_any_shape(size, rows, quantile, spread):
    check_threshold(size, rows, quantile, spread)


def test_clamp():
    limit = wrapped(FunctionDenoiser(lambda x, t: x, VPLinear()), Clamp(-0.5, 0.5))
    x = 2 * states()
    assert torch.equal(limit(x, 0.3), x.clamp(-0.5, 0.5))
    inside = x.clamp(-0.5, 0.5)
    assert torch.equal(limit(inside, 0.3), inside)


def test_order_of_guidance_is_from_the_inside_out():
    inner = oracle()
    both = wrapped(inner, [ClassifierFree(9.0), Clamp(-0.1, 0.1)])
    guided = ClassifierFree(9.0)(inner)(states(), 0.4, Conditioning({"label": LABEL}))
    assert torch.equal(both(states(), 0.4, Conditioning({"label": LABEL})), guided.clamp(-0.1, 0.1))
    assert wrapped(inner, None) is inner


def test_thresholding_check_of_the_sheet():
    """Data at {-1, 1}² (sd 0.02), D overscaled by 1.5, 2M, 20 steps: without limit |x| is above 1.5, with it 1."""
    path = VPLinear()
    corners = torch.cartesian_prod(torch.tensor([-1.0, 1.0]), torch.tensor([-1.0, 1.0]))
    exact = GaussianMixtureOracle(path, corners, 0.02)
    loud = FunctionDenoiser(lambda x, t: 1.5 * exact(x, t), path)
    plan = compile_plan("dpm-solver++-2m", path, 20, end="stop")
    x = torch.randn(200, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert float(execute(plan, loud, x).abs().median()) > 1.5
    limited = wrapped(loud, DynamicThreshold())
    assert float(execute(plan, limited, x).abs().median()) < 1.06
    assert float(execute(compile_plan("dpm-solver++-2m", path, 20, end="denoise"), limited, x).abs().max()) <= 1.0
