"""Small files that ask for much, open other files, or are not what they say; outputs that would cost an input."""

import io
import os
import stat
import struct
import subprocess
import sys
import wave
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from vasa_jax.data.audio_files import read_audio
from vasa_jax.data.containers import FORMATS
from vasa_jax.data.image_files import MATTE, NotAPicture, parse_colour, read_image
from vasa_jax.data.output_files import video_output
from vasa_jax.data.picture_tags import orientation, upright
from vasa_jax.data.speech_level import USUAL, speech_level
from vasa_jax.data.video_files import read_video, write_video
from vasa_jax.errors import InputError
from vasa_jax.files import replacing
from vasa_jax.generation.backdrop import read_backdrop
from vasa_jax.generation.portraits import read_portrait
from vasa_jax.limits import InputLimits


def fails(function, path, *words, **settings) -> None:
    with pytest.raises(InputError) as error:
        function(path, **settings)
    text = str(error.value)
    assert text.startswith(f"{path}: "[:100]), text
    assert text.count("; ") == 1 and "\n" not in text and len(text) < 1000
    for word in words:
        assert word in text, text


def write_wav(path, samples: np.ndarray, rate: int = 16_000) -> None:
    samples = samples.reshape(len(samples), -1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def speech(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """Bursts of noise at the usual level of speech."""
    sound = np.random.default_rng(seed).standard_normal(round(16_000 * seconds)) * 0.12
    return sound * (np.sin(2 * np.pi * 2.3 * np.arange(len(sound)) / 16_000) > 0)


def stills(count: int, size: int = 64):
    y, x = np.mgrid[:size, :size] * (255 / size)
    return [np.stack([x, y, np.full_like(x, i)], -1).astype(np.uint8) for i in range(count)]


# --- sound and video ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nbeside.wav\n",
        "ffconcat version 1.0\nfile beside.wav\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period/></MPD>',
        "beside.wav\n",
    ],
)
@pytest.mark.parametrize("name", ["list.wav", "list.m3u8", "list.sdp", "list%d.png"])
def test_a_file_that_names_others_is_no_sound(tmp_path, text, name):
    write_wav(tmp_path / "beside.wav", speech())
    (tmp_path / name).write_text(text)
    fails(read_audio, tmp_path / name)
    fails(read_video, tmp_path / name)


def test_no_format_reads_other_files():
    assert not {"concat", "hls", "dash", "image2", "sdp", "rtsp", "lavfi", "webm_dash_manifest"} & {*FORMATS.split(",")}


@pytest.mark.parametrize("rate", [1, 10, 1999, 768_001, 2**31 - 1])
def test_rates_that_no_sound_has_are_refused_at_once(tmp_path, rate):
    write_wav(tmp_path / "a.wav", speech(0.5), 16_000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[24:28] = struct.pack("<I", rate)
    (tmp_path / "a.wav").write_bytes(data)
    fails(read_audio, tmp_path / "a.wav", f"{rate} Hz", "2 to 768 kHz")


@pytest.mark.parametrize("rate", [2000, 768_000])
def test_the_outermost_rates_are_read(tmp_path, rate):
    write_wav(tmp_path / "a.wav", 0.3 * np.sin(np.arange(rate) / 5), rate)
    assert abs(read_audio(tmp_path / "a.wav").seconds - 1.0) < 0.01


def test_limits_are_settings_and_named(tmp_path):
    write_wav(tmp_path / "a.wav", speech(4.0))
    fails(read_audio, tmp_path / "a.wav", "0.001 hours", "config.limits.hours", limits=InputLimits(hours=0.001))
    video = write_video(tmp_path / "a.mp4", stills(100), read_audio(tmp_path / "a.wav"))
    fails(read_audio, video, "1 tracks", "config.limits.streams", limits=InputLimits(streams=1))
    assert read_audio(video, InputLimits(streams=2)).frames >= 100
    small = InputLimits(megapixels=0.004)
    with pytest.raises(InputError, match="64 x 64 pixels"):
        list(read_video(video, limits=small).frames)
    with pytest.raises(InputError, match=r"config\.limits\.hours"):
        list(read_video(video, limits=InputLimits(hours=0.001)).frames)


@pytest.mark.parametrize("read", [read_audio, read_video, read_image])
def test_what_is_no_regular_file_ends_at_once(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        fails(read, path, "regular file")
    fails(read, tmp_path, "is a folder")
    fails(read, tmp_path / ("a" * 300), "too long")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    fails(read, tmp_path / "loop")
    with pytest.raises(InputError, match="is no path"):
        read("a\0b")


def test_a_picture_larger_than_the_memory_it_may_take_is_not_read(tmp_path):
    with open(tmp_path / "a.png", "wb") as file:
        file.truncate(2**36)
    fails(read_image, tmp_path / "a.png", "is larger than 1.25 GiB", "config.limits.memory")


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_wav(tmp_path / "a.wav", speech())
    assert read_audio("~/a.wav").frames == 50
    assert video_output("~/a.mp4") == tmp_path / "a.mp4"


def test_an_hour_takes_the_memory_of_its_samples(tmp_path):
    write_wav(tmp_path / "hour.wav", np.tile(speech(60.0), 60))
    code = (
        "import sys; from vasa_jax.data.audio_files import read_audio; read_audio(sys.argv[2])\n"
        "row = lambda: int([r for r in open('/proc/self/status') if r.startswith('VmHWM')][0].split()[1]) / 1024\n"
        "before = row(); audio = read_audio(sys.argv[1]); print(audio.seconds, row() - before)"
    )
    write_wav(tmp_path / "short.wav", speech())
    files = [str(tmp_path / "hour.wav"), str(tmp_path / "short.wav")]
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True)
    seconds, mebibytes = map(float, done.stdout.split())
    assert seconds == 3600
    assert mebibytes < 1.25 * 3600 * 16_000 * 4 / 2**20 + 40


# --- channels and level -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(1, -1), (1, -0.95), (0, 0, 1), (0, 0, 0, 1, 0, 0), (1, -1, 0, 0, 0)])
def test_channels_that_cancel_leave_the_loudest(tmp_path, weights):
    sound = speech()
    write_wav(tmp_path / "mono.wav", sound)
    write_wav(tmp_path / "a.wav", sound[:, None] * np.array(weights))
    audio = read_audio(tmp_path / "a.wav")
    expected = read_audio(tmp_path / "mono.wav").samples
    assert abs(np.corrcoef(audio.samples, expected)[0, 1]) > 0.999
    assert not any("silent" in note for note in audio.notes)
    heard = np.concatenate(list(audio.blocks()))
    assert np.abs(heard).max() > 0.1  # the video is not silent either


def test_silence_is_only_what_is_silent_in_every_channel(tmp_path):
    write_wav(tmp_path / "a.wav", np.full((16_000, 2), 0.25))
    assert any("is silent" in note for note in read_audio(tmp_path / "a.wav").notes)


@pytest.mark.parametrize("constant", [0.02, 0.1, 0.4])
def test_a_constant_changes_nothing_that_is_heard(tmp_path, constant):
    write_wav(tmp_path / "clean.wav", speech())
    write_wav(tmp_path / "a.wav", speech() + constant)
    audio, clean = read_audio(tmp_path / "a.wav"), read_audio(tmp_path / "clean.wav")
    inside = np.abs(speech()) + constant < 0.99
    assert np.abs(audio.samples - clean.samples)[inside].max() < 0.01
    assert any("a constant of" in note for note in audio.notes)
    assert np.concatenate(list(audio.blocks())).mean() == pytest.approx(constant, abs=0.02)  # the video keeps it


@pytest.mark.parametrize("gain", [-20, -30, -40])
def test_quiet_speech_is_heard_at_the_usual_level_and_kept_as_it_is(tmp_path, gain):
    sound = speech() * 10 ** (gain / 20)
    write_wav(tmp_path / "a.wav", sound)
    audio = read_audio(tmp_path / "a.wav")
    assert speech_level(audio.samples) == pytest.approx(USUAL, abs=0.1)
    assert any("is quiet" in note for note in audio.notes)
    np.testing.assert_allclose(np.concatenate(list(audio.blocks()))[:, 0], sound, atol=1e-4)


def test_ordinary_speech_stays_bit_for_bit(tmp_path):
    for gain in (1.0, 0.4, 2.0):
        exact = np.round(np.clip(gain * speech() + 0.001, -1, 1) * 32767) / 32768
        write_wav(tmp_path / "a.wav", exact * 32768 / 32767)
        audio = read_audio(tmp_path / "a.wav")
        np.testing.assert_array_equal(audio.samples, exact.astype(np.float32))
        assert audio.notes == ()


# --- pictures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["avif", "webp", "jpg", "png", "tif", "gif", "jp2", "ico", "heic"])
def test_damaged_pictures_are_one_line(tmp_path, kind, capfd):
    if kind == "heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
        buffer, {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000", "heic": "HEIF"}.get(kind, kind.upper())
    )
    whole = buffer.getvalue()
    path = tmp_path / f"a.{kind}"
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, min(len(data), 400), 3):
            data[place] = rng.choice([0, 1, 127, 255])
        path.write_bytes(data[: rng.integers(len(data) // 2, len(data) + 1)])
        try:
            assert read_image(path).ndim == 3
        except InputError as error:
            assert "; " in str(error) and "\n" not in str(error)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["webp", "png", "bmp", "jpg", "jp2"])
def test_the_limit_of_memory_holds_for_what_is_decoded(tmp_path, kind):
    Image.new("RGB", (1000, 1000)).save(tmp_path / f"a.{kind}")
    fails(read_image, tmp_path / f"a.{kind}", "0.01 GiB", "config.limits.memory", limits=InputLimits(memory=0.01))
    fails(read_image, tmp_path / f"a.{kind}", "config.limits.megapixels", limits=InputLimits(megapixels=0.9))
    assert read_image(tmp_path / f"a.{kind}").shape == (1000, 1000, 3)


def tags(count: int, claimed: int, first: int = 8) -> bytes:
    """A TIFF header whose `count` tags each claim the same `claimed` bytes."""
    entries = b"".join(struct.pack("<HHII", 40_000 + i, 1, claimed, 0) for i in range(count))
    return b"II*\0" + struct.pack("<IH", first, count) + entries


def test_tags_that_claim_a_file_many_times_are_refused_fast(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    block = b"Exif\0\0" + tags(5000, 60_000)
    (tmp_path / "a.jpg").write_bytes(whole[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + whole[2:])
    fails(read_image, tmp_path / "a.jpg", "claim")
    (tmp_path / "b.tif").write_bytes(tags(20_000, 230_000) + bytes(10))
    fails(read_image, tmp_path / "b.tif", "claim")


@pytest.mark.parametrize("tag", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(tmp_path, tag):
    from PIL import ImageOps

    pixels = np.arange(40 * 60 * 3).astype(np.uint8).reshape(40, 60, 3)
    exif = Image.Exif()
    exif[0x0112] = tag
    for kind in ("png", "webp", "tif"):
        path = tmp_path / f"a.{kind}"
        Image.fromarray(pixels).save(path, exif=exif, **({"lossless": True} if kind == "webp" else {}))
        with Image.open(path) as image:
            expected = np.asarray(ImageOps.exif_transpose(image))
        np.testing.assert_array_equal(read_image(path), expected)
    np.testing.assert_array_equal(upright(pixels, tag), expected)


def test_orientation_of_other_writers():
    raw = tags(0, 0)[:8] + struct.pack("<H", 1) + struct.pack("<HHII", 0x0112, 3, 1, 6)
    text = f"\nexif\n      {len(raw) + 6}\n{(b'Exif' + bytes(2) + raw).hex()}"
    assert orientation({"Raw profile type exif": text}) == 6
    assert orientation({"xmp": b'<x tiff:Orientation="8"/>'}) == 8
    assert orientation({"XML:com.adobe.xmp": "<tiff:Orientation>3</tiff:Orientation>"}) == 3
    assert orientation({"exif": b"II*\0\xff\xff\xff\xff"}) == orientation({"exif": b"x"}) == orientation({}) == 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_profile_is_applied_with_and_without_alpha(tmp_path, mode):
    from PIL import ImageCms

    colours = Image.new("RGB", (64, 64), (200, 60, 90))
    lab = ImageCms.createProfile("sRGB")
    data = bytearray(ImageCms.ImageCmsProfile(lab).tobytes())
    place = data.index(b"rXYZ", 128)
    offset = struct.unpack_from(">I", data, place + 4)[0] + 8
    red = np.frombuffer(bytes(data[offset : offset + 12]), ">i4") * 1.2
    data[offset : offset + 12] = red.astype(">i4").tobytes()  # a wider red
    colours.save(tmp_path / "rgb.png", icc_profile=bytes(data))
    (colours.quantize() if mode == "P" else colours.convert(mode)).save(tmp_path / "other.png", icc_profile=bytes(data))
    expected = read_image(tmp_path / "rgb.png")
    assert np.abs(expected[0, 0].astype(int) - (200, 60, 90)).max() > 3
    assert np.abs(read_image(tmp_path / "other.png").astype(int) - expected).max() <= 2


def test_an_icon_is_a_picture(tmp_path):
    Image.new("RGB", (256, 256), (10, 200, 30)).save(tmp_path / "a.ico")
    np.testing.assert_array_equal(read_image(tmp_path / "a.ico")[100, 100], (10, 200, 30))


def test_heic_is_read_or_the_extra_is_named(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    Image.new("RGB", (128, 64), (10, 200, 30)).save(tmp_path / "a.heic")
    assert np.abs(read_image(tmp_path / "a.heic")[9, 9].astype(int) - (10, 200, 30)).max() < 4
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    fails(read_image, tmp_path / "a.heic", "pillow-heif", "extra heic")


def test_the_background_of_a_cut_out_is_chosen(tmp_path):
    Image.new("RGBA", (64, 64), (9, 9, 9, 0)).save(tmp_path / "a.png")
    for text, colour in (("", MATTE), ("white", (255, 255, 255)), ("#204060", (32, 64, 96))):
        assert parse_colour(text) == colour
        np.testing.assert_array_equal(read_image(tmp_path / "a.png", background=colour)[0, 0], colour)


@pytest.mark.parametrize(
    "text", ["nocolour", "rgb(300,0,0)", f"rgb({10**20},0,0)", "hsl(0,200%,300%)", "#12345", "rgb(-1,0,0)", "white "]
)
def test_what_is_no_colour_is_one_line(text):
    for given in (parse_colour, lambda text: read_backdrop(text, where="config.background")):
        with pytest.raises(InputError, match=r"config\.background: '.*' is no(ne| colour); give "):
            given(text)


def test_a_videos_frame_is_a_portrait(tmp_path):
    from drawn_faces import picture

    blank, face = np.full((400, 400, 3), 150, np.uint8), picture(400, 400, (200, 200, 70))
    path = write_video(tmp_path / "clip.mp4", [blank] * 20 + [face] * 30)
    portrait = read_portrait(path, 128)
    assert portrait.pixels.shape == (128, 128, 3)
    assert any("its frame at" in note for note in portrait.notes)
    assert abs(portrait.crop.x + portrait.crop.size / 2 - 200) < 15
    write_wav(tmp_path / "a.wav", speech())
    with pytest.raises(NotAPicture):
        read_portrait(tmp_path / "a.wav", 128)


def test_pixels_that_are_not_square_are_shown_square(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 90, 120, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        frame = av.VideoFrame.from_ndarray(np.full((120, 90, 3), 99, np.uint8), format="rgb24")
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    assert next(read_video(tmp_path / "a.mp4").frames).shape == (120, 120, 3)


# --- output -------------------------------------------------------------------------------------------------------


def test_an_input_is_never_the_output(tmp_path):
    write_wav(tmp_path / "a.mp4", speech())
    (tmp_path / "soft.mp4").symlink_to(tmp_path / "a.mp4")
    os.link(tmp_path / "a.mp4", tmp_path / "hard.mp4")
    for name in ("a.mp4", "soft.mp4", "hard.mp4", "../" + tmp_path.name + "/a.mp4"):
        fails(lambda path: video_output(path, ["missing", tmp_path / "a.mp4"]), tmp_path / name, "also an input")
        fails(lambda path: write_video(path, stills(1), read_audio(tmp_path / "a.mp4")), tmp_path / name, "input")


@pytest.mark.parametrize(
    "name", ["out", "out.gif", "out.mkv", "file/out.mp4", "folder.mp4", "pipe.mp4", "a" * 260 + ".mp4"]
)
def test_outputs_that_cannot_be_are_told_without_a_trace(tmp_path, name):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    before = sorted(tmp_path.iterdir())
    fails(video_output, tmp_path / name)
    fails(video_output, "/proc/out.mp4")
    assert sorted(tmp_path.iterdir()) == before
    assert video_output(tmp_path / "new" / "er" / "out.mp4") == tmp_path / "new" / "er" / "out.mp4"
    assert sorted(tmp_path.iterdir()) == before


def test_the_longest_legal_name_is_written(tmp_path):
    for name in ("a" * 251 + ".mp4", "é" * 125 + ".mp4"):
        assert write_video(tmp_path / name, stills(2)).exists()


def test_a_replaced_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"old")
    (tmp_path / "a.mp4").chmod(0o640)
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    write_video(tmp_path / "link.mp4", stills(2))
    assert (tmp_path / "link.mp4").is_symlink()
    assert (tmp_path / "a.mp4").stat().st_size > 100
    assert stat.S_IMODE((tmp_path / "a.mp4").stat().st_mode) == 0o640


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    code = (
        "import os, sys; from vasa_jax.files import replacing\n"
        "with replacing(sys.argv[1]) as part: part.write_bytes(b'x'); os._exit(9)"
    )
    path = tmp_path / "out.bin"
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    (left,) = tmp_path.iterdir()
    os.utime(left, (1, 1))
    (tmp_path / "other.bin.part").write_bytes(b"mine")
    with replacing(path) as first:
        assert not left.exists()
        first.write_bytes(b"1")
        os.utime(first, (1, 1))
        with replacing(path) as second:  # the first one's writer lives
            second.write_bytes(b"2")
        assert first.exists()
    assert path.read_bytes() == b"1"
    assert {entry.name for entry in tmp_path.iterdir()} == {"out.bin", "other.bin.part"}
