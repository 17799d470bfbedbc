"""Your own annotated video as a data set to train DiffPose on (here a rendered one, so that the example runs as it is).

Try `anydiff --plugins-dir examples train pose_own_video/small`. With files of your own a recipe is enough:

    dataset: {name: pose/annotated, options: {frames: my_video.mp4, annotations: my_keypoints.json}}
"""

from anydiff import hookimpl
from anydiff.recipes import load_recipe


@hookimpl
def register_datasets(register):
    register("pose_own_video", "people in one annotated video", "pose_own_video:own_video")


@hookimpl
def register_recipes(register):
    register("pose_own_video/small", "DiffPose, small, on that video", "pose_own_video:small")


def own_video(split="train"):
    from anydiff_pose.annotated import AnnotatedVideo
    from anydiff_pose.demo import rendered_video

    frames, poses = rendered_video(frames=24, people=2)  # or a path, and the path of a COCO file
    dataset = AnnotatedVideo(frames, poses, split)
    dataset.name = "pose_own_video"
    return dataset


def small():
    recipe = load_recipe("pose/diffpose", ["network.options={channels: 8, width: 16, heads: 2, layers: 1}"])
    return {**recipe.model_dump(mode="json"), "name": "pose_own_video/small", "dataset": "pose_own_video"}
