"""What must be small for a recipe to hold: kappa, eps, the length of a step."""

import jax.numpy as jnp
import numpy as np
import pytest

from qat import estimators, optimizers
from qat.lockstep.lockstep import Lockstep
from qat.lockstep.state import Moment
from qat.theory import small_parameters


@pytest.mark.parametrize(
    'name, arguments, expected',
    [
        ('adam', {'b2': 0.95}, 1e-3 / (0.05 * 0.5)),
        ('adam', {'b1': 0.999, 'b2': 0.9}, 1e-3 / (0.001 * 0.5)),  # the longer memory counts
        ('lion', {'b1': 0.9, 'b2': 0.99}, 1e-3 / (0.01 * 0.5)),
        ('rmsprop', {'decay': 0.8}, 1e-3 / (0.2 * 0.5)),
        ('rmsprop', {'decay': 0.8, 'momentum': 0.9}, 1e-2 / (0.2 * 0.5)),
        ('signsgd', {}, None),  # exact: it remembers nothing
        ('sgd', {'momentum': 0.9}, None),
    ],
)
def test_kappa(name, arguments, expected):
    found = small_parameters.kappa(optimizers.make(name, **arguments), 1e-3, 0.5)
    assert found == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    'estimator, steepest',
    [
        (estimators.make('sine', 2, lam=0.6), 2 * np.pi * 0.6 / np.sqrt(1 - 0.6**2)),  # s = 1 + lam cos(2 pi r)
        (estimators.make('dsq', 2, k=6.5), 4 * 6.5 / 3 * np.tanh(6.5 / 3)),
        (estimators.make('rdfs', 2, A=0.21), np.pi / np.sqrt(1 - 2 * (np.pi * 0.21) ** 2)),
        (estimators.make('ste', 2), 0),
        (estimators.make('mad', 2), 0),
    ],
    ids=str,
)
def test_what_a_slope_changes_by_within_the_memory(estimator, steepest):
    """By the analytic maximum of |d ln s/dr|."""
    assert small_parameters.slope_change(estimator, 0.3) == pytest.approx(0.3 * steepest, rel=1e-3)
    assert small_parameters.slope_change(estimator, None) is None


def jump(r):
    return jnp.where(r < 0.125, 1.0, 2.0)


def root(r):
    return 0.5 + jnp.abs(r) ** 0.2


@pytest.mark.parametrize(
    'estimator, why',
    [
        (estimators.from_slope(jump, 2), 'jumps at r = 0.125'),
        (estimators.from_slope(root, 2), 'is vertical at r = 0'),
        (estimators.make('ewgs', 2), 'depends on the gradient'),
        (estimators.make('ede', 2), 'changes with time'),
        (estimators.make('swish_sign', 2), 'is not positive everywhere'),
    ],
    ids=lambda value: str(value).replace(' ', '_'),
)
def test_where_no_steepness_bounds_the_change_kappa_itself_counts(estimator, why):
    assert small_parameters.unbounded(estimator) == why and small_parameters.slope_change(estimator, 1e-9) == np.inf
    assert small_parameters.large_slope_change(estimator, {'conv1': 0.05, 'conv2': None}) == ''
    said = small_parameters.large_slope_change(estimator, {'conv1': 0.06, 'conv2': 0.5, 'head': 0.01})
    assert said.startswith(f'kappa of conv2 is 0.5: above 0.05 in 2 of 3 layers, and {estimator} {why}; ')
    assert said.endswith('0.1 times the learning rate would do')


def test_a_large_slope_change_names_the_worst_layer():
    dsq, u = estimators.make('dsq', 2, k=6.5), 6.5 / 3
    limit = small_parameters.SLOPE_CHANGE_WARNING / (4 * u * np.tanh(u))
    assert small_parameters.large_slope_change(dsq, {'conv1': 0.01, 'conv2': 0.99 * limit, 'head': None}) == ''
    said = small_parameters.large_slope_change(dsq, {'conv1': 1.01 * limit, 'conv2': 10 * limit})
    assert said.startswith('kappa of conv2 is 0.47: ') and 'ln s of dsq(k=6.5) can change by 4, ' in said
    assert 'more than 0.4 in 2 of 2 layers' in said and said.endswith('0.1 times the learning rate would do')
    assert small_parameters.large_slope_change(estimators.make('mad', 2), {'conv1': 1e6}) == ''


@pytest.mark.parametrize(
    'name, arguments, says',
    [('adam', {'b1': 0.9, 'b2': 0.8}, True), ('adamw', {}, False), ('lion', {'b1': 0.99}, False)],
)
def test_a_longer_numerator(name, arguments, says):
    assert bool(small_parameters.longer_numerator(optimizers.make(name, **arguments))) == says


def test_a_step_is_measured_against_the_slope():
    """Of DSQ, |d ln s/dr| is at most 4 u tanh(u)."""
    dsq, u = estimators.make('dsq', 2, k=6.5), 6.5 / 3
    limit = small_parameters.LONGEST_STEP / (4 * u * np.tanh(u))
    assert small_parameters.long_steps(dsq, 0.9 * limit) == ''
    assert 'too long to follow M' in small_parameters.long_steps(dsq, 1.1 * limit)
    assert small_parameters.long_steps(estimators.make('ste', 2), 10.0) == ''


def test_the_share_of_denominators_with_eps_in_them():
    moments = {'a': jnp.float32([0.0, 1.0, 1e-4]), 'b': jnp.float32([[1e-8]])}
    assert small_parameters.share_with_eps(moments, 2e-3) == pytest.approx(2 / 3)
    assert small_parameters.share_with_eps({'a': jnp.zeros(3)}, 1.0) is None
    assert small_parameters.large_eps(1e-8, 0.0) == small_parameters.large_eps(1e-8, None) == ''
    assert 'the slope does not cancel' in small_parameters.large_eps(1.0, 1.0)


@pytest.mark.parametrize(
    'optimizer, estimator, bits, said',
    [
        (optimizers.make('adam', eps=1.0), 'dsq(k=6.5)', 2, 'eps=1 is more than a tenth'),
        (optimizers.make('adam', b1=0.99, b2=0.9), 'dsq(k=6.5)', 2, 'b1=0.99 is above b2=0.9'),
        (optimizers.make('adam'), 'dsq(k=6.5)', 2, None),
        (optimizers.make('sgd'), 'dsq(k=552)', 8, 'too long to follow M'),  # at 8 bits the u of 6.5 at 2 bits
        (optimizers.make('sgd'), 'dsq(k=6.5)', 2, None),
    ],
)
def test_a_lockstep_says_what_is_wrong(optimizer, estimator, bits, said):
    def loss(params, batch):
        return ((batch @ params['w']) ** 2).mean()

    batch = jnp.asarray(np.random.default_rng(0).normal(size=(32, 8)), jnp.float32)
    start = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, (8, 4)), jnp.float32)
    pair = Lockstep(loss, optimizer, estimator, bits, quantized=lambda path: True, twins=('ste', 'jitter'))
    state = pair.init({'w': start})
    for _ in range(3):
        state, _ = pair.step(state, batch, Moment(learning_rate=jnp.float32(0.002)))
    found = pair.cautions(state)
    assert (not found) if said is None else (len(found) == 1 and said in found[0]), found
