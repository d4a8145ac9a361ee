"""Annotations are checked in the tests: a false shape or type is an error at the call."""

from pathlib import Path

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from typecheck import ROOMS

from vasa_jax import losses
from vasa_jax.models.geometry import pose_matrix
from vasa_jax.models.motion import PositionalEncoding

PACKAGE = Path(__file__).parents[1] / "vasa_jax"


def refused():
    return pytest.raises(jaxtyping.TypeCheckError)


def test_a_wrong_shape_is_refused():
    image = jnp.zeros((1, 8, 8, 3))
    losses.ssim(image, np.zeros((1, 8, 8, 3), np.float32))
    with refused():  # two sizes where one name says that they are equal
        losses.ssim(image, image[:, :7])
    with refused():  # a batch of one must be there
        losses.ssim(image[0], image[0])
    with refused():
        pose_matrix(jnp.zeros((2, 8)))


def test_a_wrong_type_is_refused():
    with refused():
        losses.ssim(*2 * [jnp.zeros((1, 8, 8, 3), jnp.uint8)])
    with refused():
        losses.ssim(*2 * [jnp.zeros((1, 8, 8, 3))], window="7")


def test_modules_and_their_fields_are_checked():
    with refused():
        PositionalEncoding(width="8")
    with refused():
        PositionalEncoding(8).apply({}, "0")


def test_every_module_that_names_shapes_is_checked():
    names = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if "from jaxtyping import" in path.read_text()
    }
    assert len(names) > 30
    assert {name for name in names if not any(f"{name}.".startswith(f"{room}.") for room in ROOMS)} == set()
