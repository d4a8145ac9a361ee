"""Makes the portrait and the speech that ship with the project: `python -m vasa_jax.corpus.demo DIRECTORY`.

Both are the project's own work: a rendered head that no training stream contains, and a synthesised sentence.
"""

import sys
import wave
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from vasa_jax.conventions import SAMPLE_RATE
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.heads.render import render, to_uint8
from vasa_jax.corpus.performance.muscles import neutral_motion
from vasa_jax.corpus.speech.espeak import demo_speech
from vasa_jax.files import replacing
from vasa_jax.rng import named_key

HEAD = 6  # of the stream "demo portrait"
SIZE = 512  # pixels


def demo_portrait() -> np.ndarray:
    """Renders the demo portrait, uint8 (512, 512, 3): a head at rest, looking into the camera."""
    identity = sample_identity(jax.random.fold_in(named_key(0, "demo portrait"), HEAD))
    identity = {name: value[None] for name, value in identity.items()}
    motion = {name: value[None] for name, value in neutral_motion().items()}
    return np.asarray(to_uint8(jax.jit(render, static_argnums=(2, 3))(identity, motion, SIZE, 2)["rgb"]))[0]


def write_demo(directory: str | Path) -> None:
    """Writes portrait.png and speech.wav (16 kHz mono, 16 bit)."""
    directory = Path(directory)
    with replacing(directory / "portrait.png") as part:
        Image.fromarray(demo_portrait()).save(part, "PNG", optimize=True)
    samples = np.round(np.clip(demo_speech().samples, -1, 1) * 32767).astype("<i2")
    with replacing(directory / "speech.wav") as part, wave.open(str(part), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())


if __name__ == "__main__":
    write_demo(sys.argv[1])
