"""Media in and out, on files that the tests make."""

import os
import resource
import stat
import subprocess
import sys
import wave
import zlib

import numpy as np
import pytest
from PIL import Image

from vasa_jax.data.audio_files import Audio, read_audio
from vasa_jax.data.image_files import read_image
from vasa_jax.data.video_files import read_video, write_video
from vasa_jax.errors import InputError


def noise(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Bursts of low-passed noise, float64 (n, channels): sharp in cross-correlation, kind to AAC."""
    rng = np.random.default_rng(seed)
    n = int(seconds * rate)
    width = max(1, rate // 5000)
    sound = rng.standard_normal((n + width, channels)) * 0.2
    sound = np.stack([np.convolve(c, np.ones(width) / width, "valid")[:n] for c in sound.T], axis=1)
    return sound * (0.2 + (np.sin(2 * np.pi * 2.3 * np.arange(n) / rate) > 0))[:, None]


def write_wav(path, samples: np.ndarray, rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())


def frames(count: int, size: int = 64):
    y, x = np.mgrid[:size, :size] / size
    for i in range(count):
        frame = np.stack([x, y, 0.5 + 0.5 * np.sin(6 * x + 0.3 * i)], axis=-1)
        yield (255 * frame).astype(np.uint8)


def lag_ms(a: np.ndarray, b: np.ndarray, rate: int) -> tuple[float, float]:
    """How much later `a` is than `b` in milliseconds, and the correlation there."""
    n = min(len(a), len(b))
    size = 1 << (2 * n).bit_length()
    curve = np.fft.irfft(np.fft.rfft(a[:n], size) * np.conj(np.fft.rfft(b[:n], size)))
    best = int(np.argmax(curve))
    height = curve[best] / np.sqrt((a[:n].astype(float) ** 2).sum() * (b[:n].astype(float) ** 2).sum())
    return 1000 * (best - size * (best > size // 2)) / rate, height


def fails(function, path, *words) -> None:
    with pytest.raises(InputError) as error:
        function(path)
    text = str(error.value)
    assert text.startswith(f"{path}: "), text
    assert "\n" not in text
    assert "; " in text
    for word in words:
        assert word in text, text


# --- pictures -----------------------------------------------------------------------------------------------------


@pytest.fixture
def colours() -> np.ndarray:
    """Smooth, so that lossy formats keep it; different along both axes, so that a wrong turn shows."""
    y, x = np.mgrid[:48, :64] / 64
    return (255 * np.stack([x, y, 0.5 * (x + y)], axis=-1)).astype(np.uint8)


def test_orientation_tag_is_applied(tmp_path, colours):
    for tag, turned in ((3, colours[::-1, ::-1]), (6, np.rot90(colours)), (8, np.rot90(colours, -1))):
        exif = Image.Exif()
        exif[0x0112] = tag
        Image.fromarray(np.ascontiguousarray(turned)).save(tmp_path / "a.png", exif=exif)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colours)


def test_transparency_shows_grey(tmp_path, colours):
    alpha = np.full(colours.shape[:2], 255, np.uint8)
    alpha[:, :10] = 0
    alpha[:, 10:20] = 51
    Image.fromarray(np.dstack([colours, alpha])).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image[:, 20:], colours[:, 20:])
    np.testing.assert_array_equal(image[:, :10], np.full((48, 10, 3), 128))
    assert np.abs(image[:, 10:20] - (0.2 * colours[:, 10:20] + 0.8 * 128)).max() <= 0.51


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "CMYK", "I;16", "F"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    grey = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    if mode == "I;16":
        image, name = Image.fromarray(grey.astype(np.uint16) * 257), "a.png"
    elif mode == "F":
        image, name = Image.fromarray(grey.astype(np.float32) / 255), "a.tif"
    else:
        image, name = Image.fromarray(grey).convert(mode), "a.jpg" if mode == "CMYK" else "a.png"
    image.save(tmp_path / name)
    result = read_image(tmp_path / name)
    assert result.shape == (48, 64, 3)
    assert result.dtype == np.uint8
    expected = np.asarray(Image.fromarray(grey).convert("1")) * 255.0 if mode == "1" else grey
    assert np.abs(result.astype(float) - expected[..., None]).max() <= (6 if mode == "CMYK" else 1)


def test_the_content_decides_not_the_name(tmp_path, colours):
    Image.fromarray(colours).save(tmp_path / "a.webp", lossless=True)
    os.rename(tmp_path / "a.webp", tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), colours)


def test_an_embedded_profile_becomes_srgb(tmp_path, colours):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(colours).save(tmp_path / "a.png", icc_profile=profile)
    assert np.abs(read_image(tmp_path / "a.png").astype(int) - colours).max() <= 1
    Image.fromarray(colours).save(tmp_path / "b.png", icc_profile=b"broken")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), colours)


def test_bad_pictures(tmp_path, colours):
    fails(read_image, tmp_path / "none.png", "does not exist")
    fails(read_image, tmp_path, "is a folder")
    (tmp_path / "empty.png").write_bytes(b"")
    fails(read_image, tmp_path / "empty.png", "0 bytes")
    (tmp_path / "text.png").write_text("no picture")
    fails(read_image, tmp_path / "text.png", "not a picture")
    (tmp_path / "program.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n")
    fails(read_image, tmp_path / "program.png", "not a picture")
    rough = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    for kind in ("png", "jpg", "webp", "tif"):
        Image.fromarray(rough).save(tmp_path / f"whole.{kind}")
        data = (tmp_path / f"whole.{kind}").read_bytes()
        (tmp_path / f"half.{kind}").write_bytes(data[: len(data) // 2])
        fails(read_image, tmp_path / f"half.{kind}")
    Image.fromarray(colours[:20]).save(tmp_path / "tiny.png")
    fails(read_image, tmp_path / "tiny.png", "64 x 20")
    os.mkfifo(tmp_path / "pipe.png")
    fails(read_image, tmp_path / "pipe.png", "regular file")


def test_a_bomb_is_refused_from_its_header(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "bomb.png")
    data = (tmp_path / "bomb.png").read_bytes()
    for side in (11_000, 60_000):  # beyond our limit; beyond Pillow's own
        header = b"IHDR" + side.to_bytes(4, "big") * 2 + data[24:29]
        bomb = data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]
        (tmp_path / "bomb.png").write_bytes(bomb)
        fails(read_image, tmp_path / "bomb.png", "too many")


# --- sound in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (16000, 1), (22050, 1), (44100, 2), (48000, 2), (48000, 6)])
def test_any_rate_and_channels_become_16k_mono(tmp_path, rate, channels):
    import soxr

    sound = noise(1.3, rate, channels)
    write_wav(tmp_path / "a.wav", sound, rate)
    audio = read_audio(tmp_path / "a.wav")
    assert audio.samples.dtype == np.float32
    assert (audio.rate, audio.channels, audio.start, audio.notes) == (rate, min(channels, 2), 0.0, ())
    assert abs(len(audio.samples) - 1.3 * 16000) <= 1
    assert audio.frames == -(-len(audio.samples) // 640)
    if channels <= 2:
        expected = soxr.resample(sound.mean(1), rate, 16000)
        assert np.abs(audio.samples - expected[: len(audio.samples)]).max() < 1e-3
        original = np.concatenate(list(audio.blocks()))
        np.testing.assert_allclose(original, sound, atol=1e-4)


def test_streamed_decoding_equals_memory(tmp_path):
    sound = noise(5.7, 44100, 2)
    write_wav(tmp_path / "a.wav", sound, 44100)
    samples = read_audio(tmp_path / "a.wav").samples
    memory = Audio.from_samples(np.round(sound * 32767) / 32768, 44100)
    assert np.abs(samples - memory.samples).max() < 1e-4
    assert sum(len(block) for block in memory.blocks()) == len(sound)


def test_sound_of_a_video_and_wrong_names(tmp_path):
    audio = Audio.from_samples(noise(1.0, 16000))
    path = write_video(tmp_path / "clip.mp4", frames(25), audio)
    os.rename(path, tmp_path / "clip.wav")
    read = read_audio(tmp_path / "clip.wav")
    assert lag_ms(read.samples, audio.samples, 16000)[0] == 0
    write_wav(tmp_path / "odd: %03d.mp3", noise(1.0, 16000), 16000)
    assert read_audio(tmp_path / "odd: %03d.mp3").frames == 25


def test_late_sound_is_known(tmp_path):
    import av

    with av.open(str(tmp_path / "late.mkv"), "w") as file:
        picture = file.add_stream("mpeg4", rate=25)
        picture.width = picture.height = 64
        track = file.add_stream("pcm_s16le", rate=16000, layout="mono")
        for i, pixels in enumerate(frames(50)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = i
            file.mux(picture.encode(frame))
        file.mux(picture.encode(None))
        sound = (noise(1.0, 16000).T * 32767).astype(np.int16)
        for part, begin in ((sound[:, :8000], 6400), (sound[:, 8000:], 6400 + 8000 + 3200)):  # a hole of 200 ms
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, begin
            file.mux(track.encode(frame))
        file.mux(track.encode(None))
    audio = read_audio(tmp_path / "late.mkv")
    assert audio.start == pytest.approx(0.4, abs=0.002)
    assert len(audio.samples) == pytest.approx(19200, abs=32)
    assert np.abs(audio.samples[8050:11150]).max() == 0


def test_silence_short_and_cut(tmp_path):
    write_wav(tmp_path / "silent.wav", np.zeros((8000, 1)), 16000)
    assert "is silent" in read_audio(tmp_path / "silent.wav").notes[0]
    write_wav(tmp_path / "short.wav", noise(0.03, 16000), 16000)
    fails(read_audio, tmp_path / "short.wav", "30 ms", "40 ms")
    write_wav(tmp_path / "frame.wav", noise(0.04, 16000), 16000)
    assert read_audio(tmp_path / "frame.wav").frames == 1
    write_wav(tmp_path / "whole.wav", noise(2.0, 16000), 16000)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "whole.wav").read_bytes()[:32044])
    audio = read_audio(tmp_path / "cut.wav")
    assert len(audio.samples) == 16000
    assert "cut short: 1.0 s of 2.0 s" in audio.notes[0]


def test_bad_sound(tmp_path):
    fails(read_audio, tmp_path / "none.wav", "does not exist")
    fails(read_audio, tmp_path, "is a folder")
    (tmp_path / "empty.wav").write_bytes(b"")
    fails(read_audio, tmp_path / "empty.wav", "0 bytes")
    write_wav(tmp_path / "nothing.wav", np.zeros((0, 1)), 16000)
    fails(read_audio, tmp_path / "nothing.wav", "empty")
    (tmp_path / "random.mp3").write_bytes(np.random.default_rng(0).bytes(30000))
    fails(read_audio, tmp_path / "random.mp3")
    fails(read_audio, write_video(tmp_path / "mute.mp4", frames(3)), "has no sound")
    path = write_video(tmp_path / "clip.mp4", frames(25), Audio.from_samples(noise(1.0, 16000)))
    data = path.read_bytes()
    (tmp_path / "headless.mp4").write_bytes(data[:28] + data[len(data) // 2 :])
    fails(read_audio, tmp_path / "headless.mp4")
    (tmp_path / "list.ffconcat").write_text(f"ffconcat version 1.0\nfile '{path}'\n")
    fails(read_audio, tmp_path / "list.ffconcat")


def test_values_out_of_range_are_bounded():
    sound = np.array([np.nan, np.inf, -np.inf, 5.0, -0.5] * 200, np.float32)
    audio = Audio.from_samples(sound)
    np.testing.assert_array_equal(audio.samples[:5], np.array([0, 1, -1, 1, -0.5], np.float32))


# --- video --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "channels", "kept"),
    [(48000, 2, 48000), (44100, 2, 44100), (16000, 1, 16000), (8000, 1, 8000), (192000, 2, 48000), (37800, 1, 44100)],
)
def test_picture_and_original_sound_start_together(tmp_path, rate, channels, kept):
    import av

    sound = noise(2.03, rate, channels)
    write_wav(tmp_path / "a.wav", sound, rate)
    audio = read_audio(tmp_path / "a.wav")
    path = write_video(tmp_path / "deep" / "er" / "out.mp4", frames(audio.frames), audio, title="Test")
    result = read_audio(path)
    assert (result.rate, result.channels, result.start) == (kept, channels, 0.0)
    lag, height = lag_ms(result.samples, audio.samples, 16000)
    assert abs(lag) < 1.0
    assert height > 0.95
    if kept == rate:
        decoded = np.concatenate(list(result.blocks()))
        for channel in range(channels):  # each side is itself, not a mixture
            lag, height = lag_ms(decoded[:, channel], sound[:, channel], rate)
            assert abs(lag) < 1.0
            assert height > 0.9
    with av.open(str(path)) as file:
        video, track = file.streams.video[0], file.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert track.codec_context.name == "aac"
        assert video.average_rate == 25
        assert video.frames == audio.frames == 51
        assert video.start_time == 0
        assert (track.start_time or 0) == 0
        assert "AI-generated" in file.metadata["comment"]
        assert file.metadata["title"] == "Test"
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert [p.name for p in path.parent.iterdir()] == ["out.mp4"]
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "a.wav").stat().st_mode)


def test_pictures_survive(tmp_path):
    video = read_video(write_video(tmp_path / "a.mp4", frames(30, 128)))
    assert video.fps == 25
    assert video.seconds == pytest.approx(1.2)
    pictures = list(video.frames)
    assert len(pictures) == 30
    errors = [np.mean((a.astype(float) - b) ** 2) for a, b in zip(pictures, frames(30, 128))]
    assert 10 * np.log10(255**2 / np.mean(errors)) > 36
    drift = np.mean([a.astype(float) - b for a, b in zip(pictures, frames(30, 128))], axis=(0, 1, 2))
    assert np.abs(drift).max() < 2.0  # a wrong colour matrix or range shifts the means


def test_sound_ends_with_the_picture(tmp_path):
    audio = Audio.from_samples(noise(3.0, 16000))
    path = write_video(tmp_path / "a.mp4", frames(25), audio)
    assert len(read_audio(path).samples) / 16000 == pytest.approx(1.0, abs=0.065)  # AAC ends on a block of 64 ms


def test_another_rate(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames(60), fps=30)
    assert len(list(read_video(path).frames)) == 60
    assert len(list(read_video(path, fps=25).frames)) == 50
    path = write_video(tmp_path / "b.mp4", frames(25), fps=25)
    same, plain = list(read_video(path, fps=25).frames), list(read_video(path).frames)
    np.testing.assert_array_equal(same, plain)
    assert len(list(read_video(path, fps=50).frames)) == 50


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("broken"), InputError("x: y; z")])
def test_an_error_leaves_nothing_and_keeps_the_old_file(tmp_path, error):
    def broken():
        yield from frames(30)
        raise error

    (tmp_path / "out.mp4").write_bytes(b"old")
    with pytest.raises(type(error)):
        write_video(tmp_path / "out.mp4", broken(), Audio.from_samples(noise(2.0, 16000)))
    assert (tmp_path / "out.mp4").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_no_frames_and_wrong_frames(tmp_path):
    for bad in (
        [],
        [np.zeros((64, 64, 3), np.float32)],
        [np.zeros((63, 64, 3), np.uint8)],
        [np.zeros((64, 64, 3), np.uint8), np.zeros((32, 32, 3), np.uint8)],
    ):
        with pytest.raises(ValueError):
            write_video(tmp_path / "out.mp4", bad)
    assert not list(tmp_path.iterdir())


def test_paths_that_cannot_be_written(tmp_path):
    asked = []

    def never():
        asked.append(1)
        yield from frames(1)

    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.mp4").mkdir()
    for path in (tmp_path / "file" / "out.mp4", tmp_path / "folder.mp4", tmp_path / "out.avi"):
        fails(lambda p: write_video(p, never()), path)
    assert not asked


def test_a_full_disk_is_told(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(60)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(InputError) as error:
            write_video(tmp_path / "out.mp4", pictures)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_bad_videos(tmp_path):
    write_wav(tmp_path / "a.wav", noise(1.0, 16000), 16000)
    fails(read_video, tmp_path / "a.wav", "no picture track")
    fails(read_video, tmp_path / "none.mp4", "does not exist")
    path = write_video(tmp_path / "a.mp4", frames(25))
    (tmp_path / "half.mp4").write_bytes(path.read_bytes()[:400])
    fails(lambda p: list(read_video(p).frames), tmp_path / "half.mp4")


def test_importing_media_is_light():
    modules = ", ".join(f"vasa_jax.data.{name}" for name in ("audio_files", "image_files", "video_files", "face_crop"))
    code = f"import {modules}, sys; print({{'av', 'cv2', 'PIL'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
