"""Small records that need no renderer, and shards of them."""

import dataclasses

import numpy as np

from vasa_jax.data.records import LABELS, Record, encode_jpeg, encode_matte
from vasa_jax.data.shards import FORMATS, Manifest, Shard, write_manifest, write_shard

SIZE, FRAMES, POINTS = 16, 5, 3


def tiny_record(number: int, split: str = "train", frames: int = FRAMES, unlabelled: tuple[str, ...] = ()) -> Record:
    """Clip `number`, two to a person: noise for pictures, sound and labels, the number in the first sample.

    Odd clips lack the labels of `unlabelled`.
    """
    rng = np.random.default_rng(number)
    sizes = {"T": frames, "N": POINTS}
    labels = {
        name: np.asarray(rng.normal(size=tuple(sizes.get(n, n) for n in shape)), np.float32)
        for name, shape in LABELS.items()
    }
    audio = rng.integers(-3000, 3000, 640 * frames).astype(np.int16)
    audio[0] = number
    record = Record(
        clip_id=f"clip-{number}",
        person_id=f"person-{number // 2}",
        split=split,
        source="noise",
        fps=25.0,
        frames=tuple(encode_jpeg(rng.integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8)) for _ in range(frames)),
        audio=audio,
        landmark_set="three points",
        matte=tuple(encode_matte(rng.random((SIZE, SIZE))) for _ in range(frames)),
        **labels,
    )
    return dataclasses.replace(record, **dict.fromkeys(unlabelled)) if number % 2 else record


def write_tiny(directory, clips: int, shards: int, split: str = "train", formats=FORMATS, unlabelled=()) -> Manifest:
    """Clips 0 to `clips` - 1 in shards of nearly equal length, and the manifest."""
    bounds = [-(-clips * i // shards) for i in range(shards + 1)]
    for index in range(shards):
        records = (tiny_record(n, split, unlabelled=unlabelled) for n in range(bounds[index], bounds[index + 1]))
        write_shard(directory, Shard(split, index, shards), records, formats)
    return write_manifest(directory)


def assert_same(a: Record, b: Record):
    for field in dataclasses.fields(Record):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, np.ndarray):
            assert x.dtype == y.dtype and x.shape == y.shape and (x == y).all(), field.name
        else:
            assert x == y, field.name
