"""Sound is set against the mouth by what the lip reader hears: its clock, and shipped speech whose mouths are known."""

import jax
import numpy as np
import pytest

from vasa_jax.conventions import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.heads.labels import labels
from vasa_jax.corpus.performance.articulation import articulate
from vasa_jax.corpus.performance.visemes import MOTION_NEUTRAL
from vasa_jax.corpus.speech.shipped import shipped_utterances
from vasa_jax.errors import InputError
from vasa_jax.models.lip_reader import LipReader
from vasa_jax.models.lip_reading import read_sound, sound_mels
from vasa_jax.models.variants import from_json
from vasa_jax.preparation import av_sync
from vasa_jax.preparation.heard_mouth import HeardMouth
from vasa_jax.weights.parts import load_part

SENTENCES = 3  # of one voice


@pytest.fixture(scope="module")
def heard_mouth():
    return HeardMouth()


@pytest.fixture(scope="module")
def voices():
    """Exact mouth (T,) of one head at 25 fps, and sound, of each shipped voice."""
    head, found = sample_identity(jax.random.key(0)), []
    for first in range(0, 33, SENTENCES):
        mouths, sounds = [], []
        for utterance in shipped_utterances()[first : first + SENTENCES]:
            frames = len(utterance.speech.samples) // SAMPLES_PER_FRAME
            still = {name: np.full(frames, value) for name, value in MOTION_NEUTRAL.items()}
            heads = jax.tree.map(lambda value, n=frames: np.broadcast_to(value, (n, *np.shape(value))), head)
            mouths.append(np.asarray(labels(heads, still | articulate(utterance.speech, frames)[0])["mouth"]))
            sounds.append(utterance.speech.samples[: frames * SAMPLES_PER_FRAME])
        found.append((np.concatenate(mouths), np.concatenate(sounds).astype(np.float32)))
    return found


def test_every_fourth_value_is_the_readers_own_frame(heard_mouth, voices):
    """Value 4 t + 2 is around sample 160 (4 t + 2), the middle of frame t."""
    sound = voices[0][1][: 79 * SAMPLES_PER_FRAME]
    params, metadata = load_part("", "lips")
    network = LipReader(**from_json(metadata["fields"]))
    frames = read_sound(network, params["reader"], sound_mels(sound, network.mels), params["spectrum"])
    heard = heard_mouth(sound)
    assert len(heard) == 79 * 4 and len(heard_mouth(sound[:-1000])) == 79 * 4 - 6
    np.testing.assert_allclose(heard[2::4], frames, atol=1e-4)


def test_sound_that_is_late_is_heard_late(heard_mouth, voices):
    sound = np.pad(voices[3][1][:48_000], (8000, 8000))
    late = np.pad(sound[: -7 * av_sync.STEP], (7 * av_sync.STEP, 0))
    straight, moved = heard_mouth(sound), heard_mouth(late)
    np.testing.assert_allclose(moved[57:-50], straight[50:-57], atol=0.05 * straight.std())


@pytest.mark.parametrize("late", [-0.2, 0.0, 0.03, 0.4])
def test_every_voices_offset_is_found_within_a_frame_and_most_within_20_ms(heard_mouth, voices, late):
    wrong = []
    for mouth, sound in voices:
        moved = av_sync.shifted(np.pad(sound, (0, SAMPLE_RATE)), -late)[: len(sound)]
        measure = av_sync.measure_offset(mouth, moved, heard_mouth(moved))
        assert measure.certain
        wrong.append(abs(measure.offset - late))
    assert max(wrong) < 0.045 and np.mean(np.array(wrong) < 0.025) > 0.9


def test_the_reader_stands_out_more_than_loudness_and_others_voices_are_not_certain(heard_mouth, voices):
    heights, loud, strangers = [], [], 0
    for number, (mouth, sound) in enumerate(voices):
        heights.append(av_sync.measure_offset(mouth, sound, heard_mouth(sound)).height)
        loud.append(av_sync.measure_offset(mouth, sound).height)
        other = voices[(number + 4) % len(voices)][1]
        shorter = min(len(mouth), len(other) // SAMPLES_PER_FRAME)
        other = other[: shorter * SAMPLES_PER_FRAME]
        strangers += av_sync.measure_offset(mouth[:shorter], other, heard_mouth(other)).certain
    assert np.mean(heights) > np.mean(loud)
    assert strangers <= 1


def test_no_voice_says_nothing(heard_mouth):
    mouth = np.random.default_rng(0).random(4 * FPS)
    silence = np.zeros(4 * SAMPLE_RATE, np.float32)
    measure = av_sync.measure_offset(mouth, silence, heard_mouth(silence))
    assert measure is None or not measure.certain


def test_a_folder_without_a_reader_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"lips\.safetensors"):
        HeardMouth(tmp_path)
