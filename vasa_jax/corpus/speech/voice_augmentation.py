"""Changes the voice, the room and the microphone of a recording, never its timing.

The built-in corpus speaks with one family of voices; audio models trained on it need every other property of a voice
to vary.
"""

from fractions import Fraction

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from vasa_jax.conventions import SAMPLE_RATE
from vasa_jax.corpus.speech.acoustics import HOP

_REFERENCE = 10.0 ** (-21.0 / 20.0)  # level that stands in for a recording without speech


def augment_voice(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gives speech f32 [N] at 16 kHz a random voice, room, noise, microphone and level: f32 [N] in [-1, 1].

    Timing stays, within 10 ms (the search range of the time stretch). The result is a function of samples and `rng`.
    """
    voice = np.asarray(samples, np.float32)
    if rng.random() < 0.85:
        pitch = float(np.exp(rng.uniform(np.log(0.72), np.log(1.4))))
        formant = float(np.exp(rng.uniform(np.log(0.84), np.log(1.2))))
        voice = shift_voice(voice, pitch, formant, breath=rng.uniform(0.0, 0.8) ** 2, rng=rng)
    active = _active_level(voice)
    voice = _record(voice, rng)
    voice *= active / max(_active_level(voice), 1e-6)
    if rng.random() < 0.75:
        voice = voice + _noise(len(voice), rng) * active * 10.0 ** (-rng.uniform(3.0, 40.0) / 20.0)
    voice = voice * 10.0 ** (rng.normal(-21.0, 5.0) / 20.0) / active
    if rng.random() < 0.15:  # an overdriven microphone
        drive = rng.uniform(1.0, 4.0) / max(np.abs(voice).max(), 1e-6)
        voice = np.tanh(voice * drive) / drive
    if rng.random() < 0.1:  # an 8-bit mu-law telephone line
        compressed = np.sign(voice) * np.log1p(255.0 * np.minimum(np.abs(voice), 1.0)) / np.log(256.0)
        compressed = np.round(compressed * 127.0) / 127.0
        voice = np.sign(compressed) * (256.0 ** np.abs(compressed) - 1.0) / 255.0
    return np.clip(voice, -1.0, 1.0).astype(np.float32)


def shift_voice(
    samples: np.ndarray, pitch: float, formant: float, breath: float = 0.0, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Scales the fundamental by `pitch` and the resonances by `formant`; `breath` in [0, 1] makes the upper band
    noisier.

    samples f32 [N] -> f32 [N] with the same timing. Resampling shifts both, a time stretch restores the duration, and
    a warp of the spectral envelope puts the resonances where they belong.
    """
    from scipy.signal import resample_poly  # its import takes half a second

    ratio = Fraction(1.0 / pitch).limit_denominator(40)
    shifted = resample_poly(samples, ratio.numerator, ratio.denominator).astype(np.float32)
    stretched = stretch(shifted, len(samples))
    return _warp_envelope(stretched, formant * float(ratio), breath, rng)


def stretch(samples: np.ndarray, length: int) -> np.ndarray:
    """Time-stretches to `length` samples without changing the pitch (WSOLA, Verhelst and Roelands 1993).

    Grains of 25 ms are laid at a constant hop. Each is taken within 8 ms of its nominal place, where it continues the
    last one best.
    """
    hop, reach = 200, 128
    window = np.hanning(2 * hop + 1)[:-1].astype(np.float32)
    count = -(-length // hop) + 1
    padded = np.pad(samples, (hop + reach, 3 * hop + 2 * reach))
    # Centres of input and output grains correspond in time.
    places = np.round(np.arange(count) * hop * (len(samples) / length)).astype(int)
    output = np.zeros((count + 1) * hop, np.float32)
    # Among equally good places the nominal one: without this a shift taken once would persist.
    homing = 0.3 * (np.arange(2 * reach + 1) / reach - 1.0) ** 2
    follow = None
    for index, place in enumerate(places):
        region = padded[place : place + 2 * hop + 2 * reach]
        if follow is None or len(follow) < hop:
            shift = reach
        else:
            match = np.correlate(region[: hop + 2 * reach], follow, "valid")
            squares = np.concatenate([[0.0], np.cumsum(region[: hop + 2 * reach] ** 2)])
            energy = squares[hop:] - squares[:-hop]
            likeness = match / np.sqrt((energy + 1e-6) * (follow @ follow + 1e-6))
            shift = int((likeness - homing).argmax())
        grain = region[shift : shift + 2 * hop]
        output[index * hop : index * hop + len(grain)] += grain * window[: len(grain)]
        follow = padded[place + shift + hop : place + shift + 2 * hop]
    return output[hop : hop + length]


def _warp_envelope(samples, factor, breath, rng):
    """Scales the frequencies of the spectral envelope by `factor`, keeping the harmonics."""
    size, hop, keep = 512, 128, 24  # a cepstrum of 24 values (1.5 ms) holds the envelope, not the harmonics
    window = np.sqrt(np.hanning(size + 1)[:-1]).astype(np.float32)
    padded = np.pad(samples, (size, size + -len(samples) % hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * window
    spectrum = rfft(frames)
    log_magnitude = np.log(np.abs(spectrum) + 1e-4)
    cepstrum = irfft(log_magnitude)[:, : keep + 1]
    cepstrum[:, 1:] *= 2.0 * np.cos(0.5 * np.pi * np.arange(1, keep + 1) / (keep + 1)).astype(np.float32)
    bins = np.arange(size // 2 + 1)
    order = np.arange(keep + 1)
    # One product gives the envelope at the warped frequencies minus the envelope itself.
    basis = np.cos(2 * np.pi * np.outer(order, np.minimum(bins / factor, size // 2)) / size)
    basis -= np.cos(2 * np.pi * np.outer(order, bins) / size)
    spectrum = spectrum * np.exp(np.clip(cepstrum @ basis.astype(np.float32), -3.5, 3.5))
    if breath > 0 and rng is not None:
        high = np.clip((bins * SAMPLE_RATE / size - 1500.0) / 3000.0, 0.0, 1.0) * breath
        phases = rng.uniform(-np.pi, np.pi, spectrum.shape).astype(np.float32) * high.astype(np.float32)
        spectrum = spectrum * np.exp(1j * phases)
    grains = irfft(spectrum) * (window * 0.5)  # squared Hann windows at a quarter hop add up to 2
    output = np.zeros(len(padded) + size, np.float32)
    for part in range(size // hop):
        chosen = grains[part :: size // hop]
        output[part * hop : part * hop + chosen.size] += chosen.reshape(-1)
    return output[size : size + len(samples)]


def _record(samples, rng):
    """Equaliser, band limits and room in one spectrum."""
    length = len(samples)
    room = rng.random() < 0.5
    tail = int(0.6 * SAMPLE_RATE) if room else 0
    size = next_fast_len(length + tail, real=True)
    octaves = np.linspace(-2.0, 6.0, 65)  # around 125 Hz
    gain = rng.normal(0.0, 1.2) * (octaves - 3.0)
    for _ in range(3):
        gain += rng.normal(0.0, 4.0) * np.exp(-(((octaves - rng.uniform(-1.0, 6.0)) / rng.uniform(0.3, 1.5)) ** 2))
    gain -= 12.0 * np.maximum(np.log2(rng.uniform(30.0, 350.0) / 125.0) - octaves, 0.0)
    if rng.random() < 0.35:
        gain -= 40.0 * np.maximum(octaves - np.log2(rng.uniform(3200.0, 7500.0) / 125.0), 0.0)
    frequencies = np.log2(np.maximum(np.fft.rfftfreq(size, 1.0 / SAMPLE_RATE), 1.0) / 125.0)
    spectrum = rfft(samples, size) * 10.0 ** (np.interp(frequencies, octaves, gain).astype(np.float32) / 20.0)
    if room:
        spectrum *= rfft(_impulse_response(tail, rng), size)
    return irfft(spectrum, size)[:length]


def _impulse_response(length, rng):
    """Direct sound first, then noise that decays by 60 dB in 0.1 to 0.6 s: f32 [length]."""
    time = np.arange(length, dtype=np.float32) / SAMPLE_RATE
    tail = rng.standard_normal(length, dtype=np.float32) * np.exp(-6.9 * time / rng.uniform(0.1, 0.6))
    tail[: int(rng.uniform(0.001, 0.006) * SAMPLE_RATE)] = 0.0
    tail *= 10.0 ** (-rng.uniform(0.0, 18.0) / 20.0) / np.sqrt((tail**2).sum())
    tail[0] = 1.0
    return tail


def _noise(length, rng):
    """Noise of unit level: a random slope from white to brown, slowly changing, at times with mains hum."""
    size = next_fast_len(length, real=True)
    spectrum = rfft(rng.standard_normal(size, dtype=np.float32))
    spectrum *= (np.maximum(np.arange(len(spectrum)), 30.0) ** -rng.uniform(0.0, 1.0)).astype(np.float32)
    noise = irfft(spectrum, size)[:length]
    swell = np.interp(np.arange(length), np.linspace(0, length, 12), rng.uniform(0.5, 1.0, 12)).astype(np.float32)
    noise = noise * swell
    noise /= np.sqrt((noise**2).mean()) + 1e-9
    if rng.random() < 0.2:
        mains = rng.choice((50.0, 60.0))
        time = np.arange(length, dtype=np.float32) / SAMPLE_RATE
        for harmonic in (1, 2, 3, 5):
            noise = noise + rng.uniform(0.0, 0.6) * np.sin(2 * np.pi * mains * harmonic * time + rng.uniform(0, 6.28))
    return noise.astype(np.float32)


def _active_level(samples):
    """Level of the louder half of 20 ms frames; a reference level for silence."""
    frames = samples[: len(samples) // HOP * HOP].reshape(-1, HOP)
    if not len(frames):
        return _REFERENCE
    power = np.sort((frames.astype(np.float64) ** 2).mean(1))[len(frames) // 2 :]
    level = float(np.sqrt(power.mean()))
    return level if level > 1e-4 else _REFERENCE
