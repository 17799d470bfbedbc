"""Own data bring their own sizes and scales: nothing of the recipe's first data set stays in a run."""

from __future__ import annotations

import networkx as nx
import pytest
import torch

from anydiff.errors import AnydiffError, UnknownNameError
from anydiff.pipeline import load, train
from anydiff.recipes import load_recipe
from anydiff.recipes.build import build_dataset, build_domain
from anydiff.recipes.statistics import agree, fit_to_data
from anydiff_molecules.graph_data import Community, Ego

SMALL = ["CC", "CO", "CN", "CCC", "CCO", "CCN", "COC", "CCCC", "CCOC", "CC(C)O", "C=C", "C=O", "C#N", "CC=O", "CCC=O"]
SHORT = ["training.steps=2", "training.batch_size=4", "training.warmup_steps=0", "training.checkpoint_every=2"]


@pytest.fixture(scope="module")
def molecules(tmp_path_factory):
    """A file of molecules of 2 to 4 atoms."""
    path = tmp_path_factory.mktemp("own") / "small.smi"
    path.write_text("\n".join(SMALL) + "\n")
    return path


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """A file of graphs of 6 nodes."""
    path = tmp_path_factory.mktemp("own") / "six.g6"
    path.write_bytes(b"".join(nx.to_graph6_bytes(nx.gnm_random_graph(6, 7, seed=n), header=False) for n in range(30)))
    return path


def changes(path, name, *more):
    return [*SHORT, f"dataset.name={name}", f"dataset.options.path={path}", *more]


def test_molecules_of_two_to_four_atoms_train_a_model_of_two_to_four_atoms(molecules, tmp_path):
    """With the recipe's constants samples had 13 to 20 atoms."""
    recipe = load_recipe("molecules/zinc", changes(molecules, "molecules/file", "network.options.blocks=1"))
    trained = train(recipe, tmp_path / "run")
    pipeline = load(tmp_path / "run")
    options = pipeline.recipe.domain.options
    assert sum(options["counts"][1:4]) == pytest.approx(1.0, abs=1e-4)
    logp = build_dataset(pipeline.recipe, "train").table.logp
    assert options["condition_scale"] == pytest.approx([logp.mean(), logp.std()], abs=0.006)
    assert pipeline.recipe.dataset.options["condition_scale"] == options["condition_scale"]
    assert pipeline.recipe.hash == trained.recipe.hash != recipe.hash
    sizes = pipeline.sample_set(40, nfe=2).condition.mask.sum(dim=1)
    assert set(sizes.tolist()) == {2, 3, 4}
    seen = build_dataset(pipeline.recipe, "train").batch(range(14))[1].given["logp"]
    assert abs(float(seen.mean())) < 0.2
    assert float(seen.std()) == pytest.approx(1.0, abs=0.2)
    again = train(recipe, tmp_path / "run", resume=True)  # the recipe as it was given goes on with the fitted run
    assert again.recipe.hash == trained.recipe.hash


def test_graphs_of_six_nodes_train_a_model_of_six_nodes(graphs, tmp_path):
    recipe = load_recipe("graphs/community-small", changes(graphs, "graphs/file"))
    pipeline = train(recipe, tmp_path / "run")
    assert pipeline.recipe.domain.options["counts"] == [*[0.0] * 5, 1.0, *[0.0] * 14]
    assert torch.equal(pipeline.domain.sample_mask(range(8), 0).sum(dim=1), torch.full((8,), 6))


@pytest.mark.parametrize("name", ["molecules/qm9", "molecules/zinc", "graphs/community-small"])
def test_nothing_moves_in_a_registered_recipe_on_its_own_data(name):
    recipe = load_recipe(name)
    fitted, dataset = fit_to_data(recipe)
    assert fitted is recipe
    assert agree(build_domain(recipe).counts, dataset.statistics["counts"])


def test_what_was_asked_for_and_contradicts_the_data_is_refused_and_null_takes_the_data_s(graphs, molecules):
    def asked(value):
        return load_recipe("graphs/community-small", changes(graphs, "graphs/file", f"domain.options.counts={value}"))

    with pytest.raises(AnydiffError, match=r"domain.options.counts is \[1.0, .* say \[0.0, .*counts=null to take it"):
        fit_to_data(asked([1.0] * 20))
    for value in ("null", [*[0] * 5, 1, *[0] * 14]):  # the data's own is no contradiction
        assert agree(fit_to_data(asked(value))[0].domain.options["counts"], [*[0.0] * 5, 1.0, *[0.0] * 14])
    scale = ("dataset.options.condition_scale=[0, 1]", "domain.options.condition_scale=[0, 1]")
    with pytest.raises(AnydiffError, match=r"options.condition_scale is .0, 1."):
        fit_to_data(load_recipe("molecules/zinc", changes(molecules, "molecules/file", *scale)))
    own = load_recipe("molecules/zinc", changes(molecules, "molecules/file", "name=mine"))
    with pytest.raises(AnydiffError, match=r"domain\.options\.counts is"):  # no registered recipe of that name
        fit_to_data(own)


def test_a_statistic_that_the_domain_has_no_option_for_is_named(monkeypatch):
    monkeypatch.setattr(Community, "statistics", {"sizes": [1.0]})
    with pytest.raises(UnknownNameError, match="named by the statistics of data set 'graphs/community': 'sizes'"):
        fit_to_data(load_recipe("graphs/community-small"))


def test_statistics_are_those_of_the_graphs_or_the_generator_s_law():
    ego = Ego(train=30, test=5)
    sizes = [graph.number_of_nodes() for graph in ego.graphs]
    assert ego.statistics["counts"][7] == pytest.approx(sizes.count(8) / 30, abs=1e-5)
    assert Community(train=5, test=5, low=3, high=5).statistics == {"counts": [0.0, 0.0, 1.0, 1.0, 1.0]}


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ([2e-05, 0.83283], [0.0, 0.83285], True),
        ([0.1, 0.9], [0.11, 0.89], False),
        ([1, 2], [1.0, 2.0], True),
        (["a", "b"], ["b", "a"], False),
        ([1.0], [1.0, 0.0], False),
        ({"a": [1.0]}, {"a": [1.0001]}, True),
        (1e-6, 2e-6, False),
        (True, 1, False),
    ],
)
def test_agreement(one, two, same):
    assert agree(one, two) is same
