"""Log mels changed in training: another vocal tract, microphone, noise and masked parts, phonemes where they were."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.config import AudioConfig, CorpusConfig
from vasa_jax.errors import InputError
from vasa_jax.models.audio_encoders import audio_encoder
from vasa_jax.models.streaming_audio import FLOOR, LOG_OFFSET, LOG_SCALE, log_mels, mel_centres
from vasa_jax.models.variants import AUDIO_VARIANTS
from vasa_jax.training import mel_changes
from vasa_jax.training.mel_changes import changed_mels
from vasa_jax.training.tasks.audio import AudioTask

MELS = 64


def tones(frequency, count=64):
    time = np.arange(16_000) / 16_000
    return log_mels(jnp.tile(0.3 * np.sin(2 * np.pi * frequency * time), (count, 1)), MELS)


def off(monkeypatch, *names):
    for name in names:
        monkeypatch.setattr(mel_changes, name, lambda mels, *_, **__: mels)


def test_a_share_of_the_examples_is_changed():
    mels = tones(440.0)
    assert np.array_equal(changed_mels(mels, jax.random.key(0), 0.0), mels)
    changed = np.asarray(changed_mels(mels, jax.random.key(0), 0.5))
    same = (changed == np.asarray(mels)).all((1, 2))
    assert 16 < same.sum() < 48
    others = changed[~same]
    assert all(not np.array_equal(others[0], other) for other in others[1:])
    assert np.isfinite(changed).all()


def test_a_tract_moves_a_tone_by_its_factor(monkeypatch):
    off(monkeypatch, "_noisy", "_masked")
    monkeypatch.setattr(mel_changes, "CURVE", 0.0)
    monkeypatch.setattr(mel_changes, "TRACT", (0.9, 0.9))
    heard = np.asarray(changed_mels(tones(1800.0, 2), jax.random.key(0), 1.0))[0].mean(0)
    centres = mel_centres(MELS)
    loudest = centres[heard.argmax()]
    assert loudest == pytest.approx(1800.0 / 0.9, abs=float(np.diff(centres)[heard.argmax()]))


def test_a_microphone_is_the_same_at_every_time(monkeypatch):
    off(monkeypatch, "_noisy", "_masked", "_warped")
    mels = tones(700.0)
    change = np.asarray(changed_mels(mels, jax.random.key(1), 1.0) - mels)
    np.testing.assert_allclose(change, np.broadcast_to(change[:, :1], change.shape), atol=1e-5)
    decibels = change[:, 0] * LOG_SCALE * 10.0 / np.log(10.0)
    assert decibels.std() == pytest.approx(mel_changes.CURVE, rel=0.15)


def test_noise_only_adds_power_and_under_the_loud_parts(monkeypatch):
    off(monkeypatch, "_masked", "_warped")
    monkeypatch.setattr(mel_changes, "CURVE", 0.0)
    mels = tones(1000.0)
    noisy = np.asarray(changed_mels(mels, jax.random.key(2), 1.0))
    assert (noisy >= np.asarray(mels) - 1e-5).all()
    added = np.exp(LOG_SCALE * noisy - LOG_OFFSET) - np.exp(LOG_SCALE * np.asarray(mels) - LOG_OFFSET)
    loud = np.exp(LOG_SCALE * np.quantile(mels, 0.9, axis=(1, 2)) - LOG_OFFSET)
    under = 10.0 * np.log10(loud[:, None, None] / np.maximum(added, FLOOR)).mean((1, 2))
    assert (under > mel_changes.NOISE[0] - 1).all() and (under < mel_changes.NOISE[1] + 1).all() and under.std() > 5


def test_masks_are_stretches_of_times_and_of_bands(monkeypatch):
    off(monkeypatch, "_noisy", "_warped")
    monkeypatch.setattr(mel_changes, "CURVE", 0.0)
    rng = np.random.default_rng(0)
    mels = jnp.asarray(rng.normal(size=(64, 100, MELS)).astype(np.float32))
    hidden = np.asarray(changed_mels(mels, jax.random.key(3), 1.0) != mels)
    times, bands = hidden.all(2), hidden.all(1)
    np.testing.assert_array_equal(hidden, times[:, :, None] | bands[:, None])
    assert times.sum(1).max() <= mel_changes.TIMES * (mel_changes.LONGEST + 1) and times.any(1).mean() > 0.8
    assert bands.sum(1).max() <= mel_changes.BANDS * (round(mel_changes.WIDEST * MELS) + 1)
    starts = (np.diff(np.pad(times, ((0, 0), (1, 0))).astype(int), axis=1) == 1).sum(1)
    assert starts.max() <= mel_changes.TIMES


def test_features_of_a_spectrum_are_those_of_its_sound():
    encoder = audio_encoder(AUDIO_VARIANTS["audio_stream_tiny"])
    sound = 0.1 * np.random.default_rng(0).standard_normal((1, 6_480)).astype(np.float32)
    variables = encoder.init(jax.random.key(0), sound)
    spectrum = encoder.apply(variables, sound, method="spectrum")
    features = encoder.apply(variables, spectrum, method="of_mels")
    np.testing.assert_array_equal(features, encoder.apply(variables, sound))


def test_an_encoder_without_mels_is_one_line():
    config = AudioConfig(variant="audio_demo", mel_changes=0.5)
    with pytest.raises(InputError, match="hears sound itself, not log mels; leave it at 0"):
        AudioTask(config, CorpusConfig(workers=1), 2, "float32", 0)


def test_changes_and_dropout_act_in_training_only():
    batch = {
        "samples": np.random.default_rng(0).integers(-3000, 3000, (2, 6_480)).astype(np.int16),
        "phonemes": np.zeros((2, 20), np.int16), "energy": np.zeros((2, 20), np.float16),
        "stress": np.zeros((2, 20), np.int8),
    }  # fmt: skip
    losses, guesses = [], []
    for settings in ({}, {"mel_changes": 1.0}, {"feature_dropout": 0.5}):
        task = AudioTask(AudioConfig(variant="audio_stream_tiny", **settings), CorpusConfig(workers=1), 2, "float32", 0)
        params = task.init(jax.random.key(0))
        losses.append(float(task.loss(params, batch, jax.random.key(1))[0]))
        guesses.append(np.asarray(task._guess(params, batch["samples"])))
    assert len(set(losses)) == 3
    assert all(np.array_equal(guesses[0], guess) for guess in guesses)
