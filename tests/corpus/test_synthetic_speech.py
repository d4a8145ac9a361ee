"""Speech and performance of the built-in corpus."""

import builtins
import importlib.util
import itertools
import subprocess
import sys

import librosa
import numpy as np
import pytest

from vasa_jax.conventions import EMOTIONS
from vasa_jax.corpus import clips
from vasa_jax.corpus.performance import gaze, performance, visemes
from vasa_jax.corpus.speech import espeak, phonemes, sentences, shipped, voice_augmentation
from vasa_jax.corpus.speech.acoustics import block_rms, log_energy, rms_between
from vasa_jax.errors import InputError
from vasa_jax.files import run_in_processes

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="espeakng_loader is not installed"
)


def hand_made(*parts, seconds=2.0):
    """A Speech from (symbol, start, end, stressed); a 150 Hz buzz where it is not silent."""
    samples = np.zeros(int(seconds * 16000), np.float32)
    time = np.arange(len(samples)) / 16000
    filled, last = [], 0.0
    for symbol, start, end, stressed in parts:
        if start > last:
            filled.append(espeak.Phoneme(last, start, "sil", False, start))
        filled.append(espeak.Phoneme(start, end, symbol, stressed, end))
        samples[int(start * 16000) : int(end * 16000)] = 0.3
        last = end
    filled.append(espeak.Phoneme(last, seconds, "sil", False, seconds))
    return espeak.Speech((samples * np.sign(np.sin(2 * np.pi * 150 * time))).astype(np.float32), tuple(filled))


WORD = hand_made(("m", 0.5, 0.58, False), ("aa", 0.58, 0.8, True), ("p", 0.8, 0.87, False), ("aa", 0.87, 1.1, False))


def test_tables_agree():
    assert visemes.EMOTION_OFFSETS.shape == (len(EMOTIONS), len(visemes.MOTION_NAMES))
    assert not visemes.EMOTION_OFFSETS[visemes.EMOTIONS.index("neutral")].any()
    assert set(phonemes.PHONEME_VISEMES) == set(phonemes.PHONEME_CLASSES)
    assert {v for shown in phonemes.PHONEME_VISEMES.values() for v in shown} == set(visemes.VISEMES)
    assert all(len(values) == len(visemes.VISEME_FIELDS) for values in visemes.VISEMES.values())
    assert phonemes.PHONEME_CLASSES[phonemes.SILENCE] == "sil"
    assert phonemes.phoneme_class("a", "en") == "ae" and phonemes.phoneme_class("a", "es") == "aa"
    assert phonemes.phoneme_class("aI@3") == "ay" and phonemes.phoneme_class("_:") == "sil"


def test_tables_are_those_of_the_renderer():
    from vasa_jax.corpus.performance import muscles

    assert tuple(muscles.MOTION_NAMES) == visemes.MOTION_NAMES and tuple(EMOTIONS) == EMOTIONS
    assert np.array_equal(muscles.EMOTION_OFFSETS, visemes.EMOTION_OFFSETS)
    assert tuple(muscles.VISEME_FIELDS) == visemes.VISEME_FIELDS and muscles.VISEMES == visemes.VISEMES


def test_voices():
    train = {name for name, voice in espeak.VOICES.items() if voice.split == "train"}
    assert len(train) >= 20 and len(espeak.VOICES) - len(train) >= 5
    assert len({espeak.VOICES[name].language for name in train}) >= 5
    assert {voice.language for voice in espeak.VOICES.values()} <= set(sentences.LANGUAGES)


def test_sentences_of_the_splits_are_disjoint():
    rng = np.random.default_rng(0)
    for language in sentences.LANGUAGES:
        train = {sentences.sample_sentence(rng, language, "train") for _ in range(200)}
        heldout = {sentences.sample_sentence(rng, language, "heldout") for _ in range(60)}
        assert not train & heldout
        assert len(train) > 100 and len(heldout) > 20
        assert not any("{" in text for text in train | heldout)
    assert len(sentences.sample_sentence(rng, "en", "train", 20)) <= 20
    with pytest.raises(InputError, match="klingon"):
        sentences.sample_sentence(rng, "klingon", "train")
    with pytest.raises(InputError, match="test"):
        sentences.sample_sentence(rng, "en", "test")


@pytest.mark.parametrize("emotion", range(8))
def test_closures_close_and_silence_closes(emotion):
    felt = np.eye(8, dtype=np.float32)[emotion]
    motion = performance.perform(WORD, np.random.default_rng(emotion), felt).motion

    def frame(time):
        return int(time / 0.04)

    for time in (0.54, 0.83):  # held m and p
        assert motion["press"][frame(time)] > 0.98
        assert motion["jaw"][frame(time)] < 0.02
    assert motion["jaw"][frame(0.7)] > 0.5 and motion["press"][frame(0.7)] < 0.02
    silent = np.r_[0 : frame(0.36), frame(1.26) : 50]
    for name in ("jaw", "up", "lo", "tongue"):
        assert np.abs(motion[name][silent]).max() < 0.03, name


def test_visemes_are_shown():
    motion = performance.perform(
        hand_made(("uw", 0.4, 0.6, True), ("f", 0.8, 0.9, False), ("iy", 1.2, 1.4, True)),
        np.random.default_rng(0),
        np.eye(8)[performance.NEUTRAL],
    ).motion
    assert motion["round"][12] > 0.8 and motion["width"][12] < -0.6
    assert motion["tuck"][21] > 0.95 and motion["tuck"][12] < 0.05
    assert motion["width"][32] > 0.5 and motion["round"][32] < 0.1


def test_performance_is_a_function_of_its_rng():
    one, two, other = (performance.perform(WORD, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(one.motion[name], two.motion[name]) for name in visemes.MOTION_NAMES)
    assert not np.array_equal(one.motion["yaw"], other.motion["yaw"])
    assert tuple(one.motion) == visemes.MOTION_NAMES
    assert all(curve.dtype == np.float32 and curve.shape == (50,) for curve in one.motion.values())
    assert one.emotion.sum() == pytest.approx(1.0)


def test_conditions_are_obeyed():
    felt = np.eye(8, dtype=np.float32)[visemes.EMOTIONS.index("happiness")]
    take = performance.perform(WORD, np.random.default_rng(0), felt, gaze=np.array([20.0, -10.0]), distance=1.2)
    assert take.motion["smile"].mean() > 0.6
    assert take.gaze == pytest.approx([20.0, -10.0], abs=3.0)
    assert take.distance == pytest.approx(1.2, abs=0.05)


def test_gaze_signs_and_inverse():
    zero = np.zeros(1)
    right_down = gaze.eyes_towards(np.array([[10.0, 5.0]]), zero, zero, zero)[0]
    assert right_down[0] > 0 and right_down[1] < 0  # eyes turn to +x, and down is negative in the y-up head
    turned = gaze.gaze_direction(np.zeros((1, 2)), zero + 0.2, zero + 0.1, zero)[0]
    assert turned == pytest.approx(np.degrees([0.2, 0.1]), abs=1e-6)  # head right and nodding down
    rng = np.random.default_rng(0)
    head = rng.normal(0, 0.08, (3, 50))
    wanted = rng.normal(0, 4, (50, 2))
    assert np.allclose(gaze.gaze_direction(gaze.eyes_towards(wanted, *head), *head), wanted, atol=1e-6)


def test_blinks_are_human():
    speech_minute = espeak.Speech(np.zeros(60 * 16000, np.float32), (espeak.Phoneme(0.0, 60.0, "sil", False, 60.0),))
    rates, lengths = [], []
    for seed in range(12):
        lids = performance.perform(speech_minute, np.random.default_rng(seed), np.eye(8)[performance.NEUTRAL]).motion[
            "blink_l"
        ]
        edges = np.flatnonzero(np.diff(np.r_[0, lids > 0.05, 0]))
        rates.append(len(edges) / 2)
        lengths += [40 * (end - start) for start, end in zip(edges[::2], edges[1::2])]
    assert 8 < np.mean(rates) < 22
    assert 180 < np.mean(lengths) < 320


def test_frame_labels():
    ids, stress = clips.frame_labels(WORD.phonemes, 100)
    assert ids.dtype == np.int32 and ids.shape == stress.shape == (100,)
    expected = phonemes.PHONEME_IDS["aa"]
    # frame k covers samples [320 k, 320 k + 400): its middle is at 0.02 k + 0.0125 s
    assert ids[29] == expected and ids[28] == phonemes.PHONEME_IDS["m"] and stress[29] == 1 and stress[45] == 0
    assert ids[0] == ids[99] == phonemes.SILENCE


def test_acoustics():
    assert log_energy(np.full(16000, 0.5, np.float32), 50)[:49] == pytest.approx(np.log(0.5), abs=1e-3)
    rng = np.random.default_rng(0)
    for length, frames in ((16000, 49), (12345, 50), (400, 1), (100, 2)):  # a training target: equal to the last bit
        sound = (rng.standard_normal(length) * 10.0 ** rng.uniform(-4, 0)).astype(np.float32)
        padded = np.pad(sound, (0, max(320 * frames + 80 - length, 0)))
        windows = np.stack([padded[320 * k : 320 * k + 400] for k in range(frames)])
        exact = np.log(np.sqrt((windows**2).mean(1)) + 1e-5).astype(np.float32)
        np.testing.assert_array_equal(log_energy(sound, frames), exact)


def test_levels_are_root_mean_squares():
    sound = np.random.default_rng(0).standard_normal(1000)
    np.testing.assert_allclose(block_rms(sound, 250), [np.sqrt(np.mean(b**2)) for b in np.split(sound, 4)], rtol=1e-12)
    low, high = np.array([-50, 0, 400, 990]), np.array([50, 1000, 400, 2000])
    expected = [np.sqrt(np.mean(part**2)) if len(part) else 0.0 for part in (sound[:50], sound, [], sound[990:])]
    np.testing.assert_allclose(rms_between(sound, low, high), expected, rtol=1e-9)


def pitch(sound):
    """Hz every 20 ms."""
    return librosa.yin(sound, fmin=60, fmax=420, sr=16000, frame_length=1024, hop_length=320)


def test_augment_keeps_timing_and_changes_the_voice():
    sound = WORD.samples
    original = pitch(sound)
    higher = voice_augmentation.shift_voice(sound, 1.3, 1.0)
    assert higher.shape == sound.shape
    ratio = pitch(higher)[31:38] / original[31:38]
    assert np.median(ratio) == pytest.approx(1.3, abs=0.03)
    for seed in range(8):
        changed = voice_augmentation.augment_voice(sound, np.random.default_rng(seed))
        again = voice_augmentation.augment_voice(sound, np.random.default_rng(seed))
        assert changed.dtype == np.float32 and changed.shape == sound.shape and np.array_equal(changed, again)
        assert np.abs(changed).max() <= 1.0 and not np.allclose(changed, sound)
    loud = log_energy(sound, 99) > -5
    moved = log_energy(higher, 99) > -5
    assert (loud != moved).sum() <= 4
    assert np.isfinite(voice_augmentation.augment_voice(np.zeros(3200, np.float32), np.random.default_rng(0))).all()


def test_missing_package_is_named(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "espeakng_loader":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=r"pip install espeakng-loader.*GPL-3\.0.*corpus\.speech=shipped") as caught:
        espeak.speak("hello")
    assert "\n" not in str(caught.value)


def test_workers_do_not_import_jax():
    code = "import sys, vasa_jax.corpus.clips; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_shipped_sentences_cover_the_phonemes_and_keep_the_splits_apart():
    utterances = shipped.shipped_utterances()
    assert len(utterances) == shipped.SENTENCES * len(shipped.SHIPPED_VOICES)
    assert shipped.PATH.stat().st_size < 3e6
    parts = {split: [u for u in utterances if espeak.VOICES[u.voice].split == split] for split in ("train", "heldout")}
    assert {p.symbol for u in parts["train"] for p in u.speech.phonemes} == set(phonemes.PHONEME_CLASSES)
    assert not {u.text for u in parts["train"]} & {u.text for u in parts["heldout"]}
    for split, some in parts.items():
        assert len({u.voice for u in some}) >= 3
        assert all(sentences.is_heldout(u.text) == (split == "heldout") for u in some)
    for voice, text, spoken in utterances:
        assert 1.0 < len(spoken.samples) / 16000 < 5.0 and 0.05 < np.abs(spoken.samples).max() <= 1.0, (voice, text)
        assert spoken.phonemes[0].symbol != "sil" and spoken.phonemes[0].start == 0.0
        assert all(a.end == pytest.approx(b.start) for a, b in itertools.pairwise(spoken.phonemes))


def test_sentences_are_stored_without_loss(tmp_path):
    rng = np.random.default_rng(0)
    samples = [np.float32(rng.integers(-32767, 32768, size) / 32767.0) for size in (1, 2, 501)]
    marks = (espeak.Phoneme(0.0, 0.1, "oy", True, 0.05), espeak.Phoneme(0.1, 0.3, "sil", False, 0.3))
    stored = tuple(
        shipped.Utterance(f"voice{n}", "äö ü", espeak.Speech(sound, marks[: 1 + n % 2]))
        for n, sound in enumerate(samples)
    )
    shipped.write_utterances(tmp_path / "some.npz", stored)
    again = shipped.read_utterances(tmp_path / "some.npz")
    for one, two in zip(stored, again, strict=True):
        assert one[:2] == two[:2] and one.speech.phonemes == two.speech.phonemes
        np.testing.assert_array_equal(one.speech.samples, two.speech.samples)


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_clips_of_shipped_sentences_need_no_synthesiser(split, monkeypatch):
    monkeypatch.setattr(clips, "speak", None)
    made = [clips.sample_clip(seed, split, speech="shipped") for seed in range(6)]
    texts = {u.text: u.voice for u in shipped.shipped_utterances()}
    for clip in made:
        assert 8.0 <= len(clip.samples) / 16000 <= 10.0 and len(clip.samples) == 640 * clip.frames
        assert espeak.VOICES[clip.voice].split == split
        said = [text for text, voice in texts.items() if text in clip.text and voice == clip.voice]
        assert len(said) >= 2 and len(" ".join(said)) == len(clip.text)
        assert clip.energy[clip.phoneme_ids != 0].mean() > clip.energy[clip.phoneme_ids == 0].mean() + 1
    assert len({clip.text for clip in made}) >= 4
    again = clips.sample_clip(3, split, speech="shipped", take=1)
    assert again.text == made[3].text and np.array_equal(again.samples, made[3].samples)
    with pytest.raises(InputError, match="choose 'espeak' or 'shipped'"):
        clips.sample_clip(0, split, speech="human")


@needs_espeak
def test_shipped_sentences_are_those_that_the_command_makes():
    for stored, made in zip(shipped.shipped_utterances(), shipped.make_utterances(), strict=True):
        assert stored[:2] == made[:2] and stored.speech.phonemes == made.speech.phonemes
        np.testing.assert_allclose(stored.speech.samples, np.clip(made.speech.samples, -1, 1), atol=1e-4)


@needs_espeak
def test_speak_is_deterministic_and_timed():
    first = espeak.speak("Bob made a happy apple pie.", "en-us+f3")
    espeak.speak("Guten Tag.", "de+m3", rate=200)
    again = espeak.speak("Bob made a happy apple pie.", "en-us+f3")
    assert np.array_equal(first.samples, again.samples) and first.phonemes == again.phonemes
    assert first.samples.dtype == np.float32 and 0.1 < np.abs(first.samples).max() <= 1.1
    symbols = [phoneme.symbol for phoneme in first.phonemes if phoneme.symbol != "sil"]
    assert symbols[:5] == ["b", "aa", "b", "m", "ey"] and symbols.count("p") == 3
    assert first.phonemes[0].start == 0.0
    assert all(a.end == pytest.approx(b.start) for a, b in zip(first.phonemes[:-1], first.phonemes[1:]))
    assert all(p.start < p.end and p.start <= p.release <= p.end for p in first.phonemes)
    assert any(p.stressed for p in first.phonemes)
    # The closure of p is silent: its label lies on the sound.

    def level(low, high):
        return np.sqrt((first.samples[int(low * 16000) : int(high * 16000)] ** 2).mean())

    closures = [p for p in first.phonemes if p.symbol == "p"]
    assert max(level(p.start, p.release) for p in closures) < 0.2 * level(0.0, 1.2)


@needs_espeak
@pytest.mark.parametrize("voice", ["en-us+nobody", "xx-unknown", "en-us+", "../f3"])
def test_unknown_voice_raises(voice):
    espeak.speak("Hello.", "en-us")
    with pytest.raises(InputError, match="unknown to eSpeak NG"):
        espeak.speak("Hello.", voice)


@needs_espeak
def test_every_voice_speaks():
    for name in espeak.VOICES:
        assert len(espeak.speak("A.", name).samples) > 500, name
    with pytest.raises(InputError, match="nothing to say"):
        espeak.speak("", "en-us")


@needs_espeak
def test_two_takes_share_lips_but_not_heads():
    lips, heads = [], []
    for seed, text in enumerate(
        ("Hello there, my name is Maya and this is a paper box.", "Why would five people move?")
    ):
        spoken = espeak.speak(text, "en-us")
        for take in range(4):
            one, two = (performance.perform(spoken, np.random.default_rng([seed, take, k])).motion for k in (0, 1))
            lips += [np.corrcoef(one[name], two[name])[0, 1] for name in ("jaw", "width", "round", "press", "lo")]
            heads += [np.corrcoef(one[name], two[name])[0, 1] for name in ("yaw", "pitch", "roll")]
    assert min(lips) >= 0.95
    assert abs(np.mean(heads)) <= 0.5


@needs_espeak
def test_clip():
    clip = clips.sample_clip(5, "train")
    assert 8.0 <= len(clip.samples) / 16000 <= 10.0 and len(clip.samples) == 640 * clip.frames
    assert set(clip.motion) == set(visemes.MOTION_NAMES)
    assert all(curve.shape == (clip.frames,) and np.isfinite(curve).all() for curve in clip.motion.values())
    for labels in (clip.phoneme_ids, clip.stress, clip.energy):
        assert labels.shape == (2 * clip.frames,)
    assert 0.1 < (clip.phoneme_ids == phonemes.SILENCE).mean() < 0.7
    assert clip.phoneme_ids[0] == clip.phoneme_ids[-1] == phonemes.SILENCE
    assert clip.energy[clip.phoneme_ids != 0].mean() > clip.energy[clip.phoneme_ids == 0].mean() + 1
    assert espeak.VOICES[clip.voice].split == "train"
    heldout = clips.sample_clip(5, "heldout")
    assert espeak.VOICES[heldout.voice].split == "heldout" and heldout.text != clip.text
    other = clips.sample_clip(5, "train", take=1)
    assert np.array_equal(other.samples, clip.samples) and np.array_equal(other.emotion, clip.emotion)
    assert np.corrcoef(other.motion["jaw"], clip.motion["jaw"])[0, 1] >= 0.95
    assert not np.allclose(other.motion["yaw"], clip.motion["yaw"])
    changed = clips.sample_clip(5, "train", augment=True)
    assert not np.array_equal(changed.samples, clip.samples)
    assert np.array_equal(changed.motion["jaw"], clip.motion["jaw"])
    with pytest.raises(InputError, match="test"):
        clips.sample_clip(0, "test")


@needs_espeak
def test_clips_from_processes_equal_clips_from_here():
    here = [clips.sample_clip(seed) for seed in range(3)]
    there = dict(run_in_processes(clips.sample_clip, range(3), 1))
    for seed, one in enumerate(here):
        assert one.text == there[seed].text and np.array_equal(one.samples, there[seed].samples)
        assert all(np.array_equal(one.motion[name], there[seed].motion[name]) for name in one.motion)


@needs_espeak
def test_demo_speech_is_a_few_seconds_long():
    assert 5.0 < len(espeak.demo_speech().samples) / 16000 < 8.0
