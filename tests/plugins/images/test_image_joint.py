"""Pictures with their labels: codec and files, the recipe from training to samples, and what may be known."""

import numpy as np
import pytest
import torch
from PIL import Image

from anydiff.cli.main import run
from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.metrics import SampleSet
from anydiff.pipeline import Pipeline, load, train
from anydiff.recipes import load_recipe
from anydiff_images.classes import FASHION_CLASSES
from anydiff_images.domain import Images
from anydiff_images.mt_diffusion import LabelAgreement, LabelledFashion, LabelledImages

CLASSES = ("Ankle boot", "Bag", "Shirt")
SMALL = [
    "network.options.options={channels: 8, multipliers: [1], blocks: 1, patch_size: 4}",
    "sampling.nfe=4",
    "training.steps=3",
    "training.batch_size=4",
    "training.warmup_steps=0",
    "training.checkpoint_every=3",
]


def pictures(labels, side=6):
    numbers = np.random.default_rng(0)
    made = [Image.fromarray(numbers.integers(0, 256, (side, side), dtype=np.uint8)) for _ in labels]
    for image, label in zip(made, labels, strict=True):
        image.info["label"] = label
    return made


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A joint model after three steps, as a run."""
    folder = tmp_path_factory.mktemp("joint") / "run"
    train(load_recipe("images/fashion-joint", SMALL), folder)
    return folder


def test_a_label_is_a_part_of_the_state():
    domain = LabelledImages(CLASSES, height=6, width=6)
    given = pictures(["Bag", "ankle boot"])
    states = domain.encode(given)
    assert states.shape == (2, 39)
    assert torch.equal(domain.spec.unpack(states)["label"], torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    back = domain.decode(states)
    assert [image.info["label"] for image in back] == ["Bag", "Ankle boot"]
    assert all(np.array_equal(np.asarray(one), np.asarray(two)) for one, two in zip(back, given, strict=True))
    with pytest.raises(AnydiffError, match=r"image 1 has no label.*one of Ankle boot, Bag, Shirt"):
        domain.encode([given[0], Image.new("L", (6, 6))])
    with pytest.raises(UnknownNameError, match="class"):
        domain.encode(pictures(["Hat"]))
    with pytest.raises(AnydiffError, match="at least two classes"):
        LabelledImages(["one"])


@pytest.mark.parametrize("name", ["folder", "all.npz", "one.png"])
def test_files_keep_the_labels(name, tmp_path):
    domain = LabelledImages(CLASSES, height=6, width=6)
    given = pictures(["Bag", "Ankle boot"][: 1 if name.endswith("png") else 2])
    domain.write(given, tmp_path / name)
    assert [image.info["label"] for image in domain.read(tmp_path / name)] == [image.info["label"] for image in given]
    if name == "folder":
        assert sorted(file.name for file in (tmp_path / name).iterdir()) == ["0000-bag.png", "0001-ankle-boot.png"]
    plain = Images(height=6, width=6)
    plain.write([Image.new("L", (6, 6))] * len(given), tmp_path / f"plain-{name}")
    assert all("label" not in image.info for image in domain.read(tmp_path / f"plain-{name}"))


def test_labels_that_are_asked_for_fix_their_part():
    domain = LabelledImages(CLASSES, height=6, width=6)
    for text, wanted in (("boot", [0, 0]), ("Shirt, bag", [2, 1]), ("1", [1, 1])):
        asked = domain.parse_condition({"label": text}, 2)
        assert asked["label"].tolist() == wanted
    pipeline = Pipeline.untrained(load_recipe("images/fashion-joint", SMALL))
    known = pipeline.domain.known_entries(pipeline.conditioning({"label": torch.tensor([3, 0])}, 2))
    parts = pipeline.domain.spec.unpack(known.values)
    assert parts["label"].argmax(1).tolist() == [3, 0]
    assert pipeline.domain.spec.unpack(known.mask)["label"].all()
    assert not pipeline.domain.spec.unpack(known.mask)["image"].any()
    for wrong in ([10, 0], [-1, 0]):
        with pytest.raises(AnydiffError, match=r"label is -?1.*numbered 0 to 9"):
            pipeline.sample(2, condition={"label": torch.tensor(wrong)})
    with pytest.raises(UnknownNameError, match="condition"):
        domain.parse_condition({"colour": "red"}, 1)


def test_training_sees_noise_and_heads(model):
    lines = (model / "log.jsonl").read_text()
    assert all(term in lines for term in ('denoising"', 'image"', 'label"'))
    assert "latent:" in (model / "config.yaml").read_text()
    again = load(model)
    assert again.latent.spec.shape == (2, 28, 28)
    assert list(again.latent.encoders) == ["image", "label"]


def test_pictures_come_with_labels_from_the_command_line(model, tmp_path):
    assert run(["sample", str(model), "--count", "3", "--out", str(tmp_path / "all"), "--picture",
                str(tmp_path / "all.png")]) == 0  # fmt: skip
    made = load(model).domain.read(tmp_path / "all")
    assert len(made) == 3
    assert all(image.info["label"] in FASHION_CLASSES for image in made)
    boots = ["--condition", "label=boot", "--out", str(tmp_path / "boots")]
    with pytest.warns(UserWarning, match="not drawn from their exact law"):
        assert run(["sample", str(model), "--count", "2", *boots]) == 0
    assert [image.info["label"] for image in load(model).domain.read(tmp_path / "boots")] == ["Ankle boot"] * 2


@pytest.mark.filterwarnings("ignore:a part is known and clamped")
def test_pictures_that_are_known_are_given_a_label(model, tmp_path, capfd):
    domain = load(model).domain
    truth = domain.decode(LabelledFashion("test").batch([1, 2, 5])[0])
    Images().write(truth, tmp_path / "known")
    out = tmp_path / "told"
    repeated = ["--solver", "ddpm", "--option", "repeats=2", "--nfe", "4"]
    assert run(["sample", str(model), "--known", str(tmp_path / "known"), "--out", str(out), *repeated]) == 0
    told = domain.read(out)
    assert [np.asarray(image).tolist() for image in told] == [np.asarray(image).tolist() for image in truth]
    assert all(image.info["label"] in FASHION_CLASSES for image in told)
    six = tmp_path / "six.npz"
    assert run(["sample", str(model), "--known", str(tmp_path / "known"), "--count", "6", "--out", str(six)]) == 0
    assert len(domain.read(six)) == 6
    capfd.readouterr()
    assert run(["sample", str(model), "--known", str(tmp_path / "known"), "--count", "4", "--out", str(six)[:-4]]) == 2
    assert "--known holds 3 objects" in capfd.readouterr().err
    both = ["--condition", "label=bag", "--out", str(tmp_path / "both.npz")]
    assert run(["sample", str(model), "--known", str(tmp_path / "known"), *both]) == 0
    assert [image.info["label"] for image in domain.read(tmp_path / "both.npz")] == ["Bag"] * 3


def test_the_read_out_is_chosen_where_there_is_one(model, tmp_path, capfd):
    pipeline = load(model)
    noise, heads = (pipeline.sample_set(2, read_out=name).states for name in ("noise", "heads"))
    assert not torch.equal(noise, heads)
    assert torch.equal(noise, pipeline.sample_set(2).states)
    with pytest.raises(AnydiffError, match="read_out"):
        pipeline.sample(1, read_out="votes")
    assert run(["sample", "images/fashion", "--read-out", "heads", "--out", str(tmp_path / "x")]) == 2
    assert "aggregates no parts" in capfd.readouterr().err
    mask = torch.zeros(794, dtype=torch.bool)
    mask[:100] = True
    with pytest.raises(AnydiffError, match="some entries of the part 'image' are known"):
        pipeline.sample(1, known=torch.zeros(794), known_mask=mask)


def test_agreement_is_that_of_the_classifier():
    data = LabelledFashion("test")
    states, condition = data.batch(range(200))
    reference = SampleSet(states, condition, data.domain)
    metric = LabelAgreement()
    assert metric.compute(reference, reference) > 0.85
    turned = data.domain.joined(data.domain.images_of(states), data.domain.labels_of(states).roll(1))
    assert metric.compute(SampleSet(turned, condition, data.domain), reference) < 0.25
    plain = SampleSet(data.domain.images_of(states), condition, Images())
    with pytest.raises(AnydiffError, match="label-agreement needs pictures with labels"):
        metric.compute(plain, plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("objective.options.heads={label: {}}", "heads.label has no weight"),
        ("objective.options.heads={age: {weight: 1}}", "heads names 'age', but the network offers edm, image, label"),
        ("network.options.vectors={label: 9}", "class 9, but the head has the classes 0 to 8"),
        ("latent.parts={image: {}}", "latent.parts names image, but the domain 'images/labelled' has the leaves"),
        ("latent=null", "state"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(change, message, tmp_path):
    with pytest.raises(AnydiffError, match=message):
        train(load_recipe("images/fashion-joint", [*SMALL, "training.steps=40", change]), tmp_path / "run")


def test_bundled_labels_belong_to_their_pictures():
    """Labels drawn alone agree in one of ten."""
    pipeline = load("images/fashion-joint")
    samples = pipeline.sample_set(100)
    reference = pipeline.reference(100)
    agreement = LabelAgreement().compute(samples, reference)
    assert agreement > 0.35
    domain = pipeline.domain
    turned = domain.joined(domain.images_of(samples.states), domain.labels_of(samples.states).roll(1))
    assert LabelAgreement().compute(SampleSet(turned, samples.condition, domain), reference) < agreement - 0.15
