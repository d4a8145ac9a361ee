"""A last batch is filled with its last row."""

import numpy as np
import pytest

from vasa_jax.filling import filled_up, in_batches


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 4)])
def test_the_last_row_is_repeated(shape):
    part = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    found = filled_up(part, 5)
    np.testing.assert_array_equal(found, part[[0, 1, 2, 2, 2]])
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(filled_up(part, 3), part)
    with pytest.raises(ValueError):
        filled_up(part, 2)


@pytest.mark.parametrize("count", [1, 3, 4, 7])
def test_batches_are_of_one_length_and_every_row_is_answered_once(count):
    a, b = np.arange(count), 10.0 * np.arange(2 * count).reshape(count, 2)
    lengths = []

    def compute(x, y):
        lengths.append((len(x), len(y)))
        return x[:, None] + y

    np.testing.assert_array_equal(in_batches(compute, 3, a, b), a[:, None] + b)
    assert lengths == [(3, 3)] * -(-count // 3)
