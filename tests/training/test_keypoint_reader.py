"""The keypoint codec's reader of motion: what it learns of faces, and what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_expressions import draw_expressions
from shrunk import shrunk

from vasa_jax.models.keypoint_motion_field import SPOT_VARIANCE, WarpingNetwork, _spots
from vasa_jax.models.keypoint_reader import GUIDES, KeypointReader
from vasa_jax.models.variants import FACE_VARIANTS
from vasa_jax.training.jobs import make_task
from vasa_jax.training.optimizer import Schedule
from vasa_jax.training.train_step import TrainStep

TINY = FACE_VARIANTS["keypoint_tiny"]["encoder"]["motion"]


def test_what_a_reader_says():
    reader, rng = KeypointReader(**TINY), np.random.default_rng(0)
    image = rng.uniform(size=(2, 64, 64, 3)).astype(np.float32)
    shapes = jax.eval_shape(reader.init, jax.random.key(0), image)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.1).astype(x.dtype), shapes)
    read = jax.jit(reader.apply)
    raw = read(params, image)
    assert raw.expression.shape == raw.keypoints.shape == (2, 6, 3) and raw.places.shape == (2, 6, 2)
    beside_itself = read(params, image[[1, 1]])
    np.testing.assert_allclose(raw.keypoints[1], beside_itself.keypoints[0], atol=1e-5, equal_nan=False)
    assert np.abs(raw.keypoints[1] - raw.keypoints[0]).max() > 1e-3
    assert raw.scale.shape == (2, 1) and (np.asarray(raw.translation)[:, 2] == 0).all()
    assert len(set(GUIDES)) == len(GUIDES) == FACE_VARIANTS["keypoint_demo"]["encoder"]["motion"]["keypoints"]
    with pytest.raises(ValueError, match="keypoints: 4; a KeypointReader has 6 to"):
        KeypointReader(keypoints=4).init(jax.random.key(0), image)


def test_maps_tell_the_generator_where_keypoints_lie():
    """A spot's slope is steep enough for lips that part by a hundredth of the picture, at any size of the map."""
    keypoints = jnp.array([[[0.0, 0.5, 0.3], [-1.0, 1.0, 0.0]]])
    spots = np.asarray(_spots((5, 5), keypoints))
    assert spots.shape == (1, 5, 5, 2)
    assert spots[0, 3, 2, 0] == spots[0, 4, 0, 1] == 1  # rows are y
    assert spots[0, 3, 3, 0] == pytest.approx(np.exp(-0.5 * 0.25 / SPOT_VARIANCE))
    moved = np.asarray(_spots((33, 33), keypoints + jnp.array([0.0, 0.02, 0.0])))
    assert np.abs(moved - np.asarray(_spots((33, 33), keypoints))).max() > 0.1


def test_maps_change_the_warp_only_where_they_are_asked_for():
    rng = np.random.default_rng(0)
    volume, keypoints = rng.normal(size=(1, 4, 8, 8, 4)).astype(np.float32), jnp.zeros((2, 3, 3))
    fields = {"compress": 1, "width": 4, "max_width": 8, "blocks": 2, "mask_size": 3}
    shapes = {}
    for maps in (False, True):
        network = WarpingNetwork(3, 8, maps, fields)
        params = jax.eval_shape(network.init, jax.random.key(0), volume, keypoints, keypoints[:1])
        shapes[maps] = params["params"]["third"]["conv"]["kernel"].shape
    assert shapes == {False: (3, 3, 16, 8), True: (3, 3, 16 + 5 * 3, 8)}


@pytest.mark.long
def test_the_reader_learns_expressions_of_people_it_never_saw(monkeypatch):
    """Without `expression_guide`, from keypoints in the image alone, r2_mouth stays below 0."""
    draw_expressions(monkeypatch)
    config = shrunk(
        "train_face_keypoint_reader", "--config.face.variant=keypoint_tiny", "--config.train.steps=400",
        "--config.train.batch_size=12", "--config.train.warmup_steps=20", "--config.train.learning_rate=5e-3",
        "--config.train.precision=float32", "--config.corpus.groups=32", "--config.corpus.chunk=16",
        "--config.corpus.refresh=0", "--config.corpus.style=0", "--config.face.jitter=0",
    )  # fmt: skip
    task = make_task(config)
    train_step, schedule, data = TrainStep(task, config.train), Schedule(config.train), task.data()
    state, arguments = train_step.new_state(), train_step.arguments(0)
    before = jax.device_get(state.params["decoder"])
    for step in range(config.train.steps):
        state, _ = train_step.update(state, next(data), train_step.rates(schedule.rates(step)), arguments)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(state.params["decoder"])))
    found = task.evaluate(state.params)
    assert found["r2_mouth"] > 0.5, found
