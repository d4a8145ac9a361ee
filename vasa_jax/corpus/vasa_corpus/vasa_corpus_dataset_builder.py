"""Records as a TensorFlow Datasets data set, without TensorFlow:

    from vasa_jax.corpus.vasa_corpus.vasa_corpus_dataset_builder import build
    build("runs/synthesize", "tfds")                                  # shards written by configs/synthesize.py
    tfds.builder_from_directory("tfds/vasa_corpus/1.0.0").as_data_source("train")

Features are those of `vasa_jax.data.records`, with the same names; a label that a clip lacks is empty (zero for labels
of fixed length) and its `valid/NAME` is 0.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from vasa_jax.data.records import SCHEMA_VERSION
from vasa_jax.data.shards import FORMATS, ShardReader, read_manifest
from vasa_jax.data.tfds_records import example_of, record_features
from vasa_jax.errors import InputError


class Builder(tfds.core.GeneratorBasedBuilder):
    """Talking-head clips from shards; point `manual_dir` at the directory with their manifest.json."""

    name = "vasa_corpus"
    VERSION = tfds.core.Version(f"{SCHEMA_VERSION}.0.0")
    RELEASE_NOTES = {"1.0.0": "Schema version 1."}  # noqa: RUF012 (the name and type are TFDS's)
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Write shards first: python -m vasa_jax.main --config configs/synthesize.py"

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Talking-head clips with their sound and labels, in the record schema of vasa_jax.",
            features=record_features(),
            license="As the source of the clips.",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        manifest = read_manifest(dl_manager.manual_dir)
        splits = sorted({shard.split for shard in manifest.shards})
        return {split: self._generate_examples(manifest, split) for split in splits}

    def _generate_examples(self, manifest, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for shard in manifest.split(split):
            reader = ShardReader(manifest, shard, next(name for name in FORMATS if name in shard.files))
            for index in range(len(reader)):
                record = reader[index]
                yield record.clip_id, example_of(record)


def build(shards: str | Path, data_dir: str | Path) -> Path:
    """Builds the TFDS data set of a directory of shards under `data_dir`, in array_record format; its directory."""
    if not Path(shards).is_dir():
        raise InputError(f"{shards}: no such directory; write the shards first, see configs/synthesize.py")
    builder = Builder(data_dir=str(data_dir), file_format="array_record")
    config = tfds.download.DownloadConfig(manual_dir=str(shards), register_checksums=False)
    builder.download_and_prepare(download_config=config)
    return Path(builder.data_dir)
