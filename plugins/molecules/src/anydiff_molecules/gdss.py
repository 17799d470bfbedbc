"""The score networks and the forward process of GDSS.

Jo, Lee, Hwang, "Score-based generative modeling of graphs via the system of stochastic differential equations", ICML
2022 (arXiv:2202.02514); details not in the paper follow the authors' code (harryjo97/GDSS). Two permutation-equivariant
networks, one for the nodes and one for the edges, each see both; neither is told the noise level. On a variance-
preserving leaf they predict the noise: score = -network/σ. (On a variance-exploding leaf the authors take the network's
output for the score itself; here it is the noise on every leaf.)
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from anydiff.errors import AnydiffError, UnknownNameError, natural_number
from anydiff.networks.layers import attention_heads, check_input
from anydiff.paths import VPLinear
from anydiff.states import UNCONDITIONAL, Condition, Conditioning
from anydiff_molecules.networks import graph_leaves, row_groups

if TYPE_CHECKING:
    from anydiff.states import StateSpec


@dataclass(frozen=True)
class GDSSPath(VPLinear):
    """VP with the published β from 0.1 to 1: it stops at α = 0.76, σ = 0.65 and starts from N(0, I) all the same.

    The start is thus not the law of x_T. The paper's networks, blind to the noise level, and its Langevin steps make up
    for it, so nothing is said while sampling; with a network that is told the noise level, or an exact denoiser, take
    ``vp-linear`` with the same rates, which warns.
    """

    beta_min: float = 0.1
    beta_max: float = 1.0
    t_end: float = 1e-4

    def prior(self, noise: Tensor) -> Tensor:
        """N(0, I), as the authors' code samples it, whatever σ is."""
        return noise


class DenseGCN(nn.Module):
    """D^-1/2 (A + I) D^-1/2 X W + b with degrees of at least 1 (Kipf & Welling 2017), for dense weighted A."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor, adjacency: Tensor, flags: Tensor) -> Tensor:
        """``x [B, N, F]``, ``adjacency [B, N, N]``, ``flags [B, N]`` -> ``[B, N, outputs]``, zero at absent nodes."""
        eye = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        looped = torch.where(eye, torch.ones((), dtype=x.dtype, device=x.device), adjacency)
        root = looped.sum(dim=-1).clamp(min=1).rsqrt()
        mixed = root[:, :, None] * (looped @ (root[:, :, None] * (x @ self.weight)))
        return (mixed + self.bias) * flags[:, :, None]


def _perceptron(inputs: int, hidden: int, outputs: int, layers: int) -> nn.Sequential:
    sizes = [inputs, *([hidden] * (layers - 1)), outputs]
    parts: list[nn.Module] = []
    for left, right in itertools.pairwise(sizes):
        parts += [nn.Linear(left, right), nn.ELU()]
    return nn.Sequential(*parts[:-1])


class NodeScore(nn.Module):
    """``depth`` GCN layers with tanh; the input and all hidden states enter a perceptron of three layers."""

    def __init__(self, features: int, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DenseGCN(width if index else features, width) for index in range(depth))
        joined = features + depth * width
        self.exit = _perceptron(joined, 2 * joined, features, 3)

    def forward(self, x: Tensor, adjacency: Tensor, flags: Tensor) -> Tensor:
        """``[B, N, F]``."""
        states = [x]
        for layer in self.layers:
            states.append(torch.tanh(layer(states[-1], adjacency, flags)))
        return self.exit(torch.cat(states, dim=-1)) * flags[:, :, None]  # type: ignore[no-any-return]


class _GraphAttention(nn.Module):
    """tanh(Q Kᵀ/sqrt(outputs)) averaged over heads and symmetrised, with Q and K by graph convolutions."""

    def __init__(self, inputs: int, attention: int, outputs: int, heads: int) -> None:
        super().__init__()
        self.query, self.key = DenseGCN(inputs, attention), DenseGCN(inputs, attention)
        self.heads, self.scale = heads, outputs**0.5

    def forward(self, x: Tensor, adjacency: Tensor, flags: Tensor) -> Tensor:
        query, key = (
            torch.stack(each(x, adjacency, flags).chunk(self.heads, dim=-1)) for each in (self.query, self.key)
        )
        attention = torch.tanh(query @ key.transpose(-1, -2) / self.scale).mean(dim=0)
        symmetric: Tensor = (attention + attention.transpose(-1, -2)) / 2
        return symmetric


class _AttentionLayer(nn.Module):
    """One attention per channel of the adjacency; new channels from attentions and old channels, symmetrised.

    Nodes are mixed over the channels' graph convolutions; the last layer has nobody to hand them to.
    """

    def __init__(
        self,
        inputs: int,
        attention: int,
        outputs: int,
        heads: int,
        channels: int,
        next_channels: int,
        is_last: bool,
    ) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(_GraphAttention(inputs, attention, outputs, heads) for _ in range(channels))
        hidden = 2 * max(channels, next_channels)
        self.channels = _perceptron(2 * channels, hidden, next_channels, 2)
        self.is_last = is_last
        if not is_last:
            self.values = nn.ModuleList(DenseGCN(inputs, outputs) for _ in range(channels))
            self.features = _perceptron(channels * outputs, hidden, outputs, 2)

    def forward(self, x: Tensor, adjacency: Tensor, flags: Tensor) -> tuple[Tensor, Tensor]:
        pair = (flags[:, :, None] * flags[:, None, :])[:, None]
        maps = [each(x, adjacency[:, index], flags) for index, each in enumerate(self.attentions)]
        stacked = torch.cat([torch.stack(maps, dim=1), adjacency], dim=1)
        mixed = self.channels(stacked.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if not self.is_last:
            values = [each(x, adjacency[:, index], flags) for index, each in enumerate(self.values)]
            x = torch.tanh(self.features(torch.cat(values, dim=-1)) * flags[:, :, None])
        return x, (mixed + mixed.transpose(-1, -2)) * pair


class EdgeScore(nn.Module):
    """Powers A, A², ... as first channels, attention layers, and a perceptron over all channels of all layers."""

    def __init__(
        self,
        features: int,
        width: int,
        layers: int,
        heads: int,
        attention: int,
        first: int,
        hidden: int,
        last: int,
    ) -> None:
        super().__init__()
        self.first = first
        sizes = [first, *([hidden] * (layers - 1)), last]
        self.layers = nn.ModuleList(
            _AttentionLayer(
                width if index else features,
                attention,
                width,
                heads,
                sizes[index],
                sizes[index + 1],
                is_last=index == layers - 1,
            )
            for index in range(layers)
        )
        joined = sum(sizes)
        self.exit = _perceptron(joined, 2 * joined, 1, 3)

    def forward(self, x: Tensor, adjacency: Tensor, flags: Tensor) -> Tensor:
        """``[B, N, N]``, symmetric with zero diagonal."""
        powers = [adjacency]
        for _ in range(self.first - 1):
            powers.append(powers[-1] @ adjacency)
        channels = torch.stack(powers, dim=1)
        stacks = [channels]
        for layer in self.layers:
            x, channels = layer(x, channels, flags)
            stacks.append(channels)
        score = self.exit(torch.cat(stacks, dim=1).permute(0, 2, 3, 1))[..., 0]
        eye = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        return score.masked_fill(eye, 0.0) * flags[:, :, None] * flags[:, None, :]  # type: ignore[no-any-return]


class GDSSNetwork(nn.Module):
    """Both score networks on a packed state: ``[B, D] -> [B, D]``. The log-SNR is not looked at.

    Args:
        spec: a leaf of nodes ``(N, F)`` and a symmetric one of edges ``(N, N)``.
        conditions: must be empty.
        width: hidden features of both networks.
        node_depth: GCN layers of the node network.
        edge_layers: attention layers of the edge network.
        heads: attention heads; must divide ``attention``.
        attention: features of queries and keys.
        first: powers of A that enter.
        hidden: channels between layers.
        last: channels after the last layer.

    Raises:
        AnydiffError: conditions, or a state with other leaves.
    """

    def __init__(
        self,
        spec: StateSpec,
        conditions: Mapping[str, Condition] | None = None,
        *,
        width: int = 32,
        node_depth: int = 3,
        edge_layers: int = 5,
        heads: int = 4,
        attention: int = 32,
        first: int = 2,
        hidden: int = 8,
        last: int = 4,
    ) -> None:
        super().__init__()
        if conditions:
            raise AnydiffError(f"GDSS takes no condition, but the domain has {sorted(conditions)}; leave them out.")
        attention_heads("heads", natural_number("attention", attention), heads)
        self.spec = spec
        self.nodes, self.edges = graph_leaves("gdss", spec)
        if len(self.edges.shape) != 2:
            raise AnydiffError(
                f"GDSS needs edges of shape (N, N), but leaf {self.edges.name!r} has {self.edges.shape}."
            )
        features = self.nodes.shape[1]
        self.node_score = NodeScore(features, width, node_depth)
        self.edge_score = EdgeScore(features, width, edge_layers, heads, attention, first, hidden, last)

    def forward(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """The noise in nodes and edges as one packed state.

        Raises:
            UnknownNameError: something is given that this network does not look at.
        """
        _check_given(condition, ())
        return self._by_size(x, condition.mask)

    def _by_size(self, x: Tensor, mask: Tensor | None, given: Tensor | None = None) -> Tensor:
        """Both scores as one packed state, rows of similar size together; ``given [B, N, F]`` as in GDSS-seq."""
        nodes, edges, flags = self._leaves(x, mask)
        given = nodes if given is None else given.to(x.dtype)
        node_scores, edge_scores = torch.zeros_like(nodes), torch.zeros_like(edges)
        for rows, count in row_groups(x, self.nodes.shape[0], mask):
            node_scores[rows, :count], edge_scores[rows, :count, :count] = self._scores(
                nodes[rows, :count], edges[rows, :count, :count], flags[rows, :count], given[rows, :count]
            )
        return self.spec.pack({self.nodes.name: node_scores, self.edges.name: edge_scores})

    def _scores(self, nodes: Tensor, edges: Tensor, flags: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of nodes and edges, each from both."""
        return self.node_score(nodes, edges, flags), self.edge_score(nodes, edges, flags)

    def _leaves(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Nodes and edges, zero where no node is, and the flags of nodes that are there, ``[B, N]``."""
        check_input(x, self.spec.shape)
        leaves = self.spec.unpack(x * self.spec.present(None if mask is None else mask.bool()).to(x))
        nodes, edges = leaves[self.nodes.name], leaves[self.edges.name]
        flags = torch.ones(nodes.shape[:2], device=x.device) if mask is None else mask
        return nodes, edges, flags.to(x.dtype)


class GDSSSequential(GDSSNetwork):
    """GDSS-seq, the paper's ablation: nodes are generated first, without edges, then edges given the finished nodes.

    The node network sees an empty graph; the edge network sees the condition ``clean_nodes [B, N, F]`` in place of the
    noisy ones, or none while nodes are drawn. Arguments as for :class:`GDSSNetwork`.
    """

    def forward(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """The noise in nodes and edges as one packed state.

        Raises:
            UnknownNameError: something other than ``clean_nodes`` is given.
        """
        _check_given(condition, ("clean_nodes",))
        clean_nodes = condition.given.get("clean_nodes")
        unknown = x.new_zeros(len(x), *self.nodes.shape)
        return self._by_size(x, condition.mask, unknown if clean_nodes is None else clean_nodes)

    def _scores(self, nodes: Tensor, edges: Tensor, flags: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of nodes without edges, and of edges given the nodes."""
        return self.node_score(nodes, torch.zeros_like(edges), flags), self.edge_score(given, edges, flags)


def _check_given(condition: Conditioning, known: Sequence[str]) -> None:
    for name in (*condition.given, *condition.present):
        if name not in known:
            raise UnknownNameError("condition", name, known)
