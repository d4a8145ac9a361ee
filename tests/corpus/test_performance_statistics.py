"""What takes of a performance have in common: lips are a function of the speech; heads are drawn, yet follow it."""

import numpy as np
import pytest

from vasa_jax.corpus import clips
from vasa_jax.corpus.performance import performance
from vasa_jax.corpus.performance.visemes import VISEME_FIELDS
from vasa_jax.corpus.speech import shipped
from vasa_jax.evaluation.metrics import pearson

HEAD = ("yaw", "pitch", "roll")


@pytest.fixture(scope="module")
def speaking():
    """Two takes of each of 40 clips, no one silent; sound, emotion and voice of two takes are the same."""
    pairs, seed = [], 0
    while len(pairs) < 40:
        one, two = (clips.sample_clip(seed, speech="shipped", take=take) for take in (0, 1))
        pairs += [(one, two)] if one.text else []
        seed += 1
    return pairs


def test_lips_of_two_takes_agree_and_heads_do_not(speaking):
    lips, heads = [], []
    for one, two in speaking:
        assert np.array_equal(one.samples, two.samples) and np.array_equal(one.emotion, two.emotion)
        lips += [pearson(one.motion[n], two.motion[n]) for n in VISEME_FIELDS if one.motion[n].std() > 0.02]
        heads += [pearson(one.motion[n], two.motion[n]) for n in HEAD]
    assert len(lips) > 250 and min(lips) >= 0.95
    assert abs(np.mean(heads)) <= 0.1 and np.mean(np.abs(heads)) <= 0.5
    # Not one function of the speech either: takes differ in how far the mouth opens.
    ratios = [two.motion["jaw"].max() / one.motion["jaw"].max() for one, two in speaking]
    assert np.std(ratios) > 0.02


def loudness(clip):
    return np.maximum(clip.energy, -7).reshape(-1, 2).mean(1)


def speech_features(clip):
    """Loudness and stress about each frame, within a third of a second: [T, F]."""
    energy, stress = loudness(clip), clip.stress.reshape(-1, 2).mean(1)
    tracks = [smooth(track, width) for track in (energy, stress) for width in (1, 6)] + [np.gradient(smooth(energy, 2))]
    return np.concatenate([np.roll(np.stack(tracks, -1), shift, 0) for shift in range(-8, 9, 2)], -1)


def head_features(clip):
    """Logarithm of the head's angular speed, velocity of nodding, nods over the slow drift: [T, 3]."""
    angles = np.stack([smooth(clip.motion[name], 1) for name in HEAD], -1)
    velocity = np.gradient(angles, axis=0)
    nods = angles[:, 1] - smooth(angles[:, 1], 25)
    return np.stack([np.log(np.linalg.norm(velocity, axis=1) + 1e-3), velocity[:, 1], nods], -1)


def smooth(track, deviation):
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(np.asarray(track, np.float64), deviation)


def standardised(x):
    return (x - x.mean(0)) / (x.std(0) + 1e-6)


def test_head_motion_can_be_told_from_speech(speaking):
    """A linear regression from speech finds which head belongs to a voice, among clips it was not fitted to."""
    inputs, outputs = zip(*[(speech_features(one), head_features(one)) for one, _ in speaking])
    fitted = 26
    x, y = np.concatenate(inputs[:fitted]), np.concatenate(outputs[:fitted])
    mean, spread = x.mean(0), x.std(0) + 1e-6
    x, y = (x - mean) / spread, standardised(y)
    weights = np.linalg.solve(x.T @ x + 100 * np.eye(x.shape[1]), x.T @ y)
    windows = [slice(first, first + 75) for first in (15, 105)]  # of three seconds
    guessed = [standardised((inputs[i] - mean)[w] / spread @ weights) for i in range(fitted, 40) for w in windows]
    actual = [standardised(outputs[i][w]) for i in range(fitted, 40) for w in windows]
    score = np.array([[(a * b).mean() for b in actual] for a in guessed])
    own, others = np.diag(score), score[~np.eye(len(score), dtype=bool)]
    rank = (score < own[:, None]).sum(1) / (len(score) - 1)  # 0.5 by chance
    deviation = others.std() / np.sqrt(len(own))
    assert own.mean() > others.mean() + 4 * deviation
    assert rank.mean() > 0.65


def test_heads_move_more_while_they_speak(speaking):
    speed_of_speech, speed_of_other = [], []
    for index, (one, _) in enumerate(speaking):
        other = speaking[(index + 1) % len(speaking)][0]
        for clip, found in ((one, speed_of_speech), (other, speed_of_other)):
            frames = min(len(clip.motion["yaw"]), len(one.motion["yaw"]))
            speed = np.exp(head_features(clip)[:frames, 0])
            found.append(pearson(smooth(speed, 3), smooth(loudness(one), 3)[:frames]))
    difference = np.array(speed_of_speech) - np.array(speed_of_other)
    assert np.mean(speed_of_speech) > 0.25
    assert difference.mean() > 3 * difference.std() / np.sqrt(len(difference))


def test_gaze_keeps_about_a_main_direction_and_listening_heads_live():
    silent = shipped.Speech(
        np.zeros(16000 * 20, np.float32), (shipped.Phoneme(0.0, 20.0, "sil", False, 20.0),)
    )
    gazes = []
    for seed in range(8):
        wanted = np.array([12.0, -6.0])
        take = performance.perform(silent, np.random.default_rng(seed), np.eye(8)[performance.NEUTRAL], wanted)
        gazes.append(take.gaze - wanted)
        assert take.motion["jaw"].max() < 0.03 and take.motion["lo"].max() < 0.03  # a closed mouth in silence
        for name in HEAD:
            assert 0.003 < np.std(take.motion[name]) < 0.2, name  # idle, not frozen
        eyes = np.abs(np.diff(take.motion["gaze_yaw"]))
        assert 5 < (eyes > 0.01).sum() < 250 and np.median(eyes) < 0.01  # fixations with shifts between them
    assert np.abs(gazes).mean() < 1.5


def test_scene_and_voice_are_drawn_independently_of_motion():
    """A clip knows nothing of the head that performs it, and its voice says nothing about pose, gaze or distance."""
    some = [clips.sample_clip(seed, speech="shipped") for seed in range(60)]
    voices = sorted({clip.voice for clip in some})
    for values in (
        [clip.distance for clip in some],
        [clip.gaze[0] for clip in some],
        [clip.motion["yaw"].mean() for clip in some],
    ):
        groups = [[v for v, clip in zip(values, some) if clip.voice == voice] for voice in voices]
        between = sum(len(group) * (np.mean(group) - np.mean(values)) ** 2 for group in groups)
        within = np.var(values) * len(values) - between
        ratio = (between / (len(voices) - 1)) / (within / (len(values) - len(voices)))  # analysis of variance
        assert ratio < 4.0  # F(7, 52) exceeds this once in 700
