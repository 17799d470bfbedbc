"""Roll-outs of Gymnasium's Humanoid as motions, where more of them is wanted than was ever captured.

The policy is random torque, held for a tenth of a second: the figure stumbles, flails and falls. So these are limbs in
motion under physics with exact joints, as many as one likes; they are no walking, and no captured motion.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from anydiff.domains import Domain
from anydiff.domains.kit import missing, require
from anydiff.errors import AnydiffError, natural_number
from anydiff_pose.data import HumanoidVideo
from anydiff_pose.motion import FPS, Array, Clip
from anydiff_pose.skeletons import load_skeleton

HINGES = {
    f"{side}_{joint}": f"{side}_{hinge}" for side in ("right", "left") for joint, hinge in (
        ("shoulder", "shoulder1"), ("elbow", "elbow"), ("hip", "hip_x"), ("knee", "knee"),
    )
}  # fmt: skip
"""Joint of the skeleton -> the hinge of MuJoCo's humanoid whose anchor it is; between two lies a limb of one length."""
BODIES = {"pelvis": "pelvis", "right_ankle": "right_foot", "left_ankle": "left_foot"}
"""Joint -> the body whose origin it is."""
GEOMETRIES = {"head": "head", "right_wrist": "right_hand", "left_wrist": "left_hand"}
"""Joint -> the geometry whose centre it is. The neck is the middle of the shoulders."""
HELD = 7
"""Steps of 0.015 s for which a torque is held."""


def humanoid_rollouts(episodes: int = 24, seconds: float = 1.5, seed: int = 0) -> list[Clip]:
    """``episodes`` motions of ``seconds`` each at 60 frames a second, a pure function of the arguments.

    Raises:
        AnydiffError: gymnasium or mujoco is not installed, or an argument is out of range.
    """
    natural_number("episodes", episodes)
    if not seconds > 0:
        raise AnydiffError(f"seconds is {seconds}, but must be positive.")
    environment = _humanoid()
    steps = int(np.ceil(seconds / environment.unwrapped.dt)) + 1
    clips = []
    for episode in range(episodes):
        generator = np.random.default_rng((seed, episode))
        environment.reset(seed=int(generator.integers(2**31)))
        places = [_joints(environment.unwrapped.data)]
        for step in range(steps - 1):
            if step % HELD == 0:
                torque = generator.uniform(environment.action_space.low, environment.action_space.high)
            environment.step(torque.astype(np.float32))
            places.append(_joints(environment.unwrapped.data))
        clips.append(Clip(f"rollout_{episode}", _at_frames(np.stack(places), environment.unwrapped.dt, seconds)))
    environment.close()
    return clips


def _humanoid() -> Any:
    what, install = "rolling out a humanoid", "anydiff-pose[rollouts]"
    gymnasium = require("gymnasium", what, install)
    try:
        return gymnasium.make("Humanoid-v5", terminate_when_unhealthy=False, max_episode_steps=10**6)
    except (gymnasium.error.DependencyNotInstalled, AttributeError) as error:
        # A missing mujoco is either of these, by version.
        raise missing(what, "gymnasium with mujoco", install, reason=str(error)) from error


def _joints(data: Any) -> Array:
    places = {joint: data.joint(name).xanchor for joint, name in HINGES.items()}
    places |= {joint: data.body(name).xpos for joint, name in BODIES.items()}
    places |= {joint: data.geom(name).xpos for joint, name in GEOMETRIES.items()}
    places["neck"] = (places["right_shoulder"] + places["left_shoulder"]) / 2
    return np.array([places[joint] for joint in load_skeleton("humanoid15").joints])


def _at_frames(places: Array, step: float, seconds: float) -> Array:
    """Positions ``[T, 15, 3]`` at 60 frames a second, linearly between the simulation's steps."""
    wanted = np.arange(0.0, seconds - 1e-9, 1 / FPS)
    known = np.arange(len(places)) * step
    flat = [np.interp(wanted, known, column) for column in places.reshape(len(places), -1).T]
    return np.stack(flat, axis=1).reshape(-1, *places.shape[1:])


class RolloutVideo(HumanoidVideo):
    """As :class:`~anydiff_pose.data.HumanoidVideo`, from roll-outs of Gymnasium's Humanoid.

    Args:
        split: ``train`` or ``test``; the last quarter of every roll-out is for testing.
        episodes: roll-outs.
        seconds: length of each.
        seed: of roll-outs and pictures.
        domain: the recipe's; see :class:`~anydiff_pose.data.HumanoidVideo`.
        options: ``size`` and ``scene`` of :class:`~anydiff_pose.data.HumanoidVideo`.
    """

    name = "pose/rollout-video"

    def __init__(
        self,
        split: Any = "train",
        episodes: int = 24,
        seconds: float = 1.5,
        seed: int = 0,
        domain: Domain | dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        clips = humanoid_rollouts(episodes, seconds, seed)
        super().__init__(split, seed=seed, domain=domain, clips=clips, **options)
