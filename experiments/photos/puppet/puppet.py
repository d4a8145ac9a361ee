"""Draws a puppet: (its arrays from fit.Builder, motion, head pose) -> picture, matte, segmentation (JAX)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vasa_jax.data.synthetic.shading import SEGMENTS
from vasa_jax.models.geometry import pose_matrix

import topology as T
from express import Expression, gaze_shift
from fit import CANVAS, EYE_HALF, EYE_PATCH, IRIS_PATCH, IRIS_REACH, MOUTH_BOX, MOUTH_PATCH, REACH
from raster import rasterise

PIVOT = (0.0, 0.45, 0.36)  # where the head sits on the neck, canonical
RING_FOLLOW = (0.85, 0.6, 0.38, 0.2, 0.08, 0.0, 0.0, 0.0, 0.0)  # share of the oval's expression that each ring takes
_SEGMENT = {name: SEGMENTS.index(name) for name in SEGMENTS}


def bilinear(image, x, y):
    """image (h, w, c) uint8 at pixel positions x, y (centres at integers), float32; its edge is repeated."""
    h, w = image.shape[:2]
    x, y = jnp.clip(x, 0.0, w - 1.0), jnp.clip(y, 0.0, h - 1.0)
    x0, y0 = jnp.minimum(jnp.floor(x), w - 2.0), jnp.minimum(jnp.floor(y), h - 2.0)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    base = (y0 * w + x0).astype(jnp.int32)
    table = image.reshape(h * w, -1)
    a, b, c, d = (table[base + o].astype(jnp.float32) for o in (0, 1, w, w + 1))
    return (a * (1 - fx) + b * fx) * (1 - fy) + (c * (1 - fx) + d * fx) * fy


LID, UNKNOWN = 12, 255  # beside SEGMENTS: skin about an eye; a part of the person that the photograph does not show


def eye_zone(corners, size):
    """corners (2, 2, 2) of both eyes in image coordinates -> where lids and eyes are, (size, size)."""
    axis = (jnp.arange(size) * 2.0 + 1.0) / size - 1.0
    x, y = jnp.meshgrid(axis, axis)
    inside = jnp.zeros((size, size), bool)
    for eye in range(2):
        a, b = corners[eye, 0], corners[eye, 1]
        middle, d = 0.5 * (a + b), b - a
        w = jnp.maximum((d * d).sum(), 1e-6)
        along = ((x - middle[0]) * d[0] + (y - middle[1]) * d[1]) / w
        across = ((y - middle[1]) * d[0] - (x - middle[0]) * d[1]) / w
        inside |= jnp.square(along / 0.65) + jnp.square(across / 0.42) < 1.0
    return inside


def step(low, high, x):
    t = jnp.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


class Renderer:
    def __init__(self, mesh, size: int = 256, supersample: int = 2, tile: int = 16, slots: int = 80):
        self.express = Expression(mesh)
        self.triangles = jnp.asarray(mesh["triangles"])
        self.material = jnp.asarray(mesh["material"])
        self.size, self.fine, self.tile, self.slots = size, size * supersample, tile, slots
        self.supersample = supersample

    def vertices(self, p, motion, pose):
        """(V, 3) in image coordinates, z into the scene."""
        face = self.express(p["rest"], motion)
        moved = face - p["rest"]
        n = len(T.OVAL)
        oval = moved[jnp.array(T.OVAL)]
        rings = p["rings"] + jnp.concatenate([oval * follow for follow in RING_FOLLOW])
        head = jnp.concatenate([face, rings])
        weight = jnp.concatenate([jnp.ones(T.FACE), p["ring_weight"]])[:, None]
        rotation, scale, shift = pose_matrix(pose)
        rotation0, scale0, shift0 = pose_matrix(p["pose"])

        def place(points, rotation, scale, shift):
            return scale * points @ rotation.T + shift

        turned = place(head, rotation, scale, shift)
        source = place(head, rotation0, scale0, shift0)
        pivot = jnp.asarray(PIVOT)
        body = place(pivot, rotation, scale, shift) + scale / scale0 * (source - place(pivot, rotation0, scale0, shift0))
        outside = weight * turned + (1 - weight) * body
        behind = jnp.concatenate([p["eye_grid"].reshape(-1, 3), p["mouth_grid"]])
        return jnp.concatenate([outside, place(behind, rotation, scale, shift)]), face

    def frame(self, p, motion, pose):
        points, face = self.vertices(p, motion, pose)
        corners = points[jnp.array(T.CORNERS), :2]  # eye, outer and inner
        fine = self.fine
        pixels = (points[:, :2] + 1.0) * fine / 2.0
        eyes = T.EYE_GRID[0] * T.EYE_GRID[1]
        local = jnp.concatenate([p["uv"], p["eye_local"].reshape(2 * eyes, 2), p["mouth_local"]])
        # What is behind the holes of the mesh loses against skin wherever the two come close.
        bias = jnp.concatenate([jnp.zeros(T.FACE + p["rings"].shape[0]), jnp.full(2 * eyes, 0.06),
                                jnp.full(p["mouth_grid"].shape[0], 0.3)])
        index, seen, most = rasterise(pixels, points[:, 2] + bias, local, self.triangles, fine, self.tile, self.slots)
        material = jnp.where(index >= 0, self.material[index], -1)
        u, v = seen[..., 0], seen[..., 1]

        def canvas(x):
            return (x / REACH + 1.0) * CANVAS / 2.0 - 0.5

        skin = bilinear(p["texture"], canvas(u), canvas(v))
        alpha = skin[..., 3] / 255.0
        colour = skin[..., :3]
        for side in range(2):
            shown = self._eye(jax.tree.map(lambda x: x[side], {k: p[k] for k in (
                "eye_white", "iris", "iris_radius", "eye_width")}), motion, u, v)
            colour = jnp.where((material == T.EYE_LEFT + side)[..., None], shown, colour)
        inside, part = self._mouth(p, motion, face, u, v)
        colour = jnp.where((material == T.MOUTH)[..., None], inside, colour)
        alpha = jnp.where(material >= T.EYE_LEFT, 1.0, jnp.where(material < 0, 0.0, alpha))
        skin_like = (material >= 0) & (material < T.EYE_LEFT)
        b = p["bounds"]
        outside = (u < b[0]) | (u > b[2]) | (v < b[1])
        beyond = skin_like & ((u < b[0]) | (u > b[2]) | (v < b[1]) | (v > b[3]))
        unknown = beyond & (alpha > 0.02)
        alpha = jnp.where(skin_like & outside, 0.0, alpha)  # hair that the picture's edge cuts ends there
        names = jnp.asarray([_SEGMENT["skin"], _SEGMENT["lip"], _SEGMENT["brow"], _SEGMENT["sclera"], _SEGMENT["sclera"],
                             _SEGMENT["mouth"]])
        segment = jnp.where(alpha < 0.5, 0, names[jnp.maximum(material, 0)])

        def shrink(x):
            s = self.supersample
            x = x.reshape(self.size, s, self.size, s, *x.shape[2:])
            return x.mean((1, 3))

        matte = shrink(alpha)
        background = p["background"].astype(jnp.float32)
        rgb = shrink(alpha[..., None] * colour) + (1.0 - matte[..., None]) * background
        s = self.supersample
        segment = segment[::s, ::s]
        segment = jnp.where(eye_zone(corners, self.size) & (segment == _SEGMENT["skin"]), LID, segment)
        segment = jnp.where(shrink(unknown.astype(jnp.float32)) > 0, UNKNOWN, segment)
        place, label = self._places(u, v, skin_like & (alpha > 0.92) & ~beyond, (material == T.MOUTH) & (part[..., 0] < 0.2))
        return {"rgb": rgb, "matte": matte, "segmentation": segment.astype(jnp.uint8), "most": most,
                "place": place, "label": label}

    def _places(self, u, v, copied, painted):
        """Where in the photograph each cell of half the side shows (displacement), and 1 = there, 2 = nowhere, 0 = unknown."""
        n, cell = self.size // 2, 2 * self.supersample
        first = cell // 2 - 1

        def four(x):
            x = x.reshape(n, cell, n, cell)[:, first:first + 2, :, first:first + 2]
            return x.transpose(0, 2, 1, 3).reshape(n, n, 4)

        axis = (jnp.arange(n) * 2.0 + 1.0) / n - 1.0
        uu, vv = four(u), four(v)
        smooth = (uu.max(-1) - uu.min(-1) < 0.03) & (vv.max(-1) - vv.min(-1) < 0.03)
        place = jnp.stack([uu.mean(-1) - axis[None, :], vv.mean(-1) - axis[:, None]], -1)
        label = jnp.where(four(copied).all(-1) & smooth, 1, jnp.where(four(painted).all(-1), 2, 0))
        place = jnp.where((label == 1)[..., None], place, 0.0)
        return place.astype(jnp.float16), label.astype(jnp.uint8)

    def _eye(self, e, motion, u, v):
        h, w = EYE_PATCH
        white = bilinear(e["eye_white"], (u + 1) / 2 * w - 0.5, (v + 1) / 2 * h - 0.5)
        shift = gaze_shift(motion) + jnp.asarray([0.0, -0.03])
        dx = (u * EYE_HALF[0] - shift[0]) / e["iris_radius"]
        dy = (v * EYE_HALF[1] - shift[1]) / e["iris_radius"]
        # An iris that looks aside is narrower.
        dx = dx / jnp.maximum(jnp.cos(motion["gaze_yaw"]), 0.7)
        n = IRIS_PATCH
        disc = bilinear(e["iris"], (dx / IRIS_REACH + 1) / 2 * n - 0.5, (dy / IRIS_REACH + 1) / 2 * n - 0.5)
        share = 1.0 - step(0.9, 1.12, jnp.hypot(dx, dy))[..., None]
        return share * disc + (1 - share) * white

    def _mouth(self, p, motion, face, u, v):
        """Cavity, tongue and teeth at mouth coordinates u, v (over the mouth's half width; v down from the closed lips)."""
        style = p["mouth_style"]
        teeth, skin, pitch, edge, crowd = style[:3] * 255.0, style[3:6] * 255.0, style[6], style[7], style[8]
        half = p["mouth_half"]
        drop = (face[14, 1] - p["rest"][14, 1]) / half  # of the lower lip
        jaw = 0.75 * drop
        warm = skin / jnp.maximum(skin.max(), 1.0)
        level = skin.mean() / 255.0
        depth = jnp.clip(1.0 - jnp.abs(u) * 0.7, 0.0, 1.0)
        cavity = jnp.asarray([70.0, 26.0, 24.0]) * (0.35 + 0.6 * level) * warm * (0.35 + 0.65 * depth)[..., None]
        tongue_top = jaw * 0.62 + 0.06 - 0.22 * motion["tongue"] + 0.55 * u * u
        tongue = step(0.0, 0.12, v - tongue_top)[..., None]
        tongue_colour = jnp.asarray([185.0, 95.0, 92.0]) * (0.3 + 0.75 * level) * warm
        tongue_colour = tongue_colour * (0.45 + 0.55 * jnp.clip((v - tongue_top) * 2.5, 0, 1))[..., None]
        colour = (1 - tongue) * cavity + tongue * tongue_colour

        def row(colour, top, bottom, u, width, round_at_bottom):
            phase = u / width
            place = phase - jnp.floor(phase)  # 0..1 across one tooth
            across = jnp.abs(place - 0.5) * 2
            number = jnp.abs(jnp.floor(phase) + 0.5)
            curve = 0.05 * u * u
            rounding = 0.035 * across**4
            shrink = 0.02 * jnp.abs(jnp.floor(number) - 0.5)
            high, low = top + (0 if round_at_bottom else 1) * (rounding + shrink) + curve, (
                bottom - (1 if round_at_bottom else 0) * (rounding + shrink) - curve)
            inside = step(0.0, 0.03, v - high) * step(0.0, 0.03, low - v) * step(0.0, 0.08, 0.86 - jnp.abs(u))
            gap = 1.0 - 0.35 * crowd * step(0.82, 1.0, across)
            light = gap * (1.0 - 0.55 * jnp.clip(jnp.abs(u), 0, 1) ** 2.2)
            shown = teeth * light[..., None]
            return inside[..., None] * shown + (1 - inside[..., None]) * colour

        colour = row(colour, jaw + 0.02, jaw + 0.40, u, pitch * 0.72, False)
        gum = step(0.0, 0.05, -0.28 - v)[..., None]
        colour = row(colour, -0.6, edge + 0.10, u, pitch, True)
        colour = (1 - gum) * colour + gum * jnp.asarray([165.0, 85.0, 80.0]) * (0.3 + 0.7 * level) * warm
        # Lips shade what is behind them: the upper lip from above.
        upper = (face[13, 1] - p["rest"][13, 1]) / half
        shade = 0.55 + 0.45 * step(0.0, 0.22, v - upper + 0.02)
        lower = 0.7 + 0.3 * step(0.0, 0.12, drop - v)
        colour = colour * (shade * lower)[..., None]
        x0, x1, y0, y1 = MOUTH_BOX
        n = MOUTH_PATCH
        seen = bilinear(p["mouth_seen"], (u - x0) / (x1 - x0) * n - 0.5, (v - y0) / (y1 - y0) * n - 0.5)
        own = seen[..., 3:] / 255.0
        return own * seen[..., :3] + (1 - own) * colour, own


def pose_of(yaw, pitch, roll, log_scale=0.0, tx=0.0, ty=0.0):
    """Pose (9,) from angles in radians: the nose to image right, down, and clockwise."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    r = turn @ nod @ tilt
    return np.concatenate([r[:, 0], r[:, 1], [log_scale, tx, ty]]).astype(np.float32)
