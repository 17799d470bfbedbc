from __future__ import annotations

import pytest

from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff_benchmarks.engine.row import Row
from anydiff_benchmarks.engine.store import FILE, Store
from anydiff_benchmarks.engine.suite import Suite, load_suite, parse_seeds

GOOD = "name: s\nmethods: [ddim, {solver: ddim, options: {eta: 1.0}}]\nnfe: [5]\nseeds: [0]\n"


def write(tmp_path, text):
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    return str(path)


def test_a_suite_file(tmp_path):
    suite = load_suite(write(tmp_path, GOOD))
    assert [method.title for method in suite.methods] == ["ddim", "ddim (eta=1.0)"]


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("name: s\nmethods: [ddimm]\nnfe: [5]\nseeds: [0]\n", UnknownNameError, "did you mean 'ddim'"),
        (GOOD + "sampels: 3\n", UnknownNameError, "did you mean 'samples'"),
        (GOOD + "baselines: [gausian]\n", UnknownNameError, "did you mean 'gaussian'"),
        ("name: s\nmethods: [ddim, ddim]\nnfe: [5]\nseeds: [0]\n", AnydiffError, "two methods are called 'ddim'"),
        ("name: s\nmethods: [ddim]\nnfe: [0]\nseeds: [0]\n", AnydiffError, "nfe must be at least 1"),
        ("name: s\nmethods: [ddim]\nnfe: [5]\nseeds: [1, 1]\n", AnydiffError, "different natural numbers"),
        ("name: s\nmethods: [ddim]\nnfe: [5]\n", AnydiffError, "seeds is missing"),
        ("name: [", FileFormatError, "is not YAML"),
    ],
)
def test_a_wrong_suite_is_told_in_one_sentence(tmp_path, text, error, match):
    with pytest.raises(error, match=match):
        load_suite(write(tmp_path, text))


def test_an_absent_suite(tmp_path):
    with pytest.raises(AnydiffError, match=r"cannot read .*absent\.yaml.*No such file"):
        load_suite(str(tmp_path / "absent.yaml"))
    with pytest.raises(UnknownNameError, match="unknown suite 'qiuck'"):
        load_suite("qiuck")


def test_seeds():
    assert parse_seeds("3") == (0, 1, 2)
    assert parse_seeds("7,9") == (7, 9)
    for wrong in ("0", "-1", "x", "1,1", "", "1.5"):
        with pytest.raises(AnydiffError, match="--seeds"):
            parse_seeds(wrong)


def row(key="k", **changes):
    place = {"task": "t/x@1", "method": "ddim", "nfe": 5, "training": 0, "seed": 0, "samples": 10}
    return Row(**{**place, "metrics": {}, "cards": {}, "key": key, "started": "today", **changes})


def test_rows_survive_and_are_never_twice(tmp_path):
    with Store(tmp_path) as store:
        store.add(row(metrics={"a": 1.5, "b": float("inf")}), "label")
        store.add(row(metrics={"a": 2.5, "b": float("inf")}), "label")
    with Store(tmp_path) as store:
        assert store.rows(["absent", "k"]) == [row(metrics={"a": 2.5, "b": float("inf")})]


def test_why_a_row_is_computed(tmp_path):
    with Store(tmp_path) as store:
        parts = {"weights": "a" * 64, "samples": 10}
        assert store.explain("k", "cell", parts) == "computed: never run before"
        store.add(row(inputs=parts), "cell")
        assert store.explain("k", "cell", parts).startswith("reused: computed today")
        changed = {"weights": "b" * 64, "samples": 10}
        assert store.explain("other", "cell", changed) == "computed: weights (aaaaaaaa -> bbbbbbbb) changed"
        store.add(row(inputs=parts, status="failed", reason="it hurt"), "cell")
        assert store.explain("k", "cell", parts) == "computed again: failed today (it hurt)"


def test_a_foreign_file_is_refused_and_kept(tmp_path):
    (tmp_path / FILE).write_bytes(b"something else" * 100)
    with pytest.raises(FileFormatError, match="not a results store"):
        Store(tmp_path)
    assert (tmp_path / FILE).read_bytes() == b"something else" * 100


def test_another_format_is_refused(tmp_path):
    with Store(tmp_path) as store:
        store.remember("format", 99)
    with pytest.raises(FileFormatError, match="has format 99"):
        Store(tmp_path)


def test_the_quick_suite_is_valid():
    from pathlib import Path

    import yaml

    import anydiff_benchmarks

    folder = Path(anydiff_benchmarks.__file__).parent
    suite = Suite.parse(yaml.safe_load((folder / anydiff_benchmarks.QUICK).read_text()), "quick")
    suite.check_names()
    assert suite.nfe == (5, 10, 20)
    assert len(suite.methods) >= 4
    assert len(suite.seeds) == 2, "each with other cases"
