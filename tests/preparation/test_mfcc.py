"""Cepstral coefficients: against a published implementation's values and closed forms."""

import numpy as np

from vasa_jax.preparation.mfcc import mfcc

# Of python_speech_features 0.6, mfcc(samples, 16000)[1], rounded to 4 places.
PUBLISHED = (20.6569, 18.044, -28.9017, -7.0125, 10.3055, -32.4473, -58.5341, -12.9642, 27.7144, 8.2134, -5.5875,
             22.5978, 33.1029)  # fmt: skip


def test_values_of_a_published_implementation():
    t = np.arange(560) / 16000
    tones = np.round(8000 * np.sin(2 * np.pi * 440 * t) + 4000 * np.sin(2 * np.pi * 1800 * t))
    found = mfcc(tones / 32768)
    assert found.shape == (2, 13) and found.dtype == np.float32
    np.testing.assert_allclose(found[1], PUBLISHED, atol=1e-4)


def test_loudness_is_the_first_coefficient_only():
    sound = 0.1 * np.random.default_rng(0).standard_normal(16000)
    quiet, loud = mfcc(sound), mfcc(3 * sound)
    assert quiet.shape == (98, 13)
    np.testing.assert_allclose(loud[:, 0] - quiet[:, 0], 2 * np.log(3), atol=1e-4)
    np.testing.assert_allclose(loud[:, 1:], quiet[:, 1:], atol=1e-3)


def test_silence_is_finite():
    assert np.isfinite(mfcc(np.zeros(3440))).all() and mfcc(np.zeros(3440)).shape == (20, 13)
