"""The evaluator on drawn faces: what it finds, that no file stops it, and that runs give the same bytes."""

import csv
import dataclasses
import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_faces import picture
from fake_heads import FakeFaceReader
from official_state import random_state
from torch_files import tensors, write_legacy, write_zip

from vasa_jax.config import VASAConfig, VideosConfig
from vasa_jax.data.audio_files import Audio, read_audio
from vasa_jax.data.video_files import read_video, write_video
from vasa_jax.errors import InputError
from vasa_jax.evaluation import measured_video, video_metrics
from vasa_jax.evaluation.measured_video import Measured
from vasa_jax.evaluation.protocol import Instruments, protocol
from vasa_jax.evaluation.sync import SyncFigures
from vasa_jax.evaluation.video_list import entries
from vasa_jax.evaluation.video_metrics import background_change, seam, sharpness
from vasa_jax.evaluation.videos import Evaluator, capp_of_others, evaluate_videos
from vasa_jax.generation.controls import Controls
from vasa_jax.weights.parts import SHIPPED
from vasa_jax.weights.published_networks import NETWORKS

SETTINGS = VideosConfig(size=64, seconds=2.0)
SECONDS = 1.2
ROOT = Path(__file__).parents[2]


class Reader(FakeFaceReader):
    """Reads brightness of the square's left, which the drawn videos carry; the face is where it is drawn."""


def face_video(path, seed=0, width=192, height=192, sound=True, seconds=SECONDS):
    """A drawn face whose backdrop brightens as the sound gets louder."""
    count = round(25 * seconds)
    bright = 0.5 + 0.4 * np.sin(np.arange(count) * 0.5 + seed)

    def frames():
        for value in bright:
            image = picture(width, height, (width / 2, height / 2, 0.17 * height))
            image[:, : width // 5] = round(255 * value)
            yield image

    samples = np.repeat(bright, 640) * np.tile([0.3, -0.3], 320 * count)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames(), Audio.from_samples(samples.astype(np.float32)) if sound else None)
    return path


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    root = tmp_path_factory.mktemp("media")
    for folder in ("videos", "references"):
        (root / folder / "a").mkdir(parents=True)
        face_video(root / folder / "a" / "one.mp4", 0)
    face_video(root / "videos" / "silent.mp4", 1, sound=False)
    face_video(root / "videos" / "wide.mp4", 2, width=320, height=180)
    face_video(root / "references" / "wide.mp4", 2, width=192, height=192)
    write_video(root / "videos" / "empty_room.mp4", (np.full((96, 96, 3), 90, np.uint8) for _ in range(10)))
    (root / "videos" / "broken.mp4").write_bytes((root / "videos" / "a" / "one.mp4").read_bytes()[:900])
    (root / "videos" / "text.mp4").write_text("no video\n")
    cv2.imwrite(str(root / "portrait.png"), picture(192, 192, (96, 96, 33))[..., ::-1])
    return root


def tools(**networks):
    return Instruments(Reader(), networks.get("capp"), None, None, protocol(SETTINGS, {}))


def run(config, workdir):
    videos, references = entries(config)
    return Evaluator(config, tools()).run(videos, references, workdir)


def folders(media):
    return VASAConfig(
        job="evaluate_videos", videos=str(media / "videos"), references=str(media / "references"),
        videos_evaluation=SETTINGS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def first(media, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("first")
    return run(folders(media), workdir), workdir


def outputs(workdir):
    files = [path for path in sorted(workdir.rglob("*")) if path.is_file() and "measured" not in path.parts]
    return {str(path.relative_to(workdir)): path.read_bytes() for path in files}


class Sync:
    """A sync probe that is told what to say, and checks what it is shown."""

    def measure(self, patches, columns):
        assert len(patches) == 30 == len(columns) and patches.dtype == np.uint8
        return SyncFigures(1.5, 0.5, -2)


def test_the_sync_probe_has_columns_of_its_own(media, tmp_path):
    config = VASAConfig(job="evaluate_videos", videos=str(media / "videos" / "a"), videos_evaluation=SETTINGS)
    instruments = dataclasses.replace(tools(), sync_probe=Sync())
    report = Evaluator(config, instruments).run(*entries(config), tmp_path)
    found = report["clips"][0]["metrics"]
    assert {name: found[f"probe_sync_{name}"] for name in SyncFigures._fields} == SyncFigures(1.5, 0.5, -2)._asdict()
    assert "confidence of the sync probe (ours; not S_C)" in (tmp_path / "report.md").read_text()


def test_faulty_videos_are_listed_and_the_others_measured(first):
    report, workdir = first
    assert report["videos"] == 6 and report["measured"] == 3 and report["references"] == 2
    assert sorted(report["faults"]) == ["broken.mp4", "empty_room.mp4", "text.mp4"]
    assert "no face was found in 1 of its frames; give a video of a face" in report["faults"]["empty_room.mp4"]
    assert not any("--config.crop" in fault or str(workdir) in fault for fault in report["faults"].values())
    clips = {clip["name"]: clip for clip in report["clips"]}
    assert clips["wide.mp4"]["about"]["width"] == 320 and clips["a/one.mp4"]["about"]["frames"] == 30
    silent = clips["silent.mp4"]
    assert "pose_audio_r" not in silent["metrics"] and "has no sound" in silent["about"]["notes"][0]
    lines = (workdir / "clips.csv").read_text().splitlines()
    assert len(lines) == 7 and lines[0].startswith("video,reference,frames,width,height,square,")


def test_a_video_against_itself_is_perfect(first):
    pair = {clip["name"]: clip["pair"] for clip in first[0]["clips"]}
    one = pair["a/one.mp4"]
    assert one["mouth_r"] == pytest.approx(1) and one["psnr"] == pytest.approx(100) and one["ssim"] == pytest.approx(1)
    assert one["mouth_mae"] == one["rotation_error"] == one["gaze_error"] == one["distance_error"] == 0
    assert one["identity"] == pytest.approx(1, abs=1e-4)
    # Of another size: the square's pixels cannot be compared.
    assert "psnr" not in pair["wide.mp4"] and pair["wide.mp4"]["mouth_mae"] > 0 and pair["silent.mp4"] == {}


def test_distance_is_that_in_the_whole_picture(first):
    """The fake reader sees a head of the corpus's size in each square, however large the square is in the picture."""
    clips = {clip["name"]: clip for clip in first[0]["clips"]}
    for name, shorter in (("a/one.mp4", 192), ("wide.mp4", 180)):
        side = int(clips[name]["about"]["square"].split(",")[2])
        assert clips[name]["metrics"]["distance"] == pytest.approx(shorter / side) and shorter != side
    assert "distance_error" not in clips["wide.mp4"]["pair"]  # the reference has another size


def test_the_report_tells_the_protocol_and_no_paths(first, media):
    report, workdir = first
    kept = outputs(workdir)
    assert {"protocol.json", "clips.csv", "report.md", "report.json", "plots.png"} <= kept.keys()
    assert sum(name.startswith("sheets/") for name in kept) == 3
    for name, content in kept.items():
        assert str(media).encode() not in content and str(workdir).encode() not in content, name
    written = json.loads(kept["protocol.json"])
    assert written == json.loads(json.dumps(report["protocol"])) and written["video"]["frames_per_second"] == 25
    text = kept["report.md"].decode()
    assert "3 of 6 videos and 2 references were measured" in text and "FRD" in text and "not FVD" in text
    assert "| FVD" not in text and "S_C, confidence" not in text  # nobody gave the networks


def test_the_same_files_give_the_same_bytes(first, media, tmp_path):
    run(folders(media), tmp_path / "again")
    assert outputs(tmp_path / "again") == outputs(first[1])


def test_a_run_goes_on_where_one_was_ended(first, media, tmp_path, monkeypatch):
    ended = tmp_path / "ended"
    looked = []
    watch = measured_video.watch

    def counted(path, *rest):
        looked.append(path.name)
        if len(looked) == 4:
            raise KeyboardInterrupt
        return watch(path, *rest)

    monkeypatch.setattr(measured_video, "watch", counted)
    with pytest.raises(KeyboardInterrupt):
        run(folders(media), ended)
    assert not (ended / "report.md").exists()
    before = looked[:3]
    run(folders(media), ended)
    assert not set(before[:3]).intersection(looked[4:6]) and outputs(ended) == outputs(first[1])
    looked.clear()
    run(folders(media), ended)
    assert not looked


def test_a_manifest_tells_what_belongs_to_a_video(media, tmp_path):
    lines = [
        {"video": "videos/a/one.mp4", "reference": "references/a/one.mp4", "gaze": [3, 4], "distance": 1.5},
        {"video": "videos/silent.mp4", "portrait": "portrait.png", "pasted": [40, 50, 150, 160]},
        {"video": "videos/wide.mp4", "reference": "videos/text.mp4"},
        {"video": "videos/missing.mp4"},
        {"video": "videos"},
    ]
    manifest = media / "list.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    report = run(VASAConfig(job="evaluate_videos", manifest=str(manifest), videos_evaluation=SETTINGS), tmp_path)
    clips = {clip["name"]: clip for clip in report["clips"]}
    assert clips["videos/a/one.mp4"]["pair"]["gaze_error"] == pytest.approx(5)  # the fake reader sees 0, 0
    distance = clips["videos/a/one.mp4"]["metrics"]["distance"]
    assert clips["videos/a/one.mp4"]["pair"]["distance_error"] == pytest.approx(abs(distance - 1.5))
    assert 0.9 < clips["videos/silent.mp4"]["pair"]["identity"] <= 1.0001
    assert clips["videos/silent.mp4"]["pair"]["seam"] > 0 and "seam" not in clips["videos/wide.mp4"]["pair"]
    assert "reference not used: videos/text.mp4" in clips["videos/wide.mp4"]["notes"][0]
    assert report["faults"].keys() == {"videos", "videos/missing.mp4", "videos/text.mp4"} and report["measured"] == 3
    assert not any(str(media) in fault for fault in report["faults"].values())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "names no video"),
        ("[1]", "line 1: is no object"),
        ("{", "line 1: not JSON"),
        ('{"reference": "a.mp4"}', "line 1"),
        ('{"video": "a.mp4", "portait": "b.png"}', "portait"),
        ('{"video": "a.mp4", "gaze": [1]}', "gaze"),
        ('{"video": "a.mp4"}\n{"video": "a.mp4"}', "names a.mp4 twice"),
        ('{"video": "a.mp4", "reference": "/x/s/b"}\n{"video": "c.mp4", "reference": "/y/s/b"}', "called s/b"),
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path, text, fault):
    path = tmp_path / "list.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=f"list.jsonl.*{fault}"):
        entries(VASAConfig(job="evaluate_videos", manifest=str(path)))


def test_settings_that_leave_nothing_to_measure_are_refused(media, tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="holds no video"):
        entries(VASAConfig(job="evaluate_videos", videos=str(tmp_path / "nothing")))
    with pytest.raises(InputError, match="nothing: holds no video"):
        entries(VASAConfig(job="evaluate_videos", videos=str(media / "videos"), references=str(tmp_path / "nothing")))
    with pytest.raises(InputError, match="names the videos by itself"):
        entries(VASAConfig(job="evaluate_videos", videos="a", manifest="b"))
    with pytest.raises(InputError, match=r"has none of syncnet_v2.model, i3d_pretrained_400.pt, .*epoch_20.pth"):
        Instruments.open(VideosConfig(networks=str(tmp_path)))
    with pytest.raises(InputError, match=r"is no folder"):
        Instruments.open(VideosConfig(networks=str(tmp_path / "missing")))


def test_only_broken_videos_end_in_one_line_after_the_report(media, tmp_path):
    config = VASAConfig(job="evaluate_videos", videos=str(media / "videos" / "text.mp4"), videos_evaluation=SETTINGS)
    with pytest.raises(InputError, match=r"none of 1 can be measured \(text.mp4: is not readable"):
        run(config, tmp_path)
    assert "text.mp4" in (tmp_path / "report.md").read_text()


def test_capp_stands_beside_the_sound_of_the_other_videos():
    """Windows count, not videos; a video without sound, and one alone, have nothing to stand beside."""
    rng = np.random.default_rng(0)
    counts = (3, 1, 0, 2)
    codes = [rng.normal(size=(2, count, 5)).astype(np.float16) if count else (None, None) for count in counts]
    of = [Measured(None, "", capp_poses=poses, capp_sounds=sounds) for poses, sounds in codes]
    found = capp_of_others(of)
    others = np.concatenate([codes[1][1], codes[3][1]]).astype(float)
    assert found[0]["capp_other"] == pytest.approx((codes[0][0].astype(float) @ others.T).mean())
    assert found[2] == {} and capp_of_others(of[:1]) == [{}] == capp_of_others(of[2:3])


def test_background_change_is_the_mean_difference_beside_the_head():
    frames = np.zeros((3, 100, 100, 3), np.uint8)
    frames[1, :60, :12] = 10  # the left strip, there and back
    frames[:, 20:, 40:60] = np.random.default_rng(0).integers(0, 255, (3, 80, 20, 3))
    assert background_change(frames) == pytest.approx(5.0)
    assert background_change(frames[:1]) == 0.0


def test_a_seam_is_a_step_that_its_neighbours_do_not_have():
    """A ramp of one grey level a pixel, from a step of five levels at three of the borders; one is outside."""
    frame = np.zeros((90, 100, 3), np.uint8)
    frame[:] = np.add.outer(np.arange(90), np.arange(100))[..., None]
    assert seam([frame], (20, 30, 60, 200)) == pytest.approx(1.0)
    frame[30:, 20:60] += 4
    # Across the upper border 5 levels, across the left one 5, across the right one 1 - 4 = -3.
    assert seam([frame] * 2, (20, 30, 60, 200)) == pytest.approx((5 + 5 + 3) / 3, rel=1e-6)
    assert seam([frame], (-10, -10, 200, 200)) is None and seam([np.zeros_like(frame)], (20, 30, 60, 80)) is None


def test_sharpness_is_of_each_part():
    points = ("jaw_0", "forehead", "eye_left_0", "eye_right_0", "outer_lip_0", "outer_lip_6")
    places = np.array([[[-0.8, 0.8], [0.8, -0.8], [-0.4, -0.4], [0.4, -0.4], [-0.3, 0.5], [0.3, 0.5]]])
    frame = np.full((128, 128, 3), 100, np.uint8)
    frame[76:] = np.random.default_rng(0).integers(0, 255, (52, 128, 3))
    found = sharpness(frame[None], places, points)
    assert found["mouth"] > 10 * found["eyes"] and set(found) == set(video_metrics.PARTS)


def measured_by_command(media, workdir, **environment):
    """Measures from the command line, with the shipped networks; returns the rows of clips.csv."""
    command = [sys.executable, "-m", "vasa_jax.main", "--config", "configs/evaluate_videos.py"]
    command += [f"--config.videos={media / 'videos'}", f"--config.references={media / 'references'}"]
    subprocess.run([*command, "--workdir", str(workdir)], cwd=ROOT, env=os.environ | environment, check=True)
    return list(csv.reader((workdir / "clips.csv").open()))


def assert_same_digits(one, two):
    for row_of_one, row_of_two in zip(one, two, strict=True):
        for title, a, b in zip(one[0], row_of_one, row_of_two, strict=True):
            # One of the clips is a still: its head's rotation and its correlations are rounding, enlarged.
            assert a == b or float(a) == pytest.approx(float(b), rel=5e-5, abs=2e-5), f"{row_of_one[0]}: {title}"


@pytest.mark.slow
def test_two_processes_give_the_same_bytes_and_other_threads_the_same_digits(media, tmp_path):
    """By one thread, by two, and by two again.

    XLA divides its work by the processors that NPROC tells it, NumPy by those of the two other variables.
    """
    rows = {}
    for name, threads in (("one", "1"), ("two", "2"), ("again", "2")):
        counts = dict.fromkeys(("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        rows[name] = measured_by_command(media, tmp_path / name, **counts)
    assert outputs(tmp_path / "two") == outputs(tmp_path / "again")
    assert_same_digits(rows["one"], rows["two"])


@pytest.mark.gpu
def test_a_gpu_gives_the_same_digits(media, tmp_path):
    rows = [measured_by_command(media, tmp_path / name, JAX_PLATFORMS=name) for name in ("cpu", "cuda")]
    assert_same_digits(*rows)


def test_networks_measure_in_full_precision_on_every_device(media, tmp_path, monkeypatch):
    """A GPU's products are in TF32 where nothing else is asked for: 11 bits, whose third digit is another one."""
    asked = []

    def measured(file, *rest):
        traced = jax.make_jaxpr(jnp.dot)(jnp.zeros((2, 2)), jnp.zeros((2, 2)))
        asked.append(traced.eqns[0].params["precision"])
        return Measured(file, "no face")

    monkeypatch.setattr("vasa_jax.evaluation.videos.measured", measured)
    with pytest.raises(InputError):
        run(folders(media), tmp_path)
    assert asked and all(one == (jax.lax.Precision.HIGHEST,) * 2 for one in asked)


# What compression at crf 28 may change at most in figures of one video, by column of clips.csv (docs/evaluation.md).
COMPRESSION = {
    "probe_sync_confidence": 0.03, "probe_sync_distance": 0.03, "probe_sync_offset": 1.0, "loudness_r": 0.3,
    "loudness_offset": 720.0, "capp": 0.05, "capp_other": 0.05, "delta_p": 0.04, "delta_p_smooth": 0.02,
    "delta_p_geodesic": 0.08, "pose_audio_r": 0.2, "gaze_yaw": 6.0, "gaze_pitch": 2.0, "distance": 0.04, "blinks": 0.0,
    "blink_seconds": 0.04, "mouth_mean": 0.02, "mouth_deviation": 0.015, "identity_hold": 0.01, "sharpness_face": 0.1,
    "sharpness_mouth": 0.04, "sharpness_eyes": 0.15, "background_change": 0.6, "pair_identity": 0.01,
    "pair_mouth_r": 0.12, "pair_mouth_r_at_offset": 0.1, "pair_mouth_offset": 1.0, "pair_mouth_mae": 0.01,
    "pair_lip_shape_r": 0.13, "pair_expression_distance": 0.25, "pair_head_r": 0.02, "pair_pose_distance": 0.15,
    "pair_rotation_error": 0.3, "pair_gaze_error": 1.5, "pair_distance_error": 0.02, "pair_psnr": 0.15,
    "pair_ssim": 0.01, "pair_seam": 0.25,
}  # fmt: skip
# Columns of networks that only users have: nothing of theirs can be measured here.
OF_USERS = {
    "sync_confidence", "sync_distance", "sync_offset", "pair_aed", "pair_apd", "pair_csim", "pair_identity_judge",
    "pair_lpips_vgg16", "pair_lpips_alexnet",
    *(f"pair_features_{name}" for name in ("judge", "vgg19", "vgg16", "alexnet")),
}  # fmt: skip


def test_every_column_has_a_bound_on_what_compression_changes():
    columns = {*video_metrics.ROWS, *(f"pair_{name}" for name in video_metrics.PAIR_ROWS)}
    assert columns == COMPRESSION.keys() | OF_USERS and not OF_USERS & COMPRESSION.keys()


@pytest.mark.slow
def test_compression_changes_figures_no_more_than_stated(tmp_path):
    """The shipped portrait speaks the shipped sentence twice. One take is compressed, a little and much; the other is
    the reference of both."""
    from vasa_jax.generation.generator import VideoGenerator

    demo = SHIPPED / "demo"
    generator = VideoGenerator.from_pretrained(mark=False)
    samples = read_audio(demo / "speech.wav").samples
    for name, seed in (("take", 0), ("other", 1)):
        made = generator.generate(str(demo / "portrait.png"), str(demo / "speech.wav"), controls=Controls(seed=seed))
        made.save(str(tmp_path / f"{name}.mp4"))
    for name, take, crf in (("1", "take", 1), ("28", "take", 28), ("other", "other", 1)):
        compressed(tmp_path / name / "a.mp4", list(read_video(tmp_path / f"{take}.mp4").frames), samples, crf)
    manifest = tmp_path / "list.jsonl"
    whole = {"reference": "other/a.mp4", "pasted": [50, 50, 200, 200]}
    lines = [{"video": f"{crf}/a.mp4"} | whole for crf in ("1", "28")]
    manifest.write_text("\n".join(map(json.dumps, lines)))
    config = VASAConfig(
        job="evaluate_videos", manifest=str(manifest),
        videos_evaluation=dataclasses.replace(SETTINGS, size=256, seconds=6.0),
    )  # fmt: skip
    report = evaluate_videos(config, tmp_path / "out")
    before, after = (
        clip["metrics"] | {f"pair_{name}": value for name, value in clip["pair"].items()} for clip in report["clips"]
    )
    assert before.keys() == after.keys() == COMPRESSION.keys()
    changes = {name: abs(after[name] - before[name]) for name in COMPRESSION}
    assert {name: change for name, change in changes.items() if change > COMPRESSION[name]} == {}


def compressed(path, frames, samples, crf):
    import av

    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": str(crf)})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        for number, frame in enumerate(frames):
            image = av.VideoFrame.from_ndarray(frame, format="rgb24")
            image.pts, image.time_base = number, Fraction(1, 25)
            container.mux(video.encode(image))
        container.mux(video.encode(None))
        for start in range(0, len(samples) - 1023, 1024):
            block = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = 16_000, start, Fraction(1, 16_000)
            container.mux(sound.encode(block))
        container.mux(sound.encode(None))


@pytest.mark.slow
def test_published_networks_are_used_where_they_are(media, tmp_path):
    """At random weights: their rows are there, and FVD between a set and itself is nothing."""
    (tmp_path / "networks").mkdir()
    write_legacy(tmp_path / "networks" / "syncnet_v2.model", tensors(random_state(NETWORKS["syncnet"].table())))
    for name, file in (("i3d", "i3d_pretrained_400.pt"), ("inception", "pt_inception-2015-12-05-6726825d.pth"),
                       ("face_model", "epoch_20.pth")):  # fmt: skip
        write_zip(tmp_path / "networks" / file, tensors(random_state(NETWORKS[name].table())))
    for name in ("one", "two"):
        face_video(tmp_path / "videos" / f"{name}.mp4", seed=ord(name[0]), seconds=1.0)
    settings = dataclasses.replace(SETTINGS, networks=str(tmp_path / "networks"))
    videos = str(tmp_path / "videos")
    config = VASAConfig(job="evaluate_videos", videos=videos, references=videos, videos_evaluation=settings)
    report = evaluate_videos(config, tmp_path / "out")
    found = report["clips"][0]["metrics"]
    assert found["sync_distance"] > 0 and found["sync_confidence"] >= 0 and abs(found["sync_offset"]) <= 15
    for name in ("fvd", "fid", "efid"):
        assert report["frechet"][name]["videos"]["distance"] == pytest.approx(0.0, abs=1e-4)
    assert report["clips"][0]["pair"]["aed"] == report["clips"][0]["pair"]["apd"] == 0
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| S_C, confidence of SyncNet |" in text and "| FVD, I3D of Kinetics-400 |" in text
    assert "| FID, Inception of 2015-12-05 |" in text and "| E-FID, expression coefficients" in text
    assert set(report["protocol"]["networks"]) == {"face_probe", "capp", "sync_probe", *NETWORKS}
