"""A solver in thirty lines that runs in every domain: Kutta's third-order method.

Try `anydiff --plugins-dir examples check kutta_solver`, or `anydiff --plugins-dir examples sample images/fashion
--solver kutta_solver --nfe 30`.
"""

from itertools import pairwise

from anydiff import hookimpl
from anydiff.solvers import Solver


@hookimpl
def register_solvers(register):
    facts = {"order": 3, "kind": "Runge-Kutta", "calls_per_step": 3, "stochastic": False, "source": "Kutta 1901"}
    register("kutta_solver", "Kutta's third-order method in time", "kutta_solver:Kutta", **facts)


class Kutta(Solver):
    order, calls_per_step = 3, 3

    def build(self, program, nodes):
        def slope(x, node):  # dx/dt = (σ'/σ) x + (α' - α σ'/σ) D
            rate = node.path.d_sigma(node.t) / node.sigma
            data = program.evaluate(x, node)
            return rate * x + (node.path.d_alpha(node.t) - node.alpha * rate) * data

        x = program.start()
        for s, t in pairwise(nodes):
            h = t.t - s.t
            first = slope(x, s)
            second = slope(x + h / 2 * first, program.node(s.t + h / 2))
            third = slope(x - h * first + 2 * h * second, t)
            x = x + h / 6 * (first + 4 * second + third)
        return x
