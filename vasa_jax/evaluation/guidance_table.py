"""VASA-1's Table 5 in shape: guidance by sound and gaze, and steps, against lips, head motion, gaze and distance.

A row is a way to sample. Everything is measured on held-out heads, whose own main gaze and distance are asked for.
Columns of the published networks are there where the user has them; ours have names of their own.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from vasa_jax.config import ControlsEvaluationConfig
from vasa_jax.config.reports import guidance_row
from vasa_jax.conventions import SAMPLES_PER_FRAME
from vasa_jax.evaluation import frechet, metrics
from vasa_jax.evaluation.metrics import Metrics, mean_metrics, spread
from vasa_jax.evaluation.protocol import Instruments
from vasa_jax.evaluation.report import Rows, cell, markdown_table
from vasa_jax.evaluation.sound_scores import sound_scores
from vasa_jax.evaluation.stage import Stage, Take
from vasa_jax.evaluation.sync import face_crops
from vasa_jax.generation.controls import Controls

TRUTH = "true videos"
COLUMNS: Rows = {
    "sync_confidence": ("S_C", 3),
    "sync_distance": ("S_D", 3),
    "probe_sync_confidence": ("sync probe, confidence", 3),
    "probe_sync_distance": ("sync probe, distance", 3),
    "capp": ("CAPP, own weights", 3),
    "delta_p": ("delta P, degrees", 3),
    "fvd": ("FVD_25", 1),
    "frd": ("FRD, own probe", 3),
    "gaze_error": ("gaze error, degrees", 2),
    "distance_error": ("distance error", 4),
}
_SETS = {"fvd": "logits", "frd": "readings"}  # distances between sets of clips, and what they compare


class Seen(NamedTuple):
    """What is known of the takes of one head in one way: metrics, and features of their clips of 25 frames."""

    metrics: Metrics
    readings: np.ndarray
    logits: np.ndarray | None


def guidance_way(text: str) -> tuple[str, dict[str, float]]:
    """Returns the title of a row and the fields of `Controls` that it sets, of "0.5:1:50"."""
    audio, gaze, steps = guidance_row(text)
    way = {"audio_guidance": audio, "gaze_guidance": gaze, "steps": steps}
    return f"audio {audio:g}, gaze {gaze:g}, {steps} steps", way


class GuidanceTable:
    """Samples and measures the rows of the table.

    Attributes:
      rows: {title: controls that differ}; given: what is asked for beside the sound.
    """

    def __init__(
        self,
        settings: ControlsEvaluationConfig,
        controls: Controls,
        trained_controls: tuple[str, ...],
        tools: Instruments,
    ):
        self._samples, self._controls, self._tools = settings.samples, controls, tools
        self.given = tuple(name for name in ("gaze", "distance") if name in trained_controls)
        self.rows = dict(map(guidance_way, settings.rows))

    def head(self, stage: Stage, index: int, truth: Take) -> dict[str, Seen]:
        """Returns what each row and the true video show of one head; every row has the same seeds."""
        given = {name: getattr(stage.head, name) for name in self.given}
        found = {}
        for title, way in self.rows.items():
            seeds = (1_000 * self._controls.seed + index * self._samples + number for number in range(self._samples))
            asked = [dataclasses.replace(self._controls, seed=seed, **way, **given) for seed in seeds]
            found[title] = self._seen(stage, [stage.take(controls) for controls in asked], stage.head.samples)
        window = stage.head.window
        heard = stage.head.samples[window.start * SAMPLES_PER_FRAME : window.stop * SAMPLES_PER_FRAME]
        return found | {TRUTH: self._seen(stage, [truth], heard)}

    def summary(self, heads: list[dict[str, Seen]]) -> dict[str, dict[str, dict[str, float]]]:
        """Returns {row: {column: {mean, error}}} over heads; distances between sets have a mean only."""
        table = {}
        for title in heads[0]:
            each = [head[title].metrics for head in heads]
            known = [name for name in COLUMNS if any(name in found for found in each)]
            table[title] = {name: spread([found.get(name) for found in each]) for name in known}
            for name, field in _SETS.items():
                if title != TRUTH and (distance := _distance(heads, title, field)) is not None:
                    table[title][name] = {"mean": distance}
        return table

    def _seen(self, stage: Stage, takes: list[Take], samples: np.ndarray) -> Seen:
        fvd = self._tools.fvd
        return Seen(
            mean_metrics([self._metrics(stage, take, samples) for take in takes]),
            np.concatenate([frechet.reading_features(take.reading) for take in takes]),
            np.concatenate([fvd(take.frames) for take in takes]) if fvd else None,
        )

    def _metrics(self, stage: Stage, take: Take, samples: np.ndarray) -> Metrics:
        reading, side = take.reading, take.frames.shape[1]

        def faces():
            places = (reading.landmarks + 1.0) / 2.0 * side
            return face_crops(take.frames, np.concatenate([places.min(1), places.max(1)], axis=1))

        found = {name: take.metrics[name] for name in ("gaze_error", "distance_error")}
        found["delta_p"] = metrics.head_motion(reading.pose)
        return found | sound_scores(take.frames, reading, samples, stage.reader.points, self._tools, faces)


def _distance(heads: list[dict[str, Seen]], title: str, field: str) -> float | None:
    """The Fréchet distance of a row's clips from the true ones; None where either has fewer than two, or no network."""
    sets = [[getattr(head[which], field) for head in heads] for which in (title, TRUTH)]
    if any(part is None for of in sets for part in of):
        return None
    clips = [np.concatenate(of) for of in sets]
    if min(map(len, clips)) < 2:
        return None
    return frechet.frechet_distance(*map(frechet.gaussian, clips))


def guidance_markdown(table: dict[str, dict[str, Any]], given: tuple[str, ...], about: str) -> list[str]:
    """Returns Markdown lines: a line for each row, a column for each figure that any row has. about: how sampled."""
    if not table:
        return []
    used = {name: heading for name, heading in COLUMNS.items() if any(name in row for row in table.values())}
    body = [[title, *(cell(row.get(name), digits) for name, (_, digits) in used.items())]
            for title, row in table.items()]  # fmt: skip
    missing = [COLUMNS[name][0] for name in ("sync_confidence", "sync_distance", "fvd") if name not in used]
    lines = [
        "## Guidance by sound and gaze, and steps",
        "",
        *markdown_table(["guidance", *(heading for heading, _ in used.values())], body),
        "",
        f"The shape of VASA-1's Table 5; {about}. Asked for: {', '.join(given) or 'nothing beside the sound'}. "
        "Distances between sets are from the true videos' clips and too large where there are few. Our networks' "
        "figures compare rows of this table, and nothing else.",
        "",
    ]
    if missing:
        lines += [f"Not measured: {', '.join(missing)} (config.videos_evaluation.networks).", ""]
    return lines
