"""What is measured on volumes (:mod:`anydiff.tasks.task`)."""

from __future__ import annotations

from anydiff.tasks import Task


def sadm() -> Task:
    """The last of six frames from the earlier ones, half of those in between missing: two draws for 16 subjects."""
    return Task(
        name="volumes/sadm",
        version=2,
        recipe="volumes/next-frame",
        help="the last of six frames of a brain in motion from earlier ones, half of those in between missing",
        samples=32,
        members=2,
        minimum_cases=8,
        baselines={
            "last-frame": "anydiff_volumes.baselines:last_frame",
            "interpolation": "anydiff_volumes.baselines:interpolation",
            "population-mean": "anydiff_volumes.baselines:population_mean",
        },
    )


def brain_latent() -> Task:
    """Unconditional brains by latent diffusion, against training brains and their mean."""
    return Task(
        name="volumes/brain-latent",
        version=1,
        recipe="volumes/brain-latent",
        help="64 T1 brains at 6 mm, unconditional",
        samples=64,
        baselines={"population-mean": "anydiff_volumes.baselines:population_mean"},
        tier="full",
    )
