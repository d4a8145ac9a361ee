"""Clips of real speakers as sound and mouth: what a user's folder of videos gives by the chain of job `prepare`."""

import dataclasses
from pathlib import Path

import numpy as np

from vasa_jax.config import PrepareConfig
from vasa_jax.conventions import SAMPLES_PER_FRAME
from vasa_jax.errors import InputError
from vasa_jax.preparation import landmark_labels
from vasa_jax.preparation.face_backends.base import open_analyzer
from vasa_jax.preparation.prepare import find_videos, read_clip, read_outcome, run_jobs, same_settings

PICTURE = 32  # pixels: the records' pictures are not used here, landmarks are found in large ones


@dataclasses.dataclass(frozen=True)
class RealClip:
    """T frames of one speaker at 25 fps."""

    name: str
    video: str  # relative to the folder
    samples: np.ndarray  # float32 (640 T,) at 16 kHz, in step with the picture where that could be measured
    mouth: np.ndarray  # (T,) inner-lip distance over inter-ocular distance
    lips: np.ndarray  # (T,) distance of the lips' outer edges over the same


def real_clips(
    videos: str, prepare: PrepareConfig, seconds: float, per_video: int, work: Path
) -> tuple[list[RealClip], dict[str, str]]:
    """(the first `per_video` clips of at most `seconds` s of each video, why the other videos gave none, by name).

    What is found is kept in `work`: a second run, with other weights, need not analyse again. InputError where there is
    no video, no analyzer that finds landmarks, or a `work` that other settings made.
    """
    settings = dataclasses.replace(
        prepare, matte=False, size=PICTURE, max_seconds=seconds, min_seconds=min(prepare.min_seconds, seconds)
    )
    jobs = find_videos(videos, settings)
    same_settings(work, settings, "--workdir")
    if any(read_outcome(work, job) is None for job in jobs):
        analyzer = open_analyzer(settings.analyzer, settings.models)  # an unusable one is found here, not per video
        if not analyzer.landmark_set:
            raise InputError(f"config.prepare.analyzer: {analyzer.name} finds no lips; choose litert")
    clips, none = [], {}
    for job, outcome in zip(jobs, run_jobs(jobs, work, settings)):
        for index, clip in enumerate(outcome["clips"][:per_video]):
            record = read_clip(work, job.key, index)
            frames = len(record.mouth)
            clips.append(
                RealClip(
                    name=clip["clip_id"],
                    video=outcome["video"],
                    samples=record.audio[: frames * SAMPLES_PER_FRAME].astype(np.float32) / 32767.0,
                    mouth=np.asarray(record.mouth, np.float64),
                    lips=np.asarray(landmark_labels.lip_height(record.landmarks), np.float64),
                )
            )
        if not outcome["clips"]:
            none[outcome["video"]] = "; ".join(dict.fromkeys(d["reason"] for d in outcome["discards"])) or "no clip"
    return clips, none
