"""Which numbers occur in labels and masks."""

import numpy as np
import pytest

from usrl.data.sample import numbers_in


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_the_numbers_in_an_array_are_those_of_numpy_whatever_its_type(dtype):
    values = np.random.default_rng(0).integers(0, 40, (300, 7)).astype(dtype)
    assert np.array_equal(numbers_in(values), np.unique(values))
    assert numbers_in(np.full((2, 2), 7, dtype)).tolist() == [7]
