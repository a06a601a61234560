"""The range rules by their definitions, for layers with one output axis and with several."""

import functools

import jax
import numpy as np
import pytest

from qat.ranges import RANGE_RULES

KERNEL = np.asarray(jax.random.normal(jax.random.key(0), (3, 2, 4, 5)))
# (rule, output axes) -> R of KERNEL, written with numpy alone.
EXPECTED = {
    ('he_uniform', 1): np.sqrt(6 / (3 * 2 * 4)),
    ('he_uniform', 2): np.sqrt(6 / (3 * 2)),
    ('max_abs', 1): np.abs(KERNEL).max(),
    ('max_abs', 2): np.abs(KERNEL).max(),
    ('channel_max_abs', 1): np.array([np.abs(KERNEL[..., c]).max() for c in range(5)]).reshape(1, 1, 1, 5),
    ('channel_max_abs', 2): np.array([[np.abs(KERNEL[..., h, c]).max() for c in range(5)] for h in range(4)])[
        None, None
    ],
}


def test_every_rule_is_tested():
    assert {name for name, _ in EXPECTED} == set(RANGE_RULES)


@pytest.mark.parametrize('name, output_axes', EXPECTED)
def test_rules(name, output_axes):
    found = functools.partial(RANGE_RULES[name], output_axes=output_axes)(KERNEL)
    expected = np.asarray(EXPECTED[name, output_axes], np.float32)
    assert found.dtype == np.float32 and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    if output_axes == 1:  # the default
        assert (RANGE_RULES[name](KERNEL) == found).all()


@pytest.mark.parametrize('name', ['max_abs', 'channel_max_abs'])
def test_no_initial_weight_is_outside_the_range_of_a_maximum(name):
    assert (np.abs(KERNEL) <= RANGE_RULES[name](KERNEL)).all()
