"""Records in files: shards in ArrayRecord and TFRecord, written so that an interrupted run can go on, and read safely.

A directory holds, for every shard, one file per format and a small `.json` that is written when they are complete. At
the end comes `manifest.json` with all shards, their records and checksums. A file ending in `.part` is unfinished, and
deleted when its shard is written again.
"""

import contextlib
import dataclasses
import functools
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from vasa_jax.data.records import LONGEST_CLIP, LONGEST_NAME, SCHEMA_VERSION, SPLITS, Record
from vasa_jax.errors import InputError
from vasa_jax.files import as_json, difference, read_json, replacing, sha256, write_json
from vasa_jax.schema import Each, FileName, Named, Text, Whole, check

FORMATS = ("array_record", "tfrecord")
MANIFEST = "manifest.json"
LARGEST_MANIFEST = 256 * 2**20  # bytes: two million clips
# One record per chunk: what random access needs. Images are compressed already.
_ARRAY_RECORD_OPTIONS = "group_size:1,uncompressed"


_NAME = Text(longest=LONGEST_NAME)
_SHARD = {
    "split": Text(choices=SPLITS),
    "index": Whole(0, 10**6),
    "count": Whole(1, 10**6),
    "clips": Each({"clip_id": _NAME, "person_id": _NAME, "frames": Whole(1, LONGEST_CLIP)}),
    "files": Named(
        {"file": FileName(), "bytes": Whole(0, 2**60), "sha256": Text(64, 64, alphabet="0123456789abcdef")},
        least=1,
        choices=FORMATS,
    ),
}
_COMMON = {"schema_version": Whole(0, 10**6), "settings": Named()}


@dataclasses.dataclass(frozen=True)
class Shard:
    """One part of a split; as an entry of the manifest it also has its clips and files."""

    split: str
    index: int
    count: int  # shards of the split
    clips: tuple[dict[str, Any], ...] = ()  # clip_id, person_id, frames of each record, in order
    files: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)  # format -> file, bytes, sha256

    @property
    def name(self) -> str:
        """Stem of the shard's files."""
        return f"{self.split}-{self.index:05d}-of-{self.count:05d}"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """All shards of a directory, and the settings they were made with."""

    directory: Path
    settings: dict[str, Any]
    shards: tuple[Shard, ...]

    def split(self, split: str) -> list[Shard]:
        """Returns the shards of a split, in order; InputError if there are none."""
        shards = [shard for shard in self.shards if shard.split == split]
        if not shards:
            known = ", ".join(sorted({shard.split for shard in self.shards}))
            raise InputError(f"{self.directory}: no split '{split}'; it has {known}")
        return shards


def is_finished(directory: str | Path, shard: Shard, formats: Sequence[str], settings: dict[str, Any]) -> bool:
    """Returns whether the shard is complete in these formats.

    Raises InputError if it was made with other settings: two data sets must not mix in one directory.
    """
    directory = Path(directory)
    try:
        entry = _read_entry(directory / f"{shard.name}.json")
    except InputError:  # missing or damaged: it is written anew
        return False
    made, now = (
        {**s, "schema_version": version}
        for s, version in ((entry["settings"], entry["schema_version"]), (as_json(settings), SCHEMA_VERSION))
    )
    if made != now:
        raise InputError(
            f"{directory / shard.name}.json: made with other settings ({difference(made, now)}); "
            "choose another directory, or delete this one"
        )
    return all(
        name in entry["files"] and _size(directory / entry["files"][name]["file"]) == entry["files"][name]["bytes"]
        for name in formats
    )


def write_shard(
    directory: str | Path,
    shard: Shard,
    records: Iterable[Record],
    formats: Sequence[str] = FORMATS,
    settings: dict[str, Any] | None = None,
) -> bool:
    """Writes one shard in all formats and returns True, or False if it is finished already: `records` is not touched
    then. A shard that an earlier run left unfinished is written anew from its start.

    settings: anything JSON that decides what the records are; stored, and compared when a run goes on. Raises
    InputError for a record that breaks the schema, an unknown format or other settings in the directory.
    """
    directory, settings = Path(directory), settings or {}
    for name in formats:
        if name not in FORMATS:
            raise InputError(f"format '{name}': unknown; choose among {', '.join(FORMATS)}")
    if is_finished(directory, shard, formats, settings):
        return False
    directory.mkdir(parents=True, exist_ok=True)
    side = directory / f"{shard.name}.json"
    side.unlink(missing_ok=True)
    paths = {name: directory / f"{shard.name}.{name}" for name in formats}
    for stale in directory.glob(f"{shard.name}.*.part"):
        stale.unlink(missing_ok=True)
    clips = []
    with contextlib.ExitStack() as stack:
        writers = {name: stack.enter_context(_writing(name, path)) for name, path in paths.items()}
        for record in records:
            data = record.to_bytes()
            for name, writer in writers.items():
                _attempt(paths[name], writer.write, data)
            clips.append({"clip_id": record.clip_id, "person_id": record.person_id, "frames": len(record.frames)})
    files = {
        name: {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
        for name, path in paths.items()
    }
    done = dataclasses.replace(shard, clips=tuple(clips), files=files)
    write_json(side, {**dataclasses.asdict(done), "settings": settings, "schema_version": SCHEMA_VERSION})
    return True


def write_manifest(directory: str | Path) -> Manifest:
    """Gathers the finished shards into `manifest.json`; InputError names a shard that is missing."""
    directory = Path(directory)
    entries = [_read_entry(path) for path in sorted(directory.glob("*-of-*.json"))]
    if not entries:
        raise InputError(f"{directory}: no finished shard; write some first")
    here = {(entry["split"], entry["count"], entry["index"]) for entry in entries}
    for split, count in sorted({key[:2] for key in here}):
        for index in range(count):
            if (split, count, index) not in here:
                missing = directory / Shard(split, index, count).name
                raise InputError(f"{missing}: this shard is not finished; run the same command again")
    settings = entries[0]["settings"]
    for entry in entries:
        if entry["settings"] != settings:
            raise InputError(f"{directory}: shards of two data sets; give each a directory of its own")
    shards = [{key: value for key, value in entry.items() if key in _SHARD_FIELDS} for entry in entries]
    manifest = {"schema_version": SCHEMA_VERSION, "settings": settings, "shards": shards}
    write_json(directory / MANIFEST, manifest)
    return read_manifest(directory)


def read_manifest(directory: str | Path) -> Manifest:
    """Returns the manifest of a directory; InputError if it is missing, unreadable or of another schema version."""
    path = Path(directory) / MANIFEST
    if not path.exists():
        raise InputError(f"{path}: does not exist; the data is not there or not finished: {_WRITE_AGAIN}")
    content = read_json(path, _WRITE_AGAIN, LARGEST_MANIFEST)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if type(version) is int and version != SCHEMA_VERSION:
        raise InputError(f"{path}: schema version {version}, this program reads {SCHEMA_VERSION}; write the data anew")
    check(content, {**_COMMON, "shards": Each(_SHARD, least=1)}, str(path), _WRITE_AGAIN)
    shards = tuple(Shard(**{**shard, "clips": tuple(shard["clips"])}) for shard in content["shards"])
    for split in SPLITS:
        of_split = [(shard.index, shard.count) for shard in shards if shard.split == split]
        if sorted(of_split) != [(index, len(of_split)) for index in range(len(of_split))]:
            raise InputError(f"{path}: the shards of split '{split}' are not numbered in order; {_WRITE_AGAIN}")
    return Manifest(Path(directory), content["settings"], shards)


def _read_entry(path: Path) -> dict[str, Any]:
    """The entry of one finished shard, its settings and schema version."""
    return check(read_json(path, _REMEDY, LARGEST_MANIFEST), {**_SHARD, **_COMMON}, str(path), _REMEDY)


def verify(manifest: Manifest, formats: Sequence[str] = FORMATS) -> int:
    """Reads every file and compares it with its checksum; the number of files. InputError names the first bad one."""
    checked = 0
    for shard in manifest.shards:
        for name in formats:
            if name in shard.files:
                path = _checked_path(manifest, shard, name)
                if sha256(path) != shard.files[name]["sha256"]:
                    raise InputError(f"{path}: corrupt, its checksum is not the manifest's; {_REMEDY}")
                checked += 1
    return checked


class ShardReader:
    """Random access to the records of one file, for threads and processes; opened at the first read.

    `parse` makes of a record's bytes what is read. InputError names the file: at opening if its length or its number
    of records is not the manifest's, at reading if a record's checksum fails.
    """

    def __init__(
        self, manifest: Manifest, shard: Shard, name: str, parse: Callable[[bytes], Any] = Record.from_bytes
    ):
        if name not in shard.files:
            has = ", ".join(shard.files)
            raise InputError(f"{manifest.directory / shard.name}: not written as {name}; read it as {has}")
        self.path = _checked_path(manifest, shard, name)
        self._length, self._format, self._parse = len(shard.clips), name, parse

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        try:
            return self._parse(self._file.read_at(index))
        except InputError as error:
            raise InputError(f"{self.path}: record {index}: {error}") from error
        except FileNotFoundError as error:
            raise InputError(f"{self.path}: is no longer there; put it back, or {_WRITE_AGAIN}") from error
        except (RuntimeError, OSError, ValueError) as error:
            fault = " ".join(str(error).split())
            raise InputError(f"{self.path}: record {index} is corrupt ({fault}); {_REMEDY}") from error

    @functools.cached_property
    def _file(self):
        file = _READERS[self._format](self.path)
        if len(file) != self._length:
            raise InputError(f"{self.path}: corrupt, {len(file)} records instead of {self._length}; {_REMEDY}")
        return file

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_file"}


class TFRecordWriter:
    """TFRecord framing: length, its masked CRC-32C, data, its masked CRC-32C."""

    def __init__(self, path: str | Path):
        self._file = open(path, "wb")  # noqa: SIM115 (closed by close)

    def write(self, data: bytes) -> None:
        """Appends one record."""
        length = struct.pack("<Q", len(data))
        self._file.write(length + _masked_crc(length) + data + _masked_crc(data))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class TFRecordFile:
    """Random access to a TFRecord: one pass over the lengths finds every record. Both checksums are verified."""

    def __init__(self, path: str | Path):
        self._path = path
        self._places: list[tuple[int, int]] = []
        total = os.path.getsize(path)
        with open(path, "rb") as file:
            while file.tell() < total:
                length = _read_length(file)
                self._places.append((file.tell(), length))
                if file.tell() + length + 4 > total:
                    raise ValueError("cut off")
                file.seek(length + 4, os.SEEK_CUR)

    def __len__(self) -> int:
        return len(self._places)

    def read_at(self, index: int) -> bytes:
        """Reads record `index`; ValueError where its checksum fails."""
        start, length = self._places[index]
        with open(self._path, "rb") as file:
            file.seek(start)
            data, crc = file.read(length), file.read(4)
        if _masked_crc(data) != crc:
            raise ValueError("checksum of the data")
        return data


class _ArrayRecordWriter:
    def __init__(self, path: Path):
        from array_record.python.array_record_module import ArrayRecordWriter

        self._writer = ArrayRecordWriter(str(path), _ARRAY_RECORD_OPTIONS)

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def close(self) -> None:
        self._writer.close()


class _ArrayRecordFile:
    def __init__(self, path: Path):
        from array_record.python.array_record_module import ArrayRecordReader

        self._reader = ArrayRecordReader(str(path), "readahead_buffer_size:0", file_reader_buffer_size=32768)
        if not self._reader.ok():
            raise ValueError("not an ArrayRecord")

    def __len__(self) -> int:
        return self._reader.num_records()

    def read_at(self, index: int) -> bytes:
        return self._reader.read([index])[0]


_WRITERS = {"array_record": _ArrayRecordWriter, "tfrecord": TFRecordWriter}
_READERS = {"array_record": _ArrayRecordFile, "tfrecord": TFRecordFile}
_SHARD_FIELDS = tuple(field.name for field in dataclasses.fields(Shard))
_WRITE_AGAIN = "run the command that writes the data again"
_REMEDY = f"delete it and {_WRITE_AGAIN}"


@contextlib.contextmanager
def _writing(name: str, path: Path) -> Iterator[Any]:
    """Yields a writer of the format `name`; its file takes the name `path` when the block ends without an error."""
    with replacing(path) as part:
        writer = _WRITERS[name](part)
        try:
            yield writer
        finally:
            _attempt(path, writer.close)


def _attempt(path: Path, write: Callable, *arguments: bytes) -> None:
    try:
        write(*arguments)
    except (OSError, RuntimeError) as error:  # ArrayRecord raises RuntimeError when the disk is full
        fault = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be written ({fault}); make room and run the same command again") from error


def _read_length(file: BinaryIO) -> int:
    length, crc = file.read(8), file.read(4)
    if len(length) < 8 or _masked_crc(length) != crc:
        raise ValueError("checksum of a length")
    return struct.unpack("<Q", length)[0]


def _masked_crc(data: bytes) -> bytes:
    import google_crc32c

    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _checked_path(manifest: Manifest, shard: Shard, name: str) -> Path:
    entry = shard.files[name]
    path = manifest.directory / entry["file"]
    size = _size(path)
    if size != entry["bytes"]:
        fault = "missing" if size is None else f"corrupt, {size} bytes instead of {entry['bytes']}"
        raise InputError(f"{path}: {fault}; {_REMEDY}")
    return path


def _size(path: Path) -> int | None:
    return path.stat().st_size if os.path.isfile(path) else None
