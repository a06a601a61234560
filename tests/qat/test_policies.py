"""Ranges that move or are trained: LSQ's published gradient, and with which of them STE keeps step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qat import estimators, policies, ranges
from qat.lockstep.lockstep import Lockstep
from qat.lockstep.state import Moment

SHAPE = (30, 20)
EVEN = {'2 bits': 2, '4 bits': 4, 'ternary': 'ternary'}


def begun(name: str, bits, reach: float = 1.0, rule: str = 'mean_abs'):
    """(estimator, policy, weights before the first step), some weights outside of the range."""
    made, policy = estimators.make('ste', bits), policies.policy(name)(ranges.rule(rule))
    weights = jnp.asarray(reach * np.random.default_rng(0).normal(size=SHAPE), jnp.float32)
    return made, policy, policy.begin(weights, made.quantizer)


def gradients(made, policy, start, given):
    """Of the sum of `given` times what the model reads, by weights and step size."""

    def read(weights, step_size):
        return jnp.sum(given * policy.read(made, start._replace(weights=weights, step_size=step_size), 0.0))

    return jax.grad(read, argnums=(0, 1))(start.weights, start.step_size)


def lsq(weights, D, largest: float, given):
    """The gradient of D in arXiv 1902.08153, equation 3 and section 2.2; values are -largest, ..., largest times D."""
    ratio = np.float64(weights) / D
    shift = largest % 1  # with an even number of values none lies at 0
    rounded = np.round(ratio - shift) + shift
    inside = np.abs(ratio) < largest
    of_D = np.where(inside, rounded - ratio, np.sign(ratio) * largest)
    return (given * of_D).sum() / np.sqrt(ratio.size * largest)


@pytest.mark.parametrize('bits', EVEN.values(), ids=EVEN)
def test_the_step_size_has_the_gradient_of_lsq(bits):
    made, policy, start = begun('learned', bits)
    given = np.random.default_rng(1).normal(size=SHAPE)
    of_weights, of_D = gradients(made, policy, start, jnp.float32(given))
    largest = made.quantizer.intervals / 2
    assert (np.abs(start.weights) > largest * start.step_size).any()
    np.testing.assert_allclose(of_D, lsq(start.weights, float(start.step_size), largest, given), rtol=1e-4)
    inside = np.abs(start.weights) <= largest * start.step_size
    np.testing.assert_allclose(of_weights, given * inside, rtol=1e-6)


@pytest.mark.parametrize('bits', EVEN.values(), ids=EVEN)
def test_in_units_of_the_step_size_its_gradient_reads_codes_only(bits):
    made, policy, start = begun('learned_u', bits)
    given = np.float32(np.random.default_rng(1).normal(size=SHAPE))
    of_units, of_D = gradients(made, policy, start, given)
    quantizer, largest = made.quantizer, made.quantizer.intervals / 2
    values = quantizer.codes(start.weights, start.R) - largest
    np.testing.assert_allclose(of_D, (given * values).sum() / np.sqrt(values.size * largest), rtol=1e-4)
    inside = np.abs(start.weights) <= largest
    np.testing.assert_allclose(of_units, start.step_size * given * inside, rtol=1e-5)


def test_both_forms_of_lsq_begin_with_the_same_quantized_weights():
    values = []
    for name in ('fixed', 'learned', 'learned_u', 'dynamic'):
        made, policy, start = begun(name, 2, rule='channel_max_abs')
        values.append(policy.read(made, start, 0.0))
    for other in values[1:]:
        np.testing.assert_allclose(other, values[0], rtol=1e-6)


def test_a_dynamic_range_is_that_of_the_weights_now_and_has_no_gradient():
    made, policy, start = begun('dynamic', 'ternary')
    moved = start._replace(weights=2.5 * start.weights)
    np.testing.assert_allclose(policy.read(made, moved, 0.0), 2.5 * policy.read(made, start, 0.0), rtol=1e-6)
    given = jnp.ones(SHAPE)
    of_weights = jax.grad(lambda w: jnp.sum(given * policy.read(made, start._replace(weights=w), 0.0)))(start.weights)
    np.testing.assert_array_equal(of_weights, np.abs(start.weights) <= jnp.mean(jnp.abs(start.weights)))


def test_a_step_size_for_every_weight_is_refused():
    with pytest.raises(ValueError, match='of a layer or a channel'):
        begun('learned_u', 2, rule='block_max_abs(size=10)')


def runs(policy: str, optimizer, twins, rates, *, bits=2, length=0.3, estimator='sine', rule='max_abs', **options):
    """The displacement error of every twin at each learning rate, and the last state.

    The loss is linear in the quantized weights, so that g is the same at every code.
    """
    random = np.random.default_rng(2)
    start = {'a': {'kernel': jnp.asarray(random.uniform(-0.5, 0.5, SHAPE), jnp.float32)}}
    one, two = random.normal(size=(2, 1, *SHAPE))

    def loss(params, given):
        return jnp.sum(params['a']['kernel'] * given)

    pair = Lockstep(
        loss,
        optimizer,
        estimator,
        bits,
        quantized=lambda path: path.endswith('kernel'),
        twins=twins,
        ranges=rule,
        range_policy=policy,
        **options,
    )
    found = {twin: [] for twin in twins}
    for rate in rates:
        t = np.linspace(0, 1, round(length / rate), endpoint=False).reshape(-1, 1, 1)
        given = np.float32(one * np.cos(2 * t) + two * np.sin(3 * t))

        def step(state, batch, rate=rate):
            return pair.step(state, batch, Moment(learning_rate=jnp.float32(rate)))[0], None

        state = jax.jit(lambda state, data, step=step: jax.lax.scan(step, state, data)[0])(pair.init(start), given)
        for twin, metrics in pair.summary(state).items():
            found[twin].append(metrics['weight_alignment_error_displacement'])
    return found, state


RATES = (0.01, 0.0025)
COVERED = {
    'u form': ('learned_u', 2, {}),
    'u form, ternary': ('learned_u', 'ternary', {'rule': 'mean_abs'}),
    'u form, a step size a channel': ('learned_u', 2, {'rule': 'channel_max_abs'}),
    'ternary, fixed': ('fixed', 'ternary', {'rule': 'mean_abs', 'clip_rule': 'pass'}),
    'e2m1, fixed': ('fixed', 'e2m1', {}),
    'trust': ('fixed', 2, {'clip_rule': 'trust(T=0.5)'}),
}


@pytest.mark.parametrize('name', COVERED)
def test_where_theory_covers_the_error_falls_with_the_learning_rate(name):
    policy, bits, options = COVERED[name]
    found, _ = runs(policy, optax.sgd(1.0), ('ste', 'naive_ste'), RATES, bits=bits, **options)
    assert found['ste'][-1] < 0.4 * found['ste'][0], 'the order is about 1: a quarter'
    assert found['naive_ste'][-1] > 0.8 * found['naive_ste'][0]
    assert found['ste'][-1] < 0.2 * found['naive_ste'][-1]


@pytest.mark.parametrize('policy', ['learned', 'dynamic'])
def test_where_the_range_reads_the_weights_the_recipe_of_sgd_is_none(policy):
    with pytest.raises(ValueError, match=r"'ste' is refused.*its (range|step size) is"):
        runs(policy, optax.sgd(1.0), ('ste',), RATES)
    found, _ = runs(policy, optax.sgd(1.0), ('map_ste',), RATES, rule='mean_abs', clip_rule='pass')
    assert found['map_ste'][-1] > 0.7 * found['map_ste'][0]


@pytest.mark.parametrize('policy', policies.POLICIES)
def test_under_adam_nothing_needs_adjusting_and_self_is_self(policy):
    adam = optax.adam(1.0, b1=0.5, b2=0.6)
    found, state = runs(policy, adam, ('ste', 'self'), (4e-3, 1e-3), length=0.4, clip_rule='pass')
    assert found['ste'][-1] < max(0.4 * found['ste'][0], 1e-5)
    assert found['self'] == [0, 0]
    if policy.startswith('learned'):
        moved = state.runs['reference'].params['step_sizes']['a']
        assert moved.shape == () and moved > 0


def test_step_sizes_are_kept_from_the_loss_and_from_parameters_that_are_no_dict():
    with pytest.raises(ValueError, match='must be a dict'):
        Lockstep(
            lambda params, batch: jnp.sum(params[0] * batch),
            optax.sgd(0.1),
            'ste',
            2,
            quantized=lambda path: path == '0',
            twins=('self',),
            range_policy='learned_u',
        ).init([jnp.ones((3, 3))])
