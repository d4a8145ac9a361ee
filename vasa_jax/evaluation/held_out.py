"""The fixed set that a model is judged on: held-out heads that say held-out sentences with held-out voices.

Labels are exact and need no picture, so they cover every frame; pictures of the truth are rendered for a part of each
clip. The ceiling is part of the set: `second`, another true take of the same sound, is what a perfect model may give.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np

from vasa_jax.conventions import FPS, SAMPLES_PER_FRAME
from vasa_jax.corpus.clips import Clip, sample_clip
from vasa_jax.corpus.heads.anatomy import build_anatomy
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.heads.labels import labels
from vasa_jax.corpus.heads.landmarks import landmarks
from vasa_jax.corpus.heads.render import render
from vasa_jax.corpus.performance.muscles import neutral_motion
from vasa_jax.data.face_points import LANDMARKS
from vasa_jax.rng import named_key

HELD_OUT_SET = "vasa_jax.heldout.1"  # the set's name in reports; another way to make it gets another number
LABELS = ("mouth", "lids", "gaze", "pose", "distance", "landmarks")


@dataclasses.dataclass(frozen=True)
class HeldOutHead:
    """One head, what it says and how it truly moved. T frames in all, W of them rendered (`window`)."""

    name: str
    identity: dict[str, np.ndarray]  # scalars
    samples: np.ndarray  # (640 T,) at 16 kHz
    motion: dict[str, np.ndarray]  # (T,) each
    truth: dict[str, np.ndarray]  # LABELS over T frames
    second: dict[str, np.ndarray]  # the same of another performance of the same sound
    gaze: tuple[float, float]  # main gaze in degrees
    distance: float
    text: str
    portrait: np.ndarray  # uint8 (n, n, 3), the face at rest
    window: slice
    frames: np.ndarray  # uint8 (W, n, n, 3)
    masks: np.ndarray  # bool (W, n, n): head and body

    @functools.cached_property
    def level(self) -> np.ndarray:
        """(T,) loudness of the sound of each frame: the log of its root mean square, silence being -60 dB."""
        power = np.square(self.samples.reshape(-1, SAMPLES_PER_FRAME).astype(np.float64)).mean(1)
        return 0.5 * np.log(power + 1e-6)

    def in_window(self, name: str) -> np.ndarray:
        """A label of the rendered frames."""
        return self.truth[name][self.window]

    @property
    def shown(self) -> dict[str, np.ndarray]:
        """LABELS of the rendered frames."""
        return {name: self.in_window(name) for name in self.truth}


class HeldOutHeads:
    """Persons of a stream of keys that no training task uses, drawn at `size` pixels with exact labels."""

    def __init__(
        self, size: int, seed: int = 0, supersample: int = 2, render_batch: int = 4, stream: str = "heldout"
    ):
        self._batch = render_batch
        self._render = jax.jit(functools.partial(render, size=size, supersample=supersample))
        self._labels = jax.jit(true_labels)
        self.key = named_key(seed, stream)
        self._sample_identity = jax.jit(sample_identity)

    def identity(self, index: int) -> dict[str, np.ndarray]:
        """Scalars by name of the head's identity."""
        return jax.device_get(self._sample_identity(jax.random.fold_in(self.key, index)))

    def portrait(self, identity: dict[str, np.ndarray]) -> np.ndarray:
        """uint8 (n, n, 3): the face at rest, looking into the camera."""
        rest = {name: np.float32(value)[None] for name, value in neutral_motion().items()}
        return self.render(identity, rest)["rgb"][0]

    def label(self, identity: dict[str, np.ndarray], motion: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Exact LABELS of one identity over (T,) motion tracks."""
        truth = jax.device_get(self._labels(_repeat(identity, len(motion["yaw"])), motion))
        return {name: truth[name] for name in LABELS}

    def render(self, identity: dict[str, np.ndarray], motion: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Pictures of one identity over (W,) motion tracks: rgb uint8 (W, n, n, 3), matte (W, n, n), landmarks (W, L,
        3).
        """
        total, parts = len(motion["yaw"]), []
        for start in range(0, total, self._batch):
            rows = np.minimum(np.arange(start, start + self._batch), total - 1)  # one compiled shape
            out = self._render(_repeat(identity, self._batch), {name: track[rows] for name, track in motion.items()})
            out = jax.device_get({name: out[name] for name in ("rgb", "matte", "landmarks")})
            parts.append({name: value[: total - start] for name, value in out.items()})
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        joined["rgb"] = (np.clip(joined["rgb"], 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
        return joined


class HeldOutSet(HeldOutHeads):
    """`count` heads, deterministic by seed; clips are cut to `seconds`, the middle `rendered_seconds` of each are
    rendered.

    Sentences and voices are of the corpus's held-out split.
    """

    def __init__(
        self,
        count: int,
        seconds: float,
        rendered_seconds: float,
        size: int,
        seed: int = 0,
        supersample: int = 2,
        render_batch: int = 4,
        speech: str = "espeak",
    ):
        super().__init__(size, seed, supersample, render_batch)
        self._frames = round(seconds * FPS)
        self._rendered = max(2, min(self._frames, round(rendered_seconds * FPS)))
        self._source = speech
        self._clips = _speaking_clips(count, self._frames, seed, speech)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> HeldOutHead:
        """Renders the head's pictures anew at every call: keep what is needed."""
        clip = self._clips[index][1]
        identity, frames = self.identity(index), self._frames
        motion = {name: track[:frames] for name, track in clip.motion.items()}
        start = (frames - self._rendered) // 2
        window = slice(start, start + self._rendered)
        rest = neutral_motion()
        # The portrait is the first picture: rendered with the others, it fills up their last batch.
        moved = {name: np.append(np.float32(rest[name]), track[window]) for name, track in motion.items()}
        pictures = self.render(identity, moved)
        return HeldOutHead(
            name=f"head_{index:02d}",
            identity=identity,
            samples=self.speech(index),
            motion=motion,
            truth=self.label(identity, motion),
            second=self.label(identity, self.performance(index)),
            gaze=(float(clip.gaze[0]), float(clip.gaze[1])),
            distance=float(clip.distance),
            text=clip.text,
            portrait=pictures["rgb"][0],
            window=window,
            frames=pictures["rgb"][1:],
            masks=pictures["matte"][1:] > 0.5,
        )

    def speech(self, index: int) -> np.ndarray:
        """(640 T,) what the head says."""
        return self._clips[index][1].samples[: self._frames * SAMPLES_PER_FRAME]

    def performance(self, index: int, emotion: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """(T,) tracks of another true performance of what the head says; with `emotion`, 8 coefficients, its face shows
        that one in the place of the voice's.
        """
        shown = {} if emotion is None else {"shown": emotion}
        clip = sample_clip(self._clips[index][0], "heldout", take=1, speech=self._source, **shown)
        return {name: track[: self._frames] for name, track in clip.motion.items()}


def true_labels(identity: dict, motion: dict) -> dict[str, jax.Array]:
    """`labels` of a batch of frames, and landmarks (B, len(LANDMARKS), 2)."""
    points = jax.vmap(lambda who, how: landmarks(build_anatomy(who, how)))(identity, motion)
    return {**labels(identity, motion), "landmarks": points[..., :2]}


def landmark_indices(names: Sequence[str]) -> list[int]:
    """Where these points are among the renderer's."""
    return [LANDMARKS.index(name) for name in names]


def _repeat(identity: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    return {name: np.repeat(np.asarray(value)[None], count) for name, value in identity.items()}


def _speaking_clips(count: int, frames: int, seed: int, speech: str) -> list[tuple[int, Clip]]:
    """(seed, clip) of the first `count` clips that are long enough and say something."""
    found, number = [], 10_000 * seed
    while len(found) < count:
        clip = sample_clip(number, "heldout", speech=speech)
        if clip.text and clip.frames >= frames:
            found.append((number, clip))
        number += 1
    return found
