"""Prosody of a clip's speech: how high its voice is and how lively, by probabilistic YIN (Mauch and Dixon 2014)."""

from __future__ import annotations

import numpy as np

from vasa_jax.conventions import SAMPLE_RATE, SAMPLES_PER_FRAME

LOWEST, HIGHEST = 60.0, 500.0  # Hz: from a deep man's voice to a child's
WINDOW = 1024  # samples: four periods of the lowest voice
CERTAIN = 0.1  # probability of a voice; of white noise librosa calls half of the frames voiced, at 0.01
MIN_VOICED = 10  # frames: of fewer nothing is said


def prosody(samples: np.ndarray) -> dict[str, float]:
    """Measures the pitch of speech, float (N,) at 16 kHz in [-1, 1], at each video frame.

    Returns its median ("voice Hz"), its standard deviation about that ("voice semitones") and the share of frames with
    a voice ("voiced share"); the share alone where hardly a frame has one.
    """
    import librosa  # seconds to import: only where clips are made

    if len(samples) < WINDOW:
        return {"voiced share": 0.0}
    pitch, voiced, probability = librosa.pyin(
        samples, fmin=LOWEST, fmax=HIGHEST, sr=SAMPLE_RATE, frame_length=WINDOW, hop_length=SAMPLES_PER_FRAME
    )
    voiced &= probability > CERTAIN
    found = {"voiced share": float(voiced.mean())}
    if voiced.sum() >= MIN_VOICED:
        median = float(np.median(pitch[voiced]))
        semitones = 12.0 * np.log2(pitch[voiced] / median)
        found |= {"voice Hz": median, "voice semitones": float(np.sqrt(np.mean(np.square(semitones))))}
    return found
