"""The lip reader's front end and network: frames, contexts, silence, gain and filters of a microphone."""

import jax
import jax.numpy as jnp
import numpy as np
from random_params import random_params

from vasa_jax.conventions import SAMPLES_PER_FRAME, TAIL
from vasa_jax.models.lip_reader import (
    LEAD,
    PARTS,
    LipReader,
    VoiceMean,
    frame_mels,
    heard_mean,
    heard_so_far,
    reading_sums,
    relative_mels,
    standardised,
)

PRIOR = np.zeros(8, np.float32)


def noise(frames, seed=0, level=0.1):
    samples = LEAD + SAMPLES_PER_FRAME * frames + TAIL
    return (level * np.random.default_rng(seed).standard_normal((1, samples))).astype(np.float32)


def test_a_frames_mels_see_its_own_samples_a_lead_and_a_tail():
    sound = noise(5)
    mels = frame_mels(sound, 8)
    assert mels.shape == (1, 5, PARTS, 8)
    third = sound[:, 2 * SAMPLES_PER_FRAME : LEAD + 3 * SAMPLES_PER_FRAME + TAIL]
    np.testing.assert_allclose(frame_mels(third, 8)[0, 0], mels[0, 2], atol=1e-5)
    changed = sound.copy()
    changed[:, LEAD + 3 * SAMPLES_PER_FRAME + TAIL :] = 0.0
    np.testing.assert_array_equal(frame_mels(changed, 8)[:, :3], mels[:, :3])
    assert np.abs(frame_mels(changed, 8)[:, 3:] - mels[:, 3:]).max() > 0.1


def test_silence_does_not_move_a_voices_mean():
    voice, silence = frame_mels(noise(20), 8)[0], frame_mels(noise(200, level=1e-5), 8)[0]
    alone, together = heard_mean(voice), heard_mean(jnp.concatenate([silence, voice, silence]))
    np.testing.assert_allclose(together.mels, alone.mels, rtol=1e-5)
    assert together.parts == alone.parts == 20 * PARTS
    silent = heard_mean(silence)
    assert silent.parts == 0
    np.testing.assert_array_equal(silent.spectrum(PRIOR + 0.5), PRIOR + 0.5)


def test_sums_of_parts_are_those_of_the_whole():
    mels = frame_mels(noise(30), 8)[0]
    first, second, whole = (heard_mean(part) for part in (mels[:7], mels[7:], mels))
    np.testing.assert_allclose(first.mels + second.mels, whole.mels, rtol=1e-5)
    assert first.parts + second.parts == whole.parts


def test_sums_so_far_are_those_of_the_frames_up_to_each():
    mels = jnp.concatenate([frame_mels(noise(10, level=1e-5), 8)[0], frame_mels(noise(20), 8)[0]])
    so_far = heard_so_far(mels)
    assert so_far.mels.shape == (30, 8) and so_far.parts.shape == (30,)
    for frame in (0, 10, 29):
        upto = heard_mean(mels[: frame + 1])
        np.testing.assert_allclose(so_far.mels[frame], upto.mels, rtol=1e-5, atol=1e-6)
        assert so_far.parts[frame] == upto.parts


def test_readings_are_told_about_the_voice_s_own_mean_and_silence_does_not_count():
    rng = np.random.default_rng(0)
    mels = jnp.concatenate([frame_mels(noise(50, level=1e-5), 8)[0], frame_mels(noise(4000), 8)[0]])
    readings = np.concatenate([np.full(50, -9.0), 3.0 + 1.5 * rng.standard_normal(4000)]).astype(np.float32)
    sums = reading_sums(readings, mels)
    assert sums.frames == 4000
    voice = readings[50:]
    np.testing.assert_allclose(standardised(readings, sums), (readings - voice.mean()) / voice.std(), atol=0.1)
    parts = [reading_sums(readings[part], mels[part]) for part in (slice(0, 90), slice(90, None))]
    np.testing.assert_allclose(np.sum(parts, 0), sums, rtol=1e-4)
    nobody = reading_sums(readings[:50], mels[:50])
    np.testing.assert_array_equal(standardised(readings[:50], nobody), readings[:50])


def test_steady_noise_does_not_become_a_mouth_s_middle():
    mels, readings = frame_mels(noise(500), 8)[0], np.full(500, -1.0, np.float32)
    assert standardised(readings, reading_sums(readings, mels)).max() <= -1.0


def test_a_louder_voice_is_the_same_relative_to_its_mean():
    quiet, loud = (frame_mels(noise(400, level=level), 8)[0] for level in (0.05, 0.4))
    heard = [
        relative_mels(mels, VoiceMean(sums.mels, sums.parts).spectrum(PRIOR))
        for mels in (quiet, loud)
        for sums in (heard_mean(mels),)
    ]
    assert heard[0].shape == (400, PARTS * 8)
    np.testing.assert_allclose(heard[0], heard[1], atol=0.2)
    assert np.abs(quiet - loud).min() > 0.9


def test_an_opening_depends_on_as_many_frames_as_it_says():
    network = LipReader(mels=4, width=8, kernel=5, ahead=(2, 1, 0))
    assert (network.before, network.after) == (9, 3)
    heard = np.random.default_rng(0).standard_normal((2, 9 + 6 + 3, 8)).astype(np.float32)
    params = random_params(network.init, heard)["params"]
    openings = network.apply({"params": params}, heard)
    assert openings.shape == (2, 6)
    slope = jax.grad(lambda x: network.apply({"params": params}, x)[:, 2].sum())(heard)
    seen = np.flatnonzero(np.abs(np.asarray(slope)).max((0, 2)))
    np.testing.assert_array_equal(seen, np.arange(2, 2 + 9 + 1 + 3))


def test_dropout_is_of_training_alone():
    network = LipReader(mels=4, width=8, ahead=(1, 1))
    heard = np.random.default_rng(0).standard_normal((1, 20, 8)).astype(np.float32)
    params = {"params": random_params(network.init, heard)["params"]}
    plain = network.apply(params, heard)
    trained = [network.apply(params, heard, True, rngs={"dropout": jax.random.key(i)}) for i in (0, 1)]
    assert np.abs(trained[0] - trained[1]).max() > 1e-3
    np.testing.assert_array_equal(plain, network.apply(params, heard, False))
