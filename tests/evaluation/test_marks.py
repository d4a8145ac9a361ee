"""The count of what a mark survives and of false alarms."""

import json

import numpy as np
import pytest
from marked_pictures import smooth_pictures

from vasa_jax.config import VASAConfig
from vasa_jax.config.reports import MarksConfig
from vasa_jax.data.video_files import write_video
from vasa_jax.errors import InputError
from vasa_jax.evaluation import marks, unmarked_windows
from vasa_jax.evaluation.mark_attacks import ATTACKS, at_rate, coded, cut, scaled
from vasa_jax.evaluation.marks import Trial, as_text, evaluate_marks, false_alarms, find_clips, recall
from vasa_jax.evaluation.unmarked_windows import CODECS, SHARES, UnmarkedWindows, changed, drawn_pattern, window_of
from vasa_jax.generation.mark_search import SIDE, SURE


def frames(count=10, size=64):
    return np.repeat(smooth_pictures(1, size), count, 0)


@pytest.mark.parametrize("codec", CODECS)
def test_codecs_give_the_frames_back(codec):
    shown = coded(frames(), 23, codec=codec)
    assert shown.shape == (10, 64, 64, 3) and shown.dtype == np.uint8
    assert 0 < np.abs(shown.astype(int) - frames()).mean() < 10


def test_a_higher_crf_is_further_from_the_original():
    errors = [np.abs(coded(frames(), crf).astype(int) - frames()).mean() for crf in (18, 23, 28)]
    assert errors[0] < errors[1] < errors[2]


def test_attacks_change_shape_and_rate_as_they_say():
    rng = np.random.default_rng(0)
    assert scaled(frames(2), 0.5).shape == (2, 32, 32, 3) and scaled(frames(2), 1.5).shape == (2, 96, 96, 3)
    assert cut(frames(2), 0.1, rng).shape == (2, 58, 58, 3)
    numbered = np.arange(25)[:, None, None, None] * np.ones((1, 2, 2, 3), int)
    assert at_rate(numbered, 24)[:, 0, 0, 0].tolist() == [n * 25 // 24 for n in range(24)]
    thirty = at_rate(numbered, 30)[:, 0, 0, 0]
    assert len(thirty) == 30 and set(thirty) == set(range(25)) and (np.diff(thirty) >= 0).all()
    for name, attack in ATTACKS.items():
        shown = attack(frames(25), rng)
        assert (len(shown) == 1) == name.startswith("one frame"), name


def test_windows_are_the_same_at_every_call_and_of_every_source(tmp_path):
    clips = [write_video(tmp_path / f"{n}.mp4", np.repeat(smooth_pictures(1, 64, n), 30, 0)) for n in range(2)]
    heads = [np.zeros((3, SIDE, SIDE), np.float16)]
    windows = UnmarkedWindows(40, clips, heads, heads, 3)
    sources = [windows[number][0] for number in range(40)]
    assert {name: sources.count(name) for name in SHARES} == {name: 2 * share for name, share in SHARES.items()}
    for number in (0, 12, 19):
        np.testing.assert_array_equal(windows[number][1], windows[number][1])
        assert min(windows[number][1].shape) == SIDE and np.isfinite(windows[number][1]).all()
    bare = list(UnmarkedWindows(40, [], [], [], 3))
    assert len(bare) == 40 and {source for source, _ in bare} == {"patterns"}


def test_windows_are_means_of_5_s():
    rng = np.random.default_rng(0)
    lumas = np.arange(40, dtype=np.float16)[:, None, None] * np.ones((1, SIDE, SIDE), np.float16)
    means = {float(window_of(lumas, rng)[0, 0]) for _ in range(50)}
    assert means <= {start + 12.0 for start in range(16)} and len(means) > 5
    assert window_of(lumas[:3], rng)[0, 0] == 1
    kinds = {drawn_pattern(np.random.default_rng(seed)).std().round(3) for seed in range(8)}
    assert len(kinds) > 4
    assert min(changed(lumas[0].astype(np.float32), rng).shape) == SIDE


def trial(**changes):
    every = dict.fromkeys(ATTACKS, True)
    return Trial(**({"kind": "real", "size": 256, "psnr": 45.0, "flicker": 0.1} | {
        "found": every, "read": every, "wrong": dict.fromkeys(ATTACKS, False)
    } | changes))  # fmt: skip


def test_report_counts_by_kind_and_size():
    missed = dict.fromkeys(ATTACKS, True) | {"crf 28": False}
    report = recall([trial(), trial(found=missed, psnr=47.0), trial(size=512)])
    assert report["real, 256 x 256"]["videos"] == 2 and report["real, 256 x 256"]["found"]["crf 28"] == 1
    assert report["real, 256 x 256"]["psnr"] == [45.0, 46.0]
    alarms = false_alarms({"a": [1.0, SURE, 0.5], "b": [0.1]})
    assert alarms["a"] == {"windows": 3, "alarms": 1, "least": SURE} and alarms["b"]["alarms"] == 0
    shown = as_text({"cost": {64: 0.5}, "recall": report, "alarms": alarms})
    assert shown.startswith("Marking a frame takes 0.50 ms at 64 x 64 here.")
    assert "| crf 28: found; payload read | 1; 2 | 1; 1 |" in shown and "| all | 4 | 1 | 1e-05 |" in shown


def test_job_on_a_few(tmp_path, monkeypatch, capsys):
    """Everything but the model: one real clip, marked at 64 pixels, few attacks, few windows."""
    monkeypatch.setattr(marks, "LENGTH", 25)
    monkeypatch.setattr(marks, "rendered_lumas", lambda config: [])
    monkeypatch.setattr(unmarked_windows, "recoded_clips", lambda clips: [])
    monkeypatch.setattr(marks, "ATTACKS", {name: ATTACKS[name] for name in ("as written", "crf 23")})
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "a.mp4", np.repeat(smooth_pictures(1, 128), 25, 0))
    settings = MarksConfig(carriers=2, sizes=(128,), windows=20, workers=1)
    monkeypatch.setattr(marks, "GeneratedVideos", lambda config, count: [np.repeat(smooth_pictures(1, 64, 1), 25, 0)])
    report = evaluate_marks(VASAConfig(videos=str(tmp_path / "clips"), marks=settings), tmp_path / "out")
    assert report["recall"]["real, 128 x 128"]["found"] == {"as written": 1, "crf 23": 1}
    assert report["recall"]["generated, 128 x 128"]["read"]["as written"] == 1
    assert sum(row["windows"] for row in report["alarms"].values()) == 20
    assert not sum(row["alarms"] for row in report["alarms"].values())
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(json.dumps(report))
    assert 0 < report["cost"][128] < 1000
    assert (tmp_path / "out" / "report.md").read_text() in capsys.readouterr().out


def test_folders_that_are_none(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        find_clips(f"{tmp_path},{tmp_path / 'none'}")
    assert find_clips("") == []
