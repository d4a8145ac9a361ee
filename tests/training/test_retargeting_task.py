"""Stage 2 of the keypoint codec: stitching keeps the shoulders, eyes and lips open as asked, the codec stays."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from shrunk import shrunk
from tiny_face import draw_heads
from tiny_keypoint import FIELDS, random_variables, save_guided

from vasa_jax.config import CorpusConfig, RetargetingConfig
from vasa_jax.conventions import IDENTITY_POSE, LANDMARKS
from vasa_jax.errors import InputError
from vasa_jax.generation.animator import PortraitAnimator
from vasa_jax.losses.retargeting import LEAST_KEYPOINTS, beside_eyes, beside_mouth, change, openness
from vasa_jax.models.face import Latents
from vasa_jax.models.keypoint_face import KeypointAppearance, exported
from vasa_jax.models.keypoint_reader import EYE, GUIDES, MOUTH
from vasa_jax.models.variants import FACE_VARIANTS
from vasa_jax.training.jobs import make_task, train
from vasa_jax.training.tasks import retargeting
from vasa_jax.training.tasks.retargeting import CLOTH, NETWORKS, RetargetingTask
from vasa_jax.weights.parts import load_part

TINY = FACE_VARIANTS["keypoint_tiny"]
FACE, SHOULDER = GUIDES.index("outer_lip_3"), GUIDES.index("jaw_8")  # keypoints of the stub's pictures


def guides(left, right, lips, wide=0.2):
    """GUIDES in the image (1, K, 2) of eyes and lips that are so open, the eyes' width and the inner lips' `wide`."""
    places = dict.fromkeys(GUIDES[:LEAST_KEYPOINTS], (0.0, 0.0))
    openings = {"eye_left": (-0.375, -0.375, left), "eye_right": (0.375, -0.375, right)}
    for eye, (x, y, gap) in openings.items():
        places |= {f"{eye}_0": (x - wide / 2, y), f"{eye}_4": (x + wide / 2, y)}
        places |= {f"{eye}_2": (x, y - gap * wide / 2), f"{eye}_6": (x, y + gap * wide / 2)}
    x, y, half = 0.125, 0.125, wide / 0.8 / 2
    places |= {"outer_lip_0": (x - half, y), "outer_lip_6": (x + half, y), "outer_lip_3": (x, y), "outer_lip_9": (x, y)}
    places |= {"inner_lip_2": (x, y - lips * wide / 2), "inner_lip_6": (x, y + lips * wide / 2), "jaw_8": (x, 0.375)}
    return np.array([[places[name] for name in GUIDES[:LEAST_KEYPOINTS]]], np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A codec whose keypoints follow landmarks, with random parameters, as a training exports it."""
    folder = tmp_path_factory.mktemp("guided")
    save_guided(folder)
    return folder


def test_openness_is_height_over_width_wherever_the_face_is():
    points = guides(0.3, 0.1, 0.45)
    c, s = np.cos(0.4), np.sin(0.4)
    for moved in (points, 1.7 * points + 0.1, points @ np.float32([[c, s], [-s, c]])):
        np.testing.assert_allclose(openness(moved), [[0.3, 0.1, 0.45]], atol=1e-6)
    shut = guides(0.0, 0.0, 0.0)  # opens where the lower lid or lip goes down
    slope = jax.grad(lambda p: openness(p).sum())(jnp.asarray(shut))[0, :, 1]
    assert all(slope[GUIDES.index(name)] > 1.0 for name in ("eye_left_6", "eye_right_6", "inner_lip_6"))


def test_what_must_stay_lies_beside_eyes_and_mouth():
    side, size = 256, jnp.array([0.8])
    pixels = (np.arange(side) + 0.5) / side * 2 - 1
    eyes, mouth = beside_eyes(guides(0, 0, 0), size, side)[0], beside_mouth(guides(0, 0, 0), size, side)[0]
    x, y = pixels, pixels[:, None]
    inside = np.hypot(np.abs(x) - 0.375, y + 0.375) < EYE * 0.8
    np.testing.assert_array_equal(np.asarray(eyes) == 0, inside)
    np.testing.assert_array_equal(np.asarray(mouth) == 0, np.hypot(x - 0.125, y - 0.25) < MOUTH * 0.8 + 0.125)


def test_change_counts_only_what_must_stay():
    still = jnp.zeros((2, 4, 4, 3))
    kept = jnp.zeros((2, 4, 4), bool).at[0, 2:].set(True)
    assert change(still.at[0, :2].set(9.0).at[0, 2:].set(0.25), still, kept) == pytest.approx(0.25)
    assert change(still + 1.0, still, jnp.zeros_like(kept)) == 0


class Stub:
    """A codec with a picture of 8 x 8 pixels in closed form.

    The upper half shows FACE's x, the lowest rows SHOULDER's x; one pixel at each eye and one at the mouth shows
    how far the lids and the lips are apart, which is also what is read. Keypoints are what the first pixel says.
    """

    image_size, keypoints = 8, LEAST_KEYPOINTS

    def __init__(self, networks):
        self._networks = networks

    def apply(self, variables, *given, method):
        if method not in ("encode", "encode_motion", "read_keypoints", "draw"):
            return self._networks.apply(variables, *given, method=method)
        return getattr(self, f"_{method}")(*given)

    def _encode(self, image):
        placed = self._placed(image)
        pose = jnp.tile(jnp.array(IDENTITY_POSE), (len(image), 1))
        return Latents(KeypointAppearance(image[:, None], placed), placed, pose, jnp.zeros((len(image), 1)))

    def _encode_motion(self, image):
        return jnp.tile(jnp.array(IDENTITY_POSE), (len(image), 1)), self._placed(image).reshape(len(image), -1)

    def _placed(self, image):
        placed = jnp.zeros((len(image), self.keypoints, 3))
        return placed.at[:, FACE, 0].set(image[:, 0, 0, 0] - 0.5).at[:, SHOULDER, 0].set(image[:, 0, 0, 1] - 0.5)

    def _draw(self, appearance, keypoints):
        def apart(name):
            above, below = (keypoints[:, GUIDES.index(f"{name}_{i}"), 1] for i in (2, 6))
            return (below - above)[:, None]

        picture = jnp.zeros((len(keypoints), 8, 8, 3))
        picture = picture.at[:, :4].set(keypoints[:, FACE, 0, None, None, None])
        picture = picture.at[:, 6:].set(keypoints[:, SHOULDER, 0, None, None, None])
        picture = picture.at[:, 2, 2].set(apart("eye_left")).at[:, 2, 5].set(apart("eye_right"))
        return picture.at[:, 4, 4].set(apart("inner_lip")) + 0.5

    def _read_keypoints(self, image):
        read = [image[:, y, x, 0] - 0.5 for y, x in ((2, 2), (2, 5), (4, 4))]
        return jax.vmap(lambda gaps: self._guides(*gaps))(jnp.stack(read, -1))

    def _guides(self, left, right, lips):
        points = jnp.asarray(guides(0.0, 0.0, 0.0, 1.0)[0])
        for name, gap in (("eye_left", left), ("eye_right", right), ("inner_lip", lips)):
            points = points.at[GUIDES.index(f"{name}_6"), 1].add(gap)
        return points


def batch(key, count=64):
    """Sources and drivers whose face and shoulders are anywhere, and sources with eyes and lips as open."""
    places = jax.random.uniform(key, (2, count, 3), minval=0.2, maxval=0.8)
    image = jnp.zeros((2, count, 8, 8, 3)).at[:, :, 0, 0].set(places)
    points = np.zeros((count, len(LANDMARKS), 2), np.float32)
    points[:, [LANDMARKS.index(name) for name in GUIDES[:LEAST_KEYPOINTS]]] = guides(0.2, 0.3, 0.1)
    cloth = jnp.zeros((count, 8, 8), jnp.uint8).at[:, 6:].set(CLOTH)
    pose = jnp.tile(jnp.array(IDENTITY_POSE), (count, 1))
    return {
        "source": image[0], "driver": image[1], "target": image[1], "source_pose": pose, "source_landmarks": points,
        "source_segmentation": cloth, "segmentation": cloth,
    }  # fmt: skip


def test_stitching_keeps_the_shoulders_and_openings_are_as_asked(folder):
    """In closed form: the shoulder's keypoint goes back to the portrait's, the face's stays where it is driven."""
    task = RetargetingTask(RetargetingConfig(), CorpusConfig(), str(folder), 32, "float32", 0)
    task._encoder = task._decoder = Stub(task._decoder)
    optimiser = optax.adam(optax.cosine_decay_schedule(3e-3, 400))

    @jax.jit
    def update(params, state, step):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(1), step))
        loss, slope = jax.value_and_grad(lambda p: task.loss(p, batch(keys[0], 32), keys[1])[0])(params)
        change, state = optimiser.update(slope, state)
        return optax.apply_updates(params, change), state, loss

    start = params = task.init(jax.random.key(0))
    state, losses = optimiser.init(params), []
    for step in range(400):
        params, state, loss = update(params, state, step)
        losses.append(float(loss))
    assert np.mean(losses[-50:]) < 0.1 * np.mean(losses[:50])
    unseen, key = batch(jax.random.key(2)), jax.random.key(3)
    drawn, unmoved = (task._drawn(p, task.frozen_params(), unseen, key) for p in (params, start))
    for name, offsets in unmoved.offsets.items():
        assert not np.asarray(offsets).any(), name
    driven = np.asarray(unseen["driver"][:, 0, 0, :2]) - 0.5  # what the expression adds to the source's keypoints
    moved, away = drawn.offsets["shoulders"].reshape(64, -1, 3), np.abs(driven[:, 1]).mean()
    assert np.abs(moved[:, SHOULDER, 0] + driven[:, 1]).mean() < 0.05 * away
    assert np.abs(moved[:, FACE, 0]).mean() < 0.05 * away
    assert np.abs(drawn.found["eyes"][:, :2] - drawn.asked[:, :1]).mean() < 0.01
    assert np.abs(drawn.found["lips"][:, 2] - drawn.asked[:, 1]).mean() < 0.01
    for part in ("eyes", "lips"):
        assert change(drawn.moved[part], drawn.still, drawn.kept[part]) < 0.01


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (FIELDS, "its keypoints do not follow the landmarks"),
        (TINY, "its keypoints do not follow the landmarks"),  # too few of them
        (None, "has no keypoints to stitch"),
    ],
)
def test_codecs_without_landmarks_are_refused(tmp_path, monkeypatch, fields, message):
    found = ({}, {"fields": fields or FACE_VARIANTS["face_tiny"]})
    monkeypatch.setattr(retargeting, "load_part", lambda folder, part: found)
    with pytest.raises(InputError, match=rf"^{tmp_path}: {message}.*; give --config\.checkpoint=DIR"):
        make_task(shrunk("train_retargeting", f"--config.checkpoint={tmp_path}"))


def test_shards_are_refused(folder):
    with pytest.raises(InputError, match=r"^config\.corpus\.shards: have no landmarks"):
        make_task(shrunk("train_retargeting", f"--config.checkpoint={folder}", "--config.corpus.shards=here"))


@pytest.mark.long
def test_the_recipe_exports_the_codec_with_its_networks(folder, tmp_path, monkeypatch):
    draw_heads(monkeypatch)
    monkeypatch.setattr(retargeting, "BATCHES", 1)
    options = (
        f"--config.checkpoint={folder}", "--config.train.steps=2", "--config.train.batch_size=4",
        "--config.corpus.groups=2", "--config.corpus.style=0", "--config.train.log_every=1",
    )  # fmt: skip
    config = shrunk("train_retargeting", *options)
    train(config, tmp_path)
    assert '"eval/shoulders_kept_unmoved"' in (tmp_path / "metrics.jsonl").read_text()
    params, metadata = load_part(tmp_path / "export", "face")
    before, _ = load_part(folder, "face")
    own = {name: value for name, value in params["decoder"].items() if name not in NETWORKS}
    for a, b in zip(jax.tree.leaves({**params, "decoder": own}), jax.tree.leaves(before), strict=True):
        np.testing.assert_array_equal(a, b)
    assert metadata["framing"] == "corpus" and metadata["fields"]["decoder"]["retargeting"]
    task = make_task(config)
    assert task.of_export(params).keys() == task.init(jax.random.key(0)).keys()
    animator = PortraitAnimator.from_checkpoint(tmp_path / "export", mark=False)
    assert animator.adjusts_keypoints and animator.framing == "corpus"
    keypoints = np.zeros((1, LEAST_KEYPOINTS, 3))
    assert animator.adjust("stitch", keypoints, keypoints + 0.1).shape == (1, LEAST_KEYPOINTS, 3)
    again = RetargetingTask(RetargetingConfig(), CorpusConfig(), str(tmp_path / "export"), 4, "float32", 0)
    assert again.frozen_params()["decoder"].keys() == own.keys()


def test_an_imported_codec_keeps_its_own_networks():
    assert set(NETWORKS) <= exported(random_variables())["decoder"].keys()
