"""The one calibration: for each number of calls and each guidance a search, and fresh noises that decide."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from anydiff.calibration.artefact import Artefact, Entry
from anydiff.calibration.reference import Trials
from anydiff.calibration.search import Found, Method, Spending, SpentError
from anydiff.denoisers.base import Denoiser
from anydiff.denoisers.wrappers import Wrapper, bent
from anydiff.errors import AnydiffError, FileFormatError, NotApplicableError, natural_number
from anydiff.paths.path import Path as NoisePath
from anydiff.samplers import SampleRequest
from anydiff.solvers import Plan
from anydiff.states import UNCONDITIONAL, Conditioning, StateSpec

#: The samples of the fresh noises are numbered from here on, so that they are none of the search's.
FRESH_FROM = 1 << 40

#: Below this must the upper end of the interval of winner over baseline be; a gain of less than a hundredth is none.
GAIN = 0.99


@dataclass(frozen=True)
class Setting:
    """For what is calibrated, and at which cost.

    Attributes:
        nfe: numbers of network calls.
        guidances: each a sequence of wrappers as a sampler takes them; an empty one is none.
        condition: of so many samples: ``condition(number) -> Conditioning``.
        request: in place of ``condition``, the whole request for the samples of these numbers under a guidance.
        seed: of the noises.
        count: search noises; None for the method's own number.
        fresh: noises that decide; None for the method's own number.
        seconds: limit of the clock; None for none.
        calls: limit of network calls per entry; None for none.
        report: told the progress.
    """

    nfe: Sequence[int]
    guidances: Sequence[Sequence[Wrapper]] = ((),)
    condition: Callable[[int], Conditioning] = field(default=lambda count: UNCONDITIONAL)
    request: Callable[[Sequence[int], Sequence[Wrapper]], SampleRequest] | None = None
    seed: int = 0
    count: int | None = None
    fresh: int | None = None
    seconds: float | None = None
    calls: int | None = None
    report: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        for name in ("count", "fresh"):
            if getattr(self, name) is not None:
                natural_number(name, getattr(self, name), minimum=2)
        if self.calls is not None:
            natural_number("calls", self.calls)
        if self.seconds is not None and not (isinstance(self.seconds, int | float) and self.seconds > 0):
            shown = f"{self.seconds:g}" if isinstance(self.seconds, int | float) else repr(self.seconds)
            raise SpentError(
                f"seconds is {shown}, but a limit of {shown} seconds allows no search; give a number "
                "above 0, or leave it out."
            )
        texts = [guidance_text(layers) for layers in self.guidances]
        twice = next((text for text in texts if texts.count(text) > 1), None)
        if twice is not None:
            raise AnydiffError(f"the guidance {twice or 'none'!r} is named twice; name each once.")
        for number in self.nfe:
            natural_number("nfe", number)
        if not self.nfe:
            raise AnydiffError("nfe is empty, but a calibration needs at least one number of network calls.")
        if len(set(self.nfe)) < len(self.nfe):
            raise AnydiffError(f"nfe is {list(self.nfe)}, which names a number twice; name each once.")

    def asked(self, numbers: Sequence[int], layers: Sequence[Wrapper]) -> SampleRequest:
        """The request for the samples of these numbers under a guidance."""
        if self.request is not None:
            return self.request(numbers, layers)
        condition = self.condition(len(numbers))
        return SampleRequest(numbers, seed=self.seed, guidance=list(layers), condition=condition)


def guidance_text(layers: Sequence[Wrapper]) -> str:
    """The guidance as an artefact names it; empty for none."""
    return "; ".join(repr(layer) for layer in layers)


def calibrate(
    denoiser: Denoiser, spec: StateSpec | Sequence[int], method: Method, setting: Setting, identity: Mapping[str, str],
    *, out: str | Path | None = None, command: str = "",
) -> Artefact:  # fmt: skip
    """Search the values of ``method`` for one model; the artefact compiles to the baseline where they win nothing.

    Args:
        denoiser: of the model.
        spec: what one sample is, or its shape.
        method: what is searched.
        setting: for which calls and guidances, from which noises, at which cost.
        identity: what tells this model from others (hashes of weights and recipe); without weights, a name.
        out: a file that is written after each entry. Where it is there already, its entries are taken as they are, so
            that what was killed goes on; the finished file has the same bytes, the clock's times apart.
        command: that makes it again.

    Raises:
        AnydiffError: no identity, a budget that is too small, or a file that belongs to another model or method.
        SpentError: the time or the calls are spent; the entries that are finished are in ``out``.
    """
    spec = spec if isinstance(spec, StateSpec) else StateSpec.single(tuple(spec))
    if not identity:
        raise AnydiffError("identity is empty, but a calibration belongs to one model; give identity={'name': '...'}.")
    if not all(isinstance(each, str) for each in identity.values()):
        raise AnydiffError(f"identity is {dict(identity)!r}, but what a model is told by are texts; write them so.")
    options = dataclasses.asdict(method)  # type: ignore[call-overload]
    setting = dataclasses.replace(setting, count=setting.count or method.count, fresh=setting.fresh or method.fresh)
    numbers = {"seed": setting.seed, "count": setting.count or 0, "fresh": setting.fresh or 0}
    _require_judgeable(method, numbers)
    made = Artefact(method.name, options, numbers, framed(identity, denoiser.path, spec), command=command)
    if out is not None and Path(out).exists():
        made = _begun(Artefact.load(out), made)
    spending = Spending(setting.seconds, setting.calls, setting.report)
    for layers in setting.guidances:
        text = guidance_text(layers)
        search, fresh = _trials(denoiser, spec, method, setting, layers)
        for nfe in setting.nfe:
            if any((each.nfe, each.guidance) == (nfe, text) for each in made.entries):
                continue
            begun = time.monotonic()
            search.begin()
            spending.check(0)
            found = method.search(search, nfe, spending)
            made.entries.append(_judged(method, fresh, found, nfe, text, search.calls, begun))
            if out is not None:
                made.save(out)
    return made


def plan_of_entry(artefact: Artefact, method: Method, path: NoisePath, nfe: int, layers: Sequence[Wrapper]) -> Plan:
    """The plan that an artefact compiles to for so many calls under this guidance.

    Raises:
        NotApplicableError: there is no entry for them.
        AnydiffError: the nodes of the plan are no longer those of the calibration, or its values are damaged.
    """
    entry, guided = artefact.entry(nfe, guidance_text(layers)), any(layer.bends for layer in layers)
    if not entry.values:
        return method.plan({}, path, nfe, guided)
    try:
        plan = method.plan(entry.values, path, nfe, guided)
    except NotApplicableError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"the calibration's values for {nfe} calls are damaged ({type(error).__name__}: {error}); calibrate anew."
        ) from error
    if plan.nfe > nfe:
        raise FileFormatError(
            f"the calibration's values for {nfe} calls make a plan of {plan.nfe}, so they are damaged; calibrate anew."
        )
    if entry.nodes and not np.allclose(entry.nodes, plan.nodes, rtol=1e-9, atol=0):
        raise AnydiffError(
            f"the calibration was made for the nodes {_shown(entry.nodes)}, but its grid gives {_shown(plan.nodes)} "
            "now; calibrate anew."
        )
    return plan


def _shown(nodes: Sequence[float]) -> str:
    return "[" + ", ".join(f"{t:.6g}" for t in nodes) + "]"


def _require_judgeable(method: Method, numbers: Mapping[str, int]) -> None:
    """Refuse fewer noises than the method can be judged by."""
    for name in ("count", "fresh"):
        if numbers[name] < method.least:
            raise AnydiffError(
                f"{name} is {numbers[name]}, but {method.name!r} says nothing of fewer than {method.least} samples; "
                "raise it."
            )


def framed(identity: Mapping[str, str], path: NoisePath, spec: StateSpec) -> dict[str, str]:
    """``identity`` with the path and the shape of one state."""
    return {**identity, "path": repr(path), "shape": str(tuple(spec.shape))}


def _begun(there: Artefact, wanted: Artefact) -> Artefact:
    there.require(wanted.identity)
    own, asked = ((each.method, {**each.options, **each.setting}) for each in (there, wanted))
    if own != asked:
        raise AnydiffError(
            f"the file holds a calibration by {own[0]!r} with {own[1]}, not by {asked[0]!r} with {asked[1]}; name "
            "another file (nothing was overwritten)."
        )
    return there


def _trials(
    denoiser: Denoiser, spec: StateSpec, method: Method, setting: Setting, layers: Sequence[Wrapper]
) -> tuple[Trials, Trials]:
    """Those of the search, which know all nodes that it will ask for, and the fresh ones."""
    guided = bent(denoiser, layers)
    plans = [method.plan({}, denoiser.path, nfe, guided) for nfe in setting.nfe]
    for nfe, plan in zip(setting.nfe, plans, strict=True):
        if plan.draws and not method.law:
            raise NotApplicableError(
                f"the baseline {plan.solver} draws noise on the way, so its samples have no exact end to be compared "
                f"with by {method.name!r}; name a deterministic solver (base=ddim)."
            )
        if plan.nfe > nfe:
            raise NotApplicableError(f"nfe is {nfe}, but the baseline {plan.solver} makes {plan.nfe} calls; raise it.")
    nodes = sorted({t for plan in plans for t in plan.nodes}, reverse=True)
    search = Trials(denoiser, spec, setting.asked(range(setting.count or 0), layers), nodes)
    return search, Trials(denoiser, spec, setting.asked(range(FRESH_FROM, FRESH_FROM + (setting.fresh or 0)), layers))


def _judged(method: Method, fresh: Trials, found: Found, nfe: int, guidance: str, calls: int, begun: float) -> Entry:
    """The entry of what was found, as noises that the search has not seen decide."""
    baseline = method.plan({}, fresh.denoiser.path, nfe, fresh.guided)
    _, end = fresh.reference()
    plain = fresh.run(baseline)
    winner = method.plan(found.values, fresh.denoiser.path, nfe, fresh.guided)
    won = fresh.run(winner, method.start(found.values)) if found.values else plain
    value, other, ratio = method.compared(won, plain, end)
    dropped = not ratio[2] < GAIN
    return Entry(
        nfe, guidance, {} if dropped else found.values, dropped, (found.score, found.baseline),
        (value, other), ratio, calls, round(time.monotonic() - begun, 3), winner.nodes if not dropped else (),
    )  # fmt: skip
