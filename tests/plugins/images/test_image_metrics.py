"""Image metrics on real images and on known damage; the classifier's identity and determinism."""

import numpy as np
import pytest
import torch

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.metrics import SampleSet, require_same_card
from anydiff.registry import registry
from anydiff.states import Conditioning
from anydiff_benchmarks.engine.baselines import baseline
from anydiff_images import classifier
from anydiff_images.data import FashionMNIST, ImageDataset
from anydiff_images.domain import Images
from anydiff_images.metrics import (
    ClassConsistency,
    FrechetDistance,
    InceptionFeatures,
    KernelDistance,
    Precision,
    Recall,
    resize_tensorflow1,
)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def held_out():
    return FashionMNIST("test")


def subset(data, indices) -> SampleSet:
    states, condition = data.batch(list(indices))
    return SampleSet(states, condition, data.domain)


@pytest.fixture(scope="module")
def reference(held_out):
    return subset(held_out, range(300))


@pytest.fixture(scope="module")
def real(held_out):
    return subset(held_out, range(300, 600))


def test_the_classifier_is_the_one_of_record_and_as_good_as_its_card_says(held_out):
    judge = classifier.load_classifier("fashion-mnist")
    assert judge.name == "fashion-mnist@412d5f783886"
    assert judge.accuracy >= 0.9
    sample = subset(held_out, range(1000))
    share = float((judge.judge(sample.states).logits.argmax(1) == sample.condition.given["label"]).double().mean())
    assert share == pytest.approx(judge.accuracy, abs=4 * (0.0855 * 0.9145 / 1000) ** 0.5)


def test_features_do_not_depend_on_batching_or_order(reference):
    fresh = classifier.Classifier(classifier.WEIGHTS / "classifier-fashion-mnist.safetensors")
    whole = fresh.judge(reference.states).features
    parts = torch.cat([fresh.judge(part).features for part in reference.states.split([1, 63, 128, 108])])
    assert whole.dtype == torch.float64
    assert torch.allclose(whole, parts, rtol=1e-12, atol=1e-13)
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(fresh.judge(reference.states[order]).features, whole[order], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["frechet-distance", "kernel-distance", "precision", "recall"])
def test_identity_and_order(name, real, reference):
    metric = registry().build("metrics", f"images/{name}")
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(1))
    shuffled = SampleSet(real.states[order], real.condition.rows(order), real.domain)
    assert metric.compute(shuffled, reference) == pytest.approx(metric.compute(real, reference), rel=1e-9, abs=1e-10)
    same = metric.compute(real, real)
    if name == "frechet-distance":
        assert same == pytest.approx(0, abs=1e-9)
    elif name == "kernel-distance":
        assert same < 0, "the unbiased estimate leaves the diagonal out within a set, but not across"
    else:
        assert same == 1.0


@pytest.mark.parametrize(
    ("metric", "sign"), [(FrechetDistance, 1), (KernelDistance, 1), (Recall, -1), (ClassConsistency, -1)]
)
def test_more_noise_is_worse(metric, sign, real, reference):
    noise = torch.randn(real.states.shape, generator=torch.Generator().manual_seed(2))
    measured = metric()
    values = [
        sign * measured.compute(SampleSet(real.states + level * noise, real.condition, real.domain), reference)
        for level in (0.0, 0.1, 0.3, 0.8)
    ]
    assert values == sorted(values), values
    assert values[-1] > values[0]


def test_real_images_beat_gaussians(reference):
    training = FashionMNIST("train")
    sets = {name: baseline(name, training, 300) for name in ("resample", "gaussian", "gaussian-diagonal")}
    distance = {name: FrechetDistance().compute(samples, reference) for name, samples in sets.items()}
    assert distance["resample"] < 2
    assert distance["gaussian"] > 5 * distance["resample"]
    assert distance["gaussian-diagonal"] > distance["gaussian"]
    consistency = {name: ClassConsistency().compute(samples, reference) for name, samples in sets.items()}
    assert consistency["resample"] > 0.85
    assert consistency["gaussian"] < 0.25, "chance"


def test_class_consistency_counts(real, reference):
    metric = ClassConsistency()
    predicted = metric.classifier.judge(real.states).logits.argmax(dim=1)
    for wrong in (0, 75, 300):
        label = predicted.clone()
        label[:wrong] = (label[:wrong] + 1) % 10
        asked = SampleSet(real.states, Conditioning({"label": label}), real.domain)
        assert metric.compute(asked, reference) == pytest.approx(1 - wrong / 300)


def test_class_consistency_refuses_what_it_cannot_judge(real, reference):
    with pytest.raises(AnydiffError, match="label"):
        ClassConsistency().compute(SampleSet(real.states, Conditioning(), real.domain), reference)
    foreign = SampleSet(real.states, real.condition, Images(1, 28, 28, [str(index) for index in range(10)]))
    with pytest.raises(AnydiffError, match="classes"):
        ClassConsistency().compute(foreign, reference)


def test_values_do_not_depend_on_the_range_of_the_state(real, reference):
    domain = Images(1, 28, 28, real.domain.classes, range=(0, 1))
    rescaled = SampleSet((real.states + 1) / 2, real.condition, domain)
    value = FrechetDistance().compute(real, reference)
    assert FrechetDistance().compute(rescaled, reference) == pytest.approx(value, rel=1e-4)


def test_too_few_samples_and_foreign_shapes_are_refused(real, reference, held_out):
    with pytest.raises(AnydiffError, match="at least 128 samples"):
        FrechetDistance().compute(subset(held_out, range(127)), reference)
    colour = SampleSet(torch.zeros(200, 3, 32, 32), Conditioning(), Images(3, 32, 32))
    with pytest.raises(AnydiffError, match=r"\(1, 28, 28\)"):
        FrechetDistance().compute(colour, colour)
    with pytest.raises(UnknownNameError, match="fashion-mnist"):
        FrechetDistance("fashion")


def test_cards_name_features_and_k(monkeypatch, tmp_path):
    cards = [metric().card for metric in (FrechetDistance, KernelDistance, Precision, Recall, ClassConsistency)]
    assert all("fashion-mnist@" in card.features for card in cards)
    assert len({card.name for card in cards}) == 5
    with pytest.raises(AnydiffError, match="version"):
        require_same_card([Precision(neighbours=3).card, Precision(neighbours=5).card])
    monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path))
    with pytest.raises(AnydiffError, match="anydiff data get images/inception"):
        InceptionFeatures()


def test_training_a_classifier_is_deterministic_and_learns():
    rows = np.random.default_rng(0).integers(0, 2, 512)
    pixels = np.random.default_rng(1).integers(0, 60, (512, 1, 8, 8)).astype(np.uint8)
    pixels[rows == 1, :, 2:6, 2:6] += 120
    data = ImageDataset("squares", pixels, rows, ["dark", "bright"])
    schedule = classifier.Schedule(epochs=3, batch=32, shift=1, mirror=True, width=4)
    first, second = classifier.train(data, schedule), classifier.train(data, schedule)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert classifier.accuracy(first, data) > 0.95


def test_resize_follows_tensorflow1():
    # Target index i reads source i * 2 / 4 = 0, 0.5, 1, 1.5; beyond the last pixel it repeats (corners not aligned).
    image = torch.tensor([[0.0, 4.0], [8.0, 12.0]]).reshape(1, 1, 2, 2)
    expected = torch.tensor([[0.0, 2, 4, 4], [4, 6, 8, 8], [8, 10, 12, 12], [8, 10, 12, 12]])
    assert torch.equal(resize_tensorflow1(image, 4)[0, 0], expected)
    prepared = InceptionFeatures.prepare(torch.tensor([-1.0, 1.0]).reshape(1, 1, 1, 2))
    assert prepared.shape == (1, 3, 299, 299)
    assert prepared.min() == -1
    assert prepared.max() == 127 / 128
