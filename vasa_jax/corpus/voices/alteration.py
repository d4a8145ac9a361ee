"""Changes the speed, the voice, the room and the recording of speech, and passes it through codecs; labels follow.

`augment_voice` (vocal-tract length, pitch, room, noise, microphone, level) keeps the timing; a change of speed comes
before it and a codec after it.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np

from vasa_jax.conventions import CODECS, SAMPLE_RATE, frame_count
from vasa_jax.corpus.speech.voice_augmentation import augment_voice, stretch

SPEEDS = (0.85, 1.18)
SPEED_SHARE, CODEC_SHARE, BABBLE_SHARE = 0.4, 0.35, 0.15  # of the versions
BABBLE = (6.0, 24.0)  # decibels by which other people are quieter


def altered(
    samples: np.ndarray,
    labels: Sequence[np.ndarray],
    rng: np.random.Generator,
    codecs: Sequence[str],
    others: np.ndarray | None = None,
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Returns another recording of speech f32 (N,) at 16 kHz by another voice, and its labels (2 T,) at 50 Hz.

    The length may change with the speed. codecs: names of CODECS that it may pass through. others: speech f32 of other
    people, babble in the background. The result is a function of the arguments.
    """
    kept = tuple(labels)
    if rng.random() < SPEED_SHARE:
        speed = float(np.exp(rng.uniform(*np.log(SPEEDS))))
        samples, kept = at_speed(samples, kept, speed)
    if others is not None and len(others) and rng.random() < BABBLE_SHARE:
        samples = samples + _babble(samples, others, rng)
    samples = augment_voice(samples, rng)
    if codecs and rng.random() < CODEC_SHARE:
        samples = _PASS[codecs[rng.integers(len(codecs))]](samples, rng)
    return np.clip(samples, -1.0, 1.0).astype(np.float32), kept


def at_speed(
    samples: np.ndarray, labels: Sequence[np.ndarray], speed: float
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Returns speech f32 (N,) at another speed, same pitch, and its labels (2 T,): frame k is that of frame k speed."""
    length = round(len(samples) / speed)
    changed = stretch(np.asarray(samples, np.float32), length)
    frames = [min(round(len(track) / speed), 2 * frame_count(length)) for track in labels]
    places = [
        np.minimum(np.round(np.arange(count) * speed).astype(int), len(track) - 1)
        for count, track in zip(frames, labels)
    ]
    return changed, tuple(track[place] for track, place in zip(labels, places))


def _babble(samples: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns three stretches of other people's speech on top of each other, quieter than `samples`."""
    heard = np.zeros(len(samples), np.float32)
    for _ in range(3):
        first = rng.integers(len(others))
        heard += np.take(others, np.arange(first, first + len(samples)), mode="wrap")
    level = np.sqrt((samples**2).mean() / max(float((heard**2).mean()), 1e-9))
    return heard * np.float32(level * 10.0 ** (-rng.uniform(*BABBLE) / 20.0))


def _through_file(samples: np.ndarray, rate: int, **kind) -> np.ndarray:
    """Writes and reads a file in memory by libsndfile: the same length, in step."""
    import soundfile

    memory = io.BytesIO()
    soundfile.write(memory, samples, rate, **kind)
    memory.seek(0)
    heard, _ = soundfile.read(memory, dtype="float32")
    return np.pad(heard, (0, max(len(samples) - len(heard), 0)))[: len(samples)]


def through_opus(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Passes 16 kHz speech through Opus at 8 to 32 kbit/s."""
    level = rng.uniform(0.9, 1.0)
    return _through_file(samples, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=level)


def through_mp3(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Passes 16 kHz speech through MP3, at the lower half of its qualities."""
    kind = {"format": "MP3", "subtype": "MPEG_LAYER_III", "compression_level": rng.uniform(0.5, 0.95)}
    return _through_file(samples, SAMPLE_RATE, **kind)


def through_phone(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Passes speech through a telephone: 8 kHz, by GSM 06.10 or mu-law."""
    from scipy.signal import resample_poly  # its import takes half a second

    narrow = resample_poly(samples, 1, 2).astype(np.float32)
    subtype = ("GSM610", "ULAW")[rng.integers(2)]
    heard = _through_file(np.clip(narrow, -1, 1), SAMPLE_RATE // 2, format="WAV", subtype=subtype)
    return resample_poly(heard, 2, 1)[: len(samples)].astype(np.float32)


def through_aac(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Passes 16 kHz speech through AAC at 16 to 48 kbit/s, by FFmpeg."""
    from vasa_jax.corpus.voices.sound_codecs import through_aac as pass_through

    return pass_through(samples, int(rng.uniform(16_000, 48_000)))


_PASS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "opus": through_opus, "mp3": through_mp3, "phone": through_phone, "aac": through_aac,
}  # fmt: skip
assert tuple(_PASS) == CODECS
