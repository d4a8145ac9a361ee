"""What requests ask of a video's form, checked: no text of theirs names a file of the server."""

import dataclasses
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from vasa_jax.data.encodings import TRANSPARENT_SUFFIXES
from vasa_jax.errors import InputError
from vasa_jax.files import parse_json
from vasa_jax.generation.backdrop import TRANSPARENT
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.video_form import VideoForm
from vasa_jax.settings import Settings, choice, described, fields_of, flag, nearest_name, number, section

T = TypeVar("T", bound=Settings)
FORMATS = ("mp4", "webm", "mov", "zip")
FILES = ("subtitles", "face_models")  # settings that name files or folders


@section
class AskedForm(VideoForm):
    """What a request asks of a video's form; files come as parts of their own."""

    fps: float = number(25.0, 1, 60, "frames a second", "of the video; the sound stays as it is")
    paste: bool = flag(False, "the head moves in the whole picture, at its size; else in the square crop")
    format: str = choice("mp4", FORMATS, "mp4: H.264; webm: VP9; mov: H.264, transparent ProRes 4444; zip: PNG")


@section
class AskedDriving(Driving):
    """What a request asks of a driving video. Its frame rate is that of the form."""


def checked(cls: type[T], text: str, where: str) -> T:
    """Returns the settings that a JSON object sets; InputError `where`: the first fault."""
    content = parse_json(text, where, "give a JSON object")
    if not isinstance(content, dict):
        raise InputError(f'{where}: holds no object; write {{"fps": 30}} or the like')
    names = names_of(cls)
    for name in content:
        if name not in names:
            hint = nearest_name(name, names) or f" known are {', '.join(names)}"
            raise InputError(f"{where}: no setting '{name}';{hint}")
    return cls(**content).validate(where)


def names_of(cls: type[Settings]) -> list[str]:
    """Returns the settings that a request may give."""
    without = (*FILES, "fps") if cls is AskedDriving else FILES
    return [name for name in fields_of(cls) if name not in without]


def checked_form(text: str, has_backdrop: bool) -> AskedForm:
    """Returns the form that JSON asks for; InputError for what does not go together, and for a backdrop by name."""
    form = checked(AskedForm, text, "form")
    if has_backdrop and form.backdrop:
        raise InputError("form.backdrop: a picture was sent too; leave one out")
    if "/" in form.backdrop or "." in form.backdrop or "\\" in form.backdrop:
        raise InputError("form.backdrop: names a file; send the picture as the part 'backdrop'")
    if form.backdrop == TRANSPARENT and f".{form.format}" not in TRANSPARENT_SUFFIXES:
        raise InputError(f"form.format: {form.format} holds no transparency; choose webm, mov or zip")
    return form


def video_form(form: AskedForm, backdrop: Path, subtitles: Path | None) -> VideoForm:
    """Returns the form of a job, whose files lie there if it has them."""
    plain = {name: getattr(form, name) for name in fields_of(VideoForm)}
    plain["subtitles"] = str(subtitles or "")
    if backdrop.exists():
        plain["backdrop"] = str(backdrop)
    return VideoForm(**plain)


def given(settings: Settings) -> dict[str, Any]:
    """Returns the settings that differ from their defaults."""
    return {
        item.name: getattr(settings, item.name)
        for item in dataclasses.fields(settings)
        if getattr(settings, item.name) != item.default
    }


def subtitles_name(file: BinaryIO) -> str:
    """Returns the name that a file of subtitles is to have, by its content; it is read from its start again."""
    start = file.read(2**16)
    file.seek(0)
    if start.lstrip(b"\xef\xbb\xbf").startswith(b"WEBVTT"):
        return "subtitles.vtt"
    return "subtitles.srt" if b"-->" in start else "subtitles.txt"


FORM_HELP = "JSON object of the video's form: " + "; ".join(
    line for line in described(AskedForm) if not line.startswith(FILES)
)
DRIVING_HELP = "JSON object of what is taken of the driving video: " + "; ".join(
    line for line in described(AskedDriving) if not line.startswith((*FILES, "fps"))
)
