"""Short sounds as files: the shipped sentence has 161 frames, each to be drawn and encoded."""

import io
import wave
from pathlib import Path

import numpy as np


def wav(seconds: float = 0.4, rate: int = 16_000) -> bytes:
    """A WAV file of noise."""
    samples = np.random.default_rng(0).normal(0, 3000, round(seconds * rate)).astype("<i2")
    with io.BytesIO() as file:
        with wave.open(file, "wb") as sound:
            sound.setnchannels(1), sound.setsampwidth(2), sound.setframerate(rate)
            sound.writeframes(samples.tobytes())
        return file.getvalue()


def write_wav(path: Path, seconds: float = 0.4) -> Path:
    """The same at a path, which is returned."""
    path.write_bytes(wav(seconds))
    return path


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise in the place of speech, 16 kHz, float32."""
    return (0.1 * np.random.default_rng(seed).normal(size=round(16_000 * seconds))).astype(np.float32)


def write_samples(path: Path, samples: np.ndarray) -> None:
    """Writes 16 kHz samples as a WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16_000)
        file.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
