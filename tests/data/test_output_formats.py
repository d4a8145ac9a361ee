"""What a video is written as: containers and codecs by suffix, transparency, sequences of pictures, subtitles."""

import io
import itertools
import wave
import zipfile
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from vasa_jax.data.audio_files import Audio, read_audio
from vasa_jax.data.output_files import AI_COMMENT
from vasa_jax.data.subtitles import LINE, Cue, as_vtt, read_subtitles, spread, within
from vasa_jax.data.video_files import read_video, write_video
from vasa_jax.errors import InputError

RATE = 44_100
CUES = (Cue(0.1, 0.5, "Guten Tag <&> ça va"), Cue(0.6, 0.9, "two\nlines"))


def sound(seconds=1.0, channels=2):
    time = np.arange(round(seconds * RATE)) / RATE
    return Audio.from_samples(np.stack([0.4 * np.sin(2 * np.pi * f * time) for f in (440, 660)[:channels]], 1), RATE)


def frames(count=25, channels=3, height=64, width=96):
    """A bright square on grey; with a matte, opaque within the square alone."""
    made = np.full((count, height, width, channels), 90, np.uint8)
    made[..., 3:] = 0
    for i, frame in enumerate(made):
        frame[16:48, 16 + i : 48 + i] = 200
        frame[16:48, 16 + i : 48 + i, 3:] = 255
    return made


def layers(path):
    """The frames of a transparent video, uint8 (T, H, W, 4), with decoders that know of the matte."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.codec_context.name != "vp9":
            return [frame.to_ndarray(format="rgba") for frame in container.decode(stream)]
        decoder = av.codec.CodecContext.create("libvpx-vp9", "r")
        packets = [packet for packet in container.demux(stream) if packet.size]
        return [frame.to_ndarray(format="rgba") for packet in packets for frame in decoder.decode(packet)]


@pytest.mark.parametrize(
    ("name", "transparent", "codecs"),
    [
        ("a.mp4", False, ["h264", "aac", "mov_text"]),
        ("a.mov", False, ["h264", "aac", "mov_text"]),
        ("a.webm", False, ["vp9", "opus", "webvtt"]),
        ("a.webm", True, ["vp9", "opus", "webvtt"]),
        ("a.mov", True, ["prores", "pcm_s16le", "mov_text"]),
    ],
)
def test_codecs_streams_and_times(tmp_path, name, transparent, codecs):
    shown = frames(30, 3 + transparent)
    path = write_video(tmp_path / name, shown, sound(1.2), 30, transparent=transparent, subtitles=CUES)
    with av.open(str(path)) as container:
        assert [stream.codec_context.name for stream in container.streams] == codecs
        assert container.metadata["comment" if "comment" in container.metadata else "COMMENT"] == AI_COMMENT
        assert abs(container.streams.video[0].average_rate - 30) < Fraction(1, 100)
        cues = [packet for packet in container.demux(container.streams[2]) if packet.size > 2]
        told = [bytes(cue).decode()[2 * (codecs[2] == "mov_text") :] for cue in cues]
        assert told == [cue.text for cue in CUES]
        assert [float(cue.pts * cue.time_base) for cue in cues] == pytest.approx([cue.start for cue in CUES], abs=2e-3)
    assert len(list(read_video(path).frames)) == 30
    heard = read_audio(path)  # cut where the frames end: 1 s of it
    assert heard.seconds == pytest.approx(1.0, abs=0.03)
    spectrum = np.abs(np.fft.rfft(heard.samples[4000:12_000]))
    assert {int(i) * 2 for i in np.argsort(spectrum)[-2:]} == {440, 660}  # Hz: at its own pace
    if transparent:
        made = layers(path)
        assert len(made) == 30
        for got, want in zip(made, shown):
            assert np.abs(got[..., 3].astype(int) - want[..., 3]).mean() < 3
            assert np.abs(got[20:44, 50:60, :3].astype(int) - want[20:44, 50:60, :3]).max() < 12 or got[30, 50, 3] < 250


def test_a_sequence_of_pictures(tmp_path):
    shown, heard = frames(5, 4), sound()
    path = write_video(tmp_path / "a.zip", shown, heard, 25, transparent=True, subtitles=CUES)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = [f"{i:05}.png" for i in range(5)]
        assert archive.namelist() == [*names, "sound.wav", "subtitles.vtt", "ReadMe.txt"]
        for name, frame in zip(names, shown):
            picture = Image.open(io.BytesIO(archive.read(name)))
            np.testing.assert_array_equal(np.asarray(picture), frame)
            assert picture.text["Comment"] == AI_COMMENT
        with wave.open(io.BytesIO(archive.read("sound.wav"))) as file:
            assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (RATE, 2, RATE // 5)
            kept = np.frombuffer(file.readframes(10**6), "<i2").reshape(-1, 2) / 32768
        np.testing.assert_allclose(kept, heard.original[: RATE // 5], atol=1 / 32768)
        assert "25 frames per second" in archive.read("ReadMe.txt").decode()


def test_what_fails_leaves_nothing(tmp_path):
    def broken():
        yield frames(1)[0]
        raise RuntimeError("the network")

    for name in ("a.zip", "a.webm"):
        with pytest.raises(RuntimeError, match="the network"):
            write_video(tmp_path / name, broken(), sound())
        with pytest.raises(ValueError, match="no frames"):
            write_video(tmp_path / name, [], None)
        with pytest.raises(ValueError, match="another size"):
            write_video(tmp_path / name, [frames(1)[0], frames(1, height=32)[0]])
        with pytest.raises(ValueError, match="must be uint8"):
            write_video(tmp_path / name, [frames(1, 4)[0]])
    with pytest.raises(InputError, match=r"H.264 holds no transparency; give a name that ends in \.webm"):
        write_video(tmp_path / "a.mp4", frames(1, 4), transparent=True)
    with pytest.raises(InputError, match=r"ends in \.mp4"):
        write_video(tmp_path / "a.gif", frames(1))
    assert not list(tmp_path.iterdir())


SRT = """1
00:00:00,100 --> 00:00:00,500
<i>Guten Tag</i> &lt;&amp;&gt; {\\an8}ça va

2
00:00:00,600 --> 00:00:00,900
two
lines
"""
VTT = """WEBVTT

NOTE no

x
00:00.100 --> 00:00.500 align:left
<v Anna>Guten Tag</v> &lt;&amp;&gt; ça va

00:00.600 --> 00:00.900
two
lines
"""


def test_subtitle_files(tmp_path):
    (tmp_path / "a.srt").write_text(SRT)
    (tmp_path / "b.VTT").write_bytes(b"\xef\xbb\xbf" + VTT.encode())
    for name in ("a.srt", "b.VTT"):
        assert read_subtitles(tmp_path / name) == CUES
    (tmp_path / "c.vtt").write_text(as_vtt(CUES))
    assert read_subtitles(tmp_path / "c.vtt") == CUES
    assert within(CUES, 0.7) == (CUES[0], Cue(0.6, 0.7, "two\nlines")) and within(CUES, 0.05) == ()
    assert as_vtt((Cue(3661.0015, 3662, "x"),)).splitlines()[2] == "01:01:01.002 --> 01:01:02.000"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.ass", b"x", ".srt, .vtt or .txt"),
        ("a.srt", b"", "empty"),
        ("a.srt", b"hello", "holds no subtitles"),
        ("a.vtt", b"WEBVTT\n\nhello", "holds no subtitles"),
        ("a.srt", b"1\n00:00:02,000 --> 00:00:01,000\nx\n", "cue 1 ends before it starts"),
        ("a.srt", b"1\n00:00:01,000 --> 00:00:02,000\n" + b"x" * 3000, "more than 2000 characters"),
        ("a.srt", b"\xff\xfe1\x00", "UTF-8"),
        ("a.txt", b" \n\t", "holds no words"),
        ("a.txt", b"hello", "no sound"),
    ],
)
def test_bad_subtitles(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as fault:
        read_subtitles(tmp_path / name)
    assert words in str(fault.value) and name in str(fault.value) and "\n" not in str(fault.value)


def test_text_is_spread_over_what_is_spoken():
    samples = np.r_[np.zeros(8000), np.ones(16_000), np.zeros(16_000)].astype(np.float32)
    cues = spread("One two. Three four! Five six?", samples)
    assert [cue.text for cue in cues] == ["One two.", "Three four!", "Five six?"]
    assert cues[0].start == 0.5 and cues[-1].end == pytest.approx(1.5)
    assert all(a.end == b.start for a, b in itertools.pairwise(cues))
    long = spread("word " * 60 + "x" * 100, samples)
    assert max(len(line) for cue in long for line in cue.text.split("\n")) <= LINE
    assert " ".join(line for cue in long for line in cue.text.split("\n")).replace(" ", "") == "word" * 60 + "x" * 100
    assert spread("a\x00b\x1b[0m", samples)[0].text == "a b [0m"
