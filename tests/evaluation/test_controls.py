"""The report on controls, guidance and steps: a generator whose obedience is known, and a real one of tiny size."""

import dataclasses
import json

import numpy as np
import pytest
from fake_heads import FRAMES, FakeFaceReader, PerfectGenerator, use_fake_heads
from PIL import Image
from tiny_model import save_tiny_model

from vasa_jax.config import ControlsEvaluationConfig, CorpusConfig, VASAConfig
from vasa_jax.conventions import EMOTIONS
from vasa_jax.errors import InputError
from vasa_jax.evaluation import sheets
from vasa_jax.evaluation.controls import ControlsEvaluator
from vasa_jax.evaluation.face_readings import FEELINGS, EmotionReader
from vasa_jax.evaluation.protocol import Instruments
from vasa_jax.evaluation.sync import SyncFigures
from vasa_jax.generation.generator import VideoGenerator

SETTINGS = ControlsEvaluationConfig(
    heads=3, seconds=2.0, rendered_seconds=1.0, samples=2, control_scales=(0.0, 1.0), audio_scales=(0.0, 2.0),
    step_counts=(5,), solvers=("dpmpp",), rows=(), emotions=3, emotion_frames=2, shown=1,
)  # fmt: skip
CONFIG = VASAConfig(job="evaluate_controls", corpus=CorpusConfig(supersample=1), controls_evaluation=SETTINGS)
NO_NETWORKS = Instruments(FakeFaceReader(), None, None, None, {})
MARK = 77
OBEYED = 1.0  # scale from which the generator does what it is asked for


class ObedientGenerator(PerfectGenerator):
    """Speaks late without audio guidance; shows an emotion (its number in the first pixel) when guided enough; opens
    the jaw half as wide in takes with an odd seed."""

    trained_controls = ("emotion",)

    def __init__(self):
        self.asked = []

    def motion(self, samples, avatar=None, controls=None):
        self.asked.append(controls)
        jaw = np.roll(samples[::640], 0 if controls.audio_guidance else 3)
        name = controls.emotion.split(":")[0]
        shown = EMOTIONS.index(name) + 1 if name and controls.emotion_guidance >= OBEYED else 0
        half = 0.5 if controls.seed % 2 else 1.0
        return np.stack([half * jaw, np.full(len(jaw), shown)], -1)

    def encode_motion(self, frames):
        return np.pad(super().encode_motion(frames), ((0, 0), (0, 1)))

    def render(self, avatar, motion):
        for frame, shown in zip(super().render(avatar, motion), motion[:, 1]):
            frame[:, 0, 0] = 10 * shown
            yield frame


class PixelReader:
    """Takes the first pixel for the emotion's number; 0 is an even guess with a little more of fear."""

    source, training_metrics = "a fake", {"clip_accuracy": 0.75, "soft_clip_accuracy": 0.5}

    def read(self, frames, reading, points):
        number = (frames[:, 0, 0, 0] / 10.0).round().astype(int)
        shares = np.full((len(frames), 8), 1 / 8) + 0.01 * np.eye(8)[EMOTIONS.index("fear")]
        shares[number > 0] = np.eye(8)[number[number > 0] - 1]
        return shares


def evaluator(generator, config, reader, emotions=None, tools=NO_NETWORKS):
    return ControlsEvaluator(generator, config, reader, emotions, tools)


@pytest.fixture
def fake_corpus(monkeypatch):
    use_fake_heads(monkeypatch)


def test_report_of_an_obedient_generator(fake_corpus, tmp_path, capsys):
    generator = ObedientGenerator()
    report = evaluator(generator, CONFIG, FakeFaceReader(), PixelReader()).run(tmp_path)
    assert report["control_columns"] == ["uncontrolled", "0", "1", "truth"]
    assert set(report["skipped"]) == {"gaze", "distance"}
    emotion = report["controls"]["emotion"]
    accuracy = {column: value["mean"] for column, value in emotion["emotion_accuracy"].items()}
    # 3 heads x 3 emotions: the seven in turn, so that the guess is right once.
    assert accuracy == {
        "uncontrolled": pytest.approx(1 / 9), "0": pytest.approx(1 / 9), "1": 1.0, "truth": 1.0,
    }  # fmt: skip
    assert emotion["emotion_share"]["1"]["mean"] == 1.0
    assert emotion["mouth_r"]["0"]["mean"] == pytest.approx(1.0, abs=1e-3) and emotion["mouth_r"]["truth"] is None
    assert set(report["controls"]["named"]) == set(FEELINGS)
    assert report["controls"]["named"]["fear"]["uncontrolled"]["mean"] == 1.0
    assert report["controls"]["named"]["anger"]["uncontrolled"]["mean"] == 0.0

    usual, unguided = report["usual"], report["by_guidance"]["0"]
    assert usual == "audio guidance 0.5, 25 steps, dpmpp"
    sampling = report["sampling"]
    assert set(sampling) == {
        "audio guidance 0, 25 steps, dpmpp", "audio guidance 2, 25 steps, dpmpp", "audio guidance 0.5, 5 steps, dpmpp",
        "truth", "second", "shuffled", "constant",
    }  # fmt: skip
    assert (sampling[unguided]["offset"]["mean"], sampling[unguided]["in_sync"]["mean"]) == (3, 0.0)
    assert sampling[unguided]["mouth_r"]["mean"] < 0.9
    guided = sampling[report["by_guidance"]["2"]]
    assert (guided["offset"]["mean"], guided["in_sync"]["mean"]) == (0, 1.0)
    assert guided["mouth_r"]["mean"] == pytest.approx(1.0, abs=1e-3)
    assert guided["lips_agreement"]["mean"] == pytest.approx(1.0, abs=1e-3)
    assert guided["head_diversity"]["mean"] == 0.0  # the reader sees still heads
    assert sampling["truth"]["lips_agreement"]["mean"] == pytest.approx(1.0, abs=1e-3)
    assert sampling["constant"]["mouth_r"]["mean"] == 0.0 and "offset" not in sampling["constant"]
    assert abs(sampling["shuffled"]["mouth_r"]["mean"]) < 0.9

    # Takes to be compared have the same seeds, other heads other ones.
    emotions = [asked for asked in generator.asked if asked.emotion]
    assert len(emotions) == 3 * 3 * 2 and {asked.seed for asked in emotions} == {0, 1, 2}
    by_way = {}
    for asked in generator.asked:
        if asked.audio_guidance != 0.5 or asked.steps == 5:
            by_way.setdefault((asked.audio_guidance, asked.steps, asked.solver), []).append(asked.seed)
    assert by_way == {way: [0, 1, 2, 3, 4, 5] for way in [(0.0, 25, "dpmpp"), (2.0, 25, "dpmpp"), (0.5, 5, "dpmpp")]}

    text = (tmp_path / "report.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert text.index("face probe's own errors") < text.index("reader of emotions") < text.index("## Controls")
    assert "### Gaze\n\nNot measured: these weights were not trained for it; configs/train_motion.py" in text
    assert "| clips with at least half of an emotion, named right | 0.750 | 0.500 |" in text
    assert "The usual way of sampling is none of those measured." in text
    assert json.loads((tmp_path / "report.json").read_text())["settings"]["audio_scales"] == [0.0, 2.0]
    assert Image.open(tmp_path / "sheets" / "emotion.png").size == (5 * sheets.TILE, sheets.TILE)
    assert {path.name for path in (tmp_path / "plots").iterdir()} >= {"emotion.png", "mouth_r_by_guidance.png"}
    assert not list(tmp_path.rglob("*.part"))


class TurningGenerator(PerfectGenerator):
    """Gaze and distance are what they are asked to be, less the more they are guided."""

    trained_controls = ("gaze", "distance")

    def motion(self, samples, avatar=None, controls=None):
        given = {"gaze": controls.gaze is not None, "distance": controls.distance is not None}
        scales = [getattr(controls, f"{name}_guidance") * given[name] for name in ("gaze", "distance")]
        return np.stack([samples[::640], *(np.full(FRAMES, scale) for scale in scales)], -1)

    def encode_motion(self, frames):
        return np.pad(super().encode_motion(frames), ((0, 0), (0, 2)))

    def render(self, avatar, motion):
        for frame, scales in zip(super().render(avatar, motion), motion[:, 1:]):
            frame[:, 0, 0] = (*(10 * scales), MARK)
            yield frame


class TurningReader(FakeFaceReader):
    """Reads 1 degree and 1 % off for each unit of guidance."""

    def measure(self, frames):
        reading = super().measure(frames)
        gaze, distance, mark = frames[:, 0, 0].T / 10.0
        marked = (mark == MARK / 10.0) & (gaze != mark)  # true frames are grey
        gaze, distance = gaze * marked, distance * marked
        pose = reading.pose.copy()
        pose[:, 6] = -np.log1p(0.01 * distance)
        return dataclasses.replace(reading, gaze=np.stack([gaze, 0 * gaze], -1), pose=pose)


def test_errors_of_gaze_and_distance_by_scale(fake_corpus, tmp_path):
    config = dataclasses.replace(
        CONFIG,
        audio_guidance=2.0,
        controls_evaluation=dataclasses.replace(SETTINGS, control_scales=(0.5, 4.0), samples=1),
    )
    report = evaluator(TurningGenerator(), config, TurningReader()).run(tmp_path)
    gaze, distance = (report["controls"][name][f"{name}_error"] for name in ("gaze", "distance"))
    assert [gaze[column]["mean"] for column in ("uncontrolled", "0.5", "4", "truth")] == pytest.approx([0, 0.5, 4, 0])
    found = [distance[column]["mean"] for column in ("uncontrolled", "0.5", "4", "truth")]
    assert found == pytest.approx([0, 0.005, 0.04, 0], abs=1e-6)
    text = (tmp_path / "report.md").read_text()
    assert report["given"] == ["gaze", "distance"] and "Controls given: gaze, distance." in text
    assert "One take per setting" in text and "### Emotion\n\nNot measured: these weights" in text
    assert "best at an offset of +0 frames" in text  # the usual way is among those measured


class Told:
    """Networks that say of a video what it was asked: guidance of gaze, which is in the first pixel."""

    def score(self, pose, samples):
        assert len(samples) == 640 * len(pose)
        return float(np.exp(-pose[:, 6]).mean())

    def measure(self, seen, heard):
        return SyncFigures(float(len(list(seen))), 0.5, 0)

    def __call__(self, frames):
        return frames[::25, 0, 0, :2].astype(np.float64) + np.arange(len(frames) // 25)[:, None]


def test_the_table_of_guidance_and_steps_has_the_papers_rows_and_columns(fake_corpus, tmp_path):
    """Rows in their order, each with its own guidance and steps; nothing else is sampled without sweeps."""
    generator = TurningGenerator()
    asked = []
    motion = generator.motion
    generator.motion = lambda samples, avatar, controls: asked.append(controls) or motion(samples, avatar, controls)
    alone = dataclasses.replace(SETTINGS, rows=ControlsEvaluationConfig().rows, sweeps=False)
    config = dataclasses.replace(CONFIG, distance_guidance=1.0, controls_evaluation=alone)
    told = Told()
    tools = dataclasses.replace(NO_NETWORKS, capp=told, sync=told, fvd=told)
    report = evaluator(generator, config, TurningReader(), tools=tools).run(tmp_path)
    paper = [(0, 0, 50), (0, 1, 50), (0, 2, 50), (0.5, 1, 50), (1, 1, 50), (2, 1, 50), (0.5, 1, 10)]
    table = report["table"]
    assert list(table) == [*(f"audio {a:g}, gaze {g:g}, {n} steps" for a, g, n in paper), "true videos"]
    assert [(c.audio_guidance, c.gaze_guidance, c.steps) for c in asked[: 2 * len(paper)]] == [
        way for way in paper for _ in range(2)
    ]
    assert len(asked) == 3 * 2 * len(paper) and all(c.gaze == (0.0, 0.0) and c.distance == 1.0 for c in asked)
    assert [c.seed for c in asked] == [2 * head + take for head in range(3) for _ in paper for take in range(2)]
    rows = list(table.values())[:-1]
    assert [row["gaze_error"]["mean"] for row in rows] == pytest.approx([gaze for _, gaze, _ in paper])
    assert [row["distance_error"]["mean"] for row in rows] == pytest.approx([0.01] * len(paper), abs=1e-6)
    assert [row["capp"]["mean"] for row in rows] == pytest.approx([1.01] * len(paper), abs=1e-6)
    assert {row["delta_p"]["mean"] for row in rows} == {0.0} and "fvd" not in table["true videos"]
    assert rows[0]["sync_confidence"]["mean"] == FRAMES and table["true videos"]["sync_confidence"]["mean"] == 25
    assert len({round(row["fvd"]["mean"], 3) for row in rows}) == 3  # the gaze alone is seen, by this network
    text = (tmp_path / "report.md").read_text()
    columns = "S_C | S_D | CAPP, own weights | delta P, degrees | FVD_25 | FRD, own probe | gaze error, degrees |"
    assert columns in text and "Not measured" not in text and "## Controls" not in text
    assert "sampling" not in report and not (tmp_path / "plots").exists()
    assert "Table 5; 2 takes per head, dpmpp," in text
    bare = evaluator(generator, config, TurningReader()).run(tmp_path / "bare")
    assert {"capp", "sync_confidence", "fvd"}.isdisjoint(bare["table"]["true videos"])
    assert "Not measured: S_C, S_D, FVD_25 (config.vid" in (tmp_path / "bare" / "report.md").read_text()


def test_takes_have_the_settings_that_the_report_states(fake_corpus, tmp_path):
    given = {"steps": 7, "solver": "ddim", "audio_guidance": 1.5, "blink_rate": 3.0, "pose_amplitude": 0.5,
             "pose_anchor": "absolute", "head_pose": (1.0, 2.0, 3.0), "animate": "pose", "hop": 5, "look_ahead": 2,
             "gaze_guidance": 0.25, "distance_guidance": 0.75}  # fmt: skip
    varied = {"steps", "solver", "audio_guidance"}
    generator = ObedientGenerator()
    config = dataclasses.replace(CONFIG, gaze=(9.0, 9.0), distance=1.5, emotion="fear", **given)
    report = evaluator(generator, config, FakeFaceReader(), PixelReader()).run(tmp_path)
    assert {name: report["settings"][name] for name in given} == given
    for controls in generator.asked:
        for name in given.keys() - varied:
            assert getattr(controls, name) == given[name]
    free = generator.asked[0]  # nothing is given, and nothing varied
    assert (free.gaze, free.distance, free.emotion) == (None, None, "")
    assert {name: getattr(free, name) for name in given} == given
    assert "Controls given: fear." in (tmp_path / "report.md").read_text()


def test_a_track_of_what_is_varied_ends_in_one_line(tmp_path):
    track = tmp_path / "track.json"
    track.write_text(json.dumps({"audio_guidance": [0.5, 1.0]}))
    with pytest.raises(InputError, match="audio_guidance is varied here; give one number"):
        evaluator(ObedientGenerator(), dataclasses.replace(CONFIG, controls=str(track)), FakeFaceReader())


def test_without_a_reader_emotions_are_not_measured(fake_corpus, tmp_path):
    report = evaluator(ObedientGenerator(), CONFIG, FakeFaceReader()).run(tmp_path)
    assert report["controls"] == {} and "configs/train_emotion.py" in report["skipped"]["emotion"]
    assert "### Emotion\n\nNot measured: there is no reader of emotions" in (tmp_path / "report.md").read_text()


@pytest.mark.slow
def test_report_of_a_real_generator(monkeypatch, tmp_path):
    """All three controls, a tiny model and a reader of emotions, both with random weights."""
    use_fake_heads(monkeypatch)
    from random_params import random_params

    from vasa_jax.training.tasks.emotion import EmotionSettings, EmotionTask

    generator = VideoGenerator.from_pretrained(save_tiny_model(tmp_path / "model"), mark=False)
    reader = EmotionReader(random_params(EmotionTask(EmotionSettings(), CorpusConfig(), 2).init))
    few = dataclasses.replace(
        SETTINGS,
        heads=2,
        seconds=1.0,
        samples=1,
        control_scales=(1.0,),
        audio_scales=(0.5,),
        emotions=1,
        step_counts=(2,),
    )
    config = dataclasses.replace(CONFIG, steps=2, solver="dpmpp", controls_evaluation=few)
    first, again = (
        evaluator(generator, config, FakeFaceReader(), reader).run(tmp_path / name)
        for name in ("first", "again")
    )
    assert not first["skipped"]
    for name in ("gaze", "distance", "emotion"):
        assert Image.open(tmp_path / "first" / "sheets" / f"{name}.png").size == (4 * sheets.TILE, sheets.TILE)
    assert np.isfinite(first["controls"]["gaze"]["gaze_error"]["1"]["mean"])
    assert first == again


def test_a_missing_model_is_one_line(tmp_path):
    from vasa_jax.main import run

    config = dataclasses.replace(CONFIG, checkpoint=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="no such directory"):
        run(config, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 1}, "config.controls_evaluation.heads: 1 is out of range"),
        ({"audio_scales": (0.5, 0.5)}, "names one twice"),
        ({"step_counts": ()}, "is empty"),
        ({"control_scales": (0.0, 21.0)}, "config.controls_evaluation.control_scales: 21.0 is out of range"),
        ({"solvers": ("euler",)}, "config.controls_evaluation.solvers: 'euler' is unknown"),
        ({"emotions": 8}, "choose 1 to 7"),
        ({"rows": ("0:1",)}, "config.controls_evaluation.rows: '0:1' is no row; write audio guidance"),
        ({"rows": ("0:1:0",)}, "is no row"),
        ({"rows": ("0:nan:50",)}, "is no row"),
        ({"rows": ("0.5:1:50", "0.50:1.0:50")}, "rows: names one twice"),
        ({"rows": (), "sweeps": False}, "rows: is empty and sweeps are off"),
    ],
)
def test_faults_of_settings(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(CONFIG, controls_evaluation=dataclasses.replace(SETTINGS, **change)).validate()


def test_chart():
    plot = sheets.chart(["a", "b", "c"], {"rising": [0.0, 1.0, 2.0], "level": [2.0]}, "title", width=300)
    assert plot.shape == (150, 300, 3)
    first, second = ((plot == colour).all(-1) for colour in sheets.COLOURS[:2])
    rows = np.arange(150)[:, None]
    # The level runs along the top of the axes; the rising line starts at their bottom and ends there.
    level = rows[second.sum(1) > 150]
    assert level.size and (level < 50).all()
    left, right = first[30:, :100], first[30:, 200:]
    assert np.nonzero(left.any(1))[0].max() + 30 > 110 and np.nonzero(right.any(1))[0].min() + 30 < 50
    gap = sheets.chart(["a", "b"], {"one": [1.0, float("nan")]}, "title")
    assert (gap == sheets.COLOURS[0]).all(-1).any()
