"""The uniform quantizer against the definition, evaluated in exact arithmetic."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat.quantizers import UniformQuantizer
from qat.ranges import channel_max_abs

RANGE = np.float32(np.sqrt(6 / 9))


def exact_position(weight: float, range_: float, bits: int) -> Fraction:
    """(clip(w) + R) / D as a fraction."""
    weight, range_ = Fraction(float(weight)), Fraction(float(range_))
    clipped = max(-range_, min(range_, weight))
    return (clipped + range_) * (2**bits - 1) / (2 * range_)


@pytest.mark.parametrize('bits', range(1, 9))
def test_codes_are_the_nearest_value(bits):
    weights = np.random.default_rng(bits).uniform(-1.2 * RANGE, 1.2 * RANGE, 2000).astype(np.float32)
    codes = np.asarray(UniformQuantizer(bits).codes(weights, RANGE))
    for weight, code in zip(weights, codes):
        position = exact_position(weight, RANGE, bits)
        if abs(position - round(position)) < Fraction(1, 2) - Fraction(1, 10**4):
            assert code == round(position)


def test_ties_go_to_the_even_code():
    # R = 3, three bits' worth of steps of exactly 2 at 2 bits: thresholds -2, 0, 2 are floats.
    codes = UniformQuantizer(2).codes(jnp.float32([-2, 0, 2, -3, 3, -9, 9]), jnp.float32(3))
    assert codes.tolist() == [0, 2, 2, 0, 3, 0, 3]


@pytest.mark.parametrize('bits', range(1, 9))
def test_values_round_trip_and_span_the_range(bits):
    quantizer = UniformQuantizer(bits)
    codes = jnp.arange(2**bits)
    values = quantizer.values(codes, RANGE)
    assert (quantizer.codes(values, RANGE) == codes).all()
    np.testing.assert_allclose([values[0], values[-1]], [-RANGE, RANGE], rtol=1e-6)
    np.testing.assert_allclose(np.diff(values), 2 * RANGE / (2**bits - 1), rtol=1e-4)


def test_a_weight_that_is_not_a_number_stays_one():
    quantized = UniformQuantizer(2).quantize(jnp.float32([jnp.nan, jnp.inf, -jnp.inf]), RANGE)
    np.testing.assert_array_equal(quantized, np.float32([np.nan, RANGE, -RANGE]))


def test_one_bit_has_its_only_threshold_at_zero():
    quantizer = UniformQuantizer(1)
    weights = jnp.float32([-0.7, -0.01, 0.01, 0.7])
    threshold, r, _ = quantizer.place(weights, RANGE)
    assert (threshold == 0).all()
    np.testing.assert_allclose(r, weights / (2 * RANGE), rtol=1e-6)
    assert quantizer.codes(weights, RANGE).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize('bits', [1, 2, 3, 8])
def test_the_threshold_of_a_place_is_the_nearest(bits):
    quantizer = UniformQuantizer(bits)
    weights = np.random.default_rng(0).uniform(-RANGE, RANGE, 5000).astype(np.float32)
    thresholds = -RANGE + (np.arange(2**bits - 1) + 0.5) * 2 * float(RANGE) / (2**bits - 1)
    nearest = thresholds[np.abs(weights[:, None] - thresholds).argmin(axis=1)]
    threshold, r, _ = quantizer.place(weights, RANGE)
    np.testing.assert_allclose(threshold, nearest, atol=1e-6)
    np.testing.assert_allclose(r, (weights - nearest) / (2 * RANGE / (2**bits - 1)), atol=1e-4)
    assert (np.abs(r) <= 0.5).all()


@pytest.mark.parametrize('bits', [1, 2, 4, 8])
def test_clip_to_cell_gives_the_nearest_float_of_the_cell(bits):
    quantizer = UniformQuantizer(bits)
    random = np.random.default_rng(1)
    weights = random.uniform(-1.5, 1.5, 1000).astype(np.float32)
    codes = random.integers(0, 2**bits, 1000)
    clipped = np.asarray(quantizer.clip_to_cell(weights, codes, RANGE))
    assert (quantizer.codes(clipped, RANGE) == codes).all()
    assert (np.abs(clipped) <= RANGE).all()
    moved = clipped != weights
    towards = np.nextafter(clipped, weights)
    outside = (np.asarray(quantizer.codes(towards, RANGE)) != codes) | (np.abs(towards) > RANGE)
    assert moved.any() and outside[moved].all()


def test_a_channel_quantizes_as_if_it_were_alone():
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 4, 5))
    quantizer, range_ = UniformQuantizer(3), channel_max_abs(kernel)
    together = quantizer.codes(kernel, range_)
    for channel in range(5):
        assert (together[..., channel] == quantizer.codes(kernel[..., channel], range_[0, 0, 0, channel])).all()


@pytest.mark.parametrize('bits', [0, 9, -1, 2.0, True, '2', None])
def test_bits_outside_1_to_8_are_refused(bits):
    with pytest.raises(ValueError, match=r'1\.\.8'):
        UniformQuantizer(bits)


def test_ranges_of_channels_are_of_the_rank_of_the_weights():
    """As with JAX_NUMPY_RANK_PROMOTION=raise in the environment of a user who wants to know."""
    quantizer, R, weights = UniformQuantizer(2), jnp.ones((1, 4)), jnp.ones((3, 4))
    with jax.numpy_rank_promotion('raise'):
        clipped = jax.eval_shape(lambda w: quantizer.clip_to_cell(w, quantizer.codes(w, R), R), weights)
    assert clipped.shape == weights.shape
