"""Lips that follow a voice: what is moved, by how much, and that a stream hears what a file with its hop hears."""

import dataclasses

import numpy as np
import pytest
from tiny_lips import save_tiny_lips, tiny_lips
from tiny_model import save_tiny_model

from vasa_jax.conventions import DYNAMICS_DIM, MOTION_DIM, POSE_DIM
from vasa_jax.errors import InputError
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.generation.lip_guide import REACH, LipGuide
from vasa_jax.models.lip_reader import LipReader, heard_mean, relative_mels
from vasa_jax.models.lip_reading import PIECE, read_sound, sound_mels
from vasa_jax.weights.parts import load_model

CONTROLS = Controls(steps=2, seed=3, pose_anchor="absolute")
LIVE = dataclasses.replace(CONTROLS, hop=5, look_ahead=2)


@pytest.fixture(scope="module")
def generators(tmp_path_factory):
    """The same tiny model without and with a lip reader."""
    without, with_lips = (save_tiny_model(tmp_path_factory.mktemp(name)) for name in ("without", "with"))
    save_tiny_lips(with_lips)
    return [VideoGenerator.from_pretrained(folder, decode_batch=4) for folder in (without, with_lips)]


@pytest.fixture(scope="module")
def guide():
    rng = np.random.default_rng(1)
    mean, std = rng.standard_normal(MOTION_DIM), rng.uniform(0.5, 2.0, MOTION_DIM)
    return LipGuide(tiny_lips(), mean.astype(np.float32), std.astype(np.float32)), mean, std


def speech(samples, seed=0):
    rng = np.random.default_rng(seed)
    loud = np.repeat(rng.uniform(0.0, 0.2, -(-samples // 1600)), 1600)[:samples]
    return (loud * rng.standard_normal(samples)).astype(np.float32)


def opening(motion, direction):
    return motion[:, POSE_DIM:] @ direction["read"] + direction["offset"]


def opened(guide, openings, seed=2):
    """A z-scored sample that has these openings, and a random rest."""
    guide, mean, std = guide
    sample = np.random.default_rng(seed).standard_normal((len(openings), MOTION_DIM)).astype(np.float32)
    direction = tiny_lips()[0]["direction"]
    apart = (openings - opening(sample * std + mean, direction))[:, None] * direction["move"]
    sample[:, POSE_DIM:] += apart / std[POSE_DIM:]
    np.testing.assert_allclose(guide.own(sample), openings, atol=1e-5)
    return sample


def test_the_opening_becomes_the_heard_one_and_nothing_uncorrelated_moves(guide):
    sample = opened(guide, np.linspace(0.1, 0.3, 30))
    guide, mean, std = guide
    heard, direction = np.random.default_rng(2).uniform(0.01, 0.3, 30), tiny_lips()[0]["direction"]
    moved = guide.laid_on(sample, heard, np.ones(30))
    assert moved.dtype == np.float32
    np.testing.assert_allclose(opening(moved * std + mean, direction), heard, atol=1e-5)
    np.testing.assert_array_equal(moved[:, :POSE_DIM], sample[:, :POSE_DIM])
    change, move = (moved - sample)[:, POSE_DIM:] * std[POSE_DIM:], direction["move"]
    np.testing.assert_allclose(change, np.outer(change @ move / (move @ move), move), atol=1e-5)
    # Directions that are uncorrelated with the opening stay: `move` is C read with a diagonal C here.
    other = np.random.default_rng(5).standard_normal(DYNAMICS_DIM)
    other -= (other @ move) / (direction["read"] @ move) * direction["read"]
    np.testing.assert_allclose(change @ other, 0.0, atol=1e-4)


def test_half_the_strength_goes_half_the_way(guide):
    own, heard = np.linspace(0.2, 0.1, 8), np.linspace(0.05, 0.3, 8)
    sample = opened(guide, own)
    half = guide[0].laid_on(sample, heard, np.full(8, 0.5))
    np.testing.assert_allclose(guide[0].own(half), (own + heard) / 2, atol=1e-5)


def test_lips_that_meet_for_a_moment_stay_together_unless_the_voice_contradicts(guide):
    own = np.full(20, 0.15)
    own[9:11] = 0.0
    sample, closure = opened(guide, own), np.array([9, 10])
    rest = np.setdiff1d(np.arange(20), closure)
    for heard, expected in ((0.08, 0.0), (0.15, 0.075), (0.2, 0.2)):
        openings = guide[0].own(guide[0].laid_on(sample, np.full(20, heard), np.ones(20)))
        np.testing.assert_allclose(openings[closure], expected, atol=1e-5)
        np.testing.assert_allclose(openings[rest], heard, atol=1e-5)
    shut = opened(guide, np.zeros(20))  # silence, the transformer thinks
    np.testing.assert_allclose(guide[0].own(guide[0].laid_on(shut, np.full(20, 0.08), np.ones(20))), 0.08, atol=1e-5)


def test_frames_in_two_parts_move_as_in_one(guide):
    rng = np.random.default_rng(4)
    own = np.where(rng.random(30) < 0.3, 0.0, 0.2)
    sample, heard = opened(guide, own), rng.uniform(0.0, 0.15, 30)
    whole = guide[0].laid_on(sample, heard, np.ones(30))
    first = guide[0].laid_on(sample, heard[:12], np.ones(12))
    second = guide[0].laid_on(sample[12:], heard[12:], np.ones(18), guide[0].own(sample[12 - REACH : 12]))
    np.testing.assert_allclose(np.concatenate([first, second]), whole, atol=1e-5)
    assert np.abs(whole - sample)[own == 0.0].max() < np.abs(whole - sample)[own > 0.0].max()


@pytest.mark.parametrize("controls", [CONTROLS, LIVE])
def test_no_strength_is_the_motion_without_a_reader_bit_for_bit(generators, controls):
    sound = speech(30_000)
    without, switched_off, guided = (
        generator.motion(sound, controls=controls, lips=lips)
        for generator, lips in ((generators[0], 1.0), (generators[1], 0.0), (generators[1], 1.0))
    )
    np.testing.assert_array_equal(switched_off, without)
    np.testing.assert_array_equal(guided[:, :POSE_DIM], without[:, :POSE_DIM])
    assert np.abs(guided - without).max() > 1e-3


def test_a_track_of_strengths_acts_on_its_own_frames(generators):
    sound = speech(20 * 640)
    track = [0.0] * 10 + [1.0] * 10
    off, part, on = (generators[1].motion(sound, controls=CONTROLS, lips=lips) for lips in (0.0, track, 1.0))
    np.testing.assert_array_equal(part[:10], off[:10])
    np.testing.assert_array_equal(part[10:], on[10:])


def test_a_stream_in_any_pieces_moves_as_the_file_with_its_hop(generators):
    sound = speech(23 * 640 + 100)
    whole = generators[1].motion(sound, controls=LIVE)
    batch = generators[1].stream_batch(2, LIVE)
    sessions = [batch.open(None), batch.open(None, lips=0.0)]
    made = {session: [] for session in sessions}

    def advance():
        while moved := batch.advance_motion():
            for session, motion in moved:
                made[session].append(motion)

    for start in range(0, len(sound), 1111):
        for session in sessions:
            session.write(sound[start : start + 1111])
        advance()
    for session in sessions:
        session.end()
    advance()
    guided, plain = (np.concatenate(made[session]) for session in sessions)
    np.testing.assert_allclose(guided, whole, atol=1e-5)
    np.testing.assert_allclose(plain, generators[0].motion(sound, controls=LIVE), atol=1e-5)


def test_a_long_sound_is_heard_in_pieces_without_seams(guide):
    guide, _, _ = guide
    sound, (content, metadata) = speech((PIECE + 40) * 640), tiny_lips()
    heard = guide.heard(sound)
    assert heard.shape == (PIECE + 40,) and (heard >= 0.0).all()
    network, mels = LipReader(**metadata["fields"]), sound_mels(sound, metadata["fields"]["mels"])
    wide = np.pad(mels, ((network.before, network.after), (0, 0), (0, 0)), "edge")
    whole = relative_mels(wide, heard_mean(mels).spectrum(content["spectrum"]))[None]
    expected = network.apply({"params": content["reader"]}, whole)[0]
    np.testing.assert_allclose(read_sound(network, content["reader"], mels, content["spectrum"]), expected, atol=1e-5)


def test_silence_before_a_voice_changes_nothing(guide):
    guide, _, _ = guide
    sound = speech(290 * 640)
    heard, later = guide.heard(sound), guide.heard(np.concatenate([np.zeros(37 * 640, np.float32), sound]))
    np.testing.assert_allclose(later[37 + 10 :], heard[10:], atol=0.01)  # what is heard before the first word differs


def test_later_sound_moves_no_frame_of_a_stream(generators):
    sound = speech(40 * 640)
    other = np.concatenate([sound[: 20 * 640], speech(20 * 640, seed=5)])
    first, second = (generators[1].motion(samples, controls=LIVE) for samples in (sound, other))
    np.testing.assert_array_equal(first[:15], second[:15])
    assert np.abs(first[20:] - second[20:]).max() > 1e-3


def test_a_reader_of_other_dynamics_is_refused(tmp_path):
    save_tiny_lips(save_tiny_model(tmp_path), width=DYNAMICS_DIM - 1)
    with pytest.raises(InputError, match=r"lips.safetensors opens the mouth in 127 numbers.*; train it for this codec"):
        load_model(tmp_path)
