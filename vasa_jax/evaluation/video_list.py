"""Which videos are measured, and what belongs to each: from folders, or from a manifest."""

import collections
import dataclasses
import hashlib
import os
from pathlib import Path

from vasa_jax.config import PrepareConfig, VASAConfig
from vasa_jax.errors import InputError
from vasa_jax.files import parse_json, read_bytes
from vasa_jax.preparation.prepare import find_videos
from vasa_jax.preparation.work import readable_name
from vasa_jax.schema import Each, Maybe, Real, Text, check

LARGEST_MANIFEST = 64 * 2**20  # bytes
_REMEDY = "see docs/evaluation.md"
_PATH = Text(longest=4000)
_LINE = {
    "video": _PATH,
    "reference": Maybe(_PATH),
    "portrait": Maybe(_PATH),
    "gaze": Maybe(Each(Real(-90.0, 90.0), 2, 2)),
    "distance": Maybe(Real(0.05, 20.0)),
    "pasted": Maybe(Each(Real(-1e5, 1e5), 4, 4)),
}


@dataclasses.dataclass(frozen=True)
class File:
    """A file and its name in reports, which tells nothing of where it lies."""

    path: Path
    name: str

    @property
    def key(self) -> str:
        """Returns a name for files about it: readable, and of its own."""
        slug = "".join(char if char.isalnum() and char.isascii() else "_" for char in self.name)[-60:].strip("_")
        return f"{slug}_{hashlib.sha256(os.fsencode(self.name)).hexdigest()[:8]}"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A video, and what it is compared with.

    gaze: yaw, pitch in degrees that were asked for; distance: likewise. pasted: left, top, right, bottom in pixels of a
    generated part that was put into the picture.
    """

    video: File
    reference: File | None = None
    portrait: File | None = None
    gaze: tuple[float, float] | None = None
    distance: float | None = None
    pasted: tuple[float, float, float, float] | None = None


def entries(config: VASAConfig) -> tuple[list[Entry], list[File]]:
    """Returns the videos of `config.videos` or `config.manifest`, and all references, in the order of their names.

    InputError for settings that contradict each other, a folder without videos, and a manifest that is none.
    """
    if config.manifest:
        if config.videos or config.references:
            raise InputError("config.manifest: names the videos by itself; leave config.videos and references empty")
        found = _of_manifest(Path(config.manifest))
        references = {entry.reference.name: entry.reference for entry in found if entry.reference}
        return found, [references[name] for name in sorted(references)]
    videos = files_of(config.videos, "")
    if not config.references:
        return [Entry(video) for video in videos], []
    try:
        references = files_of(config.references, "references/")
    except InputError as error:
        raise InputError(str(error).replace("config.videos", "config.references")) from error
    by_stem = {stem_of(file.name.removeprefix("references/")): file for file in references}
    return [Entry(video, by_stem.get(stem_of(video.name))) for video in videos], references


def files_of(folder: str, prefix: str) -> list[File]:
    """Returns the videos below a folder in the order of their names; InputError where there are none."""
    return [File(job.path, prefix + job.name) for job in find_videos(folder, PrepareConfig())]


def stem_of(name: str) -> str:
    """Returns a file's name without its ending, by which files of several folders belong together."""
    return name.rpartition(".")[0] or name


def _of_manifest(path: Path) -> list[Entry]:
    text = read_bytes(path, "give a .jsonl file with one video a line", LARGEST_MANIFEST)
    found: list[Entry] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        content = parse_json(line, where, _REMEDY)
        if not isinstance(content, dict):
            raise InputError(f"{where}: is no object; write one such as {{\"video\": \"a.mp4\"}}")
        content = check({**dict.fromkeys(_LINE), **content}, _LINE, where, _REMEDY)

        def file(kind: str, content=content) -> File | None:
            name = content[kind]
            return None if name is None else File(path.parent / name, _plain(name))

        gaze, pasted = (None if content[name] is None else tuple(content[name]) for name in ("gaze", "pasted"))
        found.append(Entry(file("video"), file("reference"), file("portrait"), gaze, content["distance"], pasted))
    if not found:
        raise InputError(f"{path}: names no video; write a line for each, such as {{\"video\": \"a.mp4\"}}")
    names = collections.Counter(entry.video.name for entry in found)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{path}: names {twice} twice; leave one line")
    paths: dict[str, Path] = {}
    for entry in found:
        for file in filter(None, (entry.video, entry.reference, entry.portrait)):
            if paths.setdefault(file.name, file.path) != file.path:
                raise InputError(f"{path}: two files are called {file.name}; write paths relative to the manifest")
    return sorted(found, key=lambda entry: entry.video.name)


def _plain(name: str) -> str:
    """A name as the manifest writes it; of an absolute path only its last two parts."""
    parts = Path(name).parts
    return readable_name("/".join(parts[-2:]) if Path(name).is_absolute() else name)
