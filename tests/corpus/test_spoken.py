"""Recordings with known words: GRID's clips, tables of people, and what the job makes of them."""

import dataclasses

import numpy as np
import pytest
from optional_packages import needs
from scipy.io import wavfile

from vasa_jax.config import SpeechCorpusConfig, VASAConfig
from vasa_jax.corpus.voices.speech_shards import read_shard
from vasa_jax.corpus.voices.spoken import find_grid_clips, find_recordings, grid_words
from vasa_jax.corpus.voices.write_speech import speech_corpus
from vasa_jax.errors import InputError


def test_names_spell_sentences():
    assert grid_words("bbaf2n") == ("bin", "blue", "at", "f.", "two", "now")
    assert grid_words("lrwzzp") == ("lay", "red", "with", "z.", "zero", "please")
    assert grid_words("SGIA9S") == ("set", "green", "in", "a", "nine", "soon")
    assert [grid_words(code) for code in ("bbaf2", "xbaf2n", "bbaf0n", "holiday")] == [None] * 4


def test_clips_of_a_folder_and_of_a_table(tmp_path):
    for person, name in (("s1", "bbaf2n"), ("s2", "lrwzzp"), ("s2", "holiday")):
        path = tmp_path / "grid" / person / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        wavfile.write(path, 16_000, np.zeros(8_000, np.int16))
    clips, others = find_grid_clips(tmp_path / "grid")
    assert [(clip.person, clip.words[-1]) for clip in clips] == [("s1", "now"), ("s2", "please")]
    assert others == ["holiday.wav"]
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "one.mp4").write_bytes(b"")
    rows = ["file\tperson\tpath", "one.mp4\tgrid_s1\tdata/bbaf2n.mpg", "two.mp4\tobama\tdata/x.mp4"]
    (tmp_path / "clips.tsv").write_text("\n".join(rows))
    clips, _ = find_grid_clips(tmp_path / "clips.tsv")
    assert [(clip.file.name, clip.person) for clip in clips] == [("one.mp4", "grid_s1")]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("file\tperson\n", "lacks columns"),
        ("file\tperson\tpath\nno.mp4\tgrid_s1\tbbaf2n.mpg\n", "is not there"),
        ("file\tperson\tpath\nno.mp4\tobama\tbbaf2n.mpg\n", "no clip's name spells"),
    ],
)
def test_a_bad_table_is_one_line(tmp_path, table, said):
    (tmp_path / "clips.tsv").write_text(table)
    with pytest.raises(InputError, match=said):
        find_grid_clips(tmp_path / "clips.tsv")
    with pytest.raises(InputError, match="no such folder or table"):
        find_grid_clips(tmp_path / "nothing.tsv")


def test_recordings_of_a_table(tmp_path):
    (tmp_path / "wav").mkdir()
    (tmp_path / "wav" / "one.wav").write_bytes(b"")
    (tmp_path / "people.tsv").write_text("file\tperson\twords\nwav/one.wav\tann\tIt's two, please.\n")
    (clip,) = find_recordings(tmp_path / "people.tsv")
    assert clip == (tmp_path / "wav" / "one.wav", "ann", ("it's", "two", "please"))
    (tmp_path / "people.tsv").write_text("file\tperson\twords\nwav/two.wav\tann\tyes\n")
    with pytest.raises(InputError, match=r"two\.wav is not there; name files as seen from"):
        find_recordings(tmp_path / "people.tsv")
    (tmp_path / "people.tsv").write_text("file\tperson\n")
    with pytest.raises(InputError, match="lacks columns"):
        find_recordings(tmp_path / "people.tsv")


@needs("pocketsphinx")
def test_people_speak_known_words(tmp_path):
    """Who is held out is; a word that nobody knows, a recording too long and one of silence are listed."""
    from vasa_jax.corpus.speech.shipped import shipped_utterances

    spoken = next(u for u in shipped_utterances() if u.voice.startswith("en-us") and len(u.speech.samples) < 100_000)
    sound = (np.asarray(spoken.speech.samples) * 32767).astype(np.int16)
    rows = ["file\tperson\twords"]
    for name, person, words, samples in (
        ("a", "ann", spoken.text, sound), ("b", "bob", spoken.text, sound), ("c", "ann", "qwxz", sound),
        ("d", "ann", spoken.text, np.tile(sound, 9)), ("e", "ann", "yes", np.zeros(16_000, np.int16)),
    ):  # fmt: skip
        wavfile.write(tmp_path / f"{name}.wav", 16_000, samples)
        rows.append(f"{name}.wav\t{person}\t{words}")
    (tmp_path / "people.tsv").write_text("\n".join(rows))
    people = str(tmp_path / "people.tsv")
    settings = SpeechCorpusConfig(espeak=0.0, people=people, people_held_out=("bob",), workers=1)
    config = VASAConfig(job="speech_corpus", speech_corpus=settings, output=str(tmp_path / "speech"))
    folder = speech_corpus(config, tmp_path)
    passages = [passage for path in sorted(folder.glob("*.npz")) for passage in read_shard(path)]
    splits = {("people", "ann", "train"), ("people", "bob", "heldout")}
    assert {(passage.source, passage.person, passage.split) for passage in passages} == splits
    report = (folder / "report.md").read_text()
    assert "c.wav: word 'qwxz'" in report and "d.wav: longer than 8 s" in report and "e.wav: is silent" in report
    nobody = dataclasses.replace(config, speech_corpus=dataclasses.replace(settings, people_held_out=("eve",)))
    with pytest.raises(InputError, match="'eve' is nobody in"):
        speech_corpus(nobody, tmp_path)


@needs("pocketsphinx")
def test_clips_that_cannot_be_used_are_listed(tmp_path):
    """A damaged one, one whose name spells nothing, and silence for the words: the job goes on."""
    folder = tmp_path / "grid" / "s1"
    folder.mkdir(parents=True)
    (folder / "bbaf2n.wav").write_bytes(b"RIFF nothing")
    wavfile.write(folder / "lrwzzp.wav", 16_000, np.zeros(16_000, np.int16))
    wavfile.write(folder / "holiday.wav", 16_000, np.zeros(16_000, np.int16))
    settings = SpeechCorpusConfig(espeak=0.0, grid=str(tmp_path / "grid"), workers=1)
    config = VASAConfig(job="speech_corpus", speech_corpus=settings, output=str(tmp_path / "speech"))
    report = (speech_corpus(config, tmp_path) / "report.md").read_text()
    assert "bbaf2n.wav" in report and "holiday.wav: its name spells no sentence" in report
    nobody = dataclasses.replace(config, speech_corpus=dataclasses.replace(settings, grid_train=("s9",)))
    with pytest.raises(InputError, match="'s9' is nobody in"):
        speech_corpus(nobody, tmp_path)
