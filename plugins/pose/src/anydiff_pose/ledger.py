"""Origin, licence and container of the motions this plugin renders. Imports nothing heavy."""

from __future__ import annotations

from anydiff.data import Container, LedgerRow

_AMP = "isaaclab_tasks/contrib/humanoid_amp/motions"
HUMANOID_MEMBERS = {name: f"{_AMP}/humanoid_{name}.npz" for name in ("walk", "run", "dance")}
"""Clip -> its file inside the wheel of isaaclab."""

HUMANOID = LedgerRow(
    name="pose/humanoid-video",
    title="Humanoid motion: walk (154 frames), run (82), dance (902) at 60 frames a second, 15 bodies, retargeted",
    licence="BSD-3-Clause, Copyright 2022-2026, The Isaac Lab Project Developers",
    origin="https://github.com/isaac-sim/IsaacLab, isaaclab_tasks humanoid_amp",
    citation="Peng et al. 2021, AMP: Adversarial Motion Priors, arXiv:2104.02180",
    bundled="positions of 15 joints in all 1,138 frames (motions.npz); the notice stands in motions.LICENSE",
    container=Container(
        kind="pypi",
        package="isaaclab",
        version="3.0.0",
        file="isaaclab-3.0.0-py3-none-any.whl",
        bytes=12395885,
        sha256="625f752c7dd912eb8efade85daeb7a8119d620266852380d17d8f9e701b80bca",
        members=tuple(HUMANOID_MEMBERS.values()),
    ),
    notes="frames are rendered from it, so key points and visibility are exact; the pictures are synthetic",
)

_CLIPS = (
    "walk", "run", "jump", "crawl", "cartwheel", "backflip", "roll", "kick", "spinkick", "punch", "spin", "dance_a",
    "dance_b", "getup_facedown", "getup_faceup",
)  # fmt: skip
DEEPMIMIC_MEMBERS = {name: f"pybullet_data/data/motions/humanoid3d_{name}.txt" for name in _CLIPS}
"""Clip -> its file inside the wheel of pybullet."""

DEEPMIMIC = LedgerRow(
    name="pose/deepmimic-video",
    title="DeepMimic: 15 clips of a humanoid (walk, run, jump, cartwheel, ...), 1,620 frames at 30 a second",
    licence="zlib (package); the clips MIT as part of DeepMimic, made from CMU and SFU motion capture",
    origin="https://github.com/bulletphysics/bullet3, pybullet_data; https://xbpeng.github.io/projects/DeepMimic",
    citation="Peng et al. 2018, DeepMimic, arXiv:1804.02717",
    container=Container(
        kind="pypi",
        package="pybullet",
        version="3.2.7",
        file="pybullet-3.2.7-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        bytes=103196742,
        sha256="5d858abf7c12a21ef3ed351cf81dac1b5e486ec25c9ab59bfc84beb89034edff",
        members=tuple(DEEPMIMIC_MEMBERS.values()),
    ),
    notes="103 MB are fetched for 1.4 MB of motion; nothing of the package is installed or run",
)
