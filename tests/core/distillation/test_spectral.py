"""Distillation in the spectrum: Parseval, weights of mean one, a student that is its teacher, refusals."""

from __future__ import annotations

import pytest
import torch

from anydiff.denoisers import NetworkDenoiser
from anydiff.distillation import Spectral
from anydiff.distillation.spectral import spectral_weights, spectrum
from anydiff.errors import AnydiffError
from anydiff.networks import MLP, UNet
from anydiff.objectives.call import Beside, Call
from anydiff.paths import VPLinear
from anydiff.states import StateSpec
from anydiff.testing.networks import awake

SPEC = StateSpec.single((2, 6, 5))


def denoiser(seed):
    torch.manual_seed(seed)
    return NetworkDenoiser(awake(UNet(SPEC, {}, channels=8, multipliers=(1,))), VPLinear(), "noise", spec=SPEC)


def call(student, teacher, term):
    generator = torch.Generator().manual_seed(1)
    clean, noise = (torch.randn(3, *SPEC.shape, generator=generator) for _ in range(2))
    uniform = torch.tensor([0.2, 0.5, 0.9])
    return Call(student, term.times, clean, noise, uniform, beside=Beside({"teacher": teacher}))


def test_without_weights_it_is_the_error_in_space():
    student, teacher = denoiser(0), denoiser(1)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(1.3)
    term = Spectral(exponent=0)
    made = call(student, teacher, term)
    snr = (made.path.alpha(made.t) / made.path.sigma(made.t)).square()
    error = (made.predict("data") - made.predicted_by("teacher")).square().flatten(1).mean(1)
    assert (error > 0).all()
    assert torch.allclose(term.loss(made).double(), error.double() * snr, rtol=1e-5)
    noise = (made.predict("noise") - made.predicted_by("teacher", "noise")).square().flatten(1).mean(1)
    assert torch.allclose(term.loss(made), noise, rtol=1e-3), (
        "so taken, it is the error of the noise, which has a bound"
    )


def test_a_student_that_is_its_teacher_has_no_loss_and_no_gradient():
    same, term = denoiser(0), Spectral()
    loss = term.loss(call(same, same, term)).sum()
    loss.backward()
    assert loss == 0
    assert all(each.grad is None or not each.grad.any() for each in same.parameters())


def test_weights_have_mean_one_whatever_the_scale_and_are_bounded():
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for exponent in (-1.0, -2.0, 0.0, 0.5):
        weight = spectral_weights(spectrum(x), exponent)
        assert torch.allclose(weight.flatten(1).mean(1), torch.ones(4))
        assert torch.allclose(spectral_weights(spectrum(2 * x), exponent), weight, rtol=1e-4)
    assert torch.equal(spectral_weights(spectrum(x), 0.0), torch.ones(4, 3, 8, 8))
    smooth = torch.ones(1, 1, 8, 8)
    smooth[..., 0] = 1.5
    weight = spectral_weights(spectrum(smooth), -1.0)
    assert weight.isfinite().all()
    assert weight.max() <= 10 * weight.median() * (1 + 1e-6)
    assert weight[0, 0, 0, 0] < 0.1 * weight.median(), "what the teacher holds most of counts least"
    assert spectral_weights(spectrum(torch.zeros(1, 1, 4, 4)), -1.0).isfinite().all()


def test_what_is_refused():
    flat = StateSpec.single((6,))
    small = NetworkDenoiser(MLP(flat, {}, width=8, blocks=1), VPLinear(), "noise", spec=flat)
    with pytest.raises(AnydiffError, match="have no spatial axes"):
        Spectral().meet(small, {"teacher": small})
    with pytest.raises(AnydiffError, match=r"the teacher is of states of shape \(2, 6, 5\), but the student of \(6,\)"):
        Spectral().meet(small, {"teacher": denoiser(0)})
    for exponent in (float("nan"), "steep", True):
        with pytest.raises(AnydiffError, match="exponent is"):
            Spectral(exponent)
