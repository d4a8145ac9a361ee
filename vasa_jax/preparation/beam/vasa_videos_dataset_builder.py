"""Data preparation on many machines: videos to a TensorFlow Datasets data set through Apache Beam, without TensorFlow.

    pip install -e ".[prep,beam]"                            (an environment of its own: Beam has older pins)
    python -m vasa_jax.main --config configs/prepare.py --config.videos=DIR --config.output=DIR \
        --config.prepare.beam="--runner=DirectRunner --direct_num_workers=0 --direct_running_mode=multi_processing"

`VASADataset(DIR/vasa_videos/1.0.0)` reads the result. On Google Cloud Dataflow, with the package as built by
`pip wheel --no-deps -w dist .`:

    --config.prepare.beam="--runner=DataflowRunner --project=P --region=R --temp_location=gs://B/temp \
        --extra_package=dist/vasa_jax-0.1.0-py3-none-any.whl --requirements_file=requirements.txt \
        --sdk_container_image=IMAGE --max_num_workers=64"

Videos and graph files are opened as local files: workers must see them under the same paths as the machine that starts
the job (a network disk, a bucket mounted in IMAGE). The output may be a bucket, gs://B/prepared.

Every video is one element, treated as by the processes of one machine (`work.prepare_video`). Discards go to
DIR/discards.jsonl, the mean that distances are divided by to DIR/distance_mean.txt. Where DIR is a path, the clips of a
video are kept in DIR/work as soon as they are made, as on one machine. So a run that was stopped goes
on with the videos that are not done, also after one without `beam`. More videos may be added later; only the data set
is written anew. With a bucket's address as DIR every run starts from nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vasa_jax.config import PrepareConfig
from vasa_jax.data.records import SCHEMA_VERSION, Record
from vasa_jax.data.tfds_records import example_of, record_features
from vasa_jax.errors import InputError
from vasa_jax.preparation.work import VideoJob, prepare_video, read_clip, read_outcome


class Builder(tfds.core.GeneratorBasedBuilder):
    """Clips of a list of videos; made by `build_with_beam`."""

    name = "vasa_videos"
    VERSION = tfds.core.Version(f"{SCHEMA_VERSION}.0.0")
    RELEASE_NOTES = {"1.0.0": "Schema version 1."}  # noqa: RUF012 (the name and type are TFDS's)

    def __init__(
        self,
        *,
        jobs: list[VideoJob] = (),
        settings: PrepareConfig | None = None,
        output: str = "",
        work: str = "",
        **kwargs,
    ):
        self._jobs, self._settings, self._output, self._work = list(jobs), settings or PrepareConfig(), output, work
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Talking-head clips of videos with their sound and labels, in the record schema of vasa_jax.",
            features=record_features(),
            license="As the videos.",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager, pipeline):
        import apache_beam as beam

        prepared = (
            pipeline
            | "videos" >> beam.Create(self._jobs)
            | "one machine each" >> beam.Reshuffle()
            | "clips" >> beam.FlatMap(_outcomes, self._settings, self._work).with_outputs("discard", main="clip")
        )
        mean = (
            prepared.clip
            | "distances" >> beam.FlatMap(lambda clip: [float(clip.distance)] if clip.distance is not None else [])
            | "mean distance" >> beam.combiners.Mean.Globally()
        )
        for label, values, path in (
            ("list discards", prepared.discard, "discards.jsonl"),
            ("keep the mean", mean | "as text" >> beam.Map(str), "distance_mean.txt"),
        ):
            values | label >> beam.io.WriteToText(f"{self._output}/{path}", shard_name_template="")
        return {
            split: (
                prepared.clip
                | f"of {split}" >> beam.Filter(lambda clip, split: clip.split == split, split)
                | f"{split} examples" >> beam.Map(_example, mean=beam.pvalue.AsSingleton(mean))
            )
            for split in sorted({job.split for job in self._jobs})
        }

    def _generate_examples(self, clips):
        return clips


def _outcomes(job: VideoJob, settings: PrepareConfig, work: str) -> Iterator[Any]:
    """The records of a video, and its discards as JSON lines under the tag `discard`.

    work: folder that keeps what each video gave; what is there is not made again. Empty: nothing is kept.
    """
    import apache_beam as beam

    with contextlib.ExitStack() as stack:
        folder = Path(work or stack.enter_context(tempfile.TemporaryDirectory()))
        if read_outcome(folder, job) is None:
            prepare_video(job, folder, settings)
        outcome = read_outcome(folder, job)
        for discard in outcome["discards"]:
            beam.metrics.Metrics.counter("prepare", f"discarded: {discard['reason']}").inc()
            yield beam.pvalue.TaggedOutput("discard", json.dumps({"video": job.name, **discard}))
        beam.metrics.Metrics.counter("prepare", "clips").inc(len(outcome["clips"]))
        for index in range(len(outcome["clips"])):
            yield dataclasses.replace(read_clip(folder, job.key, index), split=job.split)


def _example(record: Record, mean: float) -> tuple[str, dict[str, Any]]:
    if record.distance is not None:
        record = dataclasses.replace(record, distance=np.float32(record.distance / mean).reshape(()))
    return record.clip_id, example_of(record)


def build_with_beam(jobs: list[VideoJob], output: str, settings: PrepareConfig, work: str = ""):
    """Runs the pipeline with the options `settings.beam` and returns the builder. A data set that is there is replaced.

    work: folder that all workers see, which keeps what each video gave for the next run; empty: nothing is kept.
    Raises InputError without apache_beam, and for a split without clips.
    """
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise InputError(
            f"config.prepare.beam: apache_beam cannot be imported ({error}); run `pip install apache-beam`, "
            "or leave the setting empty"
        ) from error
    builder = Builder(
        jobs=jobs, settings=settings, output=output, work=work, data_dir=output, file_format="array_record"
    )
    options = PipelineOptions(shlex.split(settings.beam))
    config = tfds.download.DownloadConfig(
        beam_options=options,
        register_checksums=False,
        download_mode=tfds.GenerateMode.REUSE_CACHE_IF_EXISTS,
    )
    try:
        builder.download_and_prepare(download_config=config)
    except ValueError as error:  # TFDS checks the written examples of every split
        if "number of generated examples" not in str(error):
            raise
        raise InputError(
            f"{output}: a split has no clip, and TFDS takes none that is empty; see {output}/discards.jsonl, use more "
            "videos or another config.prepare.heldout"
        ) from error
    return builder
