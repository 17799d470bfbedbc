"""UniPC against DPM-Solver++(2M) at equal calls (the dynamic compensation of DC-Solver is another claim's)."""

from __future__ import annotations

from anydiff_benchmarks.claims._ode_targets import distance, mean
from anydiff_benchmarks.claims.base import Claim, Verdict

CLAIM = Claim(
    slug="dc_solver_unipc",
    paper="Zhao et al. 2023, UniPC, NeurIPS 2023, arXiv:2302.04867 (the base of DC-Solver, arXiv:2409.03755)",
    says="A corrector at no call raises the order by one: CIFAR-10 FID 3.87 at 10 calls, better than DPM-Solver++.",
    check="UniPC-2 and UniPC-3 (data prediction, bh2) against DPM-Solver++(2M) on a log-SNR grid: root mean square "
    "distance from the exact end on mixtures in 2, 16 and 64 dimensions with exact score, 200 starts. DC-Solver's "
    "compensation is not measured here.",
    threshold="Means over the seeds: UniPC-2 at most 0.92 of 2M at 10 calls and 0.75 at 15 on W2, G16 and "
    "G64; UniPC-3 at "
    "most 0.3 of 2M at 50 calls on W2 and G16.",
    seeds=(0, 1, 2),
    minutes=0.5,
    files=("anydiff/solvers/uni_pc.py",),
    recipes=("images/fashion sampling.solver.name=unipc-2",),
)
TARGETS = ("W2", "G16", "G64")


def measure(seed: int) -> dict[str, float]:
    """Distances of the three solvers."""
    numbers = {}
    for name in TARGETS:
        for nfe in (10, 15, 50):
            for solver in ("dpm-solver++-2m", "unipc-2", "unipc-3"):
                numbers[f"{name} {solver} {nfe}"] = distance(name, seed, 200, solver, nfe, "log-snr")
    return numbers


def judge(rows: list[dict[str, float]]) -> Verdict:
    """UniPC over 2M."""

    def ratio(name: str, solver: str, nfe: int) -> float:
        return mean(rows, f"{name} {solver} {nfe}") / mean(rows, f"{name} dpm-solver++-2m {nfe}")

    holds = all(
        0 < ratio(name, "unipc-2", 10) <= 0.92 and 0 < ratio(name, "unipc-2", 15) <= 0.75 for name in TARGETS
    ) and all(0 < ratio(name, "unipc-3", 50) <= 0.3 for name in ("W2", "G16"))

    def text(solver: str, nfe: int) -> str:
        return ", ".join(f"{ratio(name, solver, nfe):.2f}" for name in TARGETS)

    return Verdict(
        "reproduced" if holds else "not reproduced",
        f"Distance over 2M's on {', '.join(TARGETS)}: UniPC-2 {text('unipc-2', 10)} at 10 calls, "
        f"{text('unipc-2', 15)} at "
        f"15; UniPC-3 {text('unipc-3', 50)} at 50.",
    )
