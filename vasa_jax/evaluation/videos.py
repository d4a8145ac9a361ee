"""Job `evaluate_videos`: measures of any videos of talking faces: ours, another system's, real ones.

    python -m vasa_jax.main --config configs/evaluate_videos.py --config.videos=DIR --config.references=DIR

Each video is measured by itself, and against its reference: a true video of the same speech, or a portrait. All
references are measured too, so that every figure stands beside that of real videos.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from vasa_jax.config import VASAConfig
from vasa_jax.conventions import FPS
from vasa_jax.data.face_crop import crop_square, parse_crop
from vasa_jax.errors import InputError
from vasa_jax.evaluation import frechet, metrics
from vasa_jax.evaluation.image_metrics import image_metrics
from vasa_jax.evaluation.measured_video import Measured, measured
from vasa_jax.evaluation.picture_features import coefficient_distances
from vasa_jax.evaluation.protocol import Instruments
from vasa_jax.evaluation.video_list import Entry, File, entries
from vasa_jax.evaluation.video_metrics import PAIR_ROWS, ROWS, identity, pair_metrics, seam
from vasa_jax.evaluation.video_report import write_report
from vasa_jax.evaluation.watched_video import whole_frames
from vasa_jax.files import write_json
from vasa_jax.limits import InputLimits

# Fréchet distances, and the features of `Measured` that each compares.
SETS = {"frd": "readings_24", "efrd": "expressions", "fpd": "pictures", "fvd": "logits", "fid": "inception",
        "efid": "expression_coefficients"}  # fmt: skip
COMPARED = 50  # frames of a pair whose pixels are compared


def evaluate_videos(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """Reports on the videos of `config.videos` or `config.manifest`."""
    videos, references = entries(config)
    return Evaluator(config, Instruments.open(config.videos_evaluation)).run(videos, references, workdir)


class Evaluator:
    """Measures videos by one protocol. The same files give the same bytes on one kind of machine."""

    def __init__(self, config: VASAConfig, tools: Instruments):
        self._settings, self._limits, self._tools = config.videos_evaluation, config.limits, tools

    def run(
        self, videos: Sequence[Entry], references: Sequence[File], workdir: str | Path, measures: str | Path = "",
        printed: bool = True,
    ) -> dict[str, Any]:  # fmt: skip
        """Writes protocol.json, clips.csv, report.md, report.json, plots.png and sheets/ and returns the report.

        `measures`, or `workdir`/measured, keeps what is measured of each file: a second run goes on where the first
        was ended. `printed`: the report's text is printed too.
        InputError, after the report is written, where no video at all can be measured.
        """
        # A GPU multiplies in TF32 else, of 11 bits: the third digit of a figure would tell the device.
        with jax.default_matmul_precision("float32"):
            return self._run(videos, references, Path(workdir), measures, printed)

    def _run(
        self, videos: Sequence[Entry], references: Sequence[File], workdir: Path, measures: str | Path, printed: bool
    ) -> dict[str, Any]:
        measures = Path(measures or workdir / "measured")
        write_json(workdir / "protocol.json", self._tools.protocol)
        every = {file.name: file for file in [*(entry.video for entry in videos), *references]}
        portraits = {entry.portrait.name: entry.portrait for entry in videos if entry.portrait}
        known: dict[str, Measured] = {}
        for kind, files in (("video", every), ("portrait", portraits)):
            for number, (name, file) in enumerate(files.items(), start=1):
                known[f"{kind} {name}"] = one = measured(
                    file, kind, self._settings, self._limits, self._tools, measures
                )
                logging.info("%s %d of %d: %s", kind, number, len(files), one.fault or name)
        clips = [self._clip(entry, known) for entry in videos]
        for clip, floor in zip(clips, capp_of_others([known[f"video {entry.video.name}"] for entry in videos])):
            clip["metrics"] |= floor
        real = [known[f"video {file.name}"] for file in references]
        real = [dataclasses.replace(one, metrics=one.metrics | floor) for one, floor in zip(real, capp_of_others(real))]
        report = self._summary(clips, real) | {
            "frechet": _frechet([known[f"video {clip['name']}"] for clip in clips if not clip["fault"]], real)
        }
        shown = [(known[f"video {entry.video.name}"], _of(known, "video", entry.reference)) for entry in videos]
        write_report(report, shown, workdir, printed)
        if all(clip["fault"] for clip in clips):
            raise InputError(f"config.videos: none of {len(clips)} can be measured ({clips[0]['fault']}); give others")
        return report

    def _clip(self, entry: Entry, known: dict[str, Measured]) -> dict[str, Any]:
        """One video's row: its own metrics, and those against what belongs to it."""
        own = known[f"video {entry.video.name}"]
        row = {
            "name": entry.video.name, "fault": own.fault, "metrics": dict(own.metrics), "about": own.about, "pair": {},
            "reference": None, "notes": [], "curves": own.curves,
        }  # fmt: skip
        if own.fault:
            return row
        truth, portrait = _of(known, "video", entry.reference), _of(known, "portrait", entry.portrait)
        for kind, other in (("reference", truth), ("portrait", portrait)):
            if other is not None and other.fault:
                row["notes"].append(f"{kind} not used: {other.fault}")
        if truth is not None and not truth.fault:
            row["reference"] = truth.file.name
            row["pair"] = pair_metrics(own.reading, truth.reading, self._tools.reader.points) | self._pixels(own, truth)
            if own.coefficients is not None and truth.coefficients is not None:
                row["pair"] |= coefficient_distances(own.coefficients, truth.coefficients)
        if portrait is not None and not portrait.fault:
            row["pair"]["identity"] = identity(own.reading, portrait.reading)
        if entry.gaze is not None:
            row["pair"]["gaze_error"] = metrics.gaze_error(own.reading.gaze, own.reading.lids, entry.gaze)
        wanted = entry.distance
        if wanted is None and row["reference"] and _sizes(own) == _sizes(truth):  # others are framed in another way
            wanted = truth.metrics["distance"]
        if entry.pasted is not None:
            shape, frames = _sizes(own)[::-1], own.about["frames"]
            whole = whole_frames(own.file.path, frames / FPS, self._limits, shape)
            found = seam(itertools.islice(whole, 0, None, max(frames // COMPARED, 1)), entry.pasted)
            row["pair"] |= {} if found is None else {"seam": found}
        if wanted is not None:
            row["pair"]["distance_error"] = abs(own.metrics["distance"] - wanted)
        return row

    def _pixels(self, own: Measured, truth: Measured) -> dict[str, float]:
        """PSNR, SSIM and what judges say, within the reference's square, where both videos are of one size."""
        if _sizes(own) != _sizes(truth):
            return {}
        frames = min(own.about["frames"], truth.about["frames"])
        rows = set(np.linspace(0, frames - 1, min(COMPARED, frames)).round().astype(int).tolist())
        pair = [_squares(one.file.path, truth.about, rows, self._settings.size, self._limits) for one in (own, truth)]
        found = image_metrics(*pair, np.ones(pair[0].shape[:3], bool))
        found = {name: found[name] for name in ("psnr", "ssim")}
        return found | (self._tools.judges.compare(*pair) if self._tools.judges else {})

    def _summary(self, clips: list[dict[str, Any]], real: list[Measured]) -> dict[str, Any]:
        used, truths = [clip for clip in clips if not clip["fault"]], [one for one in real if not one.fault]

        def table(rows, values):
            found = {
                name: {column: metrics.interval(one.get(name) for one in of) for column, of in values.items()}
                for name in rows
            }
            return {name: row for name, row in found.items() if any(row.values())}

        own = {"videos": [clip["metrics"] for clip in used], "references": [one.metrics for one in truths]}
        curves = {"videos": [clip["curves"] for clip in used], "references": [one.curves for one in truths]}
        names = sorted({name for of in curves.values() for curve in of for name in curve})
        return {
            "protocol": self._tools.protocol,
            "videos": len(clips),
            "measured": len(used),
            "references": len(real),
            "table": table(ROWS, own),
            "pairs": table(PAIR_ROWS, {"videos": [clip["pair"] for clip in used]}),
            "curves": table(names, curves),
            "clips": clips,
            "reference_clips": [{"name": one.file.name, "metrics": one.metrics, "about": one.about} for one in truths],
            "faults": {clip["name"]: clip["fault"] for clip in clips if clip["fault"]}
            | {one.file.name: one.fault for one in real if one.fault},
            "probe": self._tools.reader.training_errors,
            "capp": self._tools.capp.figures if self._tools.capp else {},
        }


def capp_of_others(videos: Sequence[Measured]) -> list[dict[str, float]]:
    """Returns `capp_other` of each video: the mean cosine of its poses' windows and those of the other videos' sound.

    Recordings that begin and end alike, a sentence within three seconds for instance, fit each other's sound too: what
    belongs together scores above this. Empty for a video without CAPP, or without another that has it.
    """
    sums = [None if one.capp_sounds is None else one.capp_sounds.astype(np.float64).sum(0) for one in videos]
    total = sum((part for part in sums if part is not None), np.zeros(()))
    windows = sum(len(one.capp_sounds) for one in videos if one.capp_sounds is not None)
    found: list[dict[str, float]] = []
    for one, own in zip(videos, sums):
        others = windows - (0 if own is None else len(one.capp_sounds))
        if own is None or not others:
            found.append({})
        else:
            poses = one.capp_poses.astype(np.float64).mean(0)
            found.append({"capp_other": float(poses @ (total - own) / others)})
    return found


def _sizes(one: Measured) -> tuple[int, int]:
    return one.about["width"], one.about["height"]


def _of(known: dict[str, Measured], kind: str, file: File | None) -> Measured | None:
    return None if file is None else known[f"{kind} {file.name}"]


def _squares(path: Path, about: dict[str, Any], rows: set[int], side: int, limits: InputLimits) -> np.ndarray:
    """The square of a measured video in the frames `rows` of a video of the same size: uint8 (N, side, side, 3)."""
    shape = about["height"], about["width"]
    crop = parse_crop(about["square"], *shape)
    frames = enumerate(whole_frames(path, (max(rows) + 1) / FPS, limits, shape))
    return np.stack([crop_square(frame, crop, side)[0] for number, frame in frames if number in rows])


def _frechet(videos: Sequence[Measured], real: Sequence[Measured]) -> dict[str, Any]:
    """Distances between the sets, and of one half of the references from the other: what real videos have."""
    found = {}
    for name, field in SETS.items():
        sets = {"videos": videos, "references": real, "half": real[::2], "other_half": real[1::2]}
        features = {which: _features(of, field) for which, of in sets.items()}
        for title, (a, b) in {"videos": ("videos", "references"), "halves": ("half", "other_half")}.items():
            if min(len(features[a]), len(features[b])) < 2:
                continue
            distance = frechet.frechet_distance(*(frechet.gaussian(features[which]) for which in (a, b)))
            found.setdefault(name, {})[title] = {"distance": distance, "clips": [len(features[a]), len(features[b])]}
    return found


def _features(of: Sequence[Measured], field: str) -> np.ndarray:
    parts = [getattr(one, field) for one in of if not one.fault and getattr(one, field) is not None]
    parts = [part for part in parts if len(part)]
    return np.concatenate(parts) if parts else np.zeros((0, 1))
