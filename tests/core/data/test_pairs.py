"""Pairs of clean and degraded data: any data set, a named degradation, the same for ever."""

import math

import pytest
import torch

from anydiff.data import ArrayDataset, Pairs, degradation_of, restoring
from anydiff.denoisers import FunctionDenoiser
from anydiff.domains import Domain
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.paths import RDDM
from anydiff.pipeline.conditions import conditioning_of
from anydiff.samplers import sample
from anydiff.states import Conditioning, Draws, Leaf, StateSpec


class Plates(Domain):
    """Plates of 4 x 6 numbers in [-1, 1], as lists of rows in a text file."""

    name, suffixes = "test/plates", (".txt",)
    spec = StateSpec([Leaf("plate", (1, 4, 6), range=(-1.0, 1.0))])

    def encode(self, objects):
        return torch.stack([torch.as_tensor(each).reshape(1, 4, 6) for each in objects]).float()

    def decode(self, states, condition=None):
        return [each.reshape(4, 6) for each in states]

    def read(self, path):
        return [torch.full((4, 6), float(line)) for line in open(path)]

    def write(self, objects, path):
        raise NotImplementedError

    def draw(self, objects, path, titles=None):
        raise NotImplementedError


class Data(ArrayDataset):
    name, domain = "test/plates", Plates()


def plates(count=7):
    return Data(torch.rand(count, 1, 4, 6, generator=torch.Generator().manual_seed(3)) * 2 - 1)


def test_block_averages_count_from_black():
    clean = torch.arange(24.0).reshape(1, 1, 4, 6) / 12 - 1
    averaged = degradation_of("block-average", {"size": 2, "intensity": 0.5})(clean, Plates.spec, Draws(0, [0]))
    # The first block holds 0, 1, 6, 7 twelfths above black: the mean is 3.5 of them, half of which is left.
    assert averaged[0, 0, 0, 0] == pytest.approx(-1 + 0.5 * 3.5 / 12)
    assert averaged[0, 0, 1, 1] == averaged[0, 0, 0, 0]
    assert averaged[0, 0, 3, 5] == pytest.approx(-1 + 0.5 * 19.5 / 12)
    series = degradation_of("block-average", {"size": 2})(torch.tensor([[1.0, 3, 5, 7]]), StateSpec.single((4,)), None)
    assert series.tolist() == [[2, 2, 6, 6]]


def test_noise_and_masks_have_the_law_that_they_name():
    zeros, spec = torch.zeros(400, 3, 4, 6), StateSpec.single((3, 4, 6))
    noisy = degradation_of("noise", {"std": 0.3})(zeros, spec, Draws(1, range(400)))
    assert float(noisy.std()) == pytest.approx(0.3, rel=0.02)
    masked = degradation_of("mask", {"keep": 0.25})(zeros + 1, spec, Draws(1, range(400)))
    assert float(masked.mean()) == pytest.approx(0.25, abs=0.02)
    assert (masked == masked[:, :1]).all()  # all channels of a position together


@pytest.mark.parametrize("name", ["block-average", "noise", "mask"])
def test_an_example_is_the_same_alone_and_among_others_and_after_building_again(name):
    options = {"size": 2} if name == "block-average" else {}
    one, two = (Pairs(plates(), degradation_of(name, options), seed=5) for _ in range(2))
    clean, condition = one.batch(range(7))
    assert torch.equal(clean, plates().batch(range(7))[0])
    assert one.hash == two.hash
    for index in (6, 2):
        assert torch.equal(two.batch([index])[1].given["input"][0], condition.given["input"][index])
    if name != "block-average":
        assert not torch.equal(Pairs(plates(), degradation_of(name), seed=6).batch([0])[1].given["input"], clean[:1])
        assert Pairs(plates(), degradation_of(name), seed=6).hash != one.hash


def test_a_path_leads_to_the_degraded_example():
    clean, condition = Pairs(plates(), degradation_of("block-average", {"size": 2})).batch(range(7))
    path, noise = RDDM(sum_scale=1.0), torch.randn(7, 1, 4, 6)
    end = path.noised(torch.ones(7), clean, noise, condition)
    assert torch.allclose(end, condition.given["input"] + noise)


def test_any_domain_takes_degraded_objects_as_files_and_as_objects(tmp_path):
    domain = restoring(Plates())
    assert type(domain).__name__ == "RestoringPlates"
    assert isinstance(domain, Plates)
    assert domain.conditions["input"].shape == (1, 4, 6)
    assert Plates().conditions == {}
    file = tmp_path / "plates.txt"
    file.write_text("0.25\n-0.5\n")
    assert domain.labels({"input": str(file)}) == [0, 1]
    assert domain.labels({}) is None
    read = conditioning_of(domain, {"input": str(file)}, 3).given["input"]
    assert read[:, 0, 0, 0].tolist() == [0.25, -0.5, 0.25]
    given = conditioning_of(domain, {"input": [torch.full((4, 6), 0.25), torch.full((4, 6), -0.5)]}, 2)
    assert torch.equal(given.given["input"], read[:2])
    assert restoring(domain) is domain


def test_wrong_requests_are_one_sentence():
    with pytest.raises(UnknownNameError, match="blok-average"):
        degradation_of("blok-average")
    with pytest.raises(AnydiffError, match="cannot be made of"):
        degradation_of("noise", {"deviation": 1})
    for name, options, said in (
        ("block-average", {"intensity": 0}, "intensity is 0"),
        ("block-average", {"size": 0}, "size"),
        ("noise", {"std": -1}, "std is -1"),
        ("mask", {"keep": 1}, "keep is 1"),
    ):
        with pytest.raises(AnydiffError, match=said):
            degradation_of(name, options)
    with pytest.raises(AnydiffError, match="blocks of 4 do not divide"):
        Pairs(plates(), degradation_of("block-average")).batch([0])
    with pytest.raises(AnydiffError, match="at least one degraded state"):
        conditioning_of(restoring(Plates()), {"input": torch.zeros(2, 1, 4, 4)}, 2)
    two = StateSpec([Leaf("a", (2,)), Leaf("b", (2,))])
    with pytest.raises(AnydiffError, match="a, b has no one range"):
        degradation_of("mask")(torch.zeros(1, 4), two, Draws(0, [0]))


def test_a_known_source_that_is_missing_or_of_another_shape_or_number_of_rows_is_refused():
    path, clean, noise = RDDM(), torch.zeros(3, 4), torch.zeros(3, 4)
    for condition, said in (
        (Conditioning(), "'input', which is not given"),
        (Conditioning(sources={"input": torch.zeros(3, 5)}), r"shape \(3, 5\), but the data have \(3, 4\)"),
        (Conditioning(sources={"input": torch.zeros(2, 4)}), r"shape \(2, 4\), but the data have \(3, 4\)"),
    ):
        with pytest.raises(AnydiffError, match=said):
            path.noised(torch.ones(3), clean, noise, condition)
    denoiser = FunctionDenoiser(lambda x, t: x, path, "residual")
    for source, said in (
        (torch.zeros(2, 4), r"source 'input' has \(2, 4\) where 3 rows are needed"),
        (torch.zeros(3, 5), r"shape \(3, 5\), but the data have \(3, 4\)"),
        (torch.zeros(3, 1), r"shape \(3, 1\), but the data have \(3, 4\)"),  # would be broadcast
    ):
        for condition in (Conditioning(sources={"input": source}), Conditioning({"input": source})):
            with pytest.raises(AnydiffError, match=said.replace("source", "(source|condition)")):
                sample(denoiser, (4,), 3, nfe=2, solver="rddm", condition=condition)
            with pytest.raises(AnydiffError):
                sample(denoiser, (4,), 3, nfe=2, solver="rddm", condition=condition, start=noise)
    for options, said in (
        ({"sum_scale": 0.0}, "sum_scale is 0.0"),
        ({"sum_scale": -1.0}, "sum_scale is -1.0"),
        ({"sum_scale": math.inf}, "both finite"),
    ):
        with pytest.raises(AnydiffError, match=said):
            RDDM(**options)
    for options in ({"residual": "rising"}, {"noise": "rising"}, {"route": "both"}):
        with pytest.raises(UnknownNameError):
            RDDM(**options)
    with pytest.raises(AnydiffError, match="ratio is -1"):
        RDDM(ratio=-1)
