"""Where a video may be written, found out before anything is computed, and what its writers are given."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from vasa_jax.conventions import FPS
from vasa_jax.data.audio_files import Audio
from vasa_jax.data.encodings import SUFFIXES, check_transparency
from vasa_jax.data.subtitles import Cue
from vasa_jax.errors import InputError
from vasa_jax.files import expanded

AI_COMMENT = "AI-generated video: a face animated by vasa_jax. It does not show real events."


class FrameWriter:
    """What is the same in every writer of a video: what it is given, and which frames it takes.

    Raises InputError for a `path` that cannot be written, before any frame is asked for. `frames` counts those added.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        audio: Audio | None = None,
        fps: int | Fraction = FPS,
        title: str | None = None,
        comment: str = AI_COMMENT,
        seal: Callable[[Path], None] | None = None,
        transparent: bool = False,
        subtitles: tuple[Cue, ...] = (),
    ):
        heard = None if audio is None else audio.original
        self.path = video_output(path, [heard] if isinstance(heard, Path) else [])
        self.frames = 0
        self._channels, self._shape = 4 if transparent else 3, None
        self._audio, self._fps, self._seal, self._subtitles = audio, fps, seal, subtitles
        self._title, self._comment = title, comment

    def _check(self, frame: np.ndarray) -> None:
        """Raises ValueError for what is no frame, uint8 (H, W, channels), or has another size than the first."""
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != self._channels:
            raise ValueError(f"a frame must be uint8 (H, W, {self._channels}), not {frame.dtype} {frame.shape}")
        if self._shape not in (None, frame.shape):
            raise ValueError(f"frame {self.frames} is {frame.shape[:2]}, the first was another size")
        self._shape = frame.shape


def video_output(
    path: str | os.PathLike, inputs: Iterable[str | os.PathLike] = (), transparent: bool = False
) -> Path:
    """Returns the path that a video is written to; a leading `~` is the home folder. Nothing is written or made.

    Raises:
      InputError: another suffix, or one that holds no transparency where that is wanted; no regular file; a name that
        is too long; a folder that cannot be made or written;
        one of `inputs` under whatever name or link.
    """
    path = expanded(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: the result is a video; give a name that ends in .mp4, .m4v, .mov, .webm or .zip")
    check_transparency(path, transparent)
    return output_file(path, inputs)


def output_file(path: str | os.PathLike, inputs: Iterable[str | os.PathLike] = ()) -> Path:
    """Returns the path that any file is written to; InputError as of `video_output`, but for the suffix."""
    path = expanded(path)
    try:
        if os.path.exists(path):
            _check_existing(path, inputs)
        check_folder(Path(os.path.realpath(path)))
    except InputError:
        raise
    except (OSError, ValueError) as error:  # the latter for a NUL within
        fault = (getattr(error, "strerror", None) or str(error)).lower()
        raise InputError(f"{path}: cannot be written ({fault}); choose another path") from None
    return path


def _check_existing(path: Path, inputs: Iterable[str | os.PathLike]) -> None:
    kind = os.stat(path).st_mode
    if stat.S_ISDIR(kind):
        raise InputError(f"{path}: is a folder; give the name of a file in it")
    if not stat.S_ISREG(kind):
        raise InputError(f"{path}: is not a regular file; choose another path")
    if not os.access(path, os.W_OK):
        raise InputError(f"{path}: may not be written; choose another path")
    for other in inputs:
        same = False
        with contextlib.suppress(OSError, ValueError):  # ValueError: a NUL within
            same = os.path.samefile(path, expanded(other))
        if same:
            raise InputError(f"{path}: is also an input, {other}, which would be lost; choose another path")


def check_folder(path: Path) -> None:
    """Raises OSError or InputError where a file of this path cannot be written; nothing is made.

    A nameless file in the nearest folder that exists is the only proof on every file system.
    """
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    longest = os.pathconf(folder, "PC_NAME_MAX")
    for name in path.relative_to(folder).parts:
        if len(os.fsencode(name)) > longest:
            raise InputError(f"{path}: a name in it is longer than {longest} bytes; choose a shorter one")
    with tempfile.TemporaryFile(dir=folder):
        pass


def unwritable(path: Path, error: Exception) -> InputError:
    """Returns what is said of a file that could not be written, or not to its end."""
    fault = (getattr(error, "strerror", None) or str(error)).lower()
    return InputError(f"{path}: cannot be written ({fault}); choose another path or free space")
