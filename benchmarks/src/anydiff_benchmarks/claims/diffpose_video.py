"""DiffPose: steps, estimates and neighbouring frames, once with the exact posterior and once with trained networks.

A. One joint on 16x16 cells with a Gaussian heatmap; evidence are three noisy observations with outliers; D is the
   posterior mean by enumeration of the 256 positions. What one step, more steps and averaging do is then no matter of
   training.
B. A figure with five joints moves through three frames; something hides one limb's end at the keyframe. Small networks
   are trained as diffusion over three frames, as regression over three frames, and as regression on the keyframe.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anydiff.denoisers import FunctionDenoiser, NetworkDenoiser
from anydiff.denoisers.wrappers import Clamp
from anydiff.metrics import members_per_case
from anydiff.objectives import Denoising
from anydiff.paths import VPCosine
from anydiff.samplers import sample
from anydiff.states import ArrayCondition, Conditioning, Leaf, StateSpec
from anydiff.training import ObjectiveMethod, RunFolder, TrainingSettings, fit, load_into, load_weights
from anydiff_benchmarks.claims.base import Claim, Verdict

CLAIM = Claim(
    slug="diffpose_video",
    paper="Feng et al. 2023, DiffPose: SpatioTemporal Diffusion Model for Video-Based Human Pose Estimation, "
    "arXiv:2307.16687",
    says="neighbouring frames help (PoseTrack2017 mAP 86.4 against 81.2 to 84.8 of earlier video methods); averaging "
    "several estimates and taking more denoising steps improve the result, without training again",
    check="A: exact posterior of one joint, 300 cases: share within 4 cells after 1, 4 and 20 steps, alone and as mean "
    "heatmap of 5 and 20 estimates. B: a five-joint figure over three frames with one joint hidden at the keyframe, "
    "80,000 parameters, 300 test clips: share within 2 pixels.",
    threshold="A: one step within .02 of the posterior mean's maximum; at 20 steps one estimate loses at least .10 "
    "against 20 estimates, with 5 between. B: on the hidden joint diffusion over three frames beats keyframe "
    "regression by .05 (all seeds), on all joints it is at most .02 below three-frame regression (mean of seeds), and "
    "10 estimates at 4 steps are no worse than one (mean of seeds). The gain from more steps is judged by B alone: "
    "4 steps with 10 estimates against 1 step with one.",
    seeds=(0, 1, 2),
    needs=("anydiff-pose",),
    minutes=6,
    files=("anydiff_pose/diffpose.py", "anydiff_pose/networks.py", "anydiff_pose/heatmaps.py"),
    recipes=("pose/diffpose",),
)

# A. The exact posterior -----------------------------------------------------------------------------------------------

SIDE, SIGMA, CASES, WITHIN = 16, 1.5, 300, 4.0
OBSERVATIONS, SPREAD, OUTLIERS = 3, 2.5, 0.3


def places() -> NDArray[np.float64]:
    """All positions ``[256, 2]`` in cells."""
    return np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), axis=-1).reshape(-1, 2).astype(float)


def templates() -> Tensor:
    """The clean heatmap of each position, in [-1, 1]: float64 ``[256, 256]``."""
    squared = ((places()[:, None] - places()[None]) ** 2).sum(axis=-1)
    return torch.from_numpy(2 * np.exp(-squared / (2 * SIGMA**2)) - 1)


def evidence(seed: int) -> tuple[NDArray[np.int64], Tensor]:
    """True positions ``[cases]`` and log p(position | observations) ``[cases, 256]``."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(SIDE**2, size=CASES)
    shape = (CASES, OBSERVATIONS)
    noisy = places()[truth][:, None] + SPREAD * generator.normal(size=(*shape, 2))
    anywhere = generator.uniform(-0.5, SIDE - 0.5, (*shape, 2))
    seen = np.where((generator.uniform(size=shape) < OUTLIERS)[..., None], anywhere, noisy)
    squared = ((seen[:, :, None] - places()) ** 2).sum(axis=-1)
    inlier = np.exp(-squared / (2 * SPREAD**2)) / (2 * math.pi * SPREAD**2)
    return truth, torch.from_numpy(np.log((1 - OUTLIERS) * inlier + OUTLIERS / SIDE**2).sum(axis=1)).log_softmax(dim=1)


def posterior_mean(path: VPCosine) -> FunctionDenoiser:
    """E[x_0 | x_t, observations], exact, given the condition ``log_prior [B, 256]``."""
    clean = templates()
    norms = clean.square().sum(dim=1)

    def mean(x: Tensor, t: float, log_prior: Tensor) -> Tensor:
        alpha, sigma = path.alpha(t), path.sigma(t)
        # |x - α m|² without the |x|² that all positions share.
        distance = alpha**2 * norms - 2 * alpha * (x.flatten(1) @ clean.T)
        weight = torch.softmax(log_prior - distance / (2 * sigma**2), dim=1)
        return (weight @ clean).reshape(x.shape)

    return FunctionDenoiser(mean, path)


def share_within(heat: Tensor, truth: NDArray[np.int64]) -> float:
    """Share of cases whose heatmap ``[cases, 256]`` is greatest within 4 cells of the truth."""
    found = places()[heat.argmax(dim=1).numpy()]
    return float((np.linalg.norm(found - places()[truth], axis=1) <= WITHIN).mean())


def exact_numbers(seed: int) -> dict[str, float]:
    """Part A."""
    truth, log_prior = evidence(seed)
    denoiser = posterior_mean(VPCosine())
    numbers = {"exact_posterior_mean": share_within(log_prior.exp() @ templates(), truth)}
    for steps in (1, 4, 20):
        estimates = 20 if steps > 1 else 1
        drawn = sample(
            denoiser, (1, SIDE, SIDE), CASES * estimates, nfe=steps, solver="ddim", grid="time", seed=seed,
            condition={"log_prior": log_prior}, cases=CASES, dtype=torch.float64, batch_size=CASES * estimates,
        )  # fmt: skip
        members = members_per_case(drawn.flatten(1), CASES)
        for count in {1, min(5, estimates), estimates}:
            numbers[f"exact_{steps}_steps_{count}_estimates"] = share_within(members[:, :count].mean(dim=1), truth)
    return numbers


# B. Trained networks --------------------------------------------------------------------------------------------------

PIXELS, STRIDE, JOINTS, FRAMES, TEST = 32, 2, 5, 3, 300
NEAR = 2.0
COLOURS = np.array([[0.9, 0.9, 0.9], [0.9, 0.2, 0.2], [0.2, 0.8, 0.2], [0.25, 0.3, 0.95], [0.9, 0.8, 0.2]])


class MovingFigure:
    """A centre with four limbs of their own colours, turning and moving; a disc hides one limb's end at the keyframe.

    An example is a function of (seed, index) alone; states and conditions are those of the pose plugin in small.
    """

    def __init__(self, seed: int, size: int) -> None:
        self.name, self.hash = "moving-figure", f"{seed}/{size}"
        self.spec = StateSpec([Leaf("heatmaps", (JOINTS, PIXELS // STRIDE, PIXELS // STRIDE), range=(-1.0, 1.0))])
        self.conditions = {"frames": ArrayCondition((FRAMES, 3, PIXELS, PIXELS))}
        made = [self._example(seed, index) for index in range(size)]
        parts: list[NDArray[Any]] = [np.stack([each[part] for each in made]) for part in range(3)]
        self.frames, self.points, self.hidden = parts

    @staticmethod
    def _example(seed: int, index: int) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]]:
        from anydiff_pose.render import Occluder, paint_capsule

        generator = np.random.default_rng((seed, index))
        time = np.arange(FRAMES)[:, None] - FRAMES // 2
        centre = generator.uniform(12, 20, 2) + time * generator.normal(0, 1.0, 2)
        angle = generator.uniform(0, 2 * np.pi) + np.arange(4) * np.pi / 2 + generator.normal(0, 0.3, 4)
        angle = angle + time * generator.normal(0, 0.25, 4)
        tips = centre[:, None] + generator.uniform(5, 12, 4)[:, None] * np.stack(
            [np.cos(angle), np.sin(angle)], axis=-1
        )
        joints = np.concatenate([centre[:, None], tips], axis=1)
        hidden = int(generator.integers(1, JOINTS))
        step = generator.uniform(8, 11) * np.exp(1j * generator.uniform(0, 2 * np.pi))
        # The disc is not centred on what it hides, or its own place would tell.
        aside = 4.5 * np.sqrt(generator.uniform()) * np.exp(1j * generator.uniform(0, 2 * np.pi))
        path = (
            joints[FRAMES // 2, hidden] + np.array([aside.real, aside.imag]) + time * np.array([step.real, step.imag])
        )
        disc = Occluder(path, np.full(2, 6.0), np.full(3, 0.5), True)
        y = (np.arange(PIXELS, dtype=np.float32) + 0.5)[:, None]
        x = (np.arange(PIXELS, dtype=np.float32) + 0.5)[None, :]
        pictures = np.full((FRAMES, PIXELS, PIXELS, 3), 0.15, dtype=np.float32)
        for frame in range(FRAMES):
            for limb in range(1, JOINTS):
                ends = [np.append(joints[frame, joint], 0.0) for joint in (0, limb)]
                paint_capsule(pictures[frame], x, y, ends[0], ends[1], 1.2, COLOURS[limb])
        cover = np.clip(0.5 - disc.distance(x[None], y[None]), 0, 1)[..., None]
        pictures += (cover * (0.5 - pictures)).astype(np.float32)
        pictures += 0.05 * generator.standard_normal(pictures.shape, dtype=np.float32)
        return np.moveaxis(pictures * 2 - 1, -1, 1), joints[FRAMES // 2], np.array(hidden)

    def __len__(self) -> int:
        return len(self.points)

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Conditioning]:
        """States and frames."""
        from anydiff_pose.heatmaps import draw_heatmaps

        rows = list(indices)
        points = torch.from_numpy(self.points[rows])
        side = PIXELS // STRIDE
        drawn = draw_heatmaps(points, torch.ones(points.shape[:2], dtype=torch.bool), side, side, STRIDE, SIGMA)
        return (2 * drawn - 1).float(), Conditioning({"frames": torch.from_numpy(self.frames[rows])})


def trained(data: MovingFigure, seed: int, **options: bool) -> NetworkDenoiser:
    """A network of 80,000 parameters after 600 steps, its averaged weights."""
    from anydiff_pose.networks import VideoHeatmaps

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = VideoHeatmaps(data.spec, data.conditions, channels=16, width=32, heads=2, layers=1, **options)
    denoiser = NetworkDenoiser(network, VPCosine(), "data")
    settings = TrainingSettings(
        steps=600, batch_size=16, learning_rate=4e-3, warmup_steps=50, schedule="cosine", ema_decay=0.98, seed=seed
    )
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder) / "run", {"claim": CLAIM.slug}, {})
        fit(ObjectiveMethod(denoiser, Denoising("data")), data, settings, run)
        load_into(network, load_weights(run.path / "model.safetensors")[0], "the trained network")
    return denoiser.eval()


def correct(denoiser: NetworkDenoiser, data: MovingFigure, steps: int, estimates: int, seed: int) -> dict[str, float]:
    """Shares of key points within 2 pixels: of all joints, and of the hidden one."""
    from anydiff_pose.heatmaps import aggregate, decode_heatmaps

    _, condition = data.batch(range(len(data)))
    drawn = sample(
        denoiser, data.spec, len(data) * estimates, nfe=steps, solver="ddim", seed=seed, condition=condition,
        cases=len(data), guidance=Clamp(), batch_size=10 * len(data),
    )  # fmt: skip
    heat = aggregate((members_per_case(drawn, len(data)).double() + 1) / 2)
    found, _ = decode_heatmaps(heat, STRIDE)
    near = np.linalg.norm(found - data.points, axis=-1) <= NEAR
    return {"all": float(near.mean()), "hidden": float(near[np.arange(len(data)), data.hidden].mean())}


def measure(seed: int) -> dict[str, float]:
    """All numbers of one seed."""
    numbers = exact_numbers(seed)
    training, test = MovingFigure(2 * seed, 3000), MovingFigure(2 * seed + 1, TEST)
    diffusion = trained(training, seed)
    models = {
        "diffusion_1_step": (diffusion, 1, 1),
        "diffusion_4_steps": (diffusion, 4, 1),
        "diffusion_4_steps_10_estimates": (diffusion, 4, 10),
        "diffusion_1_step_10_estimates": (diffusion, 1, 10),
        "regression_3_frames": (trained(training, seed, reads_state=False), 1, 1),
        "regression_keyframe": (trained(training, seed, reads_state=False, neighbours=False), 1, 1),
    }
    for name, (denoiser, steps, estimates) in models.items():
        for joints, value in correct(denoiser, test, steps, estimates, seed).items():
            numbers[f"{name}_{joints}"] = value
    return numbers


def judge(rows: list[dict[str, float]]) -> Verdict:
    """By the threshold above."""

    def mean(name: str) -> float:
        return sum(row[name] for row in rows) / len(rows)

    one_step = max(abs(row["exact_1_steps_1_estimates"] - row["exact_posterior_mean"]) for row in rows)
    single, five, twenty = (mean(f"exact_20_steps_{count}_estimates") for count in (1, 5, 20))
    exact = one_step <= 0.02 and twenty - single >= 0.10 and single < five <= twenty
    gain = min(row["diffusion_1_step_hidden"] - row["regression_keyframe_hidden"] for row in rows)
    close = mean("diffusion_1_step_all") - mean("regression_3_frames_all")
    averaged = mean("diffusion_4_steps_10_estimates_all") - mean("diffusion_4_steps_all")
    refined = mean("diffusion_4_steps_10_estimates_all") - mean("diffusion_1_step_all")
    trained_well = gain >= 0.05 and close >= -0.02 and averaged >= 0
    sentence = (
        f"exact posterior: one step {mean('exact_1_steps_1_estimates'):.3f} (its mean's maximum "
        f"{mean('exact_posterior_mean'):.3f}), 20 steps {single:.3f} alone, {five:.3f} and {twenty:.3f} with 5 and 20 "
        f"estimates; trained: on the hidden joint {mean('diffusion_1_step_hidden'):.3f} against "
        f"{mean('regression_keyframe_hidden'):.3f} of keyframe regression (least gain {gain:+.3f}), all joints "
        f"{close:+.3f} against three-frame regression, 10 estimates {averaged:+.3f}, 4 steps with 10 estimates "
        f"{refined:+.3f} against one step"
    )
    if not (exact and trained_well):
        return Verdict("not reproduced", f"{sentence}.")
    if refined < 0:
        return Verdict("not at this scale", f"{sentence}; more steps did not help a decoder this small.")
    return Verdict("reproduced", f"{sentence}.")
