"""Shards of speech: what is read is what was written, damage is one line, and alterations keep labels in step."""

import io
import json

import numpy as np
import pytest
import soundfile
from hostile import refused
from tiny_speech import shipped_passages, write_tiny_speech

from vasa_jax.conventions import CODECS
from vasa_jax.corpus.clip_set import FRAMES, SAMPLES
from vasa_jax.corpus.speech.acoustics import log_energy
from vasa_jax.corpus.voices import speech_shards
from vasa_jax.corpus.voices.alteration import altered, at_speed
from vasa_jax.corpus.voices.speech_set import (
    SpeechSet,
    frame_energy,
    joined,
    make_speech_set,
    shares_of,
)
from vasa_jax.corpus.voices.speech_shards import (
    LONGEST,
    UNKNOWN_STRESS,
    Passage,
    read_passages,
    read_shard,
    shard_key,
    write_shard,
)
from vasa_jax.errors import InputError


def likeness(a, b, lag=0):
    """Correlation of two sounds, the second `lag` samples later."""
    edge = 200
    length = min(len(a), len(b)) - 2 * edge
    return float(np.corrcoef(a[edge : edge + length], b[edge + lag : edge + lag + length])[0, 1])


def passage(seconds=1.0, source="kokoro", person="a", split="train"):
    frames = round(seconds * 25)
    samples = np.random.default_rng(0).normal(0, 0.1, 640 * frames).astype(np.float32)
    labels = np.arange(2 * frames, dtype=np.uint8) % 40
    return Passage(samples, labels, labels % 2, source, person, "en", split, "said")


def test_a_shard_gives_back_what_it_got(tmp_path):
    given = shipped_passages(4)
    write_shard(tmp_path / "speech-x-0000.npz", given, 64.0, {"seed": 3})
    assert shard_key(tmp_path / "speech-x-0000.npz") == {"seed": 3}
    for got, was in zip(read_shard(tmp_path / "speech-x-0000.npz"), given, strict=True):
        assert got[3:] == was[3:]
        np.testing.assert_array_equal(got.phonemes, was.phonemes)
        np.testing.assert_array_equal(got.stress, was.stress)
        assert len(got.samples) == len(was.samples)
        heard = [likeness(was.samples, got.samples, lag) for lag in range(-40, 41)]
        assert int(np.argmax(heard)) == 40 and max(heard) > 0.98  # in step, and the same sound


def test_an_empty_shard_is_one(tmp_path):
    write_shard(tmp_path / "speech-x-0000.npz", [], 24.0, None)
    assert read_shard(tmp_path / "speech-x-0000.npz") == []


def _damages():
    def without(name):
        return lambda content: content.pop(name)

    def index(change):
        def apply(content):
            parsed = json.loads(content["index"].tobytes())
            change(parsed)
            content["index"] = np.frombuffer(json.dumps(parsed).encode(), np.uint8)

        return apply

    yield from (without(name) for name in ("sound", "phonemes", "stress", "index"))
    yield index(lambda parsed: parsed["passages"].pop())
    yield index(lambda parsed: parsed.pop("key"))
    yield index(lambda parsed: parsed["passages"][0].update(frames="many"))
    yield lambda content: content.update(index=np.frombuffer(b"[1]", np.uint8))
    yield lambda content: content.update(phonemes=content["phonemes"] + 200)
    yield lambda content: content.update(sound=content["sound"] * 0)


@pytest.mark.parametrize("damage", list(_damages()))
def test_a_damaged_shard_is_one_line(tmp_path, damage):
    path = tmp_path / "speech-x-0000.npz"
    write_shard(path, [passage()], 24.0, {})
    with np.load(path) as file:
        content = dict(file)
    damage(content)
    np.savez(path, **content)
    with pytest.raises(InputError, match=r"speech-x-0000\.npz: .*give a folder that job speech_corpus wrote"):
        read_shard(path)


@pytest.mark.parametrize("name", ["bytes", "frames", "source", "person", "language", "split", "text"])
@pytest.mark.parametrize("value", [..., None, -1, 0.5, 10**400, True, [], "x" * 10**7, "\ud800", {"a": 1}])
def test_every_field_of_an_index_is_checked(tmp_path, name, value):
    """... = the field is missing."""
    path = tmp_path / "speech-x-0000.npz"
    write_shard(path, [passage(), passage()], 24.0, {})
    with np.load(path) as file:
        content = dict(file)
    index = json.loads(content["index"].tobytes())
    index["passages"][1][name] = value
    if value is ...:
        del index["passages"][1][name]
    content["index"] = np.frombuffer(json.dumps(index).encode(), np.uint8)
    np.savez(path, **content)
    refused(lambda: read_shard(path), "speech-x-0000.npz: passages", name)


@pytest.mark.parametrize("name", ["sound", "phonemes", "stress"])
@pytest.mark.parametrize("kind", [np.float32, np.int64, "U3", np.bool_])
def test_arrays_of_another_kind_are_refused(tmp_path, name, kind):
    path = tmp_path / "speech-x-0000.npz"
    write_shard(path, [passage()], 24.0, {})
    with np.load(path) as file:
        content = dict(file)
    content[name] = content[name].astype(kind)
    np.savez(path, **content)
    refused(lambda: read_shard(path), f"its {name} is none of")


def with_sound(path, coded, frames):
    """Writes a shard of one passage with this sound and labels of so many video frames."""
    write_shard(path, [passage()], 24.0, {})
    with np.load(path) as file:
        content = dict(file)
    index = json.loads(content["index"].tobytes())
    index["passages"][0] |= {"frames": frames, "bytes": len(coded)}
    content |= {"index": np.frombuffer(json.dumps(index).encode(), np.uint8), "sound": np.frombuffer(coded, np.uint8)}
    content |= {name: np.ones(2 * frames, np.uint8) for name in ("phonemes", "stress")}
    np.savez(path, **content)


def coded_sound(seconds=2.0, rate=16_000, channels=1, kind=("OGG", "OPUS"), peak=0.1):
    samples = np.random.default_rng(0).uniform(-peak, peak, (round(seconds * rate), channels)).astype(np.float32)
    memory = io.BytesIO()
    soundfile.write(memory, samples, rate, format=kind[0], subtype=kind[1])
    return memory.getvalue()


def test_only_as_much_sound_is_decoded_as_has_labels(tmp_path, monkeypatch):
    """A passage whose labels are for a second less than its sound."""
    with_sound(tmp_path / "speech-x-0000.npz", coded_sound(2.0), 25)
    read, seen = soundfile.SoundFile.read, []

    def watched(*args, **rest):
        seen.append(read(*args, **rest))
        return seen[-1]

    monkeypatch.setattr(soundfile.SoundFile, "read", watched)
    (found,) = read_shard(tmp_path / "speech-x-0000.npz")
    assert [len(found.samples)] == [16_000] == [len(samples) for samples in seen]


@pytest.mark.parametrize("frames", [51, 500, LONGEST])
def test_labels_claim_no_more_sound_than_there_is(tmp_path, frames):
    with_sound(tmp_path / "speech-x-0000.npz", coded_sound(2.0), frames)
    refused(lambda: read_shard(tmp_path / "speech-x-0000.npz"), "the sound of passage 0 is damaged")


def test_a_passage_has_a_longest_length(tmp_path):
    with_sound(tmp_path / "speech-x-0000.npz", coded_sound(1.0), LONGEST + 1)
    refused(lambda: read_shard(tmp_path / "speech-x-0000.npz"), "[0].frames", str(LONGEST))


@pytest.mark.parametrize(
    "sound",
    [
        {"rate": 8000}, {"rate": 48_000}, {"channels": 2}, {"kind": ("WAV", "PCM_16")}, {"kind": ("OGG", "VORBIS")},
        {"kind": ("WAV", "FLOAT"), "peak": np.float32(3e38)}, {"kind": ("FLAC", "PCM_16")},
    ],
)  # fmt: skip
def test_sound_is_opus_at_16_khz_in_one_channel(tmp_path, sound):
    """Else a shard could hold numbers that are not finite, or have any decoder run."""
    with_sound(tmp_path / "speech-x-0000.npz", coded_sound(**sound), 25)
    refused(lambda: read_shard(tmp_path / "speech-x-0000.npz"), "the sound of passage 0 is damaged")


@pytest.mark.parametrize("folder", ["n" * 300, "file", "closed/speech", "", "nul\0"])
def test_a_place_that_is_no_folder_is_one_line(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    refused(lambda: read_passages(folder, "train"), "holds no speech-*.npz")


def test_a_folder_without_shards_or_without_the_split_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"holds no speech-\*\.npz"):
        read_passages(tmp_path, "train")
    write_shard(tmp_path / "speech-x-0000.npz", [passage(split="heldout")], 24.0, {})
    with pytest.raises(InputError, match="no speech of the split train"):
        read_passages(tmp_path, "train")


def test_energy_is_that_of_the_corpus():
    samples = shipped_passages(1)[0].samples
    frames = len(samples) // 320
    np.testing.assert_allclose(frame_energy(samples, frames), log_energy(samples, frames), atol=1e-3)


@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_keeps_time_and_changes_the_sound(codec, monkeypatch):
    """Alone: no other change is drawn."""
    from vasa_jax.corpus.voices import alteration

    monkeypatch.setattr(alteration, "augment_voice", lambda samples, rng: samples)
    monkeypatch.setattr(alteration, "SPEED_SHARE", 0.0)
    monkeypatch.setattr(alteration, "CODEC_SHARE", 1.0)
    samples = shipped_passages(1)[0].samples
    for seed in range(2):  # both telephones
        heard, _ = altered(samples, (), np.random.default_rng(seed), (codec,))
        assert heard.shape == samples.shape and not np.array_equal(heard, samples)
        found = [likeness(samples, heard, lag) for lag in range(-60, 61)]
        assert int(np.argmax(found)) == 60 and max(found) > 0.75


@pytest.mark.parametrize("speed", [0.85, 1.0, 1.18])
def test_labels_follow_a_change_of_speed(speed):
    """Bursts of tone, labelled: after the change labels and loud frames still agree."""
    frames = 200
    truth = (np.arange(frames) // 25 % 2).astype(np.uint8)
    samples = np.repeat(truth, 320).astype(np.float32) * 0.3 * np.sin(np.arange(320 * frames) * 0.2).astype(np.float32)
    changed, (labels,) = at_speed(samples, (truth,), speed)
    assert abs(len(changed) - len(samples) / speed) < 2 and abs(len(labels) - frames / speed) <= 1
    blocks = changed[: len(changed) // 320 * 320].reshape(-1, 320)
    loud = np.sqrt((blocks**2).mean(1)) > 0.1
    count = min(len(loud), len(labels))
    assert np.mean(loud[:count] == labels[:count]) > 0.95


def test_alterations_are_a_function_of_their_seed():
    given = shipped_passages(2)[0]
    others = shipped_passages(2)[1].samples
    made = [
        altered(given.samples, (given.phonemes,), np.random.default_rng(seed), CODECS, others) for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(made[0][0], made[1][0])
    assert not np.array_equal(made[0][0], made[2][0])
    assert all(np.abs(sound).max() <= 1 and np.isfinite(sound).all() for sound, _ in made)


def test_shares_weigh_people_and_not_hours():
    talker = [passage(8.0, "grid", "s1") for _ in range(20)]  # 160 s
    others = [passage(8.0, "kokoro", f"k{number}") for number in range(5)]
    robots = [passage(2.0, "espeak", "e") for _ in range(3)]
    shares = shares_of([*talker, *others, *robots], 0.5, 16.0)
    assert shares.sum() == pytest.approx(1.0) and shares[-3:].sum() == pytest.approx(0.5)
    assert shares[:20].sum() / shares[20:25].sum() == pytest.approx(16 / 40)
    alone = shares_of(talker, 0.5, 16.0)
    assert alone.sum() == pytest.approx(1.0)
    assert shares_of([*talker, *robots], 1.0, 16.0)[:20].sum() == 0.0


def test_a_speech_set_holds_every_version_in_step():
    given = shipped_passages(3)
    shares = np.array([0.5, 0.3, 0.2])
    speech = make_speech_set(given, 2, ("opus",), shares, 0, workers=1)
    assert speech.samples.shape == (6, SAMPLES) and speech.phonemes.shape == (6, 2 * FRAMES)
    np.testing.assert_allclose(speech.weight, np.repeat(shares / 2, 2), rtol=1e-6)
    for number, was in enumerate(given):
        plain = 2 * number
        assert speech.frames[plain] == len(was.samples) // 640
        np.testing.assert_array_equal(speech.phonemes[plain, : len(was.phonemes)], was.phonemes)
        assert not speech.phonemes[plain, len(was.phonemes) :].any()
        assert not np.array_equal(speech.samples[plain], speech.samples[plain + 1])
        # Phonemes of an altered version are those of the passage, faster or slower.
        assert np.unique(speech.phonemes[plain + 1]).tolist() == np.unique(speech.phonemes[plain]).tolist()
    again = make_speech_set(given, 2, ("opus",), shares, 0, workers=1)
    for a, b in zip(speech, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_sets_are_joined_by_their_share():
    one = make_speech_set(shipped_passages(1), 1, (), np.ones(1), 0, workers=1)
    both = joined(one, one, 0.25)
    assert isinstance(both, SpeechSet) and both.weight.tolist() == [0.75, 0.25] and len(both.samples) == 2


def test_unknown_stress_stays_unknown():
    given = passage()._replace(stress=np.full(50, UNKNOWN_STRESS, np.uint8))
    speech = make_speech_set([given], 1, (), np.ones(1), 0, workers=1)
    assert (speech.stress[0, :50] == UNKNOWN_STRESS).all() and not speech.stress[0, 50:].any()


def test_tiny_speech_has_both_splits(tmp_path):
    folder = write_tiny_speech(tmp_path)
    assert read_passages(folder, "train") and read_passages(folder, "heldout")


def test_sound_that_nobody_wants_is_not_decoded(tmp_path, monkeypatch):
    passages = shipped_passages(4)
    write_shard(tmp_path / "speech-x-0000.npz", passages, 24.0, {})
    decode, lengths = speech_shards._decoded, []

    def counted(coded, length):
        lengths.append(length)
        return decode(coded, length)

    monkeypatch.setattr(speech_shards, "_decoded", counted)
    chosen = passages[2]
    (found,) = read_shard(tmp_path / "speech-x-0000.npz", lambda entry: entry["text"] == chosen.text)
    assert lengths == [len(chosen.samples)] and found.text == chosen.text
    np.testing.assert_array_equal(found.phonemes, chosen.phonemes)
