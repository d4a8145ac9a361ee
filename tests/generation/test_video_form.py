"""What a video is made for: backgrounds, shapes, frame rates, loops; and the mark in all of them."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image
from tiny_model import save_tiny_model

from vasa_jax.data.audio_files import Audio
from vasa_jax.errors import InputError
from vasa_jax.generation.backdrop import GREEN, blurred, covering
from vasa_jax.generation.composition import Composition, Form
from vasa_jax.generation.detect import detect_file
from vasa_jax.generation.generator import VideoGenerator
from vasa_jax.generation.job import DEMO
from vasa_jax.generation.motion_rate import SEAM, at_rate, looped, needed
from vasa_jax.generation.provenance import read_manifest
from vasa_jax.generation.video_form import VideoForm

QUICK = {"steps": 1, "crop": "center", "pose_anchor": "absolute"}
SOUND = Audio.from_samples(np.random.default_rng(0).normal(0, 0.1, 6400).astype(np.float32))  # 10 frames


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return VideoGenerator.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny")), decode_batch=5)


def frames(generator, **changes):
    video = generator.generate(DEMO["image"], SOUND, **QUICK, **changes)
    return video, np.stack(list(video.frames()))


@pytest.mark.parametrize("fps", [24, 25, 30, 50, 60])
def test_frame_rates_keep_time(generator, fps):
    """Motion at time t is the same at every rate, and the video is as long as its sound."""
    plain = generator.generate(DEMO["image"], SOUND, **QUICK)
    video = generator.generate(DEMO["image"], SOUND, fps=fps, **QUICK)
    assert len(video.motion) == round(10 * fps / 25) and abs(video.seconds - 0.4) <= 0.5 / fps
    for k, motion in enumerate(video.motion):
        before = min(int(k * 25 / fps), 9)
        share = min(k * 25 / fps, 9) - before
        after = min(before + 1, 9)
        want = (1 - share) * plain.motion[before, 6:] + share * plain.motion[after, 6:]
        np.testing.assert_allclose(motion[6:], want, atol=1e-5)
    with pytest.raises(InputError, match=r"fps: 0\.5 is out of range"):
        generator.generate(DEMO["image"], SOUND, fps=0.5, **QUICK)


def test_backdrops_are_seen_where_the_head_is_not(generator, tmp_path):
    Image.fromarray(np.tile(np.array([[[250, 0, 0]], [[0, 0, 250]]], np.uint8), (1, 300, 1))).resize(
        (300, 200), Image.Resampling.NEAREST
    ).save(tmp_path / "wall.png")
    unmarked = generator.generate(DEMO["image"], SOUND, backdrop="transparent", **QUICK)
    matte = np.stack(list(unmarked.frames()))[..., 3].astype(float) / 255
    _, own = frames(generator)
    for text, colour in (("green", GREEN), ("#102030", (16, 32, 48)), ("white", (255, 255, 255))):
        _, made = frames(generator, backdrop=text)
        share = (1 - matte)[..., None]
        # Both are the same head; what differs is the background's share. The mark and rounding are a few levels.
        canvas = np.asarray(unmarked.avatar.canvas) * 255
        np.testing.assert_allclose(made - share * np.array(colour), own - share * canvas, atol=14)
    video, made = frames(generator, backdrop=str(tmp_path / "wall.png"), shape="landscape")
    assert made.shape[1:] == (64, 114, 3) and video.size == (64, 114)
    assert made[:, 4, :20, 0].min() > 230 and made[:, -4, :20, 2].min() > 230  # beside the square the wall alone
    wall = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    soft = blurred(wall)
    assert soft.shape == wall.shape and soft.std() < wall.std() / 4 and abs(soft.mean() - wall.mean()) < 3
    assert next(generator.generate(DEMO["image"], SOUND, backdrop="blur", **QUICK).frames()).shape == (64, 64, 3)


def test_transparent_frames_hide_the_background(generator):
    """Where the matte is 0 the colours are grey: the portrait's background does not leave with them."""
    video, made = frames(generator, backdrop="transparent", shape="landscape")
    assert video.transparent and made.shape == (10, 64, 114, 4) and (made[:, :, :20, 3] == 0).all()
    assert np.abs(made[:, :, :20, :3].astype(int) - 128).max() <= 4  # the mark alone
    assert made[..., 3].max() > 100


@pytest.mark.parametrize(("shape", "size"), [("portrait", (114, 64)), ("landscape", (64, 114)), ("4:5", (80, 64))])
def test_shapes(generator, shape, size):
    video, made = frames(generator, shape=shape)
    assert made.shape[1:3] == size == video.size
    _, square = frames(generator)
    y, x = (size[0] - 64) // 2, (size[1] - 64) // 2
    assert np.abs(made[:, y : y + 64, x : x + 64].astype(int) - square).mean() < 3  # but for the mark's place
    _, on_green = frames(generator, shape=shape, backdrop="green")
    assert np.abs(on_green[:, 0, 0].astype(int) - GREEN).max() <= 4


def test_windows_of_a_whole_picture(generator):
    """A window around the face where the picture holds one; else the whole picture on a blur of itself."""
    portrait = generator.read_portrait(DEMO["image"], "100,60,200")  # of 512 x 512
    avatar = generator.prepare(portrait.pixels)
    whole = Composition(generator, avatar, portrait, Form.read(VideoForm(), True), True)
    assert whole.size == (512, 512)
    window = Composition(generator, avatar, portrait, Form.read(VideoForm(shape="portrait"), True), True)
    assert window.size == (512, 288)
    motion = np.repeat(avatar.motion[None], 2, 0)
    shown = next(window.frames(motion))
    x = 200 - 144  # the square's middle, less half the window
    assert np.abs(shown.astype(int) - portrait.picture[:, x : x + 288]).mean() < 2
    wide = generator.read_portrait(DEMO["image"], "12,4,488")
    fitted = Composition(
        generator, generator.prepare(wide.pixels), wide, Form.read(VideoForm(shape="16:9"), True), True
    )
    assert fitted.size == (512, 910)
    huge = wide._replace(picture=wide.picture.repeat(6, 0).repeat(6, 1), crop=wide.crop._replace(size=2928))
    fitted_huge = Composition(generator, avatar, huge, Form.read(VideoForm(shape="16:9"), True), True)
    assert fitted_huge.size[1] <= 4096  # the longest side that is written
    shown = next(fitted.frames(motion))
    assert np.abs(shown[:, 199:711].astype(int) - wide.picture).mean() < 2


def test_a_loop_has_no_seam(generator):
    motion = np.cumsum(np.random.default_rng(0).normal(0, 0.02, (needed(2.0), 137)), 0).astype(np.float32)
    motion[:, :6] += np.array([1, 0, 0, 0, 1, 0], np.float32)
    loop = looped(motion, 2.0)
    assert loop.shape == (50, 137)
    step = np.abs(np.diff(motion[:, 6:], axis=0)).mean(1)
    assert np.abs(loop[0, 6:] - loop[-1, 6:]).mean() < 2 * step.mean()  # as between any two frames
    seam = round(25 * SEAM)
    starts = [
        i for i in range(len(motion) - 50) if np.allclose(loop[seam:, 6:], motion[i + seam : i + 50, 6:], atol=1e-5)
    ]
    assert len(starts) == 1  # but for the seam it is the motion as it was made
    columns = loop[:, :6].reshape(-1, 2, 3)
    np.testing.assert_allclose(np.linalg.norm(columns, axis=-1), 1, atol=1e-5)
    faster = at_rate(loop, 25, 60, loop=True)
    assert len(faster) == 120 and np.abs(faster[-1, 6:] - faster[0, 6:]).mean() < 2 * step.mean()
    video = generator.generate(DEMO["image"], idle=1, fps=30, **QUICK)
    assert video.audio is None and len(video.motion) == 30


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("a.webm", {"backdrop": "transparent"}),
        ("b.mov", {"backdrop": "transparent", "shape": "portrait", "fps": 24}),
        ("c.mp4", {"backdrop": "green", "shape": "landscape"}),
        ("d.webm", {"backdrop": "blur"}),
        ("e.mp4", {"shape": "4:5", "fps": 50}),
        ("f.mp4", {"paste": True, "shape": "portrait"}),
    ],
)  # fmt: skip
def test_all_of_them_are_marked(generator, tmp_path, name, changes):
    video = generator.generate(DEMO["image"], SOUND, **QUICK, **changes)
    found = detect_file(video.save(tmp_path / name))
    assert found.marked and found.evidence.payload == video.avatar.payload
    assert found.manifest.state == ("none" if name.endswith(".webm") else "valid")  # WebM has no place for one


def test_every_picture_of_a_sequence_has_its_manifest(generator, tmp_path):
    video = generator.generate(DEMO["image"], SOUND, backdrop="transparent", **QUICK)
    with zipfile.ZipFile(video.save(tmp_path / "a.zip")) as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")]
        assert len(names) == 10
        for name in names[::4]:
            (tmp_path / name).write_bytes(archive.read(name))
            told = read_manifest(tmp_path / name)
            assert told.state == "valid" and told.mark == str(video.avatar.payload)
        assert Image.open(io.BytesIO(archive.read(names[0]))).mode == "RGBA"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backdrop": "grren"}, "backdrop: 'grren' is none; give transparent"),
        ({"backdrop": "missing.png"}, "missing.png: does not exist"),
        ({"backdrop": "green", "paste": True}, "the matte knows the square alone"),
        ({"shape": "round"}, "shape: 'round' is none; give square"),
        ({"shape": "9:1"}, "at most 4:1"),
        ({"shape": "0:9"}, "is none"),
        ({"shape": "9:16:3"}, "is none"),
        ({"idle": 2}, "a loop is silent"),
        ({"idle": 61}, "out of range"),
        ({"subtitles": "a.srt"}, "a.srt: does not exist"),
    ],
)
def test_what_does_not_go_together(generator, changes, words):
    with pytest.raises(InputError) as fault:
        generator.generate(DEMO["image"], SOUND, **QUICK, **changes)
    assert words in str(fault.value)
    with pytest.raises(InputError, match="audio: not given"):
        generator.generate(DEMO["image"], **QUICK)


def test_covering_keeps_proportions():
    picture = np.zeros((100, 300, 3), np.uint8)
    picture[:, 150:] = 200
    made = covering(picture, 64, 64)
    assert made.shape == (64, 64, 3) and made[:, :30].max() == 0 and made[:, 34:].min() == 200
