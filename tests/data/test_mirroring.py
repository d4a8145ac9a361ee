"""A mirrored clip's labels are the labels of the mirrored picture: exact against the renderer's geometry."""

import dataclasses

import jax
import numpy as np
import pytest
from tiny_records import tiny_record

from vasa_jax.conventions import LANDMARK_SET
from vasa_jax.corpus.heads.anatomy import build_anatomy
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.heads.labels import labels
from vasa_jax.corpus.heads.landmarks import landmarks
from vasa_jax.corpus.performance.muscles import sample_motion
from vasa_jax.data.dataset import VASADataset
from vasa_jax.data.mirroring import mirror_label, partners
from vasa_jax.data.records import LABELS, encode_jpeg, encode_matte
from vasa_jax.data.shards import Shard, write_manifest, write_shard
from vasa_jax.errors import InputError
from vasa_jax.preparation import landmark_labels as mesh_labels

# What a motion becomes in the mirror: fields that change their sign, and the eyes that change places.
TURNED = ("yaw", "roll", "tx", "gaze_yaw", "smirk")


def test_labels_of_the_mirrored_head_are_the_mirrored_labels():
    person = jax.jit(sample_identity)(jax.random.key(5))
    motion = jax.jit(sample_motion)(jax.random.key(6))
    other = {name: -value if name in TURNED else value for name, value in motion.items()}
    other |= {"blink_l": motion["blink_r"], "blink_r": motion["blink_l"]}

    @jax.jit
    @jax.vmap
    def truth(motion):
        batch = jax.tree.map(lambda value: value[None], (person, motion))
        points = jax.vmap(lambda i, m: landmarks(build_anatomy(i, m)))(*batch)
        return {**labels(*batch), "landmarks": points}

    out = jax.device_get(truth({name: np.stack([motion[name], other[name]]) for name in motion}))
    assert abs(out["pose"][0, 0, 7]) > 0.01 and abs(out["gaze"][0, 0, 0]) > 1  # something is there to be turned
    for name, (seen, mirrored) in out.items():
        np.testing.assert_allclose(mirror_label(name, seen, LANDMARK_SET), mirrored, atol=3e-3, err_msg=name)


@pytest.mark.parametrize("landmark_set", [LANDMARK_SET, "mediapipe_478"])
def test_partners_are_mutual(landmark_set):
    own = partners(landmark_set)
    np.testing.assert_array_equal(own[own], np.arange(len(own)))
    assert 1 < (own == np.arange(len(own))).sum() < 40  # the middle line


def test_mesh_labels_of_mirrored_landmarks():
    own = partners("mediapipe_478")
    for left, right in ((33, 263), (133, 362), (159, 386), (61, 291), (234, 454), (468, 473), (127, 356)):
        assert own[left] == right
    canonical = mesh_labels.CANONICAL_POINTS  # fitted to heads and symmetrised: partners mirror each other
    for index, (x, y, z) in canonical.items():
        assert canonical[own[index]] == (-x, y, z)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (4, 478, 3)).astype(np.float32)
    mirrored = mirror_label("landmarks", points, "mediapipe_478")
    pose, turned = mesh_labels.fit_pose(points), mesh_labels.fit_pose(mirrored)
    np.testing.assert_allclose(turned, mirror_label("pose", pose, ""), atol=1e-4)
    for name, measure in (("gaze", mesh_labels.gaze_angles), ("lids", mesh_labels.lid_openings)):
        np.testing.assert_allclose(measure(mirrored, turned), mirror_label(name, measure(points, pose), ""), atol=2e-2)
    np.testing.assert_allclose(mesh_labels.mouth_opening(mirrored), mesh_labels.mouth_opening(points), rtol=1e-5)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Clips of flat pictures, dark on the left, with the corpus's landmarks."""
    path = tmp_path_factory.mktemp("flips")
    picture = np.repeat(np.linspace(0, 255, 16).astype(np.uint8)[None, :, None], 16, 0).repeat(3, 2)
    count = len(partners(LANDMARK_SET))
    records = [
        dataclasses.replace(
            tiny_record(n), frames=(encode_jpeg(picture, 100),) * 5, matte=(encode_matte(picture[..., 0] / 255),) * 5,
            landmarks=np.random.default_rng(n).random((5, count, 3)).astype(np.float32), landmark_set=LANDMARK_SET,
        )
        for n in range(4)
    ]  # fmt: skip
    write_shard(path, Shard("train", 0, 1), records)
    write_manifest(path)
    return path


@pytest.mark.parametrize("view", ["clips", "pairs"])
def test_half_of_the_dataset_is_flipped_with_its_labels(directory, view):
    settings = {"view": view, "batch_size": 4, "frames": 3, "matte": True, "epochs": 6}
    plain, flipped = (list(VASADataset(directory, flip=flip, **settings)) for flip in (False, True))
    pictures = {"clips": ("frames",), "pairs": ("source", "driver")}[view]
    turned = 0
    for before, after in zip(plain, flipped):
        for row in range(4):
            mirrored = after[pictures[0]][row][..., 0, 0].mean() > 128
            turned += mirrored
            for name, value in before.items():
                kind = name.split("_", 1)[1] if name.startswith(("source_", "driver_")) else name
                expected = value[row]
                if mirrored and name in pictures:
                    expected = expected[..., ::-1, :]
                elif mirrored and kind == "matte":
                    expected = expected[..., ::-1]
                elif mirrored and kind in LABELS:
                    expected = mirror_label(kind, expected, LANDMARK_SET)
                np.testing.assert_array_equal(after[name][row], expected, err_msg=name)
    assert 6 <= turned <= 18  # of 24


def test_what_cannot_be_flipped_is_refused(directory, tmp_path):
    with pytest.raises(InputError, match="shuffle"):
        VASADataset(directory, batch_size=2, frames=2, flip=True, shuffle=False)
    write_shard(tmp_path, Shard("train", 0, 1), [tiny_record(n) for n in range(4)])
    write_manifest(tmp_path)
    with pytest.raises(InputError, match="three points"):
        list(VASADataset(tmp_path, batch_size=4, frames=2, flip=True, epochs=4))
