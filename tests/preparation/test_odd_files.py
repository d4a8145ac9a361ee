"""Folders and files as people have them: links, names of any bytes, markup in names, slideshows, damaged work."""

import dataclasses
import json
import os

import pytest
from drawn_videos import SETTINGS, DrawnAnalyzer, reasons, video
from landmark_faces import talk
from tiny_records import assert_same, tiny_record

from vasa_jax.errors import InputError
from vasa_jax.preparation import clips
from vasa_jax.preparation.clips import Discard, PreparedClip, VideoResult, clips_of_video
from vasa_jax.preparation.prepare import find_videos, same_settings, write_shards
from vasa_jax.preparation.report import table
from vasa_jax.preparation.work import VideoJob, read_clip, read_outcome, readable_name, write_outcome


def found(root, **changes) -> list[str]:
    return [job.name for job in find_videos(str(root), dataclasses.replace(SETTINGS, **changes))]


def test_every_video_counts_once_whatever_links_there_are(tmp_path):
    root, outside = tmp_path / "set", tmp_path / "elsewhere"
    (root / "a" / "b").mkdir(parents=True)
    outside.mkdir()
    for path in (root / "a" / "b" / "one.mp4", root / "two.mp4", outside / "three.mp4"):
        path.write_bytes(b"video")
    (root / "again").symlink_to(".")
    (root / "a" / "b" / "up").symlink_to("..")
    (root / "a" / "loop").symlink_to("loop")
    (root / "0_first_by_name").symlink_to("a")
    (root / "0_copy.mp4").symlink_to("two.mp4")
    (root / "c").symlink_to(outside)
    (outside / "back").symlink_to(root)
    (root / "lost.mp4").symlink_to("nowhere.mp4")
    os.link(root / "two.mp4", root / "z_hard.mp4")
    assert found(root) == ["a/b/one.mp4", "c/three.mp4", "lost.mp4", "two.mp4"]
    assert found(root / "two.mp4") == ["two.mp4"]


def test_names_of_any_bytes(tmp_path):
    """Keys of plain names are as ever; others have a readable name, for records and reports are UTF-8."""
    try:
        (tmp_path / os.fsdecode(b"\xff\xfe.mp4")).write_bytes(b"video")
    except OSError:
        pytest.skip("this file system wants UTF-8")
    for name in ("line\nend.mp4", "é.mp4", "plain.mp4"):
        (tmp_path / name).write_bytes(b"video")
    jobs = {job.path.name: job for job in find_videos(str(tmp_path), SETTINGS)}
    odd = jobs[os.fsdecode(b"\xff\xfe.mp4")]
    assert odd.name == "\\xff\\xfe.mp4" and odd.person == "\\xff\\xfe"
    assert jobs["line\nend.mp4"].name == "line\\nend.mp4"
    assert jobs["é.mp4"].name == "é.mp4"
    assert jobs["plain.mp4"].key == "plain_114cc169"
    record = dataclasses.replace(tiny_record(0), person_id=odd.person, source=f"prepared from {odd.name}")
    assert record.to_bytes()
    assert readable_name("a\x1b[31m.mp4") == "a\\x1b[31m.mp4"


def test_markup_in_names_is_shown_not_run():
    names = (
        "<img src=x onerror=alert(1)>.mp4", "[link](javascript:alert(1)).mp4", "<!--.mp4", "a|b.mp4", "a\\|b.mp4",
        "a\r\nb.mp4", "\x1b[31m.mp4", "`code`.mp4", "&lt;.mp4",
    )  # fmt: skip
    lines = table(("video", "n"), [(name, 1) for name in names]).split("\n")
    assert len(lines) == 2 + len(names)
    for name, line in zip(names, lines[2:]):
        assert "<" not in line and "\x1b" not in line and "\r" not in line, line
        assert "](" not in line or "\\](" in line
        cells = line.replace("\\\\", "").replace("\\|", "").split("|")
        assert len(cells) == 4, (name, line)
    assert lines[-1] == "| &amp;lt;.mp4 | 1 |"


@pytest.mark.parametrize(("repeat", "kept"), [(1, True), (2, True), (8, False), (25, False)])
def test_slideshows_are_discarded(tmp_path, repeat, kept):
    """12.5 different pictures per second are kept, 3 and 1 are not, though the file has 25 frames per second."""
    mouth, sound = talk(2.0)
    path = video(tmp_path / "a.mp4", 2.0, sound, repeat=repeat)
    settings = dataclasses.replace(SETTINGS, zoom_spread=0.0, min_sharpness=0.0)
    result = clips_of_video(path, "clip", "person", "train", settings, DrawnAnalyzer(mouth))
    assert bool(result.clips) == kept
    if not kept:
        assert reasons(result) == [(clips.SLOW, 0, 2)]
        assert "different pictures per second" in result.discards[0].detail


@pytest.mark.parametrize("share", [0.0, 0.02, 1.0])
def test_speech_over_a_photograph_that_moves_is_discarded(tmp_path, share):
    """Every picture differs, as under a slow zoom, and the face is found; but the mouth does not speak."""
    mouth, sound = talk(2.0)
    path = video(tmp_path / "a.mp4", 2.0, sound)
    settings = dataclasses.replace(SETTINGS, zoom_spread=0.0, min_sharpness=0.0)
    result = clips_of_video(path, "clip", "person", "train", settings, DrawnAnalyzer(share * mouth))
    assert bool(result.clips) == (share == 1)
    if share < 1:
        assert reasons(result) == [(clips.STILL, 0, 2)]
        assert "lips move by 0.00" in result.discards[0].detail


def outcome_in(work, name="a") -> VideoJob:
    """Writes the outcome of a video with two clips."""
    work.mkdir(exist_ok=True)
    task = VideoJob(work / f"{name}.mp4", f"{name}.mp4", name, "person", "train")
    parts = [PreparedClip(tiny_record(n), 0.0, 0.2, {"seconds": 0.2, "distance": 2.0}) for n in (0, 2)]
    write_outcome(work, task, VideoResult(1.0, parts, [Discard("too short", 0.2, 1.0)]))
    return task


def test_damaged_outcomes_are_made_again(tmp_path):
    task = outcome_in(tmp_path / "work")
    path = tmp_path / "work" / "a.json"
    good = json.loads(path.read_text())
    assert read_outcome(tmp_path / "work", task)["clips"] == good["clips"]
    damaged = ["", "{", "null", "5", "[]", "[" * 10_000, path.read_text()[:50], "1" * 5000]
    for name in good:
        for value in (None, -1, "x", [5], [None], {"a": 1}, [[]], True):
            if (name in ("video", "person", "key") and value == "x") or (name == "sync" and value is None):
                continue
            damaged.append(json.dumps({**good, name: value}))
        damaged.append(json.dumps({key: value for key, value in good.items() if key != name}))
    for text in damaged:
        path.write_text(text)
        assert read_outcome(tmp_path / "work", task) is None, text[:80]


def test_damaged_clips_are_named(tmp_path):
    outcome_in(tmp_path)
    path = tmp_path / "a.clips"
    good = path.read_bytes()
    assert_same(read_clip(tmp_path, "a", 1), tiny_record(2))
    for data in (b"", good[:5], good[:100], b"\xff" * len(good), good[:8] + bytes(len(good) - 8)):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"a\.clips: clip 1 is damaged .*; delete"):
            read_clip(tmp_path, "a", 1)
    path.unlink()
    with pytest.raises(InputError, match=r"a\.clips: clip 0 is damaged"):
        read_clip(tmp_path, "a", 0)


def test_damaged_settings_are_named(tmp_path):
    same_settings(tmp_path, SETTINGS, "config.output")
    path = tmp_path / "settings.json"
    good = path.read_text()
    for text in ("", "{", "[]", "5", good[:40], "[" * 10_000):
        path.write_text(text)
        with pytest.raises(InputError, match=r"settings\.json: .*; nobody can tell"):
            same_settings(tmp_path, SETTINGS, "config.output")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"settings\.json: is a FIFO"):
        same_settings(tmp_path, SETTINGS, "config.output")


def test_damaged_entries_of_shards_are_written_again(tmp_path):
    task = outcome_in(tmp_path / "work")
    outcomes = [read_outcome(tmp_path / "work", task)]
    write_shards([task], outcomes, tmp_path, SETTINGS)
    (entry,) = tmp_path.glob("*-of-*.json")
    good = entry.read_text()
    for text in ("", "{", "[]", json.dumps({**json.loads(good), "files": None}), good[:-20]):
        entry.write_text(text)
        write_shards([task], outcomes, tmp_path, SETTINGS)
        assert entry.read_text() == good
