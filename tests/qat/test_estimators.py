"""Every slope is what the rounding primitive multiplies by: tables, references written apart, and transforms."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qat import clipping, estimators
from qat.clipping import ClipRule
from qat.estimators import fake_quantize
from qat.slopes import CATALOGUE

RANGE = 1.5  # at 2 bits: step 1, thresholds -1, 0, 1


def sech2(x: float) -> float:
    return 1 / math.cosh(x) ** 2


def reste(r, g, p, o_end=3.0):
    o = 1 + (o_end - 1) * p
    return 0.1 ** (1 / o - 1) if abs(2 * r) <= 0.1 else abs(2 * r) ** (1 / o - 1) / o


# Written from the papers with Python's own mathematics: (r, gradient, progress, parameters) -> s.
REFERENCES = {
    'ste': lambda r, g, p: 1.0,
    'mad': lambda r, g, p: 1.0,
    'dsq': lambda r, g, p, k=6.5: (u := k / 3) / math.tanh(u) * sech2(2 * u * r),
    'soft_round': lambda r, g, p, a=5.0: a / (2 * math.tanh(a / 2)) * sech2(a * r),
    'sine': lambda r, g, p, lam=0.6: 1 + lam * math.cos(2 * math.pi * r),
    'rdfs': lambda r, g, p, A=0.21: (
        (1 - (c := math.sqrt(2) * math.pi * A) * math.cos(math.pi * (0.5 - abs(r))))
        / (1 + c * math.cos(math.pi * (0.5 - abs(r))))
    ),
    'dge': lambda r, g, p, k=5.0, clamp=3.0: clamp if r == 0 else min(abs(2 * r) ** (1 / k - 1) / k, clamp),
    'ewgs': lambda r, g, p, d=0.2: 1 + d * math.copysign(1, g) * (r + 0.5 if r < 0 else r - 0.5),
    'ede': lambda r, g, p: max(1 / (t := 0.1 * 10 ** (2 * p)), 1) * t * (1 - math.tanh(t * 2 * r) ** 2),
    'reste': reste,
    'swish_sign': lambda r, g, p, b=5.0: b * (2 - b * 2 * r * math.tanh(b * r)) / (1 + math.cosh(b * 2 * r)),
}
OTHER_PARAMETERS = {
    'dsq': {'k': 2.0},
    'soft_round': {'a': 1.5},
    'sine': {'lam': 0.95},
    'rdfs': {'A': 0.05},
    'dge': {'k': 2.0, 'clamp': 10.0},
    'ewgs': {'d': 1.0},
    'reste': {'o_end': 5.0},
    'swish_sign': {'b': 1.0},
}
# The published formulas in 40-digit arithmetic (mpmath), rounded, at r = 0, 0.25, -0.5.
TABLE = {
    'ste': (1, 1, 1),
    'mad': (1, 1, 1),
    'dsq': (2.2242924, 0.82049227, 0.11375858),
    'soft_round': (2.5339183, 0.71054835, 0.067382529),
    'sine': (1.6, 1.0, 0.4),
    'rdfs': (1.0, 0.20501204, 0.034658249),
    'dge': (3.0, 0.34822023, 0.2),
    'ede': (1.0, 0.99750416, 0.99006629),
    'reste': (1.0, 1.0, 1.0),
    'swish_sign': (5.0, -0.084621565, -0.19499225),
}


def test_every_entry_is_tested():
    assert set(REFERENCES) == set(CATALOGUE), 'REFERENCES here, and COVERED or NOT_COVERED of test_theory.py'


@pytest.mark.parametrize('name', TABLE)
def test_value_table(name):
    values = estimators.make(name, 2)(jnp.float32([0, 0.25, -0.5]))
    np.testing.assert_allclose(values, TABLE[name], atol=2e-6)


CASES = [(name, {}) for name in CATALOGUE] + list(OTHER_PARAMETERS.items())


def pullback(estimator, weights, gradient, progress=0.0):
    """What the primitive makes of an incoming gradient."""

    def forward(w):
        return fake_quantize(estimator, w, jnp.float32(RANGE), jnp.float32(progress))

    value, vjp = jax.vjp(forward, weights)
    return value, vjp(gradient)[0]


@pytest.mark.parametrize('name, parameters', CASES)
def test_the_primitive_multiplies_by_the_slope(name, parameters):
    estimator = estimators.make(name, 2, **parameters)
    for progress in (0.0, 0.4, 1.0) if estimator.needs('progress') else (0.0,):
        check_against_reference(name, parameters, estimator, progress)


def check_against_reference(name, parameters, estimator, progress):
    random = np.random.default_rng(0)
    weights = np.concatenate([random.uniform(-RANGE, RANGE, 300), [-1.5, 1.5, 0.0, -1.0, 1.0]]).astype(np.float32)
    gradient = random.normal(size=weights.shape).astype(np.float32)
    values, product = pullback(estimator, weights, gradient, progress)
    thresholds = np.array([-1.0, 0.0, 1.0])
    for weight, value, g, actual in zip(weights, values, gradient, product):
        r = float(weight) - thresholds[np.abs(weight - thresholds).argmin()]
        expected = REFERENCES[name](r, g, progress, **parameters)
        assert actual == pytest.approx(expected * g, rel=2e-4, abs=2e-6)
        assert value == min(max(round(float(weight) + 1.5), 0), 3) - 1.5


# s outside the range, by the name of the clip rule: x = |w| / R -> s.
OUTSIDE = {'clip': lambda x: 0.0, 'pass': lambda x: 1.0, 'reciprocal': lambda x: 1 / x}
CLIP_RULES = {rule.name: rule for rule in vars(clipping).values() if isinstance(rule, ClipRule)}


def test_every_clip_rule_is_tested():
    assert set(OUTSIDE) == set(CLIP_RULES)


@pytest.mark.parametrize('rule', OUTSIDE)
@pytest.mark.parametrize('name', CATALOGUE)
def test_the_clip_rule_is_an_axis_of_its_own(name, rule):
    """Whatever a slope is inside, outside it is the rule's alone; inside, the rule changes nothing."""
    weights = jnp.float32([-3.0, -1.51, 1.51, 4.5, -1.2, 0.1, 1.5])
    estimator = estimators.make(name, 2)
    _, product = pullback(dataclasses.replace(estimator, clip=CLIP_RULES[rule]), weights, jnp.ones(7))
    expected = [OUTSIDE[rule](abs(w) / RANGE) for w in weights[:4].tolist()]
    np.testing.assert_allclose(product[:4], expected, rtol=1e-6)
    assert (product[4:] == pullback(estimator, weights, jnp.ones(7))[1][4:]).all()


@pytest.mark.parametrize('name', CATALOGUE)
def test_the_clip_rule_of_the_catalogue(name):
    assert estimators.make(name, 2).clip.name == ('reciprocal' if name == 'mad' else 'clip')


@pytest.mark.parametrize('rule, expected', [('clip', [0, 1, 0]), ('pass', [1, 1, 1]), ('reciprocal', [1, 1, 1])])
def test_ste_of_a_twin_passes_outside_only_where_its_estimator_does(rule, expected):
    weights = jnp.float32([-3.0, 0.2, 2.0])
    estimator = dataclasses.replace(estimators.make('dsq', 2), clip=CLIP_RULES[rule])
    twin = estimators.ste_with_clip_of(estimator)
    assert pullback(twin, weights, jnp.ones(3))[1].tolist() == expected
    assert twin.quantizer == estimator.quantizer


@pytest.mark.parametrize('name', CATALOGUE)
def test_transforms_change_nothing(name):
    estimator = estimators.make(name, 2)
    weights = jnp.linspace(-2, 2, 64, dtype=jnp.float32).reshape(4, 16)
    gradient = jax.random.normal(jax.random.key(1), weights.shape)

    def forward(w):
        return fake_quantize(estimator, w, jnp.float32(RANGE), jnp.float32(0.3))

    def loss(w, function=forward):
        return jnp.sum(function(w) * gradient)

    expected = jax.grad(loss)(weights)
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(weights), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.grad(lambda w: loss(w, jax.vmap(forward)))(weights), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.grad(lambda w: loss(w, jax.checkpoint(forward)))(weights), expected, rtol=1e-5)
    donated = jax.jit(jax.grad(loss), donate_argnums=0)(jnp.copy(weights))
    np.testing.assert_allclose(donated, expected, rtol=1e-5)


def test_per_channel_ranges_broadcast():
    ranges = jnp.float32([[1.5, 3.0, 0.75]])
    estimator = estimators.make('dsq', 2)
    weights = jax.random.uniform(jax.random.key(0), (50, 3), minval=-3, maxval=3)
    together = estimator.at(weights, ranges)
    for channel in range(3):
        np.testing.assert_allclose(
            together[:, channel], estimator.at(weights[:, channel], ranges[0, channel]), rtol=1e-5
        )


def test_range_and_progress_get_no_gradient():
    gradients = jax.grad(
        lambda R, p: fake_quantize(estimators.make('ede', 2), jnp.ones(3), R, p).sum(),
        argnums=(0, 1),
    )(jnp.float32(1.5), jnp.float32(0.5))
    assert gradients == (0, 0)


@pytest.mark.parametrize('bits, k', [(1, 2.0), (2, 6.5), (4, 18.0)])
def test_dsq_default_depends_on_the_bits(bits, k):
    assert str(estimators.make('dsq', bits)) == f'dsq(k={k})'


@pytest.mark.parametrize(
    'name, bits, parameters, message',
    [
        ('sinus', 2, {}, "did you mean 'sine'"),
        ('sine', 2, {'lam': 1.0}, r'lam must be a number in \[0, 1\), got 1.0'),
        ('sine', 2, {'lam': 'x'}, 'lam must be a number'),
        ('sine', 2, {'lam': float('nan')}, 'lam must be a number'),
        ('sine', 2, {'lambda_': 0.5}, "unknown argument of estimator 'sine' 'lambda_'"),
        ('ste', 2, {'k': 1}, 'valid: none'),
        ('rdfs', 2, {'A': 0.3}, r'\(0, 0.2251\)'),
        ('dsq', 3, {}, 'no default k for 8 values'),
        ('dsq', 2, {'k': -1}, 'k must be a number'),
        ('ste', 9, {}, r'1\.\.8'),
    ],
)
def test_refusals_say_what_is_wrong(name, bits, parameters, message):
    with pytest.raises(ValueError, match=message):
        estimators.make(name, bits, **parameters)


def test_a_users_slope():
    def mine(r, *, height=2.0):
        return height - jnp.abs(r)

    estimator = estimators.from_slope(mine, 2, height=3.0)
    assert str(estimator) == 'mine(height=3.0)'
    _, product = pullback(estimator, jnp.float32([0.25]), jnp.ones(1))
    np.testing.assert_allclose(product, [2.75], rtol=1e-6)


@pytest.mark.parametrize(
    'slope, message',
    [
        (lambda r: jnp.sum(r), 'shaped like r'),
        (lambda r: jnp.where(r > 0.3, jnp.nan, 1.0), 'not finite at r = 0.31'),
        (lambda r: 1 // 0, 'raised ZeroDivisionError'),
        (lambda r: 'one', 'shaped like r|raised'),
    ],
)
def test_a_bad_slope_is_refused(slope, message):
    with pytest.raises(ValueError, match=message):
        estimators.from_slope(slope, 2, name='bad')


@given(st.sampled_from(sorted(CATALOGUE)), st.floats(-0.5, 0.5, width=32), st.floats(0, 1, width=32))
def test_slopes_are_finite(name, r, progress):
    assert np.isfinite(estimators.make(name, 2)(jnp.float32(r), jnp.float32(-1), jnp.float32(progress)))
