"""Do controls do what they ask for? Each alone, as the scale of its guidance grows (the shape of VASA-1's Table 5).

A head is asked for its clip's own main gaze and distance, so that its true video is what obeying looks like, and for
emotions in turn; the truth of an emotion is another true performance of the same sentence with that emotion. Beside the
control's own error stand the figures that guidance may cost: lips, head motion, identity.
"""

from typing import Any

import numpy as np

from vasa_jax.config import VASAConfig
from vasa_jax.conventions import EMOTIONS
from vasa_jax.evaluation.emotion_reader import FEELINGS, EmotionReader, named_feeling
from vasa_jax.evaluation.figures import Figures, mean_figures
from vasa_jax.evaluation.held_out import HeldOutSet
from vasa_jax.evaluation.measures import spread
from vasa_jax.evaluation.stage import Stage, Take
from vasa_jax.generation.controls import CONDITIONS, parse_emotion

FREE, TRUTH = "uncontrolled", "truth"
NO_READER = (
    "there is no reader of emotions, emotion.safetensors, beside the model or in the package; configs/train_emotion.py "
    "makes one"
)
UNTRAINED = "these weights were not trained for it; configs/train_motion.py trains gaze, distance and emotion"


class ControlTrials:
    """Runs and sums up the trials of the controls that the weights know.

    Attributes:
      controls: those that are tried; skipped: for each of the others, why not.
    """

    def __init__(self, config: VASAConfig, trained_controls: tuple[str, ...], reader: EmotionReader | None):
        self._config, self._settings, self._reader = config, config.controls_evaluation, reader
        self.skipped = {name: UNTRAINED for name in CONDITIONS if name not in trained_controls}
        if reader is None and "emotion" not in self.skipped:
            self.skipped["emotion"] = NO_READER
        self.controls = tuple(name for name in CONDITIONS if name not in self.skipped)
        self.columns = (FREE, *(f"{scale:g}" for scale in self._settings.control_scales), TRUTH)

    def head(self, stage: Stage, held_out: HeldOutSet, index: int, truth: Take) -> dict[str, Any]:
        """{control: {column: figures}}, under `named` {column: {emotion: 1 if named right}}, and under `pictures`
        {control: [picture of each column]}, from the middle of the clip."""
        if not self.controls:
            return {"pictures": {}}
        free = stage.take(**self._given(index))
        results: dict[str, Any] = {"pictures": {}}
        for name in ("gaze", "distance"):
            if name in self.controls:
                takes = {FREE: free, **self._scales(stage, index, name, getattr(stage.head, name)), TRUTH: truth}
                results[name] = {column: take.figures for column, take in takes.items()}
                results["pictures"][name] = [_middle(take.frames) for take in takes.values()]
        if "emotion" in self.controls:
            results |= self._emotions(stage, held_out, index, free, results["pictures"])
        return results

    def summary(self, heads: list[dict[str, Any]]) -> dict[str, Any]:
        """{control: {figure: {column: {mean, error}}}}, over heads; under `named` {emotion: {column: {mean}}}."""
        table: dict[str, Any] = {}
        for control in self.controls:
            figures = dict.fromkeys(name for column in self.columns for name in heads[0][control][column])
            table[control] = {
                name: {column: spread([head[control][column].get(name) for head in heads]) for column in self.columns}
                for name in figures
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

    def _given(self, index: int, **control: Any) -> dict[str, Any]:
        """Settings of one take: the same seed for all takes of a head, so that they differ in the control alone."""
        config = self._config
        fixed = {name: getattr(config, name) for name in ("steps", "solver", "hop", "look_ahead", "audio_guidance")}
        return {"seed": 1_000 * config.seed + index, **fixed, **control}

    def _scales(self, stage: Stage, index: int, name: str, wanted: Any) -> dict[str, Take]:
        return {
            f"{scale:g}": stage.take(**self._given(index, **{name: wanted, f"{name}_guidance": scale}))
            for scale in self._settings.control_scales
        }

    def _emotions(self, stage: Stage, held_out: HeldOutSet, index: int, free: Take, pictures: dict) -> dict[str, Any]:
        """`emotion` and `named` of `head`; adds the first emotion's pictures."""
        s = self._settings
        read: dict[str, dict[str, Figures]] = {column: {} for column in self.columns}
        free_shares = self._shares(stage, free)
        for number in range(s.emotions):
            name = FEELINGS[(index * s.emotions + number) % len(FEELINGS)]
            wanted = f"{name}:{s.emotion_strength:g}"
            takes = self._scales(stage, index, "emotion", wanted)
            true = self._true_performance(stage, held_out, index, wanted)
            shares = {FREE: free_shares, **{column: self._shares(stage, take) for column, take in takes.items()}}
            shares[TRUTH] = self._reader.read(true, stage.instrument.measure(true), stage.instrument.points)
            costs = {FREE: free.figures, **{column: take.figures for column, take in takes.items()}, TRUTH: {}}
            for column in self.columns:
                read[column][name] = costs[column] | _emotion_figures(shares[column], name)
            if not number:
                videos = [free.frames, *(take.frames for take in takes.values()), true]
                pictures["emotion"] = [_middle(video) for video in videos]
        return {
            "emotion": {column: mean_figures(list(some.values())) for column, some in read.items()},
            "named": {
                column: {name: figures["emotion_accuracy"] for name, figures in some.items()}
                for column, some in read.items()
            },
        }

    def _shares(self, stage: Stage, take: Take) -> np.ndarray:
        return self._reader.read(take.frames, take.reading, stage.instrument.points)

    def _true_performance(self, stage: Stage, held_out: HeldOutSet, index: int, wanted: str) -> np.ndarray:
        """Frames spread over the head's sentence, truly performed with an emotion."""
        motion = held_out.performance(index, parse_emotion(wanted))
        rows = np.linspace(0, len(motion["yaw"]) - 1, self._settings.emotion_frames).round().astype(int)
        return held_out.render(stage.head.identity, {name: track[rows] for name, track in motion.items()})["rgb"]


def _emotion_figures(shares: np.ndarray, name: str) -> Figures:
    return {
        "emotion_accuracy": float(named_feeling(shares) == name),
        "emotion_share": float(shares[:, EMOTIONS.index(name)].mean()),
    }


def _middle(frames: np.ndarray) -> np.ndarray:
    return frames[len(frames) // 2]
