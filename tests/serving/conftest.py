"""A tiny model for all tests of the studio in a process, and a studio and a browser for each file of browser tests."""

import os
import wave

import numpy as np
import pytest
from studio_page import Visit
from studio_process import chromium, studio_process
from tiny_model import save_tiny_model

from vasa_jax.generation.generator import VideoGenerator


@pytest.fixture(scope="session")
def generator(tmp_path_factory):
    return VideoGenerator.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny")), decode_batch=4)


@pytest.fixture(scope="module")
def microphone(tmp_path_factory):
    """What the browser's microphone hears, again and again: a second of noise, a second of silence."""
    path = tmp_path_factory.mktemp("sound") / "microphone.wav"
    samples = np.random.default_rng(0).normal(0, 6000, 48_000)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(48_000)
        file.writeframes(np.r_[samples, np.zeros(48_000)].astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    tiny = os.environ.get("STUDIO_CHECKPOINT") or save_tiny_model(tmp_path_factory.mktemp("tiny"))
    with studio_process(
        tmp_path_factory.mktemp("studio"), f"--config.checkpoint={tiny}", "--config.studio.live_sessions=2"
    ) as (address, _):
        yield address


@pytest.fixture(scope="module")
def browser(microphone):
    with chromium(f"--use-file-for-fake-audio-capture={microphone}") as browser:
        yield browser


@pytest.fixture
def visit(browser, address):
    """Opens pages, which end with the test."""
    pages = Visit(browser, address)
    yield pages
    pages.close()
