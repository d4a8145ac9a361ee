"""The face probe: its geometry, its reader, its errors on known truth, and its training."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fake_heads import pose

from vasa_jax.errors import InputError
from vasa_jax.evaluation.face_readings import FaceReader, Measurements, reading_errors
from vasa_jax.models.face_probe import SIZE, Anchors, FaceProbe, patch_grid, soft_argmax
from vasa_jax.training.degradation import degrade
from vasa_jax.training.tasks import face_probe
from vasa_jax.training.tasks.face_probe import FaceProbeSettings, FaceProbeTask, identity_loss
from vasa_jax.weights.safetensors_io import save_params

POINTS = ("a", "b", "c", "d")
ANCHORS = Anchors(mouth=(0, 1), left_eye=(2,), right_eye=(3,))


def random_params(init):
    """Parameters of the right shapes without compiling their initialisation."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(lambda leaf: 0.1 * rng.standard_normal(leaf.shape).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def params():
    return random_params(
        lambda key: FaceProbe(len(POINTS), ANCHORS).init(key, jnp.zeros((1, SIZE, SIZE, 3)))["params"]
    )


def test_soft_argmax_of_a_sharp_peak():
    heat = np.zeros((1, 8, 16, 1), np.float32)
    heat[0, 6, 3] = 50.0
    np.testing.assert_allclose(soft_argmax(heat)[0, 0], 1.1 * np.array([7 / 16 - 1, 13 / 8 - 1]), atol=1e-5)


def test_patch_grid_follows_scale_and_roll():
    centre = jnp.array([[0.2, -0.1]])
    upright = jnp.asarray(pose())[None].at[0, 6].set(jnp.log(2.0))
    grid = patch_grid(centre, upright, half=0.25, pixels=4)
    np.testing.assert_allclose(grid[0, 0, 3], [0.2 + 0.375, -0.1 - 0.375], atol=1e-6)
    mirrored = patch_grid(centre, upright, half=0.25, pixels=4, mirror=True)
    np.testing.assert_allclose(mirrored, grid[:, :, ::-1], atol=1e-6)
    # A quarter turn takes the patch's right to the image's bottom.
    turned = patch_grid(centre, jnp.asarray(pose(roll=90.0))[None], half=0.5, pixels=2)
    np.testing.assert_allclose(turned[0, 0, 1] - turned[0, 0, 0], [0.0, 0.5], atol=1e-6)


def test_face_reader_measures_each_frame_alone(params, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), np.uint8)
    reader = FaceReader(params, POINTS, ANCHORS, batch_size=2)
    together = reader.measure(frames)
    assert together.landmarks.shape == (3, 4, 2)
    assert together.pose.shape == (3, 9)
    np.testing.assert_allclose(np.linalg.norm(together.embedding, axis=-1), 1.0, atol=1e-5)
    for i in range(3):
        alone = reader.measure(frames[i : i + 1])
        for name in ("mouth", "lids", "gaze", "pose", "landmarks", "embedding"):
            np.testing.assert_allclose(getattr(alone, name)[0], getattr(together, name)[i], atol=2e-4)
    with pytest.raises(ValueError, match="square"):
        reader.measure(frames[:, :50])

    path = tmp_path / "instrument.safetensors"
    metadata = {
        "anchors": {"mouth": [0, 1], "left_eye": [2], "right_eye": [3]},
        "points": POINTS,
        "errors": {"mouth_r": 0.5},
    }
    save_params(path, params, metadata)
    loaded = FaceReader.from_pretrained(tmp_path, batch_size=2)
    assert (loaded.points, loaded.training_errors) == (POINTS, {"mouth_r": 0.5})
    np.testing.assert_allclose(loaded.measure(frames).landmarks, together.landmarks, atol=0.02)
    save_params(path, params, {"points": POINTS})
    with pytest.raises(InputError, match="not a face probe"):
        FaceReader.from_pretrained(tmp_path)


def test_face_probe_is_small():
    shapes = jax.eval_shape(FaceProbeTask(FaceProbeSettings()).init, jax.random.key(0))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) <= 280_000


def test_errors_of_a_perfect_reading():
    rng = np.random.default_rng(0)
    person = np.array([0, 0, 1, 1])
    truth = {
        "mouth": rng.random(4), "lids": np.ones((4, 2)), "gaze": rng.random((4, 2)),
        "pose": np.stack([pose(yaw=5.0 * i) for i in range(4)]), "landmarks": rng.random((4, 6, 2)), "person": person,
    }  # fmt: skip
    perfect = Measurements(embedding=np.eye(2)[person], **{k: v for k, v in truth.items() if k != "person"})
    figures = reading_errors(perfect, truth)
    assert figures["mouth_r"] == pytest.approx(1.0)
    assert (figures["identity_auc"], figures["identity_same"], figures["identity_different"]) == (1.0, 1.0, 0.0)
    for name in ("mouth_mae", "lids_mae", "gaze_mae_degrees", "distance_error", "landmark_error_pixels"):
        assert figures[name] == 0.0
    moved = dict(truth, landmarks=truth["landmarks"] + np.array([2.0 / SIZE, 0.0]))
    assert reading_errors(perfect, moved)["landmark_error_pixels"] == pytest.approx(1.0)


# Its training -------------------------------------------------------------------------------------------------------


def test_identity_loss_closed_form():
    person = jnp.array([0, 0, 1, 1])
    loss = identity_loss(jnp.eye(2)[person], person, temperature=1.0)
    assert float(loss) == pytest.approx(-math.log(math.e / (math.e + 2.0)), rel=1e-5)


def test_degrade_changes_only_its_share():
    frames = jax.random.uniform(jax.random.key(0), (4, 32, 32, 3))
    key = jax.random.key(1)
    np.testing.assert_array_equal(degrade(frames, key, 0.0), frames)
    changed = degrade(frames, key, 1.0)
    assert changed.shape == frames.shape
    assert np.isfinite(changed).all()
    assert np.abs(changed - frames).mean((1, 2, 3)).min() > 1e-3


def fake_batch(key, identities=2, motions=2, supersample=1):
    """What render_batch returns, of noise."""
    count = identities * motions
    keys = iter(jax.random.split(key, 6))
    return {
        "image": jax.random.uniform(next(keys), (count, SIZE, SIZE, 3)),
        "mouth": jax.random.uniform(next(keys), (count,)),
        "lids": jax.random.uniform(next(keys), (count, 2), minval=0.5),
        "gaze": 10.0 * jax.random.normal(next(keys), (count, 2)),
        "pose": jnp.tile(jnp.asarray(pose(), jnp.float32), (count, 1)),
        "landmarks": jax.random.uniform(next(keys), (count, len(face_probe.POINTS), 2)),
        "person": jnp.repeat(jnp.arange(identities), motions),
    }


@pytest.mark.slow
def test_every_parameter_learns():
    task = FaceProbeTask(FaceProbeSettings())
    parameters = random_params(task.init)
    (loss, terms), grads = jax.jit(jax.value_and_grad(task.loss, has_aux=True))(
        parameters, fake_batch(jax.random.key(1)), jax.random.key(2)
    )
    assert float(loss) == pytest.approx(sum(float(term) for term in terms.values()), rel=1e-5)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(grad).all() and np.abs(grad).max() > 0, jax.tree_util.keystr(path)


def test_data_continues_where_it_stopped(monkeypatch):
    monkeypatch.setattr(face_probe, "compiled_render_batch", fake_batch)
    settings = FaceProbeSettings(identities=2, motions=2)
    data = FaceProbeTask(settings, seed=1).data()
    next(data)
    state = data.state()
    expected = next(data)
    resumed = FaceProbeTask(settings, seed=1).data()
    resumed.restore(state)
    np.testing.assert_array_equal(next(resumed)["mouth"], expected["mouth"])
    other = FaceProbeTask(settings, seed=2).data()
    other.restore(state)
    assert not np.array_equal(next(other)["mouth"], expected["mouth"])


@pytest.mark.slow
def test_render_batch_labels_and_people():
    batch = jax.jit(lambda key: face_probe.render_batch(key, 2, 2, 1))(jax.random.key(0))
    assert batch["image"].shape == (4, SIZE, SIZE, 3)
    assert batch["landmarks"].shape == (4, len(face_probe.POINTS), 2)
    np.testing.assert_array_equal(batch["person"], [0, 0, 1, 1])
    assert float(batch["image"].min()) >= 0.0 and float(batch["image"].max()) <= 1.0
