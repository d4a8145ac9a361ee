"""Windows and sequences: every frame once, nothing from the future, one compilation."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from vasa_jax.diffusion import VASADiffusion
from vasa_jax.generation.windows import (
    Window,
    last_frames,
    next_window,
    plan,
    sample_sequence,
    sample_window,
    window_conditions,
)
from vasa_jax.models.motion import MOTION_VARIANTS, VASADiffusionTransformer

W, K, A, D = 12, 4, 32, 137
DIMS = {"window": W, "previous": K, "motion_dim": D}


def make_controls(batch, frame=0):
    known = jnp.ones((batch,), bool)
    return {
        "gaze": jnp.zeros((batch, 2)), "distance": jnp.ones((batch, 1)), "emotion": jnp.zeros((batch, 8)),
        "gaze_mask": known, "distance_mask": known, "emotion_mask": ~known,
    }  # fmt: skip


single, pair = functools.partial(make_controls, 1), functools.partial(make_controls, 2)


def make_audio(batch, frames, seed=0):
    return np.random.default_rng(seed).standard_normal((batch, frames, A)).astype(np.float32)


def stream_windows(frames, hop, look_ahead):
    """The windows of a stream whose sound comes frame by frame."""
    parts, start = [], 0
    for known in range(frames + 1):
        while part := next_window(start, known, hop, look_ahead, ended=known == frames):
            parts.append(part)
            start += part.keep
    return tuple(parts)


def test_windows_keep_every_frame_once():
    for frames, hop, look_ahead in itertools.product(range(0, 70), (1, 3, 5, 12), (0, 2)):
        parts = stream_windows(frames, hop, look_ahead)
        kept = [frame for part in parts for frame in range(part.start, part.start + part.keep)]
        assert kept == list(range(frames))
        for part in parts:
            assert 1 <= part.keep <= part.audio <= hop + look_ahead
            assert part.start + part.audio <= min(frames, part.start + hop + look_ahead)
            assert part.start <= part.centre < part.start + part.keep
        if not look_ahead:
            assert parts == plan(frames, hop)


def test_windows_of_a_few():
    assert plan(25, 12) == (Window(0, 12, 12), Window(12, 12, 12), Window(24, 1, 1))
    assert stream_windows(9, 4, 2) == (Window(0, 4, 6), Window(4, 4, 5), Window(8, 1, 1))
    assert next_window(4, 9, 4, 2, ended=False) is None
    assert next_window(4, 10, 4, 2, ended=False) == Window(4, 4, 6)


def test_last_frames():
    sequence = np.arange(6.0).reshape(1, 3, 2)
    np.testing.assert_array_equal(last_frames(sequence, 2), sequence[:, 1:])
    held = last_frames(sequence, 5)
    np.testing.assert_array_equal(held[0, :, 0], [0, 0, 0, 2, 4])


def test_conditions_of_the_first_and_of_a_later_window():
    audio = make_audio(2, 20)
    motion = np.random.default_rng(1).standard_normal((2, 12, D)).astype(np.float32)
    first = window_conditions(audio[:, :12], audio[:, :0], motion[:, :0], W, K, make_controls(2))
    assert not first.prev_mask.any()
    np.testing.assert_array_equal(first.audio, audio[:, :12])
    later = window_conditions(audio[:, 12:], audio[:, :12], motion, W, K, make_controls(2))
    assert later.prev_mask.all()
    np.testing.assert_array_equal(later.prev_motion, motion[:, -K:])
    np.testing.assert_array_equal(later.prev_audio, audio[:, 8:12])
    np.testing.assert_array_equal(later.audio[:, :8], audio[:, 12:])
    assert not later.audio[:, 8:].any()
    np.testing.assert_array_equal(later.audio_mask, np.arange(W)[None].repeat(2, 0) < 8)
    assert jax.tree.map(jnp.shape, first) == jax.tree.map(jnp.shape, later)


def echo(key, conditions, centre):
    """A stand-in sampler: frame i of the window = (its first audio feature, whether X_pre was known, ...)."""
    motion = jnp.zeros((*conditions.audio.shape[:2], D))
    motion = motion.at[..., 0].set(jnp.where(conditions.audio_mask, conditions.audio[..., 0], jnp.nan))
    motion = motion.at[..., 1].set(conditions.prev_mask[:, None])
    motion = motion.at[..., 2].set(conditions.prev_motion[:, -1:, 0])
    return motion.at[..., 3].set(centre).at[..., 4].set(conditions.distance[:, :1])


@pytest.mark.parametrize("frames", [0, 1, 11, 12, 13, 24, 31])
def test_sequence_is_aligned_and_complete(frames):
    audio = make_audio(2, frames)

    def controls(frame):
        return make_controls(2) | {"distance": np.full((2, 1), frame, np.float32)}

    motion = sample_sequence(echo, jax.random.key(0), audio, controls, **DIMS)
    assert motion.shape == (2, frames, D)
    np.testing.assert_array_equal(motion[..., 0], audio[..., 0])
    np.testing.assert_array_equal(motion[..., 1], np.broadcast_to(np.arange(frames) >= W, (2, frames)))
    for start in range(W, frames, W):  # X_pre ends with the frame before the window
        np.testing.assert_array_equal(motion[:, start, 2], motion[:, start - 1, 0])
    # controls and scales are those of the middle of the kept frames
    centres = [
        start + min(W, frames - start) // 2 for start in range(0, frames, W) for _ in range(min(W, frames - start))
    ]
    np.testing.assert_array_equal(motion[0, :, 3], centres)
    np.testing.assert_array_equal(motion[0, :, 4], centres)


@pytest.fixture(scope="module")
def sampler():
    model = VASADiffusionTransformer(**MOTION_VARIANTS["motion_tiny"] | {"layers": 1})
    conditions = window_conditions(
        make_audio(1, 1), make_audio(1, 0), np.zeros((1, 0, D), np.float32), W, K, make_controls(1)
    )
    params = random_params(model.init, jnp.zeros((1, W, D)), jnp.zeros((1,), int), conditions)["params"]

    def sample(key, conditions, centre):
        return sample_window(model, VASADiffusion(), 3, "dpmpp", params, key, conditions, {"audio": 0.5})

    return sample


def test_one_compilation_for_all_windows_and_lengths(sampler, caplog):
    sample_sequence(sampler, jax.random.key(0), make_audio(1, 5), single, **DIMS)
    count = sample_window._cache_size()
    key, controls = jax.random.key(0), single
    with jax.log_compiles():
        for frames in (12, 13, 40):
            sample_sequence(sampler, key, make_audio(1, frames), controls, **DIMS)
        assert sample_window._cache_size() == count
        assert not [record for record in caplog.records if "Compiling" in record.message]
        jax.jit(lambda x: x + 1)(1.0)
        assert [record for record in caplog.records if "Compiling" in record.message], "compilations are seen"
    sample_sequence(sampler, key, make_audio(2, 5), pair, **DIMS)
    assert sample_window._cache_size() == count + 1, "another batch size is another compilation"


def test_windows_do_not_share_their_noise(sampler):
    audio = np.zeros((1, 36, A), np.float32)
    motion = sample_sequence(sampler, jax.random.key(0), audio, single, **DIMS)
    again = sample_sequence(sampler, jax.random.key(0), audio, single, **DIMS)
    np.testing.assert_array_equal(motion, again)
    assert np.abs(motion[:, 12:24] - motion[:, 24:36]).max() > 0.05


def test_batched_equals_single(sampler):
    audio = make_audio(2, 30)
    batched = sample_sequence(sampler, jax.random.key(0), audio, pair, **DIMS)
    alone = sample_sequence(sampler, jax.random.key(0), audio[:1], single, **DIMS)
    np.testing.assert_allclose(batched[:1], alone, atol=1e-3)
