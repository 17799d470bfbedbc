"""Benchmark tasks on images, frozen in ``tasks.lock.json``."""

from __future__ import annotations

from anydiff.tasks import Task, restoration_metrics


def fashion() -> Task:
    """Class-conditional Fashion-MNIST on the bundled images, labels as in the held-out data."""
    return Task(name="images/fashion", version=1, recipe="images/fashion", samples=500, minimum_cases=160)


def inpaint() -> Task:
    """The right half of a held-out Fashion-MNIST picture from its left half, 64 pictures with 4 members each.

    No method is told the class.
    """
    return Task(
        name="images/inpaint", version=1, recipe="images/fashion", samples=256, members=4, minimum_cases=16,
        help="the right half of a picture from its left half, 64 pictures of 4 members",
        measured="anydiff_images.inpainting:left_half", told=(), metrics=restoration_metrics(),
        baselines={
            "mean picture": "anydiff_images.inpainting:mean_picture",
            "linear Gaussian": "anydiff_images.inpainting:linear_gaussian",
        },
    )  # fmt: skip


def fashion_2k() -> Task:
    """The same with as many samples as there are held-out images."""
    return Task(
        name="images/fashion-2k", version=1, recipe="images/fashion", samples=2000, tier="full", budget_seconds=300
    )
