"""What stage 1 shows of itself: rows of pictures, a video and figures of held-out pairs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stub_face import JUDGES, PARAMS, Encoder, N, use_stub
from tiny_face import draw_heads
from tiny_records import write_tiny

from vasa_jax.config import CorpusConfig, FaceConfig
from vasa_jax.evaluation.image_metrics import edge_sum, psnr
from vasa_jax.training.tasks import face, face_validation
from vasa_jax.training.tasks.face import FaceTask
from vasa_jax.training.tasks.face_pairs import prepared


@pytest.fixture
def make(monkeypatch):
    use_stub(monkeypatch)
    draw_heads(monkeypatch)
    monkeypatch.setattr(face_validation, "HELD_OUT_GROUPS", 4)
    monkeypatch.setattr(face_validation, "BATCHES", 1)
    monkeypatch.setattr(face, "load_judges", lambda directory, dtype: JUDGES)

    def make(corpus):
        return FaceTask(FaceConfig(variant="face_least", recipe="self", loss_networks="here"), corpus, 4, "float32", 0)

    return make


def shown(source, motion, background):
    """What the stub decodes of sources in the motion of other pictures, over a background."""
    latents, driver = (Encoder().apply({"params": PARAMS["encoder"]}, x, method="encode") for x in (source, motion))
    shade = latents.appearance[:, 0, 0, 0] + 0.3 * latents.identity[:, 0, 0] + 0.5 * driver.pose[:, :3]
    matte = PARAMS["decoder"]["matte"]
    return matte * 0.2 * (shade + 0.7 * driver.dynamics)[:, None, None] + (1 - matte) * background


def rows_of(grid):
    columns = grid.shape[1] // N
    return grid.reshape(6, N, columns, N, 3).transpose(0, 2, 1, 3, 4) / 255.0


def test_rows_are_source_driver_reconstruction_cross_truth_and_error(make):
    task = make(CorpusConfig(identities=2, motions=3, drivers=1, chunk=1))
    pictures = task.images(PARAMS)
    pairs = {name: value[:8] for name, value in prepared(task._validation.held_out()[0]).items()}
    source, driver, target, background = (pairs[name] for name in ("source", "driver", "target", "background"))
    cross = shown(source, driver, background)
    expected = [source, driver, shown(source, target, background), cross, target, jnp.abs(cross - target) * 3]
    rows = rows_of(pictures["source_driver_reconstruction_cross_truth_error"])
    np.testing.assert_allclose(rows, np.clip(np.stack(expected), 0, 1), atol=1 / 254)
    video = pictures["motions_in_turn"]
    assert video.shape == (7 * 6, N, 4 * N, 3) and video.dtype == np.uint8
    # Every sixth frame is a driver's own motion.
    first = jnp.repeat(driver[2:3], 4, 0)
    frame = shown(source[:4], first, background[:4]).transpose(1, 0, 2, 3).reshape(N, -1, 3)
    np.testing.assert_allclose(video[12] / 255.0, frame, atol=1 / 254)
    figures = task.evaluate(PARAMS)
    np.testing.assert_allclose(
        figures["identity"],
        JUDGES.similarity(JUDGES.params, *(lambda p: (shown(p["source"], p["driver"], p["background"]), p["source"]))(
            prepared(task._validation.held_out()[0]))),
        rtol=1e-4,
    )  # fmt: skip
    assert figures["psnr_cross"] > 0 and figures["psnr_self"] > 0


def test_shards_are_judged_by_their_own_held_out_split(make, tmp_path):
    write_tiny(tmp_path, clips=4, shards=1, split="heldout", unlabelled=("pose", "matte"))
    task = make(CorpusConfig(shards=str(tmp_path)))
    (batch,) = task._validation.held_out()
    pairs = prepared(jax.tree.map(jnp.asarray, batch))
    rows = rows_of(task.images(PARAMS)["source_driver_reconstruction_cross_truth_error"])
    stranger = pairs["driver"][jnp.array([2, 2, 0, 0])]  # two clips to a person
    np.testing.assert_allclose(rows[1], stranger, atol=1 / 254)
    # Odd clips have no matte: the colours alone are shown.
    matte = jnp.where(pairs["valid_matte"], PARAMS["decoder"]["matte"], 1.0)[:, None, None, None]
    head = shown(pairs["source"], stranger, 0.0) / PARAMS["decoder"]["matte"]
    np.testing.assert_allclose(rows[3], jnp.clip(matte * head + (1 - matte) * pairs["background"], 0, 1), atol=1 / 254)
    figures = task.evaluate(PARAMS)
    assert "psnr_cross" not in figures
    pose, _ = Encoder().apply({"params": PARAMS["encoder"]}, pairs["target"], method="encode_motion")
    error = jnp.abs(pose - pairs["driver_pose"]).mean(-1)
    np.testing.assert_allclose(figures["pose_l1"], error[::2].mean(), rtol=1e-4)
    for batch in task._validation._batches:
        batch["valid_pose"][:] = False
    assert "pose_l1" not in task.evaluate(PARAMS)  # nobody has a label


def test_edges_are_summed_inside_the_region():
    image = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
    region = jnp.zeros((2, 8, 8), bool).at[:, 2:5, 2:5].set(True)
    np.testing.assert_allclose(edge_sum(0.25 + 0.5 * image, region), 0.5 * edge_sum(image, region), rtol=1e-5)
    outside = image.at[:, 6:].set(0.0)
    np.testing.assert_allclose(edge_sum(outside, region), edge_sum(image, region), rtol=1e-6)


def test_metrics_of_unequal_batches_merge(make):
    """As if all pairs had been one batch, although batches differ in size and in how many pairs have a label."""
    task = make(CorpusConfig(identities=2, motions=3, drivers=1, chunk=1))
    (batch,) = task._validation.held_out()
    lips = task._validation._loss.mouth_segments[0]
    batch = batch | {"segmentation": jnp.asarray(batch["segmentation"]).at[1:, :4, :4].set(lips)}
    task._validation._batches = [batch]
    whole = task.evaluate(PARAMS)
    pairs = prepared(batch)
    image = shown(pairs["source"], pairs["driver"], pairs["background"])
    mouth = np.isin(pairs["segmentation"], task._validation._loss.mouth_segments)
    truth = np.asarray(pairs["target"])
    np.testing.assert_allclose(whole["psnr_mouth"], psnr(np.asarray(image), truth, mouth), rtol=1e-4)
    task._validation._batches = [jax.tree.map(lambda x: x[:3], batch), jax.tree.map(lambda x: x[3:], batch)]
    parts = task.evaluate(PARAMS)
    assert parts.keys() == whole.keys()
    for name in parts:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-4, err_msg=name)


def test_figures_do_not_depend_on_the_training_settings(make):
    corpus = CorpusConfig(identities=2, motions=3, drivers=1, chunk=1)
    one, other = make(corpus), make(dataclasses.replace(corpus, groups=8, refresh=0))
    batches = (jax.tree.leaves(task._validation.held_out()) for task in (one, other))
    for a, b in zip(*batches, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_driver_from_shards_is_the_next_other_person():
    person = jnp.array([7, 7, 7, 2, 2, 7])
    np.testing.assert_array_equal(face_validation.next_person(person), [3, 3, 3, 5, 5, 3])
    np.testing.assert_array_equal(face_validation.next_person(jnp.array([4, 4, 4])), [1, 2, 0])
    np.testing.assert_array_equal(face_validation.next_person(jnp.array([4])), [0])
