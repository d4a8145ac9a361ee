"""The drift report: exact trends, and what was put into a video comes out of its report."""

import gc
import json
import math
import weakref

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from vasa_jax.config import CorpusConfig, DriftConfig, VASAConfig
from vasa_jax.corpus.talk import sample_talk
from vasa_jax.errors import InputError
from vasa_jax.evaluation import held_out, long_video, metrics
from vasa_jax.evaluation.face_readings import Measurements
from vasa_jax.evaluation.image_metrics import laplacian_sharpness
from vasa_jax.evaluation.long_video import (
    BATCH,
    PANEL,
    SERIES,
    generated_frames,
    measure_long_video,
    panel,
    pause_metrics,
    read_frames,
)
from vasa_jax.evaluation.metrics import fit_trend
from vasa_jax.generation.controls import Controls

N = 16
MINUTES = 1.0


def test_trend_is_the_least_squares_line_with_students_interval():
    rng = np.random.default_rng(0)
    time, value = np.arange(12.0), rng.normal(size=12) + 0.3 * np.arange(12)
    fit, known = fit_trend(time, value), stats.linregress(time, value)
    half = stats.t.ppf(0.975, 10) * known.stderr
    assert (fit.slope, fit.low, fit.high) == pytest.approx((known.slope, known.slope - half, known.slope + half))
    assert fit.mean == pytest.approx(value.mean())
    exact = fit_trend([0, 1, np.e, 4], [1, 3, 1 + 2 * np.e, 9])
    assert (exact.slope, exact.low, exact.high) == pytest.approx((2, 2, 2))
    assert exact.drifts and not fit_trend(time, np.cos(np.pi * time)).drifts
    assert fit_trend(time, np.where(time < 10, np.nan, 1.0)) is None
    gaps = np.where(time == 3, np.nan, value)
    assert fit_trend(time, gaps).slope == pytest.approx(stats.linregress(time[time != 3], value[time != 3]).slope)


def test_intervals_miss_a_still_line_once_in_twenty():
    rng = np.random.default_rng(1)
    wrong = np.mean([fit_trend(np.arange(20.0), rng.normal(size=20)).drifts for _ in range(1000)])
    assert 0.03 < wrong < 0.07


def test_turning_is_head_motion_frame_by_frame():
    yaw = np.radians([0.0, 3.0, 3.0, -3.0])
    pose = np.stack([[np.cos(a), 0, -np.sin(a), 0, 1, 0, 0, 0, 0] for a in yaw])
    np.testing.assert_allclose(metrics.turning(pose), np.array([3.0, 0.0, 6.0]) / 3.0, atol=1e-9)
    assert metrics.head_motion(pose) == pytest.approx(1.0)


def test_sharpness_falls_with_blur_and_ignores_contrast():
    rng = np.random.default_rng(0)
    face = rng.integers(60, 200, (48, 40, 3), np.uint8)
    soft = np.asarray(Image.fromarray(face).resize((10, 12)).resize((40, 48)))
    assert laplacian_sharpness(soft) < 0.3 * laplacian_sharpness(face)
    grey = np.repeat(face[..., :1], 3, -1)
    assert laplacian_sharpness((grey // 2).astype(np.uint8)) == pytest.approx(laplacian_sharpness(grey), rel=0.05)
    assert laplacian_sharpness(np.full_like(face, 7)) == 0.0


class Reader:
    """Reads the left half's brightness as mouth opening, the right half's red as the person and its green as yaw."""

    training_errors = {"mouth_r": 0.9}  # noqa: RUF012

    def measure(self, frames):
        count = len(frames)
        person, turn = (frames[:, :, N // 2 :, channel].mean((1, 2)) / 255.0 for channel in (0, 1))
        pose = np.zeros((count, 9))
        pose[:, 0], pose[:, 2], pose[:, 4] = np.cos(turn), -np.sin(turn), 1.0
        return Measurements(
            mouth=frames[:, :, : N // 2].mean((1, 2, 3)) / 255.0, lids=np.ones((count, 2)),
            gaze=np.zeros((count, 2)), pose=pose, landmarks=np.tile([[0.0, -1.0], [1.0, 1.0]], (count, 1, 1)),
            embedding=np.stack([np.cos(person), np.sin(person)], -1),
        )  # fmt: skip


class Generator:
    """Draws the true mouth `late` frames late; the person's red grows by `red` a minute, the head turns in speech."""

    image_size = N

    def __init__(self, late=0, red=0.0):
        self._late, self._red = late, red
        self.alive = weakref.WeakSet()
        self.most = 0

    def prepare(self, portrait):
        return portrait

    def motion(self, samples, avatar, controls):
        talk = sample_talk(controls.seed, len(samples) / 16_000, "shipped")
        jaw = np.concatenate([np.zeros(self._late), talk.motion["jaw"]])[: len(talk.quiet)]
        turn = np.where(talk.quiet, 0.0, 0.2 * (np.arange(len(jaw)) % 2))
        return np.stack([jaw, turn], -1)

    def render(self, avatar, motion):
        for number, (jaw, turn) in enumerate(motion):
            frame = avatar.copy()
            frame[:, : N // 2] = round(150.0 * min(float(jaw), 1.0))
            frame[:, N // 2 :, 0] = round(100.0 + self._red * number / 1500)
            frame[:, N // 2 :, 1] = round(255.0 * turn)
            self._count(frame)
            yield frame[None]

    def stream(self, portrait, controls):
        return Stream(self, portrait, controls)

    def _count(self, frame):
        held = Frame(frame)
        self.alive.add(held)
        self.most = max(self.most, len(self.alive))
        weakref.finalize(frame, lambda keep=held: None)


class Frame:
    """Stands for one frame's memory."""

    def __init__(self, frame):
        self.size = frame.nbytes


class Stream:
    def __init__(self, generator, portrait, controls):
        self._sound, self._make = [], lambda sound: generator.render(portrait, generator.motion(sound, None, controls))

    def feed(self, samples):
        assert len(samples) <= long_video.FEED
        self._sound.append(samples)
        return iter(())

    def finish(self):
        for batch in self._make(np.concatenate(self._sound)):
            yield from batch


@pytest.fixture
def corpus(monkeypatch):
    def draw(identity, motion, size, supersample):
        count = len(motion["jaw"])
        rgb = jnp.zeros((count, size, size, 3)).at[:, :, : size // 2].set(
            jnp.minimum(motion["jaw"], 1.0)[:, None, None, None] * 150 / 255
        )
        rgb = rgb.at[:, :, size // 2 :, 0].set(100 / 255)
        return {"rgb": rgb, "matte": rgb[..., 0], "landmarks": jnp.zeros((count, 1, 3))}

    def exact(identity, motion):
        count = len(motion["jaw"])
        pose = jnp.tile(jnp.array([1.0, 0, 0, 0, 1.0, 0, 0, 0, 0]), (count, 1))
        known = {"mouth": jnp.minimum(motion["jaw"], 1.0) * 150 / 255, "lids": jnp.ones((count, 2)), "pose": pose}
        unused = {"gaze": jnp.zeros((count, 2)), "distance": jnp.ones(count), "landmarks": jnp.zeros((count, 1, 2))}
        return {**known, **unused}

    monkeypatch.setattr(held_out, "render", draw)
    monkeypatch.setattr(held_out, "true_labels", exact)


def report_of(generator, tmp_path, hop=0):
    config = VASAConfig(
        job="evaluate_drift",
        hop=hop,
        corpus=CorpusConfig(supersample=1, speech="shipped"),
        drift=DriftConfig(minutes=MINUTES, truth_stride=10),
    )
    return measure_long_video(generator, Reader(), config, tmp_path)


def test_a_perfect_video_does_not_drift(corpus, tmp_path, capsys):
    report = report_of(Generator(), tmp_path)
    trends = report["trends"]["generated"]
    for name in ("sharpness", "identity", "red", "offset"):
        assert not trends[name]["drifts"], name
    assert trends["mouth_r"]["mean"] == pytest.approx(1.0, abs=1e-4)
    assert report["offsets"] == {"sections": 6, "clear": 6, "zero": 6, "largest": 0.0}
    assert report["face_probe"]["mouth_mae"] < 1 / 255
    assert report["face_probe"]["mouth_r"] == pytest.approx(1.0, abs=1e-4)
    pauses = report["pauses"]
    assert pauses["generated"]["mouth"] == pauses["truth"]["mouth"] == 0.0
    assert pauses["generated"]["mouth_speaking"] == pytest.approx(pauses["labels"]["mouth_speaking"], abs=1 / 255)
    assert pauses["generated"]["motion"] < 0.1 * pauses["generated"]["motion_speaking"]

    text = (tmp_path / "report.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert text.index("The face probe on") < text.index("Change per minute") < text.index("In the pauses")
    assert "0 in 6 of them, at most 0 frames" in text
    stored = json.loads((tmp_path / "report.json").read_text())
    assert len(stored["sections"]["generated"]["identity"]) == 6
    assert stored["sections"]["truth"]["offset"] == [None] * 6
    assert Image.open(tmp_path / "drift.png").size == (2 * PANEL[0], math.ceil(len(SERIES) / 2) * PANEL[1])
    assert Image.open(tmp_path / "sections.png").height == 128
    assert not list(tmp_path.rglob("*.part"))


def test_drift_and_delay_come_out_and_frames_are_forgotten(corpus, tmp_path):
    generator = Generator(late=3, red=50.0)
    report = report_of(generator, tmp_path, hop=10)
    red, identity = report["trends"]["generated"]["red"], report["trends"]["generated"]["identity"]
    assert red["drifts"] and red["slope"] == pytest.approx(50.0, rel=0.02) and red["low"] <= 50.0 <= red["high"]
    assert identity["drifts"] and identity["slope"] < -0.005
    assert report["offsets"] == {"sections": 6, "clear": 6, "zero": 0, "largest": 3.0}
    assert "mean red of the face" in (tmp_path / "report.md").read_text().split("Intervals that leave 0 out:")[1]
    gc.collect()
    assert generator.most <= 2 * BATCH + 2 * 6  # a batch, the one before it, and a picture per section


def test_stream_and_windows_give_the_same_video():
    samples = sample_talk(0, 4.0, "shipped").samples
    avatar = np.zeros((N, N, 3), np.uint8)
    offline, live = (
        np.stack(list(generated_frames(Generator(), avatar, samples, Controls(hop=hop)))) for hop in (0, 5)
    )
    assert offline.shape == (100, N, N, 3)
    np.testing.assert_array_equal(offline, live)


def test_head_motion_in_pauses_leaves_jumps_out():
    turn = np.radians(np.concatenate([np.zeros(40), np.full(40, 30.0), 30.0 + 0.5 * np.arange(40)]))
    pose = np.stack([[np.cos(a), 0, -np.sin(a), 0, 1, 0, 0, 0, 0] for a in turn])
    quiet = np.arange(120) < 80
    figures = pause_metrics(np.where(quiet, 0.01, 0.2), pose, quiet, (0, 40, 80))
    assert figures["motion"] == pytest.approx(0.0, abs=1e-9)
    assert figures["motion_speaking"] == pytest.approx(0.5 / 3, rel=0.1)
    assert (figures["mouth"], figures["mouth_speaking"]) == pytest.approx((0.01, 0.2))
    assert pause_metrics(np.zeros(120), pose, quiet)["motion"] > 0.1  # the jump at frame 40


def test_tracks_follow_the_frames():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (BATCH + 5, N, N, 3), np.uint8)
    portrait = Reader().measure(frames[:1])
    tracks = read_frames(iter(frames), Reader(), portrait)
    np.testing.assert_allclose(tracks.mouth, Reader().measure(frames).mouth)
    # The landmarks span the right half.
    np.testing.assert_allclose(tracks.colour, frames[:, :, N // 2 :].mean((1, 2)))
    assert tracks.identity[0] == pytest.approx(1.0)


def test_panels_hold_any_series():
    time = np.arange(4.0) + 0.5
    for values in (np.full(4, np.nan), np.zeros(4), np.array([1.0, np.nan, 3.0, 2.0])):
        assert panel(time, values, np.full(4, np.nan), "a measure", 2).shape == (PANEL[1], PANEL[0], 3)


def test_settings_are_checked():
    with pytest.raises(InputError, match=r"config\.drift\.minutes"):
        VASAConfig(job="evaluate_drift", drift=DriftConfig(minutes=0.1)).validate()
