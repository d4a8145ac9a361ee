"""Batches from records: `VASADataset` reads ArrayRecord and TFRecord shards and TFDS builds through Grain.

All three are read by random access (a TFRecord is indexed when it is opened), so that one rule holds for all: the
order is a pure function of the seed, the same for any number of worker processes, and a position is one number.
"""

import dataclasses
import functools
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vasa_jax.conventions import SAMPLE_RATE
from vasa_jax.data.mirroring import mirror_image, mirror_label, mirror_matte
from vasa_jax.data.records import LABELS, Record, decode_jpeg, decode_matte
from vasa_jax.data.shards import FORMATS, MANIFEST, Manifest, Shard, ShardReader, read_manifest, verify
from vasa_jax.data.step_iterator import check_position, position
from vasa_jax.errors import InputError
from vasa_jax.files import fingerprint

Batch = dict[str, np.ndarray]
VIEWS = ("clips", "pairs")
_FRAME_LABELS = tuple(name for name, shape in LABELS.items() if shape[:1] == ("T",))


@dataclasses.dataclass(frozen=True)
class VASADataset:
    """Records of a directory as batches of numpy arrays; images stay uint8, the device makes floats of them.

    View `clips`: windows of `frames` consecutive frames at a random place of each clip:
      frames uint8 (B, T, n, n, 3); audio int16 (B, 16000 T / fps); pose (B, T, 9), gaze (B, T, 2), lids (B, T, 2),
      mouth (B, T), landmarks (B, T, L, 3); with `matte` matte uint8 (B, T, n, n); main_gaze (B, 2), distance (B,),
      emotion (B, 8).
    View `pairs`: two different frames of each clip, the source and the driver:
      source, driver uint8 (B, n, n, 3); source_X, driver_X for each label X of a frame; with `matte` source_matte and
      driver_matte; person int32 (B,), the same for all clips of a person. For cross-identity training partner int32
      (B,): the row of the batch whose driver is another person's; valid_partner bool (B,): false where the batch has
      one person only.
    Both: valid_X bool (B,) for every label X (zeros where false), record int32 (B,), numbered as in `clip_ids`.

    path: directory with manifest.json, or of a TFDS build. format: `array_record`, `tfrecord` or `tfds`; empty takes
    the first that is there. batch_size: of this host; batches run on across epochs, and what is left at the end is
    dropped. size: images are resized to it; 0 keeps them. flip: half of the windows and pairs, by chance, are seen
    in a mirror, labels with them (`data.mirroring`); needs shuffle. same_frame: share of the pairs, by chance, whose
    driver is the source's own frame; needs shuffle. epochs: 0 means for ever. Hosts read disjoint
    parts: every hosts-th record, of a TFRecord every hosts-th shard. workers: processes that decode. verify_files
    compares all checksums at the start; without it records are verified as they are read.

    Raises:
      InputError: a directory, split or shard that is missing or corrupt; clips shorter than the window (they are left
        out when the manifest tells); too few records for one batch; fewer TFRecord shards than hosts.
    """

    path: str | Path
    split: str = "train"
    view: str = "clips"
    batch_size: int = 8
    frames: int = 100
    size: int = 0
    matte: bool = False
    shuffle: bool = True
    flip: bool = False
    same_frame: float = 0.0
    epochs: int = 0
    seed: int = 0
    workers: int = 0
    host: int = 0
    hosts: int = 1
    format: str = ""
    verify_files: bool = False

    def __post_init__(self):
        if self.view not in VIEWS:
            raise InputError(f"view '{self.view}': unknown; choose one of {', '.join(VIEWS)}")
        if self.flip and not self.shuffle:
            raise InputError("flip: mirrors at random, shuffle is off; turn one of them the other way")
        if self.same_frame and not self.shuffle:
            raise InputError("same_frame: drawn at random, shuffle is off; turn one of them the other way")
        if not 0 <= self.host < self.hosts:
            raise InputError(f"host {self.host} of {self.hosts}: no such host; hosts count from 0")
        if len(self) < self.batch_size:
            raise InputError(
                f"{self.path}: {len(self)} usable records of split '{self.split}' for host {self.host} of "
                f"{self.hosts}, less than a batch of {self.batch_size}; use more data or a smaller batch"
            )

    def __len__(self) -> int:
        """Records that this host reads."""
        return len(self._numbers)

    def __iter__(self) -> "VASAIterator":
        return VASAIterator(self)

    def clip_ids(self, batch: Batch) -> list[str]:
        """Returns the names of a batch's clips, for messages about it."""
        return [self._source.clip_id(int(number)) for number in batch["record"]]

    @functools.cached_property
    def _source(self) -> "_Shards | _TFDS":
        directory = Path(self.path)
        if not os.path.isdir(directory):
            raise InputError(f"{directory}: no such directory; write the data first, see configs/synthesize.py")
        chosen = self.format or ("tfds" if _is_tfds(directory) else "")
        if chosen == "tfds":
            return _TFDS(directory, self.split)
        manifest = read_manifest(directory)
        shards = manifest.split(self.split)
        chosen = chosen or next(name for name in FORMATS if name in shards[0].files)
        if self.verify_files:
            verify(manifest, (chosen,))
        return _Shards(manifest, shards, chosen)

    @functools.cached_property
    def _numbers(self) -> list[int]:
        """Numbers of this host's records."""
        shortest = self.frames if self.view == "clips" else 2
        return self._source.numbers(self.host, self.hosts, shortest)

    @functools.cached_property
    def _deciding(self) -> dict[str, Any]:
        """What decides the batches, by name. The number of workers does not; nor does where the data lies."""
        names = ("seed", "batch_size", "frames", "host", "hosts", "split", "view", "size", "matte", "shuffle", "flip")
        return {
            **{name: getattr(self, name) for name in names},
            "same_frame": float(self.same_frame),
            "records": len(self),
            "data_set": self._source.fingerprint(),
        }

    def _batches(self):
        """Returns all batches as a Grain MapDataset."""
        import grain

        view = {"clips": _window, "pairs": _pair}[self.view]
        element = functools.partial(_element, source=self._source, view=view, settings=self._settings())
        records = grain.MapDataset.source(self._numbers)
        if self.shuffle:
            records = records.shuffle(seed=self.seed % 2**32)
        records = records.repeat(self.epochs or None)
        elements = records.seed(self.seed % 2**32).random_map(element)
        return elements.batch(self.batch_size, drop_remainder=True, batch_fn=_collate)

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("frames", "size", "matte", "shuffle", "flip", "same_frame")}


class VASAIterator:
    """Batches of a dataset from a position that can be saved and restored; a pure function of (settings, step)."""

    def __init__(self, dataset: VASADataset):
        self._dataset, self._step = dataset, 0
        self._batches = dataset._batches()
        self._iterator: Any = None

    def __iter__(self) -> "VASAIterator":
        return self

    def __next__(self) -> Batch:
        if self._iterator is None:
            self._iterator = self._open()
        batch = next(self._iterator)
        self._step += 1
        return batch

    def state(self) -> dict[str, int]:
        """Returns the position, and what decides the batches."""
        return position(self._step, self._dataset._deciding)

    def restore(self, state: dict[str, int]) -> None:
        """Goes on where `state` was taken; InputError names the setting that differs from the run's that took it."""
        step = check_position(state, self._dataset._deciding, str(self._dataset.path))
        self.close()
        self._step = step

    def close(self) -> None:
        """Ends the worker processes."""
        if self._iterator is not None and self._dataset.workers:
            self._iterator.close()
        self._iterator = None

    def _open(self):
        import grain
        from absl import flags

        rest = self._batches[self._step :]
        if not self._dataset.workers:
            # One element ahead of the caller, by threads of this process.
            options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)
            return iter(rest.to_iter_dataset(options))
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain passes flags on to its workers and wants them parsed
        options = grain.MultiprocessingOptions(num_workers=self._dataset.workers, per_worker_buffer_size=2)
        return iter(rest.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)).mp_prefetch(options))


class _Shards:
    """The records of several shard files as one sequence."""

    def __init__(self, manifest: Manifest, shards: Sequence[Shard], name: str):
        self._readers = [ShardReader(manifest, shard, name) for shard in shards]
        self._clips, self._format, self._made_with = [shard.clips for shard in shards], name, manifest.settings
        self._starts = np.cumsum([0, *(len(reader) for reader in self._readers)])

    def fingerprint(self) -> int:
        """Tells these records from others by the names of their clips and the settings they were made with."""
        return fingerprint(self._made_with, self._clips)

    def numbers(self, host: int, hosts: int, shortest: int) -> list[int]:
        usable = [
            (shard, int(start) + i)
            for shard, (start, clips) in enumerate(zip(self._starts, self._clips))
            for i, clip in enumerate(clips)
            if clip["frames"] >= shortest
        ]
        if self._format != "tfrecord":
            return [number for _, number in usable][host::hosts]
        if len(self._readers) < hosts:
            raise InputError(
                f"{len(self._readers)} TFRecord shards for {hosts} hosts: each host needs one; "
                "write more shards, or use array_record"
            )
        return [number for shard, number in usable if shard % hosts == host]

    def __getitem__(self, number: int) -> Record:
        shard, index = self._split(number)
        return self._readers[shard][index]

    def place(self, number: int) -> str:
        """Names a record's file and its number there."""
        shard, index = self._split(number)
        return f"{self._readers[shard].path}: record {index}"

    def clip_id(self, number: int) -> str:
        shard, index = self._split(number)
        return self._clips[shard][index]["clip_id"]

    def _split(self, number: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        return shard, number - int(self._starts[shard])


class _TFDS:
    """The records of a TFDS build in array_record format."""

    def __init__(self, directory: Path, split: str):
        self.directory, self._split = directory, split
        if not (directory / "dataset_info.json").is_file():
            raise InputError(f"{directory}: not a TFDS build; give the directory that holds dataset_info.json")
        splits = self._builder.info.splits
        if split not in splits:
            raise InputError(f"{directory}: no split '{split}'; it has {', '.join(splits)}")

    @functools.cached_property
    def _builder(self):
        import tensorflow_datasets as tfds

        try:
            return tfds.builder_from_directory(str(self.directory))
        except Exception as error:  # of a damaged description the library raises many kinds
            fault = " ".join(f"{type(error).__name__} {error}".split())[:200]
            raise InputError(f"{self.directory}: not a TFDS build ({fault}); build it again") from error

    @functools.cached_property
    def _records(self):
        try:
            return self._builder.as_data_source(self._split)
        except (NotImplementedError, ValueError) as error:
            fault = " ".join(str(error).split())
            remedy = "build it with file_format array_record"
            raise InputError(f"{self.directory}: not readable ({fault}); {remedy}") from error

    def __getstate__(self) -> dict[str, Any]:
        return {"directory": self.directory, "_split": self._split}

    def fingerprint(self) -> int:
        """Tells this build from others by its name, version and size."""
        info = self._builder.info
        split = info.splits[self._split]
        return fingerprint(info.name, str(info.version), split.num_bytes, list(split.shard_lengths))

    def numbers(self, host: int, hosts: int, shortest: int) -> list[int]:
        del shortest  # only reading a record tells its length
        return list(range(len(self._records)))[host::hosts]

    def clip_id(self, number: int) -> str:
        return self[number].clip_id

    def __getitem__(self, number: int) -> Record:
        from vasa_jax.data.tfds_records import record_of

        try:
            return record_of(self._records[number])
        except InputError as error:
            raise InputError(f"{self.place(number)}: {error}") from error
        except (RuntimeError, OSError, ValueError, TypeError, KeyError) as error:
            fault = " ".join(str(error).split())
            raise InputError(f"{self.place(number)} is damaged ({fault}); build it again") from error

    def place(self, number: int) -> str:
        """Names the build and a record's number in it."""
        return f"{self.directory}: record {number} of '{self._split}'"


def _is_tfds(directory: Path) -> bool:
    return (directory / "dataset_info.json").is_file() and not (directory / MANIFEST).is_file()


def _element(number: int, rng: np.random.Generator, source, view: Callable, settings: dict[str, Any]) -> dict[str, Any]:
    record = source[number]
    try:
        element = view(record, rng if settings["shuffle"] else None, settings)
    except InputError as error:
        raise InputError(f"{source.place(number)}, clip '{record.clip_id}': {error}") from error
    if settings["flip"] and rng.random() < 0.5:
        element = {name: _mirrored(name, value, record.landmark_set) for name, value in element.items()}
    return {**element, "record": np.int32(number), "person": record.person_id}


def _mirrored(name: str, value: np.ndarray, landmark_set: str) -> np.ndarray:
    kind = name.removeprefix("source_").removeprefix("driver_")
    if kind in ("frames", "source", "driver"):
        return mirror_image(value)
    return mirror_matte(value) if kind == "matte" else mirror_label(kind, value, landmark_set)


def _window(record: Record, rng: np.random.Generator | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Consecutive frames at a random place, at the start without a generator."""
    count, total = settings["frames"], len(record.frames)
    if total < count:
        raise InputError(f"{total} frames, less than the window of {count}; choose less")
    start = int(rng.integers(total - count + 1)) if rng else 0
    part = slice(start, start + count)
    samples = round(SAMPLE_RATE * count / record.fps)
    sound = np.zeros(samples, np.int16)
    if record.audio is not None:
        first = round(SAMPLE_RATE * start / record.fps)
        heard = record.audio[first : first + samples]
        sound[: len(heard)] = heard
    images = [_image(data, settings["size"]) for data in record.frames[part]]
    if len({image.shape for image in images}) > 1:
        raise InputError("its frames differ in size; set the size of pictures")
    result = {
        "frames": np.stack(images),
        "audio": sound,
        "valid_audio": np.bool_(record.audio is not None),
        **_labels(record, part),
    }
    if settings["matte"]:
        result["matte"] = np.stack([_matte(record, i, result["frames"][0]) for i in range(part.start, part.stop)])
        result["valid_matte"] = np.bool_(record.matte is not None)
    return result


def _pair(record: Record, rng: np.random.Generator | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Two different frames, each as likely as any, or one frame twice; first and last without a generator."""
    total = len(record.frames)
    if total < 2:
        raise InputError("one frame makes no pair; leave it out")
    places = rng.choice(total, 2, replace=False) if rng else (0, total - 1)
    if rng and settings["same_frame"] and rng.random() < settings["same_frame"]:
        places = (places[0], places[0])
    result: dict[str, Any] = {}
    for name, place in zip(("source", "driver"), map(int, places)):
        result[name] = _image(record.frames[place], settings["size"])
        for label, value in _labels(record, place).items():
            is_frame_label = label in _FRAME_LABELS
            result[f"{name}_{label}" if is_frame_label else label] = value
        if settings["matte"]:
            result[f"{name}_matte"] = _matte(record, place, result[name])
            result["valid_matte"] = np.bool_(record.matte is not None)
    return result


def _labels(record: Record, place: int | slice) -> dict[str, np.ndarray]:
    """Labels of a frame or of a stretch of frames, and of the clip; zeros where it has none."""
    result = {}
    everything = np.zeros(len(record.frames))
    for name, shape in LABELS.items():
        value = getattr(record, name)
        result[f"valid_{name}"] = np.bool_(value is not None)
        if name in _FRAME_LABELS:
            if value is None:
                rest = tuple(0 if n == "N" else n for n in shape[1:])
                value = np.zeros((*everything.shape, *rest), np.float32)
            result[name] = value[place]
        else:
            result[name] = np.zeros(shape, np.float32) if value is None else value
    return result


def _image(data: bytes, size: int) -> np.ndarray:
    image = decode_jpeg(data)
    return image if size in (0, len(image)) else _resized(image, size)


def _matte(record: Record, place: int, image: np.ndarray) -> np.ndarray:
    size = len(image)
    if record.matte is None:
        return np.zeros((size, size), np.uint8)
    matte = decode_matte(record.matte[place])
    return matte if len(matte) == size else _resized(matte, size)


def _resized(image: np.ndarray, size: int) -> np.ndarray:
    import cv2

    shrinks = size < len(image)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _collate(elements: Sequence[dict[str, Any]]) -> Batch:
    """Stacks the elements; each row's partner is the next row, in a circle, that shows somebody else."""
    people = [element.pop("person") for element in elements]
    batch = {}
    for name in elements[0]:
        values = [element[name] for element in elements]
        shapes = {value.shape for value in values}
        if name.endswith("landmarks") and not name.startswith("valid"):
            values = _same_points(values)
        elif len(shapes) > 1:
            raise InputError(
                f"batch: {name} has shapes {', '.join(map(str, sorted(shapes)))}; set the size of pictures, "
                "and keep clips of other frame rates in another data set"
            )
        batch[name] = np.stack(values)
    if "source" in batch:
        count = len(people)
        following = [[(i + step) % count for step in range(1, count)] for i in range(count)]
        partner = [next((j for j in rows if people[j] != people[i]), i) for i, rows in enumerate(following)]
        batch["person"] = np.array([zlib.crc32(who.encode()) for who in people], np.uint32).view(np.int32)
        batch["partner"] = np.array(partner, np.int32)
        batch["valid_partner"] = np.array([people[i] != people[j] for i, j in enumerate(partner)])
    return batch


def _same_points(values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Landmarks of clips without them take the others' number of points."""
    points = max(value.shape[-2] for value in values)
    if any(value.shape[-2] not in (0, points) for value in values):
        raise InputError("batch: landmarks of different sets; keep one landmark_set in a data set")
    return [np.zeros((*value.shape[:-2], points, 3), np.float32) if not value.shape[-2] else value for value in values]
