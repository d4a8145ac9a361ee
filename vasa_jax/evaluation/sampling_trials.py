"""What the guidance by the sound and the number of steps do to lips and head, and how much takes of a sentence differ.

Several takes (seeds) per head and setting; figures are means over takes. The clip's own gaze and distance are given as
far as the weights know them. References: the head's true video and another true performance of its sentence, both as
the instrument reads them; what is generated from another clip's sound; the portrait held still.
"""

import dataclasses
from typing import Any

import numpy as np

from vasa_jax.config import VASAConfig
from vasa_jax.evaluation import measures
from vasa_jax.evaluation.figures import Figures, mean_figures
from vasa_jax.evaluation.held_out import HeldOutSet
from vasa_jax.evaluation.stage import Stage, Take

REFERENCES = ("truth", "second", "shuffled", "constant")


@dataclasses.dataclass(frozen=True)
class Sampling:
    """One way to sample."""

    audio_guidance: float
    steps: int
    solver: str

    def __str__(self) -> str:
        return f"audio guidance {self.audio_guidance:g}, {self.steps} steps, {self.solver}"


class SamplingTrials:
    """Runs and sums up the trials.

    Attributes:
      usual: the way that everything else is sampled in; by_guidance, by_steps: ways that differ from it in the guidance
        by the sound, and in steps and solver.
      controls: what is given beside the sound.
    """

    def __init__(self, config: VASAConfig, trained_controls: tuple[str, ...]):
        self._config, self._settings = config, config.controls_evaluation
        self.usual = Sampling(config.audio_guidance, config.steps, config.solver)
        self.by_guidance = tuple(
            dataclasses.replace(self.usual, audio_guidance=scale) for scale in self._settings.audio_scales
        )
        self.by_steps = tuple(
            dataclasses.replace(self.usual, steps=steps, solver=solver)
            for solver in self._settings.solvers
            for steps in self._settings.step_counts
        )
        self.controls = tuple(name for name in ("gaze", "distance") if name in trained_controls)

    def ways(self) -> tuple[Sampling, ...]:
        """Every way that is tried, once."""
        return tuple(dict.fromkeys((*self.by_guidance, *self.by_steps)))

    def head(self, stage: Stage, held_out: HeldOutSet, index: int, truth: Take) -> dict[str, Any]:
        """Under `figures`, `curves` and `tracks` {way or reference: ...}: figures, the r of each offset, and the mouth
        opening of a take."""
        head = stage.head
        second = self._second_take(stage, held_out, index)
        other = held_out.speech((index + 1) % len(held_out))
        groups: dict[Any, list[Take]] = {way: self._takes(stage, way, index) for way in self.ways()}
        groups |= {
            "truth": [truth],
            "second": [second],
            "shuffled": [self._take(stage, self.usual, index, 0, other)],
            "constant": [stage.still()],
        }
        in_window = {"truth", "second"}
        results: dict[str, Any] = {"figures": {}, "curves": {}, "tracks": {}}
        for name, takes in groups.items():
            true_mouth = head.truth["mouth"][head.window if name in in_window else slice(None)]
            curve = [measures.offset_correlations(take.reading.mouth, true_mouth) for take in takes]
            results["curves"][name] = np.mean(curve, axis=0)
            results["figures"][name] = mean_figures([take.figures for take in takes])
            results["figures"][name] |= variety([truth, second] if name == "truth" else takes)
            if name != "constant":  # a face that is still is at no offset
                results["figures"][name]["in_sync"] = np.mean([take.figures["mouth_offset"] == 0 for take in takes])
            results["tracks"][name] = takes[0].reading.mouth
        return results

    def summary(self, heads: list[dict[str, Any]]) -> dict[str, Any]:
        """{way or reference: {figure: {mean, error}}} over heads; `offset`, at which the mean r of all takes is
        largest, has a mean only."""
        table = {}
        for name in heads[0]["figures"]:
            each = [head["figures"][name] for head in heads]
            known = dict.fromkeys(figure for figures in each for figure in figures)
            table[name] = {figure: measures.spread([figures.get(figure) for figures in each]) for figure in known}
            if "in_sync" in known:
                curve = np.mean([head["curves"][name] for head in heads], axis=0)
                table[name]["offset"] = {"mean": float(measures.peak_offset(curve)[0])}
        return table

    def _takes(self, stage: Stage, way: Sampling, index: int) -> list[Take]:
        return [self._take(stage, way, index, number) for number in range(self._settings.samples)]

    def _take(self, stage: Stage, way: Sampling, index: int, number: int, samples: np.ndarray | None = None) -> Take:
        """The same seeds for every way, so that ways differ in themselves alone."""
        config = self._config
        given: dict[str, Any] = {name: getattr(stage.head, name) for name in self.controls}
        for name in ("hop", "look_ahead", *(f"{control}_guidance" for control in self.controls)):
            given[name] = getattr(config, name)
        seed = 1_000 * config.seed + index * self._settings.samples + number
        return stage.take(samples, seed=seed, **dataclasses.asdict(way), **given)

    def _second_take(self, stage: Stage, held_out: HeldOutSet, index: int) -> Take:
        head = stage.head
        motion = {name: track[head.window] for name, track in held_out.performance(index).items()}
        return stage.watch(held_out.render(head.identity, motion)["rgb"], head.window)


def variety(takes: list[Take]) -> Figures:
    """How much takes of one sentence differ: head and lips; nothing of a single one."""
    if len(takes) < 2:
        return {}
    return {
        "head_diversity": measures.head_diversity(np.stack([take.reading.pose for take in takes])),
        "lips_agreement": measures.mutual_correlation(np.stack([take.reading.mouth for take in takes])),
    }
