"""Speech at the level that the networks were trained with, about zero.

Recordings of any level and with a constant added sound the same to a person; the audio encoder hears a difference.
What is ordinary stays bit for bit as it is.

Files are brought to it (`settle`). Live sound is heard as it comes, and no later sound may change a frame. A gain
that is found while somebody speaks would change the lips within a word, and raise the noise before the first. Whoever
holds the microphone can set its gain: `LiveLevel` says by how much.
"""

import collections

import numpy as np

from vasa_jax.conventions import SAMPLE_RATE

FRAME = SAMPLE_RATE // 50  # samples of 20 ms, over which a level is taken
PIECE = 500 * FRAME  # samples looked at together: memory stays small beside the sound
SPEAKING = 0.05  # of the power of the loudest twentieth: frames above it count as speech
ORDINARY = (-30.0, -8.0)  # dB of full scale; recordings of speech lie within
USUAL = -18.0  # dB of full scale, of the shipped sentences
LOWEST = -80.0  # dB of full scale; what is below is not raised, it would be noise
CONSTANT = 0.03  # of the level of speech; a smaller constant changes nothing that is heard
LATEST = 1500  # frames of live sound that a level is taken of: 30 s
FIRST = 250  # frames without which nothing is said of it: 5 s


def settle(samples: np.ndarray) -> list[str]:
    """Removes a constant from float32 (N,) at 16 kHz and brings a level out of the ordinary to the usual, in place.

    Returns what was done, one text each; none where nothing was.
    """
    if not len(samples):
        return []
    notes = []
    mean = float(np.mean(samples, dtype=np.float64))
    level = speech_level(samples, mean)
    if _is_constant(mean, level):
        samples -= np.float32(mean)
        np.clip(samples, -1.0, 1.0, out=samples)
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
    return _level(np.concatenate(powers) if powers else _powers(samples, mean))


class LiveLevel:
    """What is odd about the level of live sound, which comes in pieces of any size; of its latest 30 s."""

    def __init__(self):
        self._rest = np.zeros(0, np.float32)  # less than a frame
        self._frames: collections.deque[np.ndarray] = collections.deque(maxlen=LATEST)  # (mean, mean square) of each

    def feed(self, samples: np.ndarray) -> None:
        """Takes float32 (N,) at 16 kHz."""
        sound = np.concatenate([self._rest, samples])
        whole = len(sound) // FRAME * FRAME
        self._rest = sound[whole:].copy()
        frames = sound[max(0, whole - LATEST * FRAME) : whole].reshape(-1, FRAME).astype(np.float64)
        self._frames.extend(np.stack([frames.mean(axis=1), np.square(frames).mean(axis=1)], axis=1))

    def notes(self) -> tuple[str, ...]:
        """Returns what to do about the sound, one text each; none where it is ordinary, silent, or under 5 s."""
        if len(self._frames) < FIRST:
            return ()
        means, squares = np.array(self._frames).T
        mean = float(means.mean())
        level = _level(np.maximum(squares - 2 * mean * means + mean * mean, 0.0))
        notes = []
        if _is_constant(mean, level):
            notes.append(f"the sound holds a constant of {mean:.3g} of full scale: take it away before you feed it")
        if level > LOWEST and not ORDINARY[0] <= level <= ORDINARY[1]:
            word = "quiet" if level < USUAL else "loud"
            factor = 10 ** ((USUAL - level) / 20)
            notes.append(f"the sound is {word} ({level:.0f} dB): multiply it by {factor:.3g} before you feed it")
        return tuple(notes)


def _level(power: np.ndarray) -> float:
    spoken = power[power >= SPEAKING * np.quantile(power, 0.95)].mean()
    return 10 * np.log10(spoken) if spoken > 0 else -np.inf


def _is_constant(mean: float, level: float) -> bool:
    return abs(mean) > max(CONSTANT * 10 ** (level / 20), 1e-4)


def _powers(samples: np.ndarray, mean: float) -> np.ndarray:
    frames = samples.reshape(-1, min(FRAME, len(samples))).astype(np.float64) - mean
    return np.square(frames).mean(axis=1)
