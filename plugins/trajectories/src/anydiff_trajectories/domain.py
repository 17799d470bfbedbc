"""The domain of trajectories: the codec with pictures, and trials of the agent that plans with a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anydiff_trajectories.codec import PLANNING, TrajectoryCodec
from anydiff_trajectories.episodes import Episode

if TYPE_CHECKING:
    from anydiff.domains import Report
    from anydiff.metrics import Score
    from anydiff.pipeline import Pipeline

__all__ = ["PLANNING", "Trajectories"]


class Trajectories(TrajectoryCodec):
    """Windows of ``horizon`` rows, each row the normalised parts in order; options as of
    :class:`~anydiff_trajectories.codec.TrajectoryCodec`."""

    def evaluate(
        self, pipeline: Pipeline, count: int, *, seed: int = 0, report: Report | None = None, **options: Any
    ) -> dict[str, Score]:
        """Return, success and time per decision of :class:`~anydiff_trajectories.policy.DiffusionPolicy`.

        Nothing without an environment, or for a model that cannot act (no known start, no actions).

        Args:
            pipeline: the model.
            count: episodes.
            seed: of tasks and plans.
            report: told the progress.
            options: of the policy (``replan_every``, ``warm_start``, ...) and of the sampler.
        """
        if not self.environment or "start" not in self.known or "action" not in self.layout:
            return {}
        from anydiff_trajectories.policy import DiffusionPolicy
        from anydiff_trajectories.rollout import roll_out, scores_of

        given = {name: value for name, value in options.items() if value is not None and name != "condition"}
        policy = DiffusionPolicy(pipeline, seed=seed, **given)
        rollouts = roll_out(policy, self.environment, count, seed=seed, options=self.environment_options, report=report)
        return scores_of(rollouts, self.environment)

    def draw(self, objects: Sequence[Episode], path: str | Path, titles: Sequence[str] | None = None) -> None:
        """Plans over the maze, or observations against time where there is no maze (PNG)."""
        from anydiff_trajectories.pictures import draw_episodes

        draw_episodes(objects, Path(path), titles, self)
