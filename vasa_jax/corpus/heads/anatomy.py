"""The constants of one frame: where each part of this head is under this motion.

Head space: x image right, y up, z out of the face, origin in the middle of the skull, one unit about 10 cm. World
space: the same axes, fixed to the camera. Everything here is a scalar per frame, so it costs nothing next to the
per-point work.
Shapes are tuples ready for sdf.py: ellipsoid = (centre, radii), sphere = (centre, radius).
"""

from __future__ import annotations

from types import SimpleNamespace

import jax.numpy as jnp

from vasa_jax.corpus.heads.camera import Camera
from vasa_jax.corpus.heads.identity import STYLE_FIELDS, STYLE_NAMES, STYLE_TABLE
from vasa_jax.corpus.heads.sdf import mix, rotate, rotate_back, rotation

HEAD_CENTRE = (0.0, 0.05, 0.30)  # where the canonical frame has its origin
PIVOT = (0.0, -0.55, -0.22)  # the head turns about the top of the neck
SOCKET_CLEARANCE = 0.024  # thickness of the lids over the eyeball
# Child-like proportions at youth = 1, relative.
_YOUTH = {
    "eye_size": 0.12, "nose_len": -0.16, "face_len": -0.05, "nose_bridge": -0.15, "brow_ridge": -0.5, "skull_h": 0.03,
    "skull_w": 0.03, "lip_up": 0.1, "neck_w": -0.12, "jaw_w": -0.10, "cheek": 0.15, "chin_w": -0.1,
}  # fmt: skip


def build_anatomy(identity: dict, motion: dict) -> SimpleNamespace:
    """Computes constants of one frame (scalars, no batch axis) from identity's and motion's dicts, and its camera."""
    youth = jnp.clip(identity["youth"], 0.0, 1.0)
    shape = {k: v * (1.0 + _YOUTH[k] * youth) if k in _YOUTH else v for k, v in identity.items()}
    a = SimpleNamespace(identity=identity, motion=motion, shape=shape, seed=identity["seed"])
    _place_head(a)
    a.camera = Camera.through(identity["lens"], motion["dist"], head_to_world(a, HEAD_CENTRE)[2])
    _build_skull(a)
    _build_jaw(a)
    _build_eyes(a)
    _build_nose(a)
    _build_mouth(a)
    _build_body(a)
    _build_hair(a)
    _build_brows_and_glasses(a)
    azimuth, elevation = shape["key_az"], shape["key_el"]
    a.key_light = (
        jnp.sin(azimuth) * jnp.cos(elevation),
        jnp.sin(elevation),
        jnp.cos(azimuth) * jnp.cos(elevation),
    )
    a.rim_light = (-jnp.sign(azimuth + 1e-3) * 0.80, 0.35, -0.48)
    return a


def head_to_world(a: SimpleNamespace, p: tuple) -> tuple:
    """Moves points of the head to world space: turned about the neck's pivot and shifted."""
    turned = rotate(a.rotation, tuple(v - c for v, c in zip(p, PIVOT)))
    return tuple(v + c + t for v, c, t in zip(turned, PIVOT, a.translation))


def world_to_head(a: SimpleNamespace, p: tuple) -> tuple:
    """Moves points of world space to the head's: undoes `head_to_world`."""
    back = rotate_back(a.rotation, tuple(v - c - t for v, c, t in zip(p, PIVOT, a.translation)))
    return tuple(v + c for v, c in zip(back, PIVOT))


def _place_head(a) -> None:
    m = a.motion
    a.rotation = rotation(m["yaw"], m["pitch"], m["roll"])
    a.translation = (m["tx"], m["ty"], 0.0)
    # Shoulders follow the head a little, as on a person who sits.
    a.body_rotation = rotation(0.25 * m["yaw"], 0.0 * m["yaw"], 0.08 * m["roll"])
    a.body_translation = (0.75 * m["tx"], 0.75 * m["ty"], 0.0)


def _build_skull(a) -> None:
    g, m = a.shape, a.motion
    width, length = g["face_w"], g["face_len"]
    smile = jnp.maximum(m["smile"], 0.0)
    a.cranium = ((0.0, 0.33, -0.12), (0.67 * g["skull_w"], 0.70 * g["skull_h"], 0.83 * g["skull_d"]))
    a.face = ((0.0, -0.14 * length, 0.07), (0.575 * width, 0.70 * length, 0.595))
    a.cheekbone = (
        (0.395 * width, -0.10 + 0.05 * m["cheek"] + 0.03 * m["smile"], 0.365 + 0.015 * m["cheek"]),
        (0.19 * g["cheek"], 0.15, 0.20),
    )
    a.cheek_fat = (
        (0.26 * width, -0.40 + 0.06 * smile, 0.31 + 0.03 * smile),
        (0.215 + 0.06 * g["cheek_fat"], 0.24, 0.215 + 0.04 * g["cheek_fat"]),
    )
    a.upper_lip_mound = ((0.0, -0.50 * length, 0.40), (0.30 * width, 0.20, 0.235))
    ear_out, ear_size = g["ear_out"], g["ear_size"]
    a.ear = (
        (0.655 * g["skull_w"] + 0.02 * ear_out, -0.04, -0.10),
        (0.075 + 0.03 * ear_out, 0.185 * ear_size, 0.115 * ear_size),
    )
    centre, radii = a.ear
    a.ear_hollow = (
        (centre[0] + 0.05, centre[1] + 0.01, centre[2] + 0.035),
        (0.06, radii[1] * 0.62, radii[2] * 0.55),
    )


def _build_jaw(a) -> None:
    g = a.shape
    width, length = g["face_w"], g["face_len"]
    angle = 0.34 * jnp.clip(a.motion["jaw"], 0.0, 1.2)
    c, s = jnp.cos(angle), jnp.sin(angle)
    hinge_y, hinge_z = -0.12, -0.02

    def opened(y, z):
        """Returns (y, z) after the jaw has turned about its hinge."""
        return (
            hinge_y + (y - hinge_y) * c - (z - hinge_z) * s,
            hinge_z + (y - hinge_y) * s + (z - hinge_z) * c,
        )

    a.jaw_opened = opened
    chin_y, chin_z = opened(-0.83 * length - g["chin_len"], 0.47 + g["chin_z"])
    a.jaw_start = (0.370 * (0.35 + 0.65 * g["jaw_w"]) * width, -0.41 * length + g["jaw_y"], -0.01)
    a.jaw_end = (0.08 * g["chin_w"], chin_y + 0.01, chin_z - 0.09)
    a.jaw_radii = (0.155, 0.135)
    a.chin = ((0.0, chin_y, chin_z), (0.16 * g["chin_w"], 0.12, 0.135))
    mound_y, mound_z = opened(-0.64 * length, 0.40)
    a.lower_lip_mound = ((0.0, mound_y, mound_z), (0.27 * width, 0.20, 0.22))


def _lid_heights(rest_upper, rest_lower, motion, blink):
    """Heights of the two lid edges over the eye's middle line, blink 0 open to 1 closed."""
    squint = jnp.clip(motion["squint"], 0.0, 1.0)
    smile = jnp.clip(motion["smile"], 0.0, 1.0)
    upper = rest_upper * (1.0 + 0.45 * motion["wide"] - 0.25 * squint) + 0.13 * motion["gaze_pitch"]
    lower = -rest_lower * (1.0 + 0.2 * motion["wide"] - 0.9 * squint - 0.35 * smile) + 0.05 * motion["gaze_pitch"]
    shut = lower * 0.5 - 0.022
    blink = jnp.clip(blink, 0.0, 1.0)
    # Closed lids overlap a little, so that no sliver of the eyeball is left between them.
    return mix(upper, shut - 0.004, blink), mix(lower, shut + 0.004, blink)


def _build_eyes(a) -> None:
    g, m = a.shape, a.motion
    size = g["eye_size"]
    a.eye_radius = 0.148 * size
    a.eye = (g["eye_x"], 0.055 + g["eye_y"], 0.455)
    a.eye_tilt = g["eye_tilt"]
    a.eye_half_width = 0.138 * size
    a.lid_rest = (0.066 * g["eye_open"] * size, 0.040 * g["eye_open"] * size)
    # (upper, lower) per side; the person's left eye is on the image's right, at x > 0.
    a.lids_left = _lid_heights(*a.lid_rest, m, m["blink_l"])
    a.lids_right = _lid_heights(*a.lid_rest, m, m["blink_r"])
    yaw, pitch = m["gaze_yaw"], m["gaze_pitch"]
    a.gaze = (jnp.sin(yaw) * jnp.cos(pitch), jnp.sin(pitch), jnp.cos(yaw) * jnp.cos(pitch))
    x, y, _ = a.eye
    a.socket = ((x + 0.01, y + 0.015, 0.74), (0.20, 0.145, 0.185))
    a.brow_ridge = (
        (0.235, 0.265 + 0.02 * m["brow_out"] - 0.01 * m["furrow"], 0.545),
        (0.23, 0.075, 0.10 * g["brow_ridge"]),
    )


def _build_nose(a) -> None:
    g, sneer = a.shape, a.motion["sneer"]
    y, z = -0.285 * g["nose_len"], 0.765 + g["nose_z"]
    wing = 0.104 * g["nose_w"]
    a.nose_root = (0.0, 0.14, 0.585 + 0.03 * (g["nose_bridge"] - 1.0))
    a.nose_end = (0.0, y + 0.02 + g["nose_up"], z)
    a.nose_radii = (0.066 * g["nose_bridge"], 0.074 * g["nose_tip"])
    a.nose_tip = ((0.0, y + g["nose_up"], z + 0.005), 0.082 * g["nose_tip"])
    a.nose_wing = (
        (wing, y - 0.03 + 0.02 * sneer, z - 0.080),
        (0.062 * (0.6 + 0.4 * g["nose_w"]), 0.056, 0.075),
    )
    a.nostril = ((wing * 0.60, y - 0.080 + 0.02 * sneer, z - 0.055), (0.034 * g["nose_w"], 0.024, 0.05))


def _build_mouth(a) -> None:
    g, m = a.shape, a.motion
    rest_y, rest_z = -0.545 * g["face_len"] + g["mouth_y"], 0.655
    width, rounding = jnp.clip(m["width"], -1.0, 1.2), jnp.clip(m["round"], 0.0, 1.0)
    jaw, smile = jnp.clip(m["jaw"], 0.0, 1.0), jnp.clip(m["smile"], 0.0, 1.0)
    a.mouth_half_width = (
        0.225 * g["mouth_w"] * (1.0 + 0.17 * width - 0.26 * rounding + 0.17 * jnp.clip(m["smile"], -0.3, 1.0))
    )
    a.mouth_fullness = 0.4 * rounding  # round lips leave their corners steeply, as a circle does
    protrusion = 0.085 * rounding - 0.012 * jnp.maximum(width, 0.0)
    low_y, low_z = a.jaw_opened(rest_y - 0.035, rest_z)  # the lower lip rides on the jaw
    drop = rest_y - 0.035 - low_y
    fullness = (1.0 - 0.45 * m["press"]) * (1.0 - 0.12 * width + 0.10 * rounding)
    a.upper_lip_radius = 0.034 * g["lip_up"] * fullness
    a.lower_lip_radius = 0.041 * g["lip_lo"] * fullness
    upper = (
        rest_y + a.upper_lip_radius * 1.12
        + 0.050 * m["up"] + 0.03 * m["sneer"] + 0.014 * jaw + 0.012 * smile
    )  # fmt: skip
    lower = rest_y - a.lower_lip_radius * 1.12 - drop * 0.95 - 0.050 * m["lo"] + 0.045 * m["tuck"]
    a.upper_lip_y = upper
    a.lower_lip_y = jnp.minimum(lower, upper - (a.upper_lip_radius + a.lower_lip_radius) * 0.95)
    a.mouth_y = rest_y
    a.upper_lip_z = rest_z + protrusion
    a.lower_lip_z = rest_z + protrusion - (rest_z - low_z) * 0.8 - 0.040 * m["tuck"] - 0.012
    # A wide open mouth is rounder below: its arc goes from 1 - s^2 towards 1 - s^4.
    a.lower_arc = 0.75 * jnp.clip((a.upper_lip_y - a.lower_lip_y) * 6.0 - 0.6, 0.0, 1.0)
    a.lip_bend = 1.15 + 0.5 * jnp.maximum(width, 0.0) + 0.5 * smile - 0.3 * rounding
    corner = rest_y + 0.075 * m["smile"] - 0.01 * jaw - 0.33 * drop
    a.corner_right = corner - 0.05 * jnp.minimum(m["smirk"], 0.0)  # the person's right: x < 0
    a.corner_left = corner + 0.05 * jnp.maximum(m["smirk"], 0.0)
    a.teeth_upper = (rest_y + 0.008, rest_z - 0.055)
    a.teeth_lower = a.jaw_opened(rest_y - 0.075, rest_z - 0.085)
    a.teeth_half_width = 0.19 * g["mouth_w"]
    tongue_y, tongue_z = a.jaw_opened(rest_y - 0.10, rest_z - 0.24)
    a.tongue = ((0.0, tongue_y + 0.045 * m["tongue"], tongue_z + 0.105 * m["tongue"]), (0.12, 0.055, 0.17))


def _build_body(a) -> None:
    g = a.shape
    top = head_to_world(a, (0.0, -0.52, -0.16))
    base = (a.body_translation[0], -1.46 + a.body_translation[1], -0.34)
    a.neck_top, a.neck_base = top, base
    a.neck_radii = (0.350 * g["neck_w"], 0.385 * g["neck_w"])
    a.throat = (
        (0.5 * (top[0] + base[0]), 0.5 * (top[1] + base[1]) - 0.05, 0.5 * (top[2] + base[2]) + 0.40),
        (0.38, 0.80, 0.50),
    )
    a.shoulder_start = (0.0, -1.46, -0.36)
    a.shoulder_end = (0.92 * g["shoulder"], -1.71, -0.36)
    a.shoulder_radii = (0.25, 0.30)
    a.chest = ((0.0, -2.16, -0.22), (0.98 * g["shoulder"], 0.78, 0.52))
    a.neckline_y = mix(-1.13, -1.36, g["neckline"])
    a.neckline_v = jnp.clip(g["neckline"] * 3.0 - 2.0, 0.0, 1.0)


def _build_hair(a) -> None:
    g = a.shape
    row = jnp.asarray(STYLE_TABLE)[a.identity["style"]]
    style = SimpleNamespace(**{name: row[i] for i, name in enumerate(STYLE_FIELDS)})
    top, side, back = style.top * g["hair_top"], style.side * g["hair_side"], style.back * g["hair_side"]
    radii = a.cranium[1]
    a.bald = jnp.where(style.top > 0.0, 0.0, 1.0)
    a.hair_cap = (
        (0.03 * g["part"] * (1.0 - a.bald), 0.35 + top * 0.50, -0.13 - back * 0.3),
        (radii[0] + 0.012 + side, radii[1] + 0.012 + top * 0.62, radii[2] + 0.012 + back * 0.8),
    )
    a.fringe, a.hair_taper, a.curl = style.fringe, style.taper, style.curl
    a.hair_window = (
        (0.05 * g["part"], -0.30, 0.80),
        (
            (0.70 + style.window_width) * g["face_w"],
            0.98 + style.hairline + g["hairline"] - 0.34 * a.fringe,
            0.76,
        ),
    )
    a.hair_part = 0.16 * g["part"]
    a.hair_recede = jnp.where(style.ears > 0.8, 0.22 * g["recede"], 0.04) * (1.0 - 0.8 * a.fringe)
    a.hair_length = style.length
    a.hair_curtain = (
        (0.0, 0.15 - style.length * 0.55, -0.30),
        (0.69 * g["skull_w"] + side * 0.7 + style.length_width, 0.45 + style.length * 0.62, 0.50 + back * 0.5),
    )
    a.hair_lower_window = ((0.0, -0.95, 0.50), (0.565 * g["face_w"], 1.35, 0.66))
    a.curl_frequency = mix(3.2, 2.2, g["strand"])
    a.bun = ((style.bun_x, 1.10 - 0.35 * style.bun_x, -0.30), 0.27 * style.bun - 0.3 * (style.bun < 0.1))
    a.ears_free = style.ears
    a.scarf = jnp.where(a.identity["style"] == STYLE_NAMES.index("scarf"), 1.0, 0.0)


def _build_brows_and_glasses(a) -> None:
    g, m = a.shape, a.motion
    x, y, _ = a.eye
    a.brow_inner_x = x - 0.175 - 0.022 * m["furrow"]
    a.brow_outer_x = x + 0.165 * g["brow_len"]
    a.brow_y = y + 0.185 + g["brow_y"]
    a.brow_thickness = 0.030 * g["brow_thick"]
    a.brow_arch = 0.045 * g["brow_arch"]
    a.brow_inner_lift = 0.075 * m["brow_in"] - 0.045 * m["furrow"]
    a.brow_outer_lift = 0.075 * m["brow_out"] - 0.01 * m["furrow"]
    a.no_glasses = jnp.where(g["glasses"] > 0.45, 0.0, 1.0)
    a.lens_centre = (x * 1.04, y - 0.02, 0.70)
    a.lens_radii = (mix(0.20, 0.18, g["glasses_round"]), mix(0.135, 0.18, g["glasses_round"]))
