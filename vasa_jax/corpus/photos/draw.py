"""Draws a photo head in a motion and a pose, with exact truth: picture, matte, segmentation, places (JAX)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from vasa_jax.conventions import SEGMENTS
from vasa_jax.corpus.photos import topology as T
from vasa_jax.corpus.photos.expression import Expression, Motion, gaze_shift
from vasa_jax.corpus.photos.eyes import HALF_HEIGHT, HALF_WIDTH, IRIS_PATCH, IRIS_REACH, WHITE_PATCH
from vasa_jax.corpus.photos.framing import CANVAS, REACH
from vasa_jax.corpus.photos.inner_mouth import inner_mouth, mouth_opening
from vasa_jax.corpus.photos.lashes import lash_shade
from vasa_jax.corpus.photos.raster import rasterise
from vasa_jax.corpus.photos.texture import bilinear, step
from vasa_jax.models.geometry import pose_matrix
from vasa_jax.models.portrait_pixels import CELLS, FADE

NECK = (0.0, 0.45, 0.36)  # where the head sits on the neck, canonical
RING_FOLLOW = (0.85, 0.6, 0.38, 0.2, 0.08, 0.0, 0.0, 0.0, 0.0)  # share of the oval's expression that each ring takes
EYES_BACK, MOUTH_BACK = 0.06, 0.3  # depth by which what lies behind the mesh's holes loses against skin
LID = len(SEGMENTS)  # beside SEGMENTS: skin about an eye
COPIED, PAINTED = 1, 2  # kinds of places: seen in the photograph; nowhere in it. 0: not told
LID_ZONE = 0.65, 0.42  # half axes of the ellipse about an eye, over its width
CELLS_OF_CANVAS = round(CELLS * REACH)  # a side, as large as the decoder's
TILES, SLOTS = 32, 80  # along each side; triangles in one of them, of which 72 were seen at most
_SEGMENT = {name: SEGMENTS.index(name) for name in SEGMENTS}

Head = Mapping[str, Array]


class PhotoFrame(NamedTuple):
    """One frame of a photo head; n pixels a side."""

    rgb: Float[Array, "n n 3"]  # over the photograph's background, 0 to 255
    matte: Float[Array, "n n"]
    segmentation: UInt8[Array, "n n"]  # into SEGMENTS, LID
    moved: Float[Array, "n/2 n/2 2"]  # where COPIED cells lie in the photograph, as displacements in image coordinates
    kind: UInt8[Array, "n/2 n/2"]  # COPIED, PAINTED or 0


class PhotoRenderer:
    """Draws photo heads of one mesh; `draw` is a pure function for jit and vmap."""

    def __init__(self, mesh: T.Mesh, size: int = 256, supersample: int = 2):
        self._express = Expression(mesh)
        self._triangles, self._material = jnp.asarray(mesh.triangles), jnp.asarray(mesh.material)
        self._size, self._supersample = size, supersample

    def draw(self, head: Head, motion: Motion, pose: Float[Array, "9"]) -> PhotoFrame:
        """Draws a head in a motion and a pose.

        Args:
          head: arrays of `build.Builder`.
          motion: the 27 scalars of `muscles`.
          pose: as the codec has it.
        """
        points, face = self._vertices(head, motion, pose)
        fine = self._size * self._supersample
        pixels = (points[:, :2] + 1.0) * fine / 2.0
        raster = rasterise(
            pixels,
            points[:, 2] + self._set_back(head),
            jnp.concatenate([head["uv"], head["eye_local"].reshape(-1, 2), head["mouth_local"]]),
            self._triangles, fine, fine // TILES, SLOTS,
            # The patch behind the lips is flat and wide: beside a jaw that opens it would stand out.
            self._material == T.MOUTH, mouth_opening(pixels, fine),
        )  # fmt: skip
        drawn = raster.triangle >= 0
        material = jnp.where(drawn, self._material[raster.triangle], -1)
        u, v = raster.values[..., 0], raster.values[..., 1]
        skin = bilinear(head["texture"], _canvas(u), _canvas(v))
        lashes = lash_shade(points[:, :2], motion, fine)
        colour, alpha = skin[..., :3] * lashes[..., None], skin[..., 3] / 255.0
        for side in range(2):
            eye = {name: head[name][side] for name in ("eye_white", "iris", "iris_radius")}
            colour = jnp.where((material == T.EYE_LEFT + side)[..., None], eye_colours(eye, motion, u, v), colour)
        inside, own = inner_mouth(head, motion, face, u, v)
        colour = jnp.where((material == T.MOUTH)[..., None], inside, colour)
        on_skin = drawn & (material < T.EYE_LEFT)
        alpha = jnp.where(on_skin, alpha, drawn.astype(jnp.float32))
        left, top, right, bottom = head["bounds"]
        beyond = jnp.maximum(jnp.maximum(left - u, u - right), v - bottom)  # the photograph; image coordinates
        colour = jnp.where(on_skin[..., None], _gone_on(head["texture"], colour, u, v, beyond), colour)
        alpha = jnp.where(on_skin & (v < top), 0.0, alpha)  # hair that the photograph's edge cuts ends there
        matte = self._shrunk(alpha)
        behind = head["background"].astype(jnp.float32)
        if behind.shape[0] != self._size:
            behind = jax.image.resize(behind, (self._size, self._size, 3), "linear")
        rgb = self._shrunk(alpha[..., None] * colour) + (1.0 - matte[..., None]) * behind
        segment = self._segment(material, alpha, points[jnp.array(T.EYE_CORNERS), :2])
        copied = on_skin & (alpha > 0.92) & (beyond <= 0.0) & (lashes > 0.97)
        painted = ((material == T.MOUTH) & (own < 0.2)) | (on_skin & (lashes < 0.85))
        return PhotoFrame(rgb, matte, segment, *self._places(u, v, copied, painted))

    def _vertices(self, head: Head, motion: Motion, pose: Array) -> tuple[Float[Array, "V 3"], Float[Array, "468 3"]]:
        """All vertices in image coordinates, z into the scene, and the face in canonical ones."""
        face = self._express(head["rest"], motion)
        oval = (face - head["rest"])[jnp.array(T.OVAL)]
        rings = head["rings"] + jnp.concatenate([oval * follow for follow in RING_FOLLOW])
        canonical = jnp.concatenate([face, rings])
        weight = jnp.concatenate([jnp.ones(T.FACE_POINTS), head["ring_weight"]])[:, None]
        now, then = pose_matrix(pose), pose_matrix(head["pose"])

        def placed(points, rotation, scale, shift):
            return scale * (points[:, None, :] * rotation).sum(-1) + shift

        neck = jnp.asarray([NECK])
        # The body keeps the photograph's turn and follows the neck.
        growth = now[1] / then[1]
        body = placed(neck, *now) + growth * (placed(canonical, *then) - placed(neck, *then))
        outside = weight * placed(canonical, *now) + (1 - weight) * body
        behind = jnp.concatenate([head["eye_grid"].reshape(-1, 3), head["mouth_grid"]])
        return jnp.concatenate([outside, placed(behind, *now)]), face

    def _set_back(self, head: Head) -> Float[Array, "V"]:
        outside, eyes = T.FACE_POINTS + head["rings"].shape[0], head["eye_grid"].reshape(-1, 3).shape[0]
        mouth = head["mouth_grid"].shape[0]
        return jnp.concatenate([jnp.zeros(outside), jnp.full(eyes, EYES_BACK), jnp.full(mouth, MOUTH_BACK)])

    def _shrunk(self, x: Array) -> Array:
        """Means over the samples of each pixel."""
        s = self._supersample
        return x.reshape(self._size, s, self._size, s, *x.shape[2:]).mean((1, 3))

    def _segment(self, material, alpha, corners) -> UInt8[Array, "n n"]:
        names = ("skin", "lip", "brow", "sclera", "sclera", "mouth")  # by material
        segment = jnp.asarray([_SEGMENT[name] for name in names])[jnp.maximum(material, 0)]
        segment = jnp.where(alpha < 0.5, 0, segment)[:: self._supersample, :: self._supersample]
        segment = jnp.where(lid_zone(corners, self._size) & (segment == _SEGMENT["skin"]), LID, segment)
        return segment.astype(jnp.uint8)

    def _places(self, u, v, copied, painted) -> tuple[Array, Array]:
        """`moved` and `kind` of cells of two pixels a side, told by the four samples about each cell's middle."""
        n, cell = self._size // 2, 2 * self._supersample
        first = cell // 2 - 1

        def middle(x):
            x = x.reshape(n, cell, n, cell)[:, first : first + 2, :, first : first + 2]
            return x.transpose(0, 2, 1, 3).reshape(n, n, 4)

        u, v = middle(u), middle(v)
        smooth = (jnp.ptp(u, axis=-1) < 0.03) & (jnp.ptp(v, axis=-1) < 0.03)
        kind = jnp.where(middle(copied).all(-1) & smooth, COPIED, jnp.where(middle(painted).all(-1), PAINTED, 0))
        axis = (jnp.arange(n) * 2.0 + 1.0) / n - 1.0
        moved = jnp.stack([u.mean(-1) - axis[None, :], v.mean(-1) - axis[:, None]], -1)
        return jnp.where((kind == COPIED)[..., None], moved, 0.0), kind.astype(jnp.uint8)


def lid_zone(corners: Float[Array, "2 2 2"], size: int) -> Array:
    """Tells which of size x size pixels are about an eye; `corners`: of each eye the outer and the inner, xy."""
    axis = (jnp.arange(size) * 2.0 + 1.0) / size - 1.0
    x, y = jnp.meshgrid(axis, axis)
    inside = jnp.zeros((size, size), bool)
    for outer, inner in corners:
        middle, across = 0.5 * (outer + inner), inner - outer
        square = jnp.maximum(jnp.square(across).sum(), 1e-6)
        dx, dy = x - middle[0], y - middle[1]
        along, over = (dx * across[0] + dy * across[1]) / square, (dy * across[0] - dx * across[1]) / square
        inside |= jnp.square(along / LID_ZONE[0]) + jnp.square(over / LID_ZONE[1]) < 1.0
    return inside


def _gone_on(texture: Array, colour: Array, u: Array, v: Array, beyond: Array) -> Float[Array, "h w 3"]:
    """Returns colours `beyond` the photograph's edge, where it is fainter and fainter itself and more its means."""
    cell = CANVAS // CELLS_OF_CANVAS
    means = texture[..., :3].astype(jnp.float32).reshape(CELLS_OF_CANVAS, cell, CELLS_OF_CANVAS, cell, 3).mean((1, 3))
    share = jnp.clip(beyond / FADE, 0.0, 1.0)[..., None]
    rough = bilinear(means, *((_canvas(x) + 0.5) / cell - 0.5 for x in (u, v)))
    return share * rough + (1.0 - share) * colour


def _canvas(x: Array) -> Array:
    return (x / REACH + 1.0) * CANVAS / 2.0 - 0.5


def eye_colours(eye: Head, motion: Motion, u: Array, v: Array) -> Float[Array, "h w 3"]:
    """Returns the colours, 0 to 255, of an eye at places u, v of its patch; an iris that looks aside is narrower."""
    height, width = WHITE_PATCH
    white = bilinear(eye["eye_white"], (u + 1) / 2 * width - 0.5, (v + 1) / 2 * height - 0.5)
    shift = gaze_shift(motion) + jnp.asarray([0.0, -0.03])
    dx = (u * HALF_WIDTH - shift[0]) / eye["iris_radius"] / jnp.maximum(jnp.cos(motion["gaze_yaw"]), 0.7)
    dy = (v * HALF_HEIGHT - shift[1]) / eye["iris_radius"]
    disc = bilinear(eye["iris"], *((d / IRIS_REACH + 1) / 2 * IRIS_PATCH - 0.5 for d in (dx, dy)))
    share = 1.0 - step(0.9, 1.12, jnp.hypot(dx, dy))[..., None]
    return share * disc + (1 - share) * white
