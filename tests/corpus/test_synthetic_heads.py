"""The renderer of synthetic heads: pictures, exact labels, landmarks, random identities and motions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasa_jax.conventions import EMOTIONS, LANDMARKS, SEGMENTS
from vasa_jax.corpus.heads.anatomy import build_anatomy, head_to_world, world_to_head
from vasa_jax.corpus.heads.field import head_skin
from vasa_jax.corpus.heads.identity import RANGES, STYLE_NAMES, sample_identity
from vasa_jax.corpus.heads.labels import labels, to_canonical
from vasa_jax.corpus.heads.landmarks import head_landmarks
from vasa_jax.corpus.heads.render import render
from vasa_jax.corpus.heads.trace import _first_places
from vasa_jax.corpus.performance.muscles import (
    EMOTION_OFFSETS,
    MOTION_NAMES,
    VISEME_FIELDS,
    VISEMES,
    neutral_motion,
    sample_motion,
)

SIZE = 32
POINT = {name: index for index, name in enumerate(LANDMARKS)}
CLASS = {name: index for index, name in enumerate(SEGMENTS)}


measure = jax.jit(labels)
draw_identities, draw_motions = jax.jit(jax.vmap(sample_identity)), jax.jit(jax.vmap(sample_motion))


def identities(seed, count):
    return draw_identities(jax.random.split(jax.random.PRNGKey(seed), count))


def stills(seed, count):
    return draw_motions(jax.random.split(jax.random.PRNGKey(seed), count))


def motions(*changes):
    """One neutral motion per dict of changes."""
    rest = {name: float(value) for name, value in neutral_motion().items()}
    return {name: np.array([change.get(name, rest[name]) for change in changes], np.float32) for name in MOTION_NAMES}


def one_person(seed, count, **changes):
    person = {name: np.asarray(value)[0] for name, value in identities(seed, 1).items()} | changes
    return {name: np.full(count, value) for name, value in person.items()}


@pytest.fixture(scope="module")
def render4():
    """The renderer compiled once, inside a larger jit, for four heads."""

    @jax.jit
    def program(identity, motion):
        out = render(identity, motion, SIZE)
        return out | {"mean": out["rgb"].mean((1, 2))}

    return lambda identity, motion: jax.tree.map(np.asarray, program(identity, motion))


@pytest.fixture(scope="module")
def broad():
    return identities(0, 4), stills(1, 4)


def test_outputs_have_the_agreed_shapes_types_and_ranges(render4, broad):
    out = render4(*broad)
    expected = {
        "rgb": ((4, SIZE, SIZE, 3), np.float32),
        "background": ((4, SIZE, SIZE, 3), np.float32),
        "matte": ((4, SIZE, SIZE), np.float32),
        "segmentation": ((4, SIZE, SIZE), np.uint8),
        "depth": ((4, SIZE, SIZE), np.float32),
        "landmarks": ((4, len(LANDMARKS), 3), np.float32),
    }
    for name, (shape, dtype) in expected.items():
        assert out[name].shape == shape and out[name].dtype == dtype, name
        assert np.isfinite(out[name]).all(), name
    for name in ("rgb", "background", "matte"):
        assert out[name].min() >= 0.0 and out[name].max() <= 1.0, name
    np.testing.assert_allclose(out["mean"], out["rgb"].mean((1, 2)), atol=1e-5)
    assert out["segmentation"].max() < len(SEGMENTS)
    assert len(set(LANDMARKS)) == len(LANDMARKS) >= 60


def test_every_element_is_computed_alone(render4, broad):
    """Batch position must not matter: jaxlib 0.10.2 on CPU computes some reductions wrongly from index 1 on."""
    out = render4(*broad)
    order = np.array([2, 0, 3, 1])
    moved = render4(*({name: value[order] for name, value in part.items()} for part in broad))
    copies = render4(*({name: value[jnp.full(4, 2)] for name, value in part.items()} for part in broad))
    for name in out:
        np.testing.assert_allclose(moved[name], out[name][order], atol=1e-6, err_msg=name)
        np.testing.assert_allclose(copies[name], np.repeat(out[name][2:3], 4, 0), atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_a_batch_of_one_gives_the_same_picture(render4, broad):
    out = render4(*broad)
    single = jax.jit(lambda identity, motion: render(identity, motion, SIZE))
    for k in range(4):
        alone = single(*({name: value[k : k + 1] for name, value in part.items()} for part in broad))
        for name, value in alone.items():
            np.testing.assert_allclose(np.asarray(value[0]), out[name][k], atol=1e-5, err_msg=name)


def test_background_is_the_picture_without_the_head(render4, broad):
    out = render4(*broad)
    empty = out["matte"] == 0.0
    full = out["matte"] == 1.0
    assert 0.2 < empty.mean() < 0.8 and full.mean() > 0.2
    np.testing.assert_allclose(out["rgb"][empty], out["background"][empty], atol=1e-6)
    assert (out["segmentation"][empty] == CLASS["background"]).all() and (out["depth"][empty] == 0.0).all()
    assert (out["segmentation"][full] != CLASS["background"]).all() and (out["depth"][full] > 3.0).all()
    again = render4(broad[0], stills(2, 4))
    np.testing.assert_allclose(again["background"], out["background"], atol=1e-6)


def test_lids_mouth_and_gaze_show_in_the_picture(render4):
    """Close-ups of one face: closed lids hide the eyes, an open jaw shows the mouth, pressed lips hide it."""
    person = one_person(44, 4, lens=np.float32(1), glasses=np.float32(-1), style=np.int32(STYLE_NAMES.index("crop")))
    near = {"dist": 0.6}
    motion = motions(near, near | {"blink_l": 1, "blink_r": 1}, near | {"jaw": 1}, near | {"gaze_yaw": 0.5, "press": 1})
    segments, label = render4(person, motion)["segmentation"], jax.tree.map(np.asarray, measure(person, motion))
    eyes = np.isin(segments, [CLASS["sclera"], CLASS["iris"]]).sum((1, 2))
    inside = np.isin(segments, [CLASS["mouth"], CLASS["teeth"], CLASS["tongue"]]).sum((1, 2))
    assert eyes[0] >= 8 and eyes[1] == 0 and eyes[2] >= 8
    assert inside[2] >= 8 and inside[0] == inside[1] == inside[3] == 0
    np.testing.assert_allclose(label["lids"][[0, 1, 2]], [[1, 1], [0, 0], [1, 1]], atol=1e-5)
    assert label["mouth"][2] > 0.25 and (label["mouth"][[0, 1, 3]] == 0).all()
    columns = np.arange(SIZE)
    iris_x = [(segments[k] == CLASS["iris"]).sum(0) @ columns / (segments[k] == CLASS["iris"]).sum() for k in (0, 3)]
    assert iris_x[1] > iris_x[0] + 0.5 and label["gaze"][3, 0] > 25


def test_landmarks_lie_on_the_parts_they_name(render4):
    person = one_person(44, 4, glasses=np.float32(-1.0), style=np.int32(STYLE_NAMES.index("shaven")))
    motion = motions({"dist": 0.6}, {"dist": 0.6, "jaw": 0.8}, {"dist": 0.6, "yaw": 0.25}, {"dist": 0.6, "tx": 0.05})
    out = render4(person, motion)

    def segment_at(k, name):
        x, y, _ = out["landmarks"][k, POINT[name]]
        column, row = (int(np.floor((v + 1.0) * SIZE / 2)) for v in (x, y))
        return SEGMENTS[out["segmentation"][k, row, column]]

    for k in range(4):
        for side in ("left", "right"):
            assert segment_at(k, f"iris_{side}") == "iris"
            assert segment_at(k, f"brow_{side}_2") in ("brow", "skin")
        assert segment_at(k, "nose_tip") == segment_at(k, "forehead") == "skin"
        # The renderer's depth at a point agrees with the point's own.
        for name in ("nose_tip", "forehead", "nose_bridge_0"):
            x, y, depth = out["landmarks"][k, POINT[name]]
            column, row = (int(np.floor((v + 1.0) * SIZE / 2)) for v in (x, y))
            assert abs(out["depth"][k, row, column] - depth) < 0.06, name
    gap = out["landmarks"][:, POINT["inner_lip_6"], 1] - out["landmarks"][:, POINT["inner_lip_2"], 1]
    assert gap[1] > 0.15 and abs(gap[0]) < 0.02


def test_landmarks_are_on_the_skin():
    def skin_distance(identity, motion):
        a = build_anatomy(identity, motion)
        return head_skin(a, head_landmarks(a), closed_eyes=True)

    distance = np.asarray(jax.jit(jax.vmap(skin_distance))(identities(3, 64), stills(4, 64)))
    on_skin = [k for k, name in enumerate(LANDMARKS) if name.startswith(("jaw", "brow", "nose", "outer", "forehead"))]
    assert np.abs(distance[:, on_skin]).max() < 0.02


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_rays_that_march_on_are_those_that_nonzero_finds(share):
    late = jax.random.uniform(jax.random.key(3), (1000,)) < share
    expected = jnp.nonzero(late, size=100, fill_value=999)[0]
    np.testing.assert_array_equal(_first_places(late, 100), expected)


def test_pose_projects_the_head_to_where_the_camera_sees_it():
    def both(identity, motion):
        a = build_anatomy(identity, motion)
        # Rigid points: bridge of the nose, ears, eyes, top and back of the head's middle.
        x = jnp.array([0.0, 0.0, a.ear[0][0], -a.ear[0][0], a.eye[0], -a.eye[0], 0.0])
        y = jnp.array([a.nose_root[1], a.nose_tip[0][1], -0.04, -0.04, a.eye[1], a.eye[1], 0.6])
        z = jnp.array([a.nose_root[2], a.nose_tip[0][2], -0.10, -0.10, a.eye[2], a.eye[2], 0.3])
        points = (x, y, z)
        seen = jnp.stack(a.camera.project(head_to_world(a, points))[:2], -1)
        there_and_back = world_to_head(a, head_to_world(a, points))
        return jnp.stack(to_canonical(points), -1), seen, jnp.stack(there_and_back, -1) - jnp.stack(points, -1)

    identity, motion = identities(5, 64), stills(6, 64)
    canonical, seen, round_trip = jax.tree.map(np.asarray, jax.jit(jax.vmap(both))(identity, motion))
    np.testing.assert_allclose(round_trip, 0.0, atol=1e-5)
    pose = np.asarray(measure(identity, motion)["pose"])
    first, second = pose[:, :3], pose[:, 3:6]
    rotation = np.stack([first, second, np.cross(first, second)], -1)
    np.testing.assert_allclose(np.einsum("bij,bik->bjk", rotation, rotation), np.eye(3)[None].repeat(64, 0), atol=1e-5)
    placed = np.exp(pose[:, 6])[:, None, None] * np.einsum("bij,bnj->bni", rotation, canonical)
    error = np.linalg.norm(placed[..., :2] + pose[:, None, 7:] - seen, axis=-1)
    near = np.asarray(motion["dist"]) > 0.9
    assert error[near].max() < 0.055 and error.max() < 0.08 and error.mean() < 0.02


def test_pose_signs_and_scale():
    motion = motions({}, {"yaw": 0.4}, {"pitch": 0.3}, {"roll": 0.3}, {"dist": 1.25}, {"tx": 0.1}, {"ty": 0.1})
    label = jax.tree.map(np.asarray, measure(one_person(1, 7), motion))
    pose = label["pose"]
    np.testing.assert_allclose(pose[0, [0, 4, 6]], [1, 1, 0], atol=1e-3)
    forward = -np.cross(pose[:, :3], pose[:, 3:6])  # out of the face, in image axes
    assert forward[1, 0] > 0.3 and forward[2, 1] > 0.25  # yaw to image right, pitch to image down
    assert pose[3, 1] < -0.25  # the head's x axis turns up on the right: counter-clockwise
    np.testing.assert_allclose(label["distance"][4], 1.25, atol=0.02)
    np.testing.assert_allclose(label["distance"], np.exp(-pose[:, 6]), rtol=1e-5)
    assert pose[5, 7] > 0.05 and pose[6, 8] < pose[0, 8] - 0.05


def test_gaze_label_is_in_the_camera_frame():
    motion = motions(
        {"gaze_yaw": 0.3},
        {"gaze_pitch": 0.2},
        {"yaw": 0.3, "gaze_yaw": -0.3},
        {"pitch": 0.2, "gaze_pitch": 0.2},
        {"yaw": 0.5},
    )
    gaze = np.asarray(measure(one_person(1, 5), motion)["gaze"])
    expected = np.rad2deg([[0.3, 0.0], [0.0, -0.2], [0.0, 0.0], [0.0, 0.0], [0.5, 0.0]])
    np.testing.assert_allclose(gaze, expected, atol=1e-3)


def test_mouth_label_follows_the_visemes():
    rows = [dict(zip(VISEME_FIELDS, weights)) for weights in VISEMES.values()]
    mouth = dict(zip(VISEMES, np.asarray(measure(one_person(2, len(rows)), motions(*rows))["mouth"])))
    assert mouth["sil"] == mouth["PP"] == 0.0
    assert mouth["aa"] > mouth["E"] > mouth["I"] > 0.05


def test_random_identities_and_motions_cover_their_ranges():
    people, motion = jax.tree.map(np.asarray, (identities(7, 512), stills(8, 512)))
    assert set(people) == {*RANGES, "style", "seed"} and people["style"].dtype == np.int32
    assert len(RANGES) >= 40 and {*RANGES} & {*MOTION_NAMES} <= {"cheek"}  # a bone's width, a muscle's pull
    assert set(people["style"]) == set(range(len(STYLE_NAMES)))
    for name, (low, high) in RANGES.items():
        margin = 0.2 * (high - low)
        assert low - margin <= people[name].min() and people[name].max() <= high + margin, name
        assert np.ptp(people[name]) > 0.8 * (high - low), name
    assert set(motion) == set(MOTION_NAMES)
    for name, limit in {"yaw": 0.7, "pitch": 0.35, "roll": 0.3}.items():
        assert 0.9 * limit < np.abs(motion[name]).max() <= limit, name
    assert 0.8 <= motion["dist"].min() < 0.83 and 1.2 < motion["dist"].max() <= 1.25
    closed = (motion["blink_l"] == 1.0) & (motion["blink_r"] == 1.0)
    assert 0.05 < closed.mean() < 0.3
    again = jax.tree.map(np.asarray, stills(8, 512))
    assert all((again[name] == motion[name]).all() for name in MOTION_NAMES)


def test_emotions_are_in_the_agreed_order():
    assert EMOTIONS == ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    assert EMOTION_OFFSETS.shape == (8, len(MOTION_NAMES))
    assert not EMOTION_OFFSETS[EMOTIONS.index("neutral")].any()
    smile = EMOTION_OFFSETS[:, MOTION_NAMES.index("smile")]
    assert smile.argmax() == EMOTIONS.index("happiness") and smile.argmin() == EMOTIONS.index("sadness")


def test_a_size_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of 16"):
        render(identities(0, 1), stills(0, 1), 20)
