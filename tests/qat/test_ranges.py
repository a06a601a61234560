"""The range rules by their definitions, for layers with one output axis and with several."""

import functools

import jax
import numpy as np
import pytest

from qat.ranges import RANGE_RULES, rule

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
    ('mean_abs', 1): np.abs(KERNEL.astype(np.float64)).mean(),
    ('mean_abs', 2): np.abs(KERNEL.astype(np.float64)).mean(),
    ('block_max_abs(size=2)', 1): np.repeat(
        [np.abs(KERNEL[:, :, i : i + 2]).max(axis=2) for i in (0, 2)], 2, axis=0
    ).transpose(1, 2, 0, 3),
    ('block_max_abs(size=1)', 2): np.abs(KERNEL),
}


def test_every_rule_is_tested():
    assert {call.partition('(')[0] for call, _ in EXPECTED} == set(RANGE_RULES)


@pytest.mark.parametrize('call, output_axes', EXPECTED)
def test_rules(call, output_axes):
    found = functools.partial(rule(call), output_axes=output_axes)(KERNEL)
    expected = np.asarray(EXPECTED[call, output_axes], np.float32)
    assert found.dtype == np.float32 and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    if output_axes == 1:  # the default
        assert (rule(call)(KERNEL) == found).all()


@pytest.mark.parametrize(
    'call, message',
    [('max_ab', "did you mean 'max_abs'"), ('block_max_abs(size=0)', 'size'), ('max_abs(size=2)', 'size')],
)
def test_a_rule_that_does_not_exist_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        rule(call)


def test_blocks_that_do_not_divide_the_inputs_are_refused():
    with pytest.raises(ValueError, match=r'block_max_abs\(size=3\): a weight of shape \(3, 2, 4, 5\)'):
        rule('block_max_abs(size=3)')(KERNEL)


@pytest.mark.parametrize('name', ['max_abs', 'channel_max_abs'])
def test_no_initial_weight_is_outside_the_range_of_a_maximum(name):
    assert (np.abs(KERNEL) <= RANGE_RULES[name](KERNEL)).all()
