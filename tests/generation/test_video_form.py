"""What a video is made for: backgrounds, shapes, frame rates, loops; and the mark in all of them."""

import io
import zipfile

import av
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
from vasa_jax.generation.picture_window import PictureWindow
from vasa_jax.generation.provenance import read_manifest, write_generated
from vasa_jax.generation.video_form import VideoForm

QUICK = {"steps": 1, "crop": "center", "pose_anchor": "absolute"}
SOUND = Audio.from_samples(np.random.default_rng(0).normal(0, 0.1, 6400).astype(np.float32))  # 10 frames


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return VideoGenerator.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("tiny")), decode_batch=4)


@pytest.fixture(scope="module")
def portrait(generator):
    return generator.read_portrait(DEMO["image"], "center")


@pytest.fixture(scope="module")
def avatar(generator, portrait):
    return generator.prepare(portrait.pixels)


@pytest.fixture
def shown(generator, avatar, portrait):
    """Composes five frames at rest in a form."""

    def compose(whole=portrait, paste=False, **form):
        composition = Composition(generator, avatar, whole, Form.read(VideoForm(**form), paste), paste)
        frames = np.stack(list(composition.frames(np.repeat(avatar.motion[None], 5, 0))))
        assert frames.shape[1:3] == composition.size and frames.shape[3] == 3 + composition.transparent
        return frames

    return compose


@pytest.mark.parametrize("fps", [24, 25, 30, 50, 60])
def test_frame_rates_keep_time(fps):
    """Motion at time t is the same at every rate, and as long."""
    plain = np.random.default_rng(0).normal(0, 1, (10, 137)).astype(np.float32)
    moved = at_rate(plain, 25, fps)
    assert len(moved) == round(10 * fps / 25)
    for k, motion in enumerate(moved):
        time = min(k * 25 / fps, 9)
        before, after, share = int(time), min(int(time) + 1, 9), time % 1
        np.testing.assert_allclose(motion[6:], (1 - share) * plain[before, 6:] + share * plain[after, 6:], atol=1e-5)


def test_a_whole_video(generator, tmp_path):
    """From Python: its rate, its sound as it was, its subtitles cut where it ends."""
    (tmp_path / "words.srt").write_text("1\n00:00:00,100 --> 00:00:09,000\nhello\n")
    subtitles = str(tmp_path / "words.srt")
    video = generator.generate(
        DEMO["image"], SOUND, fps=30, shape="landscape", backdrop="green", subtitles=subtitles, **QUICK
    )
    assert len(video.motion) == 12 and video.seconds == 0.4 and video.size == (64, 114)
    with av.open(str(video.save(tmp_path / "a.mp4"))) as container:
        assert container.streams.video[0].frames == 12 and float(container.streams.video[0].average_rate) == 30
        (cue,) = [packet for packet in container.demux(container.streams.subtitles[0]) if packet.size > 2]
        assert float(cue.pts * cue.time_base) == 0.1 and float(cue.duration * cue.time_base) == pytest.approx(0.3)
    loop = generator.generate(DEMO["image"], idle=0.4, **QUICK)
    assert loop.audio is None and len(loop.motion) == 10
    with pytest.raises(InputError, match=r"fps: 0\.5 is out of range"):
        generator.generate(DEMO["image"], SOUND, fps=0.5, **QUICK)


def test_backdrops_are_seen_where_the_head_is_not(shown, avatar, tmp_path):
    Image.fromarray(np.tile(np.array([[[250, 0, 0]], [[0, 0, 250]]], np.uint8), (1, 300, 1))).resize(
        (300, 200), Image.Resampling.NEAREST
    ).save(tmp_path / "wall.png")
    share = 1 - shown(backdrop="transparent")[..., 3:].astype(float) / 255
    own = shown()
    for text, colour in (("green", GREEN), ("#102030", (16, 32, 48)), ("white", (255, 255, 255))):
        # The head is the same; what differs is the background's share. The mark and rounding are a few levels.
        canvas = np.asarray(avatar.canvas) * 255
        np.testing.assert_allclose(shown(backdrop=text) - share * np.array(colour), own - share * canvas, atol=14)
    made = shown(backdrop=str(tmp_path / "wall.png"), shape="landscape")
    assert made[:, 4, :20, 0].min() > 230 and made[:, -4, :20, 2].min() > 230  # beside the square the wall alone
    wall = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    soft = blurred(wall)
    assert soft.shape == wall.shape and soft.std() < wall.std() / 4 and abs(soft.mean() - wall.mean()) < 3
    assert shown(backdrop="blur").shape == (5, 64, 64, 3)


def test_transparent_frames_hide_the_background(shown):
    """Where the matte is 0 the colours are grey: the portrait's background does not leave with them."""
    made = shown(backdrop="transparent", shape="landscape")
    assert (made[:, :, :20, 3] == 0).all() and np.abs(made[:, :, :20, :3].astype(int) - 128).max() <= 4  # the mark
    assert made[..., 3].max() > 100
    assert made[:, :, 25:27, 3].max() < made[:, :, 50:60, 3].max() / 4  # no hard edge where the square ends


def test_shapes(shown):
    square = shown()
    for shape, size in (("portrait", (114, 64)), ("landscape", (64, 114))):
        made = shown(shape=shape)
        assert made.shape[1:3] == size
        y, x = (size[0] - 64) // 2, (size[1] - 64) // 2
        assert np.abs(made[:, y : y + 64, x : x + 64].astype(int) - square).mean() < 3  # but for the mark's place
    assert np.abs(shown(shape="landscape", backdrop="green")[:, 0, 0].astype(int) - GREEN).max() <= 4


def test_windows_of_a_whole_picture(generator):
    """A window around the face where the picture holds one; else the whole picture on a blur of itself."""
    small = generator.read_portrait(DEMO["image"], "100,60,200")  # of 512 x 512
    avatar = generator.prepare(small.pixels)
    motion = np.repeat(avatar.motion[None], 2, 0)

    def composed(portrait, shape):
        return Composition(generator, avatar, portrait, Form.read(VideoForm(shape=shape), True), True)

    window = composed(small, "portrait")
    assert window.size == (512, 288)
    made = next(window.frames(motion))
    x = 200 - 144  # the square's middle, less half the window
    assert np.abs(made.astype(int) - small.picture[:, x : x + 288]).mean() < 2
    fitted = composed(generator.read_portrait(DEMO["image"], "12,4,488"), "16:9")
    assert fitted.size == (512, 910)
    made = next(fitted.frames(motion))
    assert np.abs(made[:, 199:711].astype(int) - small.picture).mean() < 6  # another square of it at rest
    huge = small._replace(picture=small.picture.repeat(5, 0).repeat(5, 1), crop=small.crop._replace(size=2440))
    assert max(PictureWindow(huge, 16 / 9).portrait.picture.shape[:2]) * 16 / 9 <= 4096  # the longest side


def test_a_loop_has_no_seam():
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


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("a.webm", {"backdrop": "transparent"}),
        ("b.mov", {"backdrop": "transparent", "shape": "landscape"}),
        ("c.mp4", {"backdrop": "green", "shape": "landscape"}),
        ("d.webm", {"backdrop": "blur"}),
        ("e.mp4", {"shape": "portrait"}),
        ("f.mp4", {"paste": True, "shape": "portrait"}),
        ("g.mp4", {"paste": True, "shape": "landscape"}),
    ],
)
def test_all_of_them_are_marked(shown, avatar, tmp_path, name, changes):
    clear = changes.get("backdrop") == "transparent"
    path = write_generated(tmp_path / name, shown(**changes), None, avatar.payload, "model", transparent=clear)
    found = detect_file(path)
    assert found.marked and found.evidence.payload == avatar.payload
    assert found.manifest.state == ("none" if name.endswith(".webm") else "valid")  # WebM has no place for one


def test_every_picture_of_a_sequence_has_its_manifest(shown, avatar, tmp_path):
    frames = shown(backdrop="transparent")
    path = write_generated(tmp_path / "a.zip", frames, None, avatar.payload, "model", transparent=True)
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")]
        assert len(names) == 5
        for name in names[::2]:
            (tmp_path / name).write_bytes(archive.read(name))
            told = read_manifest(tmp_path / name)
            assert told.state == "valid" and told.mark == str(avatar.payload)
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
    for height, width in ((1, 1), (1, 3), (2, 1), (5, 900), (900, 5)):  # a colour is a picture of one pixel
        for size in ((64, 64), (64, 256), (256, 64), (2, 8)):
            colour = np.full((height, width, 3), 77, np.uint8)
            np.testing.assert_array_equal(covering(colour, *size), np.full((*size, 3), 77))


@pytest.mark.parametrize("shape", ["4:1", "1:4", "2:1", "square"])
@pytest.mark.parametrize("backdrop", ["green", "transparent", "blur", ""])
def test_every_backdrop_has_every_shape(shown, backdrop, shape):
    wide, high = map(int, shape.split(":")) if ":" in shape else (1, 1)
    assert shown(backdrop=backdrop, shape=shape).shape[1:3] == (64 * max(high // wide, 1), 64 * max(wide // high, 1))
