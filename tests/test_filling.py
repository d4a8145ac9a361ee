"""A last batch is filled with its last row."""

import numpy as np
import pytest

from vasa_jax.filling import filled_up


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 4)])
def test_the_last_row_is_repeated(shape):
    part = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    found = filled_up(part, 5)
    np.testing.assert_array_equal(found, part[[0, 1, 2, 2, 2]])
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(filled_up(part, 3), part)
    with pytest.raises(ValueError):
        filled_up(part, 2)
