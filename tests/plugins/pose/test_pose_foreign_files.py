"""Videos and key point files as other people have them: varying rates, turned and deep pictures, ids from 1, edges."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import anydiff
from anydiff.cli.app import app
from anydiff.data.frames import Conversion
from anydiff.errors import AnydiffError, FileFormatError
from anydiff.recipes.build import build_dataset, build_domain
from anydiff.registry import registry
from anydiff_pose import estimate_video, video
from anydiff_pose.annotated import AnnotatedVideo
from anydiff_pose.coco import read_keypoint_file, read_poses, write_poses
from anydiff_pose.domain import Poses
from anydiff_pose.poses import Pose
from anydiff_pose.skeletons import load_skeleton
from anydiff_pose.video import read_footage, read_frames

SKELETON = load_skeleton("humanoid15")
TIMES = np.cumsum([0.0, *[0.04] * 8, *[0.2] * 8, *[0.12] * 7])


def frames(count=4, height=10, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


# Videos -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clip(tmp_path):
    """24 frames at varying distances, written by ffmpeg; frame i is grey of level 10 i."""
    program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    made = np.repeat(10 * np.arange(24, dtype=np.uint8), 48 * 64 * 3).tobytes()
    # In hundredths of a second: 4 apart, then 20, then 12.
    stamps = "if(lt(N,9),4*N,if(lt(N,17),32+20*(N-8),192+12*(N-16)))"

    def write(name):
        raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "64x48", "-r", "25", "-i", "-"]
        timed = ["-vf", f"settb=1/100,setpts='{stamps}'", "-fps_mode", "vfr", "-enc_time_base", "1/100"]
        command = [program, "-nostdin", "-loglevel", "error", *raw, *timed, "-c:v", "mpeg4", "-q:v", "2"]
        subprocess.run([*command, str(tmp_path / name)], input=made, check=True)
        return tmp_path / name

    return write


@pytest.mark.parametrize("lowest", [255, 0])
def test_transparent_pixels_of_a_video_are_refused(tmp_path, lowest):
    program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    made = frames(3, 48, 64)
    alpha = np.full((*made.shape[:3], 1), 255, dtype=np.uint8)
    alpha[1, 0, :5] = lowest
    raw = ["-f", "rawvideo", "-pix_fmt", "rgba", "-s", "64x48", "-r", "25", "-i", "-"]
    command = [program, "-nostdin", "-loglevel", "error", *raw, "-c:v", "ffv1", "-pix_fmt", "bgra", tmp_path / "a.mkv"]
    subprocess.run(command, input=np.concatenate([made, alpha], axis=-1).tobytes(), check=True)
    if lowest == 255:
        assert np.array_equal(read_frames(tmp_path / "a.mkv"), made)
    else:
        with pytest.raises(FileFormatError, match=r"a\.mkv' has 5 transparent pixels, whose colour is not told"):
            read_frames(tmp_path / "a.mkv")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_video_of_varying_rate_has_the_frames_that_are_coded(clip, name):
    found = read_footage(clip(name))
    assert found.frames.shape == (24, 48, 64, 3)
    assert np.abs(found.frames.mean(axis=(1, 2, 3)) - 10 * np.arange(24)).max() < 4
    assert np.allclose(found.times, TIMES, atol=2e-3)


def test_a_turned_video_is_upright(clip):
    """Telephones write rows and columns as the sensor has them, and a matrix that turns them."""
    whole = clip("a.mp4").read_bytes()
    place = whole.index(b"tkhd") + 4 + 40
    quarter = b"".join(
        number.to_bytes(4, "big", signed=True) for number in (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    )
    turned = clip("turned.mp4")
    turned.write_bytes(whole[:place] + quarter + whole[place + 36 :])
    assert read_frames(turned).shape == (24, 64, 48, 3)


def test_a_cut_video_is_truncated(clip, tmp_path):
    whole = clip("a.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match=r"cut.mkv' ends after .* of 2\.\d* seconds, \d+ frames; it is truncated"):
        read_frames(tmp_path / "cut.mkv")
    (tmp_path / "no.mp4").write_bytes(bytes(100))
    with pytest.raises(
        FileFormatError, match=r"no.mp4' cannot be decoded after 0 frames \(.*\); it is truncated or damaged"
    ):
        read_frames(tmp_path / "no.mp4")


@pytest.fixture
def decoder(tmp_path, monkeypatch):
    """A stand-in for ffmpeg: ``kept`` frames at the times given, and a header that announces ``seconds``."""

    def install(times, seconds, size=(8, 10), code=0):
        script = tmp_path / "decoder"
        shown = "".join(
            f"[showinfo] n: {i} pts_time:{t:g} duration: 1 duration_time:0.04 f\n" for i, t in enumerate(times)
        )
        log = f"  Duration: 00:00:{seconds:05.2f}, start: 0\n{shown}" + ("x: Invalid data" if code else "")
        header, area = f"P6\n{size[0]} {size[1]}\n255\n".encode(), 3 * size[0] * size[1]
        script.write_text(
            f"#!{sys.executable}\nimport sys\n"
            f"for i in range({len(times)}):\n    sys.stdout.buffer.write({header!r} + bytes([i % 256]) * {area})\n"
            f"sys.stderr.write({log!r})\nsys.exit({code})\n"
        )
        script.chmod(0o755)
        monkeypatch.setattr(video, "_ffmpeg", lambda path: str(script))
        (tmp_path / "clip.mp4").write_bytes(b"...")
        return tmp_path / "clip.mp4"

    return install


@pytest.mark.parametrize(
    ("times", "seconds", "whole"),
    [
        (0.08 * np.arange(25), 2.0, True),
        (0.08 * np.arange(23), 2.0, True),
        (0.08 * np.arange(15), 2.0, False),
        (TIMES, TIMES[-1] + 0.04, True),
        (TIMES[:12], TIMES[-1] + 0.04, False),
    ],
)
def test_a_video_that_ends_before_its_header_says_is_truncated(decoder, times, seconds, whole):
    """ffmpeg decodes a cut mkv or avi to its end without an error, and counts at varying rates say nothing."""
    path = decoder(times, seconds)
    if whole:
        found = read_footage(path)
        assert (found.frames[:, 3, 4, 1] == np.arange(len(times))).all()
        assert np.allclose(found.times, times, atol=1e-4)
        return
    with pytest.raises(FileFormatError, match=r"clip.mp4' ends after .* seconds, \d+ frames; it is truncated"):
        read_frames(path)


def test_a_decoder_that_fails_is_quoted(decoder):
    with pytest.raises(FileFormatError, match=r"clip.mp4' cannot be decoded after 3 frames \(x: Invalid data\)"):
        read_frames(decoder(0.04 * np.arange(3), 0.12, code=1))


def test_reading_a_video_takes_little_more_than_its_frames(decoder):
    path = decoder(0.04 * np.arange(300), 12.0, size=(128, 96))
    tracemalloc.start()
    found = read_frames(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.nbytes == 300 * 128 * 96 * 3
    # Arrays grow in place, by an eighth at most.
    assert peak < 1.3 * found.nbytes


def test_an_animation_has_its_own_times(tmp_path):
    pages = [Image.fromarray(frame) for frame in frames(5)]
    pages[0].save(tmp_path / "a.gif", save_all=True, append_images=pages[1:], duration=[40, 40, 100, 100, 40])
    found = read_footage(tmp_path / "a.gif")
    assert found.frames.shape == (5, 10, 8, 3)
    assert np.allclose(found.times, [0, 0.04, 0.08, 0.18, 0.28])
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    found = read_footage(tmp_path / "a.tif")
    assert (found.frames == frames(5)).all()
    assert found.times is None


def test_an_animation_that_asks_for_much_memory_is_refused_before_it_is_given(tmp_path):
    pages = [Image.fromarray(frame) for frame in frames(3)]
    pages[0].save(tmp_path / "a.gif", save_all=True, append_images=pages[1:])
    whole = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(whole[:6] + b"\xe0\x2e\xe0\x2e" + whole[10:])
    with pytest.raises(FileFormatError, match=r"a\.gif' has .* but 3 x 12000x12000 pixels asks for"):
        read_frames(tmp_path / "a.gif")


# Pictures -----------------------------------------------------------------------------------------------------------


def test_pictures_of_frames_are_upright_and_not_saturated(tmp_path):
    deep = np.arange(80, dtype=np.uint16).reshape(10, 8) * 800
    Image.fromarray(deep).save(tmp_path / "0.png")
    found = read_frames(tmp_path)
    assert (found[0, ..., 0] == np.rint(deep / 257)).all()
    (tmp_path / "0.png").unlink()
    turned = Image.fromarray(frames(1)[0])
    exif = Image.Exif()
    exif[274] = 6
    turned.save(tmp_path / "0.png", exif=exif)
    assert (read_frames(tmp_path)[0] == np.rot90(frames(1)[0], -1)).all()
    hidden = np.concatenate([frames(1)[0], np.full((10, 8, 1), 100, np.uint8)], axis=2)
    Image.fromarray(hidden, "RGBA").save(tmp_path / "0.png")
    with pytest.raises(FileFormatError, match=r"0\.png' has 80 transparent pixels.*background="):
        read_frames(tmp_path)
    assert read_frames(tmp_path, Conversion(3, background=(0, 0, 0))).shape == (1, 10, 8, 3)
    (tmp_path / "1.heic").write_bytes(b"...")
    with pytest.raises(AnydiffError, match=r"holds 1 pictures of a kind that is not read \('1\.heic'"):
        read_frames(tmp_path)


def test_arrays_of_other_types_are_converted_by_a_stated_rule_or_refused(tmp_path):
    made = frames()
    assert np.shares_memory(read_frames(made), made), "bytes are not copied"
    assert (read_frames(made.astype(np.uint16) * 257) == made).all()
    assert (read_frames(made / 255, Conversion(3, value_range=(0, 1))) == made).all()
    with pytest.raises(AnydiffError, match=r"frame 0 of the array holds float64 values from 0.*value_range=\[0, 1\]"):
        read_frames(made / 255)
    np.savez(tmp_path / "a.npz", frames=made.astype(np.float32) / 255)
    with pytest.raises(AnydiffError, match=r"frame 0 of .*a\.npz' holds float32 values"):
        read_frames(tmp_path / "a.npz")
    flags, points = np.full(15, 2), np.random.default_rng(0).uniform(2, 8, (15, 2))
    data = AnnotatedVideo(tmp_path / "a.npz", [Pose(points, flags, image=0)], value_range=[0, 1])
    assert (data.frames == made).all()


# Key points ---------------------------------------------------------------------------------------------------------


def coco(numbers, images=True, **change):
    """A file as others write it: ids and frame_id as given, no file names."""
    flat = [value for joint in range(15) for value in (joint + 1.5, joint + 2.5, 2)]
    entries = [{"id": n, "image_id": n, "category_id": 1, "keypoints": list(flat), **change} for n in numbers]
    listed = [{"id": n, "frame_id": n, "width": 60, "height": 60} for n in numbers]
    category = {"id": 1, "name": "person", "keypoints": list(SKELETON.joints)}
    return {"images": listed if images else [], "annotations": entries, "categories": [category]}


def written(tmp_path, data, name="k.json"):
    (tmp_path / name).write_text(json.dumps(data))
    return tmp_path / name


@pytest.mark.parametrize("images", [True, False])
@pytest.mark.parametrize(
    ("numbers", "options", "expected"),
    [
        (range(8), {}, range(6)),
        (range(1, 9), {}, range(6)),
        ([2, 8], {}, [1]),
        ([0, 3], {}, [0, 3]),
        ([2, 3], {"first_frame": 1}, [1, 2]),
        ([2, 3], {"first_frame": 0}, [2, 3]),
    ],
)
def test_frames_are_numbered_from_zero_or_from_one(tmp_path, numbers, options, expected, images):
    path = written(tmp_path, coco(numbers, images))
    data = AnnotatedVideo(np.zeros((8, 60, 60, 3), np.uint8), path, **options)
    assert [moments[1] for _, _, moments in data.examples] == list(expected)


def test_numbers_that_do_not_tell_where_they_begin_are_refused(tmp_path):
    stack = np.zeros((8, 60, 60, 3), np.uint8)
    with pytest.raises(AnydiffError, match=r"k\.json' numbers its frames 2 to 3 and the video has 8.*first_frame=0"):
        AnnotatedVideo(stack, written(tmp_path, coco([2, 3])))
    with pytest.raises(AnydiffError, match=r"annotation 1 is of frame 9, but the video has 8 frames"):
        AnnotatedVideo(stack, written(tmp_path, coco([1, 9])))
    with pytest.raises(AnydiffError, match="first_frame is 2"):
        AnnotatedVideo(stack, written(tmp_path, coco([1, 8])), first_frame=2)
    two = coco([1, 8])
    for number, image in enumerate(two["images"]):
        image["vid_id"] = number
    with pytest.raises(AnydiffError, match=r"annotates 2 videos"):
        AnnotatedVideo(stack, written(tmp_path, two))


def test_what_anydiff_writes_of_a_video_keeps_its_frames(tmp_path):
    from pycocotools.coco import COCO

    points = np.random.default_rng(0).uniform(0, 48, (15, 2))
    made = [Pose(points, np.full(15, 2), image=number, time=number / 25) for number in (3, 5, 6)]
    write_poses(made, tmp_path / "k.json", SKELETON, (64, 48))
    found = read_poses(tmp_path / "k.json", SKELETON)
    assert [(pose.image, pose.time) for pose in found] == [(3, 0.12), (5, 0.2), (6, 0.24)]
    data = AnnotatedVideo(np.zeros((12, 64, 48, 3), np.uint8), tmp_path / "k.json")
    assert [moments[1] for _, _, moments in data.examples] == [3, 5, 6]
    index = COCO(str(tmp_path / "k.json"))
    assert sorted(index.imgs) == [1, 2, 3], "ids count from 1, as COCO's"
    assert [image["frame_id"] for image in index.loadImgs([1, 2, 3])] == [3, 5, 6]
    with pytest.raises(
        AnydiffError, match=r"ends in '\.csv', but key points are written to a file that ends in \.json"
    ):
        write_poses(made, tmp_path / "k.csv", SKELETON)


def test_a_little_outside_is_kept_and_counted_and_far_outside_is_refused(tmp_path):
    data = coco([0, 1])
    data["annotations"][1]["keypoints"][:3] = [61.5, 5.0, 2]
    data["annotations"][1]["keypoints"][3:6] = [-0.5, 5.0, 1]
    data["annotations"][0]["keypoints"][:3] = [900.0, 5.0, 0]
    with pytest.warns(UserWarning, match=r"k\.json' has 2 labelled key points outside .* up to 1\.5 pixels"):
        found = read_keypoint_file(written(tmp_path, data), SKELETON).poses
    assert found[1].keypoints[:2].tolist() == [[61.5, 5.0], [-0.5, 5.0]]
    data["annotations"][1]["keypoints"][:3] = [66.5, 5.0, 2]
    with pytest.raises(
        AnydiffError, match=r"key point 0 of annotation 1 of .*k\.json' lies at \(66\.5, 5\), far outside"
    ):
        read_poses(written(tmp_path, data), SKELETON)


def test_a_joint_a_little_outside_the_crop_is_drawn_at_its_edge():
    domain = Poses()
    points = np.full((15, 2), 20.0)
    points[0] = (49.5, 30.0)
    (found,) = domain.decode(domain.encode([Pose(points, np.full(15, 2))]))
    assert np.abs(found.keypoints[0] - (48, 30)).max() < 0.01
    with pytest.raises(AnydiffError, match=r"'head' of pose 0 lies at \(55, 30\), outside"):
        domain.encode([Pose(np.vstack([[55.0, 30.0], points[1:]]), np.full(15, 2))])


def test_what_is_estimated_of_a_person_at_the_edge_is_read_back(tmp_path):
    pipeline = anydiff.load("pose/diffpose")
    made = np.random.default_rng(0).integers(0, 256, (2, 60, 200, 3), dtype=np.uint8)
    boxes = [[(-4.0, -30.0, 30.0, 90.0), (185.0, 20.0, 30.0, 80.0)]] * 2
    found = estimate_video(pipeline, made, boxes, steps=1)
    beyond = [((pose.keypoints < 0) | (pose.keypoints > (200, 60))).any() for pose in found]
    assert any(beyond), "the fixture needs joints outside the frame"
    pipeline.domain.write(found, tmp_path / "k.json")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        back = pipeline.domain.read(tmp_path / "k.json")
    for one, other in zip(found, back, strict=True):
        assert np.array_equal(one.keypoints, other.keypoints)
        assert np.array_equal(one.visibility, other.visibility)
        assert (one.image, one.track) == (other.image, other.track)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"annotations":' * 5000, '{"annotations": [' + "9" * 5000 + "]}", "[1e999]"]
)
def test_nested_and_endless_json_is_one_sentence(tmp_path, text):
    (tmp_path / "k.json").write_text(text)
    with pytest.raises(FileFormatError, match=r"k\.json'") as raised:
        read_poses(tmp_path / "k.json", SKELETON)
    assert "\n" not in str(raised.value)


def test_numbers_that_no_float_holds_are_refused(tmp_path):
    for change in ({"keypoints": [10**400] * 45}, {"bbox": [10**400] * 4}, {"area": 10**400}):
        with pytest.raises(FileFormatError, match=r"k\.json'"):
            read_poses(written(tmp_path, coco([0], **change)), SKELETON)


# What a domain and its data must agree in ---------------------------------------------------------------------------


def test_videos_of_one_skeleton_are_refused_under_another():
    recipe = registry().build("recipes", "pose/diffpose").with_changes(["dataset.options={size: 2}"])
    assert len(build_dataset(recipe, "train")) == 2
    with pytest.raises(AnydiffError, match=r"'posetrack15', but the videos .* show .*'humanoid15'"):
        build_dataset(recipe.with_changes(["domain.options.skeleton=posetrack15"]), "train")


@pytest.mark.parametrize("change", ["sigma=2.0", "decoding=argmax", "stride=2"])
def test_heatmaps_of_the_data_follow_the_domain_of_the_recipe(change):
    recipe = registry().build("recipes", "pose/diffpose").with_changes(["dataset.options={size: 2}"])
    changed = recipe.with_changes([f"domain.options.{change}"])
    data, domain = build_dataset(changed, "train").domain, build_domain(changed)
    assert data.codec == domain.codec != build_domain(recipe).codec


# The command line ---------------------------------------------------------------------------------------------------


def test_the_command_line_estimates_every_frame_of_a_folder(tmp_path):
    data = registry().build("datasets", "pose/humanoid-video", split="test", size=1)
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(data.example(0).frames):
        Image.fromarray(frame).save(tmp_path / "frames" / f"f{number + 9}.png")
    command = [
        "sample",
        "pose/diffpose",
        "--nfe",
        "1",
        "--condition",
        f"frames={tmp_path / 'frames'}",
        "--members",
        "1",
    ]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "k.json")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = read_poses(tmp_path / "k.json", SKELETON)
    assert [pose.image for pose in found] == ["f9.png", "f10.png", "f11.png"]
    truth = data.example(0)
    visible = truth.visibility == 2
    error = np.linalg.norm(found[1].keypoints - truth.keypoints, axis=1)[visible]
    assert np.median(error) < 6, "the keyframe's pose, and not noise"
