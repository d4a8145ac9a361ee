"""Frames and sound as fragmented MP4, which a browser's Media Source Extensions play as it comes.

One initialisation segment, then one fragment per hop that holds both tracks. Times are exact: H.264 has no frames out
of order, and the AAC encoder's first packet, which only fills its overlap, is left out. ISO/IEC 14496-12, -14, -15.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np

from vasa_jax.conventions import FPS

RATE = 48_000  # Hz, of the sound
PER_FRAME = RATE // FPS  # samples
AAC_BLOCK = 1024  # samples per packet
VIDEO, SOUND = 1, 2  # numbers of the tracks
_UNITY = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_KEY, _DELTA = 0x02000000, 0x01010000  # sample flags: a key frame, and what depends on one


class FragmentWriter:
    """Encodes hops. `mime` and `start` (the initialisation segment) are known at once.

    Attributes:
      mime: what a SourceBuffer is made for.
      start: bytes that come before every fragment.
      size: pixels per side.
    """

    def __init__(self, size: int, bit_rate: int = 96_000):
        """size: pixels per side of the frames."""
        import av

        video = av.CodecContext.create("libx264", "w")
        video.width = video.height = size
        video.pix_fmt, video.time_base, video.framerate = "yuv420p", Fraction(1, FPS), Fraction(FPS)
        video.options = {"preset": "veryfast", "tune": "zerolatency", "crf": "20", "g": str(FPS)}
        video.flags |= 1 << 22  # AV_CODEC_FLAG_GLOBAL_HEADER: parameter sets apart from the frames
        video.colorspace, video.color_range, video.color_primaries, video.color_trc = 6, 1, 1, 1
        video.thread_count = 1
        sound = av.CodecContext.create("aac", "w")
        sound.sample_rate, sound.layout, sound.format = RATE, "mono", "fltp"
        sound.bit_rate, sound.time_base = bit_rate, Fraction(1, RATE)
        sound.flags |= 1 << 22
        video.open(), sound.open()
        self._video, self._sound, self.size = video, sound, size
        self._held = np.zeros(0, np.float32)  # sound of less than a packet
        self._sent, self._number = 0, 0
        self._begin: int | None = None  # sample with which the sound begins
        sets = _units(bytes(video.extradata))
        sps = next(unit for unit in sets if unit[0] & 31 == 7)
        pps = next(unit for unit in sets if unit[0] & 31 == 8)
        self.mime = f'video/mp4; codecs="avc1.{sps[1:4].hex()}, mp4a.40.2"'
        self.start = _start(size, sps, pps, bytes(sound.extradata))

    def fragment(
        self, first: int, frames: Sequence[np.ndarray], shown: Sequence[int], samples: np.ndarray, key: bool = False
    ) -> bytes:
        """Returns one fragment.

        Args:
          first: number of its first frame since the start, 25 per second; at the first call the sound begins there too,
            later it follows on from the last call's.
          frames: uint8 (n, n, 3); `shown`: for how many of these each stays.
          samples: float32 (N,) at `RATE`; may reach beyond the frames, so that whole packets cover them.
          key: whether the first frame can be decoded without those before it.
        """
        import av

        if self._begin is None:
            self._begin = self._sent = first * PER_FRAME
        pictures, time = [], first
        for index, (frame, stays) in enumerate(zip(frames, shown)):
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            image.pts, image.time_base = time, Fraction(1, FPS)
            if key and not index:
                image.pict_type = av.video.frame.PictureType.I
            for packet in self._video.encode(image):
                data = b"".join(struct.pack(">I", len(unit)) + unit for unit in _units(bytes(packet)))
                pictures.append((stays, data, _KEY if packet.is_keyframe else _DELTA))
            time += stays
        packets, begin = self._packets(samples)
        self._number += 1
        tracks = [(VIDEO, first, pictures), (SOUND, begin, packets)]
        return _fragment(self._number, [track for track in tracks if track[2]])

    def _packets(self, samples: np.ndarray) -> tuple[list[tuple[int, bytes, int]], int]:
        """Returns the packets that are complete, and the time of the first, in samples."""
        import av

        self._held = np.concatenate([self._held, samples.astype(np.float32)])
        packets, begin = [], 0
        while len(self._held) >= AAC_BLOCK:
            frame = av.AudioFrame.from_ndarray(self._held[None, :AAC_BLOCK], format="fltp", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), self._sent
            self._held, self._sent = self._held[AAC_BLOCK:], self._sent + AAC_BLOCK
            for packet in self._sound.encode(frame):
                if packet.pts < self._begin:  # the encoder's own beginning
                    continue
                begin = begin if packets else packet.pts
                packets.append((AAC_BLOCK, bytes(packet), _KEY))
        return packets, begin


def fragment_ends(fragment: bytes) -> tuple[float, float]:
    """Returns where pictures and sound of a fragment end, seconds since the start; NaN for a track it does not hold."""
    ends = {VIDEO: math.nan, SOUND: math.nan}
    for kind, content in _boxes(dict(_boxes(fragment))[b"moof"]):
        if kind == b"traf":
            parts = dict(_boxes(content))
            (track,), (begin,) = struct.unpack(">4xI", parts[b"tfhd"]), struct.unpack(">4xQ", parts[b"tfdt"])
            lasts = sum(row[0] for row in struct.iter_unpack(">III", parts[b"trun"][12:]))
            ends[track] = (begin + lasts) / {VIDEO: FPS, SOUND: RATE}[track]
    return ends[VIDEO], ends[SOUND]


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields kind and content of every box of a file, or of a box."""
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + size]
        at += size


def _units(stream: bytes) -> list[bytes]:
    """Splits H.264 with start codes into its units."""
    parts = stream.split(b"\0\0\1")[1:]
    return [part.rstrip(b"\0") for part in parts]


def _box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full(kind: bytes, version: int, flags: int, *content: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *content)


def _start(size: int, sps: bytes, pps: bytes, config: bytes) -> bytes:
    head = _full(b"mvhd", 0, 0, struct.pack(">IIIIIH10x", 0, 0, 1000, 0, 0x10000, 0x100), _UNITY, bytes(24),
                 struct.pack(">I", 3))  # fmt: skip
    avc = _box(
        b"avcC", b"\1", sps[1:4], b"\xff\xe1", struct.pack(">H", len(sps)), sps, b"\1", struct.pack(">H", len(pps)), pps
    )
    colour = _box(b"colr", b"nclx", struct.pack(">HHHB", 1, 1, 6, 0))
    picture = _box(
        b"avc1", bytes(6), struct.pack(">H16xHHIII H32xHh".replace(" ", ""), 1, size, size, 0x480000, 0x480000, 0, 1,
                                       24, -1), avc, colour,
    )  # fmt: skip
    decoder = _tag(4, struct.pack(">BB3xII", 0x40, 0x15, 0, 0) + _tag(5, config))
    stream = _full(b"esds", 0, 0, _tag(3, struct.pack(">HB", SOUND, 0) + decoder + _tag(6, b"\2")))
    voice = _box(b"mp4a", bytes(6), struct.pack(">H8xHHHHI", 1, 1, 16, 0, 0, RATE << 16), stream)
    video = _track(VIDEO, size, FPS, b"vide", _full(b"vmhd", 0, 1, bytes(8)), picture)
    sound = _track(SOUND, 0, RATE, b"soun", _full(b"smhd", 0, 0, bytes(4)), voice)
    extends = [_full(b"trex", 0, 0, struct.pack(">5I", track, 1, 0, 0, 0)) for track in (VIDEO, SOUND)]
    return _box(b"ftyp", b"iso6", bytes(4), b"iso6isommp41") + _box(
        b"moov", head, video, sound, _box(b"mvex", *extends)
    )


def _tag(kind: int, content: bytes) -> bytes:
    return bytes([kind, len(content)]) + content


def _track(number: int, size: int, scale: int, handler: bytes, media_head: bytes, entry: bytes) -> bytes:
    volume = 0x100 if handler == b"soun" else 0
    head = _full(b"tkhd", 0, 7, struct.pack(">IIIII8xHHHH", 0, 0, number, 0, 0, 0, 0, volume, 0), _UNITY,
                 struct.pack(">II", size << 16, size << 16))  # fmt: skip
    media = _full(b"mdhd", 0, 0, struct.pack(">IIIIHH", 0, 0, scale, 0, 0x55C4, 0))
    handles = _full(b"hdlr", 0, 0, bytes(4), handler, bytes(12), b"vasa_jax\0")
    data = _box(b"dinf", _full(b"dref", 0, 0, struct.pack(">I", 1), _full(b"url ", 0, 1)))
    table = _box(
        b"stbl", _full(b"stsd", 0, 0, struct.pack(">I", 1), entry), _full(b"stts", 0, 0, bytes(4)),
        _full(b"stsc", 0, 0, bytes(4)), _full(b"stsz", 0, 0, bytes(8)), _full(b"stco", 0, 0, bytes(4)),
    )  # fmt: skip
    return _box(b"trak", head, _box(b"mdia", media, handles, _box(b"minf", media_head, data, table)))


def _fragment(number: int, tracks: list[tuple[int, int, list[tuple[int, bytes, int]]]]) -> bytes:
    """tracks: (number, begin in its own time scale, samples as (duration, data, flags))."""

    def movie(offsets: Sequence[int]) -> bytes:
        parts = []
        for (track, begin, samples), offset in zip(tracks, offsets):
            rows = b"".join(struct.pack(">III", stays, len(data), flags) for stays, data, flags in samples)
            parts.append(
                _box(
                    b"traf",
                    _full(b"tfhd", 0, 0x20000, struct.pack(">I", track)),  # offsets count from this fragment
                    _full(b"tfdt", 1, 0, struct.pack(">Q", begin)),
                    _full(b"trun", 0, 0x701, struct.pack(">II", len(samples), offset), rows),
                )
            )
        return _box(b"moof", _full(b"mfhd", 0, 0, struct.pack(">I", number)), *parts)

    content = [b"".join(data for _, data, _ in samples) for _, _, samples in tracks]
    offset, offsets = len(movie([0] * len(tracks))) + 8, []
    for data in content:
        offsets.append(offset)
        offset += len(data)
    return movie(offsets) + _box(b"mdat", *content)
