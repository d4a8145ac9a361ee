"""The signed distance field of a head, split by material."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from vasa_jax.corpus.heads.anatomy import SOCKET_CLEARANCE, world_to_head
from vasa_jax.corpus.heads.sdf import (
    capsule,
    ellipsoid,
    mix,
    rotate_back,
    smooth_max,
    smooth_min,
    sphere,
    wave,
)  # fmt: skip

MATERIALS = ("skin", "eye", "teeth", "tongue", "hair", "cloth", "glasses")
SKIN, EYE, TEETH, TONGUE, HAIR, CLOTH, GLASSES = range(len(MATERIALS))
NOTHING = -1  # the ray met no surface
LIP_BLEND = 0.035
LIP_SQUASH = 0.75  # lips are tubes, this much flatter across than deep


def lid_edges(a, x, ax):
    """Returns, at head-space x (and |x|), s in [-1, 1] from inner to outer corner and the heights of both lids."""
    s = (ax - a.eye[0]) * (1.0 / a.eye_half_width)
    left = x > 0
    upper = jnp.where(left, a.lids_left[0], a.lids_right[0])
    lower = jnp.where(left, a.lids_left[1], a.lids_right[1])
    arc = 1.0 - s * s
    return s, upper * arc * (1.0 - 0.22 * s), lower * arc * (1.0 + 0.25 * s)


def eye_opening(a, x, ax, y):
    """Returns the distance to the gap between the lids (negative inside), height over the eye's middle line, s, upper,
    lower."""
    s, upper, lower = lid_edges(a, x, ax)
    height = y - a.eye[1] - a.eye_tilt * (ax - a.eye[0])
    gap = jnp.maximum(jnp.maximum(height - upper, lower - height), (jnp.abs(s) - 1.0) * a.eye_half_width)
    return gap, height, s, upper, lower


def lip_arcs(a, x):
    """Returns, at head-space x, s in [-1, 1] along the mouth, its arc (1 in the middle), and the lips' centre lines."""
    s = jnp.clip(x * (1.0 / a.mouth_half_width), -1.0, 1.0)
    arc = (1.0 - s * s) * (1.0 + a.mouth_fullness * s * s)
    corner = mix(a.corner_right, a.corner_left, 0.5 + 0.5 * s)
    return s, arc, mix(corner, a.upper_lip_y, arc), mix(corner, a.lower_lip_y, arc * (1.0 + a.lower_arc * s * s))


def lip_radii(a, arc):
    """Returns the radii of the two lips, thinning towards the corners."""
    taper = 0.15 + 0.85 * arc
    return a.upper_lip_radius * taper, a.lower_lip_radius * taper


def hairline_shift(a, x, ax, angle_x):
    """Returns how far the hairline is raised or lowered: the parting, receding temples, a ragged fringe."""
    temple = 1.0 / (1.0 + jnp.square((ax - 0.36) * 6.0))
    return (
        a.hair_part * x * (1.0 + 0.6 * a.fringe)
        - a.hair_recede * temple
        + 0.030 * a.fringe * wave(angle_x * 6.0 + a.seed)
    )


def _face(a, q, mirrored, socket_cut=True):
    """Skull, cheeks, jaw, lids and nose, without the mouth's cut."""
    d = smooth_min(ellipsoid(q, *a.cranium), ellipsoid(q, *a.face), 0.22)
    d = smooth_min(d, capsule(mirrored, a.jaw_start, a.jaw_end, *a.jaw_radii), 0.22)
    d = smooth_min(d, ellipsoid(q, *a.chin), 0.12)
    d = smooth_min(d, ellipsoid(q, *a.upper_lip_mound), 0.16)
    d = smooth_min(d, ellipsoid(q, *a.lower_lip_mound), 0.14)
    d = smooth_min(d, ellipsoid(mirrored, *a.cheekbone), 0.16)
    d = smooth_min(d, ellipsoid(mirrored, *a.cheek_fat), 0.18)
    d = smooth_min(d, ellipsoid(mirrored, *a.brow_ridge), 0.12)
    d = smooth_max(d, -ellipsoid(mirrored, *a.socket), 0.13)
    d = smooth_min(d, sphere(mirrored, a.eye, a.eye_radius + SOCKET_CLEARANCE), 0.045)
    if socket_cut:
        gap = eye_opening(a, q[0], mirrored[0], q[1])[0]
        d = jnp.maximum(d, -jnp.maximum(gap, a.eye[2] + 0.03 - q[2]))
    nose = smooth_min(capsule(q, a.nose_root, a.nose_end, *a.nose_radii), sphere(q, *a.nose_tip), 0.06)
    nose = smooth_min(nose, ellipsoid(mirrored, *a.nose_wing), 0.06)
    d = smooth_min(d, nose, 0.10)
    return smooth_max(d, -ellipsoid(mirrored, *a.nostril), 0.025)


def _lips(a, d, q):
    """Cuts the mouth into the face and lays the lips round it; also returns the cavity's distance."""
    x, y, z = q
    s, arc, upper_y, lower_y = lip_arcs(a, x)
    along = s * a.mouth_half_width
    beyond = x - along  # 0 between the corners
    bend = -a.lip_bend * along * along
    cavity = jnp.maximum(
        jnp.maximum(y - upper_y, lower_y - y) * LIP_SQUASH,
        jnp.maximum(jnp.abs(x) - a.mouth_half_width, a.upper_lip_z - 0.42 - z),
    )
    d = jnp.maximum(d, -cavity)
    upper_radius, lower_radius = lip_radii(a, arc)
    for height, depth, radius in (
        (upper_y, a.upper_lip_z, upper_radius),
        (lower_y, a.lower_lip_z, lower_radius),
    ):
        dy, dz = (y - height) * LIP_SQUASH, z - (depth + bend)
        d = smooth_min(d, jnp.sqrt(beyond * beyond + dy * dy + dz * dz + 1e-9) - radius, LIP_BLEND)
    return d, cavity


def head_skin(a, q, closed_eyes=False):
    """Returns the distance to the head's skin (no neck, no ears) at head-space points.

    `closed_eyes` fills the lids' gap.
    """
    ax = jnp.sqrt(q[0] * q[0] + 1e-5)
    return _lips(a, _face(a, q, (ax, q[1], q[2]), not closed_eyes), q)[0]


def _teeth_and_tongue(a, q, ax, cavity):
    x, y, z = q
    bend = a.lip_bend * x * x
    (upper_y, upper_z), (lower_y, lower_z) = a.teeth_upper, a.teeth_lower
    upper = jnp.maximum(
        jnp.maximum(jnp.abs(y - upper_y) - 0.060, jnp.abs(z - (upper_z - bend)) - 0.03), ax - a.teeth_half_width
    )
    lower = jnp.maximum(
        jnp.maximum(jnp.abs(y - lower_y + 0.02) - 0.05, jnp.abs(z - (lower_z - bend)) - 0.03),
        ax - a.teeth_half_width * 0.9,
    )
    return jnp.maximum(jnp.minimum(upper, lower) * 0.8, cavity), jnp.maximum(ellipsoid(q, *a.tongue), cavity)


def neckline(a, x, y, z):
    """Returns what is positive above the garment's upper edge: a tilted plane, with a V for deep necklines."""
    plane = 0.85 * (y - a.neckline_y + 0.42 * (z + 0.30))
    vee = 0.6 * (y - a.neckline_y + 0.40 - 1.15 * jnp.abs(x)) - 0.6 * (1.0 - a.neckline_v)
    return jnp.maximum(plane, vee)


def _body(a, p, neck):
    b = (p[0] - a.body_translation[0], p[1] - a.body_translation[1], p[2])
    x, _, z = rotate_back(a.body_rotation, b)
    x = jnp.sqrt(x * x + 4e-4)
    b = (x, b[1], z)
    # Below the shoulders the same outline goes on down, so that no distant image shows the end of a bust.
    trunk = (x, jnp.maximum(b[1], a.shoulder_end[1]), z)
    body = smooth_min(
        capsule(trunk, a.shoulder_start, a.shoulder_end, *a.shoulder_radii), ellipsoid(trunk, *a.chest), 0.25
    )
    body = smooth_min(body, neck, 0.30)
    return body, smooth_max(body - 0.035, neckline(a, *b), 0.04)


def _hair(a, p, q, ax):
    x, y, z = q
    mirrored = (ax, y, z)
    inverse = lax.rsqrt(x * x + z * z + 0.03)
    angle_x, angle_z = x * inverse, z * inverse
    f = a.curl_frequency
    relief = a.curl * (
        0.55 * wave(angle_x * 1.9 + angle_z * 1.1 + 0.5 * wave(y * 0.45 + a.seed))
        + 0.75 * wave(f * 0.5 * (x + z) + a.seed) * wave(f * 0.6 * y + 0.3 * wave(f * 0.4 * z))
    )
    h = ellipsoid(q, *a.hair_cap)
    h = smooth_min(h, ellipsoid(q, *a.hair_curtain) + jnp.where(a.hair_length > 0.0, 0.0, 3.0), 0.12)
    h = smooth_min(h, sphere(mirrored, *a.bun), 0.05)
    window = ellipsoid((x, y + hairline_shift(a, x, ax, angle_x), z), *a.hair_window)
    h = h + relief + a.hair_taper * 0.55 * jnp.maximum(0.13 - window, 0.0)
    h = smooth_max(h, -window, 0.07)
    h = smooth_max(h, -ellipsoid(q, *a.hair_lower_window), 0.06)
    # Long hair stays behind the throat when the head tips back.
    h = smooth_max(h, -ellipsoid(p, *a.throat), 0.06)
    ear = a.ear[0]
    h = smooth_max(h, -sphere(mirrored, (ear[0] + 0.06, ear[1], ear[2] + 0.04), 0.24 * a.ears_free), 0.05)
    return h * 0.88 + a.bald * 3.0


def _glasses(a, mirrored):
    ax, y, _ = mirrored
    centre, radii = a.lens_centre, a.lens_radii
    x, y, z = ax - centre[0], y - centre[1], mirrored[2] - centre[2] + 0.35 * jnp.square(ax - 0.1)
    u, v = x * (1.0 / radii[0]), y * (1.0 / radii[1])
    u, v = u * u, v * v
    superellipse = lax.rsqrt(u * u + v * v + 1e-6)
    off = (1.0 - jnp.sqrt(superellipse)) * jnp.sqrt(x * x + y * y)
    rim = jnp.sqrt(off * off + z * z) - 0.016
    hinge_y = centre[1] + 0.03
    bridge = capsule(
        mirrored, (0.0, centre[1] + 0.045, centre[2] + 0.03), (centre[0] - radii[0], hinge_y, centre[2]), 0.014, 0.014
    )
    temple = capsule(
        mirrored, (centre[0] + radii[0], hinge_y, centre[2] - 0.06), (0.70, centre[1] + 0.06, -0.05), 0.014, 0.014
    )
    return jnp.minimum(jnp.minimum(rim, bridge), temple) * 0.85 + a.no_glasses * 3.0


def material_distances(a, p):
    """Returns distances at world points to each of MATERIALS, in that order."""
    q = world_to_head(a, p)
    x, y, z = q
    ax = jnp.sqrt(x * x + 1e-5)  # the mirrored half, smooth at the middle
    mirrored = (ax, y, z)
    skin, cavity = _lips(a, _face(a, q, mirrored), q)
    ear = smooth_max(ellipsoid(mirrored, *a.ear), -ellipsoid(mirrored, *a.ear_hollow), 0.03)
    skin = smooth_min(skin, ear, 0.05)
    neck = capsule(p, a.neck_top, a.neck_base, *a.neck_radii)
    skin = smooth_min(skin, neck, 0.10)
    teeth, tongue = _teeth_and_tongue(a, q, ax, cavity)
    body, cloth = _body(a, p, neck)
    skin = smooth_min(skin, body, 0.05)
    eye = sphere(mirrored, a.eye, a.eye_radius)
    return skin, eye, teeth, tongue, _hair(a, p, q, ax), cloth, _glasses(a, mirrored)


def distance(a, p, glasses: bool = True):
    """Returns the distance at world points to the nearest surface, with or without the glasses."""
    skin, eye, teeth, tongue, hair, cloth, frame = material_distances(a, p)
    nearest = jnp.minimum(
        jnp.minimum(jnp.minimum(skin, eye), jnp.minimum(teeth, tongue)), jnp.minimum(hair, cloth)
    )
    return jnp.minimum(nearest, frame) if glasses else nearest
