"""A held-out head in front of the generator: what it is made to do, and the metrics of the result."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from vasa_jax.evaluation import metrics
from vasa_jax.evaluation.face_readings import FaceReader, Measurements, reading_errors
from vasa_jax.evaluation.held_out import HeldOutHead, landmark_indices
from vasa_jax.evaluation.metrics import Metrics
from vasa_jax.evaluation.report import setting
from vasa_jax.generation.controls import CONDITIONS, Controls

WHOLE = slice(None)


@runtime_checkable
class Codec(Protocol):
    """A codec that is evaluated: `vasa_jax.generation.animator.PortraitAnimator`, or anything that acts like it."""

    @property
    def image_size(self) -> int:
        """Side of its frames in pixels."""
        ...

    def prepare(self, portrait: UInt8[np.ndarray, "n n 3"]) -> Any:
        """Encodes a portrait as an avatar."""
        ...

    def encode_motion(self, frames: UInt8[np.ndarray, "N n n 3"]) -> Float[np.ndarray, "N D"]:
        """Encodes frames as pose and dynamics, D = 137 numbers."""
        ...

    def render(self, avatar: Any, motion: Float[np.ndarray, "T D"]) -> Iterator[UInt8[np.ndarray, "b n n 3"]]:
        """Decodes motion to batches of frames."""
        ...


@runtime_checkable
class Generator(Codec, Protocol):
    """A model to evaluate: `vasa_jax.generation.generator.VideoGenerator`, or anything that acts like it."""

    trained_controls: tuple[str, ...]  # which of gaze, distance, emotion its weights know

    def motion(
        self, samples: Float[np.ndarray, "n"], avatar: Any = None, controls: Controls | None = None
    ) -> Float[np.ndarray, "T D"]:
        """Makes motion from 16 kHz speech of 640 T samples."""
        ...


@dataclasses.dataclass(frozen=True)
class Take:
    """Holds a video of a head, generated or true, and what was measured in it."""

    frames: np.ndarray  # uint8 (T, n, n, 3)
    reading: Measurements  # of T frames
    metrics: Metrics  # against the head's own truth


class Stage:
    """Puts one head, as an avatar, in front of a generator and the face reader."""

    def __init__(self, generator: Generator, reader: FaceReader, head: HeldOutHead):
        self.head = head
        self.reader = reader
        self.avatar = generator.prepare(head.portrait)
        self.portrait = reader.measure(head.portrait[None])
        self._generator = generator

    def take(self, controls: Controls, samples: np.ndarray | None = None, part: slice = WHOLE) -> Take:
        """Generates a video from a sound, the head's own unless given, and measures it.

        Only `part` of the frames is decoded and measured.
        """
        samples = self.head.samples if samples is None else samples
        motion = self._generator.motion(samples, self.avatar, controls=controls)
        return self.watch(self.video(motion[part]), part)

    def still(self) -> Take:
        """Returns the portrait, encoded and decoded, held for as long as the head speaks."""
        image = self.video(self._generator.encode_motion(self.head.portrait[None]))
        held = np.zeros(len(self.head.truth["mouth"]), int)
        reading = self.reader.measure(image)[held]
        return Take(image[held], reading, self._metrics(reading, WHOLE))

    def watch(self, frames: UInt8[np.ndarray, "T n n 3"], part: slice) -> Take:
        """Measures frames against the truth of `part`."""
        reading = self.reader.measure(frames)
        return Take(frames, reading, self._metrics(reading, part))

    def truth(self) -> Take:
        """Measures the true frames."""
        return self.watch(self.head.frames, self.head.window)

    def video(self, motion: Float[np.ndarray, "T D"]) -> UInt8[np.ndarray, "T n n 3"]:
        """Decodes motion."""
        return np.concatenate(list(self._generator.render(self.avatar, motion)))

    def _metrics(self, reading: Measurements, part: slice) -> Metrics:
        return video_metrics(reading, self.reader.points, self.head, self.portrait, part)


def stated(controls: Controls) -> dict[str, Any]:
    """Returns the settings of `controls` that every take has; the conditions of each take are stated beside them."""
    return {name: value for name, value in dataclasses.asdict(controls).items() if name not in CONDITIONS}


def asked_throughout(controls: Controls, trained: Sequence[str]) -> list[str]:
    """Returns what every take is asked for, in words, of blinks and emotions that the weights know."""
    asked = []
    if controls.blink_rate is not None and "blinks" in trained:
        asked.append(f"{setting(controls.blink_rate)} blinks a minute")
    if controls.emotion and "emotion" in trained:
        asked.append(setting(controls.emotion))
    return asked


def video_metrics(
    reading: Measurements, points: Sequence[str], head: HeldOutHead, portrait: Measurements, frames: slice
) -> Metrics:
    """Returns the metrics of a measured video against the truth of `frames`; a slice with a step skips frames.

    reading: of as many frames as `frames` selects; points: names of its landmarks; portrait: the portrait's reading.
    """
    every = (frames.step or 1) == 1
    found = metrics.mouth_metrics(reading.mouth, head.truth["mouth"][frames], offsets=every)
    found |= metrics.lip_metrics(lip_shape(reading.landmarks, reading.pose, points), true_lips(head, points, frames))
    found |= {
        "gaze_error": metrics.gaze_error(reading.gaze, reading.lids, head.gaze),
        "distance_error": float(abs(np.exp(-reading.pose[:, 6]).mean() - head.distance)),
        "identity": float(metrics.cosine(reading.embedding, portrait.embedding).mean()),
    }
    if every:
        found |= metrics.head_metrics(reading.pose, head.truth["pose"][frames])
        found["pose_audio_r"] = metrics.pose_audio_correlation(reading.pose, head.level[frames])
        found["blinks"] = metrics.blinks_per_minute(reading.lids)
    return found


def label_metrics(track: dict[str, np.ndarray], head: HeldOutHead, points: Sequence[str]) -> Metrics:
    """Returns the metrics that labels have, without a reading."""
    shape = lip_shape(track["landmarks"][:, landmark_indices(points)], track["pose"], points)
    return {
        **metrics.mouth_metrics(track["mouth"], head.truth["mouth"]),
        **metrics.lip_metrics(shape, true_lips(head, points, slice(None))),
        **metrics.head_metrics(track["pose"], head.truth["pose"]),
        "pose_audio_r": metrics.pose_audio_correlation(track["pose"], head.level),
        "blinks": metrics.blinks_per_minute(track["lids"]),
    }


def lip_shape(
    landmarks: Float[np.ndarray, "T L 2"], pose: Float[np.ndarray, "T 9"], points: Sequence[str]
) -> Float[np.ndarray, "T 2"]:
    """Returns `metrics.lip_shape` of landmarks by their names."""
    names = {
        "lips": ("outer_lip_0", "outer_lip_6", "outer_lip_3", "outer_lip_9"),
        "left_eye": ("eye_left_0", "eye_left_4"),
        "right_eye": ("eye_right_0", "eye_right_4"),
    }
    where = {part: [points.index(name) for name in some] for part, some in names.items()}
    return metrics.lip_shape(landmarks, pose, **where)


def true_lips(head: HeldOutHead, points: Sequence[str], frames: slice) -> Float[np.ndarray, "T 2"]:
    """Returns the exact width and height of the lips' outline."""
    landmarks = head.truth["landmarks"][frames][:, landmark_indices(points)]
    return lip_shape(landmarks, head.truth["pose"][frames], points)


def probe_errors(reader: FaceReader, truths: Sequence[tuple[dict[str, np.ndarray], Measurements]]) -> Metrics:
    """Returns the face probe's own errors on true images.

    truths: (labels of a person's images, what it has read in them) for each person.
    """
    names = ("mouth", "lids", "gaze", "pose", "landmarks")
    labels = {name: np.concatenate([truth[name] for truth, _ in truths]) for name in names}
    labels["landmarks"] = labels["landmarks"][:, landmark_indices(reader.points)]
    labels["person"] = np.repeat(np.arange(len(truths)), [len(reading.mouth) for _, reading in truths])
    return reading_errors(Measurements.joined([reading for _, reading in truths]), labels)
