"""Files of every format of the public surface, stored as they were written: they load, and give what they gave."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from anydiff.denoisers import GaussianOracle
from anydiff.errors import FileFormatError
from anydiff.paths import VPCosine
from anydiff.pipeline import load, train
from anydiff.plugins import forget, use_folder
from anydiff.recipes import load_recipe
from anydiff.samplers import sample
from anydiff.solvers import Plan
from anydiff.solvers import plan as plan_module
from anydiff.states import StateSpec
from anydiff.training import RunFolder, load_weights, weights_hash
from anydiff.training import run as run_module
from anydiff.training import weights as weights_module

STORED = Path(__file__).parent / "stored"
EXAMPLES = Path(__file__).parents[2] / "examples"
LATER = {
    "latent: null\n": "latent: null\nlatent_scale: null\n",
    "dataset:\n": "refines: null\ndataset:\n",
    "training:\n": "companions: {}\nstart: null\ntraining:\n",
    "  guidance: []\n": "  guidance: []\n  fixed: false\n  temperature: 1.0\n  read_out: null\n",
}
"""Keys of a recipe that came after the stored one, which uses none: they are written now, with their defaults."""
WEIGHTS = "5d22e18748a3f5fa61a425592e1d05f2827e906d6d811f62b1444f79f86a2de0"


@pytest.fixture(scope="module", autouse=True)
def _examples(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("ANYDIFF_HOME", str(tmp_path_factory.getbasetemp() / "home"))
        monkeypatch.setenv("ANYDIFF_PLUGINS", "two_moons")
        monkeypatch.setenv("ANYDIFF_PLUGINS_DIR", "")
        use_folder(EXAMPLES)
        forget()
        yield
    forget()


def test_a_file_is_stored_of_every_format_that_is_written_now():
    """A new number without a stored file of it fails here."""
    assert (STORED / f"plan-{plan_module.FORMAT}.json").is_file()
    assert (STORED / f"{weights_module.FORMAT.removeprefix('anydiff-')}.safetensors").is_file()
    assert (STORED / run_module.STATE_FORMAT.replace("anydiff-state", "run")).is_dir()


def test_a_stored_plan_gives_its_samples():
    text = (STORED / "plan-1.json").read_text(encoding="utf-8")
    plan = Plan.from_json(text)
    assert plan.to_json() == text.rstrip("\n").replace('"format": 1', '"format": 2')
    oracle = GaussianOracle(VPCosine(), torch.tensor([1.0, -2.0]), 0.25)
    drawn = sample(oracle, StateSpec.single((2,)), 3, solver=plan, seed=5)
    given = [
        [1.5911364555358887, -1.8465932607650757],
        [1.389252781867981, -1.2594101428985596],
        [1.4903067350387573, -2.0021564960479736],
    ]
    torch.testing.assert_close(drawn, torch.tensor(given), rtol=1e-5, atol=1e-5)


def test_a_stored_plan_of_several_predictions_gives_its_samples():
    text = (STORED / "plan-2.json").read_text(encoding="utf-8")
    plan = Plan.from_json(text)
    assert plan.to_json() == text.rstrip("\n")
    assert plan.nfe == 4
    oracle = GaussianOracle(VPCosine(), torch.tensor([1.0, -2.0]), 0.25)
    drawn = sample(oracle, StateSpec.single((2,)), 3, solver=plan, seed=5)
    given = [
        [1.2667266130447388, -2.8742873668670654],
        [1.710051417350769, -2.2871456146240234],
        [1.1292999982833862, -2.1158084869384766],
    ]
    torch.testing.assert_close(drawn, torch.tensor(given), rtol=1e-5, atol=1e-5)


def test_a_plan_of_another_number_is_refused():
    text = (STORED / "plan-1.json").read_text(encoding="utf-8")
    assert '"format": 1' in text
    with pytest.raises(FileFormatError, match="format 7"):
        Plan.from_json(text.replace('"format": 1', '"format": 7'))


@pytest.mark.parametrize("name", ["weights-1", "weights-2"])
def test_stored_weights_give_their_samples(name):
    path = STORED / f"{name}.safetensors"
    tensors, metadata = load_weights(path)
    assert weights_hash(tensors) == WEIGHTS
    assert metadata["format"] == f"anydiff-{name}"
    given = [
        [-0.6650628447532654, -0.12867997586727142],
        [0.18623006343841553, 0.4388178586959839],
        [0.3231930434703827, 0.7364776730537415],
    ]
    states = load(path).sample_set(3, seed=5, nfe=4).states
    torch.testing.assert_close(states, torch.tensor(given), rtol=1e-4, atol=1e-4)


def test_a_stored_run_has_its_weights_and_trains_on(tmp_path):
    folder = shutil.copytree(STORED / "run-2", tmp_path / "run")
    run = RunFolder.open(folder)
    assert weights_hash(run.load_weights()[0]) == WEIGHTS
    assert [record["step"] for record in run.records()] == [2, 4]
    trained = train(load_recipe(folder / "config.yaml", ["training.steps=6"]), folder, resume=True)
    assert [record["step"] for record in run.records()] == [2, 4, 6]
    assert weights_hash(RunFolder.open(folder).load_weights()[0]) != WEIGHTS
    assert trained.recipe.training.steps == 6


def test_a_stored_recipe_is_the_experiment_it_was():
    recipe = load_recipe(STORED / "recipe-1.yaml")
    assert recipe.hash == "bf25bd36f1c4e10df6ced02e6b4c810f3801dec6a99eca6048feff22a33fd08e"
    assert (recipe.sampling.solver.name, recipe.sampling.nfe) == ("euler", 7)
    assert recipe.dataset.options == {"count": 40}
    text = (STORED / "recipe-1.yaml").read_text(encoding="utf-8")
    for key, later in LATER.items():
        assert text.count(key) == 1
        text = text.replace(key, later)
    assert recipe.to_yaml() == text
