"""One tiny model for all tests of the studio in a process."""

import pytest
from tiny_model import save_tiny_model

from vasa_jax.generation.generator import VideoGenerator


@pytest.fixture(scope="session")
def generator(tmp_path_factory):
    return VideoGenerator.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny")), decode_batch=4)
