"""The portrait's own pixels in the decoded picture."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from random_params import random_params
from tiny_face import LEAST
from tiny_face import SIZE as LEAST_SIZE

from vasa_jax.conventions import IDENTITY_POSE
from vasa_jax.models import geometry
from vasa_jax.models.face import face_codec, init_face
from vasa_jax.models.face_decoder import ImageNet2D
from vasa_jax.models.layers import pixel_shuffle, pixel_unshuffle, resized
from vasa_jax.models.portrait_pixels import (
    HELD,
    Appearance,
    PortraitPlaces,
    beyond_share,
    blurred,
    held_at_edges,
    moved_pixels,
)

SEEN_ONCE = {"encoder": LEAST["encoder"], "decoder": LEAST["decoder"] | {"pixel_blocks": 0}}
PLAIN = {part: fields | {"portrait_pixels": False} for part, fields in SEEN_ONCE.items()}
SIZE, DEPTH, SIDE = 64, 4, 16
POSE = jnp.asarray([[0.96, 0.05, -0.28, 0.0, 0.99, 0.1, -0.2, 0.1, -0.05]])


def pictures(count, size=SIZE):
    """Smooth, so that what interpolation loses is small."""
    coarse = np.random.default_rng(1).random((count, 8, 8, 3)).astype(np.float32)
    return jnp.clip(jax.image.resize(coarse, (count, size, size, 3), "cubic"), 0, 1)


def appearance(portrait, pose=POSE):
    """Without a warp; nothing is in the volume."""
    volume = jnp.zeros((1, DEPTH, SIDE, SIDE, 16))
    return Appearance(volume, portrait, jnp.zeros((1, DEPTH, SIDE, SIDE, 3)), pose)


def view(poses):
    """Canonical points of the voxels that heads in these poses show."""
    return geometry.canonical_from_image(geometry.pixel_grid(DEPTH, SIDE, SIDE)[None], poses)


def moved(seen, poses):
    model, features = PortraitPlaces(DEPTH), jnp.zeros((len(poses), SIDE, SIDE, DEPTH * 16))
    params = random_params(model.init, seen, features, view(poses))
    return moved_pixels(seen.portrait, model.apply(params, seen, features, view(poses)))


def test_a_head_in_the_portraits_own_pose_is_the_portrait():
    portrait = pictures(1)
    np.testing.assert_allclose(moved(appearance(portrait), POSE)[0], portrait[0], atol=2e-5)


def test_a_head_that_shifts_and_grows_takes_its_pixels_along():
    """Without rotation all depths agree: the picture is the portrait, scaled and shifted in the plane."""
    portrait, still = pictures(1), jnp.asarray([IDENTITY_POSE])
    poses = jnp.repeat(still, 2, 0).at[:, 6].set(jnp.log(jnp.array([1.0, 1.5]))).at[:, 7].set(2 * 6 / SIZE)
    shown = moved(appearance(portrait, still), poses)
    np.testing.assert_allclose(shown[0, :, 6:], portrait[0, :, :-6], atol=2e-5)
    plane = (geometry.pixel_grid(SIZE, SIZE)[None] - jnp.array([2 * 6 / SIZE, 0.0])) / 1.5
    inside = slice(4, -4)  # beyond the last voxel's centre displacements are held
    expected = geometry.bilinear_sample(portrait, plane, "border")[0]
    np.testing.assert_allclose(shown[1, inside, inside], expected[inside, inside], atol=2e-4)


def test_an_expression_is_undone_by_the_portraits_warp():
    portrait, still = pictures(1), jnp.asarray([IDENTITY_POSE])
    seen = appearance(portrait, still)
    seen = seen._replace(warp=jnp.broadcast_to(jnp.array([0.0, -2 * 4 / SIZE, 0.0]), seen.warp.shape))
    inside = slice(16, -16)  # beyond the last voxel's centre there is no warp
    expected = portrait[0, 12 : SIZE - 20, inside]
    np.testing.assert_allclose(moved(seen, still)[0, inside, inside], expected, atol=2e-5)


def test_pixels_are_taken_apart_and_put_together():
    x = jnp.arange(2 * 8 * 6 * 3, dtype=jnp.float32).reshape(2, 8, 6, 3)
    assert pixel_unshuffle(x, 2).shape == (2, 4, 3, 12)
    np.testing.assert_array_equal(pixel_shuffle(pixel_unshuffle(x, 2), 2), x)


def test_cubics_keep_texture_that_linear_interpolation_blurs():
    """Stripes of period 4, moved by half a pixel: a line between neighbours halves their power, a cubic does not."""
    stripes = jnp.broadcast_to(0.5 + 0.4 * jnp.cos(0.5 * jnp.pi * jnp.arange(SIZE))[:, None], (1, SIZE, SIZE, 3))
    half = jnp.full((1, SIDE, SIDE, 2), 1.0 / SIZE)
    power = [moved_pixels(stripes, half, cubic)[:, 4:-4, 4:-4].var() for cubic in (False, True)]
    np.testing.assert_allclose(np.array(power) / stripes[:, 4:-4, 4:-4].var(), [0.5, 0.78], atol=0.005)


@pytest.mark.parametrize("cubic", [False, True])
def test_pixels_that_are_kept_are_moved_into_place_first(cubic):
    net = ImageNet2D(width=8, blocks=0, up_widths=(8,), shuffle=2, pixel_blocks=1, cubic_pixels=cubic, groups=4)
    decode = jax.jit(net.apply)
    still = jnp.zeros((2, 8, 8, 2))
    x, portrait = jax.random.normal(jax.random.key(0), (2, 8, 8, 8)), pictures(1, 32)
    params = random_params(net.init, x, portrait, still)["params"]
    params["keep"] = {"kernel": jnp.zeros((3, 3, 8, 4)), "bias": jnp.full(4, 50.0)}
    params["shift"] = {"kernel": jnp.zeros((3, 3, 8, 2)), "bias": jnp.zeros(2)}
    np.testing.assert_allclose(decode({"params": params}, x, portrait, still).rgb[1], portrait[0], atol=1e-6)
    params["shift"]["bias"] = jnp.array([1.0, 0.0])  # one cell of the network's finest features, which is two pixels
    shown = decode({"params": params}, x, portrait, still).rgb
    held = 6 if cubic else 0  # pixels at the right edge, HELD of the half side and the two
    np.testing.assert_allclose(shown[1, :, : -2 - held], portrait[0, :, 2 : 32 - held], atol=2e-5)
    use = decode({"params": params}, x, portrait, still).portrait
    moved = jnp.broadcast_to(jnp.array([2 / 16, 0.0]), (2, 16, 16, 2))
    np.testing.assert_allclose(use.places, moved)
    np.testing.assert_array_equal(use.places_coarse, still)
    np.testing.assert_allclose(use.kept, 48.0)
    params["shift"]["bias"] = jnp.array([0.0, -1.0])
    higher = decode({"params": params}, x, portrait, still).matte
    params["shift"]["bias"] = jnp.array([0.0, 1.0])
    lower = decode({"params": params}, x, portrait, still).matte
    np.testing.assert_array_equal(higher[:, 2:], lower[:, 2:])
    assert higher[:, 0].max() == 0 and 0 < higher[:, 1].max() < lower[:, 1].max() and lower[:, 0].min() > 0


def test_kept_pixels_have_the_portraits_detail():
    """Stripes finer than the network's images: kept as they are, moved by one of their own pixels, painted without."""
    net = ImageNet2D(width=8, blocks=0, up_widths=(8,), shuffle=2, pixel_blocks=1, cubic_pixels=True, groups=4)
    x, still, small = jax.random.normal(jax.random.key(0), (2, 8, 8, 8)), jnp.zeros((2, 8, 8, 2)), pictures(1, 32)
    detail = jnp.clip(jnp.repeat(jnp.repeat(small, 2, 1), 2, 2) + 0.2 * (-1.0) ** jnp.arange(64)[:, None], 0, 1)
    params = random_params(net.init, x, small, still)["params"]
    params["shift"] = {"kernel": jnp.zeros((3, 3, 8, 2)), "bias": jnp.zeros(2)}
    params["keep"] = {"kernel": jnp.zeros((3, 3, 8, 4)), "bias": jnp.full(4, 50.0)}
    decode = jax.jit(net.apply)
    kept = decode({"params": params}, x, small, still, detail)
    assert kept.rgb.shape == (2, 64, 64, 3) and kept.matte.shape == (2, 64, 64, 1)
    np.testing.assert_allclose(kept.rgb[1], detail[0], atol=1e-6)
    params["shift"]["bias"] = jnp.array([0.25, 0.0])  # of a cell, which is four pixels
    moved = decode({"params": params}, x, small, still, detail).rgb
    held = 12  # pixels at the right edge, HELD of the half side and a cell
    np.testing.assert_allclose(moved[0, :, : -1 - held], detail[0, :, 1:-held], atol=2e-5)
    params["shift"]["bias"], params["keep"]["bias"] = jnp.zeros(2), jnp.full(4, -50.0)
    painted = decode({"params": params}, x, small, still, detail)
    coarse = decode({"params": params}, x, small, still)
    np.testing.assert_allclose(painted.rgb, resized(coarse.rgb, 64), atol=1e-6)


def test_no_streaks_beyond_the_portrait():
    """Upright stripes, lifted by a quarter: below their end is their mean colour, above it they are themselves."""
    stripes = jnp.broadcast_to((jnp.arange(64) % 2.0)[None, :, None], (1, 64, 64, 3))
    lifted = jnp.broadcast_to(jnp.array([0.0, 0.5]), (1, SIDE, SIDE, 2))
    assert moved_pixels(stripes, lifted, cubic=True)[0, -8:].std() > 0.4
    share = beyond_share(lifted, 64)[0, ..., 0]
    assert (share[:48] == 0).all() and (share[-12:] == 1).all() and (jnp.diff(share, axis=0) >= 0).all()
    np.testing.assert_allclose(blurred(stripes, lifted, 64)[0, -8:], 0.5, atol=1e-6)


@pytest.mark.parametrize("moved", [(0.1, 0.08), (-0.1, 0.3), (0.6, -0.2), (0.0, 0.9)])
def test_a_body_that_comes_in_over_an_edge_is_held_there(moved):
    moved = jnp.broadcast_to(jnp.array(moved), (1, SIZE, SIZE, 2))
    grid = geometry.pixel_grid(SIZE, SIZE)
    held, places = held_at_edges(moved), grid + held_at_edges(moved)
    assert jnp.abs(places[..., 0]).max() <= 1.0 and places[..., 1].max() <= 1.0
    # Order is kept: no pixel is shown twice, or before its neighbour.
    assert (jnp.diff(places[..., 0], axis=2) > 0).all() and (jnp.diff(places[..., 1], axis=1) > 0).all()
    # Far enough inside, and at edges that nothing comes in over, everything moves as it was told.
    reach = jnp.maximum(HELD, 1.5 * jnp.abs(moved))
    free_x = jnp.where(moved[..., 0] > 0, 1 - grid[..., 0], 1 + grid[..., 0]) >= reach[..., 0]
    free_y = (moved[..., 1] <= 0) | (1 - grid[..., 1] >= reach[..., 1])
    np.testing.assert_array_equal(jnp.where(free_x, held[..., 0], 0), jnp.where(free_x, moved[..., 0], 0))
    np.testing.assert_array_equal(jnp.where(free_y, held[..., 1], 0), jnp.where(free_y, moved[..., 1], 0))


def test_the_lowest_row_is_not_repeated():
    noise = jnp.asarray(np.random.default_rng(0).random((1, 64, 64, 3)), jnp.float32)
    lifted = jnp.broadcast_to(jnp.array([0.0, 0.15]), (1, 64, 64, 2))  # 4.8 pixels
    repeated, held = (moved_pixels(noise, places, cubic=True)[0] for places in (lifted, held_at_edges(lifted)))
    changes = [jnp.abs(jnp.diff(rows[-4:], axis=0)).mean((1, 2)) for rows in (repeated, held)]
    assert changes[0].max() < 1e-6 and changes[1].min() > 0.01
    np.testing.assert_array_equal(held[:55], repeated[:55])


@pytest.mark.parametrize("finer", [False, True])
def test_what_is_kept_from_above_the_portrait_is_blurred(finer):
    net = ImageNet2D(8, 0, (8,), shuffle=2, pixel_blocks=1, cubic_pixels=True, groups=4)
    portrait, lowered = pictures(1), jnp.broadcast_to(jnp.array([0.0, -0.5]), (1, SIDE, SIDE, 2))
    detail = resized(portrait, 2 * portrait.shape[1]) if finer else None
    x = jnp.zeros((1, SIDE, SIDE, 8))
    params = random_params(net.init, x, portrait, lowered)["params"]
    params["shift"] = jax.tree.map(jnp.zeros_like, params["shift"])
    params["keep"] = {"kernel": jnp.zeros((3, 3, 8, 4)), "bias": jnp.full(4, 50.0)}
    rgb = jax.jit(net.apply)({"params": params}, x, portrait, lowered, detail).rgb
    size, finest = rgb.shape[1], portrait if detail is None else detail
    np.testing.assert_allclose(rgb[0, size // 4], finest[0, 0], atol=1e-6)
    np.testing.assert_allclose(rgb[0, :8], blurred(portrait, lowered, size)[0, :8], atol=1e-6)


def test_a_decoder_that_sees_no_pixels_takes_no_detail():
    _, decoder = face_codec(PLAIN)
    channels, depth, side = decoder.volume
    volume, identity = jnp.zeros((1, depth, side, side, channels)), jnp.zeros((1, 4, 4, decoder.embedding_width))
    with pytest.raises(ValueError, match="detail"):
        decoder.apply({}, volume, identity, POSE, jnp.zeros((1, 128)), detail=pictures(1))


@pytest.mark.long
def test_a_trained_codec_may_begin_to_see_the_pixels():
    """With the weights of a codec that does not see them, it paints the same and mixes an eighth of them in."""
    (encoder, decoder), params = face_codec(SEEN_ONCE), init_face(jax.random.key(0), SEEN_ONCE)
    image, poses = pictures(2, LEAST_SIZE), jnp.repeat(POSE, 2, 0)
    codes = jax.random.normal(jax.random.key(1), (2, 128))
    encode = jax.jit(partial(encoder.apply, method="encode_appearance"))
    latents, identity = encode({"params": params["encoder"]}, image, poses, codes)
    # Not compiled: fused otherwise, the two programs would round otherwise.
    picture = decoder.apply({"params": params["decoder"]}, latents, identity, poses, codes)
    known = {n: x for n, x in flatten_dict(params["decoder"]).items() if not {"pixels", "merge", "keep"} & set(n)}
    _, plain = face_codec(PLAIN)
    painted = plain.apply({"params": unflatten_dict(known)}, latents.volume, identity, poses, codes)
    np.testing.assert_array_equal(picture.matte, painted.matte)
    mixed = 1 / (1 + np.exp(2.0))
    pixels = (picture.rgb - (1 - mixed) * painted.rgb) / mixed
    assert pixels.min() > -1e-4 and pixels.max() < 1 + 1e-4 and pixels.std() > 0.05


@pytest.mark.parametrize("portraits", [1, 2])
def test_few_portraits_are_driven_as_many_are(portraits):
    _, decoder = face_codec(LEAST)
    codes = 0.3 * jax.random.normal(jax.random.key(1), (4, 128))
    poses = jnp.repeat(POSE, 4, 0).at[:, 7].set(jnp.array([0.0, 0.2, -0.1, 0.1]))

    depth, side, channels = (decoder.volume[i] for i in (1, 2, 0))
    keys = jax.random.split(jax.random.key(2), 4)
    volume, warp = (jax.random.normal(key, (portraits, depth, side, side, n)) for key, n in zip(keys, (channels, 3)))
    identity = jax.random.normal(keys[2], (portraits, 4, 4, decoder.embedding_width))
    own = jnp.repeat(POSE, portraits, 0) + 0.1 * jax.random.normal(keys[3], (portraits, 9))
    portrait = Appearance(volume, pictures(portraits, LEAST_SIZE), 0.1 * warp, own), identity
    params = random_params(decoder.init, *portrait, poses, codes)

    @jax.jit
    def drive(params, portrait):
        return decoder.apply(params, *portrait, poses, codes)

    many = drive(params, jax.tree.map(lambda leaf: jnp.repeat(leaf, 4 // portraits, 0), portrait))
    for name, few in zip(("rgb", "matte"), drive(params, portrait)):
        np.testing.assert_allclose(few, getattr(many, name), atol=1e-4)
