"""The course of a motion: weights of whole frames by Bayes' rule, and what may have no influence."""

from __future__ import annotations

import pytest
import torch

from anydiff.errors import AnydiffError
from anydiff_volumes.course import Course, weights_given
from anydiff_volumes.ellipsoids import Ellipsoids
from anydiff_volumes.networks import SequenceUNet


def test_the_state_says_all_without_noise_and_nothing_under_much():
    torch.manual_seed(0)
    differences, weights = torch.randn(2, 3, 4, 4, 4), torch.randn(2, 3)
    state = torch.einsum("bk,bkxyz->bxyz", weights, differences)[:, None]
    mean, root = torch.randn(2, 3), torch.eye(3).expand(2, 3, 3)
    near = weights_given(state, differences, mean, root, torch.full((2,), 1e-8))
    assert torch.allclose(near, weights, atol=1e-4)
    far = weights_given(state, differences, mean, root, torch.full((2,), 1e10))
    assert torch.allclose(far, mean, atol=1e-4)
    one = weights_given(state[:1], differences[:1], mean[:1], root[:1], torch.tensor([2.0]))[0]
    known = differences[0].flatten(1)
    precision = torch.eye(3) + known @ known.T / 2
    expected = mean[0] + torch.linalg.solve(precision, known @ (state[0].flatten() - mean[0] @ known) / 2)
    assert torch.allclose(one, expected, atol=1e-4)


def test_unseen_frames_have_no_weight_and_no_influence():
    torch.manual_seed(0)
    course = Course(4)
    torch.nn.init.normal_(course.perceptron[-1].weight)
    frames, seen = torch.randn(1, 4, 3, 3, 3), torch.tensor([[True, False, True, False]])
    since = torch.tensor([[-0.6, -0.4, -0.2, 0.1]])
    differences, mean, root = course(frames, seen, since)
    assert torch.equal(differences[0, 0], frames[0, 0] - frames[0, 2]), "the latest frame is what others differ from"
    assert not differences[0, 1:].any()
    assert not mean[0, 1:].any()
    assert not root[0, 1:].any()
    spoilt = torch.where(seen[:, :, None, None, None], frames, float("nan"))
    for one, two in zip(course(spoilt, seen, since), (differences, mean, root), strict=True):
        assert torch.equal(one, two)


def test_a_network_about_the_course_needs_a_spread_and_no_frames_are_no_condition():
    data = Ellipsoids("test", test_size=3)
    options = {"encoder": "course", "channels": 8, "multipliers": [1]}
    with pytest.raises(AnydiffError, match="set spread above 0"):
        SequenceUNet(data.spec, data.conditions, **options)
    network = SequenceUNet(data.spec, data.conditions, spread=0.1, sigma_data=0.1, **options).eval()
    torch.nn.init.normal_(network.unet.exit.weight, std=0.1)
    x, condition = data.batch(range(3))
    with torch.no_grad():
        alone = network(x, torch.zeros(3))
        hidden = network(x, torch.zeros(3), condition.hidden(["frames"]))
        assert torch.allclose(hidden, alone, atol=1e-6)
        assert not torch.allclose(network(x, torch.zeros(3), condition), alone, atol=1e-3)
