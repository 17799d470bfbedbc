"""SADM: a sequence with gaps says more of the next volume than one image does."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anydiff.states import Conditioning
from anydiff_benchmarks.claims.base import Claim, Verdict

if TYPE_CHECKING:
    from torch import Tensor

    from anydiff.pipeline import Pipeline

CLAIM = Claim(
    slug="sadm",
    paper="Yoon et al. 2023, IPMI, arXiv:2212.08228",
    says="on cardiac cine and longitudinal brain MRI, conditioning on a sequence by attention beats one source image "
    "and direct concatenation, also with missing frames, and more context frames help",
    check="oscillating ellipsoids of 8x16x16 voxels, 6 frames, noise 0.05 (600 training, 100 test sequences): PSNR and "
    "SSIM of the mean of 4 samples of frame 5 from the frames before it, all seen or half of the middle ones missing; "
    "against the same network on the latest frame alone, the latest frame itself, and voxel-wise extrapolation; with "
    "the context frames shuffled; and by rolling out frames 3, 4 and 5. Reported beside: all frames as channels in "
    "place of attention, and 4 draws of the exact posterior, which is what a perfect sampler has",
    threshold="mean over seeds: attention beats the latest-frame network by 1 dB and the latest frame by 2 dB with "
    "full context, is at least as good as the former with gaps, beats extrapolation in both; shuffling costs 1 dB; the "
    "roll-out from three frames loses at most 4 dB (the exact posterior itself loses 6) and beats the latest of them "
    "by 1 dB",
    seeds=(0, 1, 2),
    needs=("anydiff-volumes",),
    minutes=8,
    files=("anydiff_volumes/sadm.py", "anydiff_volumes/networks.py"),
    recipes=("volumes/sadm",),
)
MEMBERS = 4
STEPS = 900
TEST = 100
NFE = 12
ENCODERS = {"sequence": "attention", "single": "previous", "channels": "concatenation"}


def measure(seed: int) -> dict[str, float]:
    """PSNR in dB, SSIM and error of the radius in voxels of every method, with and without gaps."""
    import torch

    from anydiff_volumes import extrapolation
    from anydiff_volumes.ellipsoids import Ellipsoids, radius_of
    from anydiff_volumes.metrics import psnr, ssim

    models = {name: _trained(encoder, seed) for name, encoder in ENCODERS.items()}
    numbers: dict[str, float] = {}
    for gaps, missing in (("full", 0.0), ("gaps", 0.5)):
        data = Ellipsoids("test", test_size=TEST, missing=missing, seed=seed)
        truth, condition = data.batch(range(TEST))
        told = condition.given
        given = (told["frames"], told["seen"] > 0.5, told["times"], told["target_time"])
        guesses = {"latest": extrapolation.last_frame(*given), "extrapolation": extrapolation.interpolation(*given)}
        guesses |= {name: _mean(model, condition, seed) for name, model in models.items()}
        guesses["exact"] = _exact(data.sequences, given[1], seed)
        if gaps == "full":
            order = torch.tensor([3, 1, 4, 0, 2, 5])
            guesses["shuffled"] = _mean(models["sequence"], condition.with_given(frames=given[0][:, order]), seed)
        for name, guess in guesses.items():
            pairs = [(one.double().numpy(), two.double().numpy()) for one, two in zip(guess, truth[:, 0], strict=True)]
            numbers[f"psnr_{name}_{gaps}"] = statistics.fmean(psnr(*pair) for pair in pairs)
            numbers[f"ssim_{name}_{gaps}"] = statistics.fmean(ssim(*pair) for pair in pairs)
            error = (radius_of(guess) - radius_of(truth[:, 0])).abs()
            numbers[f"radius_{name}_{gaps}"] = float(error.mean())
    return numbers | _rolled_out(models["sequence"], seed)


def judge(rows: list[dict[str, float]]) -> Verdict:
    """The gates of the threshold, on the means over seeds."""
    mean = {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}
    gates = {
        "over the latest-frame network": mean["psnr_sequence_full"] - mean["psnr_single_full"] - 1,
        "over the latest frame": mean["psnr_sequence_full"] - mean["psnr_latest_full"] - 2,
        "over the latest-frame network with gaps": mean["psnr_sequence_gaps"] - mean["psnr_single_gaps"],
        "over extrapolation": mean["psnr_sequence_full"] - mean["psnr_extrapolation_full"],
        "over extrapolation with gaps": mean["psnr_sequence_gaps"] - mean["psnr_extrapolation_gaps"],
        "by the order of frames": mean["psnr_sequence_full"] - mean["psnr_shuffled_full"] - 1,
        "by the roll-out": 4 - (mean["psnr_sequence_full"] - mean["psnr_rollout"]),
        "by the roll-out over its start": mean["psnr_rollout"] - mean["psnr_start_rollout"] - 1,
    }
    failed = [name for name, margin in gates.items() if not margin >= 0]
    text = (
        f"PSNR {mean['psnr_sequence_full']:.2f} dB with all frames and {mean['psnr_sequence_gaps']:.2f} with gaps; "
        f"latest-frame network {mean['psnr_single_full']:.2f} and {mean['psnr_single_gaps']:.2f}, latest frame "
        f"{mean['psnr_latest_full']:.2f}, extrapolation {mean['psnr_extrapolation_full']:.2f} and "
        f"{mean['psnr_extrapolation_gaps']:.2f}, shuffled {mean['psnr_shuffled_full']:.2f}; rolled out "
        f"{mean['psnr_rollout']:.2f}, the frame it starts from {mean['psnr_start_rollout']:.2f}; frames as channels "
        f"{mean['psnr_channels_full']:.2f} and {mean['psnr_channels_gaps']:.2f}; exact posterior "
        f"{mean['psnr_exact_full']:.2f}, {mean['psnr_exact_gaps']:.2f}, rolled out {mean['psnr_exact_rollout']:.2f}"
    )
    if failed:
        return Verdict("not reproduced", f"{text}; failed: {', '.join(failed)}.")
    return Verdict("reproduced", f"{text}.")


def _trained(encoder: str, seed: int) -> Pipeline:
    """The small network on 600 sequences, trained for this seed."""
    from anydiff.pipeline import train
    from anydiff.recipes import load_recipe

    domain = {"name": "volumes", "options": {"shape": [8, 16, 16], "voxel_size": 1.0, "frames": 6}}
    network: dict[str, Any] = {"encoder": encoder, "channels": 16, "multipliers": [1, 2], "patch_size": 2, "width": 32}
    network |= {"spread": 0.3, "sigma_data": 0.3}
    changes = [
        f"domain={domain}",
        f"dataset={{name: volumes/ellipsoids, options: {{seed: {seed}}}}}",
        f"network.options={network}",
        "parametrization=data",
        "sigma_data=0.3",
        f"training.steps={STEPS}",
        "training.batch_size=16",
        "training.noise_levels=2",
        "training.learning_rate=0.003",
        "training.precision=32-true",
        "training.condition_dropout=0",
        "training.checkpoint_every=100000",
        f"training.seed={seed}",
    ]
    with tempfile.TemporaryDirectory() as folder:
        return train(load_recipe("volumes/sadm", changes), Path(folder) / "run")


def _mean(pipeline: Pipeline, condition: Conditioning, seed: int) -> Tensor:
    """The mean of a few samples per case, ``[B, X, Y, Z]``."""
    from anydiff.metrics import members_per_case

    samples = pipeline.sample_set(MEMBERS * TEST, condition=condition, cases=TEST, nfe=NFE, seed=seed, batch_size=64)
    return members_per_case(samples.states, TEST).mean(dim=1)[:, 0]


def _exact(frames: Tensor, seen: Tensor, seed: int) -> Tensor:
    """The mean of as many draws of frame 5 from the exact posterior."""
    from anydiff_volumes.ellipsoids_posterior import PARTICLES, draw_courses, draw_frames

    radii = draw_courses(frames, seen, seed)[:, :: PARTICLES // MEMBERS, -1]
    return draw_frames(radii, seed).mean(dim=1)


def _rolled_out(pipeline: Pipeline, seed: int) -> dict[str, float]:
    """PSNR of frame 5 when frames 3, 4 and 5 are drawn one after the other from frames 0 to 2.

    Beside: frame 2 itself, and the exact posterior, whose draws one after the other have the law of the joint one.
    """
    import torch

    from anydiff_volumes import sadm
    from anydiff_volumes.ellipsoids import Ellipsoids
    from anydiff_volumes.metrics import psnr

    data = Ellipsoids("test", test_size=TEST, seed=seed)
    seen = torch.zeros(TEST, data.frames, dtype=torch.bool)
    seen[:, :3] = True
    times = data.times.expand(TEST, -1)
    last = torch.zeros(TEST, *data.sequences.shape[2:])
    for member in range(MEMBERS):
        numbers = range(member * TEST, (member + 1) * TEST)
        done = sadm.generate(pipeline, data.sequences, seen, times, seed=seed, samples=numbers, nfe=NFE, batch_size=64)
        last += done.values[:, -1] / MEMBERS
    guesses = {"rollout": last, "start_rollout": data.sequences[:, 2]}
    guesses["exact_rollout"] = _exact(data.sequences, seen, seed)
    truth = data.sequences[:, -1].double().numpy()
    return {
        f"psnr_{name}": statistics.fmean(psnr(*pair) for pair in zip(guess.double().numpy(), truth, strict=True))
        for name, guess in guesses.items()
    }
