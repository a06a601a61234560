"""Which slopes are covered, under which optimizers and with what cautions; alpha of those that are awkward."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import beta

from qat import estimators, optimizers
from qat.lockstep import checks
from qat.lockstep.conversion import Conversion
from qat.lockstep.twins import twins
from qat.slopes import CATALOGUE
from qat.theory import quadrature
from qat.theory.coverage import NotCovered, cautions, check_covered, conditions_that_fail, extremes, sampled, steepness
from qat.theory.recipe import UNCHANGED, recipe
from qat.theory.weight_map import WeightMap, alpha, alpha_if_covered
from qat.transfer import Transfer

PI = jnp.pi
# slope, alpha, words of the cautions
COVERED = {
    'sqrt': (lambda r: jnp.sqrt(jnp.abs(r)), 0.5**1.5, ['0 at r = 0, though 1/s is integrable']),
    'power .9': (lambda r: jnp.abs(2 * r) ** 0.9, 0.1, ['0 at r = 0']),
    'power .1': (lambda r: jnp.abs(2 * r) ** 0.1, 0.9, ['0 at r = 0', 'vertical at r = 0']),
    'root of cos': (lambda r: jnp.abs(jnp.cos(2 * PI * r)) ** 0.5, np.pi / beta(0.25, 0.5), ['r = -0.25, 0.25']),
    'root of 1 - cos': (
        lambda r: (1 - jnp.cos(2 * PI * r)) ** 0.25,
        2**0.25 * np.pi / beta(0.25, 0.5),
        ['0 at r = 0', 'vertical'],
    ),
    'zero at a point': (lambda r: jnp.sign(r) ** 2, 1, ['0 at r = 0', 'jumps at r = 0:']),
    'jump': (lambda r: jnp.where(jnp.abs(r) < 0.2, 2.0, 1.0), 1.25, ['jumps at r = -0.2, 0.2:']),
    'jump across': (
        lambda r: jnp.where((r < -0.3) | ((r > 0.1) & (r < 0.3)), 2.0, 1.0),
        1.25,
        ['-0.3, 0.1, 0.3, 0.5:'],
    ),
    'above 0': (lambda r: jnp.abs(r) + 1e-8, 1 / (2 * np.log(5e7 + 1)), []),
    'in float32': (lambda r: (1 + 0.6 * jnp.cos(2 * PI * r)).astype(jnp.float32), 0.8, []),
    'fast': (lambda r: 2 + jnp.cos(200 * PI * r), np.sqrt(3), []),
    'many jumps': (lambda r: 1 + jnp.floor(jnp.abs(r) * 40), 1 / (np.sum(1 / np.arange(1, 21)) / 20), ['and 34 more']),
    'jump at the end of a panel': (
        lambda r: 0.25 + (jnp.abs(r) >= 0.42230299549963185) * 0.75,
        1 / (4 - 6 * (0.5 - 0.42230299549963185)),
        ['jumps at r = -0.422303, 0.422303'],
    ),
    'kinks': (lambda r: 1 + jnp.abs(jnp.abs(r) - 0.123), None, []),
    'small': (lambda r: 1e-12 * (1.2 + jnp.cos(2 * PI * r)), 1e-12 * np.sqrt(0.44), []),
}
# slope, why class 'map' refuses it, words of the cautions, which speak of class 'identity'
WITHOUT_M = {
    'cos': (lambda r: PI / 2 * jnp.cos(PI * r), 'integrable at r = -0.5, so alpha does not exist', ['-0.5, 0.5']),
    'cos squared': (lambda r: jnp.cos(PI * r) ** 2, 'integrable at r = -0.5', ['0 at r = -0.5, 0.5: the theorem']),
    'raised cos': (lambda r: 1 + jnp.cos(2 * PI * r), 'integrable at r = -0.5', ['-0.5, 0.5']),
    'Fourier': (lambda r: jnp.abs(jnp.cos(2 * PI * r)), 'integrable at r = -0.25', ['-0.25, 0.25']),
    'tent': (lambda r: 0.5 - jnp.abs(r), 'integrable at r = -0.5', ['-0.5, 0.5']),
    'cube': (lambda r: jnp.abs(r) ** 3, 'integrable at r = 0', ['at r = 0']),
    'odd place': (lambda r: jnp.abs(jnp.abs(r) - 0.1234567), 'integrable at r = -0.123457', ['0.123457']),
    'lopsided': (lambda r: 1 + r, 'half cells', ['jumps at r = 0.5']),
    'lopsided jump': (lambda r: jnp.where(r < 0.1, 2.0, 1.0), 'half cells', ['jumps at r = 0.1, 0.5']),
    'unsettled': (lambda r: 2 + jnp.sin(1e6 * r), 'does not settle', ['jumps']),
    'large': (lambda r: 1e38 * (1 + 0.5 * jnp.cos(2 * PI * r)), r"alpha is 8.7e\+37.*out of float32's reach", []),
    'spike': (lambda r: jnp.exp(-60 * jnp.abs(r)), "out of float32's reach", []),
}
REFUSED = {
    'negative': (lambda r: 0.4 - jnp.abs(r), 'is -0.1 at r = -0.5, not positive'),
    'zero': (lambda r: jnp.where(jnp.abs(r) < 0.25, 1.0, 0.0), '0 from r = -0.5 to -0.25, not positive'),
    'relu': (lambda r: jnp.maximum(r, 0), '0 from r = -0.5 to 0'),
    'gradient': (lambda r, gradient: 1 + 0 * r, 'incoming gradient'),
    'progress': (lambda r, progress: 1 + progress + 0 * r, 'changes with time'),
}


@functools.cache
def made(name: str) -> estimators.Estimator:
    slope = {**COVERED, **WITHOUT_M, **REFUSED}[name][0]
    return estimators.from_slope(slope, 2, name=name.replace(' ', '_'))


def check_cautions(name, expected):
    found = cautions(made(name))
    assert len(found) == len(expected) and all(words in said for words, said in zip(expected, found)), found


@pytest.mark.parametrize('name', COVERED)
def test_covered_with_the_alpha_that_integration_by_hand_gives(name):
    _, expected, words = COVERED[name]
    assert conditions_that_fail(made(name)) == conditions_that_fail(made(name), 'identity') == ()
    check_cautions(name, words)
    if expected is None:  # |r| from 0 to 1/2 in two pieces of log
        expected = 1 / (2 * np.log(1.123 * 1.377))
    assert alpha(made(name)) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize('name', WITHOUT_M)
def test_what_has_no_M_is_refused_for_sgd_and_fine_for_adam(name):
    _, reason, words = WITHOUT_M[name]
    with pytest.raises(NotCovered, match=reason):
        check_covered(made(name))
    assert len(conditions_that_fail(made(name))) == 1 and alpha_if_covered(made(name)) is None
    check_covered(made(name), 'identity')
    assert recipe(made(name), Transfer('identity', '')) == UNCHANGED
    check_cautions(name, words)


@pytest.mark.parametrize('name', REFUSED)
def test_what_is_covered_under_no_optimizer(name):
    for transfer_class in ('map', 'identity'):
        with pytest.raises(NotCovered, match=REFUSED[name][1]):
            recipe(made(name), Transfer(transfer_class, ''))
    assert cautions(made(name)) == ()


def test_an_alpha_below_the_reach_of_float32():
    steep = estimators.make('dsq', 2, k=200)
    with pytest.raises(NotCovered, match=r"alpha is 4.4e-54, .* out of float32's reach"):
        alpha(steep)
    with pytest.raises(NotCovered, match=r'in float32 its slope is 0 from r = -0.5 to'):
        check_covered(steep, 'identity')
    with pytest.raises(NotCovered, match=r'0 from r = -0.5 to'):
        alpha(estimators.make('dsq', 2, k=3000))
    for k, within in ((33, True), (36, False)):  # the harmonic mean over the arithmetic one, which is 1 here: 2^-23
        u = k / 3
        assert (u / np.tanh(u) / (0.5 + np.sinh(2 * u) / (4 * u)) > 2**-23) == within
        assert (alpha_if_covered(estimators.make('dsq', 2, k=k)) is not None) == within


@pytest.mark.parametrize('name', CATALOGUE)
def test_the_catalogue_needs_no_caution(name):
    assert cautions(estimators.make(name, 2)) == ()


def test_twins_and_conversion_of_a_slope_without_M_under_adam():
    adam, sgd = (optimizers.make(name).transfer('gradient') for name in ('adam', 'sgd'))
    assert twins(['ste', 'naive_ste'], made('lopsided'), adam)['ste'].recipe == UNCHANGED
    for name, transfer in (('map_ste', adam), ('ste', sgd)):
        with pytest.raises(NotCovered, match=f"'{name}' is refused.*half cells"):
            twins([name], made('lopsided'), transfer)
    ste = estimators.make('ste', 2)
    assert Conversion(made('lopsided'), ste, optimizers.make('adam'), 'gradient').kernel_learning_rate_factor(2.0) == 2
    with pytest.raises(NotCovered, match='half cells'):
        Conversion(made('lopsided'), ste, optimizers.make('sgd'), 'gradient')


def test_what_a_slope_is_like_over_a_cell():
    sine, swish = estimators.make('sine', 2, lam=0.5), estimators.make('swish_sign', 2)
    r = np.array([[-0.5, 0.0, 0.25], [0.5, 1 / 3, -0.25]])
    np.testing.assert_allclose(sampled(sine, r), 1 + 0.5 * np.cos(2 * np.pi * r), rtol=1e-14)
    assert sampled(sine, 0.25).shape == () and sampled(sine, np.zeros((0, 2))).shape == (0, 2)
    assert sampled(estimators.make('ewgs', 2), r).shape == r.shape
    assert extremes(sine) == (0.5, 1.5) and extremes(swish)[0] < 0
    assert steepness(estimators.make('ste', 2)) == 0 and steepness(swish) == np.inf
    u = 6.5 / 3  # d ln s/dr = -4 u tanh(2 u r)
    assert steepness(estimators.make('dsq', 2)) == pytest.approx(4 * u * np.tanh(u), rel=1e-3)
    assert steepness(made('jump')) == pytest.approx(2**12 * np.log(2))


def test_the_slope_is_sampled_while_a_program_is_traced():
    @jax.jit
    def traced(x):
        return x * extremes(estimators.make('sine', 2, lam=0.25))[1]

    assert traced(2.0) == 2.5


# What the generated slopes are made of: (kind, place or frequency, amount) each.
_AMOUNT = st.floats(0.05, 2)
_PIECE = st.one_of(
    st.tuples(st.just('power'), st.sampled_from([0.0, 0.25, 0.5, 0.2]), st.floats(0, 2.5)),
    st.tuples(st.just('cosine'), st.integers(1, 9), st.floats(0, 1)),
    st.tuples(st.just('step'), st.floats(0.01, 0.49), _AMOUNT),
)


def generated(r, *, pieces=(), product=True):
    """Products or sums of powers, cosines and steps of |r|."""
    x = jnp.abs(r)
    values = []
    for kind, where, amount in pieces:
        if kind == 'power':
            values.append(jnp.abs(2 * (x - where)) ** amount)
        elif kind == 'cosine':
            values.append(1 + amount * jnp.cos(2 * PI * where * x))
        else:
            values.append(jnp.where(x < where, amount, 1.0))
    return functools.reduce(jnp.multiply if product else jnp.add, values, jnp.ones_like(r) if product else 0 * r)


@settings(max_examples=8, deadline=None)
@given(st.lists(_PIECE, min_size=1, max_size=3), st.booleans())
def test_what_is_covered_has_an_alpha_and_an_M(pieces, product):
    estimator = estimators.from_slope(generated, 2, pieces=tuple(pieces), product=product)
    reasons = conditions_that_fail(estimator)
    with pytest.MonkeyPatch.context() as patch:  # another grid, half as fine again
        patch.setattr(quadrature, 'PANELS', 3 * 2**12)
        finer = quadrature.quadrature.__wrapped__(estimator)
    assert reasons or finer.divergence is None
    assume(not reasons)
    found = alpha(estimator)
    assert found == pytest.approx(1 / (finer.F[-1] - finer.F[0]), rel=1e-6)
    weights = np.sort(np.random.default_rng(0).uniform(-1.1, 1.1, 2000)).astype(np.float32)
    R, codes = jnp.float32(1), estimator.quantizer.codes
    mapped = WeightMap(estimator)(weights, R)
    assert (codes(mapped, R) == codes(weights, R)).all() and np.diff(mapped).min() >= -2e-7
    slopes, order = estimator.at(weights, R), np.random.default_rng(1).permutation(2000)
    np.testing.assert_allclose(estimator.at(weights[order], R), slopes[order], rtol=1e-5)
    np.testing.assert_allclose(estimator.at(weights.reshape(20, 5, 20), R), slopes.reshape(20, 5, 20), rtol=1e-5)


def with_nan(where):
    return lambda r: jnp.where(r == np.float32(where), jnp.nan, 1.0)


NOT_A_SLOPE = {
    'mean': (lambda r: (2 + r) / (2 + r).mean(), 'not elementwise: at r = '),
    'size': (lambda r: 1 + r.size / 100 + 0 * r, r'not elementwise.* in an array of shape \(\)'),
    'order': (lambda r: 1 + jnp.cumsum(r * r), 'not elementwise.*in another order'),
    'noise': (lambda r: 1 + jax.random.uniform(jax.random.key(0), r.shape), 'not elementwise'),
    'rank 1': (jax.vmap(lambda x: 1 + x * x), r'raised ValueError on an array of shape \(\): .*any shape, elementwise'),
    'rank 1 at most': (lambda r: jnp.convolve(jnp.atleast_1d(r), jnp.ones(1)).reshape(r.shape) + 1, r'shape \(3, 5\)'),
    '0 / 0': (lambda r: r / r, 'not finite at r = 0.0: nan'),
    'quarter': (with_nan(-0.25), 'not finite at r = -0.25'),
    'half': (with_nan(0.5), 'not finite at r = 0.5'),
    'neighbour': (with_nan(np.nextafter(np.float32(0.25), np.float32(1))), 'not finite at r = 0.25000003'),
    'near the end': (with_nan(np.nextafter(np.float32(0.5), np.float32(0))), 'not finite at r = 0.49999997'),
    'near 0': (lambda r: 1 / (r * r + (r == 0)), 'not finite at r = '),
    'gradient 0': (lambda r, *, gradient: gradient / gradient + r * r, 'r = -0.5 for a gradient of 0: nan'),
    'gradient below 0': (lambda r, *, gradient: jnp.sqrt(gradient) + r * r, 'for a gradient of -1'),
    'tiny gradient': (lambda r, *, gradient: 1 / (gradient + (gradient == 0)) ** 2 + r * r, 'a gradient of 2e-38'),
    'huge gradient': (lambda r, *, gradient: 1 + gradient**2 + r * r, 'a gradient of 1e.30: inf'),
    'progress': (lambda r, *, progress: 1 / (1 - progress) + r * r, 'at progress 1: inf'),
    'bfloat16': (lambda r: (1 + r * r).astype(jnp.bfloat16), 'computes in bfloat16: keep it in float32'),
    'bfloat16 inside': (lambda r: 1 + r.astype(jnp.bfloat16).astype(jnp.float32) ** 2, 'computes in bfloat16'),
    'float16': (lambda r: jnp.float16(1) + r.astype(jnp.float16), 'computes in float16'),
    'overflow': (lambda r: 1e39 + 0 * r, 'not finite at r = -0.5: inf'),
    'no float64': (lambda r: jax.lax.add(r * r, jnp.ones(r.shape, jnp.float32)), 'raised TypeError where r is float64'),
    'integers': (lambda r: jnp.ones(r.shape, jnp.int32), 'must return floats'),
}


@pytest.mark.parametrize('case', NOT_A_SLOPE)
def test_what_no_training_could_use_is_refused_in_a_line(case):
    slope, message = NOT_A_SLOPE[case]
    with pytest.raises(ValueError, match=message) as refused:
        estimators.from_slope(slope, 2, name='mine')
    assert '\n' not in str(refused.value)


class Bump:
    """A slope with a height of its own."""

    def __init__(self, height):
        self.height = height

    def __call__(self, r, width=1.0):
        return self.height + 0 * width * r


def plain(r, k=3.0):
    return k + 0 * r


def required(r, k):
    return k + 0 * r


@pytest.mark.parametrize(
    'slope, given, text, expected',
    [
        (plain, {}, 'plain(k=3.0)', 3),
        (plain, {'k': 5.0}, 'plain(k=5.0)', 5),
        (required, {'k': 2.0}, 'required(k=2.0)', 2),
        (functools.partial(plain, k=4.0), {}, 'plain(k=4.0)', 4),
        (functools.partial(plain, k=4.0), {'k': 6.0}, 'plain(k=6.0)', 6),
        (Bump(7.0), {'width': 2.0}, 'Bump(width=2.0)', 7),
    ],
)
def test_ways_of_writing_a_slope(slope, given, text, expected):
    estimator = estimators.from_slope(slope, 2, **given)
    assert str(estimator) == text and alpha(estimator) == pytest.approx(expected, rel=1e-9)


@dataclasses.dataclass
class Unhashable:
    def __call__(self, r):
        return 1 + r * r


@pytest.mark.parametrize(
    'slope, message',
    [
        (required, "needs a value for 'k'"),
        (Bump, 'Bump is a class: give an instance'),
        (Unhashable(), 'can be hashed'),
    ],
)
def test_ways_that_need_another_word(slope, message):
    with pytest.raises(ValueError, match=message):
        estimators.from_slope(slope, 2)


@pytest.mark.parametrize(
    'R, message',
    [
        (0.0, "range of 'conv' must be positive and finite, it is 0; he_uniform"),
        ([[1.0, 0.0, np.nan]], 'it is 0 in 2 of 3 channels .dead or pruned.*max_abs or he_uniform, a channel may be 0'),
        ([[1.0, np.inf]], 'it is inf in 1 of 2 channels'),
    ],
)
def test_a_range_of_0_names_layer_and_channels(R, message):
    with pytest.raises(ValueError, match=message):
        checks.ranges({'fine': jnp.float32(1), 'conv': jnp.float32(R)})
