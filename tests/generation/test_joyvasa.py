"""From a download of JoyVASA to a video with the usual commands, at small sizes and random weights."""

import re

import av
import numpy as np
import pytest
from joyvasa_files import joyvasa_template, write_joyvasa
from sounds import speech
from speaking_keypoints import complete

from vasa_jax.errors import InputError
from vasa_jax.generation.controls import Controls
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.generation.joyvasa import LEAD, held_back
from vasa_jax.generation.keypoint_driving import LIPS
from vasa_jax.generation.open_stream import open_windows
from vasa_jax.main import main
from vasa_jax.weights.importer import import_weights
from vasa_jax.weights.motion_generators import load_joyvasa

WINDOW = 20  # frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joyvasa")
    write_joyvasa(folder / "download", motion=73, window=WINDOW, previous=4, width=16, steps=10)
    import_weights(folder / "download", folder / "weights")
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
                 "output": output, "solver": "ancestral", "audio_guidance": 1.0, "steps": 3, "decode_batch": 4,
                 "mark": False}  # fmt: skip
    command = ["main", "--config=configs/generate.py", *(f"--config.{k}={v}" for k, v in arguments.items())]
    assert main(command) == 0
    with av.open(str(output)) as video:
        assert sum(1 for _ in video.decode(video=0)) == 25 and video.streams.audio
    printed = capsys.readouterr().out
    assert "25 frames" in printed and re.search(r"--config\.crop=-?\d+,-?\d+,\d+$", printed, re.MULTILINE)
    assert main([*command, "--config.hop=5"]) == 2
    assert "config.hop: JoyVASA hears windows" in capsys.readouterr().err
    assert main([*command, "--config.motion_generator=ditto"]) == 2
    assert "no ditto_motion.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("samples", [1, 640, 641, 640 * (WINDOW - LEAD), 640 * WINDOW + 1])
def test_one_motion_vector_per_started_frame(generator, samples):
    motion = generator.motion(speech(2)[:samples], steps=2)
    assert motion.shape == (-(-samples // 640), 72) and np.isfinite(motion).all()


def test_later_sound_changes_no_earlier_window(generator):
    """Windows hear themselves and what went before."""
    sound = speech(2.0)
    whole = generator.motion(sound, steps=2)
    first = generator.motion(sound[: 640 * (WINDOW - LEAD)], steps=2)
    np.testing.assert_allclose(first, whole[: len(first)], atol=1e-4)
    other = np.concatenate([speech(1.0, 1), sound[16_000:]])
    assert np.abs(generator.motion(other, steps=2)[-5:] - whole[-5:]).max() > 1e-4


def test_motion_is_in_the_units_of_the_statistics(generator, avatar):
    """The lips are JoyVASA's own, the rest of the face starts from the portrait's."""
    plain = Driving(stitching=False)
    motion = generator.motion(speech(1.0), avatar, how=plain, steps=2, animate="dynamics")
    own, moved = avatar.motion[9:].reshape(21, 3), motion[:, 9:].reshape(-1, 21, 3)
    np.testing.assert_allclose(motion[:, :9], np.tile(avatar.motion[:9], (25, 1)), atol=1e-5)
    others = [i for i in range(21) if i not in LIPS]
    np.testing.assert_allclose(moved[0, others], own[others], atol=1e-5)
    said = generator.motion(speech(1.0), steps=2)[:, 9:].reshape(-1, 21, 3)
    np.testing.assert_allclose(moved[:, list(LIPS)], said[:, list(LIPS)], atol=1e-5)
    np.testing.assert_allclose(
        moved[:, others] - own[others], said[:, others] - said[0, others], atol=1e-5
    )
    assert said.std() == pytest.approx(joyvasa_template()["std_exp"][0], rel=0.9)


def test_controls_of_the_head(generator, avatar):
    plain, sound = Driving(stitching=False), speech(1.0)
    still = generator.motion(sound, avatar, how=plain, steps=2, animate="pose", pose_amplitude=0.0)
    np.testing.assert_allclose(still, np.tile(avatar.motion, (25, 1)), atol=1e-5)
    free, held = (generator.motion(sound, steps=2, head_smoothing=share) for share in (0.0, 0.99))
    assert np.abs(np.diff(held[:, :9], axis=0)).max() < 0.2 * np.abs(np.diff(free[:, :9], axis=0)).max()
    np.testing.assert_array_equal(held[:, 9:], free[:, 9:])
    with pytest.raises(InputError, match=r"config\.head_pose: JoyVASA"):
        generator.motion(sound, avatar, Controls(head_pose=(0, 0, 0)))
    with pytest.raises(InputError, match="stream: JoyVASA"):
        generator.stream_batch(2)


def test_moving_average():
    values = np.array([[1.0], [3.0], [3.0]])
    np.testing.assert_allclose(held_back(values, 0.9)[:, 0], [1.0, 1.2, 1.38])
    np.testing.assert_array_equal(held_back(values, 0.0), values)


def test_same_seed_same_motion(generator):
    one, again, other = (generator.motion(speech(0.5), steps=3, solver="ancestral", seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-4


@pytest.mark.parametrize(
    "name, change, fault",
    [
        ("joyvasa_motion", {"denoising_net.PE.pe": np.zeros((1, 3, 16), np.float32)}, "PE.pe' has shape"),
        ("joyvasa_motion", {"diffusion_sched.alpha_bars": np.linspace(1, 0, 11, dtype=np.float32)}, "noise schedule"),
        ("joyvasa_motion", {"null_audio_feat": np.full((1, 1, 16), np.nan, np.float32)}, "null_audio_feat"),
        ("joyvasa_template", {"std_exp": np.zeros(3, np.float32)}, "not 63 numbers in 'mean_exp' and 'std_exp'"),
    ],
)
def test_a_damaged_file_is_one_line(folder, tmp_path, name, change, fault):
    from safetensors.numpy import load_file, save_file

    for path in (folder / "weights").glob("joyvasa_*.safetensors"):
        (tmp_path / path.name).symlink_to(path)
    path = tmp_path / f"{name}.safetensors"
    tensors = load_file(path) | change
    path.unlink()
    save_file(tensors, path, metadata={})
    with pytest.raises(InputError) as error:
        load_joyvasa(tmp_path)
    assert fault in str(error.value) and "\n" not in str(error.value) and str(path) in str(error.value)


def test_a_stream_says_what_a_file_says(generator, avatar):
    """However its sound is cut: windows, their past, the slow head and the portrait's share are the same."""
    how, asked = Driving(stitching=False), {"steps": 3, "solver": "ancestral", "pose_amplitude": 0.5, "seed": 4}
    sound = speech(2.0)[: 640 * (2 * WINDOW + 3) + 5]
    whole = generator.motion(sound, avatar, how=how, **asked)
    for sizes in ((640,), (1, 9000, 31)):
        windows = open_windows(generator.sampler, generator, avatar, Controls(**asked), how)
        parts, rest, turn = [], sound, 0
        while len(rest):
            parts.append(windows.feed(rest[: sizes[turn % len(sizes)]]))
            rest, turn = rest[sizes[turn % len(sizes)] :], turn + 1
        assert len(np.concatenate(parts)) == 2 * WINDOW - LEAD
        made = np.concatenate([*parts, windows.finish()])
        np.testing.assert_allclose(made, whole, atol=2e-5)


def test_the_studio_speaks_and_says_that_it_has_no_live_avatar(folder, generator, tmp_path):
    from tiny_studio import ended, post, served

    portrait, sound = ((folder / name).read_bytes() for name in ("me.png", "speech.wav"))
    with served(generator, tmp_path / "studio") as (client, _):
        posted = post(client, '{"steps": 2}', portrait, sound)
        assert posted.status_code == 201, posted.text
        job = ended(client, posted.json()["id"])
        assert job["state"] == "done" and job["result"]["frames"] == 25, job["error"]
        assert re.fullmatch(r"-?\d+,-?\d+,\d+", job["result"]["crop"])
        found = client.post("/v1/crops", files={"portrait": portrait}).json()
        assert found["crop"] == job["result"]["crop"]
        refused = post(client, '{"steps": 2, "hop": 5}', portrait, sound)
        assert "hop: JoyVASA hears windows of 4 s" in ended(client, refused.json()["id"])["error"]
        live = client.post("/v1/live", files={"portrait": portrait})
        assert live.status_code == 422 and live.json()["detail"].startswith("live: JoyVASA's and Ditto's motion")
        assert client.get("/v1/about").json()["live_sessions"] == 0
    with served(generator, tmp_path / "other", asked={"lip_openness": 0.1}) as (client, _):  # which is for all videos
        job = ended(client, post(client, '{"steps": 2}', portrait, sound).json()["id"])
        assert job["error"].startswith("lip_openness: needs to know how open the portrait's")


def test_a_stream_of_frames(generator, avatar):
    stream = generator.stream(avatar, steps=2)
    sound = speech(1.0)
    assert stream.first_frame_samples == 640 * (WINDOW - LEAD)
    assert not list(stream.feed(sound[: stream.first_frame_samples - 1]))
    first = list(stream.feed(sound[stream.first_frame_samples - 1 :]))
    frames = first + list(stream.finish())
    assert len(first) == WINDOW - LEAD and len(frames) == 25 and frames[0].shape == (64, 64, 3)
    with pytest.raises(InputError, match="after the end"):
        stream.feed(sound)
    with pytest.raises(InputError, match=r"config\.driving_smoothing: looks at all"):
        generator.stream(avatar, how=Driving(driving_smoothing=0.1))
    with pytest.raises(InputError, match=r"config\.retarget_lips: how open the driving face's"):
        generator.stream(avatar, how=Driving(retarget_lips=True, portrait_openness=(0.3, 0.3, 0.0)))
