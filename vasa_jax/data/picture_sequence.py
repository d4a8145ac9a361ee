"""A sequence of PNG pictures in one ZIP file, as editing programs take it, with its sound and subtitles."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import wave
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np

from vasa_jax.data.output_files import FrameWriter, unwritable
from vasa_jax.data.sound_track import as_int16
from vasa_jax.data.subtitles import as_vtt
from vasa_jax.files import replacing


class SequenceWriter(FrameWriter):
    """A ZIP file of 00000.png, 00001.png, ..., sound.wav and subtitles.vtt, complete or absent. Nothing is compressed
    twice.

    Use as `VideoWriter`, whose arguments it has. `seal` is called with every picture's file before that is stored. The
    sound is the original one in 16 bits, cut where the pictures end. ReadMe.txt tells the frame rate, and the comment.
    """

    def __init__(self, *given, **more):
        super().__init__(*given, **more)
        self._open = contextlib.ExitStack()  # the ZIP file, its unfinished name, and a folder for one picture

    def __enter__(self) -> SequenceWriter:
        try:
            part = self._open.enter_context(replacing(os.path.realpath(self.path)))
            self._file = self._open.enter_context(zipfile.ZipFile(part, "w", zipfile.ZIP_STORED))
            self._folder = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
        except OSError as error:
            self._open.close()
            raise unwritable(self.path, error) from None
        return self

    def add(self, frame: np.ndarray) -> None:
        """Stores one frame, uint8 (H, W, 3 or 4); all of one size."""
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        self._check(frame)
        name, text = f"{self.frames:05}.png", PngInfo()
        text.add_text("Comment", self._comment)
        part = self._folder / name
        try:
            Image.fromarray(frame).save(part, pnginfo=text, compress_level=4)
            if self._seal:
                self._seal(part)
            self._file.write(part, name)
            part.unlink()
        except OSError as error:
            raise unwritable(self.path, error) from None
        self.frames += 1

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None:
            self._open.__exit__(kind, error, trace)
            return
        with self._open:
            self._finish()

    def _finish(self) -> None:
        if not self.frames:
            raise ValueError(f"{self.path}: no frames were given")
        try:
            if self._audio is not None:
                self._file.writestr("sound.wav", self._sound())
            if self._subtitles:
                self._file.writestr("subtitles.vtt", as_vtt(self._subtitles))
            about = [*([self._title] if self._title else []), self._comment, f"{float(self._fps):g} frames per second"]
            self._file.writestr("ReadMe.txt", "\n".join([*about, ""]))
        except OSError as error:
            raise unwritable(self.path, error) from None

    def _sound(self) -> bytes:
        left = int(Fraction(self.frames, self._fps) * self._audio.rate)
        with io.BytesIO() as file:
            with wave.open(file, "wb") as sound:
                sound.setnchannels(self._audio.channels), sound.setsampwidth(2), sound.setframerate(self._audio.rate)
                for block in self._audio.blocks():
                    sound.writeframes(as_int16(block[:left]).tobytes())
                    left -= len(block)
                    if left <= 0:
                        break
            return file.getvalue()
