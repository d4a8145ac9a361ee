"""Who watches motion being made sees its parts pass, and the motion is the same."""

import numpy as np
import pytest
from sounds import speech
from tiny_model import save_tiny_model

from vasa_jax.generation.generator import VideoGenerator


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return VideoGenerator.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.mark.parametrize("asked", [{}, {"hop": 5}])
def test_motion_that_is_watched_is_the_same(generator, asked):
    told, sound = [], speech(9.3)

    def watch(parts, count):
        for number, part in enumerate(parts, 1):
            yield part
            told.append((number, count))

    watched = generator.motion(sound, steps=1, watch=watch, **asked)
    np.testing.assert_array_equal(watched, generator.motion(sound, steps=1, **asked))
    counts = (47,) if asked else (4, -(-233 // generator.sampler.transformer.window))
    assert told == [(number, count) for count in counts for number in range(1, count + 1)]
