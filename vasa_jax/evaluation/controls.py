"""Job `evaluate_controls`: do controls do what they ask for, and what do guidance and steps do to lips and head?

    python -m vasa_jax.main --config configs/evaluate_controls.py --config.checkpoint=runs/model

On held-out heads, voices and sentences (VASA-1, Table 5 and section 4). `guidance_table` is that table in shape,
`sweeps` says what else is asked.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from vasa_jax.config import VASAConfig
from vasa_jax.evaluation import sheets
from vasa_jax.evaluation.face_readings import EmotionReader, FaceReader, different_people
from vasa_jax.evaluation.guidance_table import GuidanceTable, guidance_markdown
from vasa_jax.evaluation.held_out import HELD_OUT_SET, HeldOutSet
from vasa_jax.evaluation.protocol import Instruments
from vasa_jax.evaluation.report import Rows, cell, metrics_table, probe_lines, save_report
from vasa_jax.evaluation.stage import Generator, Stage, asked_throughout, probe_errors, stated
from vasa_jax.evaluation.sweeps import FREE, TRUTH, ControlSweep, SamplingSweep
from vasa_jax.generation.control_track import controls_of

# The error of each control that its chart shows.
CONTROL_ERRORS = {
    "gaze": ("gaze_error", "main gaze: error in degrees"),
    "distance": ("distance_error", "head distance: error"),
    "emotion": ("emotion_accuracy", "emotion: share of videos named right"),
}
COSTS: Rows = {
    "mouth_r": ("mouth opening, r per clip", 3),
    "head_motion_ratio": ("head motion over the clip's true one", 2),
    "identity": ("identity, cosine to the portrait", 3),
}
CONTROL_ROWS = {
    "gaze": {"gaze_error": ("main gaze, error in degrees", 2)} | COSTS,
    "distance": {"distance_error": ("head distance, error", 4)} | COSTS,
    "emotion": {
        "emotion_accuracy": ("share of videos whose emotion is named right", 2),
        "emotion_share": ("share of the wanted emotion in a frame", 2),
    }
    | COSTS,
}
SAMPLING_ROWS: Rows = {
    "mouth_r": ("mouth opening, r per clip", 3),
    "mouth_mae": ("mouth opening, mean absolute error", 4),
    "lip_shape_r": ("width and height of the lips, r per clip", 3),
    "lip_shape_mae": ("width and height of the lips, mean absolute error", 4),
    "offset": ("offset with the largest mean r, frames (+ is late)", 0),
    "in_sync": ("share of takes that are best at offset 0", 2),
    "head_motion_ratio": ("head motion over the clip's true one", 2),
    "pose_audio_r": ("speed of the head against loudness, r", 3),
    "head_diversity": ("difference of head motion between takes, degrees", 2),
    "lips_agreement": ("mouth opening, r between takes", 3),
    "identity": ("identity, cosine to the portrait", 3),
}
REFERENCES = {
    "truth": "truth, measured",
    "second": "second true take, measured",
    "shuffled": "shuffled audio",
    "constant": "constant motion",
}
EMOTION_ROWS: Rows = {
    "clip_accuracy": ("clips with at least half of an emotion, named right", 3),
    "frame_accuracy": ("their frames, named right", 3),
    "share_mae": ("share of each emotion, mean absolute error", 3),
}


def evaluate_controls(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """Reports on the model in `config.checkpoint`, measured by the probes beside it."""
    from vasa_jax.generation.generator import VideoGenerator

    reader = FaceReader.from_pretrained(config.checkpoint)
    emotions = EmotionReader.find(config.checkpoint)
    generator = VideoGenerator.from_pretrained(config.checkpoint, config.decode_batch, mark=False)
    tools = Instruments.open(config.videos_evaluation)
    return ControlsEvaluator(generator, config, reader, emotions, tools).run(workdir)


class ControlsEvaluator:
    """Measures a generator's controls, guidance and variety on the held-out set.

    The report is a function of the weights and of `config`.
    """

    def __init__(
        self, generator: Generator, config: VASAConfig, reader: FaceReader, emotions: EmotionReader | None,
        tools: Instruments,
    ):  # fmt: skip
        self._generator, self._config, self._reader, self._emotions = generator, config, reader, emotions
        self._given, trained = controls_of(config), generator.trained_controls
        self._controls = ControlSweep(config.controls_evaluation, self._given, trained, emotions)
        self._sampling = SamplingSweep(config.controls_evaluation, self._given, trained)
        self._table = GuidanceTable(config.controls_evaluation, self._given, trained, tools)

    def run(self, workdir: str | Path) -> dict[str, Any]:
        """Writes report.md, report.json, plots/ and sheets/ to the workdir, prints the tables, returns the report."""
        s, config, workdir = self._config.controls_evaluation, self._config, Path(workdir)
        held_out = HeldOutSet(
            s.heads, s.seconds, s.rendered_seconds, self._generator.image_size, config.seed, config.corpus.supersample,
            speech=config.corpus.speech,
        )  # fmt: skip
        controls, sampling, truths, shown, rows = [], [], [], [], []
        for index in range(len(held_out)):
            stage = Stage(self._generator, self._reader, held_out[index])
            truth = stage.truth()
            truths.append((stage.head, truth.reading))
            if s.rows:
                rows.append(self._table.head(stage, index, truth))
            if s.sweeps:
                controls.append(self._controls.head(stage, held_out, index, truth))
                sampling.append(self._sampling.head(stage, held_out, index, truth))
            if s.sweeps and index < s.shown:
                shown.append([stage.head.portrait])
                self._tracks(workdir, stage, sampling[-1])
            logging.info("%s measured (%d of %d)", stage.head.name, index + 1, s.heads)
        report = self._report(rows, truths)
        if s.sweeps:
            report |= self._sweep_report(controls, sampling)
            self._sheets(workdir, shown, controls)
            self._plots(workdir, report)
        save_report(report, controls_markdown(report), workdir)
        return report

    def _report(self, rows: list[dict], truths: list) -> dict[str, Any]:
        return {
            "set": HELD_OUT_SET,
            "settings": dataclasses.asdict(self._config.controls_evaluation) | stated(self._given),
            "face_probe": {
                "talking": probe_errors(self._reader, [(head.shown, reading) for head, reading in truths]),
                "training": self._reader.training_errors,
                "frames": int(sum(len(reading.mouth) for _, reading in truths)),
            },
            "different_people": different_people([reading for _, reading in truths]),
            "usual": str(self._sampling.usual),
            "table_given": list(self._table.given),
            "table": self._table.summary(rows) if rows else {},
        }

    def _sweep_report(self, controls: list[dict], sampling: list[dict]) -> dict[str, Any]:
        ways, given = self._sampling, self._given
        return {
            "emotion_reader": None
            if self._emotions is None
            else {"source": self._emotions.source, "training": self._emotions.training_metrics},
            "control_columns": list(self._controls.columns),
            "skipped": self._controls.skipped,
            "controls": self._controls.summary(controls),
            "given": [*ways.controls, *asked_throughout(given, self._generator.trained_controls)],
            "by_guidance": {f"{way.audio_guidance:g}": str(way) for way in ways.by_guidance},
            "by_steps": {f"{way.solver}, {way.steps} steps": str(way) for way in ways.by_steps},
            "sampling": {str(name): found for name, found in ways.summary(sampling).items()},
        }

    # Images -----------------------------------------------------------------------------------------------------------

    def _sheets(self, workdir: Path, shown: list[list[np.ndarray]], controls: list[dict]) -> None:
        """Draws a sheet per control: heads in rows; the portrait, then every column of the table, in columns."""
        for name in self._controls.controls:
            rows = [first + head["images"][name] for first, head in zip(shown, controls)]
            if rows:
                sheets.save(workdir / "sheets" / f"{name}.png", sheets.grid(rows))

    def _tracks(self, workdir: Path, stage: Stage, results: dict) -> None:
        """Draws mouth opening over time, at the least and the most guidance by the sound."""
        ends = dict.fromkeys((self._sampling.by_guidance[0], self._sampling.by_guidance[-1]))
        tracks = {"truth": stage.head.truth["mouth"]}
        tracks |= {f"audio guidance {way.audio_guidance:g}": results["tracks"][way] for way in ends}
        title = f"{stage.head.name}: mouth opening. {stage.head.text}"
        sheets.save(workdir / "sheets" / f"{stage.head.name}.png", sheets.curves(tracks, title, width=8 * sheets.TILE))

    def _plots(self, workdir: Path, report: dict[str, Any]) -> None:
        places = report["control_columns"][:-1]  # all but the truth, which is a level
        for name in self._controls.controls:
            metric, title = CONTROL_ERRORS[name]
            row = report["controls"][name][metric]
            series = {
                "generated": [_mean(row[column]) for column in places],
                "truth, as measured": [_mean(row[TRUTH])],
            }
            labels = [FREE if place == FREE else f"guidance {place}" for place in places]
            sheets.save(workdir / "plots" / f"{name}.png", sheets.chart(labels, series, title))
        for metric, title in (
            ("mouth_r", "mouth opening: r"),
            ("head_motion_ratio", "head motion over the true one"),
            ("pose_audio_r", "speed of the head against loudness: r"),
            ("head_diversity", "difference of the head's motion between takes, degrees"),
        ):
            self._sampling_plots(workdir, report["sampling"], metric, title)

    def _sampling_plots(self, workdir: Path, table: dict[str, Any], metric: str, title: str) -> None:
        """Draws `<metric>_by_guidance.png` and `<metric>_by_steps.png`."""

        def values(ways) -> list[float]:
            return [_mean(table[str(way)].get(metric)) for way in ways]

        levels = {"truth": [_mean(table["truth"].get(metric))], "shuffled": [_mean(table["shuffled"].get(metric))]}
        levels = {name: level for name, level in levels.items() if np.isfinite(level[0])}
        ways, s = self._sampling, self._config.controls_evaluation
        by_guidance = {"generated": values(ways.by_guidance), **levels}
        labels = [f"guidance {scale:g}" for scale in s.audio_scales]
        sheets.save(workdir / "plots" / f"{metric}_by_guidance.png", sheets.chart(labels, by_guidance, title))
        by_steps = {
            solver: values(way for way in ways.by_steps if way.solver == solver) for solver in s.solvers
        } | levels
        labels = [f"{steps} steps" for steps in s.step_counts]
        sheets.save(workdir / "plots" / f"{metric}_by_steps.png", sheets.chart(labels, by_steps, title))


def _mean(value: dict[str, float] | None) -> float:
    return float("nan") if value is None else value["mean"]


def controls_markdown(report: dict[str, Any]) -> str:
    """Writes the tables: the probes' own errors, VASA-1's Table 5 in shape, controls, guidance by the sound, steps."""
    s = report["settings"]
    takes = "one take" if s["samples"] == 1 else f"{s['samples']} takes"
    sampled = f"{takes} per head, {s['solver']}, mean +- standard error over heads"
    lines = [
        "# Controls, guidance and steps on held-out heads, voices and sentences",
        "",
        f"{report['set']}: {s['heads']} heads, {s['seconds']:g} s each, seed {s['seed']}. Where nothing else is said: "
        f"{report['usual']}. Truth is measured over the middle {s['rendered_seconds']:g} s of each clip. "
        "Mean +- standard error over heads.",
        "",
        *probe_lines(report["face_probe"], s["heads"]),
        *guidance_markdown(report["table"], report["table_given"], sampled),
    ]
    return "\n".join([*lines, *(_sweep_lines(report) if s["sweeps"] else [])])


def _sweep_lines(report: dict[str, Any]) -> list[str]:
    s = report["settings"]
    lines = [
        *_reader_lines(report["emotion_reader"]),
        "## Controls",
        "",
        "Each control alone, by the scale of its guidance (0: the condition is given, not guided). Gaze and distance "
        "are asked to be the clip's own; uncontrolled: nothing is given, and the distance is then the portrait's.",
        "",
    ]
    for name, rows in CONTROL_ROWS.items():
        lines += [f"### {name.capitalize()}", ""]
        if name in report["skipped"]:
            lines += [f"Not measured: {report['skipped'][name]}.", ""]
        else:
            lines += [*_by_column(rows, _titles(report["control_columns"]), report["controls"][name]), ""]
            lines += _emotion_lines(report) if name == "emotion" else []
    if s["samples"] < 2:
        lines += ["One take per setting: differences between takes are not measured.", ""]
    given = ", ".join(report["given"]) or "none"
    lines += [
        "## Guidance by the sound",
        "",
        f"{s['samples']} takes per head. Controls given: {given}. Shuffled audio and constant motion: as usual.",
        "",
        *metrics_table(SAMPLING_ROWS, _ways(report["by_guidance"]) | REFERENCES, report["sampling"]),
        "",
        "Differences between takes: of head rotation without each take's mean, root mean square over sqrt(2); for the "
        "truth between its two takes. Speed of the head against loudness is no learned score (the paper's CAPP has no "
        f"public weights); unrelated sound does not give 0. Identity of two different people: "
        f"{cell(report['different_people'], 3)}.",
        "",
        _sync_line(report),
        "",
        "## Solver and steps",
        "",
        *metrics_table(SAMPLING_ROWS, _ways(report["by_steps"]) | {"truth": REFERENCES["truth"]}, report["sampling"]),
        "",
    ]
    return lines


def _titles(columns: list[str]) -> dict[str, str]:
    names = {FREE: FREE, TRUTH: "truth, measured"}
    return {column: names.get(column, f"guidance {column}") for column in columns}


def _by_column(rows: dict, columns: dict[str, str], table: dict[str, dict]) -> list[str]:
    """Returns the table lines of {metric: {column: value}}."""
    return metrics_table(rows, columns, {c: {name: row.get(c) for name, row in table.items()} for c in columns})


def _reader_lines(reader: dict[str, Any] | None) -> list[str]:
    if reader is None:
        return []
    training = reader["training"]
    values = {
        "sharp": {name: {"mean": training[name]} for name in EMOTION_ROWS if name in training},
        "soft": {name: {"mean": training[f"soft_{name}"]} for name in EMOTION_ROWS if f"soft_{name}" in training},
    }
    return [
        "## The reader of emotions on true renders",
        "",
        *metrics_table(EMOTION_ROWS, {"sharp": "true renders", "soft": "degraded"}, values),
        "",
        f"Held-out heads, voices and sentences, when it was trained ({reader['source']}). Its accuracy on the very "
        "performances that are asked for below stands there in the column of the truth.",
        "",
    ]


def _emotion_lines(report: dict[str, Any]) -> list[str]:
    s, named = report["settings"], report["controls"]["named"]
    rows = {emotion: (emotion, 2) for emotion in named}
    return [
        f"{s['emotions']} emotions of each head, in turn, at strength {s['emotion_strength']:g}; guessing names one "
        f"in seven. Truth: {s['emotion_frames']} frames of another true performance of the sentence with that emotion. "
        "Named right, by the emotion asked for:",
        "",
        *_by_column(rows, _titles(report["control_columns"]), named),
        "",
    ]


def _ways(ways: dict[str, str]) -> dict[str, str]:
    return {way: title for title, way in ways.items()}


def _sync_line(report: dict[str, Any]) -> str:
    offset = report["sampling"][report["usual"]]["offset"]["mean"] if report["usual"] in report["sampling"] else None
    if offset is None:
        return "The usual way of sampling is none of those measured."
    return f"Sound and lips, {report['usual']}: best at an offset of {offset:+.0f} frames; 0 is in time."
