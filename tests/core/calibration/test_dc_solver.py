"""DC-Solver: the compiler against the paper's formulas, the search against its promises, and the artefact."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from exact import Counting, mixture

from anydiff.calibration import Artefact, DCSolver, Setting, bounded_minimum, calibrate, plan_of_entry
from anydiff.calibration.reference import FINE, refined
from anydiff.denoisers import FunctionDenoiser, GaussianMixtureOracle
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.guidance import ClassifierFree
from anydiff.paths import Flow, VPLinear, time_grid
from anydiff.solvers import compile_plan, execute
from anydiff.solvers.dc_solver import BASES, DCUniPC, lagrange
from anydiff.solvers.plan import Combine
from anydiff.solvers.program import Node
from anydiff.states import Conditioning

PATH = VPLinear()
SETTING = Setting(nfe=(4, 5), count=8, fresh=64, seed=3)


# The compiler ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("path", [PATH, Flow()], ids=repr)
def test_ratios_of_one_are_the_method_itself_bit_for_bit(base, path):
    for nfe in (1, 2, 5, 9):
        plain = compile_plan(base, path, nfe).instructions
        assert compile_plan(BASES[base](), path, nfe).instructions == plain
        assert compile_plan(BASES[base](ratios=(1.0,) * nfe), path, nfe).instructions == plain


def test_the_weights_are_a_parabola_in_time():
    nodes = [Node(PATH, t) for t in (0.3, 0.5, 0.8)]
    for ratio in (0.0, 0.3, 1.0, 1.7):
        weights = lagrange(nodes, ratio)
        assert sum(weights) == pytest.approx(1.0, abs=1e-13)
        at = ratio * 0.3 + (1 - ratio) * 0.5
        found = sum(w * (2 - node.t + 3 * node.t**2) for w, node in zip(weights, nodes, strict=True))
        assert found == pytest.approx(2 - at + 3 * at**2, abs=1e-12)
    assert lagrange(nodes, 0.0) == pytest.approx([0, 1, 0], abs=1e-15)
    assert lagrange(nodes, 1.0) == pytest.approx([1, 0, 0], abs=1e-15)


def by_hand(ratios, nodes, x, oracle):
    """DPM-Solver++(2M) with compensation in plain arithmetic."""
    past = []
    for index in range(len(nodes) - 1):
        s, t = Node(PATH, nodes[index]), Node(PATH, nodes[index + 1])
        past = [[s, oracle(x, s.t)], *past][:3]
        if len(past) == 3 and ratios[index] != 1:
            weights = lagrange([node for node, _ in past], ratios[index])
            past[0][1] = sum(w * m for w, (_, m) in zip(weights, past, strict=True))
        h = t.log_snr - s.log_snr
        data = past[0][1]
        if len(past) > 1:
            data = data + h / (2 * (s.log_snr - past[1][0].log_snr)) * (past[0][1] - past[1][1])
        x = t.sigma / s.sigma * x - t.alpha * np.expm1(-h) * data
    return x


def test_the_replaced_prediction_stays_for_later_steps():
    oracle = mixture(PATH)
    start = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ratios = (1.0, 1.0, 0.6, 1.4, 0.8, 1.1)
    plan = compile_plan(BASES["dpm-solver++-2m"](ratios=ratios), PATH, 6, end="stop")
    expected = by_hand(ratios, plan.nodes, start, oracle)
    torch.testing.assert_close(execute(plan, oracle, start), expected, rtol=0, atol=1e-12)
    assert plan.nfe == 6


def test_rows_stay_short_and_calls_are_the_same():
    plan = compile_plan(DCUniPC(ratios=(1.0, 1.0, *[0.9] * 38)), PATH, 40)
    assert plan.nfe == 40
    assert max(len(each.terms) for each in plan.instructions if isinstance(each, Combine)) <= 7


@pytest.mark.parametrize(("ratios", "words"), [((0.5,), "first 2 steps"), ((1, 1, float("nan")), "finite number")])
def test_ratios_that_mean_nothing_are_refused(ratios, words):
    with pytest.raises(AnydiffError, match=words):
        DCUniPC(ratios=ratios)


# The search -----------------------------------------------------------------------------------------------------------
def test_a_bounded_minimum():
    asked = []

    def function(x: float) -> float:
        asked.append(x)
        return (x - 1.234) ** 2 if x > 0.5 else float("nan")

    best, value = bounded_minimum(function, 0.3, 2.0, 1.0, 14)
    assert abs(best - 1.234) < 0.03
    assert value == (best - 1.234) ** 2
    assert len(asked) == len(set(asked)) <= 14
    assert bounded_minimum(lambda x: 0.0, 0.3, 2.0, 1.0)[0] == 1.0


def target() -> GaussianMixtureOracle:
    rng = np.random.default_rng(5)
    return GaussianMixtureOracle(PATH, torch.from_numpy(0.5 * rng.standard_normal((10, 16))), 0.15,
                                 torch.from_numpy(rng.dirichlet(np.full(10, 3.0))), torch.arange(10) // 5)  # fmt: skip


@functools.cache
def made() -> tuple[Artefact, int]:
    oracle = Counting(target())
    artefact = calibrate(oracle, (16,), DCSolver(), SETTING, {"name": "t16"})
    return artefact, len(oracle.calls)


def test_fresh_noises_decide_and_five_calls_gain():
    artefact, _ = made()
    entry = artefact.entry(5, "")
    assert not entry.dropped
    assert entry.ratio[2] < 1
    assert entry.ratio[0] < 0.8
    assert entry.search[0] < entry.search[1]
    assert entry.values["ratios"][:2].tolist() == [1, 1]


def test_a_candidate_costs_one_call():
    """The exact trajectory is travelled once on the search's noises and once on the fresh ones; each entry tells it."""
    artefact, calls = made()
    method = DCSolver()
    fine = len(refined(PATH, sorted({t for nfe in SETTING.nfe for t in time_grid(PATH, nfe, "log-snr")})[::-1])) - 1
    own = [entry.calls - fine for entry in artefact.entries]
    for entry, spent in zip(artefact.entries, own, strict=True):
        assert 0 < spent <= entry.nfe + (method.candidates + 1) * entry.nfe
    fresh = sum(entry.nfe * (1 if entry.dropped and spent == entry.nfe else 2)
                for entry, spent in zip(artefact.entries, own, strict=True))  # fmt: skip
    assert calls == sum(own) + fine + fresh + FINE


def test_guidance_has_an_entry_of_its_own():
    layers = [ClassifierFree(7.5)]
    setting = replace(SETTING, nfe=(5,), guidances=(layers,),
                      condition=lambda n: Conditioning({"label": torch.zeros(n, dtype=torch.long)}))  # fmt: skip
    artefact = calibrate(target(), (16,), DCSolver(), setting, {"name": "t16"})
    plan = plan_of_entry(artefact, DCSolver(), PATH, 5, layers)
    assert plan.nfe == 5
    with pytest.raises(AnydiffError, match=r"nothing for 5 calls with no guidance, but for: 5 calls with Classifier"):
        plan_of_entry(artefact, DCSolver(), PATH, 5, [])


def test_a_winner_that_is_no_better_is_dropped():
    """A point: every solver is exact there, so that nothing can be gained."""
    point = FunctionDenoiser(lambda x, t: torch.full_like(x, 0.3), PATH)
    artefact = calibrate(point, (2,), DCSolver(), replace(SETTING, nfe=(4,)), {"name": "point"})
    entry = artefact.entries[0]
    assert entry.dropped
    assert entry.values == {}
    plan = plan_of_entry(artefact, DCSolver(), PATH, 4, [])
    assert plan.instructions == compile_plan("unipc-2", PATH, 4, "log-snr").instructions


def without_clock(artefact: Artefact) -> Artefact:
    return replace(artefact, entries=[replace(entry, seconds=0.0) for entry in artefact.entries])


def test_a_search_that_was_killed_goes_on_to_the_same_bytes(tmp_path):
    file = tmp_path / "c.safetensors"

    class Killed(Exception):
        pass

    def report(sentence: str) -> None:
        if sentence.startswith("5 calls, step 4"):
            raise Killed

    with pytest.raises(Killed):
        calibrate(target(), (16,), DCSolver(), replace(SETTING, report=report), {"name": "t16"}, out=file)
    assert [entry.nfe for entry in Artefact.load(file).entries] == [4]
    calibrate(target(), (16,), DCSolver(), SETTING, {"name": "t16"}, out=file)
    for name, artefact in (("a", Artefact.load(file)), ("b", made()[0])):
        without_clock(artefact).save(tmp_path / f"{name}.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_limits_and_bad_input(tmp_path):
    file = tmp_path / "c.safetensors"
    with pytest.raises(AnydiffError, match="limit of 20 network calls"):
        calibrate(target(), (16,), DCSolver(), replace(SETTING, calls=20), {"name": "t16"}, out=file)
    with pytest.raises(AnydiffError, match="limit of 0 seconds"):
        calibrate(target(), (16,), DCSolver(), replace(SETTING, seconds=0.0), {"name": "t16"}, out=file)
    with pytest.raises(AnydiffError, match="identity is empty"):
        calibrate(target(), (16,), DCSolver(), SETTING, {})
    with pytest.raises(AnydiffError, match="names a number twice"):
        replace(SETTING, nfe=(5, 5))
    with pytest.raises(AnydiffError, match="at least one number"):
        replace(SETTING, nfe=())
    with pytest.raises(AnydiffError, match="unknown base of DC-Solver 'unipc-9'"):
        DCSolver(base="unipc-9")


# The artefact ---------------------------------------------------------------------------------------------------------
def test_the_file_keeps_every_bit_and_refuses_others(tmp_path):
    artefact, _ = made()
    file = tmp_path / "c.safetensors"
    artefact.save(file)
    again = Artefact.load(file)
    assert again.identity == artefact.identity
    for one, other in zip(again.entries, artefact.entries, strict=True):
        assert {k: v.tobytes() for k, v in one.values.items()} == {k: v.tobytes() for k, v in other.values.items()}
        assert (one.ratio, one.search, one.fresh, one.calls) == (other.ratio, other.search, other.fresh, other.calls)
    with pytest.raises(AnydiffError, match="made for the name t16, but this is other"):
        again.require({**artefact.identity, "name": "other"})
    with pytest.raises(AnydiffError, match="made for the name t16, but this is other"):
        calibrate(target(), (16,), DCSolver(), SETTING, {"name": "other"}, out=file)
    with pytest.raises(AnydiffError, match="not by 'dc'"):
        calibrate(target(), (16,), DCSolver(candidates=5), SETTING, {"name": "t16"}, out=file)
    before = file.read_bytes()
    file.write_bytes(before[:80])
    with pytest.raises(FileFormatError, match="truncated"):
        Artefact.load(file)
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(1)}, file, {"anydiff-calibration": json.dumps({"format": 99})})
    with pytest.raises(FileFormatError, match="format 99"):
        Artefact.load(file)
    for body in ({"format": 1}, {"format": 1, "entries": [3]}, {"format": 1, "entries": [{}]}):
        save_file({"a": np.zeros(1)}, file, {"anydiff-calibration": json.dumps(body)})
        with pytest.raises(FileFormatError, match="description is damaged"):
            Artefact.load(file)
    save_file({"a": np.zeros(1)}, file, {"anydiff-calibration": "[1]"})
    with pytest.raises(FileFormatError, match=r"\[1\]"):
        Artefact.load(file)
    save_file({"a": np.zeros(1)}, file)
    with pytest.raises(FileFormatError, match="holds no calibration"):
        Artefact.load(file)
