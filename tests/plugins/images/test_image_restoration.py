"""Degraded pairs, restoration from files, and how near a restored picture is to the truth."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from anydiff.cli.main import run
from anydiff.errors import AnydiffError
from anydiff.metrics import SampleSet
from anydiff.pipeline import Pipeline, load
from anydiff.recipes import load_recipe
from anydiff_images.cases import match
from anydiff_images.domain import Images
from anydiff_images.fidelity import PSNR, SSIM, psnr, ssim
from anydiff_images.rddm import DegradedImages, ImagePairs


def write(folder, names, side=12, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    numbers = np.random.default_rng(seed)
    for name in names:
        Image.fromarray(numbers.integers(0, 256, (side, side), dtype=np.uint8)).save(folder / name)
    return folder


NAMES = [f"p{number:02d}.png" for number in range(20)]


def test_degraded_fashion_mnist():
    data = DegradedImages("test", degradation_options={"size": 4, "intensity": 0.5})
    clean, condition = data.batch([3, 5])
    degraded = condition.given["input"]
    block = clean[0, 0, 8:12, 12:16]
    assert torch.allclose(degraded[0, 0, 8:12, 12:16], (-1 + 0.5 * (block.mean() + 1)).expand(4, 4), atol=1e-6)
    assert data.domain.codec == {"classes": None, "input": True}
    assert set(condition.given) == {"input"}
    assert data.case_labels([3]) == ["case-00003"]
    assert len(data) == 2000


def test_degraded_pictures_of_a_folder(tmp_path):
    folder = write(tmp_path / "own", NAMES)
    data = DegradedImages("test", "noise", {"std": 0.1}, path=folder)
    assert len(data) == 2
    assert data.case_labels([0, 1]) == ["p09", "p19"]
    with pytest.raises(AnydiffError, match="give path"):
        DegradedImages(size=8)


def test_own_pairs_are_those_of_one_name(tmp_path):
    clean, degraded = write(tmp_path / "clean", NAMES), write(tmp_path / "bad", NAMES, seed=1)
    data = ImagePairs(clean, degraded, "train")
    states, condition = data.batch([0])
    assert len(data) == 18
    assert data.case_labels([0]) == ["p00"]
    for folder, tensor in ((clean, states), (degraded, condition.given["input"])):
        assert np.array_equal(np.asarray(Image.open(folder / "p00.png")), data.domain.pixels(tensor)[0, 0].numpy())


def test_own_pairs_that_do_not_fit_are_refused(tmp_path):
    clean = write(tmp_path / "clean", NAMES)
    fewer, smaller = write(tmp_path / "fewer", NAMES[:-1]), write(tmp_path / "smaller", NAMES, side=8)
    with pytest.raises(AnydiffError, match=r"1 pictures in .*clean' have no partner .*fewer' \('p19.png' is the first"):
        ImagePairs(clean, fewer)
    with pytest.raises(AnydiffError, match=r"1 pictures in .*clean' have no partner .*fewer'"):
        ImagePairs(fewer, clean)
    with pytest.raises(AnydiffError, match=r"clean' are 12x12x1, but those in .*smaller' are 8x8x1"):
        ImagePairs(clean, smaller)
    assert len(ImagePairs(clean, smaller, size=8)) == 18


def test_psnr_and_ssim_are_those_of_scikit_image():
    numbers = np.random.default_rng(0)
    truth = numbers.integers(0, 256, (6, 28, 28))
    images = np.clip(truth + numbers.integers(-60, 60, truth.shape), 0, 255)
    one, two = (torch.from_numpy(each)[:, None] for each in (images, truth))
    reference = [peak_signal_noise_ratio(t, i, data_range=255) for t, i in zip(truth, images, strict=True)]
    assert torch.allclose(psnr(one, two), torch.tensor(reference), atol=1e-10)
    options = {"data_range": 255, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    reference = [
        structural_similarity(t.astype(float), i.astype(float), **options) for t, i in zip(truth, images, strict=True)
    ]
    assert torch.allclose(ssim(one, two), torch.tensor(reference), atol=1e-10)
    assert psnr(two, two).tolist() == [100.0] * 6
    assert ssim(two, two) == pytest.approx([1.0] * 6)
    with pytest.raises(AnydiffError, match="smaller than the window"):
        ssim(one[..., :8], two[..., :8])


@pytest.mark.parametrize("metric", [PSNR(), SSIM()])
def test_a_sample_is_compared_with_its_own_truth(metric):
    states, domain = torch.rand(4, 1, 28, 28) * 2 - 1, Images()
    reference = SampleSet(states, torch_nothing(), domain)
    twice = SampleSet(torch.cat([states, -states]), torch_nothing(), domain)
    assert metric.compute(reference, reference) == pytest.approx(metric.card.ideal)
    assert metric.compute(reference.rows([1, 0, 3, 2]), reference) < 0.7 * metric.card.ideal
    scores = metric.scores(twice, reference)
    assert len(scores) == 4
    assert np.mean(scores) == pytest.approx(metric.compute(twice, reference))


def torch_nothing():
    from anydiff.states import Conditioning

    return Conditioning()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained restoration model of 12 x 12 pictures in a file."""
    folder = tmp_path_factory.mktemp("restore")
    write(folder / "own", NAMES)
    recipe = load_recipe(
        "images/fashion-restore",
        [
            f"dataset.options={{path: {folder / 'own'}, degradation_options: {{size: 4}}}}",
            "domain.options={channels: 1, height: 12, width: 12, input: true}",
            "network.options={channels: 8, multipliers: [1, 2]}",
        ],
    )
    path = folder / "model.safetensors"
    Pipeline.untrained(recipe).save(path)
    return path


def test_files_are_restored_one_each_under_their_names(model, tmp_path, capfd):
    files = write(tmp_path / "degraded", ["b.png", "a.png", "c.png"], seed=4)
    assert run(["sample", str(model), "--condition", f"input={files}", "--out", str(tmp_path / "out")]) == 0
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == ["a.png", "b.png", "c.png"]
    # An untrained network predicts no residual: two steps leave the input and its noise of standard deviation 0.1.
    for name in "abc":
        degraded, found = (np.asarray(Image.open(f / f"{name}.png"), float) for f in (files, tmp_path / "out"))
        assert np.corrcoef(degraded.ravel(), found.ravel())[0, 1] > 0.9
    args = ["sample", str(model), "--condition", f"input={files}", "--members", "2", "--out", str(tmp_path / "two")]
    assert run(args) == 0
    assert len(list((tmp_path / "two").iterdir())) == 6
    assert (tmp_path / "two" / "a~1.png").is_file()
    capfd.readouterr()


def test_objects_are_restored_as_their_files_are(model, tmp_path):
    files = write(tmp_path / "degraded", ["a.png", "b.png"], seed=4)
    pipeline = load(model)
    objects = pipeline.domain.read(files)
    one = pipeline.sample(2, condition={"input": objects})
    two = pipeline.sample(2, condition={"input": str(files)})
    assert [each.tobytes() for each in one] == [each.tobytes() for each in two]


def test_samples_of_files_are_judged_by_the_names_of_their_cases(model, tmp_path, capfd):
    out = tmp_path / "restored.npz"
    assert run(["sample", str(model), "--cases", "2", "--out", str(out)]) == 0
    assert list(np.load(out)["names"]) == ["p09", "p19"]
    assert run(["evaluate", str(model), "--samples", str(out), "--set", "metrics=[images/psnr]"]) == 0
    assert "images/psnr" in capfd.readouterr().out


def test_a_sample_without_its_input_or_with_one_of_another_size_is_refused(model, tmp_path, capfd):
    assert run(["sample", str(model), "--out", str(tmp_path / "none")]) == 2
    assert "give --condition input=FILES" in capfd.readouterr().err
    small = write(tmp_path / "small", ["a.png"], side=8)
    assert run(["sample", str(model), "--condition", f"input={small}", "--out", str(tmp_path / "none")]) == 2
    assert "image 0 is 8x8x1" in capfd.readouterr().err
    assert run(["sample", str(model), "--condition", "label=boot", "--out", str(tmp_path / "none")]) == 2
    assert "input" in capfd.readouterr().err
    assert not (tmp_path / "none").exists()


def test_names_tell_cases_and_mixed_ones_are_refused():
    images = [Image.new("L", (2, 2)) for _ in range(3)]
    assert match(images, ["a", "b"]) is None
    for image, name in zip(images, ["b", "a~2", "0000"], strict=True):
        image.info["name"] = name
    assert match(images[:2], ["a", "b"]) == [1, 0]
    assert match(images[2:], ["a", "b"]) is None
    with pytest.raises(AnydiffError, match="'0000' is of none of the 2 held-out cases"):
        match(images, ["a", "b"])


def test_a_trained_network_travels_another_route(model, tmp_path, capfd):
    def args(option, out):
        return [
            "sample",
            str(model),
            "--cases",
            "2",
            "--nfe",
            "4",
            "--path-option",
            option,
            "--out",
            str(tmp_path / out),
        ]

    assert run(args("route=noise-first", "first")) == 0
    assert (tmp_path / "first" / "p09.png").is_file()
    for option, said in (
        ("route=sideways", "sideways"),
        ("sum_scale=1", "path changes sum_scale to 1"),
        ("route=any", "for training alone"),
        ("route", "write NAME=VALUE"),
    ):
        assert run(args(option, "none")) == 2
        assert said in capfd.readouterr().err
    assert not (tmp_path / "none").exists()
    assert run(["sample", "images/fashion", "--path-option", "route=noise-first", "--out", str(tmp_path / "none")]) == 2
    assert "told one number of the time" in capfd.readouterr().err


def test_the_route_is_an_option_of_sampling_in_python(model):
    pipeline = load(model)
    asked = {"condition": pipeline.reference(2).asked(2), "nfe": 4}
    together = pipeline.sample_set(2, **asked).states
    first = pipeline.sample_set(2, path={"route": "residual-first"}, **asked).states
    assert torch.equal(together, pipeline.sample_set(2, path={"route": "together"}, **asked).states)
    assert not torch.equal(together, first)


def test_the_bundled_model_restores_on_every_route():
    pipeline = load("images/fashion-restore")
    reference = pipeline.reference(48)
    asked = reference.asked(48)
    degraded = PSNR().compute(SampleSet(asked.given["input"], asked, pipeline.domain), reference)
    for route in ("together", "residual-first", "noise-first"):
        found = pipeline.sample_set(48, condition=asked, path={"route": route})
        assert PSNR().compute(found, reference) > degraded + 7
