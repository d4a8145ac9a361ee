"""Labels against pixels: what the labels say is what the rendered pictures show."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.conventions import LANDMARKS, SEGMENTS
from vasa_jax.corpus.heads import truth
from vasa_jax.corpus.heads.anatomy import HEAD_CENTRE, build_anatomy, head_to_world
from vasa_jax.corpus.heads.camera import DISTANCE, FOCAL, HEIGHT
from vasa_jax.corpus.heads.identity import STYLE_NAMES, sample_identity
from vasa_jax.corpus.heads.labels import canonical_landmarks, labels, to_canonical
from vasa_jax.corpus.performance.muscles import MOTION_NAMES, VISEME_FIELDS, VISEMES, neutral_motion, sample_motion

SIZE, BATCH = 64, 16
CLASS = {name: index for index, name in enumerate(SEGMENTS)}
POINT = {name: index for index, name in enumerate(LANDMARKS)}
EYES, INSIDE = ("sclera", "iris"), ("mouth", "teeth", "tongue")


@pytest.fixture(scope="module")
def seen():
    """identity, motion, both (16,) by name -> the true picture and its labels."""
    return lambda identity, motion: truth.true_image(truth.Scene(identity, motion), SIZE, 1)


@pytest.fixture(scope="module")
def people():
    """Sixteen persons without glasses and hair over the face."""
    drawn = jax.jit(jax.vmap(sample_identity))(jax.random.split(jax.random.key(11), BATCH))
    hair = [STYLE_NAMES.index(name) for name in ("shaven", "crop", "quiff", "top_bun")]
    return {name: np.asarray(value) for name, value in drawn.items()} | {
        "glasses": np.full(BATCH, -1.0, np.float32),
        "style": np.array(hair * (BATCH // len(hair)), np.int32),
    }


def motions(**changes):
    """Sixteen close-up motions at rest, but for the changes: a number or (16,) per name."""
    rest = {name: float(value) for name, value in neutral_motion().items()} | {"dist": 0.7}
    return {name: np.broadcast_to(np.float32(changes.get(name, rest[name])), BATCH) for name in MOTION_NAMES}


def share(out, names):
    """Pixels of these classes per picture."""
    return np.isin(out["segmentation"], [CLASS[name] for name in names]).sum((1, 2))


@pytest.mark.long
def test_iris_pixels_are_where_the_labels_say(seen, people):
    rng = np.random.default_rng(0)
    gaze_yaw, gaze_pitch = rng.uniform(-0.45, 0.45, BATCH), rng.uniform(-0.2, 0.2, BATCH)
    motion = motions(gaze_yaw=gaze_yaw, gaze_pitch=gaze_pitch, yaw=rng.uniform(-0.25, 0.25, BATCH), wide=1.0)
    out = seen(people, motion)
    place = (np.arange(SIZE) * 2 + 1) / SIZE - 1
    errors, shifts = [], []
    for k in range(BATCH):
        iris = out["segmentation"][k] == CLASS["iris"]
        middle = out["landmarks"][k, POINT["nose_bridge_0"], 0]
        for side, half in (("left", place < middle), ("right", place >= middle)):
            rows, columns = np.nonzero(iris & half[None, :])
            assert len(rows) >= 4, (k, side)
            x, y, _ = out["landmarks"][k, POINT[f"iris_{side}"]]
            errors.append((place[columns].mean() - x, place[rows].mean() - y))
            contour = out["landmarks"][k, [POINT[f"eye_{side}_{i}"] for i in range(8)], 0]
            shifts.append((x - contour.mean(), out["gaze"][k, 0] - np.degrees(motion["yaw"][k])))
    errors = np.abs(errors) * SIZE / 2  # pixels
    assert errors[:, 0].max() < 1.5 and errors[:, 0].mean() < 0.5
    assert errors[:, 1].max() < 2.5 and errors[:, 1].mean() < 1.0  # lids hide the upper part of an iris
    assert np.corrcoef(np.transpose(shifts))[0, 1] > 0.97  # the label turns the iris in its opening


def test_a_closed_eye_shows_no_iris(seen, people):
    drawn = jax.jit(jax.vmap(sample_motion))(jax.random.split(jax.random.key(3), BATCH))
    closed = {name: np.asarray(value) for name, value in drawn.items()} | {
        "blink_l": np.ones(BATCH, np.float32),
        "blink_r": np.ones(BATCH, np.float32),
    }
    out = seen(people, closed)
    assert not share(out, EYES).any() and np.abs(out["lids"]).max() < 1e-5
    one = seen(people, motions(blink_l=1.0))  # the person's left eye is on the image's right
    np.testing.assert_allclose(one["lids"], np.tile([1.0, 0.0], (BATCH, 1)), atol=1e-5)
    for k in range(BATCH):
        columns = np.nonzero(np.isin(one["segmentation"][k], [CLASS[name] for name in EYES]))[1]
        assert len(columns) and columns.max() < SIZE / 2


def test_lid_label_follows_the_visible_eye(seen, people):
    person = {name: np.full(BATCH, value[5]) for name, value in people.items()}
    blink = np.linspace(0.0, 1.0, BATCH)
    out = seen(person, motions(blink_l=blink, blink_r=blink))
    assert np.corrcoef(share(out, EYES), out["lids"].mean(1))[0, 1] > 0.97


def test_mouth_label_follows_the_dark_mouth(seen, people):
    areas, openings = [], []
    for person in (1, 6, 10):
        one = {name: np.full(BATCH, value[person]) for name, value in people.items()}
        rows = np.array([*VISEMES.values(), VISEMES["aa"]])
        rows[-1] *= 0.5
        out = seen(one, motions(**dict(zip(VISEME_FIELDS, rows.T))))
        corners = out["landmarks"][:, [POINT["inner_lip_0"], POINT["inner_lip_4"]], 0]
        eyes = out["landmarks"][:, [POINT["iris_left"], POINT["iris_right"]], 0]
        # An opening of that height and width, in pixels; the gap of the lips is about half as high on average.
        expected = out["mouth"] * np.ptp(eyes, 1) * np.ptp(corners, 1) * (SIZE / 2) ** 2
        area = share(out, INSIDE)
        assert not area[out["mouth"] == 0].any() and (area[out["mouth"] > 0.12] > 0).all()
        assert np.corrcoef(area, expected)[0, 1] > 0.9
        areas += area.tolist()
        openings += expected.tolist()
    slope = np.dot(areas, openings) / np.dot(openings, openings)
    assert 0.4 < slope < 1.2
    wider = seen(one, motions(jaw=np.linspace(0.0, 1.0, BATCH)))
    assert np.corrcoef(share(wider, INSIDE), wider["mouth"])[0, 1] > 0.95
    assert (np.diff(wider["mouth"]) >= 0).all() and wider["mouth"][-1] > 0.3


def test_the_pose_label_carries_landmarks_of_the_resting_head_to_those_of_the_turned_one(seen, people):
    rng = np.random.default_rng(1)
    angles = {name: rng.uniform(-limit, limit, BATCH) for name, limit in (("yaw", 0.6), ("pitch", 0.3), ("roll", 0.3))}
    moved = motions(**angles, tx=rng.uniform(-0.1, 0.1, BATCH), ty=rng.uniform(-0.1, 0.1, BATCH), dist=1.1)
    still = motions(dist=1.0)
    x, y, depth = np.moveaxis(seen(people, still)["landmarks"], -1, 0)
    # From the picture and its depth back to space: at rest, that is the head's own space.
    lens = np.asarray(people["lens"])[:, None]
    focal, camera_z = FOCAL * lens, HEAD_CENTRE[2] + lens * (DISTANCE - HEAD_CENTRE[2])
    head = (x * depth / focal, HEIGHT - y * depth / focal, camera_z - depth)
    canonical = np.stack(to_canonical(head), -1)
    out = seen(people, moved)
    pose = out["pose"]
    first, second = pose[:, :3], pose[:, 3:6]
    rotation = np.stack([first, second, np.cross(first, second)], -1)
    carried = np.exp(pose[:, 6])[:, None, None] * np.einsum("bij,bnj->bni", rotation, canonical) + np.pad(
        pose[:, None, 7:], ((0, 0), (0, 0), (0, 1))
    )
    rigid = [i for i, name in enumerate(LANDMARKS) if not name.startswith(("iris", "jaw"))]
    error = np.linalg.norm(carried[:, rigid, :2] - out["landmarks"][:, rigid, :2], axis=-1)
    assert error.max() < 0.06 and error.mean() < 0.015  # what a camera without perspective leaves out
    told = np.asarray(canonical_landmarks(people, moved))
    np.testing.assert_allclose(told[:, rigid], canonical[:, rigid], atol=2e-3)
    unmoved = np.linalg.norm(x[:, rigid] - out["landmarks"][:, rigid, 0], axis=-1)
    assert unmoved.mean() > 10 * error.mean()


def test_true_images_show_the_source_in_the_drivers_motion(seen):
    source, driver = (truth.sample_scene(jax.random.key(4), number) for number in range(2))
    scenes = [
        source, driver, truth.transferred(source, driver), truth.exchanged(source, driver, "pose"),
        truth.exchanged(source, driver, "background"), truth.exchanged(driver, source, *truth.IDENTITY_FACTORS),
    ]  # fmt: skip
    found = seen(*jax.tree.map(lambda *values: np.stack(values), *scenes, *[source] * (BATCH - len(scenes))))
    own, other, moved, posed, elsewhere, again = ({name: value[k] for name, value in found.items()} for k in range(6))
    assert found["rgb"].shape == (BATCH, SIZE, SIZE, 3) and found["rgb"].dtype == np.uint8
    assert all(np.array_equal(moved[name], again[name]) for name in found)  # the same scene, told in two ways
    assert np.array_equal(moved["gaze"], other["gaze"]) and not np.array_equal(posed["gaze"], other["gaze"])
    for scene in (moved, posed):  # each through the source's lens: size and place agree, the line of sight nearly
        np.testing.assert_allclose(scene["pose"][6:], other["pose"][6:], atol=1e-5)
        np.testing.assert_allclose(scene["pose"][:6], other["pose"][:6], atol=0.02)
    for scene in (moved, posed):
        assert np.array_equal(scene["background"], own["background"])
        assert not np.array_equal(scene["rgb"], own["rgb"]) and not np.array_equal(scene["rgb"], other["rgb"])
    for name in ("landmarks", "matte", "segmentation", "depth"):
        assert np.array_equal(elsewhere[name], own[name]), name
    # The new wall, but for spots that go with the person, and the old head in its reflected light.
    away = [np.abs(elsewhere["background"].astype(int) - scene["background"]).mean() for scene in (other, own)]
    head = own["matte"] == 1.0
    assert away[0] < 0.2 * away[1]
    assert np.abs(elsewhere["rgb"][head].astype(int) - own["rgb"][head]).mean() < 12


def test_rendering_again_gives_the_same_bits(seen, people):
    once, again = (seen(people, motions(yaw=0.2, jaw=0.5)) for _ in range(2))
    for name in once:
        np.testing.assert_array_equal(once[name], again[name], err_msg=name)


_PRINT_CHECKSUM = """
import zlib, jax, numpy as np
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.performance.muscles import sample_motion
from vasa_jax.corpus.heads.render import render
keys = jax.random.split(jax.random.key(0), 2)
out = jax.jit(lambda k: render(jax.vmap(sample_identity)(k), jax.vmap(sample_motion)(k), 32, 2))(keys)
print({name: zlib.crc32(np.ascontiguousarray(value)) for name, value in out.items()})
"""


@pytest.mark.slow
def test_another_process_renders_the_same_bits():
    runs = [subprocess.run([sys.executable, "-c", _PRINT_CHECKSUM], capture_output=True, check=True) for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout and runs[0].stdout.startswith(b"{'background'")


def through(people, lens):
    """The same people seen through another lens."""
    return {**people, "lens": np.full(BATCH, lens, np.float32)}


def test_a_longer_lens_keeps_the_size_of_the_picture(seen, people):
    motion = motions(yaw=0.4, pitch=0.1, dist=1.0)
    far = seen(through(people, 4.0), motion)
    head = far["segmentation"] != CLASS["background"]
    usual = seen(through(people, 1.0), motion)["segmentation"] != CLASS["background"]
    np.testing.assert_allclose(head.mean((1, 2)), usual.mean((1, 2)), rtol=0.15)
    assert far["depth"][head].min() > 4 * DISTANCE - 2


def test_a_longer_lens_flattens_the_picture(people):
    motion = motions(yaw=0.4, pitch=0.1, dist=1.0)

    def mean_distance(lens):
        """Between where a lens shows the nose and an ear, and where the pose label puts them; the distance label."""

        def both(identity, motion):
            a = build_anatomy(identity, motion)
            p = (jnp.stack([0.0, a.ear[0][0]]), jnp.stack([a.nose_tip[0][1], 0.0]), jnp.stack([a.nose_tip[0][2], -0.1]))
            seen_at = jnp.stack(a.camera.project(head_to_world(a, p))[:2], -1)
            return seen_at, jnp.stack(to_canonical(p), -1)

        program = jax.jit(lambda i, m: (*jax.vmap(both)(i, m), labels(i, m)))
        seen_at, canonical, label = jax.tree.map(np.asarray, program(through(people, lens), motion))
        pose = label["pose"]
        rotation = np.stack([pose[:, :3], pose[:, 3:6], np.cross(pose[:, :3], pose[:, 3:6])], -1)
        placed = np.exp(pose[:, 6])[:, None, None] * np.einsum("bij,bnj->bni", rotation, canonical)
        return np.linalg.norm(placed[..., :2] + pose[:, None, 7:] - seen_at, axis=-1).mean(), label["distance"]

    (usual, near), (flat, far) = mean_distance(1.0), mean_distance(4.0)
    assert flat < 0.35 * usual  # weak perspective leaves less out
    np.testing.assert_allclose(far, near, rtol=0.05)
