"""The graph networks: permutation, absent nodes, buckets, Bayes' rule for independent entries; the whole sampler."""

from __future__ import annotations

import pytest
import torch

from anydiff.denoisers import FunctionDenoiser, NetworkDenoiser
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.objectives import CrossEntropy, cross_entropy
from anydiff.paths import ProductPath, VPCosine
from anydiff.registry import registry
from anydiff.samplers import sample
from anydiff.solvers import compile_plan
from anydiff.solvers.executor import execute
from anydiff.states import Conditioning, Leaf, NoiseSource, StateSpec, VectorCondition
from anydiff_molecules.domain import Molecules
from anydiff_molecules.gdss import GDSSNetwork, GDSSPath
from anydiff_molecules.graph_domain import Graphs
from anydiff_molecules.networks import GraphTransformer, size_buckets

MOLECULES = Molecules(("C", "N", "O"), 6).spec
GRAPHS = Graphs(6, 4).spec
MASK = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 1, 1, 0, 1]], dtype=torch.bool)
GIVEN = Conditioning(mask=MASK)


def awake(network):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.double().eval()


def networks():
    options = {"width": 16, "edge_width": 8, "blocks": 2, "heads": 2, "products": 3}
    transformer = GraphTransformer(MOLECULES, {"logp": VectorCondition(1)}, **options)
    gdss = GDSSNetwork(GRAPHS, width=8, edge_layers=2, attention=8, heads=2)
    return [(awake(transformer), MOLECULES), (awake(gdss), GRAPHS)]


def permuted(spec: StateSpec, x: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    views = spec.unpack(x)
    turned = {"nodes": views["nodes"][:, order], "edges": views["edges"][:, order][:, :, order]}
    return spec.pack(turned)


def inputs(spec: StateSpec) -> torch.Tensor:
    return spec.project(NoiseSource(spec, 1).draw(range(3), 0, torch.float64), MASK)


@pytest.mark.parametrize(("network", "spec"), networks())
def test_permuting_nodes_permutes_the_prediction(network, spec):
    x, order = inputs(spec), torch.randperm(6, generator=torch.Generator().manual_seed(5))
    level = torch.tensor([-2.0, 0.0, 2.0], dtype=torch.float64)
    with torch.no_grad():
        plain = network(x, level, GIVEN)
        turned = network(permuted(spec, x, order), level, Conditioning(mask=MASK[:, order]))
    assert torch.allclose(permuted(spec, plain, order), turned, atol=1e-9)


@pytest.mark.parametrize(("network", "spec"), networks())
def test_absent_nodes_have_no_influence_and_get_nothing(network, spec):
    x, level = inputs(spec), torch.zeros(3, dtype=torch.float64)
    junk = 5 * (1 - spec.present(MASK).double())
    with torch.no_grad():
        plain, spoilt = network(x, level, GIVEN), network(x + junk, level, GIVEN)
        alone = network(x[1:2], level[:1], GIVEN.rows([1]))
    assert torch.allclose(plain, spoilt, atol=1e-12)
    assert torch.allclose(plain[1:2], alone, atol=1e-9)
    assert (plain[spec.present(MASK) == 0] == 0).all()


@pytest.mark.parametrize(("network", "spec"), networks())
def test_the_whole_sampler_is_equivariant(network, spec):
    """The same noise with its nodes permuted gives the same sample with its nodes permuted, through a whole plan."""
    kind = "data" if isinstance(network, GraphTransformer) else "noise"
    denoiser = NetworkDenoiser(network, VPCosine(), kind)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(5))
    start = inputs(spec)
    for solver in ("dpm-solver++-2m", "heun", "unipc-3"):
        options = {"solver": solver, "nfe": 8, "dtype": torch.float64}
        turned = Conditioning(mask=MASK[:, order])
        one = sample(denoiser, spec, 3, start=start, condition=GIVEN, **options)
        two = sample(denoiser, spec, 3, start=permuted(spec, start, order), condition=turned, **options)
        assert torch.allclose(permuted(spec, one, order), two, atol=1e-5 * float(one.abs().max()) + 1e-7), solver


class Turned:
    """A noise source whose every draw has its nodes permuted."""

    def __init__(self, spec: StateSpec, order: torch.Tensor, mask: torch.Tensor) -> None:
        self.source, self.spec, self.order = NoiseSource(spec, 4, mask=mask), spec, order

    def draw(self, *arguments):
        return permuted(self.spec, self.source.draw(*arguments), self.order)


@pytest.mark.parametrize("solver", ["graphs/gdss-pc", "graphs/s4", "ddpm", "molecules/cooled-ancestral"])
@pytest.mark.parametrize(("network", "spec"), networks())
def test_so_is_the_law_of_the_samplers_that_draw_noise(network, spec, solver):
    """Start and every draw with nodes permuted give the sample with nodes permuted: the law has no order of nodes."""
    kind = "data" if isinstance(network, GraphTransformer) else "noise"
    # GDSS's own schedule for its network: an untrained prediction of noise, divided by a small α, would blow up.
    path = VPCosine() if kind == "data" else ProductPath((("nodes", GDSSPath()), ("edges", GDSSPath()))).bind(spec)
    denoiser = NetworkDenoiser(network, path, kind)
    plan = compile_plan(registry().build("solvers", solver), path, 8, grid="time", end="stop")
    order = torch.randperm(6, generator=torch.Generator().manual_seed(5))
    start, straight = inputs(spec), torch.arange(6)
    one, two = (
        execute(
            plan, denoiser, permuted(spec, start, turn), noise=Turned(spec, turn, MASK),
            condition=Conditioning(mask=MASK[:, turn]),
        )
        for turn in (straight, order)
    )  # fmt: skip
    assert torch.allclose(permuted(spec, one, order), two, atol=1e-5 * float(one.abs().max()))
    other = execute(plan, denoiser, start, noise=Turned(spec, order, MASK), condition=GIVEN)
    assert not torch.allclose(one, other, atol=0.01), "the draws matter"


@pytest.mark.parametrize(("network", "spec"), networks())
def test_absent_nodes_have_no_influence_through_a_whole_plan(network, spec):
    kind = "data" if isinstance(network, GraphTransformer) else "noise"
    denoiser = NetworkDenoiser(network, VPCosine(), kind)
    present = spec.present(MASK).bool()
    start = inputs(spec)
    options = {"solver": "dpm-solver++-2m", "nfe": 6, "dtype": torch.float64, "condition": GIVEN}
    plain, spoilt = (sample(denoiser, spec, 3, start=each, **options) for each in (start, start + 5 * ~present))
    assert torch.allclose(plain[present], spoilt[present], atol=1e-9)


def test_an_untrained_transformer_is_bayes_rule_for_independent_entries():
    """Uniform priors over 3 kinds and over 4 orders (none included)."""
    network = GraphTransformer(MOLECULES, width=16, edge_width=8, blocks=1, heads=2).double()
    denoiser = NetworkDenoiser(network, VPCosine(), "data")
    t = 0.4
    alpha, sigma = VPCosine().alpha(t), VPCosine().sigma(t)
    x = inputs(MOLECULES) * sigma
    got = MOLECULES.unpack(denoiser(x, t, GIVEN).detach())
    views = MOLECULES.unpack(x)
    logits = (alpha * views["nodes"] - alpha**2 / 2) / sigma**2
    assert torch.allclose(got["nodes"], logits.softmax(-1) * MASK[..., None], atol=1e-9)
    logits = (alpha * views["edges"] - alpha**2 / 2) / sigma**2
    full = torch.cat([torch.zeros_like(logits[..., :1]), logits], -1).softmax(-1)[..., 1:]
    pair = (MASK[:, :, None] & MASK[:, None] & ~torch.eye(6, dtype=torch.bool))[..., None]
    assert torch.allclose(got["edges"], full * pair, atol=1e-9)


@pytest.mark.parametrize(("products", "apart"), [(0, False), (2, True)])
def test_products_tell_a_ring_of_six_from_two_of_three(products, apart):
    """Attention and updates from the ends do not: every node and edge of the two looks alike to them."""
    network = awake(GraphTransformer(MOLECULES, width=16, edge_width=8, blocks=3, heads=2, products=products))
    rings = [[(i, (i + 1) % 6) for i in range(6)], [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)]]
    bonds = torch.zeros(2, 6, 6, 3, dtype=torch.float64)
    for row, pairs in enumerate(rings):
        for i, j in pairs:
            bonds[row, i, j, 0] = bonds[row, j, i, 0] = 1.0
    nodes = torch.zeros(2, 6, 3, dtype=torch.float64)
    nodes[:, :, 0] = 1.0
    with torch.no_grad():
        found = network(MOLECULES.pack({"nodes": nodes, "edges": bonds}), torch.tensor([1.0, 1.0]).double())
    first = MOLECULES.unpack(found)["nodes"][:, 0]
    assert torch.allclose(first[0], first[1], rtol=0, atol=1e-9) != apart


def test_buckets_hold_every_row_once_and_save_padding():
    sizes = torch.tensor([3, 9, 4, 9, 20, 18, 5, 12])
    mask = torch.arange(20) < sizes[:, None]
    found = list(size_buckets(mask))
    assert sorted(int(row) for rows, _ in found for row in rows) == list(range(8))
    assert all(int(sizes[rows].max()) == size for rows, size in found)
    assert sum(len(rows) * size**2 for rows, size in found) < 0.6 * 8 * 20**2
    assert len(list(size_buckets(torch.ones(4, 5, dtype=torch.bool)))) == 1


def test_cross_entropy_is_least_at_the_posterior():
    """Against the exact posterior, any other prediction costs more on average (Gibbs' inequality, by its numbers)."""
    spec = StateSpec([Leaf("nodes", (200, 2), mask_axes=(0,))])
    path = VPCosine()
    clean = torch.nn.functional.one_hot((torch.arange(200) % 4 == 0).long(), 2).double().reshape(1, 200, 2)
    noise = NoiseSource(spec, 0).draw([0], 0, torch.float64)

    def posterior(shift):
        def predict(x, t, condition):
            logits = (path.alpha(t)[:, None, None] * x - path.alpha(t)[:, None, None] ** 2 / 2) / path.sigma(t)[
                :, None, None
            ] ** 2
            return (logits + torch.tensor([0.75, 0.25]).log() + shift).softmax(-1)

        denoiser = FunctionDenoiser(predict, path)
        denoiser.spec = spec
        return denoiser

    given = Conditioning(mask=torch.ones(1, 200, dtype=torch.bool))
    losses = [
        float(CrossEntropy()(posterior(torch.tensor([s, 0.0])), clean, noise, torch.tensor([0.5]), given))
        for s in (-1.5, 0.0, 1.5)
    ]
    assert losses[1] < min(losses[0], losses[2])
    assert float(
        CrossEntropy({"nodes": 2.0})(posterior(0.0), clean, noise, torch.tensor([0.5]), given)
    ) == pytest.approx(2 * losses[1])


def test_no_edge_is_a_class_of_its_own_in_the_loss():
    """-Σ x0_k log D_k - (1 - Σ x0_k) log(1 - Σ D_k)."""
    target = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    found = cross_entropy._entropy(target, torch.tensor([[0.2, 0.3], [0.2, 0.3]]))
    assert torch.allclose(found, -torch.tensor([0.5, 0.2]).log())


def test_what_does_not_fit_is_refused():
    flat = StateSpec.single((5,))
    with pytest.raises(AnydiffError, match="needs a leaf of nodes"):
        GraphTransformer(flat)
    with pytest.raises(AnydiffError, match="must divide"):
        GraphTransformer(MOLECULES, width=10, heads=4)
    with pytest.raises(AnydiffError, match="takes no condition"):
        GDSSNetwork(GRAPHS, {"logp": VectorCondition(1)})
    with pytest.raises(AnydiffError, match=r"needs edges of shape \(N, N\)"):
        GDSSNetwork(MOLECULES)
    with pytest.raises(AnydiffError, match="must not be negative"):
        CrossEntropy({"edges": -1.0})
    denoiser = FunctionDenoiser(lambda x, t: x, VPCosine(), "noise")
    with pytest.raises(AnydiffError, match="parametrization: data"):
        CrossEntropy()(denoiser, torch.zeros(1, 5), torch.zeros(1, 5), torch.tensor([0.5]))
    denoiser = NetworkDenoiser(
        GraphTransformer(MOLECULES, width=8, edge_width=4, blocks=1, heads=2), VPCosine(), "data", spec=MOLECULES
    )
    with pytest.raises(UnknownNameError):
        CrossEntropy({"bonds": 1.0})(denoiser, torch.zeros(1, 126), torch.zeros(1, 126), torch.tensor([0.5]))
