"""The count of what a mark survives and of false alarms."""

import json
import os

import numpy as np
import pytest
from marked_pictures import smooth_pictures

from vasa_jax.config import VASAConfig
from vasa_jax.config.reports import MarksConfig
from vasa_jax.data.video_files import write_video
from vasa_jax.errors import InputError
from vasa_jax.evaluation import false_alarms, mark_recall, marked_videos, marks
from vasa_jax.evaluation.false_alarms import search_window
from vasa_jax.evaluation.ledger import Ledger
from vasa_jax.evaluation.mark_attacks import ATTACKS, at_rate, coded, cut, scaled
from vasa_jax.evaluation.mark_recall import try_carrier
from vasa_jax.evaluation.marked_videos import WHOLE, Carrier, Carriers, files_below, portraits, real_windows
from vasa_jax.evaluation.marks import evaluate_marks
from vasa_jax.evaluation.unmarked_windows import (
    CODECS,
    SHARES,
    UnmarkedWindows,
    Window,
    changed,
    drawn_pattern,
    means,
    recoded,
    window_of,
)
from vasa_jax.files import as_json
from vasa_jax.generation.detect import READABLE
from vasa_jax.generation.mark_search import SIDE, SURE
from vasa_jax.generation.picture_mark import picture_mark
from vasa_jax.generation.watermark import Payload
from vasa_jax.schema import Whole, check


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


def test_windows_are_the_same_at_every_call_and_of_every_source():
    stores = {name: [np.zeros((3, SIDE, SIDE), np.float16)] * 2 for name in SHARES if name != "patterns"}
    windows = UnmarkedWindows(40, stores, 3)
    sources = [windows[number].source for number in range(40)]
    assert {name: sources.count(name) for name in SHARES} == {name: 2 * share for name, share in SHARES.items()}
    for number in (0, 12, 19):
        first, again = windows[number], UnmarkedWindows(20, stores, 3)[number]
        np.testing.assert_array_equal(first.luma, again.luma)
        assert first.piece == again.piece
        assert min(first.luma.shape) == SIDE and np.isfinite(first.luma).all()
    bare = list(UnmarkedWindows(40, {}, 3))
    assert len(bare) == 40 and {window.source for window in bare} == {"patterns"}
    assert len({window.piece for window in bare}) == 40


def test_windows_take_all_pieces_in_turn():
    store = [np.zeros((1, SIDE, SIDE), np.float16)] * 7
    pieces = {window.piece for window in UnmarkedWindows(40, {"photographs": store}, 0) if window.source != "patterns"}
    assert pieces == {f"{number} from 0" for number in range(7)}


def test_windows_are_means_of_5_s():
    rng = np.random.default_rng(0)
    lumas = np.arange(60, dtype=np.float16)[:, None, None] * np.ones((1, SIDE, SIDE), np.float16)
    seen = {(float(luma[0, 0]), start) for luma, start in (window_of(lumas, rng) for _ in range(200))}
    assert all(mean - 12 in range(36) and start == (mean - 12) // 25 for mean, start in seen) and len(seen) > 20
    luma, start = window_of(lumas[:3], rng)
    assert luma[0, 0] == 1 and start == 0
    kinds = {drawn_pattern(np.random.default_rng(seed)).std().round(3) for seed in range(12)}
    assert len(kinds) > 5 and 0 in kinds  # a flat colour is one of them
    assert min(changed(lumas[0].astype(np.float32), rng).shape) == SIDE


def test_recoded_clips_are_other_pictures(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames(25, 96))
    plain, other = means(frames(25, 96)).astype(float), recoded(path, 4).astype(float)
    assert other.shape == (5, SIDE, SIDE)
    assert 0.1 < np.abs(other[0] - plain[0]).mean() < 10


def test_a_window_is_counted_with_its_draws():
    noise = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32) * 9 + 100
    row = false_alarms.search_window(Window("patterns", "a", noise))
    assert row["source"] == "patterns" and SURE < row["p"] <= 1
    # The tail is an upper bound, and draws keep below it by far less than ten times.
    assert 0.1 < row["beyond"][0] / false_alarms.DRAWS / false_alarms.LEVELS[0] < 1.5
    assert row["beyond"] == sorted(row["beyond"], reverse=True)


def test_false_alarms_are_summed_by_source():
    beyond = [0] * len(false_alarms.LEVELS)
    rows = [{"source": "a", "piece": str(n % 2), "p": p, "beyond": beyond} for n, p in enumerate([1.0, SURE, 0.05])]
    rows.append({"source": "b", "piece": "0", "p": 0.1, "beyond": [false_alarms.DRAWS, *beyond[1:]]})
    report = false_alarms.summary(rows)
    assert report["sources"]["a"] == {"windows": 3, "disjoint": 2, "alarms": 1, "least": SURE}
    assert report["sources"]["b"]["alarms"] == 0
    assert report["levels"][0] == {"level": 0.1, "windows": 0.75, "draws": 0.25}
    assert "| all | 4 | 3 | 1 | 1e-06 |" in false_alarms.as_lines(report)


def test_bounds_of_rates():
    """No event in n trials: the rate r with (1 - r)^n = 0.05, the rule of three."""
    assert (1 - false_alarms.upper_bound(0, 20_000)) ** 20_000 == pytest.approx(0.05)
    assert false_alarms.upper_bound(0, 20_000) == pytest.approx(3 / 20_000, rel=0.01)
    assert false_alarms.upper_bound(1, 100) > false_alarms.upper_bound(0, 100)
    assert false_alarms.upper_bound(3, 3) == 1


def trial(**changes):
    flat = {"share": 0.5, "rms": 0.5, "most": 2.0, "flicker": 0.01}
    return {"kind": "real", "size": 256, "psnr": 45.0, "flicker": 0.1, "flat": flat} | {
        "p": dict.fromkeys(ATTACKS, SURE), "certainty": dict.fromkeys(ATTACKS, READABLE),
        "right": dict.fromkeys(ATTACKS, True),
    } | changes  # fmt: skip


def test_recall_is_counted_by_kind_and_size():
    missed = dict.fromkeys(ATTACKS, SURE) | {"crf 28": 2 * SURE}
    unread = dict.fromkeys(ATTACKS, READABLE) | {"crf 23": 0.9}
    other = dict.fromkeys(ATTACKS, True) | {"crf 18": False, "crf 23": False}
    rows = [trial(), trial(p=missed, psnr=47.0), trial(certainty=unread, right=other), trial(size=512)]
    report = mark_recall.summary(rows)
    group = report["real, 256 x 256"]
    assert group["videos"] == 3 and group["psnr"] == [45.0, pytest.approx(137 / 3)]
    counts = {name: [group[what][name] for what in ("found", "read", "wrong")] for name in ATTACKS}
    assert counts["crf 28"] == [2, 2, 0] and counts["crf 23"] == [3, 2, 0] and counts["crf 18"] == [3, 2, 1]
    lines = mark_recall.as_lines(report)
    assert "| crf 28: found; payload read | 2; 2 | 1; 1 |" in lines
    assert "| crf 18: found; payload read | 3; 2 (1 wrong) | 1; 1 |" in lines
    whole = mark_recall.summary([trial(kind=WHOLE, size=size) for size in (512, 300, 400)])
    assert {title: group["videos"] for title, group in whole.items()} == {"whole photographs, 300 to 512 pixels": 3}


def test_flat_ground_is_counted_where_there_is_some():
    bare = {"share": 0.0, "rms": 0.0, "most": 0.0, "flicker": 0.0}
    loud = {"share": 0.1, "rms": 0.7, "most": 3.0, "flicker": 0.03}
    report = mark_recall.summary([trial(), trial(flat=bare), trial(flat=loud), trial(size=512, flat=bare)])
    assert report["real, 256 x 256"]["flat"] == [2, pytest.approx(0.6), 3.0, pytest.approx(0.02)]
    lines = mark_recall.as_lines(report)
    wanted = "0.60, 3; 0.020 levels in 2 videos | 0.00, 0; 0.000 levels in 0 videos"
    assert f"| flat ground: rms, most; frame-to-frame | {wanted} |" in lines


def test_what_a_mark_adds_on_flat_ground():
    """The left of every frame is flat, the right is texture: only the left counts."""
    shown = np.full((3, 64, 128, 3), 90, np.uint8)
    shown[:, :, 64:] = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3))
    difference = np.zeros(shown.shape, np.float32)
    difference[:, :, 64:] = 50
    difference[:, :, :16] = np.array([1, -1, 2], np.float32)[:, None, None, None]
    found = mark_recall.on_flat_ground(difference, shown)
    part = 16 / 128 / found["share"]  # of the flat ground
    assert 0.3 < found["share"] < 0.5 and found["most"] == 2
    assert found["rms"] == pytest.approx(np.sqrt(part * (1 + 1 + 4) / 3), rel=1e-5)
    assert found["flicker"] == pytest.approx(part * (2 + 3) / 2, rel=1e-5)
    none = mark_recall.on_flat_ground(difference[:, :, 64:], shown[:, :, 64:])
    assert none == {"share": 0, "rms": 0, "most": 0, "flicker": 0}


def test_every_video_gets_every_size_and_several_payloads():
    carriers = Carriers(MarksConfig(sizes=(64, 128), payloads=2), [frames(2, 64)], [frames(2, 32)])
    shown = [(carrier.kind, carrier.frames.shape[1]) for carrier in carriers]
    assert shown == [(kind, size) for kind in ("real", "generated") for size in (64, 64, 128, 128)]
    assert [carrier.number for carrier in carriers] == list(range(8))


def test_frames_of_a_photograph_share_its_mark():
    photograph = smooth_pictures(1, 96)[0][:, :70]
    frames = np.stack([photograph, np.zeros_like(photograph) + 90, photograph])
    shown = Carrier(WHOLE, frames, 1, photograph).marked(Payload(5)).astype(float)
    added = picture_mark(photograph, Payload(5))
    inside = np.abs(shown - frames - added[..., None])[(frames > 4) & (frames < 251)]
    assert inside.max() <= 0.5 + 1e-3
    own = Carrier("real", frames, 1).marked(Payload(5)).astype(float)
    assert (own[1] - frames[1]).std() < 0.8 < (shown[1] - frames[1]).std()  # that of a flat frame would be fainter


def test_clips_are_cut_into_windows_that_share_no_frame(tmp_path, monkeypatch):
    """The first of every clip first; what is shorter than a window is left out, at the end of a clip too."""
    monkeypatch.setattr(marked_videos, "LENGTH", 4)
    paths = []
    for number, count in enumerate((9, 3, 4)):
        levels = 40 * number + 10 * np.arange(count, dtype=np.uint8)
        shown = np.broadcast_to(levels[:, None, None, None], (count, 64, 80, 3)).astype(np.uint8)
        paths.append(write_video(tmp_path / f"{number}.mp4", shown))
    windows = real_windows(paths, 9)
    assert [window.shape for window in windows] == [(4, 64, 64, 3)] * 3
    starts = [round(float(window[0].mean())) for window in windows]
    np.testing.assert_allclose(starts, [0, 80, 40], atol=3)
    assert len(real_windows(paths, 2)) == 2 and real_windows([], 2) == []


def test_more_portraits_are_the_same_and_others(tmp_path, monkeypatch):
    """Pictures that are refused are left out; without a folder they are rendered."""

    class Reader:
        image_size = 64

        def read_portrait(self, path):
            if path.stem == "3":
                raise InputError(f"{path}: no face")
            return path.stem

    class Heads:
        def __init__(self, size, seed):
            self.size, self.identity = size, int

        def portrait(self, identity):
            return np.full((self.size, self.size, 3), identity, np.uint8)

    for number in range(9):
        (tmp_path / f"{number}.png").touch()
    few, more, every = (portraits(MarksConfig(portraits=str(tmp_path)), Reader(), 0, count) for count in (3, 5, 50))
    assert few == more[:3] and more == every[:5] and set(every) == set("01245678") and every != sorted(every)
    monkeypatch.setattr(marked_videos, "HeldOutHeads", Heads)
    drawn = portraits(MarksConfig(), Reader(), 0, 2)[1]
    assert drawn.pixels.max() == 1 and drawn.picture is drawn.pixels and drawn.crop == (0, 0, 64)


class Made(list):
    """Generated videos as the job has them, of one picture that does not move."""

    def whole(self, number):
        frames = np.repeat(smooth_pictures(1, 128, number), 25, 0)
        return frames[0], frames


DOUBLED = {"twice": Whole(0, 100)}


def test_a_ledger_goes_on_where_it_ended(tmp_path):
    path, asked = tmp_path / "a.jsonl", []

    def double(job):
        asked.append(job)
        return {"twice": 2 * job}

    assert list(Ledger(path, {"seed": 1}, DOUBLED).count(double, [5, 6], 0)) == [1, 2]
    with open(path, "a") as file:
        file.write('{"number": 2, "twi')  # the machine went down here
    again = Ledger(path, {"seed": 1}, DOUBLED)
    assert list(again.count(double, [5, 6, 7, 8], 0)) == [3, 4] and asked == [5, 6, 7, 8]
    wanted = [{"twice": 10}, {"twice": 12}, {"twice": 14}]
    assert Ledger(path, {"seed": 1}, DOUBLED).first(3) == again.first(3) == wanted
    with pytest.raises(InputError, match="seed 1, now 2"):
        Ledger(path, {"seed": 2}, DOUBLED)
    good = '{"key": {"seed": 1}}\n'
    rows = ("[1]", "[" * 10**5, "{}", '{"number": 0}', '{"number": "0", "twice": 1}', '{"number": 0, "twice": "1"}')
    keys = ("junk\n", "[]\n", "\xff\n", '{"key": 5}\n', '{"key": [[]]}\n')
    for junk in ("", *keys, *(f"{good}{row}\n" for row in rows)):
        path.write_text(junk)
        with pytest.raises(InputError, match=r"a\.jsonl.*; delete it") as caught:
            Ledger(path, {"seed": 1}, DOUBLED)
        assert "\n" not in str(caught.value)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="is a FIFO"):
        Ledger(path, {"seed": 1}, DOUBLED)


def test_what_is_tried_and_searched_is_what_a_ledger_wants():
    """Rows as the job makes them pass the schemas that it reads them by."""
    window = Window("patterns", "pattern 1", drawn_pattern(np.random.default_rng(0)))
    check(as_json(search_window(window)), false_alarms.ROW, "a", "b")
    check(as_json(try_carrier(Carrier("real", frames(10, 64), 1))), mark_recall.kept(), "a", "b")


def test_job_on_a_few(tmp_path, monkeypatch, capsys):
    """Everything but the model: one real clip, marked at 128 pixels, few attacks, few windows; then it goes on."""
    monkeypatch.setattr(marked_videos, "LENGTH", 25)
    monkeypatch.setattr(marks, "rendered_lumas", lambda seed: [])
    monkeypatch.setattr(mark_recall, "ATTACKS", {name: ATTACKS[name] for name in ("as written", "crf 23")})
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "a.mp4", np.repeat(smooth_pictures(1, 128), 25, 0))
    made = Made([np.repeat(smooth_pictures(1, 64, 1), 25, 0)])
    monkeypatch.setattr(marks, "GeneratedVideos", lambda config, count, folder: made)
    settings = {"clips": 1, "carriers": 1, "payloads": 1, "sizes": (128,), "pasted": 1, "workers": 1}

    def run(windows):
        config = VASAConfig(videos=str(tmp_path / "clips"), marks=MarksConfig(windows=windows, **settings))
        return evaluate_marks(config, tmp_path / "out")

    report = run(20)
    assert report["recall"]["real, 128 x 128"]["found"] == {"as written": 1, "crf 23": 1}
    assert report["recall"]["generated, 128 x 128"]["read"]["as written"] == 1
    assert report["recall"]["whole photographs, 128 to 128 pixels"]["found"] == {"as written": 1, "crf 23": 1}
    assert report["recall"]["real, 128 x 128"]["psnr"][0] >= 44
    counted = report["alarms"]["sources"]
    assert sum(row["windows"] for row in counted.values()) == 20
    assert not sum(row["alarms"] for row in counted.values())
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(json.dumps(report))
    assert (tmp_path / "out" / "report.md").read_text() in capsys.readouterr().out
    monkeypatch.setattr(mark_recall, "try_carrier", None)  # nothing is tried twice
    again = run(25)
    assert again["recall"] == report["recall"]
    assert sum(row["windows"] for row in again["alarms"]["sources"].values()) == 25


def test_folders_that_are_none(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        files_below(f"{tmp_path},{tmp_path / 'none'}", {".mp4"})
    assert files_below("", {".mp4"}) == []
