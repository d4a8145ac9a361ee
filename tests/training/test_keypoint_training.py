"""Training of the keypoint codec: running statistics, the terms of its loss, its recipe."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shrunk import shrunk
from tiny_face import draw_heads

from vasa_jax.config import TrainConfig
from vasa_jax.config.face import ADVERSARIAL
from vasa_jax.conventions import CORPUS, LANDMARKS
from vasa_jax.corpus.render_cache import LANDMARK_FIELDS
from vasa_jax.errors import InputError
from vasa_jax.models.face import face_codec
from vasa_jax.training.jobs import make_task, train
from vasa_jax.training.optimizer import Schedule
from vasa_jax.training.tasks import face_validation
from vasa_jax.training.tasks.base import STATISTICS, Task
from vasa_jax.training.tasks.keypoint_face import KeypointFaceTask, _folded
from vasa_jax.training.train_step import TrainStep
from vasa_jax.weights.parts import load_part

TINY = (
    "--config.face.variant=keypoint_tiny", "--config.corpus.groups=2", "--config.corpus.style=0",
    "--config.train.steps=2", "--config.train.batch_size=8", "--config.train.log_every=1",
)  # fmt: skip

UNLABELLED = (
    "--config.face.equivariance=2", "--config.face.keypoint_prior=0.1", "--config.face.expression_size=0.02",
)  # fmt: skip
NAMED = ("equivariance", "keypoint_prior", "keypoint_guide", "expression_guide", "expression_size")  # terms


class Mean(Task):
    """Learns nothing but the mean of its batches."""

    name = "mean"

    def init(self, key):
        return {"weight": jnp.ones(3), STATISTICS: {"mean": jnp.zeros(3)}}

    def data(self, sharding=None):
        raise NotImplementedError

    def loss(self, params, batch, key):
        statistics = {"mean": 0.9 * params[STATISTICS]["mean"] + 0.1 * batch.mean(0)}
        loss = jnp.square(params["weight"] * (batch - jax.lax.stop_gradient(statistics["mean"]))).mean()
        return loss, {STATISTICS: statistics}


@pytest.mark.parametrize("parts", [1, 2])
def test_statistics_follow_the_batches_and_their_average_follows_them(parts):
    settings = TrainConfig(steps=4, batch_size=4, warmup_steps=1, precision="float32", accumulate=parts)
    step, schedule = TrainStep(Mean(), settings), Schedule(settings)
    state, batch = step.new_state(), jnp.arange(12.0).reshape(4, 3)
    expected = np.zeros(3)
    for i in range(3):
        state, metrics = step.update(state, batch, step.rates(schedule.rates(i)), {})
        expected = 0.9 * expected + 0.1 * np.asarray(batch).mean(0)
        np.testing.assert_allclose(state.params[STATISTICS]["mean"], expected, rtol=1e-6)
    assert STATISTICS not in metrics and metrics["loss"].shape == ()
    average = np.asarray(state.ema[STATISTICS]["mean"])
    assert (average > 0).all() and (average < expected).all()


def batch_shapes(task, sources=2, drivers=4):
    size, rows = task._size, sources * drivers
    image = {"source": sources, "background": sources, "driver": rows, "target": rows}
    pose = {"source_pose": sources, "driver_pose": rows, "target_pose": rows}
    return {
        **{name: jax.ShapeDtypeStruct((n, size, size, 3), jnp.uint8) for name, n in image.items()},
        **{name: jax.ShapeDtypeStruct((n, 9), jnp.float32) for name, n in pose.items()},
        "segmentation": jax.ShapeDtypeStruct((rows, size, size), jnp.uint8),
        "person": jax.ShapeDtypeStruct((sources,), jnp.int32),
        **{name: jax.ShapeDtypeStruct((rows,), bool) for name in ("same_identity", "same_pose")},
        **{
            f"{name}_{field}": jax.ShapeDtypeStruct((n, len(LANDMARKS), 2 if field == "landmarks" else 3), jnp.float32)
            for name, n in {"source": sources, "driver": rows, "target": rows}.items()
            for field in LANDMARK_FIELDS
        },
    }


def test_terms_of_the_loss():
    """Traced, not run: every term of the recipe is there, once and as a scalar, and all statistics."""
    task = make_task(shrunk("train_face_keypoint", *TINY, *UNLABELLED))
    assert isinstance(task, KeypointFaceTask)
    params = jax.eval_shape(task.init, jax.random.key(0))
    total, terms = jax.eval_shape(task.loss, params, batch_shapes(task), jax.random.key(0))
    statistics = terms.pop(STATISTICS)
    assert jax.tree.map(jnp.shape, statistics) == jax.tree.map(jnp.shape, params[STATISTICS])
    assert {*NAMED, "pose", "l1", "psnr"} <= terms.keys()
    assert total.shape == () and all(term.shape == () for term in terms.values())
    weights = task.loss_weights(0)
    assert weights["matte"] == 0 and weights["equivariance"] == np.float32(2.0)


def test_discriminators_of_the_image_the_eyes_and_the_mouth():
    """Traced, not run: the terms of the volume codec's GAN are there, and the tree of parameters has all three."""
    gan = (f"--config.face.{name}=0.1" for name in (*ADVERSARIAL, "feature_matching", "gradient_penalty"))
    task = make_task(shrunk("train_face_keypoint", *TINY, *gan, "--config.face.discriminator_widths=(4, 4)"))
    params = jax.eval_shape(task.init, jax.random.key(0))
    critics = jax.eval_shape(task.init_discriminator, jax.random.key(0))
    assert critics.keys() == {"scale0", "scale1", "eyes", "mouth"}
    total, terms = jax.eval_shape(
        lambda p, b, k, d: task.loss(p, b, k, discriminator=d), params, batch_shapes(task), jax.random.key(0), critics
    )
    terms.pop(STATISTICS)
    assert {*ADVERSARIAL, "feature_matching", "gradient_penalty", "discriminator"} <= terms.keys()
    assert total.shape == () and all(term.shape == () for term in terms.values())


def test_the_reader_alone_learns_nothing_else():
    task = make_task(shrunk("train_face_keypoint_reader", *TINY))
    params = jax.eval_shape(task.init, jax.random.key(0))
    total, terms = jax.eval_shape(task.loss, params, batch_shapes(task), jax.random.key(0))
    assert jax.tree.map(jnp.shape, terms.pop(STATISTICS)) == jax.tree.map(jnp.shape, params[STATISTICS])
    assert terms.keys() == {"pose", "keypoint_guide", "expression_guide"} and total.shape == ()


@pytest.mark.parametrize(
    ("job", "change", "message"),
    [
        ("train_face_keypoint", "--config.face.pairwise_transfer=1", "config.face.pairwise_transfer: the codec of"),
        ("train_face_keypoint", "--config.face.crop_warp=0.1", "config.face.crop_warp: the codec of"),
        ("train_face_keypoint", "--config.face.flip=0.5", "config.face.flip: landmarks have a left and a right"),
        ("train_face_keypoint_reader", "--config.face.flip=0.5", "config.face.flip: landmarks have a left and a right"),
        ("train_face", "--config.face.reader_only=True", "config.face.reader_only: nothing tells the reader"),
        ("train_face_keypoint_reader", "--config.face.variant=face_tiny", "config.face.keypoint_guide: the codec of"),
        ("train_face", "--config.face.equivariance=1", "config.face.equivariance: the codec of"),
        ("train_face_keypoint", "--config.face.anchor=0.3", "config.face.anchor: the codec of"),
    ],
)
def test_what_the_codec_has_not_is_one_line(job, change, message):
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        make_task(shrunk(job, change))


def test_shards_guide_no_keypoints():
    shards = ("--config.corpus.shards=here", "--config.face.recipe=self")
    with pytest.raises(InputError, match=r"config\.face\.reader_only: shards have no landmarks"):
        make_task(shrunk("train_face_keypoint_reader", *TINY, *shards))
    task = make_task(shrunk("train_face_keypoint", *TINY, "--config.corpus.shards=here", "--config.face.recipe=self"))
    assert "config.face.keypoint_guide: off, shards have no landmarks" in task.notes()
    assert not make_task(shrunk("train_face_keypoint", *TINY)).notes()


@pytest.mark.slow
def test_the_recipe_trains_two_steps(tmp_path, monkeypatch):
    draw_heads(monkeypatch)
    monkeypatch.setattr(face_validation, "BATCHES", 1)
    state = train(shrunk("train_face_keypoint", *TINY, *UNLABELLED), tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text()
    for name in (*NAMED, "eval/psnr_cross"):
        assert f'"{name}"' in lines, name
    params, metadata = load_part(tmp_path / "export", "face")
    assert metadata["framing"] == CORPUS
    encoder, _ = face_codec(metadata["fields"])
    image = np.random.default_rng(0).uniform(size=(1, 64, 64, 3)).astype(np.float32)
    found = encoder.apply({"params": params["encoder"]}, image)
    variables = {"params": state.ema["encoder"], STATISTICS: state.ema[STATISTICS]["encoder"]}
    expected = encoder.apply(variables, image)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert set(_folded(state.params)) == {"encoder", "decoder"}
