"""The bundled model of two communities: better than what needs no network, at every noise level and in its samples."""

from __future__ import annotations

import pytest
import torch

import anydiff
from anydiff.denoisers import FunctionDenoiser
from anydiff.objectives import CrossEntropy, present_entries
from anydiff.paths import VPCosine
from anydiff.states import Conditioning, Leaf, NoiseSource, StateSpec
from anydiff_benchmarks.engine.baselines import gaussian
from anydiff_molecules.baselines import erdos_renyi
from anydiff_molecules.graph_data import Community
from anydiff_molecules.graph_metrics import ClusteringMMD, DegreeMMD, OrbitMMD

LOG_SNRS = (1.6, 1.2, 0.7, 0.35, 0.0, -0.35, -0.7)
"""log(α/σ). Above, every edge is known from itself; below, next to nothing is."""


@pytest.fixture(scope="module")
def pipeline():
    return anydiff.load("graphs/community-small")


def test_it_denoises_edges_better_than_a_linear_predictor_and_than_bayes_rule_for_each_edge_alone(pipeline):
    """On graphs of another seed of the generator. GDSS's networks lose to Bayes' rule at low noise."""
    fresh = Community("test", train=2, test=40, seed=1)
    clean, condition = fresh.batch(range(40))
    assert condition.mask is not None
    noise = NoiseSource(fresh.spec, 0).draw(range(40), 0)
    clean, noise, _ = present_entries(fresh.spec, clean, noise, condition)
    pair = condition.mask[:, :, None] & condition.mask[:, None, :] & ~torch.eye(20, dtype=torch.bool)
    path, spec = pipeline.denoiser.path, fresh.spec
    truth = spec.unpack(clean)["edges"][pair]
    share = truth.mean()
    variance = share * (1 - share)
    for log_snr in LOG_SNRS:
        t = path.time(torch.tensor([log_snr], dtype=torch.float64))
        alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
        state = alpha * clean + sigma * noise
        seen = spec.unpack(state)["edges"][pair]
        linear = share + alpha * variance / (alpha**2 * variance + sigma**2) * (seen - alpha * share)
        alone = torch.sigmoid(torch.logit(share) + (alpha * seen - alpha**2 / 2) / sigma**2)
        with torch.no_grad():
            made = spec.unpack(pipeline.denoiser(state, t.expand(40), condition).contiguous())["edges"][pair]
        error, *others = (float((guess - truth).square().mean()) for guess in (made, linear, alone))
        assert error < 0.999 * min(others), f"log-SNR {log_snr}: {error:.5f} beside {others}"


@pytest.mark.parametrize("solver", [None, "dpm-solver++-2m"])
def test_its_graphs_are_nearer_to_held_out_ones_than_every_free_baseline_at_20_calls(pipeline, solver):
    """Orbits by the recipe's own solver alone: without noise they come out about as near as those of the Gaussian."""
    training, held_out = Community("train"), Community("test")
    count = 60
    condition = held_out.batch(range(count))[1]
    moments = gaussian(training, count, seed=0)
    domain = training.domain
    random = domain.decode(erdos_renyi(training, condition, count, 0), condition)
    normal = domain.decode(moments.states, moments.condition)
    drawn = pipeline.sample(count, seed=0, nfe=20, **({} if solver is None else {"solver": solver}))
    for metric in (DegreeMMD(), ClusteringMMD(), OrbitMMD()):
        found = metric.distance(drawn, held_out.graphs)
        assert found < metric.distance(random, held_out.graphs), metric.name
        if solver is None or metric.name != "graphs/orbit-mmd":
            assert found < metric.distance(normal, held_out.graphs), metric.name


def test_edges_without_an_axis_for_classes_are_one_class_each():
    """By hand: -log of the probability of what is there; rows of an N by N leaf were taken for classes."""
    spec = StateSpec([Leaf("nodes", (2, 1)), Leaf("edges", (2, 2), symmetric=True, zero_diagonal=True)])
    clean = spec.pack({"nodes": torch.ones(1, 2, 1), "edges": torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])})
    guess = spec.pack({"nodes": torch.full((1, 2, 1), 0.5), "edges": torch.tensor([[[0.0, 0.8], [0.8, 0.0]]])})
    denoiser = FunctionDenoiser(lambda *_: guess, VPCosine())
    denoiser.spec = spec
    loss = CrossEntropy()(denoiser, clean, torch.zeros_like(clean), torch.tensor([0.5]), Conditioning())
    logs = -torch.tensor([0.5, 0.8]).log()
    assert loss.tolist() == pytest.approx([float(logs.sum())], abs=1e-5)
