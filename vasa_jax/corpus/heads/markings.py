"""What is painted on the surface: brows, lashes, lips, beard, wrinkles, iris, strands, cloth patterns.

Each function returns single-channel masks or factors in [0, 1] (or about 1) at head-space points, by name; shading.py
turns them into colour. `pixel` is a pixel's width at the point, so that thin lines fade instead of flickering.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from vasa_jax.corpus.heads.field import eye_opening, hairline_shift, lip_arcs, lip_radii, neckline
from vasa_jax.corpus.heads.palette import grayness, makeup
from vasa_jax.corpus.heads.sdf import dot, ellipsoid, gauss, mix, smooth_noise, smoothstep, sphere, wave

IRIS_RADIUS = 0.52  # sine of the iris's angular radius


def skin_tones(a, q, ax) -> dict:
    """Returns mottling, blush and freckles."""
    x, y, z = q
    i = a.identity
    front = smoothstep(0.15, 0.3, z)
    cheeks = gauss(ax - 0.36, 0.17) * gauss(y + 0.20, 0.16) * smoothstep(0.1, 0.4, z) * i["blush"]
    nose = 0.6 * gauss(x, 0.10) * gauss(y - a.nose_tip[0][1], 0.10) * smoothstep(0.6, 0.75, z)
    spots = wave(x * 9.0 + 1.3 * wave(y * 7.0)) * wave(y * 10.0 + 1.1 * wave(x * 8.3))
    where = gauss(ax - 0.25, 0.25) * gauss(y + 0.15, 0.17) * front
    freckles = jnp.clip(i["freckle"] * 2.0 - 1.0, 0.0, 1.0) * (1.0 - i["melanin"])
    return {
        "mottle": smooth_noise(x * 3.0 + a.seed, y * 3.0, z * 3.0),
        "blush": jnp.clip(cheeks + nose, 0.0, 1.0) * (1.0 - 0.5 * i["melanin"]),
        "freckle": smoothstep(0.35, 0.8, spots) * where * freckles,
    }


def eye_surround(a, q, ax, pixel) -> dict:
    """Returns the lids' tint, eye shadow, crease, bag, lashes."""
    x, y, z = q
    i, paint = a.identity, makeup(a.identity)
    near = smoothstep(0.30, 0.40, z)
    _, height, s, upper, lower = eye_opening(a, x, ax, y)
    over, under = height - upper, lower - height
    rest = a.lid_rest[0] * (1.0 - 0.6 * s * s)
    crease = jnp.abs(height - (jnp.maximum(rest, upper) + 0.030 + 0.012 * i["lid_fold"]))
    width = 0.010 + 0.012 * smoothstep(-0.6, 1.0, s) + 0.010 * paint
    lash = (1.0 - smoothstep(width - 0.004, width + 0.006 + 0.5 * pixel, over)) * smoothstep(-0.02, -0.008, over)
    lash = lash * smoothstep(1.22, 1.0, jnp.abs(s)) * near
    low_lash = (1.0 - smoothstep(0.001, 0.010 + pixel, under)) * smoothstep(-0.02, -0.008, under)
    low_lash = low_lash * smoothstep(1.05, 0.8, jnp.abs(s)) * near * 0.35
    shadow = smoothstep(0.015, 0.03, over) * (1.0 - smoothstep(0.05, 0.12, over))
    return {
        "lid_tint": gauss(s, 1.25) * gauss(height, 0.11) * near,
        "eye_shadow": 0.5 * paint * shadow * gauss(s, 0.95) * near,
        "crease": (1.0 - smoothstep(0.003, 0.014 + pixel, crease))
        * smoothstep(1.15, 0.7, jnp.abs(s)) * near * (0.3 + 0.5 * i["lid_fold"]),
        "bag": gauss(0.055 - under, 0.018) * gauss(s, 0.8) * near * (0.2 + 0.8 * jnp.square(i["age"])),
        "lash": jnp.maximum(lash, low_lash) * 0.92,
    }  # fmt: skip


def brow_line(a, s):
    """Returns height and half thickness of the eyebrow's middle at s in [0, 1] from the inner to the outer end."""
    lift = a.brow_inner_lift * (1.0 - smoothstep(0.0, 0.7, s)) + a.brow_outer_lift * smoothstep(0.2, 0.9, s)
    height = a.brow_y + lift + a.brow_arch * (1.0 - jnp.square((s - 0.60) * (1.0 / 0.60))) + 0.02 * s
    thickness = (
        a.brow_thickness * (0.55 + 0.45 * smoothstep(-0.05, 0.25, s)) * (1.0 - 0.72 * smoothstep(0.40, 1.02, s))
    )
    return height, thickness


def brows(a, q, ax, pixel) -> dict:
    """Returns the eyebrows' hairs."""
    _, y, z = q
    s = (ax - a.brow_inner_x) * (1.0 / (a.brow_outer_x - a.brow_inner_x))
    height, thickness = brow_line(a, s)
    off = jnp.abs(y - height)
    mask = 1.0 - smoothstep(thickness - 0.012, thickness + 0.010 + 0.5 * pixel, off)
    mask = mask * smoothstep(-0.06, 0.08, s) * smoothstep(1.05, 0.93, s) * smoothstep(0.25, 0.4, z)
    hairs = 0.92 + 0.08 * wave(s * 9.0 + (y - height) * 9.0)
    return {"brow": mask, "brow_cover": mask * hairs * (0.92 - 0.2 * a.identity["strand"])}


def wrinkles(a, q, ax) -> dict:
    """Returns forehead lines, the frown between the brows, the folds from nose to mouth."""
    x, y, z = q
    i, m = a.identity, a.motion
    nose_y = a.nose_tip[0][1]
    raised = jnp.clip(0.5 * (m["brow_in"] + m["brow_out"]), 0.0, 1.0)
    lines = gauss(y - 0.50 - 0.03 * wave(x * 0.8), 0.018) + gauss(y - 0.60, 0.018)
    lines = lines * smoothstep(0.42, 0.1, ax) * (raised * (0.25 + 0.4 * i["age"]) + 0.25 * jnp.square(i["age"]))
    lines = lines * smoothstep(0.15, 0.3, z)
    lines = lines + gauss(ax - 0.055, 0.014) * gauss(y - 0.24, 0.09) * jnp.clip(m["furrow"], 0.0, 1.0) * 0.8
    fold_x = 0.150 * i["nose_w"] + 0.30 * jnp.clip(nose_y - y, 0.0, 1.0)
    fold = gauss(ax - fold_x, 0.024) * smoothstep(a.mouth_y - 0.06, a.mouth_y + 0.10, y)
    fold = fold * smoothstep(nose_y + 0.03, nose_y - 0.05, y)
    depth = 0.40 * i["age"] * i["age"] + 0.45 * jnp.clip(m["smile"], 0.0, 1.0) + 0.5 * m["sneer"] + 0.04
    return {"wrinkle": jnp.clip(lines + fold * depth, 0.0, 1.0) * smoothstep(0.3, 0.45, z)}


def lip_borders(a, x, ax, arc):
    """Returns heights of the vermilion's borders above the upper and below the lower lip's centre line."""
    upper_radius, lower_radius = lip_radii(a, arc)
    u = 1.0 / a.mouth_half_width
    bow = a.identity["cupid"] * (gauss(ax * u - 0.30, 0.22) - 0.55 * gauss(x * u, 0.16))
    root = jnp.sqrt(arc + 1e-4)
    return upper_radius * (1.20 + 0.35 * bow) * root, lower_radius * 1.32 * root


def mouth(a, q, ax, pixel) -> dict:
    """Returns lips, nostrils, teeth, tongue and the dark of the mouth."""
    x, y, z = q
    _, arc, upper_y, lower_y = lip_arcs(a, x)
    upper_radius, lower_radius = lip_radii(a, arc)
    above, below = lip_borders(a, x, ax, arc)
    u = ax * (1.0 / a.mouth_half_width)
    lip = smoothstep(0.012 + pixel, -0.006, jnp.maximum(y - upper_y - above, lower_y - below - y))
    lip = lip * smoothstep(1.03, 0.95, u) * smoothstep(0.3, 0.42, z)
    middle = 0.5 * (upper_y - upper_radius * 0.8 + lower_y + lower_radius * 0.8)
    shut = smoothstep(0.03, 0.0, upper_y - upper_radius - lower_y - lower_radius)
    inside = smoothstep(-0.045, -0.085, z - (a.upper_lip_z - a.lip_bend * x * x))
    inside = inside * smoothstep(0.02, 0.0, jnp.maximum(y - upper_y, lower_y - y))
    inside = inside * smoothstep(1.0, 0.97, u) * smoothstep(0.1, 0.2, z)
    corner_y = mix(a.corner_right, a.corner_left, 0.5 + 0.5 * jnp.sign(x))
    nostril = smoothstep(0.014, -0.006, ellipsoid((ax, y, z), *a.nostril))
    depth = smoothstep(-0.20, -0.04, z - a.upper_lip_z)
    tooth = x * (1.0 / 0.052)
    gap = jnp.abs(tooth - jnp.round(tooth))
    teeth = mix(0.35, 1.0, smoothstep(0.11, 0.19, a.mouth_half_width)) * mix(0.72, 1.0, smoothstep(0.5, 0.38, gap))
    teeth = teeth * mix(0.45, 1.0, smoothstep(a.teeth_half_width, a.teeth_half_width * 0.45, ax))
    return {
        "lip": lip,
        "inside": inside,
        "seam": (1.0 - smoothstep(0.004, 0.012 + pixel, jnp.abs(y - middle))) * shut * 0.6,
        "corner": 0.3 * gauss(ax - a.mouth_half_width, 0.020) * gauss(y - corner_y, 0.020) * smoothstep(0.15, 0.3, z),
        "nostril": mix(1.0, 0.38, nostril),
        "teeth": teeth * (0.35 + 0.65 * depth),
        "tongue": 0.4 + 0.6 * depth,
    }


def beard_and_roots(a, q, ax, lip, inside) -> dict:
    """Returns beard, and the shade of hair roots on the scalp near the hairline."""
    x, y, z = q
    i = a.identity
    edge = jnp.minimum(a.mouth_y + 0.05 + jnp.maximum(ax - a.mouth_half_width, 0.0), -0.24)
    moustache = smoothstep(0.02, -0.02, y - (a.nose_tip[0][1] - 0.135 - 0.35 * ax * ax))
    moustache = moustache * smoothstep(a.mouth_y - 0.05, a.mouth_y, y)
    moustache = moustache * smoothstep(a.mouth_half_width + 0.06, a.mouth_half_width - 0.03, ax)
    zone = jnp.maximum(smoothstep(0.05, -0.05, y - edge), moustache) * smoothstep(-0.22, -0.02, z)
    zone = zone * smoothstep(-1.22, -1.0, y - 0.1 * z) * (1.0 - lip) * (1.0 - inside)
    amount = jnp.clip(i["beard"] * 2.5 - 0.9, 0.0, 1.0) * (1.0 - makeup(i))
    hairs = 0.88 + 0.12 * wave(x * 11.0 + 2.0 * wave(y * 6.0)) * wave(y * 12.0 + 2.0 * wave(z * 5.0))
    cover = 0.24 * smoothstep(0.0, 0.2, amount) + 0.62 * smoothstep(0.35, 0.8, amount)
    angle_x = x * lax.rsqrt(x * x + z * z + 0.03)
    window = ellipsoid((x, y + hairline_shift(a, x, ax, angle_x), z), *a.hair_window)
    ear = a.ear[0]
    off_ear = smoothstep(0.02, 0.10, sphere((ax, y, z), (ear[0] + 0.03, ear[1], ear[2] + 0.03), 0.2))
    roots = smoothstep(-0.035, 0.05, window) * smoothstep(-0.12, 0.15, y) * mix(0.75, 0.25, a.bald)
    return {
        "beard": zone * hairs * cover * (1.0 - 0.45 * grayness(i)),
        "roots": roots * (1.0 - a.scarf) * off_ear,
    }


def eyeball(a, q, ax, pixel) -> dict:
    """Returns iris, pupil and the lids' shade on the eyeball; `cornea` is its head-space normal for the highlight."""
    x, y, z = q
    gap, height, s, upper, lower = eye_opening(a, x, ax, y)
    side = jnp.sign(x)
    inverse = 1.0 / a.eye_radius
    e = ((x - side * a.eye[0]) * inverse, (y - a.eye[1]) * inverse, (z - a.eye[2]) * inverse)
    facing = dot(e, a.gaze)
    radius = jnp.sqrt(jnp.maximum(1.0 - facing * facing, 0.0)) + jnp.where(facing < 0, 2.0, 0.0)
    pupil = IRIS_RADIUS * a.identity["pupil"]
    soft = pixel * inverse * 0.7
    u, v = e[0] - facing * a.gaze[0], e[1] - facing * a.gaze[1]
    unit = lax.rsqrt(u * u + v * v + 1e-6)
    fibres = 0.5 + 0.5 * wave(3.1 * u * unit + 2.3 * wave(v * unit * 1.4)) * wave(radius * 3.0 + 2.0 * v * unit)
    tone = mix(0.55, 1.45, smoothstep(pupil, IRIS_RADIUS, radius)) * (0.8 + 0.35 * fibres)
    tone = tone * (1.0 + 0.6 * smoothstep(0.2, -0.45, v))
    tone = tone * (1.0 - 0.8 * smoothstep(IRIS_RADIUS * 0.80, IRIS_RADIUS, radius))
    bulge = 0.35 * smoothstep(0.62, 0.3, radius)
    return {
        "is_iris": radius < IRIS_RADIUS,
        "iris_tone": tone,
        "off_pupil": smoothstep(pupil - 0.02 - soft, pupil + 0.02 + soft, radius),
        "off_iris": smoothstep(IRIS_RADIUS - 0.03 - soft, IRIS_RADIUS + 0.03 + soft, radius),
        "pink": jnp.clip(0.6 * smoothstep(0.62, 1.0, jnp.abs(s)) + 0.25 * smoothstep(0.5, 1.02, -s), 0.0, 1.0),
        "lid_shade": mix(0.40, 1.0, smoothstep(-0.005, 0.055, upper - height))
        * mix(0.75, 1.0, smoothstep(0.0, 0.03, height - lower)),
        "eye_in_view": smoothstep(0.0, 0.03, -gap),
        "cornea": tuple(n + bulge * g for n, g in zip(e, a.gaze)),
    }


def strands(a, q) -> dict:
    """Returns light and dark strands of hair; `hair_tilt` turns the normal along `hair_tangent` (head space)."""
    x, y, z = q
    inverse = lax.rsqrt(x * x + z * z + 0.03)
    u, v = x * inverse, z * inverse
    curl, plain = a.curl * 9.0, 1.0 - 0.85 * a.scarf
    broad = wave(u * 5.3 + curl * wave(y * 1.1 + v) + a.seed)
    middle = wave(v * 7.1 + 1.3 * u + curl * wave(y * 1.7))
    fine = wave(u * 17.0 + v * 13.0 + 0.6 * wave(y * 2.0) + curl * wave(y * 3.0))
    strand = (0.45 * broad + 0.3 * middle + 0.30 * fine) * plain
    return {
        "strand": strand,
        "hair_tone": (1.0 + 0.34 * strand) * mix(0.72, 1.12, smoothstep(-0.8, 1.0, y)),
        "hair_tilt": (0.18 * fine + 0.22 * broad) * plain,
        "hair_tangent": (v, -u),
    }


def cloth(a, p) -> dict:
    """Returns pattern, collar and weave at world points."""
    x, y, z = p[0] - a.body_translation[0], p[1] - a.body_translation[1], p[2]
    kind = a.identity["shirt_p"]
    stripes = smoothstep(-0.15, 0.15, wave(y * 4.0))
    checks = 0.5 * smoothstep(-0.2, 0.2, wave(x * 3.0)) + 0.5 * smoothstep(-0.2, 0.2, wave(y * 3.0))
    pattern = jnp.where(kind < 0.18, stripes, jnp.where(kind < 0.30, checks, 0.0))
    edge = neckline(a, x, y, z)
    collar = smoothstep(-0.085, -0.075, edge) * jnp.where(kind > 0.6, 0.85, 0.0)
    weave = 1.0 + 0.04 * wave(x * 22.0) * wave(y * 22.0)
    return {
        "pattern": jnp.clip(pattern + collar, 0.0, 1.0),
        "weave": weave * (1.0 - 0.25 * smoothstep(0.012, 0.0, jnp.abs(edge + 0.08))),
    }
