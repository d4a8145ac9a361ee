"""The report on controls, guidance and steps on held-out heads, voices and sentences (VASA-1, Table 5 and section 4).

    python -m vasa_jax.main --config configs/evaluate_controls.py --config.checkpoint=runs/model

`control_trials` says what is asked of the controls, `sampling_trials` what of guidance, steps and seeds.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from vasa_jax.config import VASAConfig
from vasa_jax.evaluation import sheets
from vasa_jax.evaluation.control_trials import FREE, TRUTH, ControlTrials
from vasa_jax.evaluation.controls_report import controls_markdown
from vasa_jax.evaluation.emotion_reader import EmotionReader
from vasa_jax.evaluation.figures import different_people, instrument_figures
from vasa_jax.evaluation.held_out import HELD_OUT_SET, HeldOutSet
from vasa_jax.evaluation.instrument import Instrument
from vasa_jax.evaluation.report import save_report
from vasa_jax.evaluation.sampling_trials import SamplingTrials
from vasa_jax.evaluation.stage import Generator, Stage

GENERATOR_SETTINGS = (
    "seed", "steps", "solver", "hop", "look_ahead", "audio_guidance", "gaze_guidance", "distance_guidance",
    "blink_rate",
)  # fmt: skip
# The error of each control that its chart shows.
CONTROL_ERRORS = {
    "gaze": ("gaze_error", "main gaze: error in degrees"),
    "distance": ("distance_error", "head distance: error"),
    "emotion": ("emotion_accuracy", "emotion: share of videos named right"),
}


def evaluate_controls(config: VASAConfig, workdir: str | Path) -> dict[str, Any]:
    """The `evaluate_controls` job: the report on the model in `config.checkpoint`, by the instrument beside it."""
    from vasa_jax.generation.generator import VideoGenerator

    instrument = Instrument.from_pretrained(config.checkpoint)
    reader = EmotionReader.find(config.checkpoint)
    generator = VideoGenerator.from_pretrained(config.checkpoint, config.decode_batch, mark=False)
    return ControlsEvaluator(generator, config, instrument, reader).run(workdir)


class ControlsEvaluator:
    """Measures a generator's controls, guidance and variety on the held-out set; a function of weights and settings."""

    def __init__(
        self, generator: Generator, config: VASAConfig, instrument: Instrument, reader: EmotionReader | None = None
    ):
        self._generator, self._config, self._instrument, self._reader = generator, config, instrument, reader
        self._controls = ControlTrials(config, generator.trained_controls, reader)
        self._sampling = SamplingTrials(config, generator.trained_controls)

    def run(self, workdir: str | Path) -> dict[str, Any]:
        """Writes report.md, report.json, plots/ and sheets/ to the workdir, prints the tables, returns the report."""
        s, config, workdir = self._config.controls_evaluation, self._config, Path(workdir)
        held_out = HeldOutSet(
            s.heads, s.seconds, s.rendered_seconds, self._generator.image_size, config.seed, config.corpus.supersample,
            speech=config.corpus.speech,
        )  # fmt: skip
        controls, sampling, truths, shown = [], [], [], []
        for index in range(len(held_out)):
            stage = Stage(self._generator, self._instrument, held_out[index])
            truth = stage.truth()
            truths.append((stage.head, truth.reading))
            controls.append(self._controls.head(stage, held_out, index, truth))
            sampling.append(self._sampling.head(stage, held_out, index, truth))
            if index < s.shown:
                shown.append([stage.head.portrait])
                self._tracks(workdir, stage, sampling[-1])
            logging.info("%s measured (%d of %d)", stage.head.name, index + 1, s.heads)
        report = self._report(controls, sampling, truths)
        self._sheets(workdir, shown, controls)
        self._plots(workdir, report)
        save_report(report, controls_markdown(report), workdir)
        return report

    def _report(self, controls: list[dict], sampling: list[dict], truths: list) -> dict[str, Any]:
        ways = self._sampling
        table = ways.summary(sampling)
        return {
            "set": HELD_OUT_SET,
            "settings": dataclasses.asdict(self._config.controls_evaluation)
            | {name: getattr(self._config, name) for name in GENERATOR_SETTINGS},
            "instrument": {
                "talking": instrument_figures(self._instrument, [(head.shown, reading) for head, reading in truths]),
                "training": self._instrument.training_errors,
                "frames": int(sum(len(reading.mouth) for _, reading in truths)),
            },
            "emotion_reader": None
            if self._reader is None
            else {"source": self._reader.source, "training": self._reader.training_figures},
            "different_people": different_people([reading for _, reading in truths]),
            "control_columns": list(self._controls.columns),
            "skipped": self._controls.skipped,
            "controls": self._controls.summary(controls),
            "given": list(ways.controls),
            "usual": str(ways.usual),
            "by_guidance": {f"{way.audio_guidance:g}": str(way) for way in ways.by_guidance},
            "by_steps": {f"{way.solver}, {way.steps} steps": str(way) for way in ways.by_steps},
            "sampling": {str(name): figures for name, figures in table.items()},
        }

    # Pictures ---------------------------------------------------------------------------------------------------------

    def _sheets(self, workdir: Path, shown: list[list[np.ndarray]], controls: list[dict]) -> None:
        """A sheet per control: heads in rows; the portrait, then every column of the table, in columns."""
        for name in self._controls.controls:
            rows = [first + head["pictures"][name] for first, head in zip(shown, controls)]
            if rows:
                sheets.save(workdir / "sheets" / f"{name}.png", sheets.grid(rows))

    def _tracks(self, workdir: Path, stage: Stage, results: dict) -> None:
        """Mouth opening over time, at the least and the most guidance by the sound."""
        ends = dict.fromkeys((self._sampling.by_guidance[0], self._sampling.by_guidance[-1]))
        tracks = {"truth": stage.head.truth["mouth"]}
        tracks |= {f"audio guidance {way.audio_guidance:g}": results["tracks"][way] for way in ends}
        title = f"{stage.head.name}: mouth opening. {stage.head.text}"
        sheets.save(workdir / "sheets" / f"{stage.head.name}.png", sheets.curves(tracks, title, width=8 * sheets.TILE))

    def _plots(self, workdir: Path, report: dict[str, Any]) -> None:
        places = report["control_columns"][:-1]  # all but the truth, which is a level
        for name in self._controls.controls:
            figure, title = CONTROL_ERRORS[name]
            row = report["controls"][name][figure]
            series = {
                "generated": [_mean(row[column]) for column in places],
                "truth, as measured": [_mean(row[TRUTH])],
            }
            labels = [FREE if place == FREE else f"guidance {place}" for place in places]
            sheets.save(workdir / "plots" / f"{name}.png", sheets.chart(labels, series, title))
        for figure, title in (
            ("mouth_r", "mouth opening: r"),
            ("head_motion_ratio", "head motion over the true one"),
            ("pose_audio_r", "speed of the head against loudness: r"),
            ("head_diversity", "difference of the head's motion between takes, degrees"),
        ):
            self._sampling_plots(workdir, report["sampling"], figure, title)

    def _sampling_plots(self, workdir: Path, table: dict[str, Any], figure: str, title: str) -> None:
        """`<figure>_by_guidance.png` and `<figure>_by_steps.png`."""

        def values(ways) -> list[float]:
            return [_mean(table[str(way)].get(figure)) for way in ways]

        levels = {"truth": [_mean(table["truth"].get(figure))], "shuffled": [_mean(table["shuffled"].get(figure))]}
        levels = {name: level for name, level in levels.items() if np.isfinite(level[0])}
        ways, s = self._sampling, self._config.controls_evaluation
        by_guidance = {"generated": values(ways.by_guidance), **levels}
        labels = [f"guidance {scale:g}" for scale in s.audio_scales]
        sheets.save(workdir / "plots" / f"{figure}_by_guidance.png", sheets.chart(labels, by_guidance, title))
        by_steps = {
            solver: values(way for way in ways.by_steps if way.solver == solver) for solver in s.solvers
        } | levels
        labels = [f"{steps} steps" for steps in s.step_counts]
        sheets.save(workdir / "plots" / f"{figure}_by_steps.png", sheets.chart(labels, by_steps, title))


def _mean(value: dict[str, float] | None) -> float:
    return float("nan") if value is None else value["mean"]
