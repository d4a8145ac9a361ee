"""The colours of one person and scene, in linear light, as tuples of scalars (red, green, blue)."""

from __future__ import annotations

from types import SimpleNamespace

import jax.numpy as jnp

from vasa_jax.corpus.heads.sdf import mix, mix3


def hsv(hue, saturation, value) -> tuple:
    """Converts HSV to RGB; hue wraps at 1."""

    def channel(n):
        k = (n + hue * 6.0) % 6.0
        return value - value * saturation * jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0)

    return channel(5.0), channel(3.0), channel(1.0)


def colour_ramp(t, colours) -> tuple:
    """Interpolates linearly between evenly spaced colours, t in [0, 1]."""
    last = len(colours) - 1
    t = jnp.clip(t, 0.0, 1.0) * last
    weights = [jnp.maximum(1.0 - jnp.abs(t - i), 0.0) for i in range(last + 1)]
    return tuple(sum(w * c[channel] for w, c in zip(weights, colours)) for channel in range(3))


def to_linear(colour) -> tuple:
    """Converts a display colour to linear light, by a power of 2.2."""
    return tuple(jnp.power(c, 2.2) for c in colour)


def grayness(identity):
    """Returns how far the hair has gone gray, 0 to 0.9."""
    return jnp.clip(identity["hair_gray"] * 2.2 - 1.3, 0.0, 0.9)


def makeup(identity):
    """Returns how much makeup a face wears, 0 to 1."""
    return jnp.clip(identity["makeup"] * 2.0 - 0.6, 0.0, 1.0)


# fmt: off
_SKIN = [(.90, .73, .64), (.87, .68, .57), (.78, .57, .45), (.62, .42, .31), (.43, .28, .20), (.29, .19, .15)]
_HAIR = [(.80, .64, .42), (.58, .41, .24), (.37, .24, .14), (.19, .12, .09), (.085, .07, .065)]
_LIP = [(.83, .52, .50), (.78, .46, .43), (.66, .38, .34), (.48, .29, .26), (.33, .21, .20)]
_IRIS = [(.30, .17, .08), (.22, .11, .05), (.45, .32, .14), (.36, .44, .24), (.30, .46, .62), (.45, .56, .66)]
_FRAME = [(.01, .01, .012), (.06, .025, .012), (.25, .19, .08), (.03, .04, .09)]
# fmt: on


def build_palette(a) -> SimpleNamespace:
    """Computes all colours of a frame from its anatomy (only its identity matters)."""
    i = a.identity
    melanin, paint = i["melanin"], makeup(i)
    c = SimpleNamespace(makeup=paint)
    red, green, blue = colour_ramp(melanin, _SKIN)
    undertone = i["under"]
    skin = red * (0.93 + 0.02 * undertone), green * 0.93, blue * (0.925 - 0.06 * undertone)
    luma = 0.3 * skin[0] + 0.59 * skin[1] + 0.11 * skin[2]
    c.skin = to_linear(mix3(skin, (luma, luma, luma), 0.14))  # the light and its bounces add saturation again
    hair = colour_ramp(i["hair_mel"], _HAIR)
    hair = mix3(hair, (0.52, 0.22, 0.09), jnp.clip(i["hair_red"] * 1.6 - 1.15, 0.0, 0.6))
    hair = mix3(hair, (0.085, 0.07, 0.065), jnp.clip((melanin - 0.45) * 2.5, 0.0, 0.93))
    hair = mix3(hair, (0.72, 0.71, 0.70), grayness(i))
    c.natural_hair = to_linear(hair)
    # Beards are darker and less yellow than the hair of the head.
    c.beard = tuple(v * w for v, w in zip(c.natural_hair, (0.60, 0.48, 0.42)))
    hair = mix3(hair, hsv(i["rim_h"], 0.55, 0.62), jnp.where(i["strand"] > 0.94, 0.8, 0.0))  # dyed
    c.hair = to_linear(mix3(hair, hsv(i["shirt_h"] + 0.4, i["shirt_s"] * 0.8, 0.55), a.scarf))
    c.lip = mix3(
        to_linear(colour_ramp(melanin, _LIP)),
        to_linear(hsv(0.96 + 0.05 * i["lip_red"], 0.68, mix(0.74, 0.48, melanin))),
        paint * 0.8,
    )
    c.eye_shadow = to_linear(hsv(i["rim_h"], 0.40, 0.5))
    skin_tint = tuple(0.75 + 0.25 * v / (c.skin[0] + 1e-3) for v in c.skin)
    c.brow = tuple(jnp.minimum(0.62 * h, 0.10 + 0.25 * h) * s for h, s in zip(c.natural_hair, skin_tint))
    iris = to_linear(colour_ramp(i["iris_h"], _IRIS))
    iris = mix3(iris, to_linear((0.20, 0.11, 0.06)), jnp.clip(melanin * 2.2 - 0.7, 0.0, 0.9))
    c.iris = tuple(v * i["iris_v"] for v in iris)
    c.shirt = to_linear(hsv(i["shirt_h"], i["shirt_s"], i["shirt_v"]))
    c.trim = to_linear(hsv(i["shirt_h"] + 0.5, i["shirt_s"] * 0.4, jnp.clip(1.0 - i["shirt_v"], 0.15, 0.9)))
    c.frame = colour_ramp(i["glasses_c"], _FRAME)
    warmth = i["key_t"]
    c.key = (1.04 + 0.07 * warmth, 1.0, 0.97 - 0.09 * warmth)
    c.rim = mix3((1.0, 1.0, 1.0), hsv(i["rim_h"], 0.35, 1.0), 0.7)
    c.wall = to_linear(hsv(i["bg_h"], i["bg_s"], i["bg_v"]))
    c.glow = to_linear(hsv(i["bg_h"] + i["bg_h2"], i["bg_s"], jnp.clip(i["bg_v"] * 1.5, 0.0, 1.0)))
    return c
