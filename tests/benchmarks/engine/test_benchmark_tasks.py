"""Frozen tasks: names and versions, and a lock that every change of what they depend on breaks."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from pydantic import ValidationError

from anydiff.errors import AnydiffError, FileFormatError, PluginError, UnknownNameError
from anydiff.registry import Entry, Registry
from anydiff.tasks import Task
from anydiff.tasks.lock import FILE, check_lock, differences, freeze, read_lock, write_lock
from anydiff.tasks.task import find_tasks, load_task


def test_a_task_and_its_name():
    task = Task(name="weather/gee", version=3, recipe="weather/gee", samples=20, members=10)
    assert task.id == "weather/gee@3"
    assert "help" not in task.definition()
    with pytest.raises(ValidationError):
        task.samples = 30


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"name": "weather/gee@1"}, "version is the field version"),
        ({"name": "gee"}, "plugin/name"),
        ({"version": 0}, "version"),
        ({"samples": 25, "members": 10}, "no multiple of members"),
        ({"baselines": {"climatology": "no reference"}}, "baselines.climatology is 'no reference'"),
        ({"evaluator": "module"}, "package.module:function"),
        ({"tier": "tiny"}, "tier"),
    ],
)
def test_a_wrong_task_is_refused(changes, match):
    good = {"name": "weather/gee", "recipe": "weather/gee", "samples": 20}
    with pytest.raises(AnydiffError, match=match):
        Task.parse({**good, **changes}, "task")


def entry(name, **metadata):
    return Entry("tasks", name, "a task", "package.module:task", "p", metadata)


def test_a_registered_task_has_a_version():
    found = Registry()
    found.add("p", [entry("p/a@1"), entry("p/a@12"), entry("p/quick", suite="p:quick.yaml")])
    assert found.names("tasks") == ["p/a@1", "p/a@12", "p/quick"]
    with pytest.raises(PluginError, match="register it as 'p/b@1'"):
        found.add("p", [entry("p/b")])
    for wrong in ("p/a@0", "p/a@x", "p/a@1@2", "@1"):
        with pytest.raises(PluginError, match=r"not a valid name|outside"):
            found.add("p", [entry(wrong)])
    with pytest.raises(PluginError, match="not a valid name"):
        found.add("p", [Entry("solvers", "p/s@1", "a solver", "p.m:s", "p")])


def test_the_newest_version_is_found_and_a_broken_one_named(toy):
    tasks, problems = find_tasks(tier="smoke")
    assert {task.id for task in tasks} >= {"toy/points@2", "toy/touchy@1", "toy/cut@1"}
    assert "toy/broken@1" in problems
    assert "no module named" in problems["toy/broken@1"].lower()
    assert load_task("toy/points").version == 2
    assert load_task("toy/points@1").version == 1
    assert [task.id for task in find_tasks(["toy/points@*"])[0]] == ["toy/points@1", "toy/points@2"]
    assert [task.id for task in find_tasks(["toy/po*"])[0]] == ["toy/points@2"]
    assert "toy/large@1" not in {task.id for task in tasks}, "of the full tier"
    assert [task.id for task in find_tasks(["toy/large"], "smoke")[0]] == ["toy/large@1"], "but asked for by name"
    with pytest.raises(UnknownNameError, match="did you mean 'toy/points@"):
        find_tasks(["toy/pionts"])


def test_the_lock_holds_and_is_not_overwritten(toy, tmp_path, monkeypatch):
    path = tmp_path / FILE
    monkeypatch.setattr("anydiff.tasks.lock.lock_path", lambda name: path)
    with pytest.raises(AnydiffError, match="anydiff bench lock toy/points@2"):
        check_lock(load_task("toy/points"))
    assert write_lock("toy/points") == path
    before = path.read_bytes()
    check_lock(load_task("toy/points"))
    assert write_lock("toy/points") == path
    assert path.read_bytes() == before
    write_lock("toy/points@1")
    assert list(read_lock(path)) == ["toy/points@1", "toy/points@2"]


def changed(frozen, where, value):
    out = copy.deepcopy(frozen)
    *outer, last = where
    inner = out
    for key in outer:
        inner = inner[key]
    inner[last] = value
    return out


def test_every_part_of_the_frozen_task_is_guarded(toy):
    frozen = freeze(load_task("toy/points"))
    assert differences(frozen, json.loads(json.dumps(frozen))) == []
    for where, value, name in [
        (("task", "samples"), 3, "task.samples"),
        (("task", "budget_seconds"), 3.0, "task.budget_seconds"),
        (("task", "split"), "train", "task.split"),
        (("data set", "options"), {"count": 3}, "data set.options.count"),
        (("cards", 0, "version"), "2", "cards[0].version"),
        (("held-out data", "hash"), "0", None),
    ]:
        found = differences(frozen, changed(frozen, where, value))
        assert found == ([name] if name else []), where
    other = changed(frozen, ("held-out data", "hash"), "0")
    other["held-out data"]["tensors"]["states"][2] += 1e-3
    assert differences(frozen, other) == ["held-out data"]


def test_one_line_of_preprocessing_demands_a_new_version(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("anydiff.tasks.lock.lock_path", lambda name: tmp_path / FILE)
    write_lock("toy/points")
    from anydiff_toy.parts import Mixture

    batch = Mixture.batch
    monkeypatch.setattr(Mixture, "batch", lambda self, rows: ((b := batch(self, rows))[0] * 1.001, b[1]))
    with pytest.raises(AnydiffError, match=r"held-out data, training data changed.*'toy/points@3'"):
        check_lock(load_task("toy/points"))
    with pytest.raises(AnydiffError, match="is not what was published"):
        write_lock("toy/points")


def test_the_rounding_of_another_machine_is_no_change_and_one_example_is(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("anydiff.tasks.lock.lock_path", lambda name: tmp_path / FILE)
    write_lock("toy/points")
    from anydiff_toy.parts import Mixture

    batch = Mixture.batch
    monkeypatch.setattr(Mixture, "batch", lambda self, rows: ((b := batch(self, rows))[0] * (1 + 1.2e-7), b[1]))
    check_lock(load_task("toy/points"))

    def one(self, rows):
        states, condition = batch(self, rows)
        states = states.clone()
        states[[index for index, row in enumerate(rows) if row == 7]] += 0.01
        return states, condition

    monkeypatch.setattr(Mixture, "batch", one)
    with pytest.raises(AnydiffError, match="is not what was published"):
        check_lock(load_task("toy/points"))

    def swapped(self, rows):
        states, condition = batch(self, [{3: 4, 4: 3}.get(row, row) for row in rows])
        return states, condition

    monkeypatch.setattr(Mixture, "batch", swapped)
    assert torch.equal(Mixture("test").batch([3])[0], batch(Mixture("test"), [4])[0])
    with pytest.raises(AnydiffError, match="is not what was published"):
        check_lock(load_task("toy/points"))


def test_a_damaged_lock_is_said_and_kept(tmp_path):
    path = tmp_path / FILE
    for content in ("{", "[]"):
        path.write_text(content)
        with pytest.raises(FileFormatError, match="is no lock of tasks"):
            read_lock(path)
        assert path.read_text() == content
