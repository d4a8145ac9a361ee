"""Who a head is: about ninety numbers for shape, paint, hair and scene, and how to draw them at random."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

# Lengths in head units (a skull is about 0.7 wide from the middle to the side), angles in radians, factors around 1.
SHAPE = {
    "skull_w": (0.95, 1.09), "skull_h": (0.95, 1.07), "skull_d": (0.95, 1.05),
    "face_w": (0.89, 1.13), "face_len": (0.90, 1.04),
    "jaw_w": (0.78, 1.24), "jaw_y": (-0.05, 0.05),
    "chin_w": (0.65, 1.30), "chin_len": (-0.05, 0.07), "chin_z": (-0.05, 0.06),
    "cheek": (0.75, 1.22), "cheek_fat": (0.0, 1.0), "brow_ridge": (0.5, 1.4),
    "eye_x": (0.255, 0.300), "eye_y": (-0.02, 0.05), "eye_size": (0.96, 1.22), "eye_open": (0.80, 1.22),
    "eye_tilt": (-0.10, 0.20), "lid_fold": (0.2, 1.0),
    "nose_len": (0.82, 1.12), "nose_w": (0.80, 1.45), "nose_tip": (0.80, 1.25), "nose_z": (-0.05, 0.07),
    "nose_bridge": (0.7, 1.3), "nose_up": (-0.04, 0.05),
    "mouth_y": (-0.03, 0.03), "mouth_w": (0.86, 1.16), "lip_up": (0.65, 1.35), "lip_lo": (0.7, 1.35),
    "cupid": (0.3, 1.2),
    "ear_size": (0.85, 1.15), "ear_out": (0.0, 1.0), "neck_w": (0.85, 1.2), "shoulder": (0.88, 1.12),
    "youth": (-0.6, 1.0), "age": (0.0, 1.0),
}  # fmt: skip
PAINT = {
    "brow_thick": (0.6, 1.6), "brow_arch": (0.2, 1.3), "brow_y": (-0.03, 0.03), "brow_len": (0.9, 1.1),
    "melanin": (0.0, 1.0), "under": (-1.0, 1.0), "blush": (0.1, 1.0), "lip_red": (0.0, 1.0), "freckle": (-1.0, 1.0),
    "hair_mel": (0.0, 1.0), "hair_red": (0.0, 1.0), "hair_gray": (-1.0, 1.0),
    "iris_h": (0.0, 1.0), "iris_v": (0.6, 1.3), "pupil": (0.38, 0.52),
    "beard": (-1.0, 1.0), "glasses": (-1.0, 1.0), "glasses_round": (0.0, 1.0), "glasses_c": (0.0, 1.0),
    "makeup": (-1.0, 1.0),
    "shirt_h": (0.0, 1.0), "shirt_s": (0.1, 0.8), "shirt_v": (0.12, 0.9), "shirt_p": (0.0, 1.0),
    "neckline": (0.0, 1.0),
}  # fmt: skip
HAIR = {
    "hair_top": (0.7, 1.3), "hair_side": (0.6, 1.4), "hairline": (-0.06, 0.06), "recede": (-0.3, 1.0),
    "part": (-1.0, 1.0), "strand": (0.0, 1.0),
}  # fmt: skip
SCENE = {
    "bg_h": (0.0, 1.0), "bg_h2": (-0.2, 0.2), "bg_s": (0.05, 0.55), "bg_v": (0.15, 0.85),
    "bg_x": (-1.0, 1.0), "bg_y": (-1.0, 1.0), "bg_r": (0.3, 1.2),
    "key_az": (-1.0, 1.0), "key_el": (0.20, 0.80), "key_i": (0.8, 1.25), "key_t": (-1.0, 1.0),
    "amb": (0.7, 1.3), "rim": (0.2, 1.2), "rim_h": (0.0, 1.0),
    "lens": (0.7, 1.5),  # focal length over the usual one, see camera.py: a phone at arm's length to a portrait lens
}  # fmt: skip
CLOTHES = ("shirt_h", "shirt_s", "shirt_v", "shirt_p", "neckline")  # of PAINT
SURROUNDINGS = (*SCENE, *CLOTHES)  # what is not the person
RANGES: dict[str, tuple[float, float]] = {**SHAPE, **PAINT, **HAIR, **SCENE}

# Drawn from a clipped normal around the middle of the range; everything else uniformly.
_CLIPPED_NORMAL = frozenset(
    set(SHAPE) - {"age", "cheek_fat"}
    | {"brow_thick", "brow_arch", "brow_y", "brow_len", "iris_v", "pupil"}
    | {"hair_top", "hair_side", "hairline", "recede", "key_i", "amb", "rim"}
)

STYLE_FIELDS = (
    "top", "side", "back",              # thickness of the hair over the skull
    "hairline", "window_width",         # the opening for the face: higher, wider
    "length", "length_width",           # hair that hangs: 0 none
    "fringe", "curl", "bun", "bun_x",
    "ears", "taper",                    # ears cut free; thinner towards the hairline
)  # fmt: skip
STYLES = {
    "shaven":       (-.02, -.02, -.02, .06, .00, .00, .00, .0, .00, .0, .00, 1.0, .00),
    "crop":         (.085, .035, .040, .01, .00, .00, .00, .0, .025, .0, .00, 1.0, .80),
    "quiff":        (.170, .055, .060, .04, .02, .00, .00, .0, .03, .0, .00, 1.0, .70),
    "mop":          (.120, .100, .100, .00, .02, .00, .00, .9, .04, .0, .00, .55, .00),
    "bob":          (.120, .120, .120, .02, .00, .75, .02, .0, .02, .0, .00, .00, .35),
    "long":         (.110, .110, .120, .03, .02, 1.5, .03, .0, .02, .0, .00, .00, .40),
    "wavy":         (.150, .160, .160, .02, .00, 1.4, .12, .0, .07, .0, .00, .00, .30),
    "afro":         (.320, .310, .270, .00, -.02, .0, .00, .0, .08, .0, .00, .40, .30),
    "top_bun":      (.065, .040, .050, .03, .00, .00, .00, .0, .01, 1., .00, 1.0, .90),
    "curls":        (.160, .140, .130, .02, .00, .25, .05, .3, .07, .0, .00, .25, .20),
    "two_puffs":    (.070, .050, .060, .02, .00, .00, .00, .0, .03, 1.1, .62, .90, .80),
    "fringed_bob":  (.120, .130, .130, .00, .00, .75, .02, 1., .02, .0, .00, .00, .00),
    "scarf":        (.090, .150, .110, -.04, -.06, 1., .10, .0, .00, .0, .00, .00, .00),
}  # fmt: skip
STYLE_NAMES = tuple(STYLES)
STYLE_TABLE = np.array(list(STYLES.values()), np.float32)
_STYLE_WEIGHTS = (0.07, 0.13, 0.14, 0.10, 0.10, 0.11, 0.10, 0.06, 0.05, 0.06, 0.03, 0.04, 0.01)


def sample_identity(key: jax.Array) -> dict[str, jax.Array]:
    """Draws one person: a scalar per name of RANGES, `style` (int32 into STYLE_NAMES) and `seed` in [0, 10).

    A pure function of the key; works under jit and vmap. Values may pass the bounds of RANGES by up to a fifth.
    """
    normal_key, uniform_key, style_key, seed_key = jax.random.split(key, 4)
    low, high = np.array(list(RANGES.values()), np.float32).T
    is_normal = np.array([name in _CLIPPED_NORMAL for name in RANGES])
    normal = jnp.clip(jax.random.normal(normal_key, (len(RANGES),)) * 0.75, -1.35, 1.35) * 0.5 + 0.5
    uniform = jax.random.uniform(uniform_key, (len(RANGES),))
    values = low + (high - low) * jnp.where(is_normal, normal, uniform)
    identity = {name: values[i] for i, name in enumerate(RANGES)}
    weights = np.array(_STYLE_WEIGHTS, np.float32)
    identity["style"] = jax.random.choice(style_key, len(weights), p=weights / weights.sum()).astype(jnp.int32)
    identity["seed"] = jax.random.uniform(seed_key) * 10.0
    return identity


def in_other_surroundings(people: dict[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
    """Gives the same people, arrays (B,) by name, a light, a background and clothes drawn anew."""
    others = jax.vmap(sample_identity)(jax.random.split(key, len(people["seed"])))
    return {**people, **{name: others[name] for name in SURROUNDINGS}}
