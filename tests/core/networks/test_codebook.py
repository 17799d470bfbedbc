"""Codebooks: the nearest code, its gradients, its start, and what is refused."""

import pytest
import torch

from anydiff.errors import AnydiffError
from anydiff.networks import Autoencoder
from anydiff.networks.codebook import Codebook, k_means
from anydiff.objectives import Reconstruction
from anydiff.objectives.reconstruction import spectral_error
from anydiff.states import StateSpec


def test_the_nearest_code_is_found_by_brute_force_and_of_equal_ones_the_first():
    book = Codebook(5, 3)
    features = torch.randn(4, 3, 6, 2, generator=torch.Generator().manual_seed(1))
    distances = (features.movedim(1, -1)[..., None, :] - book.vectors).square().sum(-1)
    codes = book.encode(features)
    assert torch.equal(codes, distances.argmin(-1))
    assert torch.equal(book.embed(codes).movedim(1, -1), book.vectors[codes])
    with torch.no_grad():
        book.vectors[3] = book.vectors[1]
    assert (book.encode(book.vectors[3].reshape(1, 3, 1)) == 1).all()


def test_gradients_pass_the_choice_and_each_term_moves_its_own_side():
    book = Codebook(4, 2)
    features = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(2), requires_grad=True)
    made = book(features)
    assert torch.allclose(made.straight, book.embed(made.codes), atol=1e-6)
    weights = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(3))
    (straight,) = torch.autograd.grad((made.straight * weights).sum(), features, retain_graph=True)
    assert torch.equal(straight, weights), "as if nothing had been chosen"
    assert torch.autograd.grad(made.codebook.sum(), features, retain_graph=True, allow_unused=True)[0] is None
    assert torch.autograd.grad(made.commitment.sum(), book.vectors, retain_graph=True, allow_unused=True)[0] is None
    (moved,) = torch.autograd.grad(made.codebook[0], book.vectors)
    error = (book.embed(made.codes) - features.detach())[0]  # d mean (e - f)² / d e_k, summed over positions of code k
    for code in range(4):
        assert torch.allclose(moved[code], 2 * error[:, made.codes[0] == code].sum(1) / error.numel(), atol=1e-6)


def test_a_codebook_begins_at_the_features_and_the_same_seed_gives_the_same():
    features = torch.randn(20, 2, 7, generator=torch.Generator().manual_seed(4))
    first, again, other = Codebook(6, 2), Codebook(6, 2), Codebook(6, 2)
    for book, seed in ((first, 1), (again, 1), (other, 2)):
        book.begin(features, seed)
    assert torch.equal(first.vectors, again.vectors)
    assert not torch.equal(first.vectors, other.vectors)
    assert first(features).codebook.mean() < 0.5 * features.square().mean()
    assert len(first.encode(features).unique()) == 6


def test_as_many_codes_as_different_features_are_these_features():
    points = torch.tensor([[0.0, 1], [2, 3], [0, 1], [4, 5]]).double().numpy()
    assert k_means(points, 3, 0).tolist() == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(AnydiffError, match=r"a codebook of 4 codes.*only 3 differ; take a codebook of at most 3"):
        k_means(points, 4, 0)


@pytest.mark.parametrize("shape", [(1, 10), (2, 9, 6), (1, 4, 4, 6)], ids=str)
def test_an_autoencoder_with_a_codebook_makes_classes_in_any_dimension(shape):
    network = Autoencoder(StateSpec.single(shape), factor=2, channels=8, codebook=7, code_size=3)
    x = torch.randn(3, *shape)
    codes = network.encode(x)
    assert codes.shape == (3, *network.latent_leaf.shape) == (3, *(-(-size // 2) for size in shape[1:]))
    assert network.latent_leaf.classes == 7
    assert network.decode(codes).shape == x.shape
    assert torch.equal(network(x), network.decode(codes))
    with pytest.raises(AnydiffError, match=r"codes are torch\.float32"):
        network.decode(codes.float())


def test_a_code_size_without_a_codebook_is_refused():
    with pytest.raises(AnydiffError, match="code_size is 4, but there is no codebook"):
        Autoencoder(StateSpec.single((1, 8)), code_size=4)


def test_unknown_errors_and_signs_are_refused():
    with pytest.raises(AnydiffError, match="squared"):
        Reconstruction(error="cubed")
    with pytest.raises(AnydiffError, match="commitment is -1"):
        Reconstruction(commitment=-1)


def test_the_spectral_error_hears_pitch_and_loudness_and_not_the_phase():
    place = torch.arange(2048) / 8000
    sine = torch.sin(2 * torch.pi * 500 * place)[None, None]
    shifted = torch.sin(2 * torch.pi * 500 * place + 1)[None, None]
    higher = torch.sin(2 * torch.pi * 1000 * place)[None, None]
    assert spectral_error(sine, sine).item() == 0
    assert spectral_error(sine, shifted).item() < 0.1 * spectral_error(sine, higher).item()
    louder = spectral_error(2 * sine, sine).item()
    assert 0 < louder < torch.log(torch.tensor(2.0)).item() + 1e-6
