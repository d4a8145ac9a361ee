"""Speech at the level that the networks were trained with, about zero.

Recordings of any level and with a constant added sound the same to a person; the audio encoder hears a difference.
What is ordinary stays bit for bit as it is.
"""

import numpy as np

from vasa_jax.conventions import SAMPLE_RATE

FRAME = SAMPLE_RATE // 50  # samples of 20 ms, over which a level is taken
PIECE = 500 * FRAME  # samples looked at together: memory stays small beside the sound
SPEAKING = 0.05  # of the power of the loudest twentieth: frames above it count as speech
ORDINARY = (-30.0, -8.0)  # dB of full scale; recordings of speech lie within
USUAL = -18.0  # dB of full scale, of the shipped sentences
LOWEST = -80.0  # dB of full scale; what is below is not raised, it would be noise
CONSTANT = 0.03  # of the level of speech; a smaller constant changes nothing that is heard


def settle(samples: np.ndarray) -> list[str]:
    """Removes a constant from float32 (N,) at 16 kHz and brings a level out of the ordinary to the usual, in place.

    Returns what was done, one text each; none where nothing was.
    """
    if not len(samples):
        return []
    notes = []
    mean = float(np.mean(samples, dtype=np.float64))
    level = speech_level(samples, mean)
    if abs(mean) > max(CONSTANT * 10 ** (level / 20), 1e-4):
        samples -= np.float32(mean)
        notes.append(f"a constant of {mean:.3g} of full scale is taken away for the lips; the video keeps its sound")
    if level > LOWEST and not ORDINARY[0] <= level <= ORDINARY[1]:
        gain = USUAL - level
        samples *= np.float32(10 ** (gain / 20))
        np.clip(samples, -1.0, 1.0, out=samples)
        word = "quiet" if gain > 0 else "loud"
        notes.append(f"is {word} ({level:.0f} dB), heard with {gain:+.0f} dB for the lips; the video keeps its sound")
    return notes


def speech_level(samples: np.ndarray, mean: float = 0.0) -> float:
    """Returns the level of speech, dB of full scale: the mean power about `mean` of the 20 ms frames that hold it.

    -inf for silence.
    """
    whole = len(samples) // FRAME * FRAME
    powers = [_powers(samples[start : min(start + PIECE, whole)], mean) for start in range(0, whole, PIECE)]
    power = np.concatenate(powers) if powers else _powers(samples, mean)
    spoken = power[power >= SPEAKING * np.quantile(power, 0.95)].mean()
    return 10 * np.log10(spoken) if spoken > 0 else -np.inf


def _powers(samples: np.ndarray, mean: float) -> np.ndarray:
    frames = samples.reshape(-1, min(FRAME, len(samples))).astype(np.float64) - mean
    return np.square(frames).mean(axis=1)
