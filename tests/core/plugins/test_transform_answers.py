"""A transform that answers with what cannot stand in for its subject is refused by the plugin's name."""

from __future__ import annotations

import pytest
import torch

from anydiff.errors import PluginError
from anydiff.plugins import hooks, report_to
from anydiff.states import UNCONDITIONAL, Conditioning, Leaf, StateSpec

HEAD = "from anydiff.hookspecs import hookimpl\n"
"""No torch: each plugin is tried in a process of its own, which would import it."""


def plugin(site, hook, body, argument):
    site.install("bad", f"{HEAD}@hookimpl\ndef {hook}({argument}):\n    {body}\n")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return states * float('nan')", "gives states that are not finite"),
        ("return states[:1]", "gives states of shape (1, 2) and torch.float32, but they had shape (3, 2)"),
        ("return states.double()", "and torch.float64, but they had shape (3, 2) and torch.float32"),
        ("return states.tolist()", "gives states that are list and no tensor"),
        ("states.mul_(0)", "changes the states it is given and returns None"),
        ("states.numpy()[:] = float('inf')", "gives states that are not finite"),
    ],
)
def test_samples(site, body, says):
    plugin(site, "samples_ready", body, "states")
    with pytest.raises(PluginError, match="plugin 'bad'") as error:
        hooks().transform("samples_ready", states=torch.ones(3, 2), condition=UNCONDITIONAL, recipe=None)
    assert says in str(error.value)
    assert "in samples_ready; repair it, or `anydiff plugins disable bad`." in str(error.value)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return batch[0] * float('nan'), batch[1]", "gives states that are not finite"),
        (
            "return batch[0], batch[1].with_given(label=batch[1].given['label'].float())",
            "gives given.label of shape (3,) and torch.float32",
        ),
        ("return batch[0], batch[1].without(['label'])", "gives ['states'], but the batch has"),
        ("return batch[0], {}", "gives no pair of states and their Conditioning"),
        ("return batch[0]", "gives no pair"),
        ("batch[0].fill_(float('nan'))", "gives states that are not finite"),
    ],
)
def test_batches(site, body, says):
    plugin(site, "transform_batch", body, "batch")
    batch = torch.ones(3, 2), Conditioning({"label": torch.zeros(3, dtype=torch.int64)})
    with pytest.raises(PluginError, match="plugin 'bad'") as error:
        hooks().transform("transform_batch", batch=batch, recipe=None, step=0, positions=(0, 1, 2))
    assert says in str(error.value)


def test_denoisers(site):
    from anydiff.denoisers import GaussianOracle
    from anydiff.paths import VPCosine

    plugin(site, "wrap_denoiser", "return lambda x, t: x", "denoiser")
    oracle = GaussianOracle(VPCosine(), torch.zeros(1), 1.0)
    with pytest.raises(PluginError, match="gives function, which is no denoiser in wrap_denoiser"):
        hooks().transform("wrap_denoiser", denoiser=oracle, recipe=None)


def test_values_out_of_range_are_said_once_per_call_and_kept(site):
    plugin(site, "samples_ready", "return states * 3", "states")
    told = []
    report_to(told.append)
    spec = StateSpec([Leaf("pixels", (2,), range=(-1.0, 1.0))])
    given = torch.tensor([[0.5, -1.0]])
    found = hooks().transform("samples_ready", say=spec.moved_out, states=given, condition=UNCONDITIONAL, recipe=None)
    assert torch.equal(found, given * 3)
    assert told == [
        "plugin 'bad' moves states out of their range (leaf 'pixels' now holds -3 to 1.5, but its range is -1 to 1) in "
        "samples_ready."
    ]


def test_values_that_a_network_put_outside_may_stay(site):
    spec = StateSpec([Leaf("pixels", (2,), range=(-1.0, 1.0))])
    assert spec.moved_out(torch.tensor([[1.1, -1.0]]), torch.tensor([[1.05, -1.0]])) == ""
