"""Sweeps of the report on controls: `ControlSweep` over guidance of each control, `SamplingSweep` over ways to sample.

Takes are generated with given controls; each sweep replaces what it varies.
"""

import dataclasses
from typing import Any

import numpy as np

from vasa_jax.config import ControlsEvaluationConfig
from vasa_jax.conventions import EMOTIONS
from vasa_jax.errors import InputError
from vasa_jax.evaluation import metrics
from vasa_jax.evaluation.face_readings import FEELINGS, EmotionReader, named_feeling
from vasa_jax.evaluation.held_out import HeldOutSet
from vasa_jax.evaluation.metrics import Metrics, mean_metrics, spread
from vasa_jax.evaluation.stage import Stage, Take
from vasa_jax.generation.controls import CONDITIONS, Controls, parse_emotion

FREE, TRUTH = "uncontrolled", "truth"
NO_READER = (
    "there is no reader of emotions, emotion.safetensors, beside the model or in the package; configs/train_emotion.py "
    "makes one"
)
UNTRAINED = "these weights were not trained for it; configs/train_motion.py trains gaze, distance and emotion"


class ControlSweep:
    """Asks for each control alone, as the scale of its guidance grows (the shape of VASA-1's Table 5).

    A head is asked for its clip's own main gaze and distance, so that its true video is what obeying looks like. It is
    asked for emotions in turn; the truth of an emotion is another true performance of the same sentence with it. Beside
    the control's own error stand the metrics that guidance may cost: lips, head motion, identity.

    Attributes:
      controls: those that are tried; skipped: for each of the others, why not.
    """

    def __init__(
        self,
        settings: ControlsEvaluationConfig,
        controls: Controls,
        trained_controls: tuple[str, ...],
        reader: EmotionReader | None,
    ):
        self._settings, self._reader = settings, reader
        self._free = dataclasses.replace(controls, gaze=None, distance=None, emotion="")
        self.skipped = {name: UNTRAINED for name in CONDITIONS if name not in trained_controls}
        if reader is None and "emotion" not in self.skipped:
            self.skipped["emotion"] = NO_READER
        self.controls = tuple(name for name in CONDITIONS if name not in self.skipped)
        self.columns = (FREE, *(f"{scale:g}" for scale in self._settings.control_scales), TRUTH)

    def head(self, stage: Stage, held_out: HeldOutSet, index: int, truth: Take) -> dict[str, Any]:
        """Returns {control: {column: metrics}} of one head.

        Under `named` stands {column: {emotion: 1 if named right}}, under `images` {control: [image of each column]},
        from the middle of the clip.
        """
        if not self.controls:
            return {"images": {}}
        free = stage.take(self._asked(index))
        results: dict[str, Any] = {"images": {}}
        for name in ("gaze", "distance"):
            if name in self.controls:
                takes = {FREE: free, **self._scales(stage, index, name, getattr(stage.head, name)), TRUTH: truth}
                results[name] = {column: take.metrics for column, take in takes.items()}
                results["images"][name] = [_middle(take.frames) for take in takes.values()]
        if "emotion" in self.controls:
            results |= self._emotions(stage, held_out, index, free, results["images"])
        return results

    def summary(self, heads: list[dict[str, Any]]) -> dict[str, Any]:
        """Returns {control: {metric: {column: {mean, error}}}} over heads; under `named` {emotion: {column: ...}}."""
        table: dict[str, Any] = {}
        for control in self.controls:
            known = dict.fromkeys(name for column in self.columns for name in heads[0][control][column])
            table[control] = {
                name: {column: spread([head[control][column].get(name) for head in heads]) for column in self.columns}
                for name in known
            }
        if "emotion" in self.controls:
            table["named"] = {}
            for emotion in FEELINGS:
                asked = [head["named"] for head in heads if emotion in head["named"][FREE]]
                if asked:
                    table["named"][emotion] = {
                        column: {"mean": float(np.mean([head[column][emotion] for head in asked]))}
                        for column in self.columns
                    }
        return table

    def _asked(self, index: int, **control: Any) -> Controls:
        """Returns one take's controls: all takes of a head have one seed, so that they differ in the control alone."""
        return dataclasses.replace(self._free, seed=1_000 * self._free.seed + index, **control)

    def _scales(self, stage: Stage, index: int, name: str, wanted: Any) -> dict[str, Take]:
        return {
            f"{scale:g}": stage.take(self._asked(index, **{name: wanted, f"{name}_guidance": scale}))
            for scale in self._settings.control_scales
        }

    def _emotions(self, stage: Stage, held_out: HeldOutSet, index: int, free: Take, images: dict) -> dict[str, Any]:
        """Returns `emotion` and `named` of `head`; adds the first emotion's images."""
        s = self._settings
        read: dict[str, dict[str, Metrics]] = {column: {} for column in self.columns}
        free_shares = self._shares(stage, free)
        for number in range(s.emotions):
            name = FEELINGS[(index * s.emotions + number) % len(FEELINGS)]
            wanted = f"{name}:{s.emotion_strength:g}"
            takes = self._scales(stage, index, "emotion", wanted)
            true = self._true_performance(stage, held_out, index, wanted)
            shares = {FREE: free_shares, **{column: self._shares(stage, take) for column, take in takes.items()}}
            shares[TRUTH] = self._reader.read(true, stage.reader.measure(true), stage.reader.points)
            costs = {FREE: free.metrics, **{column: take.metrics for column, take in takes.items()}, TRUTH: {}}
            for column in self.columns:
                read[column][name] = costs[column] | _emotion_metrics(shares[column], name)
            if not number:
                videos = [free.frames, *(take.frames for take in takes.values()), true]
                images["emotion"] = [_middle(video) for video in videos]
        return {
            "emotion": {column: mean_metrics(list(some.values())) for column, some in read.items()},
            "named": {
                column: {name: found["emotion_accuracy"] for name, found in some.items()}
                for column, some in read.items()
            },
        }

    def _shares(self, stage: Stage, take: Take) -> np.ndarray:
        return self._reader.read(take.frames, take.reading, stage.reader.points)

    def _true_performance(self, stage: Stage, held_out: HeldOutSet, index: int, wanted: str) -> np.ndarray:
        """Renders frames spread over the head's sentence, truly performed with an emotion."""
        motion = held_out.performance(index, parse_emotion(wanted))
        rows = np.linspace(0, len(motion["yaw"]) - 1, self._settings.emotion_frames).round().astype(int)
        return held_out.render(stage.head.identity, {name: track[rows] for name, track in motion.items()})["rgb"]


def _emotion_metrics(shares: np.ndarray, name: str) -> Metrics:
    return {
        "emotion_accuracy": float(named_feeling(shares) == name),
        "emotion_share": float(shares[:, EMOTIONS.index(name)].mean()),
    }


def _middle(frames: np.ndarray) -> np.ndarray:
    return frames[len(frames) // 2]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Holds one way to sample."""

    audio_guidance: float
    steps: int
    solver: str

    def __str__(self) -> str:
        return f"audio guidance {self.audio_guidance:g}, {self.steps} steps, {self.solver}"


class SamplingSweep:
    """Tries guidance by the sound, numbers of steps and solvers, with several takes (seeds) of each head.

    Metrics are means over takes. The clip's own gaze and distance are given, as far as the weights know them.
    References: the head's true video and another true performance of its sentence, both as the face probe reads them;
    what is generated from another clip's sound; the portrait held still.

    Attributes:
      usual: the way that everything else is sampled in; by_guidance, by_steps: ways that differ from it in the guidance
        by the sound, and in steps and solver.
      controls: what is given beside the sound.
    """

    def __init__(self, settings: ControlsEvaluationConfig, controls: Controls, trained_controls: tuple[str, ...]):
        if not isinstance(controls.audio_guidance, (int, float)):
            raise InputError("config.controls: audio_guidance is varied here; give one number in the place of a track")
        self._settings, self._controls = settings, controls
        self.usual = Sampling(controls.audio_guidance, controls.steps, controls.solver)
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
        """Returns every way that is tried, once."""
        return tuple(dict.fromkeys((*self.by_guidance, *self.by_steps)))

    def head(self, stage: Stage, held_out: HeldOutSet, index: int, truth: Take) -> dict[str, Any]:
        """Returns what is known of one head, {way or reference: ...} each.

        Under `metrics`, means over takes; under `curves`, the r of each offset; under `tracks`, the mouth opening of a
        take.
        """
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
        results: dict[str, Any] = {"metrics": {}, "curves": {}, "tracks": {}}
        for name, takes in groups.items():
            true_mouth = head.truth["mouth"][head.window if name in in_window else slice(None)]
            curve = [metrics.offset_correlations(take.reading.mouth, true_mouth) for take in takes]
            results["curves"][name] = np.mean(curve, axis=0)
            results["metrics"][name] = mean_metrics([take.metrics for take in takes])
            results["metrics"][name] |= variety([truth, second] if name == "truth" else takes)
            if name != "constant":  # a face that is still is at no offset
                results["metrics"][name]["in_sync"] = np.mean([take.metrics["mouth_offset"] == 0 for take in takes])
            results["tracks"][name] = takes[0].reading.mouth
        return results

    def summary(self, heads: list[dict[str, Any]]) -> dict[str, Any]:
        """Returns {way or reference: {metric: {mean, error}}} over heads.

        `offset`, at which the mean r of all takes is largest, has a mean only.
        """
        table = {}
        for name in heads[0]["metrics"]:
            each = [head["metrics"][name] for head in heads]
            known = dict.fromkeys(metric for found in each for metric in found)
            table[name] = {metric: spread([found.get(metric) for found in each]) for metric in known}
            if "in_sync" in known:
                curve = np.mean([head["curves"][name] for head in heads], axis=0)
                table[name]["offset"] = {"mean": float(metrics.peak_offset(curve)[0])}
        return table

    def _takes(self, stage: Stage, way: Sampling, index: int) -> list[Take]:
        return [self._take(stage, way, index, number) for number in range(self._settings.samples)]

    def _take(self, stage: Stage, way: Sampling, index: int, number: int, samples: np.ndarray | None = None) -> Take:
        """Generates a take; every way has the same seeds, so that ways differ in themselves alone."""
        given = {name: getattr(stage.head, name) for name in self.controls}
        seed = 1_000 * self._controls.seed + index * self._settings.samples + number
        controls = dataclasses.replace(self._controls, seed=seed, **dataclasses.asdict(way), **given)
        return stage.take(controls, samples)

    def _second_take(self, stage: Stage, held_out: HeldOutSet, index: int) -> Take:
        head = stage.head
        motion = {name: track[head.window] for name, track in held_out.performance(index).items()}
        return stage.watch(held_out.render(head.identity, motion)["rgb"], head.window)


def variety(takes: list[Take]) -> Metrics:
    """Returns how much takes of one sentence differ in head and lips; nothing for a single one."""
    if len(takes) < 2:
        return {}
    return {
        "head_diversity": metrics.head_diversity(np.stack([take.reading.pose for take in takes])),
        "lips_agreement": metrics.mutual_correlation(np.stack([take.reading.mouth for take in takes])),
    }
