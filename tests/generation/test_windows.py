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
    AT_ONCE,
    Past,
    Window,
    last_frames,
    next_window,
    no_past,
    plan,
    sample_sequence,
    sample_windows,
    window_conditions,
)
from vasa_jax.models.motion import VASADiffusionTransformer
from vasa_jax.models.variants import MOTION_VARIANTS

W, K, A, D = 12, 4, 32, 137
DIMS = {"window": W, "previous": K, "motion_dim": D}


def make_controls(batch, *_):
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
    first = window_conditions(audio[:, :12], audio[:, :0], W, K, make_controls(2))
    np.testing.assert_array_equal(first.audio, audio[:, :12])
    later = window_conditions(audio[:, 12:], audio[:, :12], W, K, make_controls(2))
    np.testing.assert_array_equal(later.prev_audio, audio[:, 8:12])
    np.testing.assert_array_equal(later.audio[:, :8], audio[:, 12:])
    assert not later.audio[:, 8:].any()
    np.testing.assert_array_equal(later.audio_mask, np.arange(W)[None].repeat(2, 0) < 8)
    assert jax.tree.map(jnp.shape, first) == jax.tree.map(jnp.shape, later)


def echo(past, count, keep, keys, conditions, centres):
    """A stand-in sampler: frame i = (its first audio feature, whether X_pre of the first window was known, ...)."""
    motion = np.zeros((*conditions.audio.shape[:3], D))
    motion[..., 0] = np.where(conditions.audio_mask, conditions.audio[..., 0], np.nan)
    motion[..., 1] = past.known[:, None]
    motion[..., 2] = past.motion[:, -1:, 0]
    motion[..., 3] = np.array(centres)[:, None, None]
    motion[..., 4] = conditions.distance[:, :, :1]
    motion[..., 5] = jax.random.key_data(keys)[:, 1][:, None, None]
    motion[count:] = np.nan
    return motion


@pytest.mark.parametrize("frames", [0, 1, 11, 12, 13, 24, 31, 8 * 12, 8 * 12 + 1, 200])
def test_sequence_is_aligned_and_complete(frames):
    audio = make_audio(2, frames)

    def controls(part, width):
        assert width == W
        return make_controls(2) | {"distance": np.full((2, 1), part.centre, np.float32)}

    motion = sample_sequence(echo, jax.random.key(0), audio, controls, **DIMS)
    assert motion.shape == (2, frames, D)
    np.testing.assert_array_equal(motion[..., 0], audio[..., 0])
    call = AT_ONCE * W
    np.testing.assert_array_equal(motion[..., 1], np.broadcast_to(np.arange(frames) >= call, (2, frames)))
    for start in range(call, frames, call):  # X_pre ends with the frame before the windows of a call
        np.testing.assert_array_equal(motion[:, start, 2], motion[:, start - 1, 0])
    folded = [jax.random.key_data(jax.random.fold_in(jax.random.key(0), frame // W))[1] for frame in range(frames)]
    np.testing.assert_array_equal(motion[0, :, 5], np.array(folded, np.float32))
    # controls and scales are those of the middle of the kept frames
    centres = [
        start + min(W, frames - start) // 2 for start in range(0, frames, W) for _ in range(min(W, frames - start))
    ]
    np.testing.assert_array_equal(motion[0, :, 3], centres)
    np.testing.assert_array_equal(motion[0, :, 4], centres)


@pytest.fixture(scope="module")
def sampler():
    model = VASADiffusionTransformer(**MOTION_VARIANTS["motion_tiny"] | {"layers": 1})
    conditions = window_conditions(make_audio(1, 1), make_audio(1, 0), W, K, make_controls(1))
    conditions = conditions._replace(prev_motion=jnp.zeros((1, K, D)), prev_mask=jnp.ones((1,), bool))
    params = random_params(model.init, jnp.zeros((1, W, D)), jnp.zeros((1,), int), conditions)["params"]

    def sample(past, count, keep, keys, conditions, centres):
        scales = {"audio": np.linspace(0.2, 0.9, len(keep), dtype=np.float32)}
        count, keep = np.int32(count), np.asarray(keep, np.int32)
        return sample_windows(
            model, VASADiffusion(), 3, "dpmpp", params, past, count, keep, keys, conditions, scales
        )  # fmt: skip

    sample.model, sample.params = model, params
    return sample


def test_one_compilation_for_all_windows_and_lengths(sampler, caplog):
    sample_sequence(sampler, jax.random.key(0), make_audio(1, 5), single, **DIMS)
    count = sample_windows._cache_size()
    key, controls = jax.random.key(0), single
    with jax.log_compiles():
        for frames in (12, 13, 40, 8 * 12 + 5):
            sample_sequence(sampler, key, make_audio(1, frames), controls, **DIMS)
        assert sample_windows._cache_size() == count
        assert not [record for record in caplog.records if "Compiling" in record.message]
        jax.jit(lambda x: x + 1)(1.0)
        assert [record for record in caplog.records if "Compiling" in record.message], "compilations are seen"
    sample_sequence(sampler, key, make_audio(2, 5), pair, **DIMS)
    assert sample_windows._cache_size() == count + 1, "another batch size is another compilation"


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


@pytest.mark.parametrize(("batch", "keep"), [(1, (2, 3, 1, 12)), (2, (4, 12, 12, 7))])
def test_the_scan_is_window_after_window(sampler, batch, keep):
    """Windows that keep fewer frames than X_pre has, as many, and all, against the plain loop."""
    rng = np.random.default_rng(3)
    asked = [
        window_conditions(make_audio(batch, 9, i), make_audio(batch, 6, i), W, K, make_controls(batch))
        for i in range(4)
    ]
    keys = jax.random.split(jax.random.key(5), 4)
    past = Past(rng.standard_normal((batch, K, D)).astype(np.float32), np.ones((batch,), bool))
    many = jax.tree.map(lambda *leaves: np.stack(leaves), *asked)
    for start in (no_past(batch, K, D), past):
        found = np.asarray(sampler(start, 3, keep, keys, many, None))
        assert not found[3].any()  # not asked for
        before = start.motion if start.known[0] else np.zeros((batch, 0, D), np.float32)
        for i in range(3):
            x_pre = last_frames(before, K) if before.shape[1] else start.motion
            known = asked[i]._replace(prev_motion=x_pre, prev_mask=np.full((batch,), before.shape[1] > 0))
            scale = np.linspace(0.2, 0.9, 4, dtype=np.float32)[i]

            def apply(params, noisy, t, conditions):
                return sampler.model.apply({"params": params}, noisy, t, conditions)

            plain = VASADiffusion().sample_window(apply, sampler.params, keys[i], known, 3, {"audio": scale}, "dpmpp")
            np.testing.assert_allclose(found[i], plain, atol=2e-4)
            before = np.concatenate([before, found[i][:, : keep[i]]], axis=1)
