"""STE with what reads the weights pulled back: does it keep step with the estimator as the learning rate falls?

The loss is linear in the quantized weights, so that its gradients are the same at every code: what separates the runs
is the theorem's own error, or a wrong recipe.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qat import estimators, optimizers
from qat.lockstep.lockstep import Lockstep
from qat.lockstep.state import Moment
from qat.theory.pull_back import PullBack
from qat.theory.recipe import is_ste
from qat.theory.weight_map import WeightMap
from qat.transfer import DECAY, NORM, WEIGHTS, with_clipping

DSQ, R = estimators.parse('dsq(k=6.5)', 2), 1.0
SHAPE = (40, 40)


def linear(params, batch):
    return jnp.sum(params['a']['kernel'] * batch['kernel']) + jnp.sum(params['a']['bias'] * batch['bias'])


@functools.cache
def gradients(count: int, varied: bool = False) -> dict[str, np.ndarray]:
    """What the loss multiplies by at each of so many moments of the unit interval; smooth in time.

    Where it is varied, times a size that differs from step to step, as that of a batch's gradient does.
    """
    random, t = np.random.default_rng(0), np.linspace(0, 1, count, endpoint=False).reshape(-1, 1, 1)
    one, two = random.normal(size=(2, 1, *SHAPE))
    kernel, bias = one * np.cos(2 * t) + two * np.sin(3 * t), random.normal(size=(1, SHAPE[1])) * (1 + t[..., 0])
    sizes = np.exp(varied * random.normal(size=(count, 1)))
    return {'kernel': np.float32(kernel * sizes[..., None]), 'bias': np.float32(bias * sizes)}


def errors(optimizer, twins, rates, length: float, *, varied=False, **options) -> dict[str, list[float]]:
    """Mean of |M(w) - v| / R of every twin at each learning rate, where learning rate x steps is the length."""
    random = np.random.default_rng(1)
    params = {'a': {'kernel': jnp.asarray(random.uniform(-1, 1, SHAPE), jnp.float32), 'bias': jnp.zeros(SHAPE[1])}}
    pair = Lockstep(
        linear,
        optimizer,
        DSQ,
        quantized=lambda path: path.endswith('kernel'),
        twins=twins,
        ranges=lambda w: jnp.float32(R),
        **options,
    )
    found = {twin: [] for twin in twins}
    for rate in rates:
        steps = round(length / rate)

        def step(state, batch, rate=rate):
            return pair.step(state, batch, Moment(learning_rate=jnp.float32(rate)))[0], None

        state = jax.jit(lambda state, data, step=step: jax.lax.scan(step, state, data)[0])(
            pair.init(params), gradients(steps, varied)
        )
        plan = pair.plan(params)
        weights = {name: run.params['a']['kernel'] for name, run in state.runs.items()}
        for twin in twins:
            name = plan.computed_by[twin]
            mapped = plan.runs[name].maps['a'](weights['reference'], R)
            found[twin].append(float(jnp.abs(mapped - weights[name]).mean()))
    return found


RATES = (0.01, 0.0025)
MOVED = {  # optimizer, weight decay, length, options: all of class `map`
    'coupled': ('sgd(momentum=0.5)', 3.0, 0.15, {}),
    'coupled, nesterov': ('sgd(momentum=0.5, nesterov=True)', 3.0, 0.15, {}),
    'decoupled': ('sgdw(momentum=0.5)', 6.0, 0.15, {}),
    'clipped': ('sgd', 0.0, 3.0, {'clip_norm': 10.0}),
    'clipped and decayed': ('sgd(momentum=0.5)', 0.5, 1.0, {'clip_norm': 10.0}),
    'placement update, decoupled': ('adamw(b2=0.9)', 2.0, 1.0, {'placement': 'update'}),
    'placement update, coupled': ('adam(b2=0.9)', 1.0, 1.0, {'placement': 'update'}),
    'placement update, by the size of the weights': ('adafactor', 0.0, 1.0, {'placement': 'update'}),
}
ALIKE = ('coupled, nesterov', 'placement update, coupled', 'placement update, by the size of the weights')


@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=[pytest.mark.slow] if name in ALIKE else []) for name in MOVED]
)
def test_pulled_back_the_error_falls_with_the_learning_rate_and_otherwise_it_stays(name):
    text, decay, length, options = MOVED[name]
    found = errors(optimizers.parse(text, decay), ('ste', 'map_ste'), RATES, length, **options)
    ste, without = found['ste'], found['map_ste']
    assert ste[-1] < 0.35 * ste[0], 'the order is about 1: a quarter'
    assert without[-1] > 0.8 * without[0], 'M and alpha alone'
    assert ste[-1] < 0.2 * without[-1]


@pytest.mark.parametrize('text', ['adam(b1=0.5,b2=0.6)', 'rmsprop(decay=0.6)', 'signsgd'])
def test_coupled_decay_under_normalising_optimizers(text):
    optimizer = optimizers.parse(text, 2.0)
    found = errors(optimizer, ('ste', 'naive_ste'), (4e-3, 1e-3), 0.4)
    assert found['ste'][-1] < max(0.35 * found['ste'][0], 1e-5)
    assert found['naive_ste'][-1] > 0.8 * found['naive_ste'][0] and found['naive_ste'][-1] > 10 * found['ste'][-1]


@pytest.mark.parametrize('text, decay', [('adam(b1=0.5,b2=0.6)', 0.0), ('adam(b1=0.5,b2=0.6)', 2.0), ('signsgd', 2.0)])
def test_clipping_under_normalising_optimizers(text, decay):
    """Some steps are clipped and others are not."""
    optimizer, options = optimizers.parse(text, decay), {'clip_norm': 40.0, 'varied': True}
    found = errors(optimizer, ('ste', 'naive_ste'), (4e-3, 1e-3), 0.4, **options)
    assert found['ste'][-1] < max(0.35 * found['ste'][0], 1e-5)
    assert found['naive_ste'][-1] > 0.8 * found['naive_ste'][0] and found['naive_ste'][-1] > 3 * found['ste'][-1]


@pytest.mark.parametrize('name', ['adam', 'muon'])
def test_a_constant_slope_does_not_cancel_where_gradients_are_clipped(name):
    half, transfer = (
        estimators.from_slope(lambda r: 0 * r + 0.5, 2, name='half'),
        optimizers.make(name).transfer('gradient'),
    )
    assert is_ste(half, transfer) and not is_ste(half, with_clipping(transfer, 'gradient'))


def test_a_constant_slope_does_not_cancel_beside_decay():
    half = estimators.from_slope(lambda r: 0 * r + 0.5, 2, name='half')
    pair = Lockstep(
        linear, optimizers.parse('adam', 0.1), half, quantized=lambda path: path.endswith('kernel'), twins=('ste',)
    )
    params = {'a': {'kernel': jnp.ones(SHAPE), 'bias': jnp.zeros(SHAPE[1])}}
    assert pair.plan(params).runs['ste'].pull_backs


def test_by_hand():
    """Inside the range w/s(w) at w = M^-1(v); outside, v/alpha."""
    weight_map = WeightMap(DSQ)
    w = jnp.float32([-0.9, -0.3, 0.05, 0.4, 0.999])
    pulled = PullBack(DSQ, weight_map, (DECAY, NORM))
    v = weight_map(w, R)
    np.testing.assert_allclose(pulled.read(v, R), w / DSQ.at(w, R), rtol=2e-5)
    np.testing.assert_allclose(pulled.measured(jnp.float32(3), v, R), 3 * DSQ.at(w, R), rtol=2e-5)
    outside = jnp.float32([-1.5, 1.1])
    np.testing.assert_allclose(pulled.read(outside, R), outside / weight_map.alpha, rtol=1e-6)
    assert (pulled.measured(jnp.float32(3), outside, R) == 0).all()
    np.testing.assert_allclose(PullBack(DSQ, weight_map, (WEIGHTS,)).read(v, R), w, atol=2e-6)


def test_gradients_are_clipped_as_optax_clips_them():
    batch = {'kernel': jnp.ones(SHAPE), 'bias': jnp.ones(SHAPE[1])}
    params = {'a': {'kernel': jnp.zeros(SHAPE), 'bias': jnp.zeros(SHAPE[1])}}
    options = {'quantized': lambda path: path.endswith('kernel'), 'twins': (), 'ranges': lambda w: jnp.float32(R)}
    for clip_norm in (1.0, 1e3):
        ours = Lockstep(linear, optax.sgd(0.1), 'ste', 2, clip_norm=clip_norm, **options)
        clipped = optax.chain(optax.clip_by_global_norm(clip_norm), optax.sgd(0.1))
        theirs = Lockstep(linear, clipped, 'ste', 2, **options)
        one, two = (pair.step(pair.init(params), batch)[0].runs['reference'].params for pair in (ours, theirs))
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), one, two)
    for wrong in (0.0, -1.0, float('nan')):
        with pytest.raises(ValueError, match='clip_norm must be positive'):
            Lockstep(linear, optax.sgd(0.1), 'ste', 2, clip_norm=wrong, **options)


def test_a_run_of_ste_that_pulls_back_is_the_twin():
    """As a run by itself: M of the start, alpha, and `pull_back`."""
    optimizer, weight_map = optimizers.parse('sgd(momentum=0.9)', 0.4), WeightMap(DSQ)
    params = {'a': {'kernel': jnp.linspace(-1, 1, 1600).reshape(SHAPE), 'bias': jnp.zeros(SHAPE[1])}}
    options = {'quantized': lambda path: path.endswith('kernel'), 'ranges': lambda w: jnp.float32(R), 'clip_norm': 9.0}
    pair = Lockstep(linear, optimizer, DSQ, twins=('ste',), **options)
    alone = Lockstep(
        linear,
        optimizer,
        estimators.parse('ste', 2),
        twins=(),
        start=weight_map,
        kernel_learning_rate_factor=weight_map.alpha,
        pull_back=DSQ,
        **options,
    )
    states = [each.init(params) for each in (pair, alone)]
    for index in range(5):
        batch = jax.tree.map(lambda leaf, index=index: leaf[index], gradients(5))
        states = [each.step(state, batch, Moment(np.float32(0.01)))[0] for each, state in zip((pair, alone), states)]
    twin, run = states[0].runs['ste'], states[1].runs['reference']
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7), twin.params, run.params)
