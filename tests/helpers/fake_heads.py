"""A corpus of grey images whose brightness is the jaw, with a face reader and generators that understand them."""

import jax.numpy as jnp
import numpy as np

from vasa_jax.evaluation import held_out
from vasa_jax.evaluation.face_readings import FaceReader, Measurements
from vasa_jax.training.tasks.face_probe import POINTS

FRAMES = 50
N = 32
LIP_WIDTH = 0.4  # of the distance between the eyes


def use_fake_heads(monkeypatch):
    """Replaces speech, renderer and labels of the held-out set."""
    monkeypatch.setattr(held_out, "sample_clip", fake_clip)
    monkeypatch.setattr(held_out, "render", fake_render)
    monkeypatch.setattr(held_out, "labels", fake_labels)
    monkeypatch.setattr(held_out, "build_anatomy", lambda who, how: how)
    monkeypatch.setattr(held_out, "landmarks", lambda how: turned_landmarks(how, held_out.LANDMARKS))


def pose(yaw=0.0, pitch=0.0, roll=0.0):
    """A pose vector from angles in degrees, written out from R = R_y(-yaw) R_x R_z."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    rotation = about_y @ about_x @ about_z
    return np.concatenate([rotation[:, 0], rotation[:, 1], np.zeros(3)])


def fake_clip(seed, split, take=0, speech="espeak", shown=None):
    """Jaw tracks that the sound carries openly: every sample of a frame is the jaw's value. A shown emotion is in
    `smile`, by its number + 1."""
    rng = np.random.default_rng(seed)
    jaw = np.clip(0.5 + 0.5 * np.sin(np.arange(FRAMES) * rng.uniform(0.3, 0.9) + rng.uniform(0, 6)), 0, 1)
    motion = {name: np.zeros(FRAMES, np.float32) for name in held_out.neutral_motion()}
    motion["jaw"] = jaw.astype(np.float32) * (1.0 if take == 0 else 0.5)
    motion["yaw"] = np.linspace(0, 1, FRAMES, dtype=np.float32)
    if shown is not None:
        motion["smile"] += np.float32(shown.argmax() + 1)
    none = np.zeros(0)
    text = "" if seed == 0 else "a text"
    samples = np.repeat(jaw.astype(np.float32), 640)
    return held_out.Clip(
        samples=samples,
        frames=FRAMES,
        motion=motion,
        phoneme_ids=none,
        stress=none,
        energy=none,
        emotion=none,
        gaze=np.zeros(2),
        distance=1.0,
        text=text,
        voice="voice",
    )


def fake_render(identity, motion, size, supersample):
    """Grey images as bright as the mouth is open, in the left half; the right half is as bright as the person is; ten
    grey levels for each number of `smile` in the first pixel."""
    count = motion["jaw"].shape[0]
    left = jnp.broadcast_to(motion["jaw"][:, None, None, None], (count, size, size // 2, 3))
    right = jnp.broadcast_to(identity["skull_w"][:, None, None, None] / 2.0, (count, size, size // 2, 3))
    rgb = jnp.concatenate([left, right], 2)
    smile = motion["smile"][:, None] * 10.0 / 255.0
    rgb = rgb.at[:, 0, 0].set(jnp.where(smile > 0, smile, rgb[:, 0, 0]))
    points = jnp.zeros((count, len(held_out.LANDMARKS), 3))
    return {"rgb": rgb, "matte": jnp.ones((count, size, size)), "landmarks": points}


def fake_labels(identity, motion):
    count = motion["jaw"].shape[0]
    poses = jnp.tile(jnp.asarray(pose(), jnp.float32), (count, 1))
    # A yaw of `yaw` radians, so that head motion is known.
    poses = poses.at[:, 0].set(jnp.cos(motion["yaw"])).at[:, 2].set(-jnp.sin(motion["yaw"]))
    return {
        "mouth": motion["jaw"], "lids": jnp.ones((count, 2)), "gaze": jnp.zeros((count, 2)), "pose": poses,
        "distance": jnp.ones(count),
    }  # fmt: skip


_PLACES = {
    "eye_left_0": (-0.5, 0), "eye_left_4": (-0.5, 0), "eye_right_0": (0.5, 0), "eye_right_4": (0.5, 0),
    "outer_lip_0": (-LIP_WIDTH / 2, 0), "outer_lip_6": (LIP_WIDTH / 2, 0),
    "outer_lip_3": (0, -0.5), "outer_lip_9": (0, 0.5),
}  # fmt: skip


def fake_landmarks(jaw, names):
    """(L, 2) points of a frontal face, or (N, L, 2) for N jaws: eyes one apart, lips LIP_WIDTH wide and as high as the
    jaw is open."""
    lips = np.array([name in ("outer_lip_3", "outer_lip_9") for name in names])
    points = np.array([_PLACES.get(name, (0, 0)) for name in names])
    return points * jnp.where(lips[:, None], jaw[..., None, None], 1.0)


def turned_landmarks(motion, names):
    """(L, 3) the same of a head turned by its `yaw`."""
    flat = fake_landmarks(motion["jaw"], names) * jnp.array([jnp.cos(motion["yaw"]), 1.0])
    return jnp.pad(flat, ((0, 0), (0, 1)))


class FakeFaceReader(FaceReader):
    """Reads brightness."""

    points = POINTS
    training_errors = {"mouth_r": 0.9, "soft_mouth_r": 0.8}  # noqa: RUF012

    def __init__(self):
        pass  # it has no network

    def measure(self, frames):
        count = len(frames)
        bright = frames[:, 1:, : N // 2].mean((1, 2, 3)) / 255.0
        person = frames[:, :, N // 2 :].mean((1, 2, 3)) / 255.0
        return Measurements(
            mouth=bright, lids=np.ones((count, 2)), gaze=np.zeros((count, 2)), pose=np.tile(pose(), (count, 1)),
            landmarks=np.asarray(fake_landmarks(bright, self.points)),
            embedding=np.stack([np.cos(9 * person), np.sin(9 * person)], -1),
        )  # fmt: skip

    def picture_features(self, frames):
        bright = frames.mean((2, 3)) / 255.0
        return np.stack([bright.mean(1), bright.std(1)], -1)


class PerfectGenerator:
    """Hears the jaw in the sound and draws it."""

    image_size = N
    trained_controls: tuple[str, ...] = ("gaze",)

    def prepare(self, portrait):
        return portrait

    def encode_motion(self, frames):
        return frames[:, :, : N // 2].mean((1, 2, 3), dtype=np.float64)[:, None] / 255.0

    def motion(self, samples, avatar=None, controls=None):
        assert controls.gaze == (0.0, 0.0) and controls.distance is None
        return samples[::640, None]

    def render(self, avatar, motion):
        for value in motion[:, 0]:
            frame = avatar.copy()
            frame[:, : N // 2] = round(float(value) * 255.0)
            yield frame[None]


class StillGenerator(PerfectGenerator):
    def render(self, avatar, motion):
        yield np.repeat(avatar[None], len(motion), 0)
