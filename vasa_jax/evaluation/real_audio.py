"""Job `evaluate_voices`: do the lips follow real voices, which training on a synthesiser never had?

    python -m vasa_jax.main --config configs/evaluate_voices.py --config.videos=DIR --config.prepare.models=face_models

Clips of real speakers are sound and mouth of a user's folder of videos, by the chain of job `prepare`. The sound of
each clip drives a held-out head. The opening of its mouth, read by the face probe, is compared with that of the real
speaker, found by landmarks in the clip. Beside it stand videos from the sound of other clips: what is got without
listening. The loudness of the clip's own sound is what is got without a model.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from vasa_jax.config import PrepareConfig, VASAConfig
from vasa_jax.conventions import FPS, SAMPLES_PER_FRAME
from vasa_jax.errors import InputError
from vasa_jax.evaluation import metrics, sheets
from vasa_jax.evaluation.face_readings import FaceReader
from vasa_jax.evaluation.held_out import HeldOutHeads
from vasa_jax.evaluation.report import Rows, markdown_table, metrics_table, save_report, setting
from vasa_jax.evaluation.speaker_list import Speaker, by_people, people_rows, read_speakers, why_left_out
from vasa_jax.evaluation.stage import Generator
from vasa_jax.generation.control_track import controls_of
from vasa_jax.generation.controls import Controls
from vasa_jax.preparation import landmark_labels
from vasa_jax.preparation.face_backends.factory import open_analyzer
from vasa_jax.preparation.prepare import find_videos, run_jobs, same_settings
from vasa_jax.preparation.report import plain_text
from vasa_jax.preparation.work import read_clip, read_outcome

IMAGE_SIDE = 32  # pixels: the records' images are not used here, landmarks are found in large ones
CURVE_WIDTH = 900  # pixels
COLUMNS = {"own": "own sound", "shuffled": "another clip's sound", "loudness": "loudness of the own sound"}
ROWS: Rows = {
    "r": ("mouth opening, r", 3),
    "r_at_offset": ("mouth opening, r at the best offset", 3),
    "offset": ("best offset, frames (+ is late)", 2),
    "offset_size": ("best offset, absolute, frames", 2),
    "r_lips": ("against the height of the lips, r", 3),
    "pooled": ("mouth opening, r over all frames, each clip about its mean", 3),
}
CLIP_COLUMNS = ("clip", "seconds", "r", "another's", "loudness", "best offset", "r there", "another's")


@dataclasses.dataclass(frozen=True)
class RealClip:
    """Holds T frames of one speaker at 25 fps."""

    name: str
    video: str  # relative to the folder
    samples: np.ndarray  # float32 (640 T,) at 16 kHz, in step with the image where that could be measured
    mouth: np.ndarray  # (T,) inner-lip distance over inter-ocular distance
    lips: np.ndarray  # (T,) distance of the lips' outer edges over the same


def real_clips(
    videos: str, prepare: PrepareConfig, seconds: float, per_video: int, work: Path
) -> tuple[list[RealClip], dict[str, str]]:
    """Finds the first `per_video` clips of at most `seconds` s of each video.

    Returns them, and why the other videos gave none, by name. What is found is kept in `work`: a second run, with other
    weights, need not analyse again. Raises InputError where there is no video, no analyzer that finds landmarks, or a
    `work` that other settings made.
    """
    settings = dataclasses.replace(
        prepare, matte=False, size=IMAGE_SIDE, max_seconds=seconds, min_seconds=min(prepare.min_seconds, seconds)
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


def evaluate_voices(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """Reports on the model in `config.checkpoint`, measured by the face probe beside it."""
    from vasa_jax.generation.generator import VideoGenerator

    controls, voices = controls_of(config), config.voices
    speakers = read_speakers(voices.speakers) if voices.speakers else None
    reader = FaceReader.from_pretrained(config.checkpoint)
    generator = VideoGenerator.from_pretrained(config.checkpoint, config.decode_batch, mark=False)
    work = Path(workdir) / "clips"
    clips, none = real_clips(config.videos, config.prepare, voices.seconds, voices.per_video, work)
    if speakers is not None:
        left_out = {clip.video: why for clip in clips if (why := why_left_out(clip.video, speakers))}
        clips, none = [clip for clip in clips if clip.video not in left_out], none | left_out
    heads = HeldOutHeads(generator.image_size, config.seed, config.corpus.supersample)
    portraits = [heads.portrait(heads.identity(number)) for number in range(voices.heads)]
    return measure_voices(generator, reader, portraits, clips, none, controls, workdir, speakers)


def measure_voices(
    generator: Generator,
    reader: FaceReader,
    portraits: Sequence[np.ndarray],
    clips: Sequence[RealClip],
    none: dict[str, str],
    controls: Controls,
    workdir: str | Path,
    speakers: Mapping[str, Speaker] | None = None,
) -> dict[str, Any]:
    """Writes report.md, report.json and curves.png to the workdir and returns the report.

    Clips take turns with the portraits, uint8 (n, n, 3). none: videos without a clip, and why. speakers: who speaks in
    each video, for figures by person, language and kind. Raises InputError for clips of fewer than two videos, as the
    sound of another one is needed.
    """
    if len({clip.video for clip in clips}) < 2:
        found = f"{len(clips)} clips of {len({clip.video for clip in clips})} videos"
        why = "; ".join(f"{name}: {reason}" for name, reason in list(none.items())[:3])
        raise InputError(
            f"config.videos: {found} can be used, two videos are needed{f' ({why})' if why else ''}; give more "
            "videos of talking people"
        )
    avatars = [generator.prepare(portrait) for portrait in portraits]
    generated = []
    for number, clip in enumerate(clips):
        avatar = avatars[number % len(avatars)]
        seeded = dataclasses.replace(controls, seed=controls.seed + number)
        motion = generator.motion(clip.samples, avatar, controls=seeded)
        frames = np.concatenate(list(generator.render(avatar, motion)))
        generated.append(reader.measure(frames).mouth)
        logging.info("%s: %d of %d", clip.name, number + 1, len(clips))
    report = compared(clips, generated)
    if speakers is not None:
        report["people"] = by_people(report["clips"], tuple(COLUMNS), speakers)
    report |= {
        "none": none,
        "heads": len(avatars),
        "controls": dataclasses.asdict(controls),
        "face_probe": reader.training_errors,
    }
    curves = [
        sheets.curves({"real": clip.mouth, "generated": mouth}, f"{clip.name}: mouth opening", CURVE_WIDTH)
        for clip, mouth in zip(clips, generated)
    ]
    sheets.save(Path(workdir) / "curves.png", np.concatenate(curves))
    save_report(report, voices_markdown(report), workdir)
    return report


def compared(clips: Sequence[RealClip], generated: Sequence[np.ndarray]) -> dict[str, Any]:
    """Returns metrics per clip and pooled.

    They are of each clip's own sound, of the sound of every clip of another video, and of its own sound's loudness.

    generated: mouth opening (T,) of the video that each clip's sound made.
    """
    rows = []
    for clip, mouth in zip(clips, generated):
        others = [track for other, track in zip(clips, generated) if other.video != clip.video]
        own = _metrics(mouth, clip)
        shuffled = [_metrics(track, clip) for track in others]
        rows.append(
            {
                "name": clip.name,
                "video": clip.video,
                "seconds": len(clip.mouth) / FPS,
                "own": own,
                "shuffled": {name: float(np.mean([row[name] for row in shuffled])) for name in own},
                "loudness": _metrics(metrics.level(clip.samples), clip),
                "beaten": float(np.mean([(own["r"] > row["r"]) + 0.5 * (own["r"] == row["r"]) for row in shuffled])),
            }
        )
    by_video = {row["video"]: [other for other in rows if other["video"] == row["video"]] for row in rows}

    def spread(get) -> dict[str, float]:
        """Returns mean and error over videos: parts of one are no independent evidence."""
        return metrics.spread(float(np.mean([get(row) for row in parts])) for parts in by_video.values())

    columns = ("own", "shuffled", "loudness")
    pooled = {
        "own": [_common(mouth, clip.mouth) for clip, mouth in zip(clips, generated)],
        "shuffled": [
            _common(mouth, clip.mouth)
            for clip in clips
            for other, mouth in zip(clips, generated)
            if other.video != clip.video
        ],
        "loudness": [_common(metrics.level(clip.samples), clip.mouth) for clip in clips],
    }
    return {
        "clips": rows,
        "videos": len(by_video),
        "table": {
            name: {column: spread(lambda row, c=column, n=name: row[c][n]) for column in columns}
            for name in rows[0]["own"]
        },
        "pooled": {
            column: metrics.pooled_pearson([(a - a.mean(), b - b.mean()) for a, b in pairs])
            for column, pairs in pooled.items()
        },
        "gain": spread(lambda row: row["own"]["r"] - row["shuffled"]["r"]),
        "beaten": spread(lambda row: row["beaten"]),
    }


def _metrics(track: np.ndarray, clip: RealClip) -> dict[str, float]:
    """Compares a track with the real speaker's mouth, over the frames that both have."""
    mouth, real = _common(track, clip.mouth)
    offset, r = metrics.best_offset(mouth, real)
    return {
        "r": metrics.pearson(mouth, real),
        "offset": float(offset),
        "offset_size": float(abs(offset)),
        "r_at_offset": r,
        "r_lips": metrics.pearson(*_common(track, clip.lips)),
    }


def _common(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    frames = min(len(a), len(b))
    return a[:frames], b[:frames]


def voices_markdown(report: dict[str, Any]) -> str:
    """Writes the tables: pooled, then per clip, then what was not used."""
    controls, clips, known = report["controls"], report["clips"], report["face_probe"]
    lines = ["# Real voices", ""]
    if {"mouth_r", "mouth_mae"} <= set(known):
        lines += [
            f"The face probe on true renders: mouth opening r {known['mouth_r']:.3f}, mean absolute error "
            f"{known['mouth_mae']:.4f}. The real mouth comes from landmarks (config.prepare.analyzer), whose own error "
            "on drawn heads job label_accuracy measures.",
            "",
        ]
    by_column = {column: {name: report["table"][name][column] for name in report["table"]} for column in COLUMNS}
    for column in COLUMNS:
        by_column[column]["pooled"] = {"mean": report["pooled"][column]}
    gain, beaten = report["gain"], report["beaten"]
    how = f"hop {controls['hop']}, look-ahead {controls['look_ahead']}" if controls["hop"] else "whole windows"
    lines += [
        f"{len(clips)} clips of {report['videos']} videos drive {report['heads']} held-out heads; {how}, "
        f"{controls['steps']} steps of {controls['solver']}, audio guidance {setting(controls['audio_guidance'])}, "
        f"seed {controls['seed']}.",
        "",
        f"Own sound over another clip's: r {gain['mean']:+.3f} +- {gain['error']:.3f}; it is the better one in "
        f"{beaten['mean']:.0%} +- {beaten['error']:.0%} of the pairs (chance: 50 %).",
        "",
        *metrics_table(ROWS, COLUMNS, by_column),
        "",
        "Mean +- standard error over videos. A best offset is searched over 12 frames either way, which finds a larger "
        "r by chance too: compare it with the other sound's.",
        "",
        *_people_lines(report.get("people")),
        "## Per clip",
        "",
        *markdown_table(CLIP_COLUMNS, [_clip_row(row) for row in clips]),
    ]
    if report["none"]:
        lines += ["", "## Videos that gave no clip", ""]
        lines += [f"* {plain_text(f'{name}: {reason}')}" for name, reason in report["none"].items()]
    return "\n".join([*lines, "", "curves.png shows both openings of every clip.", ""])


def _people_lines(people: dict[str, Any] | None) -> list[str]:
    if people is None:
        return []
    head = ("clips of", "clips", "people", *(f"r, {name}" for name in COLUMNS.values()), "best offset 0 +- 1")
    return [
        "## People that no training had",
        "",
        *markdown_table(head, people_rows(people, tuple(COLUMNS))),
        "",
        "Mean [95 % confidence interval of the mean over people, Student's].",
        "",
    ]


def _clip_row(row: dict[str, Any]) -> list[str]:
    own, shuffled = row["own"], row["shuffled"]
    return [
        plain_text(row["name"]),
        f"{row['seconds']:.1f}",
        f"{own['r']:.3f}",
        f"{shuffled['r']:.3f}",
        f"{row['loudness']['r']:.3f}",
        f"{own['offset']:+.0f}",
        f"{own['r_at_offset']:.3f}",
        f"{shuffled['r_at_offset']:.3f}",
    ]
