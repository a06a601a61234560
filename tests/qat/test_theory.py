"""alpha and M against numerical integration written apart, the equation that M solves, and what the theorem needs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from qat import estimators
from qat.clipping import CLIP, PASS, RECIPROCAL
from qat.quantizers import UniformQuantizer
from qat.slopes import CATALOGUE
from qat.theory.coverage import NotCovered, conditions_that_fail
from qat.theory.quadrature import quadrature
from qat.theory.recipe import UNCHANGED, obstacles, recipe
from qat.theory.weight_map import WeightMap, alpha, alpha_if_covered, antiderivative
from qat.transfer import Transfer

RANGE = jnp.float32(np.sqrt(6 / 9))
COVERED = {
    'ste': (1.0, {}),
    'dsq': (0.4544, {'k': 3.0}),
    'soft_round': (0.320, {'a': 2.0}),
    'sine': (0.8, {'lam': 0.9}),
    'rdfs': (0.1135, {'A': 0.1}),
    'dge': (0.359, {'k': 2.0, 'clamp': 10.0}),
    'mad': (1.0, {}),
}
NOT_COVERED = {
    'ewgs': 'incoming gradient',
    'ede': 'changes with time',
    'reste': 'changes with time',
    'swish_sign': 'not positive',
}
CASES = [(name, given) for name, (_, other) in COVERED.items() for given in [{}, other]]
ESTIMATORS = [estimators.make(name, 2, **given) for name, given in CASES]
PASSING = [dataclasses.replace(each, clip=rule) for each in ESTIMATORS[::2] for rule in (PASS, RECIPROCAL)]


def id_of(estimator) -> str:
    return f'{estimator}-{estimator.clip.name}'


def test_every_slope_of_the_catalogue_is_covered_or_not():
    assert not set(COVERED) & set(NOT_COVERED)
    assert {*COVERED, *NOT_COVERED} == set(CATALOGUE)
    for name in CATALOGUE:
        assert (alpha_if_covered(estimators.make(name, 2)) is None) == (name in NOT_COVERED)


def test_every_closed_form_is_compared():
    assert {name for name, entry in CATALOGUE.items() if entry.closed_form} <= set(COVERED)


@pytest.mark.parametrize('estimator', [each for each in ESTIMATORS if each.closed_form], ids=str)
def test_closed_forms_equal_quadrature_in_float64(estimator):
    nodes, F, *_ = quadrature(estimator)
    exact = estimator.closed_form(estimator.bits, **dict(estimator.parameters))
    with jax.enable_x64(True):
        found = np.asarray(exact.value(jnp.asarray(nodes)))
        np.testing.assert_allclose(found, F, rtol=0, atol=1e-10 * (F[-1] - F[0]))
        if exact.inverse:
            np.testing.assert_allclose(exact.inverse(exact.value(jnp.asarray(nodes))), nodes, atol=1e-12)


def slope_at(estimator, x: float) -> float:
    with jax.enable_x64(True):
        return float(estimator(jnp.float64(x)))


@pytest.mark.parametrize('estimator', ESTIMATORS, ids=str)
def test_alpha_is_the_harmonic_mean(estimator):
    kinks = [0.0, *np.linspace(-0.45, 0.45, 19)]
    integral, _ = integrate.quad(lambda x: 1 / slope_at(estimator, x), -0.5, 0.5, points=kinks, limit=400)
    assert alpha(estimator) == pytest.approx(1 / integral, rel=1e-6)
    F = quadrature(estimator).F
    assert 1 / (F[-1] - F[0]) == pytest.approx(1 / integral, rel=1e-6)


@pytest.mark.parametrize('name', COVERED)
def test_alpha_is_as_published(name):
    assert alpha(estimators.make(name, 2)) == pytest.approx(COVERED[name][0], abs=6e-4)


@pytest.mark.parametrize('bits, k, expected', [(2, 5.5, 0.6095), (4, 18.0, 0.878)])
def test_alpha_of_other_dsq(bits, k, expected):
    # theory.md's 0.6095 is for the earlier k = 5.5.
    assert alpha(estimators.make('dsq', bits, k=k)) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize('bits', [2, 4])
@pytest.mark.parametrize('estimator', ESTIMATORS, ids=str)
def test_closed_form_and_quadrature_agree(estimator, bits):
    estimator = estimators.make(estimator.name, bits, **dict(estimator.parameters))
    weights = jnp.linspace(-1.2 * RANGE, 1.2 * RANGE, 10_001, dtype=jnp.float32)
    exact, numeric = (jax.jit(WeightMap(estimator, closed_form=choice))(weights, RANGE) for choice in (True, False))
    np.testing.assert_allclose(exact, numeric, atol=1e-6)


# M outside the range, written from the integral of each clip rule: (w, R, alpha) -> M(w).
OUTSIDE = {
    'clip': lambda w, R, alpha: w,
    'pass': lambda w, R, alpha: np.sign(w) * (R + alpha * (abs(w) - R)),
    'reciprocal': lambda w, R, alpha: np.sign(w) * (R + alpha * (w**2 - R**2) / (2 * R)),
}


def test_M_of_mad_is_as_published():
    w = np.float32([-3.0, -1.0, 1.25, 8.0])
    np.testing.assert_allclose(
        WeightMap(estimators.make('mad', 2))(w, RANGE), np.sign(w) * (RANGE**2 + w**2) / (2 * RANGE), rtol=1e-6
    )


@pytest.mark.parametrize(
    'estimator, bits',
    [
        *((each, 2) for each in [*ESTIMATORS, *PASSING]),
        *(pytest.param(each, bits, marks=pytest.mark.slow) for each in ESTIMATORS[::2] for bits in (1, 8)),
    ],
    ids=lambda value: value if isinstance(value, int) else id_of(value),
)
def test_properties_of_M(estimator, bits):
    clip = estimator.clip
    estimator = estimators.make(estimator.name, bits, **dict(estimator.parameters))
    estimator = dataclasses.replace(estimator, clip=clip)
    quantizer, weight_map = UniformQuantizer(bits), WeightMap(estimator)
    M, inverse = jax.jit(weight_map), jax.jit(weight_map.inverse)
    weights = np.sort(np.random.default_rng(bits).uniform(-1.3 * RANGE, 1.3 * RANGE, 20_000).astype(np.float32))
    mapped = np.asarray(M(weights, RANGE))
    assert (quantizer.codes(mapped, RANGE) == quantizer.codes(weights, RANGE)).all()
    assert np.diff(mapped).min() >= -2e-7 * RANGE  # increasing, to the last bits of float32
    # Rounding M(w) to float32 costs the inverse that rounding times max(1 / M') = max(s) / alpha.
    largest = max(1.0, float(estimator(jnp.linspace(-0.5, 0.5, 1001)).max()))
    np.testing.assert_allclose(inverse(mapped, RANGE), weights, atol=3e-7 * largest / weight_map.alpha)
    thresholds = (jnp.arange(2**bits - 1) - (2**bits - 2) / 2) * quantizer.step_size(RANGE)
    np.testing.assert_allclose(weight_map(thresholds, RANGE), thresholds, atol=1e-7)
    outside = np.abs(weights) > RANGE
    expected = OUTSIDE[clip.name](np.asarray(weights, np.float64), float(RANGE), weight_map.alpha)
    if clip.passes:
        np.testing.assert_allclose(mapped[outside], expected[outside], rtol=1e-6)
    else:
        assert (mapped[outside] == weights[outside]).all()
        assert (inverse(weights, RANGE)[outside] == weights[outside]).all()


@pytest.mark.parametrize('estimator', ESTIMATORS[::2], ids=str)
def test_M_keeps_the_code_of_four_million_weights(estimator):
    quantizer, weight_map = UniformQuantizer(2), WeightMap(estimator)
    random = np.random.default_rng(0)
    anywhere = random.uniform(-1.1 * RANGE, 1.1 * RANGE, 3_000_000)
    thresholds = np.array([-1, 0, 1]) * float(quantizer.step_size(RANGE))
    nearby = random.choice(thresholds, 1_000_000) + 10.0 ** random.uniform(-12, -3, 1_000_000) * random.choice(
        [-1, 1], 1_000_000
    )
    weights = np.concatenate([anywhere, nearby]).astype(np.float32)
    wrong = quantizer.codes(jax.jit(weight_map)(weights, RANGE), RANGE) != quantizer.codes(weights, RANGE)
    assert not wrong.any()
    back = jax.jit(weight_map.inverse)(weights, RANGE)
    assert (quantizer.codes(back, RANGE) == quantizer.codes(weights, RANGE)).all()


def derivative(function, w: np.ndarray, h: float = 1e-6) -> np.ndarray:
    """d function / dw by central differences in float64, good to about 1e-9 for what is smooth there."""
    above, below = np.asarray(jax.jit(function)(np.stack([w + h, w - h])))
    return (above - below) / (2 * h)


@pytest.mark.parametrize(
    'estimator, closed_form',
    [
        *((each, True) for each in [*ESTIMATORS, *PASSING]),
        *(pytest.param(each, False, marks=pytest.mark.slow) for each in ESTIMATORS[::2]),
    ],
    ids=lambda value: str(value) if isinstance(value, bool) else id_of(value),
)
def test_M_solves_the_equation_that_makes_a_step_a_step_of_STE(estimator, closed_form):
    """dM/dw = alpha s_twin / s, inside the cells and, where gradients pass, outside the range."""
    R, weight_map = float(RANGE), WeightMap(estimator, closed_form=closed_form)
    twin = estimators.ste_with_clip_of(estimator)
    w = np.random.default_rng(0).uniform(-2 * R, 2 * R, 4000)
    with jax.enable_x64(True):
        r = estimator.quantizer.place(w, R).offset
        # Away from the corners of the cells and of s, where M has no second derivative: thresholds, and dge's knees.
        smooth = np.abs(np.abs(r) - 0.5) > 1e-3
        smooth &= (np.abs(r) > 0.02) & (np.abs(estimator(r) - dict(estimator.parameters).get('clamp', 0)) > 1e-2)
        smooth |= np.abs(w) > R
        smooth &= np.abs(np.abs(w) - R) > 1e-3
        slope, slope_of_twin = (np.asarray(jax.jit(each.at)(w, R)) for each in (estimator, twin))
        found = derivative(lambda w: weight_map(w, R), w)
    passes = slope > 0
    expected = weight_map.alpha * slope_of_twin / np.where(passes, slope, np.nan)
    assert (smooth & passes & (np.abs(w) < R)).sum() > 1000
    assert (smooth & passes & (np.abs(w) > R)).sum() == (estimator.clip.passes and (smooth & (np.abs(w) > R)).sum())
    # The quadrature interpolates linearly between float32 nodes.
    tolerance = {'rtol': 1e-6, 'atol': 1e-7} if closed_form else {'rtol': 1e-2, 'atol': 1e-3}
    np.testing.assert_allclose(found[smooth & passes], expected[smooth & passes], **tolerance)
    np.testing.assert_allclose(found[~passes], 1, rtol=1e-8)  # neither run moves by a gradient


def test_outside_the_range_each_clip_rule_needs_its_own_M():
    """mad's map, (R^2 + w^2) / 2R, is no map of an estimator whose gradients pass unchanged."""
    R, w = 0.8, np.linspace(0.9, 2, 50)
    estimator = dataclasses.replace(estimators.make('dsq', 2), clip=PASS)
    needed = alpha(estimator) * 1.0 / 1.0  # s_twin = s = 1 there
    of_mad = derivative(lambda w: (R**2 + w**2) / (2 * R), w)
    assert np.abs(of_mad / needed - 1).min() > 1
    with jax.enable_x64(True):
        ours = derivative(lambda w: WeightMap(estimator)(w, R), w)
    np.testing.assert_allclose(ours, needed, rtol=1e-8)


def test_M_takes_runs_of_both_to_each_other_outside_the_range():
    """The theorem itself where s = R / |w|: gradient descent on a constant gradient, in steps of 1e-4, in float64."""
    R, g, rate = 0.8, -1.0, 1e-4
    for clip, slope in ((PASS, lambda w: 1.0), (RECIPROCAL, lambda w: R / w), (CLIP, lambda w: 0.0)):
        estimator = dataclasses.replace(estimators.make('dsq', 2), clip=clip)
        weight_map = WeightMap(estimator)
        with jax.enable_x64(True):
            w, v = 1.0, float(weight_map(np.float64(1.0), R))
            for _ in range(5000):
                w, v = w - rate * slope(w) * g, v - rate * weight_map.alpha * g * clip.passes
            assert float(weight_map(np.float64(w), R)) == pytest.approx(v, rel=1e-4)


def test_M_of_a_constant_slope_is_exactly_the_identity():
    weights = jax.random.normal(jax.random.key(0), (10_000,))
    assert (WeightMap(estimators.make('ste', 3))(weights, RANGE) == weights).all()


def test_per_channel_M():
    """Also of a kernel with two output axes: each channel is as if it were alone."""
    ranges = jnp.float32([[[0.5, 1.0, 2.0], [1.5, 0.25, 0.75]]])
    weights = jax.random.normal(jax.random.key(0), (1000, 2, 3))
    weight_map = WeightMap(estimators.make('dsq', 2))
    for function in (jax.jit(weight_map), jax.jit(weight_map.inverse)):
        together = function(weights, ranges)
        assert together.shape == weights.shape
        for head, channel in np.ndindex(2, 3):
            alone = function(weights[:, head, channel], ranges[0, head, channel])
            np.testing.assert_allclose(together[:, head, channel], alone, atol=1e-6)


@pytest.mark.parametrize('shape', [(), (1,), (3,), (2, 3), (2, 1, 4)])
def test_M_keeps_the_shape(shape):
    weight_map, weights = WeightMap(estimators.make('dsq', 2)), jnp.full(shape, 0.3, jnp.float32)
    assert weight_map(weights, RANGE).shape == weight_map.inverse(weights, RANGE).shape == shape


@settings(max_examples=10)
@given(st.floats(0.3, 3), st.floats(0, 0.9), st.integers(1, 8))
def test_a_users_slope_gets_alpha_and_M(height, depth, bits):
    def bump(r, *, height, depth):
        return height * (1 - depth * (2 * r) ** 2)

    estimator = estimators.from_slope(bump, bits, height=height, depth=depth)
    root = np.sqrt(depth)
    expected = height * root / np.arctanh(root) if depth > 1e-6 else height
    assert alpha(estimator) == pytest.approx(expected, rel=1e-5)
    weights = jnp.linspace(-RANGE, RANGE, 4001, dtype=jnp.float32)
    weight_map, quantizer = WeightMap(estimator), UniformQuantizer(bits)
    mapped = weight_map(weights, RANGE)
    assert (quantizer.codes(mapped, RANGE) == quantizer.codes(weights, RANGE)).all()
    np.testing.assert_allclose(weight_map.inverse(mapped, RANGE), weights, atol=1e-5)


def test_a_users_function_named_like_a_catalogued_one_is_its_own():
    def sine(r):
        return 2 + jnp.cos(2 * jnp.pi * r)

    assert alpha(estimators.from_slope(sine, 2)) == pytest.approx(np.sqrt(3), rel=1e-6)


@pytest.mark.parametrize('name', NOT_COVERED)
def test_negative_controls_are_refused_with_the_reason(name):
    estimator = estimators.make(name, 2)
    assert NOT_COVERED[name] in conditions_that_fail(estimator)[0]
    with pytest.raises(NotCovered, match=NOT_COVERED[name]):
        WeightMap(estimator)


@pytest.mark.parametrize(
    'slope, reason',
    [
        (lambda r: 1 + r, 'half cells'),
        (lambda r: 0.4 - jnp.abs(r), 'not positive'),
        (lambda r, *, progress: 1 + progress + 0 * r, 'time'),
    ],
)
def test_conditions_of_a_users_slope(slope, reason):
    reasons = conditions_that_fail(estimators.from_slope(slope, 2, name='mine'))
    assert any(reason in found for found in reasons)


def test_quadrature_stands_in_where_there_is_no_closed_form():
    mine = estimators.from_slope(CATALOGUE['soft_round'].slope, 2, name='mine')
    assert mine.closed_form is None and antiderivative(mine).inverse
    assert alpha(mine) == pytest.approx(alpha(estimators.make('soft_round', 2)), rel=1e-7)


def test_recipes():
    dsq = estimators.make('dsq', 2)
    by_class = {name: recipe(dsq, Transfer(name, '')) for name in ('map', 'identity')}
    assert by_class['map'].remaps_initialization and by_class['map'].learning_rate_factor == pytest.approx(
        0.4544, abs=1e-4
    )
    assert by_class['identity'] == UNCHANGED
    with pytest.raises(NotCovered, match='because'):
        recipe(dsq, Transfer('none', 'because'))
    with pytest.raises(NotCovered, match='gradient'):
        recipe(estimators.make('ewgs', 2), Transfer('identity', ''))


def test_a_constant_slope_under_a_scale_free_optimizer_is_ste():
    scale_free, decayed = Transfer('none', 'so', scale_free=True), Transfer('none', 'so')
    twice = estimators.from_slope(lambda r: jnp.full_like(r, 2.0), 2, name='twice')
    assert recipe(twice, scale_free) == UNCHANGED and obstacles(twice, scale_free) == []
    assert obstacles(twice, decayed) == obstacles(estimators.make('dsq', 2), scale_free) == ['so']
    assert recipe(estimators.make('ste', 2), decayed) == UNCHANGED
    assert recipe(twice, Transfer('map', '')).learning_rate_factor == pytest.approx(2)
