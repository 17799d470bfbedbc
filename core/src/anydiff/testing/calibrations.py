"""Methods of calibration, on a small mixture: the same again, within their budget, resumed alike, judged afresh."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from anydiff.calibration import Artefact, Found, Method, Setting, Spending, SpentError, calibrate
from anydiff.calibration.calibrate import GAIN
from anydiff.calibration.reference import Trials
from anydiff.denoisers import GaussianMixtureOracle
from anydiff.errors import AnydiffError
from anydiff.paths import VPLinear
from anydiff.registry import Entry
from anydiff.states import StateSpec
from anydiff.testing.kit import check
from anydiff.testing.subject import Subject, require

CENTRES = torch.tensor([[-1.0, 0.0], [0.7, 0.8], [0.6, -0.9]], dtype=torch.float64)
PATH, SPEC = VPLinear(), StateSpec.single((2,))
SETTING = Setting(nfe=(3, 4), count=8, fresh=16)
OVERRUN = 10
"""So many network calls may a search go beyond its limit."""


def _oracle() -> GaussianMixtureOracle:
    return GaussianMixtureOracle(PATH, CENTRES, 0.3, torch.tensor([1.0, 2.0, 3.0]))


def _method(plugin: Subject, entry: Entry) -> Method:
    made: Method = plugin.build(entry)
    right = isinstance(made, Method)
    require(right, f"it builds a {type(made).__name__}, which is no anydiff.calibration.Method.")
    require(made.name == entry.name, f"it is registered as {entry.name!r}, but its name is {made.name!r}.")
    return made


def _trials(method: Method) -> Trials:
    nodes = sorted({t for nfe in SETTING.nfe for t in method.plan({}, PATH, nfe).nodes}, reverse=True)
    return Trials(_oracle(), SPEC, SETTING.asked(range(8), ()), nodes)


def _bytes(found: Found) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in found.values.items()}


@check("calibration.determinism", "calibrations")
def determinism(plugin: Subject, entry: Entry) -> None:
    """The same trials give the same values and score, and a plan of no more calls than asked for."""
    method = _method(plugin, entry)
    first, again = (method.search(_trials(method), 4, Spending()) for _ in range(2))
    same = _bytes(first) == _bytes(again) and first.score == again.score
    require(same, "two searches on the same noises find different values; draw by a seed of the method's own.")
    calls = method.plan(first.values, PATH, 4).nfe
    require(calls <= 4, f"the plan for 4 network calls makes {calls}.")


@check("calibration.budget", "calibrations")
def budget(plugin: Subject, entry: Entry) -> None:
    """A search that needs more network calls than it may make stops with SpentError, a few calls late at most."""
    method = _method(plugin, entry)
    trials = _trials(method)
    trials.reference()
    limit = trials.calls + 1
    with contextlib.suppress(SpentError):
        method.search(trials, 4, Spending(calls=limit))
    late = trials.calls - limit
    require(late <= OVERRUN, f"a search made {late} network calls more than its limit of {limit}; ask spending.check.")


@check("calibration.refusal", "calibrations")
def refusal(plugin: Subject, entry: Entry) -> None:
    """No network call at all is refused with a sentence, and so is a limit of the clock that is over."""
    method = _method(plugin, entry)
    for what, act in (
        ("a plan of 0 network calls", lambda: method.plan({}, PATH, 0)),
        ("a search whose time is over", lambda: method.search(_trials(method), 4, Spending(seconds=-1.0))),
    ):
        try:
            act()
        except AnydiffError:
            continue
        require(False, f"{what} is not refused with an AnydiffError.")


@check("calibration.resume", "calibrations")
def resume(plugin: Subject, entry: Entry) -> None:
    """A calibration that was stopped after its first entry leaves the same file, the clock's times apart."""
    method = _method(plugin, entry)
    with tempfile.TemporaryDirectory() as folder:
        whole, cut = Path(folder) / "whole.safetensors", Path(folder) / "cut.safetensors"
        calibrate(_oracle(), SPEC, method, SETTING, {"name": "kit"}, out=whole)
        begun = Artefact.load(whole)
        begun.entries = begun.entries[:1]
        begun.save(cut)
        calibrate(_oracle(), SPEC, method, SETTING, {"name": "kit"}, out=cut)
        for file in (whole, cut):
            made = Artefact.load(file)
            made.entries = [dataclasses.replace(each, seconds=0.0) for each in made.entries]
            made.save(file)
        same = whole.read_bytes() == cut.read_bytes()
        require(same, "a calibration in two parts leaves another file; keep nothing from one search to the next.")


@check("calibration.validation", "calibrations")
def validation(plugin: Subject, entry: Entry) -> None:
    """Fresh noises find a winner that is the baseline no better, and one that is exact better."""
    method = _method(plugin, entry)
    trials = _trials(method)
    _, end = trials.reference()
    plain = trials.run(method.plan({}, PATH, 3))
    equal, exact = (_high(method, won, plain, end) for won in (plain, end))
    require(not equal < GAIN, f"the baseline passes for better than itself: the ratio reaches {equal:.3g} at most.")
    require(exact < GAIN, f"exact samples do not pass for better than the baseline's: the ratio reaches {exact:.3g}.")


def _high(method: Method, won: Tensor, plain: Tensor, end: Tensor) -> float:
    return method.compared(won, plain, end)[2][2]
