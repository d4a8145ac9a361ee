"""The sync probe: windows of nine frames, shifts that are found, patches that follow the mouth, sound in columns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from vasa_jax.evaluation.face_readings import Measurements
from vasa_jax.evaluation.sync_probe import SyncProbeMeter, mouth_patches, sound_columns, sync_curve
from vasa_jax.models.sync_probe import (
    COEFFICIENTS,
    COLUMNS,
    SIDE,
    STORED,
    WINDOW,
    SyncProbe,
    seen_part,
    window_contrast,
)
from vasa_jax.models.variants import SYNC_VARIANTS
from vasa_jax.preparation.mfcc import mfcc

FIELDS = SYNC_VARIANTS["sync_tiny"]
RNG = np.random.default_rng(0)
PATCHES = RNG.integers(0, 255, (60, STORED, STORED)).astype(np.uint8)
HEARD = RNG.normal(size=(60, COLUMNS, COEFFICIENTS)).astype(np.float32)


@pytest.fixture(scope="module")
def params():
    network = SyncProbe(**FIELDS)
    patches, columns = jnp.zeros((1, WINDOW, SIDE, SIDE, 1)), jnp.zeros((1, WINDOW, COLUMNS, COEFFICIENTS))
    return random_params(lambda key: network.init(key, patches, columns)["params"])


def test_a_vector_sees_nine_frames_and_no_other(params):
    meter = SyncProbeMeter(params, FIELDS)
    changed = PATCHES.copy()
    changed[30] = 255 - changed[30]
    moved = np.abs(meter.embed_lips(changed) - meter.embed_lips(PATCHES)).max(-1) > 1e-6
    assert len(moved) == 60 - WINDOW + 1 and np.flatnonzero(moved).tolist() == list(range(30 - WINDOW + 1, 31))
    other = HEARD.copy()
    other[30] += 1.0
    moved = np.abs(meter.embed_sound(other) - meter.embed_sound(HEARD)).max(-1) > 1e-6
    assert np.flatnonzero(moved).tolist() == list(range(30 - WINDOW + 1, 31))


def test_brightness_and_contrast_of_a_patch_do_not_count(params):
    network = SyncProbe(**FIELDS)
    patches = RNG.uniform(0.2, 0.8, (1, WINDOW, SIDE, SIDE, 1)).astype(np.float32)
    embed = jax.jit(lambda x: network.apply({"params": params}, x, method="lip"))
    np.testing.assert_allclose(embed(patches + 0.2), embed(patches), atol=1e-4)


class Told(SyncProbeMeter):
    """Both streams say what they are told: unit vectors of the first pixel and the first coefficient."""

    def __init__(self):
        pass

    def embed_lips(self, patches):
        return np.eye(80, dtype=np.float32)[patches[: len(patches) - WINDOW + 1, 0, 0]]

    def embed_sound(self, columns):
        return np.eye(80, dtype=np.float32)[columns[: len(columns) - WINDOW + 1, 0, 0].astype(int)]


@pytest.mark.parametrize("late", [0, 4, -9, 15, -15])
def test_a_known_shift_is_found(late):
    """The sound that belongs to frame i is heard at i + late: by SyncNet's sign the offset is minus that."""
    first = 20 + np.arange(50)
    patches = np.broadcast_to(first[:, None, None].astype(np.uint8), (50, STORED, STORED))
    columns = np.broadcast_to((first - late)[:, None, None].astype(np.float32), (50, COLUMNS, COEFFICIENTS))
    found = Told().measure(patches, columns)
    assert found.offset == -late and found.distance == pytest.approx(0.0, abs=1e-6)
    assert found.confidence == pytest.approx(np.sqrt(2.0), abs=0.05)
    assert Told().measure(patches[:WINDOW], columns) is None


def test_no_shift_gains_by_windows_that_it_lacks():
    """Windows differ in how far they are from everything: that alone makes no shift better than another."""
    far = np.broadcast_to(np.linspace(1.0, 2.0, 40)[:, None], (40, 40))
    curve = sync_curve(far)
    np.testing.assert_allclose(curve.total, 0.0, atol=1e-9)
    assert curve.count[15] == 40 and curve.count[0] == curve.count[30] == 25


def test_patches_follow_the_mouth_in_the_heads_scale():
    """A bright dot at the mouth stays in the patch's middle, wherever the head goes; in half the head it is twice."""
    count, side = 40, 128
    middle = np.stack([np.linspace(-0.2, 0.2, count), np.full(count, 0.3)], -1).astype(np.float32)
    frames = np.zeros((count, side, side, 3), np.uint8)
    for frame, (x, y) in zip(frames, middle):
        column, line = round((x + 1) * side / 2 - 0.5), round((y + 1) * side / 2 - 0.5)
        frame[line - 4 : line + 5, column - 4 : column + 5] = 200
    sizes = []
    for scale in (0.0, np.log(0.5)):
        pose = np.tile(np.float32([1, 0, 0, 0, 1, 0, scale, 0, 0]), (count, 1))
        nothing = np.zeros((count, 2), np.float32)
        reading = Measurements(nothing[:, 0], nothing, nothing, pose, middle[:, None], nothing)
        patches = mouth_patches(frames, reading, ("outer_lip_0",))
        assert patches.shape == (count, STORED, STORED) and patches.dtype == np.uint8
        lines, columns = np.nonzero(patches[count // 2] > 100)
        assert abs(lines.mean() - (STORED - 1) / 2) < 1.5 and abs(columns.mean() - (STORED - 1) / 2) < 1.5
        sizes.append(np.ptp(columns) + 1)
    assert sizes[1] == pytest.approx(2 * sizes[0], abs=2)


def test_sound_is_mfcc_about_its_mean_and_silence_has_no_holes():
    samples = (0.3 * np.sin(np.arange(16_000) * 0.1) * (np.arange(16_000) > 8_000)).astype(np.float32)
    columns = sound_columns(samples, 30)
    assert columns.shape == (30, COLUMNS, COEFFICIENTS) and np.isfinite(columns).all()
    flat = columns.reshape(120, COEFFICIENTS)
    np.testing.assert_allclose(flat.mean(0), 0.0, atol=1e-4)
    np.testing.assert_allclose(flat.std(0), 1.0, atol=1e-3)
    assert flat[:45, 0].std() < 0.1 and flat[55:95, 0].mean() > flat[:45, 0].mean() + 1  # level, before and after
    np.testing.assert_array_equal(columns, sound_columns(samples, 30))
    plain = mfcc(samples)[60:90, 1:]
    r = [np.corrcoef(flat[60:90, i + 1], plain[:, i])[0, 1] for i in range(3)]
    assert min(r) > 0.5


def test_the_middle_of_a_stored_patch_is_seen_as_it_is():
    patches = RNG.random((2, STORED, STORED, 1)).astype(np.float32)
    seen = seen_part(patches, jnp.zeros((2, 2)), jnp.ones(2), jnp.zeros(2))
    edge = (STORED - SIDE) // 2
    np.testing.assert_allclose(seen, patches[:, edge:-edge, edge:-edge], atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_contrast_of_orthogonal_windows(scale):
    """The own window scores 1 and the W - 1 others of the clip 0; windows of other clips are no rivals."""
    windows = jnp.tile(jnp.eye(6)[None], (3, 1, 1))
    loss, accuracy = window_contrast(windows, windows, jnp.float32(scale))
    assert float(loss) == pytest.approx(np.log(1.0 + 5.0 * np.exp(-scale)), rel=1e-5, abs=1e-6)
    assert float(accuracy) == 1.0
