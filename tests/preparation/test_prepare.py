"""From drawn videos to records: every discard has its reason, a killed run goes on, a broken file stops nothing."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_videos import (
    SETTINGS,
    SIDE,
    DrawnAnalyzer,
    all_records,
    job,
    reasons,
    video,
)
from landmark_faces import talk

from vasa_jax.conventions import head_angles
from vasa_jax.data.records import decode_jpeg
from vasa_jax.data.shards import ShardReader, read_manifest
from vasa_jax.errors import InputError
from vasa_jax.preparation import av_sync, clips, prepare
from vasa_jax.preparation.clips import clips_of_video
from vasa_jax.preparation.face_backends.factory import open_analyzer
from vasa_jax.preparation.face_backends.litert import CHECKSUMS
from vasa_jax.preparation.work import VideoJob, read_outcome, write_outcome


def run(path: Path, analyzer, **changes):
    settings = dataclasses.replace(SETTINGS, zoom_spread=0.0, min_sharpness=0.0, **changes)
    return clips_of_video(path, "clip", "person", "train", settings, analyzer)


def test_late_sound_is_corrected_and_labels_are_complete(tmp_path):
    mouth, sound = talk(8.0)
    path = video(tmp_path / "late.mp4", 8.0, av_sync.shifted(sound, -0.24))
    result = run(path, DrawnAnalyzer(mouth))
    assert result.sync.certain and result.sync.offset == pytest.approx(0.24, abs=0.03)
    assert [(c.start, c.stop) for c in result.clips] == [(0, 4), (4, 8)]
    record = result.clips[0].record
    assert len(record.frames) == 100 and record.audio.shape == (64000,)
    assert record.pose.shape == (100, 9) and record.landmarks.shape == (100, 478, 3)
    np.testing.assert_allclose(head_angles(record.pose), 0, atol=0.1)
    heard = np.concatenate([clip.record.audio for clip in result.clips]) / 32767
    level = np.correlate(np.abs(heard[:100000]), np.abs(sound[500:99500]), "valid")
    assert abs(int(level.argmax()) - 500) < 0.03 * 16000
    assert decode_jpeg(record.frames[0]).shape == (64, 64, 3)


def test_reasons_and_their_ranges(tmp_path):
    mouth, sound = talk(4.0)
    path = video(tmp_path / "a.mp4", 4.0, sound)
    middle = (SIDE / 2, SIDE / 2, 80.0)

    def faces(i):
        return [middle] if i < 50 else [middle, (30.0, 30.0, 60.0)]

    assert reasons(run(path, DrawnAnalyzer(mouth, faces))) == [("several faces", 2.0, 4.0)]
    turned = DrawnAnalyzer(mouth, angles=lambda i: (75 if i >= 40 else 0, 0, 0))
    assert reasons(run(path, turned)) == [("profile beyond the limit", 1.6, 4.0)]
    assert reasons(run(path, DrawnAnalyzer(mouth), min_seconds=3.9, max_seconds=20.0, min_face=90)) == [
        ("face too small", 0.0, 4.0)
    ]
    assert reasons(run(path, DrawnAnalyzer(mouth, lambda i: []))) == [("no face", 0.0, 4.0)]
    assert reasons(run(path, DrawnAnalyzer(mouth), min_seconds=6.0, max_seconds=8.0)) == [("too short", 0.0, 4.0)]
    half = sound.copy()
    half[16000:] *= 1e-4
    quiet = video(tmp_path / "b.mp4", 4.0, half)
    assert reasons(run(quiet, DrawnAnalyzer(mouth), max_seconds=2.0)) == [("no speech", 2.0, 4.0)]
    assert reasons(run(video(tmp_path / "c.mp4", 1.2, None), DrawnAnalyzer(mouth)))[0][0] == "no sound"
    silent = video(tmp_path / "d.mp4", 1.2, np.zeros(20000))
    assert reasons(run(silent, DrawnAnalyzer(mouth)))[0][0] == "no speech"
    text = tmp_path / "e.mp4"
    text.write_text("no video")
    assert reasons(run(text, DrawnAnalyzer(mouth))) == [("not readable", 0.0, 0.0)]


def test_blur_and_unrelated_sound_are_discarded(tmp_path):
    mouth, sound = talk(14.0)
    path = video(tmp_path / "a.mp4", 1.6, sound, blur=6.0)
    settings = dataclasses.replace(SETTINGS, min_sharpness=10.0)
    result = clips_of_video(path, "clip", "person", "train", settings, DrawnAnalyzer(mouth))
    assert reasons(result) == [("too blurred", 0.0, 1.6)]
    other = np.random.default_rng(3).standard_normal(len(mouth))
    long = video(tmp_path / "b.mp4", 14.0, sound)
    result = run(long, DrawnAnalyzer(other))
    assert result.clips == [] or not result.sync.certain
    limit = clips.MUTE_HEIGHT
    assert (result.clips == []) == (result.sync.height < limit)


@pytest.fixture(scope="module")
def prepared(folder, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("prepared")
    prepare.prepare(job(folder, output))
    return output


def test_a_folder_becomes_shards_and_a_report(folder, prepared):
    records = all_records(prepared, "array_record")
    assert len(records) == 3
    assert records == all_records(prepared, "tfrecord")
    statistics = json.loads((prepared / "statistics.json").read_text())
    assert (statistics["videos"], statistics["clips"], statistics["persons"]) == (4, 3, 2)
    assert statistics["discarded"]["not readable"]["videos"] == 1
    shards = read_manifest(prepared).shards
    for split, count in statistics["splits"].items():
        kept = [clip for shard in shards if shard.split == split for clip in shard.clips]
        assert (count["clips"], count["seconds"]) == (len(kept), pytest.approx(sum(c["frames"] for c in kept) / 25))
        assert count["persons"] == len({clip["person_id"] for clip in kept})
    assert sum(count["videos"] for count in statistics["splits"].values()) == 4
    report = (prepared / "report.md").read_text()
    assert "broken.mp4" in report and "notes.txt" not in report
    for name in ("contact_sheet.png", "histograms.png"):
        assert cv2.imread(str(prepared / name)) is not None
    persons = {clip["person_id"] for shard in shards for clip in shard.clips}
    assert persons == {"id00001", "id00002"}


@pytest.mark.long
def test_a_killed_run_goes_on_and_nothing_is_lost_or_doubled(folder, prepared, tmp_path):
    output = tmp_path / "out"
    text = (
        "from vasa_jax.preparation.prepare import prepare\nfrom drawn_videos import job\n"
        f"if __name__ == '__main__':\n    prepare(job({str(folder)!r}, {str(output)!r}))\n"
    )
    script = tmp_path / "run.py"
    script.write_text(text)
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "tests" / "helpers")])
    child = subprocess.Popen(
        [sys.executable, script], env={**os.environ, "PYTHONPATH": paths}, start_new_session=True,
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    while child.poll() is None and len(list((output / "work").glob("*.json"))) < 3:  # settings and two videos
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    done = {path: path.stat().st_mtime_ns for path in (output / "work").glob("*.json")}
    assert 3 <= len(done) < 6 and not (output / "manifest.json").exists()
    (output / "work" / "half.clips.1.part").write_bytes(b"half")
    prepare.prepare(job(folder, output))
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())  # what was done was not done again
    assert all_records(output, "array_record") == all_records(prepared, "array_record")
    assert not list(output.rglob("*.part"))


class Killed(BaseException):
    """In the place of SIGKILL: nothing in the program may catch it."""


@pytest.mark.long
def test_a_run_that_dies_at_the_nth_rename_goes_on(folder, prepared, tmp_path, monkeypatch):
    """Files appear by renaming only: attempt n dies instead of its n-th renaming, until one attempt gets through."""
    rename, left = os.replace, 0

    def dying(source, target):
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        rename(source, target)

    def in_this_process(function, jobs, *rest):
        return [(index, function(item)) for index, item in enumerate(jobs)]

    monkeypatch.setattr(os, "replace", dying)
    monkeypatch.setattr(prepare, "run_in_processes", in_this_process)
    deaths = 0
    while True:
        left = deaths
        try:
            prepare.prepare(job(folder, tmp_path))
            break
        except Killed:
            deaths += 1
    assert deaths >= 6
    for name in ("array_record", "tfrecord"):
        assert all_records(tmp_path, name) == all_records(prepared, name)
    assert not list(tmp_path.rglob("*.part"))
    for name in ("statistics.json", "report.md"):
        assert (tmp_path / name).read_text() == (prepared / name).read_text()


def die_on_some(job, work, settings):
    """In the place of `prepare_video`: one video kills its process."""
    if job.name.endswith("00002.mp4"):
        os._exit(1)
    time.sleep(0.2)
    write_outcome(work, job, clips.VideoResult(seconds=1.0))


@pytest.mark.long
def test_a_video_that_kills_its_process_stops_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "prepare_video", die_on_some)
    jobs = prepare.find_videos(str(folder), SETTINGS)
    outcomes = prepare.run_jobs(jobs, tmp_path, SETTINGS)
    died = [outcome for outcome in outcomes if outcome["video"].endswith("00002.mp4")]
    assert [[d["reason"] for d in outcome["discards"]] for outcome in died] == [["failed"]]
    assert [outcome["seconds"] for outcome in outcomes if outcome not in died] == [1.0] * 3


def dies_on_the_first(job, work, settings):
    """In the place of `prepare_video`: video 0 kills its process, every other one notes the process it runs in."""
    if job.key == "v0":
        os._exit(1)
    with open(work / f"{job.key}.runs", "a") as file:
        file.write(f"{os.getpid()}\n")
    write_outcome(work, job, clips.VideoResult(seconds=1.0))


@pytest.mark.long
def test_a_video_that_kills_its_process_does_not_make_the_rest_serial(tmp_path, monkeypatch):
    """Of 24 videos in two processes the first one dies: the others run once, in the processes of one new pool."""
    monkeypatch.setattr(prepare, "prepare_video", dies_on_the_first)
    jobs = [VideoJob(tmp_path / f"{i}.mp4", f"{i}.mp4", f"v{i}", "p", "train") for i in range(24)]
    outcomes = prepare.run_jobs(jobs, tmp_path, dataclasses.replace(SETTINGS, workers=2))
    assert [d["reason"] for d in outcomes[0]["discards"]] == ["failed"]
    assert all(outcome["seconds"] == 1.0 for outcome in outcomes[1:])
    runs = [(tmp_path / f"v{i}.runs").read_text().split() for i in range(1, 24)]
    assert sum(len(processes) - 1 for processes in runs) <= 1, "only what was in flight runs again"
    assert len({processes[-1] for processes in runs}) <= 5, "a process per video"


def test_other_settings_do_not_mix(folder, prepared):
    with pytest.raises(InputError, match="size 64, now 96"):
        prepare.prepare(job(folder, prepared, size=96))


def test_more_videos_make_the_shards_anew(folder, prepared, tmp_path):
    outcomes = [read_outcome(prepared / "work", item) for item in prepare.find_videos(str(folder), SETTINGS)]
    assert sum(len(outcome["clips"]) for outcome in outcomes) == 3
    jobs = prepare.find_videos(str(folder), dataclasses.replace(SETTINGS, heldout=0.5, test=0.0))
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "work").symlink_to(prepared / "work")
    settings = job(folder, copy).prepare
    prepare.write_shards(jobs[:3], outcomes[:3], copy, settings)
    fewer = all_records(copy, "array_record")
    prepare.write_shards(jobs, outcomes, copy, settings)
    assert set(fewer) < set(all_records(copy, "array_record"))


def test_distance_is_over_the_mean_of_the_set(tmp_path):
    mouth, sound = talk(4.0)
    settings = dataclasses.replace(SETTINGS, zoom_spread=0.2, min_sharpness=0.0)
    jobs, work = [], tmp_path / "work"
    work.mkdir()
    for i in range(2):
        path = video(tmp_path / f"{i}.mp4", 1.2 + i, sound)
        jobs.append(VideoJob(path, path.name, f"v{i}", f"p{i}", "train"))
        result = clips_of_video(path, f"v{i}", f"p{i}", "train", settings, DrawnAnalyzer(mouth))
        for clip in result.clips:
            object.__setattr__(clip.record, "distance", np.float32(0.8 + 0.4 * i).reshape(()))
            clip.metrics["distance"] = 0.8 + 0.4 * i
        write_outcome(work, jobs[-1], result)
    outcomes = [read_outcome(work, item) for item in jobs]
    statistics = prepare.write_shards(jobs, outcomes, tmp_path, settings)
    assert statistics["distance_mean"] == pytest.approx(1.0)
    manifest = read_manifest(tmp_path)
    found = sorted(
        float(ShardReader(manifest, shard, "tfrecord")[i].distance) for shard in manifest.shards for i in range(2)
    )
    np.testing.assert_allclose(found, [0.8, 1.2], rtol=1e-5)


def test_persons_and_splits(tmp_path):
    assert prepare.person_of(Path("dev/mp4/id00012/abc/00001.mp4"), "auto") == "id00012"
    assert prepare.person_of(Path("hdtf/WDA_X_000.mp4"), "auto") == "WDA_X"
    assert prepare.person_of(Path("RD_Radio10_0_clip_0.mp4"), "auto") == "RD_Radio10"
    assert prepare.person_of(Path("anna/monday.mp4"), "file") == "monday"
    assert prepare.person_of(Path("set/anna/monday.mp4"), "folder") == "anna"
    assert prepare.person_of(Path("0001.mp4"), "auto") == "0001"
    for i in range(40):
        (tmp_path / f"p{i}").mkdir()
        for name in ("a.mp4", "b.mkv"):
            (tmp_path / f"p{i}" / name).touch()
    jobs = prepare.find_videos(str(tmp_path), dataclasses.replace(SETTINGS, heldout=0.3, test=0.2, person="folder"))
    splits = {item.person: {other.split for other in jobs if other.person == item.person} for item in jobs}
    assert all(len(split) == 1 for split in splits.values())
    counts = {name: sum(split == {name} for split in splits.values()) for name in ("train", "heldout", "test")}
    assert sum(counts.values()) == 40 and 4 <= counts["heldout"] <= 20 and 2 <= counts["test"] <= 16
    grown = prepare._splits({*splits, "another"}, {"heldout": 0.3, "test": 0.2})
    assert all(grown[person] == next(iter(split)) for person, split in splits.items())  # more videos move nobody
    assert len({item.key for item in jobs}) == 80
    left = prepare.split_jobs(jobs, {"p3", "p4"}, dataclasses.replace(SETTINGS, heldout=1e-3, test=0.0))
    assert {item.person for item in left if item.split == "heldout"} < {"p3", "p4"}  # who has no clips gets no split
    for count, expected in ((1, (0, 0)), (2, (1, 0)), (3, (1, 1))):  # of a small set one each, but never all
        small = list(prepare._splits({f"p{i}" for i in range(count)}, {"heldout": 1e-3, "test": 1e-3}).values())
        assert (small.count("heldout"), small.count("test")) == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"videos": ""}, "config.videos"),
        ({"videos": "/nowhere"}, "does not exist"),
        ({"output": ""}, "config.output"),
        ({"prepare": dataclasses.replace(SETTINGS, analyzer="litert", models="")}, "folder of graph files"),
        ({"prepare": dataclasses.replace(SETTINGS, analyzer="mediapipe", models="")}, "face landmarker .task"),
        ({"prepare": dataclasses.replace(SETTINGS, analyzer="mediapipe", models="/x.task")}, "/x.task: is not there"),
        ({"prepare": dataclasses.replace(SETTINGS, analyzer="eyes")}, "choose one of haar, litert, mediapipe"),
        ({"prepare": dataclasses.replace(SETTINGS, emotion_model="/nowhere.onnx")}, "HSEmotion"),
        ({"prepare": dataclasses.replace(SETTINGS, distance_model="x.onnx")}, "needs landmarks"),
        ({"prepare": dataclasses.replace(SETTINGS, gaze_model="/nowhere.onnx")}, "L2CS-Net"),
        ({"prepare": dataclasses.replace(SETTINGS, sync_model="syncnet")}, "sync_model: needs landmarks"),
    ],
)
def test_bad_settings_are_one_line(tmp_path, changes, words):
    config = dataclasses.replace(job(tmp_path, tmp_path / "out"), **changes)
    with pytest.raises(InputError, match=words):
        prepare.prepare(config)


def test_graph_files_are_verified(tmp_path):
    pytest.importorskip("ai_edge_litert")
    with pytest.raises(InputError, match="is not there"):
        open_analyzer("litert", str(tmp_path))
    for name in CHECKSUMS:
        (tmp_path / name).write_bytes(b"another file")
    with pytest.raises(InputError, match="checksum"):
        open_analyzer("litert", str(tmp_path))


def test_beam_that_is_not_there_is_one_line(folder, tmp_path, monkeypatch):
    for name in ("apache_beam", "apache_beam.options", "apache_beam.options.pipeline_options"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"config.prepare.beam: apache_beam cannot be imported"):
        prepare.prepare(job(folder, tmp_path, beam="--runner=DirectRunner"))


def test_the_report_shows_how_much_each_reason_took():
    from vasa_jax.preparation.report import DISCARD_COLOUR, _histograms

    seconds = {"no face": 10.0, "too short": 2.5, "not readable": 0.0}
    picture = np.asarray(_histograms([], {reason: {"seconds": value} for reason, value in seconds.items()}))
    bars = (picture == DISCARD_COLOUR).all(-1)
    lengths = [int(bars[30 + 20 * row + 6].sum()) for row in range(3)]
    assert lengths[0] == pytest.approx(4 * lengths[1], abs=4) and lengths[0] > 400 and lengths[2] <= 1
