"""The fixed sets that models are judged on: held-out people, with exact labels of everything they show.

`HeldOutSet` has heads that say held-out sentences with held-out voices. Labels need no image, so they cover every
frame; images of the truth are rendered for a part of each clip. The ceiling is part of the set: `second`, another true
take of the same sound, is what a perfect model may give.

`HeldOutStills` has people in broad stills, with the exact truth of every transfer. A still's head pose is drawn apart
from its dynamics, so that neither tells anything of the other: in the stills that networks train on, eyes follow the
head.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.conventions import FPS, LANDMARKS, SAMPLES_PER_FRAME
from vasa_jax.corpus.clips import MAX_SECONDS, MIN_SECONDS, Clip, sample_clip
from vasa_jax.corpus.heads.anatomy import build_anatomy
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.heads.labels import labels
from vasa_jax.corpus.heads.landmarks import landmarks
from vasa_jax.corpus.heads.render import render
from vasa_jax.corpus.heads.truth import MOTION_FACTORS, Scene, exchanged
from vasa_jax.corpus.performance.muscles import neutral_motion, sample_motion
from vasa_jax.errors import InputError
from vasa_jax.evaluation import metrics
from vasa_jax.filling import filled_up
from vasa_jax.rng import named_key

# The sets' names in reports; another way to make one gets another number.
HELD_OUT_SET = "vasa_jax.heldout.1"
HELD_OUT_STILLS = "vasa_jax.heldout_stills.1"
DYNAMICS = tuple(name for factor, names in MOTION_FACTORS.items() if factor != "pose" for name in names)
TRIES = 50  # clips looked at for each one that is needed: of 9.9 s long ones there is one in 20
LABELS = ("mouth", "lids", "gaze", "pose", "distance", "landmarks")


@dataclasses.dataclass(frozen=True)
class HeldOutHead:
    """Holds one head, what it says and how it truly moved: T frames, W of them rendered (`window`)."""

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
        """(T,) loudness of the sound, `metrics.log_level`."""
        return metrics.log_level(self.samples)

    def in_window(self, name: str) -> np.ndarray:
        """Returns a label of the rendered frames."""
        return self.truth[name][self.window]

    @property
    def shown(self) -> dict[str, np.ndarray]:
        """LABELS of the rendered frames."""
        return {name: self.in_window(name) for name in self.truth}


class HeldOutHeads:
    """Draws persons of a stream of keys that no training task uses, at `size` pixels with exact labels."""

    def __init__(self, size: int, seed: int = 0, supersample: int = 2, render_batch: int = 4, stream: str = "heldout"):
        self._batch = render_batch
        self._render = jax.jit(functools.partial(render, size=size, supersample=supersample))
        self._labels = jax.jit(true_labels)
        self.key = named_key(seed, stream)
        self._sample_identity = jax.jit(sample_identity)

    def identity(self, index: int) -> dict[str, np.ndarray]:
        """Returns the scalars, by name, of a head's identity."""
        return jax.device_get(self._sample_identity(jax.random.fold_in(self.key, index)))

    def portrait(self, identity: dict[str, np.ndarray]) -> np.ndarray:
        """Renders uint8 (n, n, 3): the face at rest, looking into the camera."""
        rest = {name: np.float32(value)[None] for name, value in neutral_motion().items()}
        return self.render(identity, rest)["rgb"][0]

    def label(self, identity: dict[str, np.ndarray], motion: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the exact LABELS of one identity over (T,) motion tracks."""
        truth = jax.device_get(self._labels(_repeat(identity, len(motion["yaw"])), motion))
        return {name: truth[name] for name in LABELS}

    def render(self, identity: dict[str, np.ndarray], motion: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Renders one identity over (W,) motion tracks.

        Returns rgb uint8 (W, n, n, 3), matte (W, n, n) and landmarks (W, L, 3).
        """
        total, parts = len(motion["yaw"]), []
        for start in range(0, total, self._batch):
            rows = filled_up(np.arange(total)[start : start + self._batch], self._batch)
            out = self._render(_repeat(identity, self._batch), {name: track[rows] for name, track in motion.items()})
            out = jax.device_get({name: out[name] for name in ("rgb", "matte", "landmarks")})
            parts.append({name: value[: total - start] for name, value in out.items()})
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        joined["rgb"] = (np.clip(joined["rgb"], 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
        return joined


class HeldOutSet(HeldOutHeads):
    """Holds `count` speaking heads, deterministic by seed; indexing renders.

    Clips are cut to `seconds`, and the middle `rendered_seconds` of each are rendered. Sentences and voices are of the
    corpus's held-out split. Raises InputError for more seconds than its clips have.
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
        self._clips = _speaking_clips(count, seconds, seed, speech)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> HeldOutHead:
        """Renders the head's images anew at every call: keep what is needed."""
        clip = self._clips[index][1]
        identity, frames = self.identity(index), self._frames
        motion = {name: track[:frames] for name, track in clip.motion.items()}
        start = (frames - self._rendered) // 2
        window = slice(start, start + self._rendered)
        rest = neutral_motion()
        # The portrait is the first image: rendered with the others, it fills up their last batch.
        moved = {name: np.append(np.float32(rest[name]), track[window]) for name, track in motion.items()}
        images = self.render(identity, moved)
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
            portrait=images["rgb"][0],
            window=window,
            frames=images["rgb"][1:],
            masks=images["matte"][1:] > 0.5,
        )

    def speech(self, index: int) -> np.ndarray:
        """Returns (640 T,) what the head says."""
        return self._clips[index][1].samples[: self._frames * SAMPLES_PER_FRAME]

    def performance(self, index: int, emotion: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Returns (T,) tracks of another true performance of what the head says.

        With `emotion`, 8 coefficients, its face shows that one in the place of the voice's.
        """
        shown = {} if emotion is None else {"shown": emotion}
        clip = sample_clip(self._clips[index][0], "heldout", take=1, speech=self._source, **shown)
        return {name: track[: self._frames] for name, track in clip.motion.items()}


def true_labels(identity: dict, motion: dict) -> dict[str, jax.Array]:
    """Returns the `labels` of a batch of frames, and landmarks (B, len(LANDMARKS), 2)."""
    points = jax.vmap(lambda who, how: landmarks(build_anatomy(who, how)))(identity, motion)
    return {**labels(identity, motion), "landmarks": points[..., :2]}


def landmark_indices(names: Sequence[str]) -> list[int]:
    """Returns where these points are among the renderer's."""
    return [LANDMARKS.index(name) for name in names]


def _repeat(identity: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    return {name: np.repeat(np.asarray(value)[None], count) for name, value in identity.items()}


def _speaking_clips(count: int, seconds: float, seed: int, speech: str) -> list[tuple[int, Clip]]:
    """Returns (seed, clip) of the first `count` clips that are long enough and say something."""
    found: list[tuple[int, Clip]] = []
    tries = TRIES * count if seconds <= MAX_SECONDS else 0
    for number in range(10_000 * seed, 10_000 * seed + tries):
        clip = sample_clip(number, "heldout", speech=speech)
        if clip.text and clip.frames >= round(seconds * FPS):
            found.append((number, clip))
        if len(found) == count:
            return found
    raise InputError(
        f"seconds: {seconds:g} is more than enough held-out clips last, which is {MIN_SECONDS:g} to {MAX_SECONDS:g} s; "
        f"choose {MIN_SECONDS:g} or less"
    )


# Stills ---------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Stills:
    """Holds images of one person with their labels."""

    rgb: np.ndarray  # uint8 (N, n, n, 3)
    mask: np.ndarray  # bool (N, n, n): head and body
    landmarks: np.ndarray  # (N, len(LANDMARKS), 2)
    labels: dict[str, np.ndarray]  # LABELS over N stills
    motion: dict[str, np.ndarray]  # (N,) by name


@dataclasses.dataclass(frozen=True)
class HeldOutPerson:
    """Holds one person in S stills, and who drives it."""

    name: str
    portrait: np.ndarray  # uint8 (n, n, 3), the face at rest
    stills: Stills
    drivers: Stills  # the next person of the set in the same S motions
    mixed: Stills  # K: the dynamics of still k with the head pose of `partner(k)`

    def partner(self) -> np.ndarray:
        """Returns (K,) the numbers of the stills whose head pose `mixed` has."""
        return (np.arange(len(self.mixed.rgb)) + 1) % len(self.stills.rgb)


@functools.partial(jax.jit, static_argnums=1)
def motions_with_other_poses(key: jax.Array, count: int) -> dict[str, jax.Array]:
    """Draws (count,) tracks by name: dynamics of one draw each, head pose of another.

    A larger count does not change the first ones.
    """

    def draws(stream):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, stream), jnp.arange(count))
        return jax.vmap(sample_motion)(keys)

    return exchanged(Scene({}, draws(0)), Scene({}, draws(1)), "pose").motion


class HeldOutStills:
    """Holds `count` people in `stills` stills each, `mixed` of them also in another's head pose.

    Deterministic by seed. The people are those of `HeldOutSet`. Indexing renders anew at every call.
    """

    def __init__(self, count: int, stills: int, mixed: int, size: int, seed: int = 0, supersample: int = 2):
        if not 0 < mixed <= stills or stills < 2:
            raise ValueError(f"{mixed} of {stills} stills in another's head pose; at least 2 stills are needed")
        self._people = HeldOutHeads(size, seed, supersample)
        self._count, self._stills, self._mixed = count, stills, mixed
        self._key = named_key(seed, "heldout stills")

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> HeldOutPerson:
        identity, following = (self._people.identity(i % self._count) for i in (index, index + 1))
        motion = jax.device_get(motions_with_other_poses(jax.random.fold_in(self._key, index), self._stills))
        rows = np.arange(self._mixed)
        own, other = (
            Scene({}, {name: track[which] for name, track in motion.items()})
            for which in (rows, (rows + 1) % self._stills)
        )
        mixed = exchanged(own, other, "pose").motion
        rest = {name: np.float32(value)[None] for name, value in neutral_motion().items()}
        # Rendered together, so that few batches are filled up.
        every = {name: np.concatenate([rest[name], motion[name], mixed[name]]) for name in motion}
        shown = self._shown(identity, every)
        return HeldOutPerson(
            name=f"head_{index:02d}",
            portrait=shown.rgb[0],
            stills=_part(shown, slice(1, 1 + self._stills)),
            drivers=self._shown(following, motion),
            mixed=_part(shown, slice(1 + self._stills, None)),
        )

    def _shown(self, identity: dict[str, np.ndarray], motion: dict[str, np.ndarray]) -> Stills:
        images = self._people.render(identity, motion)
        return Stills(
            rgb=images["rgb"],
            mask=images["matte"] > 0.5,
            landmarks=images["landmarks"][:, :, :2],
            labels=self._people.label(identity, motion),
            motion=motion,
        )


def _part(stills: Stills, rows: slice) -> Stills:
    fields = {field.name: getattr(stills, field.name) for field in dataclasses.fields(stills)}
    return Stills(**jax.tree.map(lambda value: value[rows], fields))
