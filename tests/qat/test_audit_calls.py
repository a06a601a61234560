"""What only calls tell of a JAX function: each dependence is found, and none is made up, in 16 bits either."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat.auditing.functions import audit_function
from qat.auditing.probing import sample

constant = jax.lax.stop_gradient


def grid(x, bits=4):
    return jnp.clip(jnp.round(x / 0.1), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * 0.1


def through(x, y):
    return x + constant(y - x)


def scaled(by):
    """Rounding whose incoming gradient becomes by(gradient)."""

    @jax.custom_vjp
    def rounded(x):
        return grid(x)

    rounded.defvjp(lambda x: (grid(x), None), lambda _, g: (by(g),))
    return rounded


def in_time(x, progress):
    return through(x, jnp.where(progress > 0.3, grid(x), grid(x, 3)))


def for_a_while(x, progress):
    return scaled(lambda g: jnp.where((progress > 0.2) & (progress < 0.4), 2 * g, g))(x)


def about_the_median(x):
    return through(x, jnp.where(x >= jnp.median(x), 1.0, -1.0))


def slope_of_the_mean(x):
    @jax.custom_vjp
    def rounded(x):
        return grid(x)

    rounded.defvjp(lambda x: (grid(x), 1 + jnp.abs(x.mean())), lambda more, g: (g * more,))
    return rounded(x)


def hysteresis():
    before = {}

    def rounded(x):
        q = grid(x)
        if not isinstance(q, jax.core.Tracer):
            last = before.get(x.shape, q)
            before[x.shape] = q = jnp.where(jnp.abs(x - last) < 0.08, last, q)
        return through(x, q)

    return rounded


DEPENDS = {
    'rounding in time': (in_time, {'rounding_in_time'}),
    'slope for a while': (for_a_while, {'progress'}),
    'the median of the weights': (about_the_median, {'other_weights'}),
    'a slope of other weights': (slope_of_the_mean, {'slope_of_others'}),
    'large gradients are clipped': (scaled(lambda g: jnp.clip(g, -10, 10)), {'gradient_size'}),
    'small gradients are lost': (scaled(lambda g: jnp.where(jnp.abs(g) < 1e-4, 0, g)), {'gradient_size'}),
    'nothing': (scaled(lambda g: g), set()),
}


def flags(function) -> set[str]:
    probed = sample(function, R=0.8, count=401).probed
    return {name for name, value in vars(probed).items() if value}


@pytest.mark.parametrize('case', DEPENDS)
def test_a_dependence_is_found(case):
    function, expected = DEPENDS[case]
    assert flags(function) == expected


def test_hysteresis_is_found():
    assert 'remembers' in flags(hysteresis())


@pytest.mark.parametrize('dtype', [jnp.float16, jnp.bfloat16])
def test_plain_ste_in_16_bits_depends_on_nothing(dtype):
    assert flags(lambda x: through(x.astype(dtype), grid(x, 3).astype(dtype))) == set()


def test_one_number_that_is_not_finite_is_no_chance():
    found = audit_function(lambda x: through(x, x / jnp.abs(x)))
    assert found.verdict == 'ste' and found.notes[0] == '1 of 4001 samples are not finite, and left out'


@pytest.mark.parametrize('R', [200.0, 1e-5])
def test_ranges_of_any_size_are_found(R):
    tried = sample(lambda x: through(jnp.clip(x, -R, R), jnp.round(jnp.clip(x, -R, R) / R * 7) * R / 7), count=401)
    assert np.abs(tried.q).max() == pytest.approx(R) and tried.is_whole


REFUSED = {
    'tuple': (lambda x: (x, 1), 'must return an array, and returned tuple'),
    'str': (lambda x: 'abc', 'must return an array, and returned str'),
    'None': (lambda x: None, 'must return an array, and returned NoneType'),
    'complex': (lambda x: x * 1j, 'must return real numbers'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_what_is_no_array_of_numbers_is_refused(case):
    function, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        sample(function, R=1.0)
