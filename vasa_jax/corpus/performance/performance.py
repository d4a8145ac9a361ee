"""Speech -> how a head performs it: curves of every motion parameter at 25 frames per second.

The lips follow the phonemes (two takes of one sentence move them alike); everything else follows the prosody loosely
and differs from take to take, as it does in people.
"""

from typing import NamedTuple

import numpy as np

from vasa_jax.conventions import EMOTIONS, FPS, frame_count
from vasa_jax.corpus.performance.articulation import articulate
from vasa_jax.corpus.performance.blink import blink_closure, draw_blink
from vasa_jax.corpus.performance.gaze import move_gaze
from vasa_jax.corpus.performance.noise import wander
from vasa_jax.corpus.performance.visemes import EMOTION_OFFSETS, MOTION_NAMES, MOTION_NEUTRAL
from vasa_jax.corpus.speech.espeak import Speech

NEUTRAL = EMOTIONS.index("neutral")


class Performance(NamedTuple):
    """motion: name -> f32 [T]; emotion f32 [8] coefficients that sum to 1, in the order of EMOTIONS; gaze f32 [2]:
    main gaze (yaw, pitch) in degrees, camera frame, positive = image right, image down; distance: mean head distance
    over the corpus's."""

    motion: dict[str, np.ndarray]
    emotion: np.ndarray
    gaze: np.ndarray
    distance: float


def perform(
    speech: Speech,
    rng: np.random.Generator,
    emotion: np.ndarray | None = None,
    gaze: np.ndarray | None = None,
    distance: float | None = None,
) -> Performance:
    """Performs a speech. Emotion (8 coefficients), gaze (degrees) and distance are drawn from `rng` unless given."""
    frames = frame_count(len(speech.samples))
    lips, activity, accent = articulate(speech, frames, effort=rng.uniform(0.88, 1.12))
    emotion = sample_emotion(rng) if emotion is None else np.asarray(emotion, np.float32)
    if gaze is None:
        gaze = np.clip(rng.normal(0.0, (11.0, 6.0)), (-32.0, -18.0), (32.0, 18.0))
    if distance is None:
        distance = np.exp(rng.uniform(-0.22, 0.22))

    motion = {name: np.full(frames, value) for name, value in MOTION_NEUTRAL.items()}
    motion.update(lips)
    _move_head(motion, rng, activity, accent, np.asarray(gaze, float), float(distance))
    shifts, direction = move_gaze(motion, rng, np.asarray(gaze, float))
    _move_brows(motion, rng, activity, accent)
    _show_emotion(motion, rng, emotion, activity)
    _blink(motion, rng, activity, shifts)
    for name, (low, high) in _LIMITS.items():
        motion[name] = np.clip(motion[name], low, high)
    curves = {name: motion[name].astype(np.float32) for name in MOTION_NAMES}
    label = np.median(direction, axis=0).astype(np.float32)  # what the eyes reach, not what was asked for
    return Performance(curves, emotion, label, float(motion["dist"].mean()))


# Sums of expressions stay within what a face can do.
_LIMITS = {
    "jaw": (0.0, 1.1), "brow_in": (-1.2, 1.2), "brow_out": (-1.2, 1.2), "furrow": (0.0, 1.1), "wide": (0.0, 1.1),
    "squint": (0.0, 1.0), "sneer": (0.0, 1.1), "cheek": (0.0, 1.0), "smile": (-1.0, 1.1), "smirk": (0.0, 1.3),
    "width": (-1.0, 1.0), "round": (0.0, 1.0), "up": (0.0, 1.0), "lo": (0.0, 1.0),
}  # fmt: skip


def sample_emotion(rng: np.random.Generator) -> np.ndarray:
    """Draws coefficients f32 [8] in the order of EMOTIONS that sum to 1: neutral with some of one emotion, or of two.
    """
    coefficients = np.zeros(len(EMOTIONS), np.float32)
    strength = 0.0 if rng.random() < 0.25 else rng.uniform(0.15, 0.9)
    others = [index for index in range(len(EMOTIONS)) if index != NEUTRAL]
    first, second = rng.choice(others, 2, replace=False)
    share = rng.uniform(0.6, 0.9) if rng.random() < 0.2 else 1.0
    coefficients[first], coefficients[second] = strength * share, strength * (1 - share)
    coefficients[NEUTRAL] = 1.0 - strength
    return coefficients


def _pulse(frames, centre, rise, fall):
    """A bump of height 1 at `centre` seconds with raised-cosine flanks of `rise` and `fall` seconds."""
    time = (np.arange(frames) + 0.5) / FPS - centre
    phase = np.where(time < 0, time / rise, time / fall)
    return np.where(np.abs(phase) < 1, 0.5 + 0.5 * np.cos(np.pi * phase), 0.0)


def _move_head(motion, rng, activity, accent, wanted, distance):
    """Slow drift, livelier while speaking; nods, tilts and turns on some of the accents; shifts of posture."""
    frames = len(activity)
    liveliness = rng.uniform(0.5, 1.5)
    speaking = liveliness * (0.35 + 0.65 * activity)
    follow = rng.uniform(0.3, 0.7)  # share of the main gaze direction that the head turns
    yaw, pitch = np.radians(wanted) * follow
    for name, centre, mean, slow, quick in (
        ("yaw", yaw, 0.07, (0.8, 0.045), (0.3, 0.055)),
        ("pitch", pitch, 0.035, (0.9, 0.026), (0.22, 0.03)),
        ("roll", 0.0, 0.03, (1.0, 0.022), (0.35, 0.026)),
    ):
        motion[name] += (
            centre + rng.normal(0, mean) + wander(rng, frames, *slow) + speaking * wander(rng, frames, *quick)
        )
    for time, weight in accent:
        # A beat: mostly a nod down, at times up, near the stressed vowel; strong accents rarely go without.
        if rng.random() < np.clip(0.15 + 0.45 * weight, 0.0, 0.9):
            size = weight * liveliness * rng.gamma(4.0, 0.018) * (1.0 if rng.random() < 0.8 else -0.7)
            moment = time + rng.normal(0.02, 0.04)
            motion["pitch"] += size * _pulse(frames, moment, rng.uniform(0.12, 0.25), rng.uniform(0.2, 0.45))
        if rng.random() < 0.15:
            size = liveliness * rng.normal(0.0, 0.06)
            motion["yaw"] += size * _pulse(frames, time + rng.normal(0, 0.1), 0.25, rng.uniform(0.3, 0.8))
        if rng.random() < 0.12:
            size = liveliness * rng.normal(0.0, 0.05)
            motion["roll"] += size * _pulse(frames, time + rng.normal(0, 0.1), 0.3, rng.uniform(0.4, 0.9))
    time = rng.exponential(4.0)
    while time < frames / FPS:  # posture shifts that last
        step = 1.0 / (1.0 + np.exp(-((np.arange(frames) + 0.5) / FPS - time) / 0.09))
        motion["yaw"] += liveliness * rng.normal(0, 0.06) * step
        motion["roll"] += liveliness * rng.normal(0, 0.03) * step
        time += rng.exponential(4.0)
    motion["tx"] += rng.normal(0, 0.05) + wander(rng, frames, 1.2, 0.03) + 0.12 * (motion["yaw"] - yaw)
    motion["ty"] += rng.normal(0, 0.03) + wander(rng, frames, 1.2, 0.01) - 0.12 * (motion["pitch"] - pitch)
    motion["dist"] *= distance * np.exp(wander(rng, frames, 1.4, 0.01) - 0.08 * (motion["pitch"] - pitch))


def _move_brows(motion, rng, activity, accent):
    """Brows rise on some accents and drift a little."""
    frames = len(activity)
    expressive = rng.uniform(0.3, 1.2)
    inner = 0.05 * wander(rng, frames, 0.6, 1.0)
    outer = 0.7 * inner + 0.03 * wander(rng, frames, 0.6, 1.0)
    for time, weight in accent:
        if rng.random() < 0.3:
            bump = _pulse(frames, time + rng.normal(0, 0.06), 0.16, rng.uniform(0.25, 0.7))
            bump *= weight * expressive * rng.uniform(0.15, 0.7)
            inner, outer = inner + bump * rng.uniform(0.6, 1.0), outer + bump * rng.uniform(0.6, 1.0)
        elif rng.random() < 0.06:
            motion["furrow"] += expressive * rng.uniform(0.2, 0.6) * _pulse(frames, time, 0.2, rng.uniform(0.3, 0.9))
    motion["brow_in"] += inner
    motion["brow_out"] += outer
    motion["squint"] += 0.05 + 0.04 * wander(rng, frames, 0.8, 1.0)
    motion["smile"] += 0.04 * wander(rng, frames, 1.5, 1.0)


_MOUTH_OPENERS = ("jaw", "up", "lo")


def _show_emotion(motion, rng, emotion, activity):
    """Adds the emotion's shapes; its strength breathes slowly. Speech keeps its own mouth opening: an emotion opens
    the mouth only in proportion to the speaking, and never presses speaking lips together."""
    frames = len(activity)
    offsets = emotion @ EMOTION_OFFSETS
    strength = 1.0 + 0.12 * wander(rng, frames, 1.5, 1.0)
    closed = motion["press"]
    for index, name in enumerate(MOTION_NAMES):
        offset = offsets[index]
        if offset == 0:
            continue
        if name in _MOUTH_OPENERS:
            motion[name] = motion[name] * (1 + 0.35 * offset * (1 - closed)) + 0.12 * offset * activity * (1 - closed)
        elif name == "press":
            motion[name] = np.maximum(motion[name], 0.6 * offset * (1 - activity))
        elif name in ("width", "round"):
            motion[name] = motion[name] + 0.6 * offset
        elif name.startswith("blink"):
            motion[name] = np.maximum(motion[name], offset * strength)
        else:
            motion[name] = motion[name] + offset * strength


def _blink(motion, rng, activity, shifts):
    """Blinks of 200 to 300 ms, 15 to 20 a minute on average with large differences between people; some at pauses and
    with large gaze shifts; a few incomplete."""
    frames = len(activity)
    seconds = frames / FPS
    interval = float(np.clip(rng.lognormal(np.log(7.0), 0.4), 2.4, 15.0))
    times = []
    time = rng.uniform(-0.2, interval)
    while time < seconds + 0.2:
        times.append(time)
        time += 0.6 + rng.gamma(2.0, max(interval - 0.6, 0.5) / 2.0)
    pauses = np.flatnonzero((activity[1:] < 0.3) & (activity[:-1] >= 0.3)) / FPS
    times += [pause + rng.uniform(0.0, 0.2) for pause in pauses if rng.random() < 0.25]
    times += [shift for shift in shifts if rng.random() < 0.3]
    lids = np.zeros(frames)
    last = -1.0
    for time in sorted(times):
        if time - last < 0.5:
            continue
        last = time
        lids = np.maximum(lids, blink_closure(np.arange(frames), time, *draw_blink(rng)))
    for name in ("blink_l", "blink_r"):
        # an emotion may lower the lid a little; a blink closes it from there
        motion[name] = np.clip(motion[name] + (1 - motion[name]) * lids, 0.0, 1.0)
