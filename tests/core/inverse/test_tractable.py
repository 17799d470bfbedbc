"""Trees and hidden Markov chains against enumeration; fits; hard evidence and none."""

from __future__ import annotations

import itertools

import pytest
import torch

from anydiff.errors import AnydiffError
from anydiff.inverse.tractable import HiddenMarkov, Tree, chow_liu, one_hot, reach

N, K = 5, 3
PARENTS = (-1, 0, 0, 1, 1)


def rows(seed, *shape):
    drawn = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.05
    return drawn / drawn.sum(-1, keepdim=True)


def tree():
    return Tree(PARENTS, rows(0, K), rows(1, N, K, K))


def chain():
    return HiddenMarkov(rows(2, 4), rows(3, 4, 4), rows(4, 4, K), N)


WORDS = torch.tensor(list(itertools.product(range(K), repeat=N)))


def probability(model, words):
    """p(x) of whole words, from the definition alone."""
    if isinstance(model, Tree):
        found = model.root[words[:, 0]].clone()
        for node in range(1, N):
            found *= model.links[node][words[:, model.parents[node]], words[:, node]]
        return found
    found = torch.zeros(len(words), dtype=torch.float64)
    for states in itertools.product(range(4), repeat=N):
        each = model.start[states[0]] * model.emits[states[0]][words[:, 0]]
        for node in range(1, N):
            each = each * model.moves[states[node - 1], states[node]] * model.emits[states[node]][words[:, node]]
        found += each
    return found


@pytest.mark.parametrize("model", [tree(), chain()], ids=["tree", "chain"])
def test_soft_evidence_against_enumeration(model):
    evidence = torch.rand(2, N, K, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    law = probability(model, WORDS)
    assert float(law.sum()) == pytest.approx(1.0)
    for row in range(2):
        weight = law * evidence[row][torch.arange(N), WORDS].prod(1)
        right = torch.stack([(one_hot(WORDS, K) * weight[:, None, None]).sum(0)])[0] / weight.sum()
        assert torch.allclose(model.marginals(evidence)[row], right, atol=1e-10)
        assert float(model.log_likelihood(evidence)[row]) == pytest.approx(float(weight.sum().log()), abs=1e-10)
    drawn = model.sample(evidence[:1].expand(20000, -1, -1), torch.Generator().manual_seed(0))
    assert torch.allclose(one_hot(drawn, K).mean(0), model.marginals(evidence)[0], atol=0.02)


@pytest.mark.parametrize("model", [tree(), chain()], ids=["tree", "chain"])
def test_hard_evidence_and_none(model):
    law = probability(model, WORDS)
    prior = (one_hot(WORDS, K) * law[:, None, None]).sum(0)
    assert torch.allclose(model.marginals(torch.ones(1, N, K))[0], prior, atol=1e-10)
    known = torch.ones(1, N, K)
    known[0, 1] = torch.tensor([0.0, 1.0, 0.0])
    given = law * (WORDS[:, 1] == 1)
    found = model.marginals(known)[0]
    assert torch.allclose(found, (one_hot(WORDS, K) * given[:, None, None]).sum(0) / given.sum(), atol=1e-10)
    assert torch.allclose(found[1], torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))


def test_a_chow_liu_tree_finds_the_tree():
    model = Tree(PARENTS, torch.full((K,), 1 / K), 0.1 / K + 0.9 * torch.eye(K).expand(N, K, K).double())
    words = model.sample(torch.ones(4000, N, K), torch.Generator().manual_seed(1))
    order, parents = reach(words, K)
    edges = {frozenset((order[i], order[p])) for i, p in enumerate(parents) if p >= 0}
    assert edges == {frozenset((i, p)) for i, p in enumerate(PARENTS) if p >= 0}
    fitted = chow_liu(words, K)
    held = one_hot(model.sample(torch.ones(500, N, K), torch.Generator().manual_seed(2)), K)
    lost = model.log_likelihood(held) - fitted.log_likelihood(held[:, list(order)])
    assert abs(float(lost.mean())) < 0.05


def test_expectation_maximisation_climbs_to_the_truth():
    sticky = HiddenMarkov([0.5, 0.5], [[0.95, 0.05], [0.05, 0.95]], [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], 12)
    generator = torch.Generator().manual_seed(0)
    words = sticky.sample(torch.ones(400, 12, K), generator)
    shown = one_hot(words, K)
    likelihoods = [
        float(HiddenMarkov.fit(words, 2, K, iterations=n).log_likelihood(shown).mean()) for n in (0, 1, 5, 40)
    ]
    assert all(a < b for a, b in itertools.pairwise(likelihoods))
    assert likelihoods[-1] > float(sticky.log_likelihood(shown).mean()) - 0.02


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Tree((-1, 2, 0), rows(0, K), rows(1, 3, K, K)), "node 1 has the parent 2"),
        (lambda: Tree((-1, 0), rows(0, K), torch.ones(2, K, K)), "does not sum to 1"),
        (lambda: Tree((-1, 0), rows(0, K), rows(1, 3, K, K)), "links have shape"),
        (lambda: tree().marginals(torch.ones(1, N, 2)), "evidence has shape"),
        (lambda: tree().marginals(torch.zeros(1, N, K)), "rules out every symbol"),
    ],
)
def test_what_is_refused(make, sentence):
    with pytest.raises(AnydiffError, match=sentence):
        make()
