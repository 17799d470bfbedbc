"""Constants that a plan owns, arrays that broadcast, plans in files, runs that stop and go on, and starts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from exact import Counting, gaussian, mixture

from anydiff.denoisers import GaussianOracle
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.paths import EDM, ProductPath, VPCosine, VPLinear
from anydiff.samplers import sample
from anydiff.solvers import (
    Fixed,
    Plan,
    Prior,
    PriorAt,
    Solver,
    advance,
    build_plan,
    compile_plan,
    execute,
    resume,
    shared,
)
from anydiff.states import Leaf, StateSpec

PATH = VPLinear()
CENTRE = np.array([0.3, -0.2])


@dataclass(frozen=True)
class Centred(Solver):
    """DDIM on y = x - μ with μ a constant of the plan, and weights that are arrays: one value per entry."""

    order = 1

    def build(self, program, nodes):
        x = program.start()
        centre = program.constant("centre", program.part(CENTRE))
        slow = program.part(np.array([1.0, 0.999]))
        for s, t in itertools.pairwise(nodes):
            y = x - s.alpha * centre
            data = program.evaluate(x, s) - centre
            y = t.alpha * data + t.sigma / s.sigma * (y - s.alpha * data)
            x = slow * y + t.alpha * slow * centre + (1.0 - slow) * t.alpha * centre
        return x


def expected(plan: Plan, oracle, start: torch.Tensor) -> torch.Tensor:
    """The same in plain arithmetic."""
    centre, slow = torch.from_numpy(CENTRE), torch.tensor([1.0, 0.999], dtype=torch.float64)
    x = start
    for s, t in itertools.pairwise(plan.nodes):
        data = oracle(x, s) - centre
        y = x - PATH.alpha(s) * centre
        y = PATH.alpha(t) * data + PATH.sigma(t) / PATH.sigma(s) * (y - PATH.alpha(s) * data)
        x = slow * y + PATH.alpha(t) * centre
    return x


def test_a_plan_brings_its_constants_and_arrays(tmp_path):
    oracle = mixture(PATH)
    start = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plan = compile_plan(Centred(), PATH, 4, end="stop")
    assert set(plan.values) == {"centre"}
    assert plan.constants == ()
    torch.testing.assert_close(execute(plan, oracle, start), expected(plan, oracle, start), rtol=0, atol=1e-13)
    torch.testing.assert_close(
        execute(plan, oracle, start, differentiable=True), expected(plan, oracle, start), rtol=0, atol=1e-13
    )
    file = tmp_path / "plan.safetensors"
    plan.save(file)
    for again in (Plan.load(file), Plan.from_json(plan.to_json())):
        assert again.to_json() == plan.to_json()
        assert torch.equal(execute(again, oracle, start), execute(plan, oracle, start))


@pytest.mark.parametrize("value", [0.1, 1 / 3, 5e-324, 1e308, -0.0])
def test_every_bit_is_kept(value, tmp_path):
    plan = compile_plan("ddim", PATH, 2)
    first = plan.instructions[1]
    odd = replace(first, terms=((first.terms[0][0], np.array([value, np.nextafter(value, 2)])), *first.terms[1:]))
    made = replace(
        plan, instructions=(plan.instructions[0], odd, *plan.instructions[2:]), values={"c": np.array(value)}
    )
    made.save(tmp_path / "a.safetensors")
    back = Plan.load(tmp_path / "a.safetensors")
    assert back.instructions[1].terms[0][1].tobytes() == odd.terms[0][1].tobytes()
    assert back.values["c"].tobytes() == np.array(value).tobytes()
    made.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_what_is_no_plan_is_refused(tmp_path):
    file = tmp_path / "plan.safetensors"
    with pytest.raises(FileFormatError, match="missing, truncated"):
        Plan.load(file)
    compile_plan("ddim", PATH, 3).save(file)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(FileFormatError, match="missing, truncated"):
        Plan.load(file)
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(2)}, file)
    with pytest.raises(FileFormatError, match="holds no plan"):
        Plan.load(file)


def test_constants_that_clash_are_refused():
    @dataclass(frozen=True)
    class Twice(Solver):
        order = 1

        def build(self, program, nodes):
            program.constant("c", 1.0)
            return program.start() + program.constant("c", 2.0)

    with pytest.raises(AnydiffError, match="'c' has another value already"):
        build_plan(Twice(), PATH, [1.0, 0.5], end="stop")
    with pytest.raises(AnydiffError, match="not finite"):
        replace(compile_plan("ddim", PATH, 2), values={"c": np.array([np.nan])})


def test_each_leaf_of_a_product_gets_its_part():
    spec = StateSpec([Leaf("a", (1,)), Leaf("b", (1,))])
    path = ProductPath((("a", VPLinear()), ("b", VPCosine(t_start=1.0)))).bind(spec)
    plan = compile_plan(Centred(), path, 3, "time", end="stop")
    assert plan.values["centre"].tolist() == CENTRE.tolist()
    oracle = GaussianOracle(path, torch.tensor([0.3, -0.2], dtype=torch.float64), 0.09)
    start = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    whole = execute(plan, oracle, start)
    alone = []
    for place, (_, own) in enumerate(path.leaves):
        # Leaves of a Gaussian with independent entries do not see one another.
        inner = GaussianOracle(own, torch.tensor([CENTRE[place]], dtype=torch.float64), 0.09)

        @dataclass(frozen=True)
        class Alone(Solver):
            order = 1

            def build(self, program, nodes, place=place):
                x, c = program.start(), program.constant("centre", CENTRE[place : place + 1])
                slow = np.array([1.0, 0.999])[place : place + 1]
                for s, t in itertools.pairwise(nodes):
                    y, data = x - s.alpha * c, program.evaluate(x, s) - c
                    y = t.alpha * data + t.sigma / s.sigma * (y - s.alpha * data)
                    x = slow * y + t.alpha * slow * c + (1.0 - slow) * t.alpha * c
                return x

        alone.append(execute(build_plan(Alone(), own, plan.nodes, "stop"), inner, start[:, place : place + 1]))
    torch.testing.assert_close(whole, torch.cat(alone, 1), rtol=0, atol=1e-12)

    @dataclass(frozen=True)
    class Wrong(Centred):
        def build(self, program, nodes):
            program.constant("centre", np.zeros(3))
            return super().build(program, nodes)

    with pytest.raises(AnydiffError, match=r"shape \(3,\) does not fit the leaf 'a'"):
        compile_plan(Wrong(), path, 3, "time")


@pytest.mark.parametrize("solver", ["unipc-3", "velocity-adams", "heun", "by-budget"])
def test_a_run_stops_at_any_instruction_and_goes_on(solver):
    oracle = Counting(mixture(PATH))
    start = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    plan = compile_plan(solver, PATH, 7)
    whole = execute(plan, oracle, start)
    for stop in range(len(plan.instructions) + 1):
        oracle.calls.clear()
        begun = advance(plan, oracle, start, stop)
        assert begun.calls == len(oracle.calls)
        assert torch.equal(resume(plan, oracle, begun), whole)
        assert len(oracle.calls) == plan.nfe
        twice = advance(plan, oracle, begun, len(plan.instructions))
        assert torch.equal(resume(plan, oracle, twice), whole)


def test_plans_that_begin_alike_share_their_calls():
    oracle = Counting(mixture(PATH))
    start = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    nodes = [1.0, 0.7, 0.4, 0.2, 0.05]
    one, other = (build_plan(compile_solver(), PATH, [*nodes, last]) for last in (0.01, 0.001))
    begin = shared(one, other)
    begun = advance(one, oracle, start, begin)
    assert begun.calls == 5
    oracle.calls.clear()
    for plan in (one, other):
        assert torch.equal(resume(plan, oracle, begun), execute(plan, mixture(PATH), start))
    assert oracle.calls == []
    with pytest.raises(AnydiffError, match="begins otherwise"):
        resume(compile_plan("ddim", PATH, 5), oracle, begun)
    with pytest.raises(AnydiffError, match="until is 99"):
        advance(one, oracle, start, 99)


def compile_solver() -> Solver:
    from anydiff.solvers import DPMSolverPP

    return DPMSolverPP(2)


def test_starts_keep_to_the_samples_streams():
    oracle = gaussian(PATH)
    usual = sample(oracle, (2,), 6, nfe=5, seed=4)
    assert torch.equal(sample(oracle, (2,), 6, nfe=5, seed=4, start=Prior()), usual)
    later = PriorAt(0.4)
    grid = [0.4, 0.2, 0.1, 0.03, 0.004, 0.001]
    six = sample(oracle, (2,), 6, nfe=5, seed=4, start=later, grid=grid)
    some = sample(oracle, (2,), [4, 1], nfe=5, seed=4, start=later, grid=grid, batch_size=1)
    torch.testing.assert_close(some, six[[4, 1]])
    with pytest.raises(AnydiffError, match="starts at t=1, but PriorAt"):
        sample(oracle, (2,), 6, nfe=5, start=later)
    one = sample(oracle, (2,), 3, nfe=5, start=Fixed(torch.tensor([0.5, -1.0])))
    assert torch.equal(one[0], one[2])
    assert torch.equal(one[:1], sample(oracle, (2,), 1, nfe=5, start=torch.tensor([[0.5, -1.0]])))
    with pytest.raises(AnydiffError, match="without an axis of samples"):
        sample(oracle, (2,), 3, nfe=5, start=Fixed(torch.zeros(3, 2)))


def test_the_scale_of_a_later_start():
    class Ones:
        def draw(self, samples, draw, dtype, device):
            return torch.ones(len(samples), 2, dtype=dtype)

    like = torch.empty(0, 2, dtype=torch.float64)
    from anydiff.states import Conditioning

    for path, scale in ((PATH, 1.0), (EDM(), (1 + 9) ** 0.5)):
        t = 0.3 if path is PATH else 3.0
        made = PriorAt(t).states(path, range(2), Ones(), Conditioning(), like)
        torch.testing.assert_close(made, torch.full((2, 2), scale, dtype=torch.float64))
