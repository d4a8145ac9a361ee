"""From a download of Ditto to a video with the usual commands, at small sizes and random weights."""

import pickle

import av
import jax
import numpy as np
import pytest
from landmark_faces import face_points
from official_state import random_state
from onnx_models import onnx_convolution
from sounds import speech
from speaking_keypoints import complete
from torch_files import tensors, write_zip

from vasa_jax.config import VASAConfig
from vasa_jax.errors import InputError
from vasa_jax.generation import ditto as ditto_module
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.ditto import CHUNK_SAMPLES, CHUNK_WIDTH, LIVE, DrivenFace
from vasa_jax.generation.ditto_motion import OPEN, Blinks
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.generation.keypoint_driving import EYES, LIPS
from vasa_jax.generation.open_stream import open_windows
from vasa_jax.main import main
from vasa_jax.preparation.face_backends.base import FaceLandmarks
from vasa_jax.weights import importer
from vasa_jax.weights.importer import import_weights
from vasa_jax.weights.motion_generators import load_ditto
from vasa_jax.weights.published_tables import DITTO_ROTARY, ditto_table

WIDTH, WINDOW, LIMIT = 16, 80, 3.0
SIZES = (WIDTH, 265, 1103, WINDOW)
PLAIN = Driving(stitching=False, face_models="models")


class Landmarks:
    """In the place of the analyzer: a face in the middle of any picture."""

    def __init__(self, folder):
        assert folder == "models"

    def landmarks(self, image, previous=None):
        points = face_points(scale=len(image) / 4)
        points[:, :2] += len(image) / 2
        return FaceLandmarks(points, 1.0)


@pytest.fixture(scope="module", autouse=True)
def analyzer():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vasa_jax.generation.framing.LitertAnalyzer", Landmarks)
        patch.setattr(ditto_module, "LitertAnalyzer", Landmarks)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ditto")
    download = folder / "download"
    download.mkdir()
    frequencies = (10_000.0 ** (-np.arange(0, WIDTH, 2) / WIDTH)).astype(np.float32)
    rotary = dict.fromkeys(DITTO_ROTARY, frequencies)
    state = random_state(ditto_table(*SIZES)) | rotary
    write_zip(download / "lmdm_v0.4_hubert.pth", {"model_state_dict": tensors(state)})
    limits = np.stack([np.full(265, -LIMIT), np.full(265, LIMIT), np.zeros(265), np.ones(265)]).astype(np.float32)
    settings = {"base_cfg": {}, "audio2motion_cfg": {}, "default_kwargs": {"v_min_max_for_clip": limits}}
    (download / "v0.4_hubert_cfg_pytorch.pkl").write_bytes(pickle.dumps(settings))
    kernel = np.random.default_rng(0).normal(size=(CHUNK_WIDTH, 320)).astype(np.float32)
    (download / "hubert_streaming_fix_kv.onnx").write_bytes(onnx_convolution(kernel, CHUNK_SAMPLES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importer, "ditto_table", lambda: ditto_table(*SIZES))
        patch.setattr(importer, "DITTO_ROTARY", dict.fromkeys(DITTO_ROTARY, frequencies.shape))
        import_weights(download, folder / "weights")
    complete(folder)
    return folder


@pytest.fixture(scope="module")
def generator(folder):
    return VideoGenerator.from_pretrained(folder / "weights", decode_batch=4, mark=False)


@pytest.fixture(scope="module")
def avatar(generator, folder):
    return generator.prepare(generator.read_portrait(folder / "me.png").pixels)


@pytest.mark.long
def test_the_command(folder, tmp_path, capsys):
    output = tmp_path / "out.mp4"
    arguments = {"checkpoint": folder / "weights", "image": folder / "me.png", "audio": folder / "speech.wav",
                 "output": output, "steps": 3, "decode_batch": 4, "mark": False, "emotion": "happiness",
                 "face_models": "models"}  # fmt: skip
    command = ["main", "--config=configs/generate.py", *(f"--config.{k}={v}" for k, v in arguments.items())]
    assert main(command) == 0
    with av.open(str(output)) as video:
        assert sum(1 for _ in video.decode(video=0)) == 25 and video.streams.audio
    assert "25 frames" in capsys.readouterr().out
    assert main([*command, "--config.face_models="]) == 2
    assert "config.face_models: Ditto has to see" in capsys.readouterr().err
    assert main([*command, "--config.head_pose=(0,0,0)"]) == 2
    assert "config.head_pose: Ditto" in capsys.readouterr().err


def test_a_studio_needs_what_reads_the_eyes(generator, tmp_path):
    from vasa_jax.serving.studio import Studio

    with pytest.raises(InputError, match=r"config\.face_models: Ditto has to see"):
        Studio(VASAConfig(job="studio"), generator, tmp_path)
    studio = Studio(VASAConfig(job="studio", face_models="models"), generator, tmp_path)
    assert studio.live.most == 0
    studio.store.close()


def test_sound_and_emotion_are_heard(generator, avatar):
    said = generator.motion(speech(1.0), avatar, how=PLAIN, steps=2)
    assert said.shape == (25, 72) and np.isfinite(said).all()
    for change in ({"samples": speech(1.0, 1)}, {"emotion": "anger"}, {"seed": 1}):
        other = generator.motion(change.pop("samples", speech(1.0)), avatar, how=PLAIN, steps=2, **change)
        assert np.abs(other - said).max() > 1e-4
    np.testing.assert_array_equal(generator.motion(speech(1.0), avatar, how=PLAIN, steps=2), said)


def test_lips_and_eyes_alone_change_the_expression(generator, avatar):
    said = generator.motion(speech(1.0), avatar, how=PLAIN, steps=2, animate="dynamics")
    moved = np.abs(said - avatar.motion)[:, 9:].reshape(25, 21, 3).max((0, 2))
    changed = set(np.flatnonzero(moved > 1e-5))
    assert changed <= {*LIPS, *EYES} and len(changed) > 7  # one may be held at a limit all the time
    np.testing.assert_allclose(said[:, :9], np.tile(avatar.motion[:9], (25, 1)), atol=1e-5)


def test_limits_of_its_settings_hold(generator, folder):
    _, metadata = load_ditto(folder / "weights")
    np.testing.assert_array_equal(metadata["limits"][1], np.full(265, LIMIT, np.float32))
    assert metadata["blink"] is None
    conditions = np.random.default_rng(0).normal(size=(90, 1103)).astype(np.float32)
    free = generator.sampler
    found = free.sequence(conditions, np.zeros(265, np.float32), jax.random.key(0), 2, "ddim", 0.0)
    assert np.abs(found).max() == pytest.approx(LIMIT) and len(found) == 90


def test_blinks_of_its_settings(generator, avatar, monkeypatch):
    blink = np.outer(np.hanning(15), np.ones(63))
    monkeypatch.setattr(generator.sampler, "_blink", blink)
    own, said = avatar.motion[9:].reshape(21, 3), generator.motion(speech(5.0), avatar, how=PLAIN, steps=1)
    eyes = (said[:, 9:].reshape(-1, 21, 3) - own)[:, EYES[2]]
    closed = eyes[:, 2] > 0.9
    assert 1 <= np.diff(closed.astype(int)).clip(0).sum() <= 2


def test_blinks_come_at_random_times_and_go_on():
    blink = np.arange(1.0, 16.0)[:, None] * np.ones(63)
    whole = Blinks(blink, 3).frames(1000)
    parts = Blinks(blink, 3)
    np.testing.assert_array_equal(np.concatenate([parts.frames(7), parts.frames(600), parts.frames(393)]), whole)
    starts = np.flatnonzero(whole[:, 0] == 1.0)
    for start in starts[:-1]:
        np.testing.assert_array_equal(whole[start : start + 15], blink)
    gaps = np.diff(starts) - 15
    assert OPEN[0] <= gaps.min() and gaps.max() <= OPEN[1] and len(set(gaps)) > 3
    assert np.count_nonzero(whole[:, 0]) <= 15 * len(starts)


def test_without_its_hearing_one_line_says_so(folder, tmp_path, avatar):
    for file in (folder / "weights").glob("*.safetensors"):
        (tmp_path / file.name).symlink_to(file)
    deaf = VideoGenerator.from_pretrained(tmp_path, decode_batch=4, mark=False)
    with pytest.raises(InputError, match=r"hubert_streaming_fix_kv\.onnx: does not exist; Ditto was trained"):
        deaf.motion(speech(0.2), avatar, how=PLAIN, steps=1)


@pytest.fixture(scope="module")
def streamed(generator, avatar):
    """`streamed(sound, sizes)`: the motion of a stream whose sound comes in pieces of these sizes, and its parts."""

    def run(sound, *sizes, **changes):
        windows = open_windows(generator.sampler, generator, avatar, Controls(steps=2, **changes), PLAIN)
        parts, turn = [], 0
        while len(sound):
            parts.append(windows.feed(sound[: sizes[turn % len(sizes)]]))
            sound, turn = sound[sizes[turn % len(sizes)] :], turn + 1
        return np.concatenate([*parts, windows.finish()]), parts, windows

    return run


def test_a_stream_does_not_depend_on_how_sound_was_cut(streamed):
    sound = speech(1.3)
    (one, _, windows), (other, parts, _) = streamed(sound, 640), streamed(sound, 3, 5000, 111)
    assert one.shape == (33, 72) and np.isfinite(one).all()
    np.testing.assert_array_equal(one, other)
    heard = np.cumsum([0, *([3, 5000, 111] * len(parts))])[1 : len(parts) + 1]
    first = next(i for i, part in enumerate(parts) if len(part))
    assert heard[first - 1] < windows.first_frame_samples <= heard[first]
    longer, _, _ = streamed(np.concatenate([sound, speech(0.5, 1)]), 8000)
    np.testing.assert_array_equal(longer[:20], one[:20])  # what was out stays


@pytest.mark.parametrize("samples", [1, 640, 640 * 11, 640 * 30])
def test_a_stream_has_all_frames(streamed, samples):
    assert len(streamed(speech(2.0)[:samples], 640)[0]) == -(-samples // 640)


def test_a_streams_windows_are_those_of_its_program(generator, avatar, streamed):
    """`sequence`, which is held to the official code, from features of silence and of the sound."""
    sampler, sound = generator.sampler, speech(1.0)
    face = DrivenFace(sampler, generator, avatar, Controls(steps=2, animate="dynamics"), PLAIN)
    audio = np.concatenate([sampler.features(np.zeros(640 * LIVE.frames, np.float32)), sampler.features(sound)])
    predicted = sampler.sequence(
        face.conditions(audio, -LIVE.frames), face.source, jax.random.key(0), 2, Controls().solver, face.guidance, LIVE
    )
    face.begin(predicted[0])
    expected = face.motion(predicted[LIVE.frames :])
    made, _, _ = streamed(sound, 640, animate="dynamics")
    lips = 9 + 3 * np.array(LIPS)
    assert np.abs(made - expected[:1])[:, lips].max() > 1e-2
    # The last frames, which are in no window's middle, a stream takes from one window.
    np.testing.assert_allclose(made[:20, lips], expected[:20, lips], atol=1e-4)


def test_a_stream_of_frames(generator, avatar):
    stream = generator.stream(avatar, how=PLAIN, steps=2)
    frames = [frame for part in np.split(speech(1.0), 10) for frame in stream.feed(part)]
    assert len(frames) == 10 and frames[0].shape == (64, 64, 3)
    assert len(frames + list(stream.finish())) == 25
