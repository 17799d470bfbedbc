"""A permutation-equivariant graph transformer that predicts class probabilities of nodes and edges.

After the graph transformer of Vignac et al., DiGress, ICLR 2023 (arXiv:2209.14734): attention among nodes biased by
edges, edges updated from their ends, both modulated by what holds for the whole graph (noise level, condition). Here it
works on continuous states: its logits are added to those of Bayes' rule for each entry alone, so an untrained network
is the exact denoiser of independent entries, and the layers learn what the neighbours tell.

States are packed by a spec with a leaf of nodes ``(N, F)`` and one of edges ``(N, N)`` or ``(N, N, C)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from anydiff.errors import AnydiffError, natural_number
from anydiff.networks import ConditionEmbedding
from anydiff.networks.layers import attention_heads, check_input, probability, zero_initialised
from anydiff.states import UNCONDITIONAL, Condition, Conditioning

if TYPE_CHECKING:
    from anydiff.states import Leaf, StateSpec

EVIDENCE = 30.0
"""Logits of Bayes' rule are cut to ±30: beyond, a class is certain to float32."""


def graph_leaves(network: str, spec: StateSpec) -> tuple[Leaf, Leaf]:
    """The leaf of nodes ``(N, F)`` and the symmetric leaf of edges ``(N, N, ...)``.

    Raises:
        AnydiffError: the state has other leaves.
    """
    edges = [leaf for leaf in spec.leaves if leaf.symmetric]
    nodes = [leaf for leaf in spec.leaves if not leaf.symmetric]
    if len(edges) != 1 or len(nodes) != 1 or len(nodes[0].shape) != 2 or nodes[0].shape[0] != edges[0].shape[0]:
        raise AnydiffError(
            f"network {network!r} needs a leaf of nodes (N, F) and a symmetric one of edges (N, N, ...), but the state "
            f"has {[(leaf.name, leaf.shape) for leaf in spec.leaves]}."
        )
    return nodes[0], edges[0]


def size_buckets(mask: Tensor, most: int = 3) -> Iterator[tuple[Tensor, int]]:
    """Rows of a batch in up to ``most`` groups of similar size, each with the number of nodes its largest needs.

    The nodes of a sample may stand anywhere; its size is the place of the last one. Groups are cut where padding is
    saved most evenly: at quantiles of the sizes, and only where sizes differ.
    """
    last = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).amax(dim=1)
    edges = torch.quantile(last.double(), torch.linspace(1 / most, 1, most, dtype=torch.float64, device=mask.device))
    below = -1
    for edge in sorted({int(edge) for edge in edges.ceil().tolist()}):
        rows = ((last > below) & (last <= edge)).nonzero().flatten()
        if len(rows):
            yield rows, max(int(last[rows].max()), 1)
        below = edge


def row_groups(x: Tensor, size: int, mask: Tensor | None) -> Iterable[tuple[Tensor, int]]:
    """The rows of ``x`` that a graph network computes together, with how many nodes: :func:`size_buckets`.

    Without a mask nothing here looks at values, so that memory can be estimated on tensors without data.
    """
    return [(torch.arange(len(x), device=x.device), size)] if mask is None else size_buckets(mask)


class _Block(nn.Module):
    """Attention over nodes with edges as bias and gate, an update of the edges, a perceptron on the nodes."""

    def __init__(self, width: int, edge_width: int, heads: int, products: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.products = heads, products
        self.norm_nodes = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_edges = nn.LayerNorm(edge_width, elementwise_affine=False)
        self.norm_hidden = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = zero_initialised(nn.Linear(width, 6 * width + 3 * edge_width))
        self.query_key_value = nn.Linear(width, 3 * width)
        self.bias_gate = nn.Linear(edge_width, 2 * heads)
        self.project = nn.Linear(width, width)
        self.edge_ends = nn.Linear(width, 2 * edge_width)
        self.edge_entry = nn.Linear(edge_width, 2 * edge_width)
        self.edge_exit = nn.Linear(2 * edge_width, edge_width)
        self.edge_to_node = nn.Linear(edge_width, width)
        if products:
            self.factors = nn.Linear(edge_width, 2 * products)
            self.edge_product = nn.Linear(products, 2 * edge_width)
        self.entry = nn.Linear(width, 2 * width)
        self.exit = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, nodes: Tensor, edges: Tensor, mask: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        width, edge_width = nodes.shape[-1], edges.shape[-1]
        parts = self.modulation(embedding).split([width] * 6 + [edge_width] * 3, dim=1)
        scale, shift, gate, scale_m, shift_m, gate_m = (part[:, None] for part in parts[:6])
        scale_e, shift_e, gate_e = (part[:, None, None] for part in parts[6:])
        pair = (mask[:, :, None] & mask[:, None, :])[..., None]
        tokens = torch.addcmul(shift, self.norm_nodes(nodes), 1 + scale)
        links = torch.addcmul(shift_e, self.norm_edges(edges), 1 + scale_e)
        nodes = nodes + (1 + gate) * self._attend(tokens, links, mask)
        ends = self.edge_ends(tokens)
        # The same map of both ends: edges stay symmetric.
        inner = self.edge_entry(links) + ends[:, :, None] + ends[:, None, :]
        if self.products:
            inner = inner + self.edge_product(self._multiply(links, pair))
        edges = edges + (1 + gate_e) * self.edge_exit(self.dropout(functional.silu(inner)))
        around = (edges * pair).sum(dim=2) / mask.sum(dim=1).clamp_min(1)[:, None, None]
        hidden = torch.addcmul(shift_m, self.norm_hidden(nodes), 1 + scale_m)
        inner = functional.silu(self.entry(hidden))
        nodes = nodes + (1 + gate_m) * (self.exit(self.dropout(inner)) + self.edge_to_node(around))
        return nodes, edges

    def _multiply(self, links: Tensor, pair: Tensor) -> Tensor:
        """LR + RL of symmetric maps L and R of the edges, per channel, over sqrt(N): walks that meet at a third node.

        Attention and updates from the ends tell no more apart than colour refinement does, which sees no rings and no
        fragments; products of matrices do (Maron et al., "Provably powerful graph networks", NeurIPS 2019).
        """
        left, right = (self.factors(links) * pair).permute(0, 3, 1, 2).chunk(2, dim=1)
        product = left @ right
        count = pair[:, :, :, 0].any(dim=2).sum(dim=1).clamp_min(1)
        walks: Tensor = (product + product.transpose(2, 3)).permute(0, 2, 3, 1) * count.rsqrt()[:, None, None, None]
        return walks

    def _attend(self, tokens: Tensor, links: Tensor, mask: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        mixed = self.query_key_value(tokens).reshape(batch, count, 3, self.heads, width // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        bias, gate = self.bias_gate(links).permute(0, 3, 1, 2).chunk(2, dim=1)
        score = query @ key.transpose(2, 3) / (width // self.heads) ** 0.5 + bias
        score = score.masked_fill(~mask[:, None, None, :], -1e9)
        # Softmax forgets how many neighbours there are, which valences depend on: the gate weighs without normalising.
        weight = score.softmax(dim=3) + torch.tanh(gate) * mask[:, None, None, :] / 4
        attended: Tensor = self.project((weight @ value).transpose(1, 2).reshape(batch, count, width))
        return attended


class GraphTransformer(nn.Module):
    """``[B, D] -> [B, D]``: E[x_0 | x_t] of one-hot nodes and edges.

    The state is scaled to unit noise, z = x_t/σ, and with r = α/σ = e^λ Bayes' rule for one entry alone gives the
    logits r z_k - r²/2 + log prior_k (0 for the class of the rest); the network adds its own.

    Args:
        spec: leaves of nodes and edges, see the module.
        conditions: name -> class or vector condition.
        width: features of a node.
        edge_width: features of an edge.
        blocks: number of blocks.
        heads: attention heads; must divide ``width``.
        products: channels of edges that are multiplied as matrices in each block; 0 for none.
        dropout: probability inside the perceptrons, in [0, 1).
        sigma_data: that of the recipe, which the input was scaled with.

    Raises:
        AnydiffError: an option out of range, or a state with other leaves.
    """

    def __init__(
        self,
        spec: StateSpec,
        conditions: Mapping[str, Condition] | None = None,
        *,
        width: int = 128,
        edge_width: int = 32,
        blocks: int = 5,
        heads: int = 8,
        products: int = 0,
        dropout: float = 0.0,
        sigma_data: float = 1.0,
    ) -> None:
        super().__init__()
        attention_heads("heads", natural_number("width", width), heads)
        natural_number("edge_width", edge_width)
        natural_number("blocks", blocks)
        natural_number("products", products, 0)
        probability("dropout", dropout)
        self.spec, self.sigma_data = spec, sigma_data
        self.nodes, self.edges = graph_leaves("graph-transformer", spec)
        kinds, orders = self.nodes.shape[1], _channels(self.edges)
        self.conditioning = ConditionEmbedding(conditions or {}, width)
        self.node_prior = nn.Parameter(torch.zeros(kinds))
        self.edge_prior = nn.Parameter(torch.zeros(orders))
        self.node_entry = nn.Linear(2 * kinds, width)
        self.edge_entry = nn.Linear(2 * orders, edge_width)
        self.blocks = nn.ModuleList(_Block(width, edge_width, heads, products, dropout) for _ in range(blocks))
        self.node_norm, self.edge_norm = nn.LayerNorm(width), nn.LayerNorm(edge_width)
        self.node_exit = zero_initialised(nn.Linear(width, kinds))
        self.edge_exit = zero_initialised(nn.Linear(edge_width, orders))

    def forward(self, x: Tensor, log_snr: Tensor, condition: Conditioning = UNCONDITIONAL) -> Tensor:
        """Class probabilities as a packed state ``[B, D]`` from the scaled state, λ ``[B]`` and the nodes there are."""
        check_input(x, self.spec.shape)
        embedding = self.conditioning(log_snr, x.shape[0], condition)
        leaves = self.spec.unpack(x.contiguous())
        size = self.nodes.shape[0]
        mask = None if condition.mask is None else condition.mask.bool()
        groups = row_groups(x, size, mask)
        mask = torch.ones(x.shape[0], size, dtype=torch.bool, device=x.device) if mask is None else mask
        nodes = torch.zeros_like(leaves[self.nodes.name])
        edges = torch.zeros(x.shape[0], size, size, _channels(self.edges), dtype=x.dtype, device=x.device)
        given_edges = leaves[self.edges.name].reshape(edges.shape)
        log_snr = log_snr.expand(x.shape[0])
        for rows, count in groups:
            part = mask[rows, :count]
            some, links = self._predict(
                leaves[self.nodes.name][rows, :count],
                given_edges[rows, :count, :count],
                part,
                log_snr[rows],
                embedding[rows],
            )
            nodes[rows, :count] = some.to(x.dtype)
            edges[rows, :count, :count] = links.to(x.dtype)
        return self.spec.pack({self.nodes.name: nodes, self.edges.name: edges.reshape(-1, *self.edges.shape)})

    def _predict(
        self, nodes: Tensor, edges: Tensor, mask: Tensor, log_snr: Tensor, embedding: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Probabilities of one bucket, zero outside the mask and on the diagonal."""
        present = mask[..., None]
        pair = (mask[:, :, None] & mask[:, None, :]) & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        pair = pair[..., None]
        node_logits = self._evidence(nodes, log_snr) + self.node_prior
        edge_logits = self._evidence(edges, log_snr) + self.edge_prior
        seen_nodes = node_logits.softmax(dim=-1)
        seen_edges = _softmax_with_rest(edge_logits)
        # A little of the evidence itself: probabilities alone saturate.
        hidden = self.node_entry(torch.cat([seen_nodes, node_logits / EVIDENCE], dim=-1) * present)
        links = self.edge_entry(torch.cat([seen_edges, edge_logits / EVIDENCE], dim=-1) * pair)
        for block in self.blocks:
            hidden, links = block(hidden, links, mask, embedding)
        node_logits = node_logits + self.node_exit(self.node_norm(hidden))
        edge_logits = edge_logits + self.edge_exit(self.edge_norm((links + links.transpose(1, 2)) / 2))
        return node_logits.softmax(dim=-1) * present, _softmax_with_rest(edge_logits) * pair

    def _evidence(self, scaled: Tensor, log_snr: Tensor) -> Tensor:
        """r z - r²/2 of each class against none, cut to ±:data:`EVIDENCE`."""
        kind = self.node_entry.weight.dtype
        ratio = torch.exp(log_snr.double().clamp(-20, 9)).reshape(-1, *([1] * (scaled.ndim - 1)))
        to_unit_noise = torch.sqrt(1 + (self.sigma_data * ratio) ** 2).to(kind)
        ratio = ratio.to(kind)
        return (ratio * (scaled.to(kind) * to_unit_noise - ratio / 2)).clamp(-EVIDENCE, EVIDENCE)


def _channels(edges: Leaf) -> int:
    return edges.shape[2] if len(edges.shape) == 3 else 1


def _softmax_with_rest(logits: Tensor) -> Tensor:
    """Probabilities of the classes where the rest has the logit 0."""
    full = torch.cat([torch.zeros_like(logits[..., :1]), logits], dim=-1)
    return full.softmax(dim=-1)[..., 1:]
