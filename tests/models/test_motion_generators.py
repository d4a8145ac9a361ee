"""JoyVASA's and Ditto's motion against their official PyTorch code (tests/golden/make_motion_generators.py)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from motion_generator_sizes import (
    DITTO,
    DITTO_RUNS,
    DITTO_SEQUENCE,
    DITTO_STEPS,
    JOYVASA,
    JOYVASA_SEQUENCE,
    SCHEDULES,
    WINDOWS,
    ditto_faces,
)
from official_state import GOLDEN, inputs, random_state, spread

from vasa_jax.conventions import EMOTIONS
from vasa_jax.diffusion import NoiseKeys, VASADiffusion
from vasa_jax.generation.ditto import DittoSampler, Overlap, emotion_weights
from vasa_jax.generation.ditto_motion import eye_state, from_portrait, portrait_vectors
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.joyvasa import reflected
from vasa_jax.generation.keypoint_driving import adjusted_motion
from vasa_jax.generation.windows import sample_sequence, sample_windows
from vasa_jax.models.ditto import DittoConditions, DittoTransformer
from vasa_jax.models.joyvasa import JoyVASATransformer
from vasa_jax.models.keypoint_motion import RawMotion
from vasa_jax.models.keypoints import posed_keypoints
from vasa_jax.models.motion import MotionConditions
from vasa_jax.weights.motion_generators import SMALLEST_BETA, ditto_params, joyvasa_params
from vasa_jax.weights.published_tables import ditto_table, joyvasa_table

TOLERANCE = 2e-5  # over the reference's standard deviation; float32 on both sides


@functools.cache
def golden():
    return dict(np.load(GOLDEN / "motion_generators.npz"))


def close(name, values, tolerance=TOLERANCE):
    expected = golden()[name]
    difference = np.abs(spread(np.asarray(values, np.float64), 1200) - expected).max() / expected.std()
    assert difference <= tolerance, (name, difference)
    print(f"{name}: max {difference:.1e} of the standard deviation {expected.std():.2g}")


@functools.cache
def joyvasa(steps, motion_feat_dim, n_motions, n_prev_motions, feature_dim):
    told = {
        "start_motion_feat": (1, n_prev_motions, motion_feat_dim), "audio_feature_map.weight": (feature_dim, 768),
        "diffusion_sched.betas": (steps + 1,), "denoising_net.alignment_mask": (n_prev_motions + n_motions,) * 2,
    }  # fmt: skip
    table = joyvasa_table({name: np.broadcast_to(np.float32(0), shape) for name, shape in told.items()})
    fields = {"width": feature_dim, "motion_dim": motion_feat_dim, "window": n_motions, "previous": n_prev_motions}
    return joyvasa_params(random_state(table)), JoyVASATransformer(**fields)


def heard(audio, previous=None, motion=None):
    """Conditions of which JoyVASA knows the sound, and what went before."""
    batch, known = len(audio), np.ones(len(audio), bool)
    nothing = {f"{name}_mask": ~known for name in ("gaze", "distance", "emotion")}
    return MotionConditions(
        audio=audio, prev_audio=previous, prev_motion=motion, prev_mask=known, gaze=np.zeros((batch, 2), np.float32),
        distance=np.zeros((batch, 1), np.float32), emotion=np.zeros((batch, 8), np.float32),
        audio_mask=np.ones(audio.shape[:2], bool), **nothing,
    )  # fmt: skip


@pytest.mark.parametrize("steps", SCHEDULES)
def test_schedule(steps):
    levels = VASADiffusion(steps, smallest_beta=SMALLEST_BETA).levels
    np.testing.assert_allclose(levels, golden()[f"joyvasa/levels{steps}"], rtol=2e-4, atol=1e-7)


def test_sound_of_a_window_is_continued_as_theirs():
    values = reflected(np.arange(64_000, dtype=np.float32))
    assert len(values) == 64_080
    np.testing.assert_array_equal(values[[*range(45), *range(-45, 0)]], golden()["joyvasa/padded"])


@pytest.mark.parametrize("positions", ["constant", "sequence"])
def test_joyvasa_network(positions):
    params, network = joyvasa(50, **JOYVASA)
    total, k = JOYVASA["n_prev_motions"] + JOYVASA["n_motions"], JOYVASA["n_prev_motions"]
    motion = inputs("joyvasa motion", 2, total, JOYVASA["motion_feat_dim"])
    sound = inputs("joyvasa sound", 2, total, 768)
    conditions = heard(sound[:, k:], sound[:, :k], motion[:, :k])
    apply = jax.jit(network.clone(positions=positions).apply)
    # Their steps count from 1.
    close(f"joyvasa/network/{positions}", apply({"params": params}, motion[:, k:], np.array([2, 46]), conditions))


@dataclasses.dataclass(frozen=True)
class GivenNoise(VASADiffusion):
    """Noise that keys number: the first is `first`, or the one of its key; that of step i of key w is steps[w][i]."""

    first: str = ""
    steps: str = ""
    shape: tuple[int, ...] = ()
    windows: int = 1

    def initial_noise(self, key, shape):
        if self.windows == 1:
            return jnp.asarray(inputs(self.first, *shape))
        return jnp.stack([inputs(f"{self.first} {i}", *shape) for i in range(self.windows)])[_number(key)]

    def step_noise(self, key, number, shape):
        names = [f"{self.steps} {i}" for i in range(WINDOWS)] if self.shape[0] == self.timesteps else [self.steps]
        drawn = jnp.stack([inputs(name, *self.shape) for name in names])
        drawn = jnp.concatenate([drawn, jnp.zeros_like(drawn[:, :1])], 1)  # the last step adds nothing
        return drawn[_number(key) % len(names), number]


def _number(key):
    """What key a test has made with jax.random.key."""
    return jax.random.key_data(key)[..., -1].astype(jnp.int32)


def test_joyvasa_sequence():
    """Windows after one another: previous motion and sound, the same first noise, guidance, every step's noise."""
    small = dict(JOYVASA_SEQUENCE)
    steps = small.pop("n_diff_steps")
    params, network = joyvasa(steps, **small)
    window, dim = network.window, network.motion_dim
    noise = GivenNoise(
        steps, smallest_beta=SMALLEST_BETA, first="joyvasa noise", steps="joyvasa step noise",
        shape=(steps, 1, window, dim),
    )  # fmt: skip
    seen = []

    def sample(past, count, keep, keys, conditions, centres):
        del keys
        numbered = jax.vmap(jax.random.key)(np.arange(len(keep), dtype=np.uint32))
        seen.append(count)
        scales = {"audio": np.full(len(keep), 1.0, np.float32)}  # theirs, 2, counts from the null
        return sample_windows(
            network, noise, steps, "ancestral", params, past, np.int32(count), keep, NoiseKeys(numbered, numbered),
            conditions, scales,
        )  # fmt: skip

    unknown = heard(np.zeros((1, 1, 1), np.float32))
    controls = {name: getattr(unknown, name) for name in (
        "gaze", "distance", "emotion", "gaze_mask", "distance_mask", "emotion_mask")}  # fmt: skip
    motion = sample_sequence(
        sample, jax.random.key(0), inputs("joyvasa speech", 1, WINDOWS * window, 768), lambda *_: controls,
        window=window, previous=network.previous, motion_dim=dim,
    )  # fmt: skip
    assert seen == [WINDOWS]
    close("joyvasa/sequence", motion, 1e-4)


@functools.cache
def ditto(nfeats, seq_len, latent_dim, cond_feature_dim, **_):
    table = ditto_table(latent_dim, nfeats, cond_feature_dim, seq_len)
    fields = {"width": latent_dim, "motion_dim": nfeats, "conditions": cond_feature_dim, "window": seq_len}
    return ditto_params(random_state(table)), fields


def test_ditto_network():
    params, fields = ditto(**DITTO)
    network, frames = DittoTransformer(**fields), DITTO["seq_len"]
    # With and without the conditions of frames.
    both = DittoConditions(
        np.repeat(inputs("ditto conditions", 1, frames, DITTO["cond_feature_dim"]), 2, 0),
        np.repeat(inputs("ditto start", 1, DITTO["nfeats"]), 2, 0), np.array([True, False]),
    )  # fmt: skip
    noisy = np.repeat(inputs("ditto motion", 1, frames, DITTO["nfeats"]), 2, 0)
    known, null = jax.jit(network.apply)({"params": params}, noisy, np.full(2, 613), both)
    close("ditto/network", (null + 2.0 * (known - null))[None])


def test_ditto_conditions():
    """Eyes, emotions, and which sound a frame's features are of."""
    eyes = eye_state(inputs("ditto mesh", 478, 3))
    close("ditto/eyes", np.concatenate([eyes.open, eyes.ball]))
    happy = np.eye(len(EMOTIONS))[[EMOTIONS.index("happiness")]]
    close("ditto/happy", emotion_weights(happy)[0])
    sampler = DittoSampler(({}, {"fields": {}}), "")
    # In the place of its encoder: each of 20 features is the first sample that it is of.
    sampler._encoder = lambda sound: [np.repeat(sound[0, : 20 * 320 : 320], 1024)]
    heard = sampler.features(np.arange(640 * 12 + 1, dtype=np.float32))
    assert heard.shape == (13, 1024)
    np.testing.assert_allclose(heard[1:12, 0], 640.0 * np.arange(1, 12) - 80 + 160)


@pytest.mark.parametrize("name", DITTO_RUNS)
def test_ditto_sequence(name):
    """Windows that overlap: noise, blending, smoothing, and the frame that the next one follows."""
    params, fields = ditto(**DITTO_SEQUENCE)
    how = DITTO_RUNS[name]
    shared, restarted = how["overlap_v2"], how.get("fix_kp_cond_dim")
    valid = DITTO_SEQUENCE["seq_len"] - shared
    overlap = Overlap(shared, min(shared, valid) if "online_mode" in how else shared, restarted and slice(*restarted))
    sampler = DittoSampler((params, {"fields": fields}), "")
    windows = -(-37 // valid)
    shape = (DITTO_STEPS - 1, 1, fields["window"], fields["motion_dim"])
    noise = GivenNoise(first="ditto noise", steps="ditto step noise", shape=shape, windows=windows)
    source = np.concatenate([[np.float32(0.3)], *(
        inputs(f"ditto source {part}", size)
        for part, size in (("pitch", 66), ("yaw", 66), ("roll", 66), ("t", 3), ("exp", 63))
    )])  # fmt: skip
    fold = lambda key, number: jax.random.key(number)  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vasa_jax.generation.ditto.jax.random.fold_in", fold)
        motion = sampler.sequence(
            inputs("ditto speech", 37, DITTO_SEQUENCE["cond_feature_dim"]), source.astype(np.float32),
            jax.random.key(0), DITTO_STEPS, "ancestral", 1.0, overlap, noise,
        )  # fmt: skip
    close(f"ditto/sequence/{name}", motion[None], 1e-4)


def test_ditto_keypoints():
    """From what is predicted to the keypoints of a portrait: changes of logits, lips and eyes alone, gaze."""
    portrait, faces = ditto_faces()
    raw = RawMotion(*(
        portrait[name][None] for name in ("pitch", "yaw", "roll", "t")
    ), portrait["exp"].reshape(1, 21, 3), portrait["scale"][None], portrait["kp"].reshape(1, 21, 3))  # fmt: skip
    predicted = np.concatenate(
        [faces["scale"] - 1, *(faces[name] for name in ("pitch", "yaw", "roll", "t", "exp"))], 1
    )
    vectors = portrait_vectors(raw, from_portrait(raw, predicted, np.ones(len(predicted))))
    expression = vectors[:, 9:].reshape(-1, 21, 3)
    made = posed_keypoints(raw.keypoints, vectors[:, :9].astype(np.float32), expression.astype(np.float32))
    close("ditto/keypoints", made)
    # The rest of the way leaves them where they are without networks.
    own = portrait_vectors(raw, from_portrait(raw, predicted[:1], np.ones(1)))[0]
    motion = adjusted_motion(raw.keypoints[0], own, vectors, Driving())
    again = posed_keypoints(
        raw.keypoints, motion[:, :9], motion[:, 9:].reshape(-1, 21, 3)
    )
    np.testing.assert_allclose(again, made, atol=1e-5)
