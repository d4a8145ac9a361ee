"""Photo heads: a drawn person is fitted, posed and animated."""

import functools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_portrait import drawn_mesh, drawn_person, drawn_points, write_connections

from vasa_jax.conventions import SEGMENTS
from vasa_jax.corpus.performance.muscles import neutral_motion, sample_motion
from vasa_jax.corpus.photos import topology as T
from vasa_jax.corpus.photos.build import Builder
from vasa_jax.corpus.photos.draw import COPIED, LID, PhotoRenderer, eye_colours
from vasa_jax.corpus.photos.eyes import HALF_HEIGHT, HALF_WIDTH, IRIS_PATCH, WHITE_PATCH
from vasa_jax.corpus.photos.framing import CANVAS, draw_framing, from_canonical, place, to_canonical
from vasa_jax.corpus.photos.lashes import DARKEST, lash_shade
from vasa_jax.corpus.photos.store import read_heads, write_heads
from vasa_jax.corpus.photos.vary import vary
from vasa_jax.errors import InputError
from vasa_jax.preparation.photos import Portrait

SIZE, SCLERA = 64, SEGMENTS.index("sclera")


@functools.cache
def photograph():
    points = drawn_points()
    image, matte = drawn_person(points)
    return image, matte, points


@functools.cache
def fitted():
    """(the placed photograph, its head, the renderer's compiled function)."""
    image, matte, points = photograph()
    pose = Portrait(image, matte, points).pose
    photo = place(image, matte, points, pose, 0.02, np.array([0.0, -0.05]))
    mesh = drawn_mesh()
    head = Builder(mesh)(photo, np.random.default_rng(0))
    draw = jax.jit(jax.vmap(PhotoRenderer(mesh, SIZE).draw, (None, 0, 0)))
    return photo, head, draw


@functools.cache
def frames():
    return shown(fitted()[1])


def shown(head):
    """Named frames of a head, drawn at once: at rest, lids shut, jaw open, turned, lower, and broad stills."""
    photo, _, draw = fitted()
    rest = photo.pose
    turn = np.array([0.94, 0.0, 0.342, 0.0, 1.0, 0.0, *rest[6:]], np.float32)
    tilt = np.array([1.0, 0.0, 0.0, 0.0, 0.94, 0.342, *rest[6:]], np.float32)
    low = rest + np.array([0, 0, 0, 0, 0, 0, -0.1, 0, 0.25], np.float32)
    sampled = jax.jit(jax.vmap(lambda seed: sample_motion(jax.random.key(seed))))(jnp.arange(3))
    still = [{name: np.asarray(v)[i] for name, v in sampled.items()} for i in range(3)]
    asked = {
        "rest": ({}, rest), "shut": ({"blink_l": 1.0, "blink_r": 1.0}, rest),
        "open": ({"jaw": 1.0}, rest), "turned": ({}, turn), "low": ({}, low),
        "open turned": ({"jaw": 1.0}, turn), "open tilted": ({"jaw": 1.0}, tilt),
        **{f"still{i}": (motion, turn) for i, motion in enumerate(still)},
    }  # fmt: skip
    motions = [{**{n: np.asarray(v) for n, v in neutral_motion().items()}, **m} for m, _ in asked.values()]
    stacked = {name: jnp.asarray([m[name] for m in motions], jnp.float32) for name in motions[0]}
    drawn = jax.tree.map(np.asarray, draw(head, stacked, jnp.asarray([pose for _, pose in asked.values()])))
    return {name: jax.tree.map(lambda x, i=i: x[i], drawn) for i, name in enumerate(asked)}


def small(image):
    return cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA).astype(np.float32)


def test_at_its_own_pose_a_head_is_the_photograph():
    photo = fitted()[0]
    error = np.abs(frames()["rest"].rgb - small(photo.square)).mean(-1)
    closed = frames()["rest"].segmentation != SEGMENTS.index("mouth")
    assert error.mean() <= 1.5 and error[closed].max() < 60  # of 255


def test_lids_shut_and_open_eyes_are_seen():
    assert (frames()["rest"].segmentation == SCLERA).sum() >= 12
    assert (frames()["shut"].segmentation == SCLERA).sum() <= 1
    assert (frames()["shut"].segmentation == LID).sum() > (frames()["rest"].segmentation == LID).sum()


def test_lids_that_meet_leave_a_dark_line_along_the_upper_lid():
    """FaceMesh reads a shut eye without one as half open."""
    points, size = jnp.asarray(fitted()[0].points[:, :2]), 256
    rest = neutral_motion()
    assert (lash_shade(points, rest, size) == 1.0).all()
    shade = np.asarray(lash_shade(points, rest | {"blink_l": jnp.float32(1.0)}, size))  # on the image's right
    assert shade.min() == pytest.approx(1.0 - DARKEST, abs=0.02)
    dark = np.argwhere(shade < 1.0 - 0.5 * DARKEST)
    lid = (np.asarray(points)[list(T.UPPER_LID[1])] + 1) * size / 2 - 0.5
    assert len(dark) > 8 and (dark[:, 1] > size / 2).all()
    for y, x in dark:
        assert np.abs(y - np.interp(x, *lid[np.argsort(lid[:, 0])].T)) < 3.5


@pytest.mark.parametrize("yaw,pitch", [(0.5, 0.0), (-0.3, 0.2)])
def test_gaze_moves_the_irises_by_the_asked_angle(yaw, pitch):
    """A dark iris on a white patch: its middle, in widths of the eye; positive pitch looks up."""
    white, iris = jnp.full((*WHITE_PATCH, 3), 235, jnp.uint8), jnp.zeros((IRIS_PATCH, IRIS_PATCH, 3), jnp.uint8)
    eye = {"eye_white": white, "iris": iris, "iris_radius": jnp.float32(0.15)}
    u, v = jnp.meshgrid(jnp.linspace(-1, 1, 281), jnp.linspace(-1, 1, 177))

    def middle(gaze_yaw, gaze_pitch):
        motion = neutral_motion() | {"gaze_yaw": jnp.float32(gaze_yaw), "gaze_pitch": jnp.float32(gaze_pitch)}
        dark = 235.0 - np.asarray(eye_colours(eye, motion, u, v))[..., 0]
        return np.array([(dark * u * HALF_WIDTH).sum(), (dark * v * HALF_HEIGHT).sum()]) / dark.sum()

    expected = 0.40 * np.array([np.sin(yaw) * np.cos(pitch), -np.sin(pitch)])
    np.testing.assert_allclose(middle(yaw, pitch) - middle(0.0, 0.0), expected, atol=0.004)


def test_a_jaw_opens_the_mouth():
    mouth = SEGMENTS.index("mouth")
    assert (frames()["open"].segmentation == mouth).sum() > (frames()["rest"].segmentation == mouth).sum() + 9
    cells = (frames()["open"].segmentation == mouth).reshape(SIZE // 2, 2, SIZE // 2, 2).all((1, 3))
    assert cells.any() and (frames()["open"].kind[cells] != COPIED).all()


@pytest.mark.parametrize("name", ["open", "open turned", "open tilted"])
def test_the_inside_of_a_mouth_is_seen_between_the_lips_only(name):
    """In any pose: the patch behind the lips is wider than the jaw and must not stand out beside it."""
    segmentation = frames()[name].segmentation
    lips = np.argwhere(segmentation == SEGMENTS.index("lip"))[:, ::-1].astype(np.float32)
    hull = cv2.convexHull(lips)
    inside = np.argwhere(segmentation == SEGMENTS.index("mouth"))[:, ::-1].astype(float)
    assert len(inside) >= 8
    assert min(cv2.pointPolygonTest(hull, tuple(place), True) for place in inside) >= -1.0


@pytest.mark.parametrize("name", ["rest", "shut", "open", "turned", "still0"])
def test_copied_places_hold_the_colours_that_are_shown(name):
    frame, square = frames()[name], fitted()[0].square
    n = SIZE // 2
    axis = (np.arange(n) * 2 + 1) / n - 1
    at = frame.moved + np.stack(np.meshgrid(axis, axis), -1)
    pixels = ((at + 1) * len(square) / 2 - 0.5).astype(np.float32)
    seen = cv2.remap(cv2.blur(square, (8, 9)), pixels[..., 0], pixels[..., 1], cv2.INTER_LINEAR).astype(np.float32)
    shown = frame.rgb.reshape(n, 2, n, 2, 3).mean((1, 3))
    # Where the photograph is even, so that a cell's size does not matter.
    even = cv2.blur(square, (25, 25)).astype(np.float32) - square
    even = cv2.remap(np.abs(even).max(-1), pixels[..., 0], pixels[..., 1], cv2.INTER_LINEAR) < 4
    told = (frame.kind == COPIED) & (cv2.blur(even.astype(np.float32), (3, 3)) > 0.99)
    assert told.sum() > 40
    assert np.abs(seen - shown)[told].mean() < 4


@pytest.mark.parametrize("edge", ["left", "right", "bottom"])
def test_beyond_the_photograph_its_colours_go_on_without_streaks(edge):
    """A person with stripes across the photograph's edge: inside it the stripes, beyond it their mean."""
    side, at = ("left", "top", "right", "bottom").index(edge), {"left": -0.1, "right": 0.1, "bottom": 0.5}[edge]
    stripes = np.broadcast_to(np.where(np.arange(CANVAS) // 16 % 2, 200, 80)[:, None], (CANVAS, CANVAS))
    texture, bounds = np.full_like(fitted()[1]["texture"], 255), np.array([-2.0, -2.0, 2.0, 2.0], np.float32)
    texture[..., :3], bounds[side] = (stripes.T if edge == "bottom" else stripes)[..., None], at
    frame = shown({**fitted()[1], "texture": texture, "bounds": bounds})["rest"]
    across, down = np.meshgrid(*[(np.arange(SIZE) * 2 + 1) / SIZE - 1] * 2)
    out = (down if edge == "bottom" else across) - at
    out = -out if edge == "left" else out
    skin = (frame.segmentation == SEGMENTS.index("skin")) & (frame.matte > 0.99)
    assert (skin & (out > 0.15)).sum() > 30 and (skin & (out < 0)).sum() > 30
    beyond, within = frame.rgb[skin & (out > 0.15)], frame.rgb[skin & (out < 0)]
    assert beyond.std() < 6 and within.std() > 30 and abs(beyond.mean() - 140) < 10
    assert not ((frame.kind == COPIED) & (out > 0.05)[::2, ::2]).any()


def test_frames_are_finite_and_alike_alone_and_together():
    for frame in frames().values():
        assert all(np.isfinite(x).all() for x in frame)
        assert frame.rgb.min() >= 0 and frame.rgb.max() <= 255
    photo, head, draw = fitted()
    count = len(frames())  # the same program
    motion = {n: jnp.broadcast_to(v, (count,)) for n, v in neutral_motion().items()}
    poses = jnp.broadcast_to(photo.pose, (count, 9))
    again = draw(head, motion, poses)
    for part, alone in zip(again, frames()["rest"]):
        np.testing.assert_allclose(np.asarray(part[4], np.float32), np.asarray(alone, np.float32), atol=2e-3)


def test_canonical_coordinates_there_and_back():
    photo = fitted()[0]
    np.testing.assert_allclose(
        from_canonical(to_canonical(photo.points, photo.pose), photo.pose), photo.points, atol=1e-5
    )


@pytest.mark.parametrize("shape,fits", [((256, 256), True), ((256, 80), False)])
def test_framing_keeps_the_square_inside_the_photograph(shape, fits):
    image, matte, points = photograph()
    pose = Portrait(image, matte, points).pose
    framing = draw_framing(pose, *shape, np.random.default_rng(1))
    assert (framing is not None) == fits
    if fits:
        photo = place(image, matte, points, pose, *framing)
        assert photo.bounds[:2].max() <= -0.94 and photo.bounds[2:].min() >= 0.94


def test_a_relative_has_its_points_where_the_picture_has_its_features():
    image, matte, points = photograph()
    dotted = image.copy()
    for i in (33, 263, 1, 61, 291, 152):
        cv2.circle(dotted, tuple((points[i, :2] * 16 - 8).round().astype(int)), 40, (0, 255, 0), -1, shift=4)
    warped, _, moved = vary(dotted, matte, points, np.random.default_rng(3))
    assert 1.0 < np.abs(moved - points)[:, :2].max() < 40
    for i in (33, 263, 1, 61, 291, 152):
        x, y = moved[i, :2]
        box = warped[int(y) - 6 : int(y) + 7, int(x) - 6 : int(x) + 7].astype(np.float32)
        green = np.maximum(box[..., 1] - box[..., [0, 2]].max(-1), 0)
        rows, columns = np.mgrid[: box.shape[0], : box.shape[1]]
        assert abs((green * columns).sum() / green.sum() + int(x) - 5.5 - x) < 0.7
        assert abs((green * rows).sum() / green.sum() + int(y) - 5.5 - y) < 0.7


def test_heads_are_stored_and_read(tmp_path):
    head = fitted()[1]
    write_heads(tmp_path, 0, [head, head], ["a.png", "b.png"])
    write_heads(tmp_path, 1, [head], ["c.png"])
    heads = read_heads(tmp_path)
    assert heads["photograph"].tolist() == ["a.png", "b.png", "c.png"]
    np.testing.assert_array_equal(heads["texture"][2], head["texture"])
    (tmp_path / "heads-00001.npz").write_bytes(b"no")
    with pytest.raises(InputError, match=r"heads-00001\.npz: cannot be read"):
        read_heads(tmp_path)
    with pytest.raises(InputError, match="holds no photo heads"):
        read_heads(tmp_path / "nowhere")


@pytest.mark.parametrize("text", [None, "nothing", "FACEMESH_TESSELATION = [(1, 2)]"])
def test_a_list_of_triangles_that_is_none_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / T.CONNECTIONS).write_text(text)
    with pytest.raises(InputError, match=T.CONNECTIONS):
        T.face_mesh(tmp_path)


def test_a_list_of_triangles_is_read(tmp_path):
    triangles = [(i % 466, i % 466 + 1, i % 466 + 2) for i in range(T.FACE_TRIANGLES)]
    write_connections(tmp_path, triangles)
    mesh = T.face_mesh(tmp_path)
    np.testing.assert_array_equal(mesh.face, triangles)
    count = T.FACE_POINTS + len(T.RINGS) * len(T.OVAL) + 2 * 35 + 63
    assert mesh.triangles.max() == count - 1 and (mesh.material == T.MOUTH).sum() == 2 * 8 * 6


@pytest.mark.parametrize("mesh", [np.float32(1), np.zeros((3, 2)), np.zeros(0)])
def test_files_whose_arrays_are_not_of_one_number_of_heads_are_refused(tmp_path, mesh):
    np.savez(tmp_path / "heads-00000.npz", photograph=np.array(["a", "b"]), mesh=mesh)
    with pytest.raises(InputError, match=r"heads-00000\.npz: its arrays .*; make it anew"):
        read_heads(tmp_path)
    np.savez(tmp_path / "heads-00000.npz", photograph=np.array(["a", "b"]), mesh=np.zeros((2, 3)))
    assert read_heads(tmp_path)["mesh"].shape == (2, 3)
