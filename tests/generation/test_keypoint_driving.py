"""LivePortrait's rules for keypoints: each mode against its formula with rows, their order against its own pipeline."""

import numpy as np
import pytest
from official_state import GOLDEN, inputs, spread

from vasa_jax.conventions import rotation_columns, rotation_matrices
from vasa_jax.generation.driving import Driving
from vasa_jax.generation.driving_motion import DrivingMotion
from vasa_jax.generation.keypoint_driving import (
    EYES,
    LIPS,
    Retargeting,
    _posed,
    driven_keypoint_motion,
    dubbed_keypoint_motion,
)

RNG = np.random.default_rng(0)
CANONICAL = RNG.normal(0, 0.3, (21, 3))
PLAIN = Driving(expression_friendly=False, stitching=False)
TRACE: list[str] = []
GOLDEN_DRIVING = dict(np.load(GOLDEN / "driving.npz"))  # of tests/golden/make_driving.py


def example(frames):
    pose = np.concatenate([rotation_columns(RNG.uniform(-20, 20, (frames, 3))), RNG.normal(0, 0.1, (frames, 3))], 1)
    return np.concatenate([pose, RNG.normal(0, 0.05, (frames, 63))], 1).astype(np.float32)


PORTRAIT, READ = example(1)[0], example(4)
PORTRAIT_OPENNESS = np.array([0.3, 0.25, 0.15])  # left eye, right eye, lips
DRIVER_OPENNESS = np.linspace(0.0, 0.5, 12).reshape(4, 3).astype(np.float32)


def rows(vectors):
    """(R, e, s, t) of motion vectors as LivePortrait has them: R for row vectors, t with t_z = 0."""
    rotation = np.swapaxes(rotation_matrices(vectors[..., :6]), -1, -2)
    shift = np.pad(vectors[..., 7:9].astype(float), [(0, 0)] * (vectors.ndim - 1) + [(0, 1)])
    return rotation, vectors[..., 9:].reshape(*vectors.shape[:-1], 21, 3).astype(float), np.exp(vectors[..., 6]), shift


def posed(rotation, expression, scale, shift):
    return np.asarray(scale)[..., None, None] * (CANONICAL @ rotation + expression) + shift[..., None, :]


def driven(how, read=READ, networks=None, openness=None):
    """Keypoints (T, 21, 3) that the motion poses."""
    driving = DrivingMotion(read[:, :9], read[:, 9:], 25.0, "keypoint", openness=DRIVER_OPENNESS[: len(read)])
    motion = driven_keypoint_motion(CANONICAL, PORTRAIT, driving, how, networks, openness)
    np.testing.assert_array_equal(motion[:, :9], np.tile(PORTRAIT[:9], (len(read), 1)))
    return posed(*rows(motion))


def change(how, **settings):
    return Driving(**({"expression_friendly": how.expression_friendly, "stitching": how.stitching} | settings))


def sparse(expression, own):
    """Of an absolute expression only these coordinates are taken."""
    result = np.array(own)
    result[[1, 2, 6, *range(11, 21)]] = expression[[1, 2, 6, *range(11, 21)]]
    result[3:5, 1], result[5, 2], result[8, 2], result[9, 1:] = (
        expression[3:5, 1], expression[5, 2], expression[8, 2], expression[9, 1:],
    )  # fmt: skip
    return result


def only(places, expression, own):
    result = np.array(own)
    result[list(places)] = expression[list(places)]
    return result


OWN, DRIVER = rows(PORTRAIT), rows(READ)


def expected(region, mode, i):
    (r_s, e_s, s_s, t_s), (r, e, s, t) = OWN, DRIVER
    relative = mode == "relative"
    wanted = e_s + e[i] - e[0] if relative else e[i]
    if region in ("all", "expression"):
        face = wanted if relative else sparse(wanted, e_s)
    else:
        face = {"pose": e_s, "lip": only(LIPS, wanted, e_s), "eyes": only(EYES, wanted, e_s)}[region]
    rotation, scale, shift = r_s, s_s, t_s
    if region in ("all", "pose"):
        rotation = r[i] @ r[0].T @ r_s if relative else r[i]
        shift = t_s + t[i] - t[0] if relative else t[i]
    if region == "all" and relative:
        scale = s_s * s[i] / s[0]
    return posed(rotation, face, scale, shift)


@pytest.mark.parametrize("region", ["all", "pose", "expression", "lip", "eyes"])
@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_each_region_and_mode(region, mode):
    found = driven(change(PLAIN, region=region, mode=mode))
    for i in range(len(READ)):
        np.testing.assert_allclose(found[i], expected(region, mode, i), atol=2e-6)


def test_changes_may_count_from_the_nearest_face():
    read = READ.copy()
    read[:, 9:] = READ[:, 9:] + 0.1
    read[1, 9:] = PORTRAIT[9:]
    (r_s, _, s_s, t_s), (_, e, _, _) = OWN, rows(read)
    found = driven(change(PLAIN, region="expression", driving_rest="nearest", expression_friendly=True), read)
    for i in range(len(read)):
        np.testing.assert_allclose(found[i], posed(r_s, e[i], s_s, t_s), atol=2e-6)


def test_a_single_picture_is_compared_with_a_neutral_face():
    r_s, e_s, s_s, t_s = OWN
    neutral = GOLDEN_DRIVING["neutral"]
    found = driven(change(PLAIN), READ[2:3])
    expected = posed(r_s, e_s + DRIVER[1][2] - neutral, s_s, t_s)
    np.testing.assert_allclose(found[0], expected, atol=3e-4 * s_s)  # to so many places it is kept
    assert np.abs(neutral).max() > 0.01
    eyes = driven(change(PLAIN, region="eyes"), READ[2:3])
    np.testing.assert_allclose(eyes[0], posed(r_s, only(EYES, e_s + DRIVER[1][2], e_s), s_s, t_s), atol=2e-6)


def networks():
    """Each adds a constant of its own, and notes what it was given."""
    del TRACE[:]

    def stitch(source, moved):
        TRACE.append(("stitch", moved.copy()))
        return moved + 0.01

    def lips(source, openness):
        TRACE.append(("lips", openness))
        return np.full((len(openness), 21, 3), 0.02)

    def eyes(source, openness):
        TRACE.append(("eyes", openness))
        return np.full((len(openness), 21, 3), 0.03)

    return Retargeting(stitch, lips, eyes)


def test_order_sizes_then_stitching_then_lips_then_multiplier():
    from scipy.spatial import ConvexHull

    source = posed(*OWN)
    plain = np.stack([expected("all", "relative", i) for i in range(4)])
    ratio = np.sqrt(ConvexHull(source).volume / ConvexHull(plain[0]).volume)
    sized = source + (plain - plain[0]) * ratio
    how = Driving(close_lips=True, driving_multiplier=0.5)
    found = driven(how, networks=networks(), openness=np.array([0.3, 0.3, 0.1]))
    np.testing.assert_allclose(found, source + ((sized + 0.01 + 0.02) - source) * 0.5, atol=2e-6)
    assert [name for name, _ in TRACE] == ["stitch", "lips"]
    np.testing.assert_allclose(TRACE[0][1], sized, atol=1e-6)
    np.testing.assert_allclose(TRACE[1][1], np.tile([0.1, 0.0], (4, 1)))
    closed = driven(Driving(close_lips=True), networks=networks(), openness=np.array([0.3, 0.3, 0.02]))
    np.testing.assert_allclose(closed, sized + 0.01, atol=2e-6)  # lips that are closed already are left


@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_retargeting_comes_before_stitching_and_drops_relative_motion(mode):
    how = change(PLAIN, mode=mode, eye_openness=0.2, lip_openness=0.1, stitching=True)
    found = driven(how, networks=networks(), openness=PORTRAIT_OPENNESS)
    base = [posed(*OWN) if mode == "relative" else expected("all", mode, i) for i in range(4)]
    np.testing.assert_allclose(found, np.stack(base) + 0.03 + 0.02 + 0.01, atol=2e-6)
    assert [name for name, _ in TRACE] == ["eyes", "lips", "stitch"]
    np.testing.assert_allclose(TRACE[0][1], np.tile([0.3, 0.25, 0.2], (4, 1)))
    np.testing.assert_allclose(TRACE[1][1], np.tile([0.15, 0.1], (4, 1)))


@pytest.mark.parametrize("mode", ["relative", "absolute"])
@pytest.mark.parametrize("follow", [("eyes",), ("lips",), ("eyes", "lips")])
def test_eyes_and_lips_follow_the_driving_face(mode, follow):
    """LivePortrait's Algorithm 1: the networks see each frame's ratios, of the eyes the left one; then stitching."""
    how = change(PLAIN, mode=mode, stitching=True, close_lips=True, **{f"retarget_{part}": True for part in follow})
    found = driven(how, networks=networks(), openness=PORTRAIT_OPENNESS)
    base = [posed(*OWN) if mode == "relative" else expected("all", mode, i) for i in range(4)]
    added = sum({"eyes": 0.03, "lips": 0.02}[part] for part in follow)
    np.testing.assert_allclose(found, np.stack(base) + added + 0.01, atol=2e-6)
    assert [name for name, _ in TRACE] == [*follow, "stitch"]
    given = dict(TRACE)
    if "eyes" in follow:
        np.testing.assert_allclose(given["eyes"], [[0.3, 0.25, row[0]] for row in DRIVER_OPENNESS])
    if "lips" in follow:
        np.testing.assert_allclose(given["lips"], [[0.15, row[2]] for row in DRIVER_OPENNESS])


def test_frames_of_a_source_video_are_open_in_their_own_way():
    """Retargeting and the closing of lips see each source frame's keypoints and openness."""
    own, source_openness = example(4), np.linspace(0.02, 0.4, 12).reshape(4, 3)
    canonical, sources = np.tile(CANONICAL, (4, 1, 1)), posed(*rows(own))
    source_openness[1, 2] = 0.02  # closed lips

    def dubbed(how, openness):
        driving = DrivingMotion(READ[:, :9], READ[:, 9:], 25.0, "keypoint", openness=DRIVER_OPENNESS)
        return posed(*rows(dubbed_keypoint_motion(canonical, own, driving, how, networks(), openness)))

    found = dubbed(change(PLAIN, retarget_eyes=True, retarget_lips=True), source_openness)
    np.testing.assert_allclose(found, sources + 0.05, atol=5e-6)
    given = dict(TRACE)
    np.testing.assert_allclose(given["eyes"], np.column_stack([source_openness[:, :2], DRIVER_OPENNESS[:, 0]]))
    np.testing.assert_allclose(given["lips"], np.column_stack([source_openness[:, 2], DRIVER_OPENNESS[:, 2]]))
    plain = dubbed(PLAIN, None)
    closed = dubbed(change(PLAIN, close_lips=True), source_openness)
    expected_change = np.float64([0.02, 0.0, 0.02, 0.02])[:, None, None]
    np.testing.assert_allclose(closed - plain, np.broadcast_to(expected_change, plain.shape), atol=5e-6)


@pytest.mark.parametrize(
    ("first", "wanted"), [((0.3, 0.2), 0.25), ((0.3, 0.06), 0.18), ((0.3, 0.05), 0.39), ((0.0, 0.0), 0.39)]
)
def test_eyes_of_a_source_video_stay_as_in_its_first_frame(first, wanted):
    """Or wide open, where they are closed there; after stitching, and not beside retargeting."""
    own, source_openness = example(4), np.linspace(0.02, 0.4, 12).reshape(4, 3)
    source_openness[0, :2] = first
    canonical = np.tile(CANONICAL, (4, 1, 1))

    def dubbed(**settings):
        how = change(PLAIN, stitching=True, dub=True, **settings).validate("config")
        driving = DrivingMotion(READ[:, :9], READ[:, 9:], 25.0, "keypoint", openness=DRIVER_OPENNESS)
        return posed(*rows(dubbed_keypoint_motion(canonical, own, driving, how, networks(), source_openness)))

    plain = dubbed()
    np.testing.assert_allclose(dubbed(steady_eyes=True) - plain, 0.03, atol=5e-6)
    assert [name for name, _ in TRACE] == ["stitch", "eyes"]
    np.testing.assert_allclose(TRACE[1][1], np.column_stack([source_openness[:, :2], np.full(4, wanted)]))
    np.testing.assert_array_equal(dubbed(steady_eyes=True, lip_openness=0.1), dubbed(lip_openness=0.1))


def test_absolute_motion_is_not_scaled_by_sizes():
    how = change(PLAIN, mode="absolute", expression_friendly=True)
    np.testing.assert_allclose(driven(how)[3], expected("all", "absolute", 3), atol=2e-6)


def test_a_source_video_keeps_what_is_not_taken():
    """Rules for a video in the portrait's place: its own pose and sizes per frame, the sparse expression, smoothed."""
    count, rng = len(READ), np.random.default_rng(3)
    canonical = CANONICAL + 0.01 * rng.normal(size=(count, 21, 3))
    own = PORTRAIT + 0.01 * rng.normal(size=(count, len(PORTRAIT)))
    driving = DrivingMotion(READ[:, :9], READ[:, 9:], 25.0, "keypoint")

    def dubbed(**settings):
        how = change(PLAIN, driving_smoothing=0.0, **settings)
        motion = dubbed_keypoint_motion(canonical, own, driving, how)
        return np.concatenate([_posed(canonical[i], motion[i : i + 1].astype(np.float64)) for i in range(count)])

    (r_s, e_s, s_s, t_s), (r, e, _, t) = rows(own), DRIVER
    for region, mode in (("all", "relative"), ("lip", "relative"), ("expression", "absolute"), ("pose", "absolute")):
        found = dubbed(region=region, mode=mode)
        for i in range(count):
            wanted = e_s[i] + e[i] - e[0] if mode == "relative" else e[i]
            face = only(LIPS, wanted, e_s[i]) if region == "lip" else sparse(wanted, e_s[i])
            rotation, shift = r_s[i], t_s[i]
            if region in ("all", "pose"):
                rotation = r[i] @ r[0].T @ r_s[i] if mode == "relative" else r[i]
                shift = t_s[i] if mode == "relative" else t[i]
            face = e_s[i] if region == "pose" else face
            expected = s_s[i] * (canonical[i] @ rotation + face) + shift
            np.testing.assert_allclose(found[i], expected, atol=5e-6, err_msg=f"{region} {mode}")
    np.testing.assert_allclose(dubbed(driving_multiplier=0.0), _posed(canonical, own), atol=5e-6)
    rough = dubbed_keypoint_motion(canonical, own, driving, PLAIN)
    smooth = dubbed_keypoint_motion(canonical, own, driving, change(PLAIN, driving_smoothing=5.0))
    assert np.abs(np.diff(smooth, axis=0)).sum() < np.abs(np.diff(rough, axis=0)).sum()


def linear_networks():
    """Those of tests/golden/make_driving.py."""
    sizes = {"stitching": (126, 65), "lip": (65, 63), "eye": (66, 63)}
    kernels = {name: inputs(name, *size, scale=0.02) for name, size in sizes.items()}

    def apply(name, keypoints, rest):
        return np.concatenate([keypoints.reshape(len(keypoints), 63), rest], 1) @ kernels[name]

    def stitch(source, moved):
        made = apply("stitching", source, moved.reshape(len(moved), 63))
        return moved + made[:, :63].reshape(-1, 21, 3) + np.pad(made[:, None, 63:], ((0, 0), (0, 0), (0, 1)))

    return Retargeting(
        stitch,
        lambda source, openness: apply("lip", source, openness).reshape(-1, 21, 3),
        lambda source, openness: apply("eye", source, openness).reshape(-1, 21, 3),
    )


@pytest.mark.parametrize(("case", "expected"), [*zip(GOLDEN_DRIVING["cases"].tolist(), GOLDEN_DRIVING["keypoints"])])
def test_keypoints_are_those_of_the_official_pipeline(case, expected):
    """With its default of closing lips; a video in the portrait's place is not smoothed."""
    kind, mode, eyes, lips, stitching, steady = case.split(".")
    own, read, canonical = (GOLDEN_DRIVING[name] for name in ("source", "driver", "canonical"))
    how = Driving(
        mode=mode, retarget_eyes=eyes == "1", retarget_lips=lips == "1", stitching=stitching == "1", close_lips=True,
        driving_multiplier=1.3, driving_smoothing=0.0, steady_eyes=bool(steady), dub=kind == "video",
    ).validate("config")  # fmt: skip
    driving = DrivingMotion(read[:, :9], read[:, 9:], 25.0, "keypoint", openness=GOLDEN_DRIVING["driver.openness"])
    openness = GOLDEN_DRIVING["closed.openness" if steady == "closed" else "source.openness"]
    if kind == "image":
        canonical, own, openness = canonical[0].astype(np.float64), own[0], openness[0]
        motion = driven_keypoint_motion(canonical, own, driving, how, linear_networks(), openness)
    else:
        canonical = canonical.astype(np.float64)
        motion = dubbed_keypoint_motion(canonical, own, driving, how, linear_networks(), openness)
    found = spread(_posed(canonical, motion.astype(np.float64)), 40)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
