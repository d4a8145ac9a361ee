"""How a codec's dynamics open a mouth: a linear reading of the opening, and the direction in which it changes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vasa_jax.corpus.clip_set import ClipSet
from vasa_jax.corpus.heads.identity import sample_identity
from vasa_jax.corpus.heads.labels import labels
from vasa_jax.corpus.heads.render import render, to_uint8
from vasa_jax.corpus.performance.visemes import MOTION_NAMES
from vasa_jax.models.face import face_codec
from vasa_jax.rng import named_key

AT_ONCE = 8  # heads
RIDGE = 0.03  # of the variance of a standardised dimension


def opening_direction(
    face: tuple[dict[str, Any], dict[str, Any]], clips: ClipSet, heads: int, seed: int
) -> dict[str, np.ndarray]:
    """Renders `heads` random heads, each in a random moment of the clips, and reads them by the codec's encoder.

    Returns what `openness` finds in their dynamics.
    """
    params, metadata = face
    encoder, _ = face_codec(metadata["fields"], jnp.float32)

    @jax.jit
    def look(params, keys, motion):
        people = jax.vmap(sample_identity)(keys)
        tracks = {name: motion[:, i] for i, name in enumerate(MOTION_NAMES)}
        rgb = render(people, tracks, encoder.image_size, 1)["rgb"]
        seen = to_uint8(rgb).astype(jnp.float32) / 255.0
        _, dynamics = encoder.apply({"params": params["encoder"]}, seen, method="encode_motion")
        return dynamics, labels(people, tracks)["mouth"]

    stream, rng = named_key(seed, "lips direction"), np.random.default_rng([seed, 2])
    dynamics, openings = [], []
    for first in range(0, heads, AT_ONCE):
        clip, frame = (rng.integers(0, count, AT_ONCE) for count in clips.motion.shape[:2])
        keys = jax.vmap(lambda number: jax.random.fold_in(stream, number))(jnp.arange(first, first + AT_ONCE))
        found = look(params, keys, clips.motion[clip, frame])
        dynamics.append(np.asarray(found[0], np.float64))
        openings.append(np.asarray(found[1], np.float64))
    return openness(np.concatenate(dynamics), np.concatenate(openings))


def openness(dynamics: Float[np.ndarray, "N D"], openings: Float[np.ndarray, "N"]) -> dict[str, np.ndarray]:
    """Returns a linear reading of openings in dynamics, and the dynamics' likeliest change with them.

    `read` (D,), `offset` (1,): opening = read . dynamics + offset, by ridge regression of standardised dynamics. `move`
    (D,): C read / (read' C read), C the covariance of the dynamics; read . move = 1.
    """
    spread = dynamics.std(0) + 1e-9
    standard = (dynamics - dynamics.mean(0)) / spread
    covariance = standard.T @ standard / len(standard)
    apart = openings - openings.mean()
    weights = np.linalg.solve(covariance + RIDGE * np.eye(len(spread)), standard.T @ apart / len(apart))
    move = covariance @ weights
    read = weights / spread
    return {
        "read": read,
        "offset": np.array([openings.mean() - read @ dynamics.mean(0)]),
        "move": spread * move / (weights @ move),
    }
