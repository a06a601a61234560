"""Reference and twins in lockstep on any model: bit-equal copies, exact tracking, the theorem's limit, refusals."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from flax import nnx

from qat import Lockstep, Moment, optimizers, trajectory, weights
from qat.estimators import Estimator, from_slope, make
from qat.lockstep.evaluation import Examined
from qat.lockstep.finiteness import complaint, finite
from qat.lockstep.twins import NAMES, REFERENCE
from qat.lockstep.verdict import ANSWERS
from qat.policies import POLICIES
from qat.quantizers import UniformQuantizer
from qat.ranges import RANGE_RULES, channel_max_abs, he_uniform
from qat.theory.weight_map import WeightMap, alpha
from tests.qat import oracle

EXAMPLES, CLASSES = 16, 3


def cross_entropy(logits, batch):
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch['label']).mean()


def mlp():
    random = np.random.default_rng(0)
    params = {
        name: {'kernel': np.float32(random.normal(size=shape) / 2), 'bias': np.zeros(shape[-1], np.float32)}
        for name, shape in (('first', (6, 16)), ('second', (16, CLASSES)))
    }

    def loss(params, batch):
        hidden = jnp.tanh(batch['input'] @ params['first']['kernel'] + params['first']['bias'])
        return cross_entropy(hidden @ params['second']['kernel'] + params['second']['bias'], batch)

    return params, loss, (6,)


class Block(nn.Module):
    """A transformer's block, then a mean over the sequence and a classifier."""

    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(x))
        x = x + nn.Dense(8)(nn.gelu(nn.Dense(16)(nn.LayerNorm()(x))))
        return nn.Dense(CLASSES)(x.mean(axis=1))


def transformer():
    block, shape = Block(), (5, 8)
    params = block.init(jax.random.key(0), jnp.zeros((1, *shape)))['params']
    return params, lambda params, batch: cross_entropy(block.apply({'params': params}, batch['input']), batch), shape


class Perceptron(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(6, 16, rngs=rngs), nnx.Linear(16, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x)))


def nnx_state():
    graph, params = nnx.split(Perceptron(nnx.Rngs(0)))
    return params, lambda params, batch: cross_entropy(nnx.merge(graph, params)(batch['input']), batch), (6,)


def nnx_pure_dict():
    graph, state = nnx.split(Perceptron(nnx.Rngs(0)))

    def loss(params, batch):
        filled = jax.tree.map(lambda leaf: leaf, state)  # a copy
        nnx.replace_by_pure_dict(filled, params)
        return cross_entropy(nnx.merge(graph, filled)(batch['input']), batch)

    return nnx.to_pure_dict(state), loss, (6,)


MODELS = {'mlp': mlp, 'transformer': transformer, 'nnx_state': nnx_state, 'nnx_pure_dict': nnx_pure_dict}
QUANTIZED = {
    'mlp': {'first', 'second'},
    'transformer': {
        *(f'MultiHeadDotProductAttention_0/{part}' for part in ('query', 'key', 'value', 'out')),
        *('Dense_0', 'Dense_1', 'Dense_2'),
    },
    'nnx_state': {'first', 'second'},
    'nnx_pure_dict': {'first', 'second'},
}


def is_kernel(path: str) -> bool:
    return path.endswith('kernel')


def batches(shape, count: int, seed: int = 0):
    random = np.random.default_rng(seed)
    for _ in range(count):
        yield {
            'input': random.normal(size=(EXAMPLES, *shape)).astype(np.float32),
            'label': random.integers(0, CLASSES, EXAMPLES).astype(np.int32),
        }


def of_mlp(optimizer=None, estimator='dsq', bits=2, **options) -> Lockstep:
    if not callable(bits) and isinstance(estimator, Estimator):
        bits = None
    optimizer = optax.sgd(0.1) if optimizer is None else optimizer
    return Lockstep(mlp()[1], optimizer, estimator, bits, **{'quantized': is_kernel, **options})


def trained(lockstep: Lockstep, count: int, moment: Moment | None = None, given=()):
    """The states of an MLP before the first step and after each."""
    step = jax.jit(lockstep.step)
    states = [lockstep.init(mlp()[0], *given)]
    for batch in batches((6,), count):
        states.append(step(states[-1], batch, Moment() if moment is None else moment)[0])
    return states


def of_run(lockstep: Lockstep, state, name: str) -> dict[str, np.ndarray]:
    """The quantized weights of a run by layer."""
    paths = lockstep.plan(state.runs[REFERENCE].params).paths
    return jax.device_get(weights.get(state.runs[name].params, paths))


def stepper(lockstep: Lockstep, devices: int):
    """`step` on so many devices; 1: under jit, 0: eagerly."""
    if devices == 0:
        return lockstep.step
    if devices == 1:
        return jax.jit(lockstep.step)
    among = jax.devices()[:devices]
    step = jax.pmap(lockstep.step, axis_name='batch', devices=among, in_axes=(None, 0), out_axes=None)

    def sharded(state, batch):
        return step(state, jax.tree.map(lambda leaf: leaf.reshape(devices, -1, *leaf.shape[1:]), batch))

    return sharded


@functools.cache
def lockstep_of(model: str, devices: int) -> tuple:
    """(lockstep, last state, losses) of a few steps, with a twin that must not differ and one that must."""
    params, loss, shape = MODELS[model]()
    axis = 'batch' if devices > 1 else None
    optimizer = optax.adam(1e-3) if model == 'nnx_pure_dict' else optax.sgd(0.1, momentum=0.9)
    twins = ('ste', 'naive_ste', 'jitter', 'self') if devices else ('jitter', 'self')  # eager steps are slow
    lockstep = Lockstep(loss, optimizer, 'dsq', 2, quantized=is_kernel, twins=twins, axis_name=axis)
    state = lockstep.init(params)
    step = stepper(lockstep, devices)
    for batch in batches(shape, 1 if devices == 0 else 6):
        state, losses = step(state, batch)
    return lockstep, state, losses


FAST = {('mlp', 1), ('mlp', 8), ('nnx_state', 1)}  # the others compile for a minute together


@pytest.mark.parametrize(
    'model, devices',
    [
        pytest.param(*case, marks=() if case in FAST else pytest.mark.slow)
        for case in itertools.product(MODELS, (0, 1, 2, 8))
    ],
)
def test_self_is_bit_equal(model, devices):
    """Eagerly (0), compiled for one device, and shared among several."""
    lockstep, state, losses = lockstep_of(model, devices)
    assert set(state.ranges) == QUANTIZED[model]
    for reference, twin in zip(jax.tree.leaves(state.runs[REFERENCE]), jax.tree.leaves(state.runs['self'])):
        assert np.array_equal(np.asarray(reference), np.asarray(twin))
    found = lockstep.summary(state)
    assert found['self']['weight_alignment_error'] == 0 and found['self']['change_point_sequence_agreement'] == 1
    assert found['jitter']['weight_alignment_error'] > 0
    assert set(losses) == {REFERENCE, *found}
    assert all(np.shape(loss) == () and np.isfinite(loss) for loss in losses.values())
    assert losses['self'] == losses[REFERENCE]
    assert state.step == (1 if devices == 0 else 6)


@pytest.mark.parametrize(
    'model', ['mlp', *(pytest.param(each, marks=pytest.mark.slow) for each in ('transformer', 'nnx_state'))]
)
def test_eight_devices_give_what_one_gives(model):
    """Under SGD: Adam makes whole steps of gradients that cancel but for their rounding."""
    (_, one, losses_of_one), (_, eight, losses_of_eight) = (lockstep_of(model, devices) for devices in (1, 8))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight)):
        if jnp.issubdtype(a.dtype, jnp.floating):
            np.testing.assert_allclose(a, b, atol=1e-5)
        else:
            assert np.array_equal(a, b)  # the same codes at the same times
    for name, loss in losses_of_one.items():
        assert losses_of_eight[name] == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize(
    'model, transfer_class',
    [
        ('mlp', 'map'),
        pytest.param('transformer', 'map', marks=pytest.mark.slow),
        ('nnx_pure_dict', 'identity'),
    ],
)
def test_summary_and_verdict(model, transfer_class):
    lockstep, state, _ = lockstep_of(model, 1)
    summary = lockstep.summary(state)
    ones = jnp.ones(3)
    kernel = trajectory.measure_weights(ones, ones, ones, ones, trajectory.begin_path(ones), 1.0)
    assert list(summary) == ['ste', 'naive_ste', 'jitter', 'self']
    assert all(set(metrics) == set(trajectory.summarize([kernel])) for metrics in summary.values())
    verdict = lockstep.verdict(state)
    assert verdict.startswith(ANSWERS) and verdict.endswith('.') and '\n' not in verdict
    assert f'(class {transfer_class}, ' in verdict and 'dsq(k=6.5)' in verdict


def test_without_change_points_there_are_only_weights_and_codes():
    lockstep = of_mlp(twins=('self',), track_change_points=False)
    state = trained(lockstep, 2)[-1]
    found = lockstep.summary(state)['self']
    assert found['weight_alignment_error'] == 0 and found['quantized_weight_agreement'] == 1
    assert found['change_point_sequence_agreement'] is None and not state.tracking.histories


def test_tracking_equals_the_oracle_on_a_real_run():
    lockstep = of_mlp(optax.sgd(1.0), twins=('ste', 'naive_ste'))
    states = jax.device_get(trained(lockstep, 80))
    story = {name: [of_run(lockstep, state, name) for state in states] for name in states[-1].runs}
    ranges, quantizer = states[0].ranges, UniformQuantizer(2)
    found = lockstep.summary(states[-1])

    def codes(name):
        return np.array(
            [np.concatenate([np.ravel(quantizer.codes(w[k], ranges[k])) for k in ranges]) for w in story[name]]
        )

    for name in ('ste', 'naive_ste'):
        expected = oracle.metrics(codes(REFERENCE).T.tolist(), codes(name).T.tolist(), quantizer.intervals + 1)
        assert {key: found[name][key] for key in expected} == expected
        assert expected['oscillations_twin'] > 0 and expected['moved_fraction'] > 0.05
        maps = lockstep.plan(states[0].runs[REFERENCE].params).runs[name].maps
        length = sum(
            np.abs(after[k] - before[k].astype(np.float64)).sum() / ranges[k]
            for before, after in itertools.pairwise(story[name])
            for k in ranges
        )
        distance = sum(
            np.abs(maps[k](story[REFERENCE][-1][k], ranges[k]) - story[name][-1][k].astype(np.float64)).sum()
            / ranges[k]
            for k in ranges
        )
        assert found[name]['weight_alignment_error'] == pytest.approx(distance / length, rel=1e-4)


def test_every_twin_starts_where_its_recipe_says():
    names = ('ste', 'naive_ste', 'map_ste', 'jitter', 'reshuffle', 'self')
    assert set(NAMES) == {*names, 'ste_activations'}  # which is tested where activations are
    lockstep = of_mlp(twins=names)
    state = lockstep.init(mlp()[0])
    assert set(state.runs) == {REFERENCE, *names} - {'map_ste'}  # map_ste is ste here: computed once
    start = state.runs[REFERENCE].params
    for name in set(state.runs) - {REFERENCE}:
        for layer, leaf in itertools.product(start, ('kernel', 'bias')):
            found, expected = state.runs[name].params[layer][leaf], start[layer][leaf]
            if name == 'ste' and leaf == 'kernel':
                assert not np.array_equal(found, expected)
                expected = WeightMap(make('dsq', 2))(expected, state.ranges[layer])
                np.testing.assert_allclose(found, expected, atol=1e-7)
            else:
                assert np.array_equal(found, expected)


def test_equal_twins_are_computed_once_and_listed_twice():
    lockstep = of_mlp(twins=('map_ste', 'jitter', 'ste'))
    state = trained(lockstep, 3)[-1]
    assert set(state.runs) == {REFERENCE, 'map_ste', 'jitter'}
    summary = lockstep.summary(state)
    assert list(summary) == ['map_ste', 'jitter', 'ste'] and summary['ste'] == summary['map_ste']
    _, losses = jax.jit(lockstep.step)(state, next(batches((6,), 1)))
    assert losses['ste'] == losses['map_ste'] and set(losses) == {REFERENCE, 'map_ste', 'jitter', 'ste'}


def test_under_adam_ste_is_naive_and_computed_once():
    plan = of_mlp(optax.adam(1e-3), twins=('ste', 'naive_ste', 'map_ste')).plan(mlp()[0])
    assert plan.computed_by == {'ste': 'ste', 'naive_ste': 'ste', 'map_ste': 'map_ste'}


def test_the_learning_rate_of_jitter_is_a_hundredth_higher():
    lockstep = of_mlp(optax.sgd(0.1), twins=('jitter',))
    before, after = trained(lockstep, 1)
    for layer, leaf in itertools.product(('first', 'second'), ('kernel', 'bias')):
        own, twin = (
            after.runs[name].params[layer][leaf] - before.runs[name].params[layer][leaf]
            for name in (REFERENCE, 'jitter')
        )
        np.testing.assert_allclose(twin, 1.01 * own, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize('optimizer', [optax.sgd(0.1, momentum=0.9), optax.adam(1e-3)], ids=['sgd', 'adam'])
def test_ste_is_its_own_twin(optimizer):
    lockstep = of_mlp(optimizer, 'ste', twins=('ste',))
    assert lockstep.summary(trained(lockstep, 10)[-1])['ste']['weight_alignment_error'] == 0


def test_a_slope_of_ones_own():
    def steep(r, *, height=1.5):
        return height - jnp.abs(r)

    lockstep = of_mlp(estimator=functools.partial(steep, height=2.0), bits=lambda path: 2 if 'first' in path else 3)
    states = trained(lockstep, 3)
    estimators = lockstep.plan(states[0].runs[REFERENCE].params).estimators
    assert {layer: (str(own), own.bits) for layer, own in estimators.items()} == {
        'first': ('steep(height=2.0)', 2),
        'second': ('steep(height=2.0)', 3),
    }
    assert alpha(estimators['first']) == pytest.approx(1 / (2 * np.log(2 / 1.5)), rel=1e-6)
    assert lockstep.summary(states[-1])['self']['weight_alignment_error'] == 0


def test_bits_may_differ_from_weight_to_weight():
    seen = []

    def bits(path):
        seen.append(path)
        return {'first/kernel': 4, 'second/kernel': 1}[path]

    lockstep = of_mlp(bits=bits, twins=('ste', 'self'))
    states = trained(lockstep, 3)
    assert set(seen) == {'first/kernel', 'second/kernel'}
    for name in states[-1].runs:
        rounded = lockstep.quantized(name, states[-1])
        for layer, own in (('first', 4), ('second', 1)):
            expected = UniformQuantizer(own).quantize(
                states[-1].runs[name].params[layer]['kernel'], states[-1].ranges[layer]
            )
            assert np.array_equal(rounded[layer]['kernel'], expected)
    start = states[0].runs[REFERENCE].params
    for layer, own in (('first', 4), ('second', 1)):  # each has the alpha and the map of its own bits
        mapped = WeightMap(make('dsq', own))(start[layer]['kernel'], states[0].ranges[layer])
        np.testing.assert_allclose(states[0].runs['ste'].params[layer]['kernel'], mapped, atol=1e-7)
    assert lockstep.summary(states[-1])['self']['weight_alignment_error'] == 0
    assert 'dsq(k=18.0) and dsq(k=2.0)' in lockstep.verdict(states[-1])


@pytest.mark.parametrize(
    'rule',
    [
        pytest.param(rule, marks=() if rule == 'channel_max_abs' else pytest.mark.slow)
        for rule in RANGE_RULES
        if rule != 'block_max_abs'  # its blocks do not divide these
    ],
)
def test_ranges_by_name_by_rule_and_by_path(rule):
    kernels = {layer: leaves['kernel'] for layer, leaves in mlp()[0].items()}
    by_path = {'first/kernel': rule, 'second/kernel': lambda kernel: jnp.float32(0.7)}
    for ranges in (rule, RANGE_RULES[rule], by_path):
        lockstep = of_mlp(ranges=ranges, twins=('self', 'ste'))
        states = trained(lockstep, 2)
        for state in states:  # computed once and kept
            assert np.array_equal(state.ranges['first'], RANGE_RULES[rule](kernels['first']))
            expected = np.float32(0.7) if ranges is by_path else RANGE_RULES[rule](kernels['second'])
            assert np.array_equal(state.ranges['second'], expected)
        assert lockstep.summary(states[-1])['self']['weight_alignment_error'] == 0


@pytest.mark.slow
def test_a_range_for_each_head_of_an_attention():
    """Kernels of two output axes, with an R for each output, start their ste twin from M of each channel."""
    params, loss, shape = transformer()
    by_head = functools.partial(channel_max_abs, output_axes=2)

    def bits(path):
        return 2

    query = 'MultiHeadDotProductAttention_0/query'
    lockstep = Lockstep(
        loss, optax.sgd(0.1), 'dsq', bits, quantized=lambda path: path == f'{query}/kernel', ranges=by_head
    )
    state = lockstep.init(params)
    for batch in batches(shape, 2):
        state, _ = jax.jit(lockstep.step)(state, batch)
    assert state.ranges[query].shape == (1, 2, 4)
    assert lockstep.summary(state)['self']['weight_alignment_error'] == 0
    start = lockstep.init(params).runs['ste'].params['MultiHeadDotProductAttention_0']['query']['kernel']
    kernel = params['MultiHeadDotProductAttention_0']['query']['kernel']
    for head, channel in np.ndindex(2, 4):
        alone = WeightMap(make('dsq', 2))(kernel[:, head, channel], state.ranges[query][0, head, channel])
        np.testing.assert_allclose(start[:, head, channel], alone, atol=1e-6)


def test_placement_update_multiplies_the_output():
    """SignSGD's output is +-learning rate, so one step shows the slope, or alpha, by itself."""
    lockstep = of_mlp(optax.sign_sgd(0.01), placement='update', twins=('ste',))
    before, after = jax.device_get(trained(lockstep, 1))
    dsq = make('dsq', 2)
    for name, factor in ((REFERENCE, dsq.at), ('ste', lambda w, _: np.full(w.shape, alpha(dsq)))):
        old, new = (of_run(lockstep, state, name) for state in (before, after))
        for layer, R in before.ranges.items():
            output = np.abs(new[layer] - old[layer]) / 0.01
            moved = output > 0
            assert moved.mean() > 0.9
            np.testing.assert_allclose(output[moved], factor(old[layer], R)[moved], atol=1e-4)
    bias = after.runs[REFERENCE].params['first']['bias'] - before.runs[REFERENCE].params['first']['bias']
    np.testing.assert_allclose(np.abs(bias), 0.01, rtol=1e-5)  # what is not quantized has no slope


def test_a_model_with_state():
    """A running mean of the inputs: part of every run, new after every step, bit-equal for self."""
    _, loss, _ = mlp()

    def with_state(params, model_state, batch):
        mean = 0.9 * model_state['mean'] + 0.1 * batch['input'].mean(axis=0)
        return loss(params, {**batch, 'input': batch['input'] - mean}), {'mean': mean}

    lockstep = Lockstep(with_state, optax.sgd(0.1), 'dsq', 2, quantized=is_kernel, twins=('self',), has_state=True)
    states = trained(lockstep, 4, given=({'mean': jnp.zeros(6)},))
    expected = np.zeros(6)
    for batch, state in zip(batches((6,), 4), states[1:]):
        expected = 0.9 * expected + 0.1 * batch['input'].mean(axis=0)
        for run in state.runs.values():
            np.testing.assert_allclose(run.model_state['mean'], expected, atol=1e-6)
    assert lockstep.summary(states[-1])['self']['weight_alignment_error'] == 0


def test_an_optimizer_by_name_takes_its_learning_rate_from_the_moment():
    by_name = of_mlp(optimizers.parse('sgd(momentum=0.9)'), twins=('ste',))
    given = of_mlp(optax.sgd(0.1, momentum=0.9), twins=('ste',))
    one, other = trained(by_name, 5, Moment(np.float32(0.1))), trained(given, 5)
    for name in (REFERENCE, 'ste'):
        for a, b in zip(jax.tree.leaves(one[-1].runs[name].params), jax.tree.leaves(other[-1].runs[name].params)):
            np.testing.assert_allclose(a, b, atol=1e-6)
    assert 'sgd(momentum=0.9, nesterov=False) (class map, ' in by_name.verdict(one[-1])
    still = trained(by_name, 1, Moment(np.float32(0)))
    for a, b in zip(*(jax.tree.leaves(state.runs[REFERENCE].params) for state in still)):
        assert np.array_equal(a, b)


def test_the_moment_of_a_given_optimizer_is_a_factor():
    halved, half = of_mlp(optax.sgd(0.1), twins=('self',)), of_mlp(optax.sgd(0.05), twins=('self',))
    one, other = trained(halved, 3, Moment(np.float32(0.5)))[-1], trained(half, 3)[-1]
    for a, b in zip(jax.tree.leaves(one.runs[REFERENCE].params), jax.tree.leaves(other.runs[REFERENCE].params)):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_progress_reaches_the_slope():
    lockstep = of_mlp(optax.sgd(0.1), 'ede', twins=('self',))
    early, late = (trained(lockstep, 1, Moment(progress=np.float32(p)))[-1] for p in (0, 1))
    kernels = [np.asarray(state.runs[REFERENCE].params['second']['kernel']) for state in (early, late)]
    assert not np.allclose(*kernels, atol=1e-4)
    biases = [np.asarray(state.runs[REFERENCE].params['second']['bias']) for state in (early, late)]
    np.testing.assert_allclose(*biases, atol=1e-7)  # the forward pass does not know the progress


def test_losses_are_summed_until_they_are_recorded():
    lockstep = of_mlp(twins=('self',))
    step, state, seen = jax.jit(lockstep.step), lockstep.init(mlp()[0]), []
    for index, batch in enumerate(batches((6,), 4)):
        state, losses = step(state, batch, Moment(first=np.bool_(index == 1)))
        seen.append(float(losses[REFERENCE]))
    assert state.runs[REFERENCE].loss == pytest.approx(sum(seen[1:]), rel=1e-6)


def test_restart_makes_copies_of_one_run():
    lockstep = of_mlp(twins=('naive_ste', 'self'))
    state = trained(lockstep, 5)[-1]
    again = lockstep.restart(state, state.runs[REFERENCE])
    summary = lockstep.summary(again)
    assert summary['naive_ste']['quantized_weight_agreement'] == 1
    assert summary['naive_ste']['oscillations_reference'] == 0 and summary['naive_ste']['moved_fraction'] == 0
    again, _ = jax.jit(lockstep.step)(again, next(batches((6,), 1)))
    summary = lockstep.summary(again)
    assert summary['self']['weight_alignment_error'] == 0 < summary['naive_ste']['weight_alignment_error']


@pytest.mark.parametrize('policy', POLICIES)
def test_a_restart_counts_changes_from_where_it_begins(policy):
    """Also where step sizes have been trained in the meantime."""
    lockstep = of_mlp(twins=('self',), range_policy=policy, ranges='max_abs')
    state = trained(lockstep, 30)[-1]
    assert lockstep.summary(state)['self']['changed_codes'] > 0
    again = lockstep.restart(state, state.runs[REFERENCE])
    assert lockstep.summary(again)['self']['changed_codes'] == 0


def test_evaluation_counts_examples_by_hand():
    lockstep = of_mlp(twins=('naive_ste', 'self'))
    state = trained(lockstep, 20)[-1]
    batch = {**next(batches((6,), 1)), 'mask': np.arange(EXAMPLES) < 11}

    def predicted(params):
        hidden = jnp.tanh(batch['input'] @ params['first']['kernel'] + params['first']['bias'])
        return jnp.argmax(hidden @ params['second']['kernel'] + params['second']['bias'], axis=-1)

    def examine(params, model_state, batch):
        predictions = predicted(params)
        correct = predictions == batch['label']
        return Examined({'accuracy': correct}, predictions, correct)

    sums = jax.jit(functools.partial(lockstep.evaluate, examine))(state, batch)
    own, twin = (
        np.asarray(predicted(lockstep.quantized(name, state)))[:11].tolist() for name in (REFERENCE, 'naive_ste')
    )
    labels = batch['label'][:11].tolist()
    assert sums['examples'] == 11
    assert sums['metrics']['accuracy'][REFERENCE] == sum(map(int.__eq__, own, labels))
    assert sums['agreeing'] == {'naive_ste': sum(map(int.__eq__, own, twin)), 'self': 11}
    wrong = [(a, b) for a, b, label in zip(own, twin, labels) if a != label and b != label]
    assert sums['both_wrong']['naive_ste'] == len(wrong)
    assert sums['both_wrong_agreeing']['naive_ste'] == sum(a == b for a, b in wrong)


def test_what_is_not_finite_is_named():
    lockstep = of_mlp(twins=('self',))
    state = lockstep.init(mlp()[0])
    assert complaint(jax.device_get(finite(state)), {}) == ''
    run = state.runs['self']
    broken = weights.replace(run.params, {'second': 'second/bias'}, {'second': jnp.full(CLASSES, jnp.nan)})
    state = state.replace(runs={**state.runs, 'self': run.replace(params=broken, loss=jnp.float32(jnp.inf))})
    assert complaint(jax.device_get(finite(state)), {}) == 'self (second, training loss)'


def test_bytes_of_tracking():
    lockstep = of_mlp(twins=('ste', 'naive_ste'))
    state = lockstep.init(mlp()[0])
    size = sum(kernel.size for kernel in of_run(lockstep, state, REFERENCE).values())

    def bytes_of(tree):
        return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))

    tracked = bytes_of(state.tracking.histories) + bytes_of(state.tracking.lags)
    starts = bytes_of([path.start for layers in state.tracking.paths.values() for path in layers.values()])
    assert tracked <= 24 * size * 3 and starts == 4 * size * 2


def test_the_error_of_the_ste_twin_falls_with_the_learning_rate():
    """The theorem is a limit: at a quarter of the learning rate, for four times as long, the twin follows better."""
    errors = {}
    for rate in (0.2, 0.05):
        lockstep = of_mlp(optax.sgd(rate), twins=('ste', 'naive_ste'))
        found = lockstep.summary(trained(lockstep, round(10 / rate))[-1])
        errors[rate] = {name: metrics['weight_alignment_error'] for name, metrics in found.items()}
    assert errors[0.05]['ste'] < errors[0.2]['ste'] / 1.5
    assert errors[0.05]['ste'] < errors[0.05]['naive_ste'] / 3
    assert errors[0.05]['naive_ste'] > errors[0.2]['naive_ste'] / 2  # nothing to do with the learning rate


@pytest.mark.parametrize('optimizer', [optax.sgd(0.1), optax.adam(1e-3, eps=1e-20)], ids=['sgd', 'adam'])
def test_the_ste_twin_of_a_constant_slope_is_exact_to_rounding(optimizer):
    """A slope of 2, so that the rounding of products does not tip weights that stand at a threshold."""
    lockstep = of_mlp(optimizer, from_slope(lambda r: 2 + 0 * r, 2, name='constant'), twins=('ste', 'naive_ste'))
    found = lockstep.summary(trained(lockstep, 30)[-1])
    assert found['ste']['weight_alignment_error'] < 1e-6
    if lockstep.plan(mlp()[0]).transfer.transfer_class == 'map':
        assert found['naive_ste']['weight_alignment_error'] > 0.1


def test_with_nothing_quantized_it_is_a_loop_of_optax():
    optimizer = optax.adam(0.01)
    lockstep = of_mlp(optimizer, quantized=None, twins=())
    state = trained(lockstep, 5)[-1]
    params, loss = mlp()[:2]
    opt_state, update = optimizer.init(params), jax.jit(optimizer.update)
    for batch in batches((6,), 5):
        updates, opt_state = update(jax.jit(jax.grad(loss))(params, batch), opt_state, params)
        params = optax.apply_updates(params, updates)
    for found, expected in zip(jax.tree.leaves(state.runs[REFERENCE].params), jax.tree.leaves(params)):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert list(state.runs) == [REFERENCE] and lockstep.summary(state) == {} and lockstep.cautions(state) == []
    assert lockstep.verdict(state).startswith('No verdict: nothing is quantized')


def bfloat16(params):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)


def refuses(gradients, state, params=None):
    raise RuntimeError('it asks for something else')


NOT_PROBED = optax.GradientTransformation(lambda params: optax.EmptyState(), refuses)


# Arguments of `of_mlp` -> the message.
REFUSED = {
    'no weight': ({'quantized': lambda path: 'Conv' in path}, 'no weight matches `quantized`.*first/kernel'),
    'no recipe': (
        {'optimizer': optax.contrib.muon(0.1)},
        "'ste' is refused, .*: probed.*clip_norm.*use twins=naive_ste",
    ),
    'not covered': ({'estimator': 'ewgs'}, "'ste' is refused.*does not cover ewgs.*incoming gradient"),
    'twin': ({'twins': ('stee',)}, "unknown twin 'stee': did you mean 'ste'"),
    'twin twice': ({'twins': ('ste', 'ste')}, "'ste' is listed twice"),
    'estimator': ({'estimator': 'dqs'}, "unknown estimator 'dqs': did you mean 'dsq'"),
    'no estimator': ({'estimator': 3}, 'must be a call'),
    'slope': ({'estimator': lambda r: r[:3]}, 'must return floats shaped like r'),
    'argument': ({'estimator': 'dsq(q=1)'}, "unknown argument of estimator 'dsq' 'q'"),
    'no bits': ({'bits': None}, 'give the bits of the quantizer'),
    'bits': ({'bits': 9}, r'bits must be an integer in 1\.\.8'),
    'no default': ({'bits': 3}, r'dsq has no default k for 8 values: give one; dsq\(k=15.17\)'),
    'range': ({'ranges': 'max'}, "unknown range 'max': did you mean 'max_abs'"),
    'range of a path': ({'ranges': {'first/kernel': 'max_abs'}}, "ranges says nothing of .* 'second/kernel'"),
    'number as range': ({'ranges': 1.0}, "unknown range '1.0': valid: he_uniform"),
    'quantized': ({'quantized': ['first/kernel']}, 'quantized must be a function, path'),
    'twins of nothing': ({'quantized': None}, r'nothing that twins could differ in: give twins=\(\)'),
    'text as optimizer': ({'optimizer': 'sgd'}, "must be one of optax or qat.optimizer.*, not 'sgd'"),
    'text as twins': ({'twins': 'ste'}, r"twins must be several names, as in \('ste',\)"),
    'placement': ({'placement': 'updates'}, "unknown placement 'updates': did you mean 'update'"),
    'gradient on updates': (
        {'estimator': 'ewgs', 'twins': ('self',), 'placement': 'update'},
        'depends on the incoming gradient needs placement',
    ),
    'optimizer': ({'optimizer': NOT_PROBED}, 'cannot be probed.*RuntimeError: it asks for something else'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refusals_say_what_is_wrong_in_a_line(case):
    options, message = REFUSED[case]
    with pytest.raises(ValueError, match=message) as refusal:
        of_mlp(**options).init(mlp()[0])
    assert '\n' not in str(refusal.value)


# Trees of parameters -> the message.
NO_PARAMETERS = {
    'integer': ({'w': np.ones((6, 4), np.float32), 'n': np.int32(3)}, "'n' is int32: keep it in the batch"),
    'key': ({'w': np.ones((6, 4), np.float32), 'k': jax.random.key(0)}, "'k' is key<fry>"),
    'no array': ({'w': np.ones((6, 4), np.float32), 'x': 1.0}, "'x' is float"),
    'zeros': ({'w': np.zeros((6, 4), np.float32)}, "the range of 'w' must be positive and finite"),
}


@pytest.mark.parametrize('case', NO_PARAMETERS)
def test_parameters_that_cannot_be_trained_are_refused(case):
    params, message = NO_PARAMETERS[case]
    with pytest.raises(ValueError, match=message) as refusal:
        of_mlp(quantized=lambda path: path == 'w').init(params)
    assert '\n' not in str(refusal.value)


# What a loss returns -> the message.
LOSSES = {
    'array': (lambda loss: loss[None], r'the loss must be a scalar, it has shape \(1,\)'),
    'auxiliary': (lambda loss: (loss, {'accuracy': 1}), 'the loss must be a scalar, it is a tuple'),
    'nothing': (lambda loss: None, 'the loss must be a scalar, it is a NoneType'),
    'integer': (lambda loss: loss.astype(int), 'must be a real number, it is int32'),
}


@pytest.mark.parametrize('case', LOSSES)
def test_a_loss_without_a_gradient_is_refused(case):
    made, message = LOSSES[case]
    lockstep = Lockstep(lambda *given: made(mlp()[1](*given)), optax.sgd(0.1), 'dsq', 2, quantized=is_kernel)
    with pytest.raises(ValueError, match=message):
        lockstep.step(lockstep.init(mlp()[0]), next(batches((6,), 1)))


def test_a_loss_of_a_model_with_state_returns_the_state():
    lockstep = of_mlp(has_state=True)
    lockstep.loss = lambda params, state, batch: mlp()[1](params, batch)
    with pytest.raises(ValueError, match='with has_state the loss must return'):
        lockstep.step(lockstep.init(mlp()[0]), next(batches((6,), 1)))


def test_a_state_of_several_seeds_is_refused_and_each_of_them_is_not():
    lockstep = of_mlp(twins=('naive_ste', 'jitter'))
    seeds = jnp.float32([1, 1.5])
    states = jax.vmap(lambda scale: lockstep.init(jax.tree.map(lambda leaf: scale * leaf, mlp()[0])))(seeds)
    states, _ = jax.jit(jax.vmap(lockstep.step, in_axes=(0, None)))(states, next(batches((6,), 1)))
    for ask in (lockstep.summary, lockstep.verdict):
        with pytest.raises(ValueError, match='a leading axis of 2, of devices or seeds'):
            ask(states)
        with pytest.raises(ValueError, match='must be that of `init`'):
            ask(mlp()[0])
    assert lockstep.verdict(jax.tree.map(lambda leaf: leaf[1], states)).startswith(ANSWERS)


def test_an_axis_that_is_not_there_is_refused():
    lockstep = of_mlp(axis_name='batch')
    with pytest.raises(ValueError, match=r"run the step under jax.pmap\(..., axis_name='batch'\)"):
        jax.jit(lockstep.step)(lockstep.init(mlp()[0]), next(batches((6,), 1)))


def test_numbers_that_are_not_finite_show_nothing():
    lockstep = Lockstep(
        lambda params, batch: jnp.nan * mlp()[1](params, batch), optax.sgd(0.1), 'dsq', 2, quantized=is_kernel
    )
    state, _ = lockstep.step(lockstep.init(mlp()[0]), next(batches((6,), 1)))
    assert lockstep.verdict(state).startswith('No verdict') and 'not finite' in lockstep.verdict(state)


def test_a_loss_of_another_precision_can_be_scanned():
    with jax.enable_x64(True):
        lockstep = of_mlp(twins=('jitter',))
        (batch,) = batches((6,), 1)
        batch = {key: jnp.stack([array.astype(float) if key == 'input' else array] * 3) for key, array in batch.items()}
        state, losses = jax.lax.scan(lockstep.step, lockstep.init(mlp()[0]), batch)
    assert losses['jitter'].dtype == np.float64 and state.runs['jitter'].loss.dtype == np.float32


def test_bits_given_twice_are_refused():
    with pytest.raises(ValueError, match=r'bits are given twice: dsq.* has 2 already'):
        Lockstep(mlp()[1], optax.sgd(0.1), make('dsq', 2), 4, quantized=is_kernel)


def test_quantized_weights_that_are_not_float32_are_refused():
    with pytest.raises(ValueError, match="must be float32, 'first/kernel' is bfloat16"):
        of_mlp().init(bfloat16(mlp()[0]))


def test_a_loss_that_is_not_a_scalar_is_refused():
    lockstep = Lockstep(lambda params, batch: jnp.ones(4), optax.sgd(0.1), 'dsq', 2, quantized=is_kernel)
    with pytest.raises(ValueError, match=r'the loss must be a scalar, it has shape \(4,\)'):
        jax.jit(lockstep.step)(lockstep.init(mlp()[0]), next(batches((6,), 1)))


def test_he_uniform_of_several_outputs_makes_a_range_rule():
    lockstep = of_mlp(ranges=functools.partial(he_uniform, output_axes=1), twins=('self',))
    assert lockstep.init(mlp()[0]).ranges['first'] == np.float32(1)  # sqrt(6 / 6)


class TestNames:
    """Layers are called by their path without the last key, where that tells them apart."""

    @pytest.mark.parametrize(
        'tree, expected',
        [
            ({'a': {'kernel': 0}, 'b': {'kernel': 0}}, {'a': 'a/kernel', 'b': 'b/kernel'}),
            ({'a': {'kernel': 0, 'other': 0}}, {'a/kernel': 'a/kernel', 'a/other': 'a/other'}),
            ({'a': 0, 'b': {'c': 0}}, {'a': 'a', 'b/c': 'b/c'}),
            ([0, (0, 0)], {'0': '0', '1/0': '1/0', '1/1': '1/1'}),
        ],
    )
    def test_select(self, tree, expected):
        tree = jax.tree.map(lambda _: np.zeros(2, np.float32), tree)
        assert weights.select(tree, lambda path: True) == expected
        assert weights.all_paths(tree) == list(expected.values())
        replaced = weights.replace(tree, expected, dict.fromkeys(expected, np.ones(2)))
        assert all((leaf == 1).all() for leaf in weights.get(replaced, expected).values())
