"""A time for each position: equal times are one time bit for bit, and axes that are not leading ones are refused."""

import pytest
import torch

from anydiff.denoisers import GaussianMixtureOracle, GaussianOracle, MixtureOracle, NetworkDenoiser
from anydiff.errors import AnydiffError
from anydiff.networks import MLP
from anydiff.networks.conditioning import ConditionEmbedding
from anydiff.objectives import Denoising, FlowMatching
from anydiff.paths import EDM, Flow, Masked, VPCosine
from anydiff.paths.base import per_row
from anydiff.states import ClassCondition, Conditioning, StateSpec, VectorCondition


def rand(*shape, seed=0):
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Echo(torch.nn.Module):
    """A network that answers with what it sees, shifted by what it is told of each position."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.7))

    def forward(self, x, told, condition):
        return self.scale * x + per_row(told.tanh(), x)


@pytest.mark.parametrize("path", [VPCosine(), EDM(), Flow()], ids=repr)
@pytest.mark.parametrize("kind", ["noise", "data", "velocity", "flow", "edm", "score"])
def test_equal_times_of_positions_are_the_time_of_the_row_bit_for_bit(path, kind):
    x, t = rand(4, 3, 2), 0.2 + 0.5 * rand(4, seed=1)
    denoiser = NetworkDenoiser(Echo().double(), path, kind, sigma_data=0.6)
    for asked in ("data", "noise", "velocity", "flow"):
        one, each = (denoiser.predict(x, times, asked) for times in (t, t[:, None].expand(4, 3)))
        assert torch.equal(one, each), asked
    for objective in (Denoising(), Denoising("edm"), FlowMatching()):
        noise = rand(4, 3, 2, seed=2)
        one, each = (objective(denoiser, x, noise, u) for u in (t, t[:, None].expand(4, 3)))
        assert torch.allclose(one, each, rtol=1e-12), objective


def test_every_position_has_its_own_time():
    path, x, noise = VPCosine(), rand(4, 3, 2), rand(4, 3, 2, seed=1)
    t = 0.1 + 0.8 * rand(4, 3, seed=2)
    mixed = path.mix(t, x0=x, noise=noise)
    oracle = GaussianOracle(path, torch.zeros(3, 2), 0.4)
    whole = oracle(x, t)
    for place in range(3):
        alone = path.mix(t[:, place], x0=x[:, place], noise=noise[:, place])
        assert torch.equal(mixed[:, place], alone)
        single = GaussianOracle(path, torch.zeros(2), 0.4)
        assert torch.allclose(whole[:, place], single(x[:, place], t[:, place]))
    covariance = torch.eye(6, dtype=torch.float64) + 0.3
    correlated = GaussianOracle(path, torch.zeros(3, 2), covariance)
    alpha, sigma = (per_row(c, x).expand(4, 3, 2).flatten(1) for c in (path.alpha(t), path.sigma(t)))
    total = alpha[:, :, None] * covariance * alpha[:, None] + torch.diag_embed(sigma**2)
    exact = (covariance * alpha[:, None] @ torch.linalg.solve(total, x.flatten(1)[..., None]))[..., 0]
    assert torch.allclose(correlated(x, t).flatten(1), exact)
    classes = torch.zeros(2000, 2, dtype=torch.int64)
    kept = (Masked().bind(StateSpec.single((2,), kind="categorical", classes=3)).noised(
        torch.tensor([[0.1, 0.9]]).double(), classes, rand(2000, 2)) == 0).double().mean(0)  # fmt: skip
    assert torch.allclose(kept, torch.tensor([0.9, 0.1]).double(), atol=0.04)


@pytest.mark.parametrize("shape", [(8, 3), (4, 2), (4,), (2, 8), (8, 2, 8), (8, 1, 1)])
def test_times_whose_axes_are_not_the_leading_ones_are_refused(shape):
    x, t = rand(8, 2, 8), torch.full(shape, 0.5, dtype=torch.float64)
    if shape in ((8, 2, 8), (8, 1, 1)):
        with pytest.raises(AnydiffError, match="one for each position"):
            VPCosine().mix(t, x0=x, noise=x)
        return
    denoiser = NetworkDenoiser(Echo().double(), VPCosine())
    for call in (lambda: VPCosine().mix(t, x0=x, noise=x), lambda: denoiser(x, t),
                 lambda: GaussianOracle(VPCosine(), torch.zeros(2, 8), 1.0)(x, t)):  # fmt: skip
        with pytest.raises((AnydiffError), match="has shape"):
            call()


def test_denoisers_that_know_one_time_say_so():
    t, x = torch.full((1, 3), 0.5, dtype=torch.float64), rand(1, 3)
    mixture = GaussianMixtureOracle(VPCosine(), torch.zeros(2, 3), 0.5)
    full = MixtureOracle(VPCosine(), torch.zeros(2, 3), torch.eye(3).expand(2, 3, 3))
    for oracle in (mixture, full):
        with pytest.raises(AnydiffError, match="knows one time per sample"):
            oracle(x, t)
    with pytest.raises(AnydiffError, match="one per sample"):
        NetworkDenoiser(MLP(StateSpec.single((3,)), width=8, blocks=1), VPCosine())(x.float(), t)


def test_what_is_told_of_positions_is_one_vector_each():
    torch.manual_seed(0)
    conditions = {"label": ClassCondition(3), "size": VectorCondition(2)}
    embedding = ConditionEmbedding(conditions, 8, per_position=True)
    condition = Conditioning({"label": torch.tensor([0, 2]), "size": torch.ones(2, 2)})
    told = torch.tensor([[0.5, -1.0, 3.0], [2.0, 0.0, 0.5]])
    whole = embedding(told, 2, condition)
    assert whole.shape == (2, 3, 8)
    for place in range(3):
        assert torch.allclose(whole[:, place], embedding(told[:, place], 2, condition), atol=1e-6)
    with pytest.raises(AnydiffError, match="one per sample"):
        ConditionEmbedding(conditions, 8)(told, 2, condition)
