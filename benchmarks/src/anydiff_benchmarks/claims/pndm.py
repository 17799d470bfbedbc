"""PNDM: pseudo linear multistep at 50 calls against DDIM at 250 and 1000."""

from __future__ import annotations

from anydiff_benchmarks.claims._ode_targets import distance, mean
from anydiff_benchmarks.claims.base import Claim, Verdict

CLAIM = Claim(
    slug="pndm",
    paper="Liu et al. 2022, Pseudo numerical methods for diffusion models on manifolds, ICLR 2022, arXiv:2202.09778",
    says="50 steps are better than 1000 of DDIM: 20 times faster.",
    check="PLMS (improved Euler start) at 50 calls against DDIM at 250 and 1000, uniform times: root mean "
    "square distance "
    "from the exact end on mixtures in 2, 16 and 64 dimensions with exact score, 100 starts.",
    threshold="Means over the seeds: PLMS at 50 calls at most 0.7 of DDIM at 1000 on G64 and W2, and at "
    "most 0.3 of DDIM "
    "at 250 on G64, W2 and G16. G2, whose modes are sharp, is reported only.",
    seeds=(0, 1, 2),
    minutes=1,
    files=("anydiff/solvers/pndm.py",),
    recipes=("images/fashion sampling.solver.name=f-pndm",),
)
TARGETS = ("G2", "W2", "G16", "G64")


def measure(seed: int) -> dict[str, float]:
    """Distances on uniform times."""
    numbers = {}
    for name in TARGETS:
        numbers[f"{name} plms 50"] = distance(name, seed, 100, "plms", 50, "time")
        for nfe in (250, 1000):
            numbers[f"{name} ddim {nfe}"] = distance(name, seed, 100, "ddim", nfe, "time")
    return numbers


def judge(rows: list[dict[str, float]]) -> Verdict:
    """PLMS over DDIM."""

    def ratio(name: str, nfe: int) -> float:
        return mean(rows, f"{name} plms 50") / mean(rows, f"{name} ddim {nfe}")

    holds = all(0 < ratio(name, 1000) <= 0.7 for name in ("G64", "W2")) and all(
        0 < ratio(name, 250) <= 0.3 for name in ("G64", "W2", "G16")
    )
    return Verdict(
        "reproduced" if holds else "not reproduced",
        f"PLMS at 50 calls over DDIM at 1000 on {', '.join(TARGETS)}: "
        f"{', '.join(f'{ratio(name, 1000):.2f}' for name in TARGETS)}; over DDIM at 250: "
        f"{', '.join(f'{ratio(name, 250):.2f}' for name in TARGETS)}.",
    )
