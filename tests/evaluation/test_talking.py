"""The report on a generator, and the held-out set: generators whose skill is known."""

import dataclasses
import json
import math

import numpy as np
import pytest
from fake_heads import FakeFaceReader, N, PerfectGenerator, StillGenerator, fake_render, use_fake_heads
from PIL import Image

from vasa_jax.config import CorpusConfig, EvaluationConfig, VASAConfig
from vasa_jax.errors import InputError
from vasa_jax.evaluation import held_out, sheets, talking
from vasa_jax.evaluation.report import save_report
from vasa_jax.evaluation.stage import label_metrics
from vasa_jax.evaluation.talking import TalkingEvaluator, evaluate
from vasa_jax.training.tasks import face_probe


@pytest.fixture
def fake_corpus(monkeypatch):
    use_fake_heads(monkeypatch)
    monkeypatch.setattr(talking, "RENDERED_SECONDS", 1.0)


CONFIG = VASAConfig(
    job="evaluate",
    corpus=CorpusConfig(supersample=1),
    evaluation=EvaluationConfig(heads=3, seconds=2.0, codec_frames=3),
)


def test_report_of_a_perfect_generator(fake_corpus, tmp_path, capsys):
    report = TalkingEvaluator(PerfectGenerator(), CONFIG, FakeFaceReader()).run(tmp_path)
    table = report["table"]
    assert table["mouth_r"]["generated"]["mean"] == pytest.approx(1.0, abs=1e-4)
    assert table["mouth_r"]["truth"]["mean"] == pytest.approx(1.0, abs=1e-4)
    assert table["mouth_r"]["second"]["mean"] == pytest.approx(1.0, abs=1e-6)  # half as wide, in time
    assert table["mouth_r"]["constant"]["mean"] == 0.0
    assert abs(table["mouth_r"]["shuffled"]["mean"]) < 0.9
    assert table["mouth_r_pooled"]["generated"]["mean"] == pytest.approx(1.0, abs=1e-4)
    assert table["mouth_offset"]["generated"]["mean"] == 0.0
    assert table["mouth_mae"]["generated"]["mean"] < 1 / 255
    assert table["mouth_mae"]["second"]["mean"] > 0.1
    assert table["identity"]["generated"]["mean"] == pytest.approx(1.0)
    # The reader sees the lips' height follow the jaw and no change of width: r is 1 and 0.
    assert table["lip_shape_r"]["generated"]["mean"] == pytest.approx(0.5, abs=1e-3)
    assert table["lip_shape_mae"]["generated"]["mean"] < 1 / 255
    assert table["lip_shape_mae"]["second"]["mean"] > 0.05
    assert table["pose_audio_r"]["generated"]["mean"] == 0.0
    # Yaw turns by 1/49 rad per frame in the labels; the reader sees a still head.
    assert table["head_motion"]["labels"]["mean"] == pytest.approx(math.degrees(1 / 49) / 3, rel=0.05)
    assert table["head_motion_ratio"]["generated"]["mean"] == table["head_r"]["generated"]["mean"] == 0.0
    assert table["head_r"]["second"]["mean"] == pytest.approx(1 / 3, abs=1e-6)  # yaw alone moves, and in both takes
    assert report["set"] == "vasa_jax.heldout.1"
    assert report["codec"]["same"]["psnr"]["mean"] > 45
    assert report["codec"]["same"]["mouth_r_pooled"]["mean"] == pytest.approx(1.0, abs=1e-4)
    assert report["codec"]["portrait"]["psnr"]["mean"] < 15
    assert report["face_probe"]["frames"] == 75
    assert report["face_probe"]["talking"]["mouth_mae"] < 1 / 255
    assert [head["text"] for head in report["heads"]] == ["a text"] * 3  # the silent clip was passed over

    text = (tmp_path / "report.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert text.index("The face probe's own errors") < text.index("Generated videos") < text.index("codec alone")
    assert "0.6 is reached" in text
    stored = json.loads((tmp_path / "report.json").read_text())
    assert stored["table"]["mouth_r"]["generated"]["mean"] == pytest.approx(1.0, abs=1e-4)
    assert stored["heads"][0]["truth"]["mouth_r"] == pytest.approx(1.0, abs=1e-4)
    sheet = Image.open(tmp_path / "sheets" / "head_00.png")
    assert sheet.size == (9 * sheets.TILE, 2 * sheets.TILE + 150)
    assert Image.open(tmp_path / "sheets" / "codec.png").size == (4 * sheets.TILE, 3 * sheets.TILE)
    assert not list(tmp_path.rglob("*.part"))


def test_report_of_a_still_generator(fake_corpus, tmp_path, capsys):
    report = TalkingEvaluator(StillGenerator(), CONFIG, FakeFaceReader()).run(tmp_path)
    assert report["table"]["mouth_r"]["generated"]["mean"] == 0.0
    assert "0.6 is not reached" in capsys.readouterr().out


def test_evaluate_without_a_model_is_a_clear_error(tmp_path):
    with pytest.raises(InputError, match="no such directory"):
        evaluate(VASAConfig(job="evaluate", checkpoint=str(tmp_path / "nowhere")), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_second_take_is_a_ceiling_for_lips_and_leaves_heads_open(monkeypatch):
    monkeypatch.setattr(held_out, "render", fake_render)
    heads = held_out.HeldOutSet(3, 5.0, 0.1, N, supersample=1, speech="shipped")
    figures = [label_metrics(head.second, head, face_probe.POINTS) for head in (heads[0], heads[1], heads[2])]
    assert min(row["mouth_r"] for row in figures) >= 0.95
    assert abs(np.mean([row["head_r"] for row in figures])) <= 0.5
    assert all(row["mouth_offset"] == 0 for row in figures)


def test_held_out_set_is_a_function_of_its_seed(fake_corpus):
    first, again = (held_out.HeldOutSet(2, 2.0, 1.0, N, seed=0, supersample=1)[1] for _ in range(2))
    other = held_out.HeldOutSet(2, 2.0, 1.0, N, seed=1, supersample=1)[1]
    np.testing.assert_array_equal(first.frames, again.frames)
    assert first.identity["skull_w"] != other.identity["skull_w"]
    assert (first.window.start, first.window.stop) == (12, 37)
    np.testing.assert_allclose(first.in_window("mouth"), first.motion["jaw"][12:37])


def test_sheets(tmp_path):
    red = np.zeros((10, 10, 3), np.uint8)
    red[..., 0] = 255
    sheet = sheets.grid([[red, red], [red]], tile=16)
    assert sheet.shape == (32, 32, 3)
    assert (sheet[:16, 16:] == red[0, 0]).all() and (sheet[16:, 16:] == 255).all()
    plot = sheets.curves({"a": np.zeros(50), "b": np.ones(50)}, title="caf\u00e9 \u4f60" * 60, width=300)
    assert plot.shape == (150, 300, 3)
    blue_rows = np.nonzero((plot == sheets.COLOURS[1]).all(-1).sum(1) > 200)[0]
    assert blue_rows.size and blue_rows.max() < 40  # the larger track lies at the top of the axes
    sheets.save(tmp_path / "deep" / "plot.png", plot)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "deep" / "plot.png")), plot)


class AskedGenerator(PerfectGenerator):
    """Remembers the controls of every take."""

    def __init__(self):
        self.asked = []

    def motion(self, samples, avatar=None, controls=None):
        self.asked.append(controls)
        return super().motion(samples, avatar, controls)


def test_takes_have_the_settings_that_the_report_states(fake_corpus, tmp_path):
    given = {"steps": 7, "solver": "ddim", "audio_guidance": 1.5, "gaze_guidance": 0.25, "distance_guidance": 0.75,
             "emotion_guidance": 2.0, "blink_rate": 3.0, "pose_amplitude": 0.5, "pose_anchor": "absolute",
             "head_pose": (1.0, 2.0, 3.0), "animate": "pose"}  # fmt: skip
    generator = AskedGenerator()
    report = TalkingEvaluator(generator, dataclasses.replace(CONFIG, **given), FakeFaceReader()).run(tmp_path)
    assert len(generator.asked) == 6  # each head from its own sound and from another's
    for controls in generator.asked:
        assert {name: getattr(controls, name) for name in given} == given
    assert {name: report["settings"][name] for name in given} == given


@pytest.mark.parametrize("seconds", [2.04, 9.9, 10.04, 60.0])
def test_longer_clips_than_there_are_end_in_one_line(fake_corpus, seconds):
    with pytest.raises(InputError, match=rf"seconds: {seconds:g} is more than .*choose 8 or less"):
        held_out.HeldOutSet(2, seconds, 1.0, N, supersample=1)


def test_what_is_no_number_is_null_in_a_report(tmp_path):
    nan = {"mean": math.nan, "tracks": np.array([np.inf, 1.0]), "one": np.float32(np.nan), "row": (-np.inf, 2)}
    save_report(nan, "text", tmp_path)

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    stored = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)
    assert stored == {"mean": None, "tracks": [None, 1.0], "one": None, "row": [None, 2]}
