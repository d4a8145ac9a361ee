"""CAPPScore: windows, sound heard in blocks, and curves of a score that is known."""

import itertools

import numpy as np
import pytest
from fake_heads import pose
from random_params import random_params

from vasa_jax.config import CAPPConfig, CorpusConfig
from vasa_jax.evaluation import capp
from vasa_jax.evaluation.capp import (
    RESPONSE_FRAMES,
    RIVALS,
    SCALES,
    SHIFTS,
    CAPPScore,
    response_curves,
    sanity_curves,
    stretches,
)
from vasa_jax.models.audio import AudioEncoder
from vasa_jax.models.capp import CAPP, WINDOW
from vasa_jax.models.variants import AUDIO_VARIANTS, CAPP_VARIANTS
from vasa_jax.training.tasks.capp import CAPPTask
from vasa_jax.weights.parts import load_part

AUDIO, SIZES = AUDIO_VARIANTS["audio_tiny"], CAPP_VARIANTS["capp_tiny"]


class Correlation(CAPPScore):
    """Embeds yaw and the first feature: the score is their correlation over the window."""

    def __init__(self):
        self.figures = {}

    def embed_pose(self, angles):
        return self._unit(np.tanh(angles[..., 0] - angles[..., 0].mean(-1, keepdims=True)))

    def embed_sound(self, features):
        return self._unit(features[..., 0])

    @staticmethod
    def _unit(track):
        track = track - track.mean(-1, keepdims=True)
        return track / np.linalg.norm(track, axis=-1, keepdims=True)


def smooth_tracks(count):
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(count, RESPONSE_FRAMES + 8))
    return np.stack([np.convolve(row, np.hanning(9), "valid") for row in noise])


def test_curves_of_a_score_that_is_a_correlation():
    tracks = smooth_tracks(128)
    angles = np.zeros((*tracks.shape, 3))
    angles[..., 0] = tracks
    found = sanity_curves(Correlation(), angles, np.tanh(tracks)[..., None])
    falling = [found[f"shift_{k}"] for k in SHIFTS]
    assert falling[0] == pytest.approx(1.0, abs=0.05) and all(a > b for a, b in itertools.pairwise(falling))
    assert max(SCALES, key=lambda s: found[f"scale_{s:g}"]) == 1.0
    assert found["scale_1"] == found["shift_0"] and found["top1"] == 1.0 and abs(found["other"]) < 0.2
    assert "top1" not in sanity_curves(Correlation(), angles[:8], np.tanh(tracks)[:8, :, None])


def test_a_late_pose_and_an_early_one_count_alike():
    tracks = np.random.default_rng(2).normal(size=(16, RESPONSE_FRAMES))
    angles = np.repeat(tracks[..., None], 3, -1)
    for late in (2, -2):  # the sound two frames after the pose, and before it: one of both signs meets it
        found = response_curves(Correlation(), angles, np.tanh(np.roll(tracks, late, 1))[..., None])
        assert found["shift_2"] == pytest.approx(0.5, abs=0.1) and abs(found["shift_0"]) < 0.1


def test_stretches_begin_every_second():
    angles, features = np.arange(180 * 3.0).reshape(180, 3), np.arange(160 * 2.0).reshape(160, 2)
    poses, sounds = stretches(angles, features, WINDOW)
    assert poses.shape == (4, WINDOW, 3) and sounds.shape == (4, WINDOW, 2)
    np.testing.assert_array_equal(poses[3], angles[75:150])
    np.testing.assert_array_equal(sounds[3], features[75:150])
    assert stretches(angles[:74], features, WINDOW) is None


def test_the_shipped_network_reached_its_floors():
    """On held-out people: far above chance among 64, falling with every frame of shift, best at the true size."""
    _, metadata = load_part("", "capp")
    known = {name.removeprefix("corpus_"): value for name, value in metadata["figures"].items()}
    falling = [known[f"shift_{k}"] for k in SHIFTS]
    assert known["top1"] >= 5 / RIVALS and all(a > b for a, b in itertools.pairwise(falling))
    assert known["scale_1"] > max(known["scale_0.2"], known["scale_3"])


@pytest.mark.slow
def test_the_shipped_network_feels_shift_and_size():
    """Measured again, on unheard voices and sentences."""
    params, metadata = load_part("", "capp")
    found = CAPPTask(CAPPConfig(), CorpusConfig(clips=64, voices_per_clip=1), 2, 0).evaluate(params["capp"])
    falling = [found[f"corpus_shift_{k}"] for k in SHIFTS]
    assert found["corpus_top1"] >= 5 / RIVALS and all(a > b for a, b in itertools.pairwise(falling))
    assert found["corpus_shift_0"] == pytest.approx(metadata["figures"]["corpus_shift_0"], abs=0.06)
    assert found["corpus_scale_1"] > max(found["corpus_scale_0.2"], found["corpus_scale_3"])


def test_a_network_scores_whole_videos():
    encoder, network = AudioEncoder(**AUDIO), CAPP(**SIZES)
    params = {
        "audio": random_params(lambda key: encoder.init(key, np.zeros((1, 4000), np.float32))["params"]),
        "capp": random_params(
            lambda key: network.init(key, np.zeros((1, WINDOW, 3)), np.zeros((1, WINDOW, AUDIO["width"])))["params"]
        ),
    }
    score = CAPPScore(params, AUDIO, SIZES)
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, 640 * 220 + 50).astype(np.float32)
    heard = score.hear(samples)
    assert heard.shape == (220, AUDIO["width"])
    # A block is heard by itself, with the 5 ms that its last feature needs.
    block = np.zeros(640 * capp.BLOCK + 80, np.float32)
    block[:] = samples[: len(block)]
    expected = capp._features(encoder, params["audio"], block[None])[0]
    np.testing.assert_array_equal(heard[: capp.BLOCK], expected)
    rest = np.zeros_like(block)
    rest[: 20 * 640 + 50] = samples[640 * capp.BLOCK :]
    np.testing.assert_array_equal(heard[capp.BLOCK :], capp._features(encoder, params["audio"], rest[None])[0, :20])
    poses = np.stack([pose(yaw=5 * np.sin(i / 5), pitch=3 * np.cos(i / 7)) for i in range(210)])
    value = score.score(poses, samples)
    pairs = stretches(np.asarray(capp.head_angles(poses)), heard, WINDOW)
    assert value == pytest.approx((score.embed_pose(pairs[0]) * score.embed_sound(pairs[1])).sum(-1).mean())
    assert -1.0 <= value <= 1.0 and value != score.score(poses, samples[::-1])
    assert np.isnan(score.score(poses[:70], samples)) and np.isnan(score.score(poses, samples[:1000]))
