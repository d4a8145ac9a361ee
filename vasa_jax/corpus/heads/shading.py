"""Light and colour: from geometry and markings to linear light, to a filmic tone curve, to sRGB-like values.

Done in two steps so that no compiled loop becomes too large: `surface` computes every single-channel quantity of a
sample, `colour` mixes them per channel.
"""

from __future__ import annotations

import jax.numpy as jnp

from vasa_jax.conventions import SEGMENTS
from vasa_jax.corpus.heads import markings
from vasa_jax.corpus.heads.anatomy import world_to_head
from vasa_jax.corpus.heads.field import CLOTH, EYE, GLASSES, HAIR, NOTHING, SKIN, TEETH, TONGUE
from vasa_jax.corpus.heads.palette import build_palette
from vasa_jax.corpus.heads.sdf import dot, gauss, mix, normalize, rotate, smoothstep
from vasa_jax.corpus.heads.trace import hit_points, unit_normal

_SEGMENT = {name: index for index, name in enumerate(SEGMENTS)}


def surface(a, travel, probes, material, ambient, lit, size: int) -> dict:
    """Computes single-channel quantities of every sample, (size^2,) each, and `segment` (int32 into SEGMENTS)."""
    rays = a.camera.rays(size)
    p = hit_points(a, travel, size)
    q = world_to_head(a, p)
    ax = jnp.abs(q[0])
    pixel = travel * (2.0 / (size * a.camera.focal))
    s = {"material": material, "ambient": ambient, "lit": lit}
    s |= markings.skin_tones(a, q, ax) | markings.eye_surround(a, q, ax, pixel) | markings.brows(a, q, ax, pixel)
    s |= markings.wrinkles(a, q, ax) | markings.mouth(a, q, ax, pixel)
    s |= markings.beard_and_roots(a, q, ax, s["lip"], s["inside"])
    eye, hair = markings.eyeball(a, q, ax, pixel), markings.strands(a, q)
    s |= eye | hair | markings.cloth(a, p)
    s |= _light(a, rays, q, unit_normal(probes), s)
    s["segment"] = _segment(material, s)
    for name in ("cornea", "is_iris", "hair_tangent", "hair_tilt", "strand", "eye_in_view", "brow"):
        del s[name]  # used up above
    return s


def _segment(material, s):
    skin = jnp.where(s["brow"] > 0.4, _SEGMENT["brow"], _SEGMENT["skin"])
    skin = jnp.where(s["lip"] > 0.5, _SEGMENT["lip"], skin)
    segment = jnp.where(s["inside"] > 0.5, _SEGMENT["mouth"], skin)
    eye = jnp.where(s["is_iris"], _SEGMENT["iris"], _SEGMENT["sclera"])
    segment = jnp.where(material == EYE, eye, segment)
    # The remaining materials are segments of their own, in the same order.
    segment = jnp.where(material >= TEETH, material + (_SEGMENT["teeth"] - TEETH), segment)
    return jnp.where(material == NOTHING, _SEGMENT["background"], segment)


def _light(a, rays, q, normal, s) -> dict:
    """Diffuse and fill terms, highlights and rim light."""
    i, material, key = a.identity, s["material"], a.key_light
    is_skin, is_eye, is_teeth, is_tongue, is_hair, is_frame = (
        (material == m).astype(jnp.float32) for m in (SKIN, EYE, TEETH, TONGUE, HAIR, GLASSES)
    )
    tangent_x, tangent_z = s["hair_tangent"]
    tangent = normalize(tuple(row[0] * tangent_x + row[2] * tangent_z for row in a.rotation))
    tilt = is_hair * s["hair_tilt"]
    normal = normalize(tuple(n + tilt * t for n, t in zip(normal, tangent)))
    view = tuple(-r for r in rays)
    halfway = normalize(tuple(k + v for k, v in zip(key, view)))
    facing = jnp.clip(dot(normal, view), 0.0, 1.0)

    gloss = jnp.clip(dot(normal, halfway), 0.0, 1.0)
    g4 = jnp.square(jnp.square(gloss))
    g16 = jnp.square(jnp.square(g4))
    g64 = jnp.square(jnp.square(g16))
    zone = 0.5 + 0.5 * gauss(q[0], 0.2) * smoothstep(-0.5, -0.2, q[1])  # forehead and nose shine most
    skin = (0.09 * g16 + 0.09 * g64) * zone * (1.0 + 1.2 * s["lip"]) * (1.0 - 0.7 * s["beard"]) * (1.0 - s["inside"])
    # Hair shines in a band across the strands, which run along the head's up direction (Kajiya and Kay 1989).
    up = tuple(row[1] for row in a.rotation)
    rise = dot(up, normal)
    across = dot(normalize(tuple(u - rise * n for u, n in zip(up, normal))), halfway)
    band = jnp.clip(1.0 - across * across, 0.0, 1.0)
    b4 = jnp.square(jnp.square(band))
    b20 = jnp.square(jnp.square(b4)) * b4
    hair_red = build_palette(a).hair[0]
    hair = b20 * (0.14 + 0.16 * s["strand"]) * (0.25 + hair_red * 2.0) * (1.0 - 0.85 * a.scarf)
    highlight = (
        is_skin * skin + is_teeth * 0.35 * g64 + is_tongue * 0.2 * g16 * g16 + is_hair * hair + is_frame * 0.8 * g64
    )
    cornea = rotate(a.rotation, normalize(s["cornea"]))
    window = (key[0] + 0.25 * jnp.sign(key[0]), 0.70, 0.62)  # the eyes' highlight sits higher than the light
    glint = jnp.clip(dot(cornea, normalize(tuple(w + v for w, v in zip(window, view)))), 0.0, 1.0)
    soft_glint = jnp.square(jnp.square(jnp.square(glint * glint * glint)))
    glint = smoothstep(0.9915, 0.9960, glint) * 1.2 + soft_glint * 0.06
    edge = 1.0 - facing
    rim = edge * edge * edge * jnp.clip(dot(normal, a.rim_light) * 0.8 + 0.35, 0.0, 1.0) * i["rim"]
    return {
        "highlight": 1.2 * (highlight * mix(0.35, 1.0, s["lit"]) + is_eye * glint * s["eye_in_view"]),
        "rim": rim * s["ambient"] * jnp.sqrt(s["ambient"]) * (1.0 - is_eye) * (1.0 - s["inside"]),
        "towards_key": dot(normal, key),
        "skyward": 0.5 + 0.5 * normal[1],
        "fill": jnp.clip(dot(normal, (-0.55 * jnp.sign(i["key_az"]), 0.1, 0.8)), 0.0, 1.0),
    }


def _albedo(c, s, channel: int):
    """Reflectance of one colour channel."""

    def rgb(*values):
        return values[channel]

    o = c.skin[channel] * (1.0 + rgb(0.02, 0.04, 0.04) * s["mottle"]) * (1.0 - rgb(0.03, 0.27, 0.24) * s["blush"])
    o = o * (1.0 - rgb(0.25, 0.42, 0.50) * s["freckle"]) * (1.0 - rgb(0.10, 0.17, 0.15) * s["lid_tint"])
    o = o * (1.0 - rgb(0.16, 0.24, 0.22) * s["bag"])
    o = mix(o, c.eye_shadow[channel], s["eye_shadow"]) * (1.0 - rgb(0.40, 0.52, 0.50) * s["crease"])
    o = mix(o, rgb(0.012, 0.009, 0.008), s["lash"])
    o = mix(o, c.brow[channel], s["brow_cover"]) * (1.0 - rgb(0.25, 0.38, 0.38) * s["wrinkle"])
    o = mix(o, c.beard[channel], s["beard"])
    o = mix(o, c.lip[channel] * (1.0 - s["seam"]), s["lip"]) * (1.0 - s["corner"])
    o = mix(o, rgb(0.10, 0.016, 0.014), s["inside"]) * s["nostril"]
    skin = mix(o, c.hair[channel] * 0.8, s["roots"])
    white = mix(rgb(0.80, 0.77, 0.75), rgb(0.66, 0.36, 0.32), s["pink"])
    eye = mix(mix(0.005, c.iris[channel] * s["iris_tone"], s["off_pupil"]), white, s["off_iris"]) * s["lid_shade"]
    material = s["material"]
    o = jnp.where(material == EYE, eye, skin)
    o = jnp.where(material == TEETH, rgb(0.66, 0.63, 0.57) * s["teeth"], o)
    o = jnp.where(material == TONGUE, rgb(0.50, 0.17, 0.16) * s["tongue"], o)
    o = jnp.where(material == HAIR, c.hair[channel] * s["hair_tone"], o)
    o = jnp.where(material == CLOTH, mix(c.shirt[channel], c.trim[channel], s["pattern"]) * s["weave"], o)
    return jnp.where(material == GLASSES, c.frame[channel], o)


def colour(a, s: dict, wall: tuple, size: int) -> tuple:
    """Computes red, green, blue in [0, 1] per sample from `surface` and `backdrop`, which shows where it is empty."""
    i, c = a.identity, build_palette(a)
    is_skin = s["material"] == SKIN
    vignette = _vignette(a, size)
    channels = []
    for channel in range(3):

        def rgb(*values, channel=channel):
            return values[channel]

        # Skin scatters: light wraps round the edge of the shadow, red the furthest.
        wrap = jnp.where(is_skin, rgb(0.40, 0.20, 0.13), 0.14)
        lit, ambient = s["lit"], s["ambient"]
        if channel == 0:
            lit, ambient = jnp.where(is_skin, jnp.sqrt(lit), lit), jnp.sqrt(ambient)
        key = jnp.clip((s["towards_key"] + wrap) / (1.0 + wrap), 0.0, 1.0) * lit
        sky = mix(rgb(0.30, 0.25, 0.22), 0.40 + 0.36 * c.wall[channel], s["skyward"]) * i["amb"]
        albedo = _albedo(c, s, channel)
        light = 1.50 * i["key_i"] * key * c.key[channel] + (1.05 * sky + 0.28 * s["fill"]) * ambient
        o = albedo * light + s["highlight"] * c.key[channel]
        o = o + s["rim"] * c.rim[channel] * (0.10 + 0.75 * albedo)
        channels.append(jnp.where(s["material"] == NOTHING, wall[channel], _display(o * vignette)))
    return tuple(channels)


def _screen(a, size: int) -> tuple:
    x, y, z = a.camera.rays(size)
    return x / -z * a.camera.focal, y / -z * a.camera.focal


def _vignette(a, size: int):
    u, v = _screen(a, size)
    return (1.0 - 0.16 * (u * u + v * v)) * 0.92


def _display(linear):
    """Filmic tone curve (Narkowicz 2015, "ACES filmic tone mapping curve") and gamma 2.2."""
    toned = (linear * (2.51 * linear + 0.03)) / (linear * (2.43 * linear + 0.59) + 0.14)
    return jnp.exp(jnp.log(jnp.clip(toned, 1e-5, 1.0)) * (1.0 / 2.2))


def backdrop(a, size: int) -> tuple:
    """Returns the wall behind the head: a gradient, a glow and soft discs; red, green, blue in [0, 1], (size^2,) each.
    """
    i, c = a.identity, build_palette(a)
    u, v = _screen(a, size)
    glow = jnp.exp(-(jnp.square(u - i["bg_x"]) + jnp.square(v - i["bg_y"])) / jnp.square(i["bg_r"]))
    discs = 1.2
    for k in range(4):
        centre_x = jnp.sin(a.seed * (3.1 + k) + k * 2.0) * 0.95
        centre_y = jnp.cos(a.seed * (2.3 + k) + k) * 0.9
        radius = 0.16 + 0.10 * jnp.sin(a.seed * 5.0 + k * 1.7)
        away = jnp.sqrt(jnp.square(u - centre_x) + jnp.square(v - centre_y))
        discs = discs + smoothstep(radius * 1.15, radius * 0.8, away) * 0.14
    vignette = _vignette(a, size)

    def channel(k):
        gradient = mix(c.wall[k] * 0.55, c.glow[k], 0.25 + 0.25 * v)
        return _display((gradient + c.glow[k] * glow * 0.45) * discs * vignette)

    return channel(0), channel(1), channel(2)
