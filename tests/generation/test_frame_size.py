"""Frames larger than the codec's own images: they have the portrait's detail, or one line says why not."""

import dataclasses
import functools

import av
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params
from sounds import write_wav
from tiny_face import LEAST, SIZE
from tiny_model import save_tiny_model

from vasa_jax.errors import InputError
from vasa_jax.generation.animator import PortraitAnimator
from vasa_jax.main import main
from vasa_jax.models.face import init_face
from vasa_jax.weights.parts import load_part
from vasa_jax.weights.safetensors_io import save_params


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A model whose codec sees the portrait's pixels, of SIZE a side."""
    folder = save_tiny_model(tmp_path_factory.mktemp("tiny"))
    save_params(folder / "face.safetensors", random_params(lambda key: init_face(key, LEAST)), {"fields": LEAST})
    return folder


@functools.cache  # compiled once per size
def animator(checkpoint, size=0):
    return PortraitAnimator.from_checkpoint(checkpoint, decode_batch=2, mark=False, size=size)


def motion_of(model, count=3):
    motion = 0.1 * np.random.default_rng(0).standard_normal((count, 9 + model.dynamics)).astype(np.float32)
    return motion + np.eye(9 + model.dynamics, dtype=np.float32)[[0, 4]].sum(0)


def picture(side, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)


def frames(model, portrait):
    """Over black: what random weights take for the background is noise."""
    avatar = model.prepare(portrait)
    avatar = dataclasses.replace(avatar, canvas=jnp.zeros_like(avatar.canvas))
    return np.concatenate(list(model.render(avatar, motion_of(model))))


def test_the_codecs_own_size_is_no_other_program(checkpoint):
    portrait = picture(SIZE)
    np.testing.assert_array_equal(frames(animator(checkpoint), portrait), frames(animator(checkpoint, SIZE), portrait))


def blocks(images):
    """Means over the 4 x 4 parts of images, float (N, 4, 4, 3)."""
    n, side = len(images), images.shape[1]
    return images.reshape(n, 4, side // 4, 4, side // 4, 3).mean((2, 4))


@pytest.mark.parametrize("factor", [2, 3])
def test_larger_frames_are_the_same_picture(checkpoint, factor):
    """A portrait without detail gives the same frames, up to how the grain of random weights is interpolated."""
    coarse = np.full((SIZE, SIZE, 3), 90, np.uint8)
    coarse[:, SIZE // 2 :] = (190, 120, 30)
    model = animator(checkpoint, factor * SIZE)
    large = frames(model, np.repeat(np.repeat(coarse, factor, 0), factor, 1))
    assert large.shape == (3, model.image_size, model.image_size, 3) and model.image_size == factor * SIZE
    small = blocks(frames(animator(checkpoint), coarse))
    assert np.abs(blocks(large) - small).mean() < 1 < 5 < small.std()


def test_motion_is_read_from_the_means_of_larger_frames(checkpoint):
    large = picture(2 * SIZE)[None]
    means = (large.reshape(1, SIZE, 2, SIZE, 2, 3).mean((2, 4)) + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(
        animator(checkpoint, 2 * SIZE).encode_motion(large), animator(checkpoint).encode_motion(means)
    )


@pytest.mark.parametrize("size", [1, SIZE - 1, SIZE + 1, 3 * SIZE // 2, 10**6])
def test_sizes_that_cannot_be_made_are_refused(checkpoint, size):
    with pytest.raises(InputError, match=f"config.size: {size} .* choose among {SIZE}, {2 * SIZE}, "):
        animator(checkpoint, size)


def test_a_codec_that_does_not_see_pixels_has_one_size(tmp_path):
    face = load_part(save_tiny_model(tmp_path), "face")
    own = PortraitAnimator(face).image_size
    assert PortraitAnimator(face, size=own).image_size == own
    with pytest.raises(InputError, match=f"config.size: {2 * own}; this codec makes frames of {own} pixels"):
        PortraitAnimator(face, size=2 * own)


def test_the_command_writes_videos_of_that_size(checkpoint, tmp_path, capsys):
    sound = write_wav(tmp_path / "hello.wav")
    settings = [
        f"--config.checkpoint={checkpoint}", "--config.image=demo", f"--config.audio={sound}", "--config.steps=1",
        f"--config.output={tmp_path / 'a.mp4'}",
    ]  # fmt: skip
    main(["main", "--config=configs/generate.py", *settings, f"--config.size={2 * SIZE}"])
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert (file.streams.video[0].width, file.streams.video[0].height) == (2 * SIZE, 2 * SIZE)
    assert f"{2 * SIZE}x{2 * SIZE}" in capsys.readouterr().out.replace(" ", "")
    assert main(["main", "--config=configs/generate.py", *settings, "--config.size=50"]) == 2
    assert "error: config.size: 50 is none that this codec can make" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "hello.wav"]
