"""Score-SDE's correctors at equal cost: does a Langevin step buy more than a second predictor step?"""

from __future__ import annotations

from anydiff_benchmarks.claims._correctors import distance
from anydiff_benchmarks.claims._ode_targets import mean
from anydiff_benchmarks.claims.base import Claim, Verdict

CLAIM = Claim(
    slug="score_sde_equal_cost",
    paper="Song et al. 2021, Score-based generative modeling through SDEs, ICLR 2021, arXiv:2011.13456, table 1",
    says="A predictor with a corrector (PC1000) gives better samples than the predictor alone with twice the steps "
    "(P2000), on VE and on VP.",
    check="Energy distance to 3,000 data of 1,500 samples, exact score, mixtures in 2 and 16 dimensions: the "
    "probability-flow predictor with one Langevin step per node at N nodes against the predictor alone at 2 "
    "N nodes; VE "
    "with 60 calls and VP with 200.",
    threshold="Mean over the seeds with the corrector below that without, on both paths and both targets.",
    seeds=(0, 1, 2),
    minutes=1,
    files=("anydiff/solvers/predictor_corrector.py",),
    recipes=("images/fashion sampling.solver.name=predictor-corrector",),
)
CALLS = {"ve": 60, "vp": 200}
TARGETS = ("G2", "G16")


def measure(seed: int) -> dict[str, float]:
    """Energy distances at equal calls."""
    numbers = {}
    for path, calls in CALLS.items():
        for target in TARGETS:
            numbers[f"{path} {target} alone"] = distance(path, target, 0, calls, seed)
            numbers[f"{path} {target} corrected"] = distance(path, target, 1, calls // 2, seed)
    return numbers


def judge(rows: list[dict[str, float]]) -> Verdict:
    """Corrected below alone, everywhere."""
    pairs = {
        f"{path} {target}": (mean(rows, f"{path} {target} corrected"), mean(rows, f"{path} {target} alone"))
        for path in CALLS
        for target in TARGETS
    }
    holds = all(0 < corrected < alone for corrected, alone in pairs.values())
    text = ", ".join(f"{name} {corrected:.4f} against {alone:.4f}" for name, (corrected, alone) in pairs.items())
    return Verdict(
        "reproduced" if holds else "not reproduced",
        f"Energy distance with the corrector against the predictor alone at equal calls: {text}.",
    )
