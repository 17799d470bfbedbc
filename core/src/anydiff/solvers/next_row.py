"""What a prediction counts for in the next row of a plan: how a shift of a state becomes a shift of its prediction."""

from __future__ import annotations

from anydiff.denoisers.kinds import conversion
from anydiff.paths.base import GaussianPath
from anydiff.solvers.plan import Coefficient, Combine, Evaluate, Plan


def data_coefficients(plan: Plan, path: GaussianPath, sigma_data: float = 1.0) -> dict[float, Coefficient]:
    """Time of each network call -> b, the coefficient of its data prediction D in the first row that reads it.

    A shift Δ of the state that this row makes is a shift Δ/b of D. Of a prediction of another kind the coefficient is
    that of the D it stands for. Left out are predictions that no row reads, or that b = 0 counts for nothing; of two
    calls at one time the first counts.

    Args:
        plan: compiled.
        path: for which it was compiled.
        sigma_data: of the denoiser, for predictions of kind ``edm``.
    """
    found: dict[float, Coefficient] = {}
    for place, call in enumerate(plan.instructions):
        if not isinstance(call, Evaluate) or call.t in found:
            continue
        _, factor = conversion(path, call.t, call.kind, "data", sigma_data)
        reading = (row for row in plan.instructions[place + 1 :] if isinstance(row, Combine) and call.out in row.inputs)
        row = next(reading, None)
        if row is not None:
            b = dict(row.terms)[call.out] / factor
            if not isinstance(b, float) or b:
                found[call.t] = b
    return found
