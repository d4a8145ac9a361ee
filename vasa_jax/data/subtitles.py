"""Subtitles: text with times, read from SubRip and WebVTT files or spread over speech, and as a track holds it."""

import dataclasses
import re
from pathlib import Path

import numpy as np

from vasa_jax.conventions import SAMPLE_RATE
from vasa_jax.data.containers import open_text_track
from vasa_jax.data.image_files import existing_file
from vasa_jax.errors import InputError
from vasa_jax.files import read_bytes

LARGEST_FILE = 2**22  # bytes
MOST_CUES = 20_000
LONGEST_CUE = 2000  # characters
DEMUXERS = {".srt": "srt", ".vtt": "webvtt"}
LINE = 42  # characters of a line, and two lines a cue: what broadcasters take
QUIET = 0.02  # of the loudest 20 ms: less is a pause at the ends of the speech


@dataclasses.dataclass(frozen=True)
class Cue:
    """A text that is shown from `start` to `end`, seconds."""

    start: float
    end: float
    text: str


def read_subtitles(path: str | Path, samples: np.ndarray | None = None) -> tuple[Cue, ...]:
    """Reads .srt and .vtt files; of a .txt file the sentences are spread over speech, 16 kHz mono samples (N,).

    InputError for another suffix, text that is not UTF-8, no cue, and cues without length or order.
    """
    path = existing_file(path, "subtitles")
    suffix = path.suffix.lower()
    if suffix not in (*DEMUXERS, ".txt"):
        raise InputError(f"{path}: subtitles are .srt, .vtt or .txt; give such a file")
    content = read_bytes(path, "give a file of subtitles", LARGEST_FILE)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    if suffix == ".txt":
        return spread(text, samples, str(path))
    return _checked(path, _cues(path, DEMUXERS[suffix]))


def spread(text: str, samples: np.ndarray | None, where: str = "text") -> tuple[Cue, ...]:
    """Returns the sentences of a text, spread over speech by their lengths: a guess of when they are said.

    samples: 16 kHz mono (N,). InputError, which begins with `where`, without words or without sound.
    """
    parts = _parts(text)
    if not parts:
        raise InputError(f"{where}: holds no words; write what is said")
    if len(parts) > MOST_CUES:
        raise InputError(f"{where}: holds more than {MOST_CUES} lines; give a shorter text")
    if samples is None or not len(samples):
        raise InputError(f"{where}: there is no sound to spread a text over; give .srt or .vtt, which have times")
    start, end = _spoken(samples)
    ends = start + (end - start) * np.cumsum([len(part) for part in parts]) / sum(map(len, parts))
    starts = [start, *ends[:-1]]
    return tuple(Cue(float(a), float(b), part) for a, b, part in zip(starts, ends, parts))


def within(cues: tuple[Cue, ...], seconds: float) -> tuple[Cue, ...]:
    """Returns the cues of a video's first seconds, the last one cut where it ends."""
    return tuple(dataclasses.replace(cue, end=min(cue.end, seconds)) for cue in cues if cue.start < seconds)


def as_vtt(cues: tuple[Cue, ...]) -> str:
    """Returns a WebVTT file's text."""
    lines = [f"{_clock(cue.start)} --> {_clock(cue.end)}\n{_escaped(cue.text)}\n" for cue in cues]
    return "\n".join(["WEBVTT\n", *lines])


def _cues(path: Path, demuxer: str) -> list[Cue]:
    cues = []
    with open_text_track(path, demuxer) as container:
        for packet in container.demux():
            if packet.pts is None:
                continue
            start, length = (value * packet.time_base for value in (packet.pts, packet.duration or 0))
            text = re.sub(r"<[^<>]*>|\{\\[^{}]*\}", "", bytes(packet).decode("utf-8", "replace"))  # styles
            text = "\n".join(line for line in ("".join(filter(_shown, x)).strip() for x in text.split("\n")) if line)
            if text:
                cues.append(Cue(float(start), float(start + length), _unescaped(text)))
            if len(cues) > MOST_CUES:
                raise InputError(f"{path}: holds more than {MOST_CUES} cues; give a shorter file")
    return cues


def _checked(path: Path, cues: list[Cue]) -> tuple[Cue, ...]:
    if not cues:
        raise InputError(f"{path}: holds no subtitles; write e.g. 00:00:01,000 --> 00:00:02,500 and a line of text")
    cues = sorted(cues, key=lambda cue: cue.start)
    for number, cue in enumerate(cues, 1):
        if not 0 <= cue.start < cue.end:
            raise InputError(f"{path}: cue {number} ends before it starts; mend its times")
        if len(cue.text) > LONGEST_CUE:
            raise InputError(f"{path}: cue {number} has more than {LONGEST_CUE} characters; split it")
    return tuple(cues)


def _parts(text: str) -> list[str]:
    """Sentences and lines of a text, each of at most two lines of LINE characters."""
    sentences = re.split(r"(?<=[.!?…。！？])\s*(?=\S)|\n+", text)
    parts = []
    for sentence in sentences:
        line, lines = "", []
        for word in "".join(c if _shown(c) else " " for c in sentence).split():
            for piece in (word[i : i + LINE] for i in range(0, len(word), LINE)):
                if line and len(line) + 1 + len(piece) > LINE:
                    lines.append(line)
                    line = piece
                else:
                    line = f"{line} {piece}".strip()
        lines += [line] if line else []
        parts += ["\n".join(lines[i : i + 2]) for i in range(0, len(lines), 2)]
    return parts


def _spoken(samples: np.ndarray) -> tuple[float, float]:
    """Seconds from the first to the last sound that is no pause."""
    block = SAMPLE_RATE // 50
    padded = np.pad(np.asarray(samples, np.float32), (0, -len(samples) % block))
    loudness = np.abs(padded.reshape(-1, block)).max(1)
    heard = np.flatnonzero(loudness > QUIET * loudness.max())
    if not len(heard):
        return 0.0, len(samples) / SAMPLE_RATE
    return heard[0] / 50, min((heard[-1] + 1) / 50, len(samples) / SAMPLE_RATE)


def _shown(character: str) -> bool:
    return character.isprintable() or character in "\u200c\u200d"  # joiners of scripts that need them


def _clock(seconds: float) -> str:
    whole = round(seconds * 1000)
    return f"{whole // 3_600_000:02}:{whole // 60_000 % 60:02}:{whole // 1000 % 60:02}.{whole % 1000:03}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
