"""People for the judges that need no renderer."""

import jax
import jax.numpy as jnp

from vasa_jax.conventions import LANDMARKS


def drawn_people(who, key, size, supersample, style):
    """In place of the renderer: a person is two colours, one of the upper and one of the lower half."""
    colours = jax.vmap(lambda k: jax.random.uniform(k, (2, 3)))(who)
    image = jnp.repeat(colours[:, :, None], size, 2).repeat(size // 2, 1)
    noise = 0.02 * jax.random.normal(key, image.shape)
    upper = (jnp.arange(size) < size // 2)[:, None]
    segmentation = jnp.broadcast_to(upper, (len(who), size, size)).astype(jnp.uint8)
    return {"image": image + noise, "segmentation": segmentation, "landmarks": jnp.zeros((len(who), len(LANDMARKS), 2))}
