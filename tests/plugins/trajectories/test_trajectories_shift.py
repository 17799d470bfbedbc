"""The shifted sampler is EDM's with one thing done before each step: churn and Heun are written once, in the core."""

from __future__ import annotations

import pytest

from anydiff.errors import AnydiffError
from anydiff.paths import EDM
from anydiff.solvers import compile_plan
from anydiff.solvers.plan import Apply
from anydiff.solvers.runge_kutta import EDMHeun
from anydiff_trajectories.policy_guided_diffusion import ShiftedEDM


@pytest.mark.parametrize("nfe", [5, 15])
def test_the_shifted_plan_is_edms_with_a_shift_before_each_step(nfe):
    shifted = compile_plan(ShiftedEDM(), EDM(), nfe)
    plain = compile_plan(EDMHeun(80.0, 0.05, 50.0, 1.003), EDM(), nfe)
    shifts = [each for each in shifted.instructions if isinstance(each, Apply)]
    assert [dict(each.options)["index"] for each in shifts] == list(range((nfe + 1) // 2))
    assert shifted.nodes == plain.nodes
    assert shifted.nfe == plain.nfe == nfe

    def kinds(plan):
        return [type(each).__name__ for each in plan.instructions if type(each).__name__ in ("Evaluate", "Noise")]

    assert kinds(shifted) == kinds(plain)


def test_negative_churn_is_refused():
    with pytest.raises(AnydiffError, match="neither may be negative"):
        ShiftedEDM(churn=-1.0)
