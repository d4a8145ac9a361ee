"""Training of audio encoders on shards of many voices: it runs, its crops are in step, its figures are by source."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from shrunk import shrunk
from tiny_speech import shipped_passages, write_tiny_speech
from tiny_whisper import WIDTH, hf_state

from vasa_jax.config import AudioConfig, CorpusConfig, VASAConfig
from vasa_jax.corpus.voices.speech_set import make_speech_set
from vasa_jax.corpus.voices.speech_shards import UNKNOWN_STRESS
from vasa_jax.errors import InputError
from vasa_jax.evaluation import hearing
from vasa_jax.evaluation.hearing import evaluate_audio, fit_read_out
from vasa_jax.models import whisper
from vasa_jax.models.audio_encoders import audio_encoder
from vasa_jax.training.jobs import train
from vasa_jax.training.tasks.audio import AudioTask
from vasa_jax.training.tasks.speech_crops import SpeechCrops
from vasa_jax.training.teacher import Teacher
from vasa_jax.weights.parts import load_part


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_tiny_speech(tmp_path_factory.mktemp("speech"))


@pytest.fixture(autouse=True)
def few_updates(monkeypatch):
    monkeypatch.setattr(hearing, "UPDATES", 150)


@pytest.mark.long
def test_it_trains_exports_and_tells_its_figures_by_source(shards, tmp_path):
    options = ("variant=audio_stream_tiny", "seconds=1.0", f"shards={shards}", "versions=2", "codecs=('opus',)")
    settings = [f"--config.speech.{option}" for option in options]
    train(shrunk("train_audio_voices", "--config.corpus.workers=1", *settings), tmp_path)
    params, metadata = load_part(tmp_path / "export", "audio")
    features = audio_encoder(metadata["fields"]).apply({"params": params}, jnp.zeros((1, 16_080)))
    assert features.shape == (1, 50, 32)
    log = (tmp_path / "metrics.jsonl").read_text()
    for figure in ("espeak_spoken", "espeak_viseme", "espeak_closures", "grid_spoken"):
        assert figure in log
    config = VASAConfig(
        job="evaluate_audio", checkpoint=str(tmp_path / "export"), speech=AudioConfig(shards=str(shards))
    )
    report = evaluate_audio(config, tmp_path / "report")
    assert report["voices"].keys() >= {"espeak", "grid"} and (tmp_path / "report" / "report.md").stat().st_size
    assert 0 <= report["voices"]["grid"]["spoken"]["mean"] <= 1


def test_crops_are_in_step_and_drawn_by_weight():
    given = shipped_passages(3)
    speech = make_speech_set(given, 1, (), np.array([0.7, 0.3, 0.0]), 0, workers=1)
    crops = SpeechCrops(speech, 1.0, 64, 0)
    drawn = np.zeros(3)
    for step in range(4):
        batch = jax.tree.map(np.asarray, crops.batch(step))
        assert batch["samples"].shape == (64, 16_080) and batch["phonemes"].shape == (64, 50)
        for sound, ids, energy in zip(batch["samples"], batch["phonemes"], batch["energy"]):
            places = [
                (number, start)
                for number in range(3)
                for start in range(max(speech.frames[number] - 25, 0) + 1)
                if np.array_equal(speech.samples[number, 640 * start : 640 * start + 16_080], sound)
            ]
            assert len(places) == 1
            number, start = places[0]
            np.testing.assert_array_equal(speech.phonemes[number, 2 * start : 2 * start + 50], ids)
            np.testing.assert_array_equal(speech.energy[number, 2 * start : 2 * start + 50], energy)
            drawn[number] += 1
    assert drawn[2] == 0 and abs(drawn[0] / drawn.sum() - 0.7) < 0.1


def test_unknown_stress_teaches_nothing(shards):
    config = AudioConfig(variant="audio_stream_tiny", shards=str(shards), versions=1)
    task = AudioTask(config, CorpusConfig(workers=1), 2, "float32", 0)
    params = task.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    batch = {
        "samples": rng.integers(-3000, 3000, (2, 6_480)).astype(np.int16),
        "phonemes": rng.integers(0, 5, (2, 20)).astype(np.int16),
        "energy": np.zeros((2, 20), np.float16),
        "stress": rng.integers(0, 2, (2, 20)).astype(np.int8),
    }

    def stress_of(stress):
        return float(task.loss(params, {**batch, "stress": stress}, jax.random.key(1))[1]["stress"])

    assert stress_of(np.full((2, 20), UNKNOWN_STRESS, np.int8)) == 0.0
    halves = []
    for unknown in (0, 1):
        stress = batch["stress"].copy()
        stress[unknown] = UNKNOWN_STRESS
        halves.append(stress_of(stress))
    assert halves[0] != halves[1]
    assert stress_of(batch["stress"]) == pytest.approx(np.mean(halves), rel=1e-5)


def test_the_read_out_finds_what_is_there():
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 4, 4000)
    features = (np.eye(4)[classes] @ rng.normal(size=(4, 8)) + 0.05 * rng.normal(size=(4000, 8))).astype(np.float32)
    weights, bias = fit_read_out(features, classes.astype(np.int32), np.ones(4000), 0)
    assert np.mean((features @ weights + bias).argmax(-1) == classes) > 0.99


def test_a_folder_without_speech_is_one_line(tmp_path):
    task = AudioTask(AudioConfig(shards=str(tmp_path)), CorpusConfig(), 2, "float32", 0)
    with pytest.raises(InputError, match="give a folder that job speech_corpus wrote"):
        task.data()
    config = VASAConfig(job="evaluate_audio", speech=AudioConfig(shards=str(tmp_path)))
    with pytest.raises(InputError, match="give a folder that job speech_corpus wrote"):
        evaluate_audio(config, tmp_path)


@pytest.fixture
def teacher(tmp_path, monkeypatch):
    """A Whisper file that hears ten seconds."""
    monkeypatch.setattr(whisper, "WINDOW", 160_000)
    save_file(hf_state(positions=500), tmp_path / "whisper.safetensors")
    return tmp_path / "whisper.safetensors"


def test_a_teacher_is_heard_standardised_and_cropped_in_step(teacher):
    speech = make_speech_set(shipped_passages(2), 1, (), np.array([0.5, 0.5]), 0, workers=1)
    taught = Teacher(teacher)(speech.samples)
    assert taught.shape == (2, 400, WIDTH) and taught.dtype == np.float16
    flat = taught.reshape(-1, WIDTH).astype(np.float32)
    assert np.abs(flat.mean(0)).max() < 0.01 and np.abs(flat.std(0) - 1.0).max() < 0.01
    batch = jax.tree.map(np.asarray, SpeechCrops(speech, 1.0, 8, 0, taught).batch(0))
    for sound, features in zip(batch["samples"], batch["taught"]):
        (place,) = [
            (number, start)
            for number in range(2)
            for start in range(200 - 25)
            if np.array_equal(speech.samples[number, 640 * start : 640 * start + 16_080], sound)
        ][:1]
        np.testing.assert_array_equal(features, taught[place[0], 2 * place[1] : 2 * place[1] + 50])


@pytest.mark.long
def test_an_encoder_learns_from_a_teacher_too(shards, teacher, tmp_path):
    options = ("variant=audio_stream_tiny", "seconds=1.0", f"shards={shards}", "versions=1", f"teacher={teacher}")
    settings = [f"--config.speech.{option}" for option in options]
    train(shrunk("train_audio_voices", "--config.corpus.workers=1", *settings), tmp_path / "run")
    assert "taught" in (tmp_path / "run" / "metrics.jsonl").read_text()
    params, _ = load_part(tmp_path / "run" / "export", "audio")
    assert params.keys() == {"stem", "encoder"}  # what the teacher taught stays, its read-out does not


def test_a_file_that_is_no_teacher_is_one_line(tmp_path):
    save_file({"weight": np.zeros((3, 3), np.float32)}, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=r"weights\.safetensors.*give weights of wav2vec 2\.0"):
        Teacher(tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=r"needs config\.speech\.shards"):
        save_file(hf_state(positions=1500), tmp_path / "whisper.safetensors")
        teacher = str(tmp_path / "whisper.safetensors")
        AudioTask(AudioConfig(variant="audio_stream_tiny", teacher=teacher), CorpusConfig(workers=1), 2, "float32", 0)
