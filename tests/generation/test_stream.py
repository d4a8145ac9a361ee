"""Live streams with a tiny model of random parameters: the same frames however the sound is cut, and as offline."""

import dataclasses

import jax
import numpy as np
import pytest
from sounds import write_wav
from tiny_model import WINDOW, save_tiny_model

from vasa_jax.conventions import HISTORY, TAIL
from vasa_jax.data.audio_files import read_audio
from vasa_jax.errors import InputError
from vasa_jax.generation import animator
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.generation.job import DEMO
from vasa_jax.generation.speech_features import SpeechFeatures
from vasa_jax.generation.stream import StreamBatch
from vasa_jax.weights.parts import load_part

# A random encoder's pose may lie outside of the picture: the head stays in the middle.
LIVE = Controls(hop=5, look_ahead=2, steps=2, solver="dpmpp", seed=3, pose_anchor="absolute", blink_rate=40.0)


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return VideoGenerator.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny")), decode_batch=4)


@pytest.fixture(scope="module")
def avatar(generator):
    coarse = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
    return generator.prepare(np.repeat(np.repeat(coarse, 8, 0), 8, 1))


def speech(samples, seed=0):
    return (0.1 * np.random.default_rng(seed).normal(size=samples)).astype(np.float32)


def cut(samples, sizes):
    """The sound in pieces of these sizes, the last one over and over."""
    start, sizes = 0, iter(sizes)
    while start < len(samples):
        size = next(sizes)
        yield samples[start : start + size]
        start += size


def stream_frames(stream, pieces):
    frames = [frame for piece in pieces for frame in stream.feed(piece)]
    return np.stack([*frames, *stream.finish()])


@pytest.fixture(scope="module")
def offline(generator, avatar):
    """(sound, its frames made with a hop offline); 51 whole frames, 1 begun."""
    sound = speech(51 * 640 + 17)
    motion = generator.motion(sound, avatar, LIVE)
    assert motion.shape == (52, 137)
    return sound, np.concatenate(list(generator.render(avatar, motion, LIVE.hop)))


def sizes_of(name):
    rng = np.random.default_rng(len(name))
    if name == "by one, then at once":
        yield from [1] * 3000
        while True:
            yield 48_000
    while True:
        yield {"uneven": int(rng.integers(1, 3000)), "wide": round(48_000 ** rng.random()), "by frames": 640}[name]


@pytest.mark.parametrize("name", ["uneven", "wide", "by frames", "by one, then at once"])
def test_any_cut_gives_the_offline_frames(generator, avatar, offline, name):
    sound, expected = offline
    frames = stream_frames(generator.stream(avatar, LIVE), cut(sound, sizes_of(name)))
    np.testing.assert_array_equal(frames, expected)
    assert np.abs(np.diff(frames.astype(int), axis=0)).max() > 1  # they move


def test_generated_file_with_a_hop_has_the_streams_frames(generator, tmp_path):
    path = write_wav(tmp_path / "hello.wav", 1.05)
    sound = read_audio(path)
    stream = generator.stream(str(DEMO["image"]), LIVE)
    frames = np.stack(list(generator.generate(DEMO["image"], path, LIVE, payload=stream.payload).frames()))
    np.testing.assert_array_equal(stream_frames(stream, [sound.samples]), frames)


def test_frames_leave_when_their_sound_is_in_and_never_change(generator, avatar, offline):
    sound, expected = offline
    needed = (LIVE.hop + LIVE.look_ahead) * 640 + TAIL
    stream = generator.stream(avatar, LIVE)
    assert stream.first_frame_samples == needed
    assert not list(stream.feed(sound[: needed - 1]))
    first = list(stream.feed(sound[needed - 1 : needed]))
    assert len(first) == LIVE.hop
    assert not list(stream.feed(sound[needed : needed + LIVE.hop * 640 - 1]))
    # whatever comes after, also another voice or the end
    for tail in (speech(4000, seed=9), sound[needed:needed]):
        other = generator.stream(avatar, LIVE)
        frames = stream_frames(other, [sound[:needed], tail])
        np.testing.assert_array_equal(frames[: LIVE.hop], expected[: LIVE.hop])
        assert len(frames) == -(-(needed + len(tail)) // 640)
    np.testing.assert_array_equal(first, expected[: LIVE.hop])


def test_unread_frames_are_not_lost(generator, avatar, offline):
    sound, expected = offline
    stream = generator.stream(avatar, LIVE)
    stream.feed(sound[:20_000])
    some = [next(stream.feed(sound[20_000:]))]
    np.testing.assert_array_equal(np.stack([*some, *stream.finish()]), expected)


@pytest.mark.parametrize("samples", [0, 1, 640, 641, 640 * LIVE.hop, 640 * LIVE.hop + 1])
def test_frames_of_short_sound(generator, avatar, samples):
    stream = generator.stream(avatar, LIVE)
    frames = [*stream.feed(speech(samples)), *stream.finish()]
    assert len(frames) == -(-samples // 640)
    assert not list(stream.finish())


def test_nothing_compiles_after_the_first_window(generator, avatar, offline, caplog):
    with jax.log_compiles():
        for samples in (1, 9000, 30_000):
            stream_frames(generator.stream(avatar, LIVE, seed=8, audio_guidance=2.0), [speech(samples)])
        assert not [record.message for record in caplog.records if "Compiling" in record.message]
        animator._decode.clear_cache()  # another test of this process may have decoded six at once
        stream = generator.stream(avatar, LIVE, hop=6)
        assert [record for record in caplog.records if "_decode" in record.message], "opening a stream compiles"
        caplog.clear()
        stream_frames(stream, [speech(9000)])
        assert not [record.message for record in caplog.records if "Compiling" in record.message]
        jax.jit(lambda x: x + 1)(1.0)
        assert [record for record in caplog.records if "Compiling" in record.message], "compilations are seen"


def test_a_long_stream_keeps_only_what_it_needs(generator, avatar):
    batch = generator.stream_batch(1, LIVE)
    session, held = batch.open(avatar), []
    for _ in range(40):
        session.write(speech(LIVE.hop * 640))
        batch.advance_motion()
        held.append((sum(map(len, session._pieces)), session.past.motion.shape[1]))
    assert held[-1] == held[-10], "neither sound nor motion piles up"
    assert held[-1][0] < (HISTORY + 3 * LIVE.hop + LIVE.look_ahead) * 640


def test_windows_hear_their_history_and_no_more(generator, avatar):
    sound = speech((HISTORY + 3 * LIVE.hop + LIVE.look_ahead) * 640 + TAIL)
    changed = sound.copy()
    changed[: 2 * LIVE.hop * 640] = 0.0
    index = HISTORY // LIVE.hop + 2  # the first window that hears none of the change

    def heard(sound, index):
        session = StreamBatch(generator.sampler, generator, 1, LIVE).open(avatar)
        session.write(sound)
        session.index = index
        return session.sound(session.due)

    np.testing.assert_array_equal(heard(sound, index), heard(changed, index))
    assert len(heard(sound, index)) == (HISTORY + LIVE.hop + LIVE.look_ahead) * 640 + TAIL
    assert np.abs(heard(sound, index - 1) - heard(changed, index - 1)).max() > 0.1


def test_many_sessions_share_a_batch(generator, avatar):
    """More sessions than rows, of several lengths, controls and seeds: each gets what it gets alone."""
    batch = generator.stream_batch(2, LIVE, guided=("audio", "gaze"))
    own = [
        dataclasses.replace(LIVE, seed=1),
        dataclasses.replace(LIVE, seed=2, gaze=(20.0, 0.0), audio_guidance=1.5, pose_anchor="portrait"),
        dataclasses.replace(LIVE, seed=3, emotion="anger", pose_amplitude=0.5),
    ]
    sounds = [speech(18_000, seed=1), speech(9_000, seed=2), speech(15_100, seed=3)]
    sessions = [batch.open(avatar, controls) for controls in own]
    motions = {session: [] for session in sessions}
    for start in range(0, 20_000, 2_500):
        for session, sound in zip(sessions, sounds):
            if start < len(sound):
                session.write(sound[start : start + 2_500])
                if start + 2_500 >= len(sound):
                    session.end()
        while moved := batch.advance_motion():
            assert len(moved) <= 2
            for session, motion in moved:
                motions[session].append(motion)
    assert not batch.sessions
    for session, controls, sound in zip(sessions, own, sounds):
        alone = generator.motion(sound, avatar, controls)
        np.testing.assert_allclose(np.concatenate(motions[session]), alone, atol=2e-4)


def test_a_session_is_opened_with_changes(generator, avatar):
    """As in the example of `StreamBatch`: what is given by name goes over the controls."""
    batch, sound = generator.stream_batch(2, LIVE), speech(9_000)
    named, whole = batch.open(avatar, emotion="happiness", seed=5), batch.open(avatar)
    for session in (named, whole):
        session.write(sound)
        session.end()
    motions = {session: [] for session in (named, whole)}
    while moved := batch.advance_motion():
        for session, motion in moved:
            motions[session].append(motion)
    own = dataclasses.replace(LIVE, emotion="happiness", seed=5)
    np.testing.assert_allclose(np.concatenate(motions[named]), generator.motion(sound, avatar, own), atol=2e-4)
    assert np.abs(np.concatenate(motions[named]) - np.concatenate(motions[whole])).max() > 1e-3
    with pytest.raises(TypeError, match="emotoin"):
        batch.open(avatar, emotoin="happiness")


def test_sessions_take_turns(generator, avatar):
    batch = generator.stream_batch(1, LIVE)
    sessions = [batch.open(avatar) for _ in range(3)]
    for session in sessions:
        session.write(speech(20_000))
    order = [batch.advance_motion()[0][0] for _ in range(6)]
    assert order == sessions * 2
    frames = batch.advance()[0][1]
    assert frames.shape == (LIVE.hop, 64, 64, 3) and frames.dtype == np.uint8


def test_faults_are_named(generator, avatar):
    stream = generator.stream(avatar, LIVE)
    for sound, fault in (
        (np.zeros(10, np.int32), "int32"),
        (np.zeros((10, 2), np.float32), r"\(10, 2\)"),
        (np.full(10, np.nan, np.float32), "not finite"),
    ):
        with pytest.raises(InputError, match=fault):
            stream.feed(sound)
    stream.finish()
    with pytest.raises(InputError, match="after the end"):
        stream.feed(speech(10))
    for changes, fault in (
        ({"hop": WINDOW + 1, "look_ahead": 0}, f"windows of {WINDOW} frames"),
        ({"hop": 0, "look_ahead": 0}, "choose a hop of 1"),
        ({"hop": 4, "look_ahead": WINDOW}, "look-ahead"),
        ({"solver": "euler"}, "choose one of ddim"),
    ):
        with pytest.raises(InputError, match=fault):
            generator.stream(avatar, LIVE, **changes)
    with pytest.raises(InputError, match=r"give uint8 \(64, 64, 3\)"):
        generator.stream(np.zeros((32, 32, 3), np.uint8), LIVE)
    batch = generator.stream_batch(2, LIVE)
    with pytest.raises(InputError, match=r"controls\.steps: 9"):
        batch.open(avatar, dataclasses.replace(LIVE, steps=9))
    with pytest.raises(InputError, match="does not guide"):
        batch.open(avatar, dataclasses.replace(LIVE, gaze=(1.0, 1.0)))


def test_how_live_features_differ_from_those_of_a_whole_utterance():
    """The shipped encoder on the shipped sentence, root mean square over the features' deviation. What is missing after
    a frame costs most, and less with every frame of look-ahead; more history than the chosen one changes little."""
    params, metadata = load_part("", "audio")
    features = SpeechFeatures(params, metadata["fields"])
    sound = read_audio(DEMO["audio"]).samples
    whole, hop = features(sound), 10
    starts = np.arange(2 * HISTORY, len(whole) - hop, 3)

    def live(history):
        chunks = [sound[(start - history) * 640 : (start + hop) * 640 + TAIL] for start in starts]
        return features.recent(np.stack(chunks))[:, history:]

    def difference(a, b):
        return np.sqrt(np.square(a - b).mean((0, 2))) / whole.std()

    chosen = live(HISTORY)
    by_frame = difference(chosen, np.stack([whole[start : start + hop] for start in starts]))
    assert 0.6 < by_frame[-1] < 1.0 and by_frame[-3] < 0.55 and by_frame[:-5].max() < 0.45
    assert np.all(np.diff(by_frame[5:]) > 0)
    more, less = difference(chosen, live(2 * HISTORY)).mean(), difference(live(HISTORY // 5), live(2 * HISTORY)).mean()
    assert more < 0.2 < 2 * more < less
