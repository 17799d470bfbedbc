"""Events and transforms: order, isolation, trace; the specifications read as documentation."""

from __future__ import annotations

import inspect

import pytest

from anydiff import hookspecs
from anydiff.errors import PluginError, UnknownNameError
from anydiff.plugins import hooks, report_to
from anydiff.plugins.calls import specifications
from anydiff.registry import KINDS

HEAD = "from anydiff.hookspecs import hookimpl\n"


def test_every_specification_is_documented_with_an_example():
    names = specifications()
    assert [name for name in names if name.startswith("register_")] == [f"register_{kind}" for kind in KINDS]
    for name in names:
        text = inspect.getdoc(getattr(hookspecs, name))
        assert "Example" in text, name
        assert name in hookspecs.__doc__, name
        for argument in names[name]:
            if not name.startswith("register_"):
                assert argument in text, (name, argument)
    events = set(names) - hookspecs.TRANSFORMS - {f"register_{kind}" for kind in KINDS}
    assert events == {"training_started", "training_step", "checkpoint_saved", "sampling_step", "evaluation_finished"}


def test_transforms_are_chained_in_the_documented_order(site):
    for name, option in (("b", ""), ("c", "tryfirst=True"), ("a", ""), ("d", "trylast=True"), ("aa", "trylast=True")):
        site.install(name, f"{HEAD}@hookimpl({option})\ndef samples_ready(states): return states + '{name} '\n")
    site.install("silent", f"{HEAD}@hookimpl\ndef samples_ready(): return None\n")
    assert hooks().transform("samples_ready", states="", condition={}, recipe=None) == "c a b aa d "


def test_a_transform_nobody_implements_returns_its_subject(site):
    subject = object()
    assert hooks().transform("wrap_denoiser", denoiser=subject, recipe=None) is subject
    assert not hooks().has("wrap_denoiser")


def test_a_failing_listener_is_reported_once_and_stops_nobody(site):
    site.install("bad", f"{HEAD}@hookimpl\ndef training_step(step): raise SystemExit(f'at {{step}}')\n")
    site.install("good", f"{HEAD}seen = []\n@hookimpl\ndef training_step(values, step): seen.append((step, values))\n")
    told = []
    report_to(told.append)
    for step in (1, 2):
        hooks().notify("training_step", recipe=None, folder=None, step=step, values={"loss": 1.0})
    assert len(told) == 1
    assert "plugin 'bad' failed in training_step (SystemExit: at 1)" in told[0]
    assert "`anydiff plugins disable bad`" in told[0]
    import zoo_good

    assert zoo_good.seen == [(1, {"loss": 1.0}), (2, {"loss": 1.0})]


def test_a_failing_transform_is_an_error_that_names_the_plugin(site):
    site.install("bad", f"{HEAD}@hookimpl\ndef transform_batch(batch): return batch['absent']\n")
    with pytest.raises(PluginError, match="plugin 'bad' failed in transform_batch"):
        hooks().transform("transform_batch", batch=(), recipe=None, step=0, positions=())


def test_an_interrupt_in_a_listener_is_an_interrupt(site):
    site.install("bad", f"{HEAD}@hookimpl\ndef training_step(): raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        hooks().notify("training_step", recipe=None, folder=None, step=1, values={})


def test_the_caller_must_give_exactly_the_specified_arguments(site):
    site.install("good", f"{HEAD}@hookimpl\ndef training_step(step): pass\n")
    with pytest.raises(TypeError, match="training_step is called with"):
        hooks().notify("training_step", step=1)
    with pytest.raises(UnknownNameError, match="did you mean 'training_step'"):
        hooks().notify("training_stop")


def test_a_plugin_may_be_an_object_or_a_class(site):
    site.install(
        "thing", f"{HEAD}class Thing:\n    @hookimpl\n    def samples_ready(self, states): return states * 2\n"
    )
    points = next(site.folder.glob("anydiff_thing*")) / "entry_points.txt"
    points.write_text("[anydiff]\nthing = zoo_thing:Thing\n")
    assert hooks().transform("samples_ready", states=3, condition={}, recipe=None) == 6


def test_trace(site, monkeypatch, capsys):
    site.install("good", f"{HEAD}@hookimpl\ndef samples_ready(states): return [1, 2]\n")
    monkeypatch.setenv("ANYDIFF_TRACE", "1")
    hooks().transform("samples_ready", states=[0], condition={}, recipe=None)
    hooks().notify("training_step", recipe=None, folder=None, step=1, values={})
    lines = capsys.readouterr().err.splitlines()
    assert "anydiff trace: samples_ready(states=(0), condition={}, recipe=None): good -> (1, 2)" in lines
    assert any(line.startswith("anydiff trace: register_paths(): anydiff -> ('vp-linear',") for line in lines)
    assert any("training_step(" in line and line.endswith("nobody -> None") for line in lines)


@pytest.mark.timing
def test_listening_costs_little_when_nobody_listens(site):
    import timeit

    relay = hooks()
    relay.has("training_step")

    def call():
        relay.notify("training_step", recipe=None, folder=None, step=1, values={})

    assert min(timeit.repeat(call, number=1000, repeat=3)) < 0.01  # 10 microseconds each
