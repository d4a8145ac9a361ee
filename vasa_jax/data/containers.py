"""Sound and video containers, opened with FFmpeg: one local file, of a format that holds its own data."""

from __future__ import annotations

import os
from pathlib import Path

from vasa_jax.errors import InputError
from vasa_jax.limits import DEFAULT_LIMITS, InputLimits

# FFmpeg's demuxers that read nothing but the file itself. Playlists (hls, dash, concat, sdp), numbered pictures and
# devices open other files; formats without a mark of their own are guessed wrongly.
FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,ircam,ivf,matroska,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,"
    "nistsphere,nut,ogg,sox,tak,tta,voc,w64,wav,wv"
)


def open_container(path: Path, limits: InputLimits = DEFAULT_LIMITS):
    """Opens a sound or video file and returns PyAV's container.

    Neither the network nor another file is touched, and FFmpeg prints nothing. Raises InputError for what is no such
    file, and for more tracks than `limits.streams`.
    """
    import av

    av.logging.set_level(None)
    many = InputError(
        f"{path}: holds more than {limits.streams} tracks; take the others away, or raise config.limits.streams"
    )
    try:
        # "file:" keeps names such as "a:b.mp4" or "x%03d.png" from being read as a protocol or a pattern.
        # Not `options`: PyAV 14 and 16 crash the process with it after some dozens of files.
        options = {
            "protocol_whitelist": "file",
            "format_whitelist": FORMATS,
            "max_streams": str(limits.streams + 1),  # one more, so that too many are told from other faults
        }
        settings = {"container_options": options}
        if int(av.__version__.split(".")[0]) < 19:  # later versions never fail on tags that are not UTF-8
            settings["metadata_errors"] = "replace"
        container = av.open(f"file:{os.fspath(path)}", **settings)
    except av.ArgumentError:
        raise InputError(
            f"{path}: is no sound or video file of a known format; convert it to WAV, or a video to MP4"
        ) from None
    except MemoryError:
        raise many from None
    except av.FFmpegError as error:
        fault = (error.strerror or "unknown fault").lower()
        raise InputError(f"{path}: is not readable as sound or video ({fault}); give an intact file") from None
    if len(container.streams) > limits.streams:
        container.close()
        raise many
    return container


def check_length(path: Path, seconds: float, limits: InputLimits) -> None:
    """Raises InputError for sound or video that is longer than `limits.hours`."""
    if seconds > 3600 * limits.hours:
        raise InputError(
            f"{path}: lasts more than {limits.hours:g} hours; cut it into pieces, or raise config.limits.hours"
        )


def open_text_track(path: Path, demuxer: str):
    """Opens a file of subtitles with one of FFmpeg's demuxers, "srt" or "webvtt", and returns PyAV's container.

    InputError for what it cannot read. Nothing but the file is opened.
    """
    import av

    av.logging.set_level(None)
    try:
        return av.open(
            f"file:{os.fspath(path)}",
            format=demuxer,
            container_options={"protocol_whitelist": "file", "format_whitelist": demuxer},
        )
    except (av.FFmpegError, MemoryError):
        raise InputError(f"{path}: is no subtitle file of its suffix's kind; give an intact .srt or .vtt") from None
