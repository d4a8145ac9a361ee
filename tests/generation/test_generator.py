"""From files to a file, with a tiny model of random parameters: shapes, sound, determinism, bad input."""

import json
import time
import wave

import av
import jax
import numpy as np
import pytest
from PIL import Image
from tiny_model import WINDOW, save_tiny_model

from vasa_jax.conventions import rotation_matrices
from vasa_jax.errors import InputError
from vasa_jax.generation import animator
from vasa_jax.generation.animator import fill_behind_head
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.generation.job import DEMO, Stopwatch
from vasa_jax.generation.speech_features import MARGIN, PIECE, SpeechFeatures, as_speech
from vasa_jax.main import main
from vasa_jax.weights.safetensors_io import load_params, save_params


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def generator(checkpoint):
    return VideoGenerator.from_pretrained(checkpoint, decode_batch=4)


@pytest.fixture(scope="module")
def portrait():
    rng = np.random.default_rng(0)
    return np.asarray(Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).resize((64, 64)))


def speech(seconds, seed=0):
    return (0.1 * np.random.default_rng(seed).normal(size=round(16_000 * seconds))).astype(np.float32)


def write_wav(path, samples, rate=16_000, channels=1):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(np.repeat(samples, channels) * 32767).astype("<i2").tobytes())
    return path


@pytest.mark.parametrize("samples", [1, 640, 641, 16_000, 640 * WINDOW, 640 * WINDOW + 1])
def test_one_motion_vector_per_started_frame(generator, samples):
    motion = generator.motion(speech(2)[:samples], steps=2)
    assert motion.shape == (-(-samples // 640), 137)
    assert np.isfinite(motion).all()


def test_every_frame_is_decoded_once(generator, portrait):
    avatar = generator.prepare(portrait)
    motion = generator.motion(speech(0.36), avatar, steps=2)  # 9 frames, decoded in batches of 4
    batches = list(generator.render(avatar, motion))
    assert [len(batch) for batch in batches] == [4, 4, 1]
    frames = np.concatenate(batches)
    assert frames.shape == (9, 64, 64, 3) and frames.dtype == np.uint8
    single = np.concatenate(list(generator.render(avatar, motion[5:6])))
    assert np.abs(single[0].astype(int) - frames[5].astype(int)).max() <= 1


BAD_SOUNDS = [
    (np.zeros(10, np.int32), "int32"),
    (np.zeros(10, np.uint8), "uint8"),
    (np.zeros(10, bool), "bool"),
    (np.zeros(10, complex), "complex128"),
    (np.array(["a"]), "give float samples"),
    ([[1.0], [1.0, 2.0]], "is no array"),
    (np.zeros((10, 2), np.float32), r"\(10, 2\)"),
    (np.float32(0.0), r"\(\)"),
    (np.array([0.0, np.nan]), "not finite"),
    (np.array([0.0, -np.inf]), "not finite"),
    (np.array([0.0, -12_000.0]), "a peak of 12000"),
]


@pytest.mark.parametrize(("sound", "fault"), BAD_SOUNDS)
def test_what_is_no_speech_is_refused_offline_and_live(generator, portrait, sound, fault):
    session = generator.stream_batch(1, hop=5, steps=2).open(generator.prepare(portrait))
    ways = [as_speech, generator.motion, lambda sound: generator.motion(sound, hop=5), session.write]
    for way in ways:
        with pytest.raises(InputError, match=fault) as error:
            way(sound)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("hop", [0, 5])
def test_16_bit_sound_is_scaled_and_an_empty_one_is_named(generator, hop):
    exact = np.round(speech(0.5) * 32768).astype(np.int16)
    expected = generator.motion(exact.astype(np.float32) / 32768, steps=2, hop=hop)
    np.testing.assert_array_equal(generator.motion(exact, steps=2, hop=hop), expected)
    np.testing.assert_array_equal(generator.motion(exact.astype(np.float64) / 32768, steps=2, hop=hop), expected)
    with pytest.raises(InputError, match=r"^sound: empty; give at least one sample$"):
        generator.motion(exact[:0], hop=hop)


def test_an_empty_motion_has_no_frames(generator, portrait):
    assert not list(generator.render(generator.prepare(portrait), np.zeros((0, 137), np.float32)))


def test_a_stage_does_not_count_what_is_within_it():
    stage = Stopwatch()
    with stage("outer"):
        for _ in range(2):
            with stage("inner"):
                time.sleep(0.05)
        with pytest.raises(ValueError), stage("failing"):
            raise ValueError
        time.sleep(0.02)
    assert list(stage.seconds) == ["inner", "failing", "outer"]
    assert stage.seconds["inner"] >= 0.1 and 0.02 <= stage.seconds["outer"] < 0.1


def test_same_seed_same_motion(generator):
    first, second, other = (generator.motion(speech(1), steps=2, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 1e-3


def test_position_and_scale_move_around_the_portraits(generator, portrait):
    avatar = generator.prepare(portrait)
    absolute = generator.motion(speech(1), avatar, steps=2, pose_anchor="absolute", distance=1.0)
    anchored = generator.motion(speech(1), avatar, steps=2, pose_anchor="portrait")
    shift = np.asarray(avatar.latents.pose)[0, 6:9]  # the tiny model's mean of these is zero
    np.testing.assert_allclose(anchored[:, 6:9], absolute[:, 6:9] + shift, atol=1e-5)
    turn = generator.sampler.turn(generator.sampler.schedule(Controls()), avatar)
    np.testing.assert_allclose(rotation_matrices(anchored), turn @ rotation_matrices(absolute), atol=1e-4)
    np.testing.assert_array_equal(anchored[:, 9:], absolute[:, 9:])


def test_untrained_controls_warn_and_change_nothing(tmp_path, capsys):
    checkpoint = save_tiny_model(tmp_path / "model", trained_controls=("gaze",))
    generator = VideoGenerator.from_pretrained(checkpoint, decode_batch=4)
    plain = generator.motion(speech(0.4), steps=2)
    np.testing.assert_array_equal(plain, generator.motion(speech(0.4), steps=2, distance=1.3, emotion="anger"))
    arguments = [f"--config.checkpoint={checkpoint}", "--config.emotion=anger", f"--config.output={tmp_path / 'a.mp4'}"]
    assert run_generate(tmp_path, *arguments) == 0
    assert "config.emotion: these weights were not trained for it" in capsys.readouterr().err


def test_features_are_those_of_the_piece_around_them(checkpoint):
    params, metadata = load_params(checkpoint / "audio.safetensors")
    features = SpeechFeatures(params, metadata["fields"])
    sound = speech((2.5 * PIECE) / 25)
    found = features(sound)
    assert len(found) == -(-len(sound) // 640)
    # Sound further than the margin from a piece cannot reach it.
    changed = sound.copy()
    changed[(2 * PIECE + MARGIN) * 640 + 80 :] = 0.0
    np.testing.assert_array_equal(features(changed)[: 2 * PIECE], found[: 2 * PIECE])
    assert np.abs(features(changed) - found).max() > 1e-3


def test_nothing_compiles_after_the_first_video(generator, portrait, checkpoint, caplog):
    def video(generator, seconds):
        avatar = generator.prepare(portrait)
        list(generator.render(avatar, generator.motion(speech(seconds), avatar, steps=2)))

    video(generator, 0.5)
    with jax.log_compiles():
        caplog.clear()
        video(generator, 0.7)
        video(generator, 1.3)
        # A second generator of the same networks shares their compiled code.
        video(VideoGenerator.from_pretrained(checkpoint, decode_batch=4), 0.7)
        compiled = [record.message for record in caplog.records if "Compiling" in record.message]
        ours = ("_decode", "finished", "_encode", "sample_window")
        assert not [message for message in compiled if any(name in message for name in ours)], compiled
        caplog.clear()
        for program in (animator._decode, animator.finished):
            program.clear_cache()  # another test of this process may have decoded three at once
        video(VideoGenerator.from_pretrained(checkpoint, decode_batch=3), 0.7)
        for name in ("_decode", "finished"):
            assert [record for record in caplog.records if name in record.message], "compilations are seen"


def test_background_is_kept_and_the_head_is_replaced():
    picture = np.full((64, 64, 3), (10, 200, 30), np.uint8)
    matte = np.zeros((64, 64), np.float32)
    matte[20:44, 20:44] = 1.0
    picture[20:44, 20:44] = (250, 0, 0)
    canvas = fill_behind_head(picture, matte)
    np.testing.assert_array_equal(canvas[:16], picture[:16])
    assert np.abs(canvas.astype(int) - (10, 200, 30)).max() < 12
    everything = fill_behind_head(picture, np.ones((64, 64), np.float32))
    assert (everything == everything[0, 0]).all()


# the command line, in this process


def run_generate(folder, *arguments):
    defaults = {
        "image": DEMO["image"],
        "audio": write_wav(folder / "speech.wav", speech(0.5)),
        "output": folder / "out.mp4",
        "steps": 2,
        "decode_batch": 4,  # as above: compiled once
    }
    given = {argument.split("=")[0].removeprefix("--config.") for argument in arguments}
    rest = [f"--config.{name}={value}" for name, value in defaults.items() if name not in given]
    return main(["main", "--config=configs/generate.py", *rest, *arguments])


def test_written_video_has_the_original_sound(tmp_path, checkpoint, capsys):
    audio = write_wav(tmp_path / "stereo.wav", speech(0.9)[:14_000], rate=44_100, channels=2)
    assert run_generate(tmp_path, f"--config.checkpoint={checkpoint}", f"--config.audio={audio}") == 0
    with av.open(str(tmp_path / "out.mp4")) as file:
        video, sound = file.streams.video[0], file.streams.audio[0]
        assert (video.codec_context.name, sound.codec_context.name) == ("h264", "aac")
        assert (sound.rate, sound.channels, float(video.average_rate)) == (44_100, 2, 25.0)
        assert (video.width, video.height) == (64, 64)
        frames = sum(1 for _ in file.decode(video=0))
    assert frames == int(np.ceil(round(14_000 / 44_100 * 16_000) / 640))
    summary = capsys.readouterr().out
    assert f"{frames} frames" in summary and "frames/s" in summary and "out.mp4" in summary


def test_a_track_file_steers_the_video(tmp_path, checkpoint):
    track, videos = tmp_path / "track.json", []
    for turned in (0, 30):
        poses = [[0, 0, 0]] * 6 + [[turned, 0, 0]]
        track.write_text(json.dumps({"head_pose": poses, "hop": 4, "pose_anchor": "absolute"}))
        settings = [f"--config.checkpoint={checkpoint}", f"--config.controls={track}", "--config.crop=center"]
        settings.append("--config.mark=False")  # the encoder spends bits on the mark
        assert run_generate(tmp_path, *settings) == 0
        with av.open(str(tmp_path / "out.mp4")) as file:
            videos.append(np.stack([frame.to_ndarray(format="rgb24").astype(int) for frame in file.decode(video=0)]))
    assert videos[0].shape == videos[1].shape and len(videos[0]) == 13
    difference = np.abs(videos[1] - videos[0]).mean((1, 2, 3))
    assert difference[10:].min() > 3 * difference[:4].max()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.image=missing.jpg", "missing.jpg"),
        ("--config.audio=missing.wav", "missing.wav"),
        ("--config.checkpoint=nowhere", "nowhere: no such directory"),
        ("--config.crop=1,2", "crop"),
        ("--config.emotion=joy", "choose one of anger"),
        ("--config.output=", "config.output: not set"),
        ("--config.steps=0", "config.steps: 0 is out of range"),
        ("--config.solver=euler", "choose one of ddim, dpmpp"),
        ("--config.gaze=10", "config.gaze"),
        ("--config.stepz=3", "did you mean 'steps'?"),
        ("--config.distance=far", "distance"),
        ("--config.hop=13", "windows of 12 frames"),
        ("--config.head_pose=1,2", "config.head_pose"),
        ("--config.controls=missing.json", "missing.json: cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_code_2(tmp_path, checkpoint, capsys, argument, message):
    extra = [] if argument.startswith("--config.checkpoint") else [f"--config.checkpoint={checkpoint}"]
    assert run_generate(tmp_path, *extra, argument) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error and message in error
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("part", ["face", "audio", "motion"])
def test_a_network_that_tells_no_fields_is_refused(tmp_path, checkpoint, capsys, part):
    """Weights alone, as another program may write them: nothing says which network they belong to."""
    for file in checkpoint.iterdir():
        params, metadata = load_params(file)
        save_params(tmp_path / "model" / file.name, params, {} if file.stem == part else metadata)
    assert run_generate(tmp_path, f"--config.checkpoint={tmp_path / 'model'}") == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error and f"{part}.safetensors: not a" in error and "export it again" in error


def test_picture_without_a_face_names_the_remedy(tmp_path, checkpoint, capsys):
    Image.fromarray(np.full((200, 200, 3), 128, np.uint8)).save(tmp_path / "wall.png")
    wall = f"--config.image={tmp_path / 'wall.png'}"
    assert run_generate(tmp_path, f"--config.checkpoint={checkpoint}", wall) == 2
    error = capsys.readouterr().err
    assert "wall.png" in error and "--config.crop=" in error
    assert run_generate(tmp_path, f"--config.checkpoint={checkpoint}", wall, "--config.crop=center") == 0


def test_parameters_lie_on_the_device(generator):
    """Host arrays would be sent again, one by one, at every call."""
    for params in (generator._face, generator.sampler._params, generator.sampler.speech._params):
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params))
