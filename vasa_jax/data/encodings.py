"""How frames, sound and subtitles become a file: by the suffix of its name, and whether it is transparent."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from vasa_jax.errors import InputError

AAC_RATES = (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)  # ISO 14496-3
# What FFmpeg's encoders of subtitles are opened with, though the packets are made here.
_ASS = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 384
PlayResY: 288

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,sans-serif,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


@dataclass(frozen=True)
class SoundEncoding:
    """codec: FFmpeg's name; rates: Hz that it takes, None = any; block: samples of a packet; form: of samples; bits:
    per sample and channel, 0 = as the codec has them."""

    codec: str
    rates: tuple[int, ...] | None
    block: int
    form: str
    bits: int = 0

    def rate_for(self, source: int) -> int:
        """Returns the rate that sound of another is written at: its own, else the next higher one."""
        if self.rates is None or source in self.rates:
            return source
        return next((rate for rate in self.rates if source < rate <= 48_000), 48_000)


@dataclass(frozen=True)
class Encoding:
    """How a video file is written.

    container, video, pixels: FFmpeg's names of the format, the codec and the layout of pixels; text: of the codec of
    subtitles; mime: of the file; container_options, options: of the format and of the codec.
    """

    container: str
    video: str
    pixels: str
    options: dict[str, str]
    sound: SoundEncoding
    text: str
    mime: str
    container_options: dict[str, str] = field(default_factory=dict)


# 4 bits per sample and channel: transparent for speech, and what AAC allows at low rates.
_AAC = SoundEncoding("aac", AAC_RATES, 1024, "fltp", 4)
_OPUS = SoundEncoding("libopus", (48_000,), 960, "flt", 2)
_PCM = SoundEncoding("pcm_s16le", None, 1024, "s16")
_FAST_START = {"movflags": "faststart"}  # the index comes first: playing can start before the file is complete
_H264 = {"crf": "18", "preset": "veryfast"}
# Alternate reference frames are no longer allowed where the second stream holds the matte (libvpx).
_VP9 = {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "5", "row-mt": "1", "auto-alt-ref": "0"}
_PRORES = {"profile": "4444", "alpha_bits": "16", "vendor": "apl0"}
_MP4 = Encoding("mp4", "libx264", "yuv420p", _H264, _AAC, "mov_text", "video/mp4", _FAST_START)
_OPAQUE = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Encoding("mp4", "libx264", "yuv420p", _H264, _AAC, "mov_text", "video/quicktime", _FAST_START),
    ".webm": Encoding("webm", "libvpx-vp9", "yuv420p", _VP9, _OPUS, "webvtt", "video/webm"),
}
_TRANSPARENT = {
    ".webm": Encoding("webm", "libvpx-vp9", "yuva420p", _VP9, _OPUS, "webvtt", "video/webm"),
    ".mov": Encoding("mov", "prores_ks", "yuva444p10le", _PRORES, _PCM, "mov_text", "video/quicktime", _FAST_START),
}
SEQUENCE = ".zip"  # of PNG pictures, see `picture_sequence.py`
SUFFIXES = (*_OPAQUE, SEQUENCE)
TRANSPARENT_SUFFIXES = (*_TRANSPARENT, SEQUENCE)


def encoding_of(path: Path, transparent: bool) -> Encoding:
    """Returns the encoding of a video file's name; InputError, of `check_transparency`."""
    check_transparency(path, transparent)
    return (_TRANSPARENT if transparent else _OPAQUE)[path.suffix.lower()]


def check_transparency(path: Path, transparent: bool) -> None:
    """Raises InputError where a file of this name holds no transparency, though it should."""
    if transparent and path.suffix.lower() not in TRANSPARENT_SUFFIXES:
        raise InputError(
            f"{path}: H.264 holds no transparency; give a name that ends in .webm (VP9), .mov (ProRes 4444) or .zip "
            "(PNG pictures)"
        )


def mime_of(path: Path) -> str:
    """Returns the MIME type of a file that is written under this name."""
    return "application/zip" if path.suffix.lower() == SEQUENCE else _OPAQUE[path.suffix.lower()].mime


class TextTrack:
    """The subtitles of a container that is written: every cue goes in when the frames reach it."""

    def __init__(self, container, codec: str, cues):
        """cues: in the order of their starts."""
        self._stream = container.add_stream(codec)
        self._stream.codec_context.subtitle_header = _ASS
        self._stream.time_base = Fraction(1, 1000)
        self._codec, self._cues = codec, list(cues)

    def encode_until(self, seconds: float, container) -> None:
        """Writes the cues that start before `seconds`."""
        import av

        while self._cues and self._cues[0].start < seconds:
            cue = self._cues.pop(0)
            data = cue.text.encode()
            if self._codec == "mov_text":  # 3GPP Timed Text: the length comes first
                data = len(data).to_bytes(2, "big") + data
            packet = av.Packet(data)
            packet.stream, packet.time_base = self._stream, Fraction(1, 1000)
            packet.pts = packet.dts = round(1000 * cue.start)
            packet.duration = max(round(1000 * cue.end) - packet.pts, 1)
            container.mux(packet)
