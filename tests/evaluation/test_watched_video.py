"""What the evaluator reads of a video beside its frames."""

import numpy as np
from drawn_faces import picture

from vasa_jax.data.audio_files import Audio
from vasa_jax.data.video_files import write_video
from vasa_jax.evaluation.watched_video import _sound
from vasa_jax.limits import DEFAULT_LIMITS


def test_notes_on_sound_say_nothing_of_a_generation(tmp_path):
    """A silent track is silent; that a mouth would rest with it is no matter of a video that is measured."""
    path = tmp_path / "silent.mp4"
    silence = Audio.from_samples(np.zeros(640 * 10, np.float32))
    write_video(path, (picture(64, 64, (32, 32, 11)) for _ in range(10)), silence)
    samples, notes = _sound(path, DEFAULT_LIMITS, 5.0)
    assert not samples.any() and len(notes) == 1 and notes[0].endswith("silent.mp4: is silent")
