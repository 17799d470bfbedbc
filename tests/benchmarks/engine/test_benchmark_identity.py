"""A row is found again exactly where nothing that can change it has changed: hooks, third packages, their files."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import pytest
from test_benchmark_engine import run, table

from anydiff.plugins import forget
from anydiff.plugins.calls import Hooks
from anydiff.plugins.source import source_of
from anydiff.recipes import load_recipe
from anydiff.tasks import Task
from anydiff_benchmarks.engine.identity import changes
from anydiff_benchmarks.engine.planning import Share, Speed, plan_methods
from anydiff_benchmarks.engine.suite import Method, Suite
from anydiff_benchmarks.engine.worker import _source, _sources

WATERMARK = """\
from pathlib import Path

from anydiff.hookspecs import hookimpl

BLEND = float((Path(__file__).parent / "blend.txt").read_text())


@hookimpl
def samples_ready(states):
    return states * (1 - BLEND) + 0.5 * BLEND
"""


@pytest.fixture
def watermark(toy, tmp_path, monkeypatch):
    """Switches a plugin that blends every sample with a half on (by how much) and off (None)."""
    folder = tmp_path / "plugins"
    folder.mkdir()

    def switch(blend):
        sys.modules.pop("watermark", None)
        if blend is None:
            monkeypatch.setenv("ANYDIFF_PLUGINS", "benchmarks,toy")
            monkeypatch.delenv("ANYDIFF_PLUGINS_DIR", raising=False)
        else:
            (folder / "watermark.py").write_text(WATERMARK)
            (folder / "blend.txt").write_text(str(blend))
            monkeypatch.setenv("ANYDIFF_PLUGINS", "benchmarks,toy,watermark")
            monkeypatch.setenv("ANYDIFF_PLUGINS_DIR", str(folder))
        forget()

    yield switch
    switch(None)


def watermarked_rows_are_their_own(toy, out, watermark):
    """The check itself, so that a planted fault can be seen to fail it."""
    options = {"methods": ("ddim",), "nfe": (3,), "seeds": (0,), "gallery": 0}
    plain = run(toy, out, **options)
    watermark(0.5)
    marked = run(toy, out, **options)
    assert marked.computed == len(marked.rows), "every row is another one"
    assert {why for _, why in marked.explanations} == {"computed: code of watermark.py changed"}
    assert table(marked)["ddim", 3, 0] != table(plain)["ddim", 3, 0]
    watermark(0.9)
    assert run(toy, out, **options).computed == len(plain.rows), "what lies beside the plugin counts too"
    watermark(None)
    again = run(toy, out, **options)
    assert again.computed == 0, "without the plugin the rows of before are found again"
    assert table(again) == table(plain)


def test_a_watermark_gets_rows_of_its_own(toy, tmp_path, watermark):
    watermarked_rows_are_their_own(toy, tmp_path / "out", watermark)


def test_a_key_without_hooks_is_caught(toy, tmp_path, watermark, monkeypatch):
    monkeypatch.setattr(Hooks, "implementers", lambda self, *hooks: [])
    with pytest.raises(AssertionError, match="every row is another one"):
        watermarked_rows_are_their_own(toy, tmp_path / "out", watermark)


def test_what_judges_is_started_again_with_new_code(toy, tmp_path):
    """A metric that changes between two runs of one program is not judged by what the program remembers of it."""
    options = {"methods": ("ddim",), "nfe": (3,), "seeds": (0,), "gallery": 0, "baselines": ("resample",)}
    before = run(toy, tmp_path / "out", **options)
    file = toy / "anydiff_toy" / "parts.py"
    text = file.read_text()
    old = "return frechet_distance(samples.states, reference.states)"
    assert old in text
    try:
        file.write_text(text.replace(old, f"{old} * 100"))
        after = run(toy, tmp_path / "out", **options)
    finally:
        file.write_text(text)
    assert after.computed == len(after.rows)
    for key, metrics in table(before).items():
        assert table(after)[key]["toy/frechet"] == pytest.approx(100 * metrics["toy/frechet"], rel=1e-6)


# Third packages -------------------------------------------------------------------------------------------------------

KINDS = ("domains", "datasets", "networks", "paths", "solvers", "guidance", "objectives", "metrics", "recipes")


@pytest.fixture
def third(toy, tmp_path, monkeypatch):
    """A distribution that offers something of every kind, beside the toy domain; its folder."""
    package = tmp_path / "site" / "anydiff_third"
    package.mkdir(parents=True)
    hooks = [
        f'@hookimpl\ndef register_{kind}(register):\n    register("third/{kind}", "x", "anydiff_third.parts:Part")\n'
        for kind in KINDS
    ]
    (package / "__init__.py").write_text("from anydiff.hookspecs import hookimpl\n\n\n" + "\n\n".join(hooks))
    (package / "parts.py").write_text("class Part: ...\n")
    (package / "factor.json").write_text("1")
    info = tmp_path / "site" / "anydiff_third-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: anydiff-third\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[anydiff]\nthird = anydiff_third\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("ANYDIFF_PLUGINS", "benchmarks,toy,third")
    forget()
    yield package
    forget()
    for name in [name for name in sys.modules if name.startswith("anydiff_third")]:
        del sys.modules[name]


def source(changes=(), **task):
    """Of a task on points, with a recipe that was changed."""
    recipe = load_recipe("toy/points", changes)
    made = Task(**{"name": "toy/points", "version": 2, "recipe": "toy/points", "samples": 100, **task})
    generator = SimpleNamespace(
        task=made, recipe=load_recipe("toy/points"), pipeline=SimpleNamespace(recipe=recipe, companions={})
    )
    return _source(generator)


NAMED = {
    "domain": {"changes": ["domain=third/domains"]},
    "data set": {"changes": ["dataset=third/datasets"]},
    "network": {"changes": ["network=third/networks"]},
    "path": {"changes": ["path=third/paths"]},
    "solver": {"changes": ["sampling.solver=third/solvers"]},
    "guidance": {"changes": ["sampling.guidance=[third/guidance]"]},
    "objective": {"changes": ["objective=third/objectives"]},
    "metric": {"changes": ["metrics=[third/metrics]"]},
    "a metric of the task": {"metrics": ["third/metrics"]},
    "something within an option": {"changes": ["network.options={inner: [{name: third/networks}]}"]},
    "baseline": {"baselines": {"own": "anydiff_third.parts:baseline"}},
    "evaluator": {"evaluator": "anydiff_third.parts:evaluator"},
}


@pytest.mark.parametrize("what", NAMED)
def test_every_package_that_is_named_counts(third, what):
    assert "anydiff-third" not in source().code, "one that nothing names does not"
    before = source(**NAMED[what])
    assert before.code.keys() == {"anydiff", "anydiff-benchmarks", "anydiff-toy", "anydiff-third"}
    assert source(**NAMED[what]) == before
    (third / "factor.json").write_text("100")  # a file beside the module, which the module reads
    assert [name for name, _, _ in changes(before.as_dict(), source(**NAMED[what]).as_dict())] == [
        "code of anydiff-third"
    ]


def test_what_a_method_names_counts_for_its_rows_alone(third):
    def keys():
        suite = Suite(name="s", methods=["third/solvers", "ddim"], nfe=[3], seeds=[0])
        names = tuple(name for method in suite.methods for name in method.names)
        share, speed = Share(10, (0,), 1.0, None), Speed(1.0, 1.0)
        cells = plan_methods("toy/points@2", suite, share, speed, source().as_dict(), {}, _sources(names))
        return {cell.title: cell.key for cell in cells}

    before = keys()
    (third / "factor.json").write_text("100")
    after = keys()
    assert before["ddim"] == after["ddim"]
    assert before["third/solvers"] != after["third/solvers"]


def test_a_method_names_what_its_options_name():
    method = Method(solver="ddim", options={"corrector": {"name": "third/x"}}, label="not me")
    assert method.names == ("ddim", "third/x")


def test_libraries_count(toy, monkeypatch):
    before = source().as_dict()
    monkeypatch.setattr("anydiff.plugins.source._version", lambda name: "2.0" if name == "torch" else "1.0")
    assert "libraries of torch" in {name for name, _, _ in changes(before, source().as_dict())}


@pytest.mark.timing
def test_planning_ten_thousand_cells_is_quick(toy):
    began = time.process_time()
    for _ in range(20):  # as many models, each with its own look at the files
        code = source_of(plugins=["toy"])
    suite = Suite(name="s", methods=["ddim", "edm"], nfe=[*range(3, 53)], seeds=[*range(100)])
    share = Share(10, suite.seeds, 1.0, None)
    cells = plan_methods("toy/points@2", suite, share, Speed(1.0, 1.0), code.as_dict(), {}, {"ddim": code})
    assert len({cell.key for cell in cells}) == 10_000
    assert time.process_time() - began < 5
