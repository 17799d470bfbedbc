"""Tree-structured models over symbols: exact posteriors under soft evidence, by one pass up and one down, in log space.

A tree has a variable per node, each of K symbols: the root's law, and the law of each other node given its parent. Soft
evidence is a factor w_i(x_i) >= 0 for every variable (a likelihood; 0 and 1 for what is known; 1 for nothing), and

    p(x | w) ∝ p(x) Π_i w_i(x_i)

has exact marginals in one upward and one downward pass (Pearl 1988), which is what steering a diffusion model by a
tractable one needs (Liu et al. 2024, arXiv:2401.03349). Hidden Markov chains (fitted by expectation-maximisation) and
Chow-Liu trees (fitted by counting; Chow and Liu 1968) are such trees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anydiff.errors import AnydiffError, natural_number

FLOOR = 1e-300
"""What probabilities are raised to before their logarithm is taken."""


@dataclass(frozen=True, eq=False)
class Tree:
    """A tree over n variables of K symbols.

    Args:
        parents: of each node, before it in the order: ``parents[0]`` is -1, the root.
        root: the root's law ``[K]``.
        links: ``links[i]`` is p(x_i = b | x_parent = a), ``[n, K, K]``; that of the root is not looked at.

    Raises:
        AnydiffError: a parent does not stand before its child, or a law does not sum to 1.
    """

    parents: tuple[int, ...]
    root: Tensor
    links: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "parents", tuple(self.parents))
        for name in ("root", "links"):
            object.__setattr__(self, name, torch.as_tensor(getattr(self, name), dtype=torch.float64))
        size = len(self.root)
        if tuple(self.links.shape) != (len(self.parents), size, size):
            raise AnydiffError(
                f"links have shape {tuple(self.links.shape)}, but {len(self.parents)} nodes of {size} symbols need "
                f"{(len(self.parents), size, size)}."
            )
        wrong = next(
            (i for i, parent in enumerate(self.parents) if not (parent < i and (parent >= 0) == (i > 0))), None
        )
        if wrong is not None:
            raise AnydiffError(
                f"node {wrong} has the parent {self.parents[wrong]}; put each parent before its children, the root "
                "(-1) first."
            )
        sums = torch.cat([self.root.sum()[None], self.links[1:].sum(2).flatten()])
        if not torch.allclose(sums, torch.ones_like(sums), atol=1e-6) or bool((self.links < 0).any()):
            raise AnydiffError("a law of the tree does not sum to 1, or is negative; normalise root and links.")

    @property
    def symbols(self) -> int:
        """K."""
        return len(self.root)

    @property
    def size(self) -> int:
        """How many variables, n."""
        return len(self.parents)

    def marginals(self, evidence: Tensor) -> Tensor:
        """p(x_i | w), float64 ``[B, n, K]``, under soft evidence ``[B, n, K]``, which need not be normalised."""
        up, messages = self._up(evidence)
        total = torch.empty_like(up)
        total[:, 0] = up[:, 0] + _log(self.root)
        for node in range(1, self.size):
            above = torch.log_softmax(total[:, self.parents[node]] - messages[:, node], 1)
            total[:, node] = up[:, node] + torch.logsumexp(above[..., None] + _log(self.links[node]), 1)
        return torch.softmax(total, 2)

    def log_likelihood(self, evidence: Tensor) -> Tensor:
        """log Σ_x p(x) Π_i w_i(x_i), ``[B]``; of whole states, given one-hot, their log-probability."""
        up, _ = self._up(evidence)
        return torch.logsumexp(up[:, 0] + _log(self.root), 1)

    def sample(self, evidence: Tensor, generator: torch.Generator) -> Tensor:
        """A draw of p(x | w) for each row of the evidence, int64 ``[B, n]``."""
        up, _ = self._up(evidence)
        drawn = torch.empty(len(up), self.size, dtype=torch.long)
        for node in range(self.size):
            law = _log(self.root) if node == 0 else _log(self.links[node])[drawn[:, self.parents[node]]]
            drawn[:, node] = torch.multinomial(torch.softmax(up[:, node] + law, 1), 1, generator=generator)[:, 0]
        return drawn

    def _up(self, evidence: Tensor) -> tuple[Tensor, Tensor]:
        """Log of what stands at and below each node given its symbol, and what it tells its parent, ``[B, n, K]``."""
        if tuple(evidence.shape[1:]) != (self.size, self.symbols):
            raise AnydiffError(
                f"evidence has shape {tuple(evidence.shape)}, but must be [B, {self.size}, {self.symbols}]: a factor "
                "for each symbol of each variable."
            )
        if bool((evidence < 0).any()) or not bool((evidence > 0).any(2).all()):
            raise AnydiffError("evidence is negative, or rules out every symbol of a variable; give likelihoods.")
        up, messages = _log(evidence.double()), torch.zeros(evidence.shape, dtype=torch.float64)
        for node in range(self.size - 1, 0, -1):
            messages[:, node] = torch.logsumexp(up[:, node, None] + _log(self.links[node]), 2)
            up[:, self.parents[node]] += messages[:, node]
        return up, messages


@dataclass(frozen=True, eq=False)
class HiddenMarkov:
    """A hidden Markov chain over n symbols: the symbols hang on the states of a chain.

    Args:
        start: law of the first state ``[S]``.
        moves: p(next = b | state = a) ``[S, S]``.
        emits: p(symbol | state) ``[S, K]``.
        size: n.
    """

    start: Tensor
    moves: Tensor
    emits: Tensor
    size: int

    def __post_init__(self) -> None:
        for name in ("start", "moves", "emits"):
            object.__setattr__(self, name, torch.as_tensor(getattr(self, name), dtype=torch.float64))
        natural_number("size", self.size)

    @property
    def symbols(self) -> int:
        """K."""
        return self.emits.shape[1]

    @property
    def chain(self) -> Tree:
        """The chain of states, as a tree."""
        links = self.moves.expand(self.size, *self.moves.shape)
        return Tree(tuple(range(-1, self.size - 1)), self.start, links)

    def marginals(self, evidence: Tensor) -> Tensor:
        """p(symbol_i | w), float64 ``[B, n, K]``, under soft evidence ``[B, n, K]`` on symbols."""
        seen = evidence.double() @ self.emits.T
        states = self.chain.marginals(seen)
        # p(x_i | w) = Σ_s p(s_i | w) p(x_i | s) w_i(x_i) / Σ_x p(x | s) w_i(x)
        return (states / seen.clamp_min(FLOOR)) @ self.emits * evidence.double()

    def log_likelihood(self, evidence: Tensor) -> Tensor:
        """log Σ_x p(x) Π_i w_i(x_i), ``[B]``."""
        return self.chain.log_likelihood(evidence.double() @ self.emits.T)

    def sample(self, evidence: Tensor, generator: torch.Generator) -> Tensor:
        """A draw of p(x | w) for each row of the evidence, int64 ``[B, n]``."""
        states = self.chain.sample(evidence.double() @ self.emits.T, generator)
        law = self.emits[states] * evidence.double()
        return torch.multinomial(law.flatten(0, 1), 1, generator=generator).reshape(states.shape)

    @classmethod
    def fit(cls, symbols: Tensor, states: int, count: int, iterations: int = 50, seed: int = 0) -> HiddenMarkov:
        """By expectation-maximisation (Baum and Welch) on sequences ``[N, n]`` of ``count`` symbols."""
        generator = torch.Generator().manual_seed(seed)
        shown = one_hot(symbols, count)

        def rows(*shape: int) -> Tensor:
            drawn = 1 + torch.rand(*shape, generator=generator, dtype=torch.float64)
            return drawn / drawn.sum(-1, keepdim=True)

        model = cls(
            rows(states), rows(states, states) + 2 * torch.eye(states).double(), rows(states, count), shown.shape[1]
        )
        model = cls(model.start, model.moves / model.moves.sum(1, keepdim=True), model.emits, model.size)
        for _ in range(iterations):
            model = model._improved(shown)
        return model

    def _improved(self, shown: Tensor) -> HiddenMarkov:
        """One step of expectation-maximisation."""
        chain, seen = self.chain, shown @ self.emits.T
        up, messages = chain._up(seen)
        total = chain.marginals(seen)
        pairs = torch.zeros_like(self.moves)
        for node in range(1, self.size):
            above = total[:, node - 1].clamp_min(FLOOR).log() - messages[:, node]
            joint = above[:, :, None] + _log(self.moves) + up[:, node, None]
            pairs += torch.softmax(joint.flatten(1), 1).reshape(joint.shape).sum(0)
        emits = torch.einsum("bns,bnk->sk", total, shown)
        return HiddenMarkov(
            total[:, 0].mean(0),
            pairs / pairs.sum(1, keepdim=True).clamp_min(FLOOR),
            emits / emits.sum(1, keepdim=True).clamp_min(FLOOR),
            self.size,
        )


def chow_liu(symbols: Tensor, count: int, pseudo: float = 0.5) -> Tree:
    """The tree nearest to the law of ``symbols [N, n]``: of greatest mutual information (Chow and Liu 1968).

    Nodes are put in the order in which the tree reaches them; :func:`reach` says it. Counts begin at ``pseudo``.
    """
    order, parents = reach(symbols, count)
    shown = one_hot(symbols, count)[:, list(order)]
    first = shown[:, 0].sum(0) + pseudo
    links = torch.full((len(order), count, count), 1 / count, dtype=torch.float64)
    for node in range(1, len(order)):
        joint = shown[:, parents[node]].T @ shown[:, node] + pseudo
        links[node] = joint / joint.sum(1, keepdim=True)
    return Tree(parents, first / first.sum(), links)


def reach(symbols: Tensor, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(variables in the order of a Chow-Liu tree from variable 0, places of their parents in that order)."""
    shown = one_hot(symbols, count)
    size = shown.shape[1]
    flat = shown.permute(1, 2, 0).reshape(size * count, -1)
    joint = (flat @ flat.T / len(symbols)).reshape(size, count, size, count).permute(0, 2, 1, 3)
    single = shown.mean(0)
    apart = single[:, None, :, None] * single[None, :, None, :]
    shared = (joint * (joint.clamp_min(FLOOR) / apart.clamp_min(FLOOR)).log()).sum((2, 3))
    order, parents, best, near = [0], [-1], shared[0].clone(), torch.zeros(size, dtype=torch.long)
    best[0] = -torch.inf
    for _ in range(size - 1):
        node = int(best.argmax())
        parents.append(order.index(int(near[node])))
        order.append(node)
        closer = (shared[node] > best) & (best > -torch.inf)
        near[closer], best = node, torch.where(closer, shared[node], best)
        best[node] = -torch.inf
    return tuple(order), tuple(parents)


def one_hot(symbols: Tensor | Sequence[Sequence[int]], count: int) -> Tensor:
    """Symbols ``[B, n]`` as hard evidence, float64 ``[B, n, count]``."""
    return torch.nn.functional.one_hot(torch.as_tensor(symbols).long(), count).double()


def _log(value: Tensor) -> Tensor:
    return value.clamp_min(FLOOR).log()
