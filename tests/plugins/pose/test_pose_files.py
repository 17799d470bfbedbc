"""Skeletons, COCO and PoseTrack files, frames, crops: what goes in comes out, and what is wrong is named."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff_pose.coco import read_poses, write_poses
from anydiff_pose.crops import Crop, whole_frame_crops, windows
from anydiff_pose.domain import Poses
from anydiff_pose.poses import Pose
from anydiff_pose.skeletons import Skeleton, load_skeleton, skeleton_names
from anydiff_pose.video import read_frames

SKELETON = load_skeleton("humanoid15")


def pose(seed=0, **options):
    generator = np.random.default_rng(seed)
    points = generator.uniform(0, 1, (15, 2)) * (48, 64)
    return Pose(points, generator.integers(0, 3, 15), generator.uniform(0, 1, 15), **options)


# Skeletons


@pytest.mark.parametrize("name", skeleton_names())
def test_skeletons_are_sound(name):
    skeleton = load_skeleton(name)
    assert skeleton.name == name
    mirror = skeleton.mirror
    assert (mirror[mirror] == np.arange(len(skeleton))).all()
    for one, other in skeleton.pairs:
        assert skeleton.joints[one].replace("left", "right") == skeleton.joints[other].replace("left", "right")
        assert skeleton.sigmas[one] == skeleton.sigmas[other]
    reached = {joint for limb in skeleton.limbs for joint in limb}
    assert reached == set(range(len(skeleton)))


def test_coco_sigmas_are_those_of_pycocotools():
    from pycocotools.cocoeval import Params

    assert np.allclose(load_skeleton("coco17").sigmas, Params("keypoints").kpt_oks_sigmas)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": ["a", "a"]}, "joints of"),
        ({"sigmas": [0.1]}, "one positive number per joint"),
        ({"limbs": [["a", "c"]]}, "joint in limbs"),
        ({"limbs": ["ab"]}, "two joint names"),
        ({"colour": 1}, "field of a skeleton"),
    ],
)
def test_a_skeleton_with_a_fault_is_refused(change, message):
    data = {"name": "x", "joints": ["a", "b"], "limbs": [["a", "b"]], "pairs": [], "sigmas": [0.1, 0.1], **change}
    with pytest.raises(AnydiffError, match=message):
        Skeleton.parse(data, "skeleton 'x'")


def test_unknown_skeletons_are_named():
    with pytest.raises(UnknownNameError, match="did you mean 'coco17'"):
        load_skeleton("coco18")


# COCO files


def test_poses_come_back_digit_for_digit(tmp_path):
    made = [
        pose(0, image="a.png", track=3, box=(1.0, 2.0, 30.5, 40.25), area=900.5, head_size=6.25),
        pose(1, image="a.png", track=4),
        pose(2, image="b.png", score=0.25),
    ]
    write_poses(made, tmp_path / "poses.json", SKELETON, (64, 48))
    for one, other in zip(made, read_poses(tmp_path / "poses.json", SKELETON), strict=True):
        assert (one.keypoints == other.keypoints).all()
        assert (one.visibility == other.visibility).all()
        assert (one.scores == other.scores).all()
        assert (one.score, one.image, one.track, one.head_size) == (
            other.score,
            other.image,
            other.track,
            other.head_size,
        )
        assert one.labelled_box == other.box


def test_pycocotools_reads_what_is_written(tmp_path):
    from pycocotools.coco import COCO

    write_poses([pose(0, image="a.png"), pose(1, image="b.png")], tmp_path / "poses.json", SKELETON, (64, 48))
    coco = COCO(str(tmp_path / "poses.json"))
    assert len(coco.getAnnIds()) == 2
    assert coco.loadCats(1)[0]["keypoints"] == list(SKELETON.joints)
    results = coco.loadRes(json.loads((tmp_path / "poses.json").read_text())["annotations"])
    assert len(results.getAnnIds()) == 2


def posetrack(**changes):
    """A file as PoseTrack writes it: 17 slots, the ears unused, joints in its own order."""
    names = ["nose", "head_bottom", "head_top", "left_ear", "right_ear", *load_skeleton("posetrack15").joints[3:]]
    flat = [value for number in range(17) for value in (number + 0.5, number + 1.5, 1 if number > 4 else 2)]
    entry = {
        "id": 1,
        "image_id": 7,
        "track_id": 2,
        "keypoints": flat,
        "bbox_head": [0, 0, 30, 40],
        "bbox": [0, 0, 20, 20],
    }
    return {
        "images": [{"id": 7, "file_name": "video/000007.jpg", "vid_id": "1", "frame_id": 7, "width": 60, "height": 60}],
        "annotations": [{**entry, **changes}],
        "categories": [{"id": 1, "name": "person", "keypoints": names}],
    }


def test_a_posetrack_file_is_read_by_the_names_of_its_joints(tmp_path):
    (tmp_path / "pt.json").write_text(json.dumps(posetrack()))
    (found,) = read_poses(tmp_path / "pt.json", load_skeleton("posetrack15"))
    assert found.keypoints[:3].tolist() == [[0.5, 1.5], [1.5, 2.5], [2.5, 3.5]]
    assert found.keypoints[3].tolist() == [5.5, 6.5]
    assert found.visibility.tolist() == [2, 2, 2] + [1] * 12
    assert found.head_size == pytest.approx(0.6 * 50)
    assert (found.track, found.image) == (2, "video/000007.jpg")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keypoints": [1.0, 2.0] * 17}, "visibility flags are missing"),
        ({"keypoints": [1.0, 2.0, 2] * 16 + [1.0, 2.0, 7]}, "a visibility flag of annotation 0"),
        ({"keypoints": [1.0, 2.0, 2] * 16 + [90.0, 2.0, 2]}, "outside its image of 60x60"),
        ({"keypoints": [1.0, 2.0, 2] * 16 + [float("nan"), 2.0, 2]}, "not finite"),
        ({"keypoints": "none"}, "not a list of numbers"),
    ],
)
def test_faults_of_a_file_are_named_with_the_file(tmp_path, change, message):
    file = tmp_path / "pt.json"
    file.write_text(json.dumps(posetrack(**change)))
    before = file.read_bytes()
    with pytest.raises(AnydiffError, match=message) as raised:
        read_poses(file, load_skeleton("posetrack15"))
    assert "pt.json" in str(raised.value)
    assert file.read_bytes() == before


def test_unknown_joint_names_and_foreign_files(tmp_path):
    file = tmp_path / "pt.json"
    file.write_text(json.dumps(posetrack()))
    with pytest.raises(UnknownNameError, match=r"joint of .*pt.json.* 'head'"):
        read_poses(file, SKELETON)
    data = posetrack()
    del data["categories"]
    file.write_text(json.dumps(data))
    with pytest.raises(FileFormatError, match="names no joints"):
        read_poses(file, SKELETON)
    for text, message in (
        ("{}", "no list 'annotations'"),
        ("{", "cannot be read as a COCO or PoseTrack key point file"),
        ('{"annotations": [1]}', "names no joints"),
    ):
        file.write_text(text)
        with pytest.raises(FileFormatError, match=message):
            read_poses(file, SKELETON)
    with pytest.raises(AnydiffError, match="cannot read"):
        read_poses(tmp_path / "nothing.json", SKELETON)


def test_annotations_of_other_categories_are_left_out(tmp_path):
    """A file of all COCO: things without key points beside people, people's category not the first."""
    data = posetrack()
    thing = {"id": 9, "image_id": 7, "category_id": 3, "bbox": [0, 0, 5, 5]}
    data["annotations"] = [thing, {**data["annotations"][0], "category_id": 1}]
    data["categories"] = [{"id": 3, "name": "car"}, *data["categories"]]
    file = tmp_path / "all.json"
    file.write_text(json.dumps(data))
    (found,) = read_poses(file, load_skeleton("posetrack15"))
    assert found.track == 2
    data["categories"][0]["keypoints"] = ["wheel"]
    file.write_text(json.dumps(data))
    with pytest.raises(FileFormatError, match=r"all.json' has 2 categories with key points, \['car', 'person'\]"):
        read_poses(file, load_skeleton("posetrack15"))


def test_results_have_the_skeletons_joints_and_flags_or_confidences(tmp_path):
    file = tmp_path / "results.json"
    flat = np.column_stack([np.arange(15) + 0.5, np.arange(15) * 2.0, np.linspace(0.1, 0.9, 15)])
    entry = {"image_id": 4, "category_id": 1, "score": 0.7}
    file.write_text(json.dumps([{**entry, "keypoints": flat.flatten().tolist()}]))
    (found,) = read_poses(file, SKELETON)
    assert (found.keypoints == flat[:, :2]).all()
    assert (found.visibility == 2).all()
    assert np.allclose(found.scores, flat[:, 2])
    assert (found.score, found.image) == (0.7, 4)
    flat[:, 2] = [0, 1, 2] * 5
    file.write_text(json.dumps([{**entry, "keypoints": flat.flatten().tolist()}]))
    assert read_poses(file, SKELETON)[0].visibility.tolist() == [0, 1, 2] * 5
    file.write_text(json.dumps([{**entry, "keypoints": [1.0, 2.0, 2] * 17}]))
    with pytest.raises(
        FileFormatError, match=r"results.json' are 51 numbers, but the 15 joints of 'humanoid15' are 45"
    ):
        read_poses(file, SKELETON)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [0, 0, 5]}, "bbox of annotation 0 .* is no list of 4 numbers"),
        ({"bbox_head": ["a", 0, 5, 5]}, "bbox_head of annotation 0 .* is no list of 4 numbers"),
        ({"scores": [0.5, 0.5]}, "scores of annotation 0 .* is no list of 17 numbers"),
    ],
)
def test_other_lists_of_an_annotation_are_checked(tmp_path, change, message):
    (tmp_path / "pt.json").write_text(json.dumps(posetrack(**change)))
    with pytest.raises(FileFormatError, match=message):
        read_poses(tmp_path / "pt.json", load_skeleton("posetrack15"))


def entries(data, path=()):
    """The places of every value in nested mappings and lists of mappings."""
    for key in data if isinstance(data, dict) else range(len(data)):
        yield (*path, key)
        if isinstance(data[key], dict) or (
            isinstance(data[key], list) and data[key] and isinstance(data[key][0], dict)
        ):
            yield from entries(data[key], (*path, key))


@pytest.mark.parametrize("kind", ["annotations", "results"])
def test_whatever_stands_in_a_file_is_read_or_refused_in_one_sentence(tmp_path, kind):
    joints = 17 if kind == "annotations" else 15
    lists = {"keypoints": [1.0, 2.0, 2] * joints, "scores": [0.5] * joints}
    whole = posetrack(**lists, score=0.5, area=80.0, head_size=4.0, category_id=1)
    data = whole if kind == "annotations" else whole["annotations"]
    skeleton = load_skeleton("posetrack15")
    file, sentences = tmp_path / "wrong.json", []
    file.write_text(json.dumps(data))
    assert len(read_poses(file, skeleton)) == 1
    for path in entries(data):
        for value in (None, "x", [], {}, -1, True, 1e400, float("nan"), [[1]], ["a"] * 17, [1] * 3, [None] * 51):
            changed = json.loads(json.dumps(data))
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = value
            file.write_text(json.dumps(changed))
            try:
                read_poses(file, skeleton)
            except AnydiffError as error:
                sentences.append(str(error))
    assert len(sentences) > 60
    assert all("wrong.json" in each for each in sentences)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "poses.json"
    write_poses([pose(0)], file, SKELETON, (64, 48))
    before = file.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(AnydiffError, match="nothing was overwritten"):
        write_poses([pose(1)], file, SKELETON, (64, 48))
    assert file.read_bytes() == before


# The domain


def test_encode_refuses_key_points_outside_the_frame_and_other_skeletons():
    domain = Poses()
    outside = Pose(np.full((15, 2), 60.0), np.full(15, 2))
    with pytest.raises(
        AnydiffError, match=r"key point 'head' of pose 0 lies at \(60, 60\), outside the frame of 48x64"
    ):
        domain.encode([outside])
    with pytest.raises(AnydiffError, match="17 joints, but the skeleton 'humanoid15' has 15"):
        domain.encode([Pose(np.zeros((17, 2)), np.zeros(17, dtype=int))])


def test_poses_go_through_states_to_a_ten_thousandth_of_a_pixel():
    domain = Poses()
    made = [Pose(pose(seed).keypoints, np.full(15, 2)) for seed in range(5)]
    for one, other in zip(made, domain.decode(domain.encode(made)), strict=True):
        assert np.abs(one.keypoints - other.keypoints).max() < 1e-3
        assert (other.visibility == 2).all()


def test_estimates_keep_their_scores_and_truth_is_drawn_as_in_training():
    domain = Poses()
    estimate = Pose(pose(0).keypoints, np.full(15, 2), np.linspace(0.15, 0.95, 15))
    (found,) = domain.decode(domain.encode([estimate]))
    assert np.abs(found.scores - estimate.scores).max() < 1e-6
    assert np.abs(found.keypoints - estimate.keypoints).max() < 1e-3
    truth = Pose(estimate.keypoints, np.full(15, 2))
    drawn = domain.states(torch.from_numpy(truth.keypoints)[None], torch.ones(1, 15, dtype=torch.bool))
    assert torch.equal(domain.encode([truth, estimate])[:1], drawn)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 62}, "multiples of the stride"),
        ({"frames": 4}, "frames is 4, but must be odd"),
        ({"sigma": 0}, "sigma"),
        ({"decoding": "soft"}, "decoding"),
        ({"skeleton": "alien"}, "skeleton"),
    ],
)
def test_bad_options_of_the_domain(options, message):
    with pytest.raises(AnydiffError, match=message):
        Poses(**options)


def test_bad_poses():
    with pytest.raises(AnydiffError, match="every flag must be 0, 1 or 2"):
        Pose(np.zeros((2, 2)), np.array([2, 5]))
    with pytest.raises(AnydiffError, match="key point 1 of a pose is not finite"):
        Pose(np.array([[0, 0], [np.nan, 0]]), np.array([2, 2]))
    with pytest.raises(AnydiffError, match="must have"):
        Pose(np.zeros((2, 3)), np.array([2, 2]))


# Frames


def frames(count=4, height=10, width=8):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def test_frames_come_from_arrays_folders_and_npz(tmp_path):
    made = frames()
    for number, frame in enumerate(made):
        Image.fromarray(frame).save(tmp_path / f"{number:03d}.png")
    np.savez(tmp_path / "clip.npz", frames=made)
    for source in (made, list(made), tmp_path, tmp_path / "clip.npz"):
        assert (read_frames(source) == made).all()
    assert (read_frames(made[..., 0]) == made[..., :1]).all()


def test_frames_come_from_a_video_where_there_is_a_decoder(tmp_path):
    imageio = pytest.importorskip("imageio.v3")
    made = np.zeros((5, 16, 16, 3), dtype=np.uint8)
    made[:, :, 3:7] = (200, 40, 40)
    made[np.arange(5), np.arange(5) + 2] = 255
    imageio.imwrite(tmp_path / "clip.gif", made)
    found = read_frames(tmp_path / "clip.gif")
    assert found.shape == made.shape
    assert np.abs(found.astype(int) - made).max() <= 8
    whole = (tmp_path / "clip.gif").read_bytes()
    (tmp_path / "cut.gif").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "no.mp4").write_bytes(b"\0" * 100)
    for name in ("cut.gif", "no.mp4") if find_spec("imageio_ffmpeg") else ("cut.gif",):
        with pytest.raises(FileFormatError, match=name):
            read_frames(tmp_path / name)


def test_pictures_are_taken_in_the_order_of_their_numbers(tmp_path):
    made = frames(12)
    for number, frame in enumerate(made):
        Image.fromarray(frame).save(tmp_path / f"frame{number}.png")
    assert (read_frames(tmp_path) == made).all(), "frame2 comes before frame10"
    (tmp_path / "frame3.png").rename(tmp_path / "b3.png")
    assert (read_frames(tmp_path)[0] == made[3]).all()


def test_frames_of_different_size_type_and_place_are_named(tmp_path):
    Image.fromarray(frames()[0]).save(tmp_path / "000.png")
    Image.fromarray(frames(1, 12, 8)[0]).save(tmp_path / "001.png")
    with pytest.raises(AnydiffError, match=r"001.png' is 8x12 pixels, but .*000.png' is 8x10"):
        read_frames(tmp_path)
    (tmp_path / "001.png").write_bytes(b"no picture")
    with pytest.raises(FileFormatError, match=r"001.png' cannot be read as a picture"):
        read_frames(tmp_path)
    with pytest.raises(AnydiffError, match=r"frame 0 of the array holds float64 values.*value_range=\[0, 1\]"):
        read_frames(frames() / 255)
    with pytest.raises(AnydiffError, match="does not exist"):
        read_frames(tmp_path / "nothing.mp4")
    np.savez(tmp_path / "other.npz", pictures=frames())
    with pytest.raises(FileFormatError, match="no array 'frames'"):
        read_frames(tmp_path / "other.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:50])
    with pytest.raises(FileFormatError, match=r"cut.npz' cannot be read as a NumPy file"):
        read_frames(tmp_path / "cut.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnydiffError, match="holds no pictures"):
        read_frames(tmp_path / "empty")


# Crops


@given(
    st.tuples(st.floats(-50, 500), st.floats(-50, 500), st.floats(1, 400), st.floats(1, 400)),
    st.tuples(st.floats(-100, 600), st.floats(-100, 600)),
)
def test_a_crop_is_undone_to_a_thousandth_of_a_pixel(box, point):
    crop = Crop.around(box, 64, 48)
    assert np.abs(crop.to_frame(crop.to_crop(np.array(point))) - point).max() < 1e-3
    inside = crop.to_crop(np.array([[box[0], box[1]], [box[0] + box[2], box[1] + box[3]]]))
    assert (inside > 0).all()
    assert (inside < (48, 64)).all()


def test_a_crop_of_the_same_size_is_the_picture_and_an_enlarged_one_keeps_its_place():
    made = frames(2, 64, 48)
    assert (Crop((0, 0), 1.0, 64, 48).cut(made) == made).all()
    assert (whole_frame_crops(made, 64, 48) == made).all()
    spot = np.zeros((1, 128, 96, 3), dtype=np.uint8)
    spot[0, 80:84, 40:44] = 255  # its centre is (42, 82)
    crop = Crop.around((20.0, 60.0, 40.0, 50.0), 64, 48)
    cut = crop.cut(spot)[0, ..., 0].astype(float)
    y, x = np.mgrid[:64, :48] + 0.5
    centre = np.array([(x * cut).sum(), (y * cut).sum()]) / cut.sum()
    assert np.abs(crop.to_frame(centre) - (42, 82)).max() < 0.05


def test_a_smaller_crop_averages():
    board = (np.indices((128, 96)).sum(0) % 2 * 200).astype(np.uint8)[None, ..., None].repeat(3, -1)
    half = whole_frame_crops(board, 64, 48)
    assert np.abs(half.astype(int) - 100).max() <= 1


def test_windows_repeat_the_ends():
    made = frames(4)
    clips = windows(made, 3)
    assert (clips[0] == made[[0, 0, 1]]).all()
    assert (clips[2] == made[[1, 2, 3]]).all()
    assert (clips[3] == made[[2, 3, 3]]).all()


def test_conditions_from_text(tmp_path):
    domain = Poses()
    np.savez(tmp_path / "clip.npz", frames=frames(4, 64, 48))
    condition = domain.parse_condition({"frames": str(tmp_path / "clip.npz")}, 6)
    assert condition["frames"].shape == (6, 3, 3, 64, 48)
    assert torch.equal(condition["frames"][4], condition["frames"][0])
    assert (domain.pictures(condition["frames"][:4, 1]) == frames(4, 64, 48)).all()
    with pytest.raises(UnknownNameError, match="condition"):
        domain.parse_condition({"label": "x"}, 1)


def test_boxes_without_area_are_refused():
    with pytest.raises(AnydiffError, match=r"box is \(0, 0, 0, 5\)"):
        Crop.around((0, 0, 0, 5), 64, 48)
