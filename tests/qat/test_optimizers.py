"""Optimizers take the path on their label, and the transfer class follows from all that decides it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qat import optimizers
from qat.estimators import make
from qat.layers import QuantConv
from qat.models.convnet import ConvNet
from qat.quantizers import UniformQuantizer


@pytest.fixture(scope='module')
def params():
    def conv(*args, **kwargs):
        return QuantConv(*args, quantizer=UniformQuantizer(2), estimator=make('ste', 2), **kwargs)

    return ConvNet(conv).init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))['params']


@pytest.fixture(scope='module')
def gradients(params):
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves)]
    # Bounded away from 0, where an optimizer's eps would matter.
    return jax.tree.unflatten(structure, [jnp.sign(g) * (0.1 + jnp.abs(g)) for g in drawn])


def updates(name, params, gradients, weight_decay=0.0, **arguments):
    transformation = optimizers.make(name, weight_decay, **arguments).build(0.1)
    return transformation.update(gradients, transformation.init(params), params)[0]


# The first update from zero state, from each optimizer's published rule, with learning rate 0.1.
FIRST_UPDATES = {
    'sgd': lambda g, w, decay: -0.1 * (g + decay * w),
    'signsgd': lambda g, w, decay: -0.1 * np.sign(g + decay * w),
    'adam': lambda g, w, decay: -0.1 * np.sign(g + decay * w),
    'adamw': lambda g, w, decay: -0.1 * (np.sign(g) + decay * w),
    'rmsprop': lambda g, w, decay: -0.1 * np.sign(g + decay * w) / np.sqrt(1 - 0.9),
    'lion': lambda g, w, decay: -0.1 * (np.sign(g) + decay * w),
}


@pytest.mark.parametrize('weight_decay', [0.0, 0.5])
@pytest.mark.parametrize('name', FIRST_UPDATES)
def test_first_update_and_how_weight_decay_enters_it(name, weight_decay, params, gradients):
    actual = updates(name, params, gradients, weight_decay)['conv2']['kernel']
    gradient, weight = gradients['conv2']['kernel'], params['conv2']['kernel']
    np.testing.assert_allclose(actual, FIRST_UPDATES[name](gradient, weight, weight_decay), atol=2e-4)


def test_every_optimizer_is_tested():
    assert set(optimizers.FAMILIES) == {*FIRST_UPDATES, 'muon', 'adafactor'}


def test_muon_orthogonalizes_conv_kernels(params, gradients):
    update = updates('muon', params, gradients)
    for layer in ('conv1', 'conv2'):
        kernel = np.asarray(update[layer]['kernel'])
        singular = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)
        # Five Newton-Schulz steps bring every singular value near 1, times the learning rate and optax's shape factor.
        assert singular.max() / singular.min() < 3, layer
    bias = np.abs(np.asarray(update['conv2']['bias']))  # what is no matrix goes to Adam, which normalises each weight
    np.testing.assert_allclose(bias, bias.mean(), rtol=1e-4)


def test_without_dimension_numbers_optax_would_hand_conv_kernels_to_adam(params, gradients):
    plain = optax.contrib.muon(0.1)
    update = plain.update(gradients, plain.init(params), params)[0]['conv2']['kernel']
    ours = updates('muon', params, gradients)['conv2']['kernel']
    assert np.linalg.svd(np.asarray(update).reshape(-1, 64), compute_uv=False).std() > 0.1
    assert not np.allclose(update, ours, rtol=0.5)


def test_adafactor_factors_the_conv_kernel_it_can(params):
    state = optimizers.make('adafactor').build(0.1).init(params)
    factored = next(
        leaf for leaf in jax.tree.leaves(state, is_leaf=lambda x: hasattr(x, 'v_row')) if hasattr(leaf, 'v_row')
    )
    # conv2 (3, 3, 32, 64): rows and columns of (32, 64), no full second moment.
    assert factored.v_row['conv2']['kernel'].size == 3 * 3 * 32 and factored.v_col['conv2']['kernel'].size == 3 * 3 * 64
    assert factored.v['conv2']['kernel'].size == 1
    # conv1 (3, 3, 1, 32) has no two dimensions of 32: it keeps its full second moment.
    assert factored.v['conv1']['kernel'].size == params['conv1']['kernel'].size


CLASSES = [
    ('sgd', {}, 0, 'map', 'map'),
    ('sgd', {'momentum': 0.9, 'nesterov': True}, 0, 'map', 'map'),
    ('sgd', {'momentum': 0.9}, 1e-4, 'none', 'none'),
    ('signsgd', {}, 0, 'identity', 'map'),
    ('lion', {}, 0, 'identity', 'map'),
    ('lion', {}, 0.1, 'identity', 'none'),
    ('rmsprop', {}, 0, 'identity', 'map'),
    ('rmsprop', {}, 0.1, 'none', 'none'),
    ('adam', {}, 0, 'identity', 'map'),
    ('adam', {}, 0.1, 'none', 'none'),
    ('adamw', {}, 0, 'identity', 'map'),
    ('adamw', {}, 0.1, 'identity', 'none'),
    ('muon', {}, 0, 'none', 'map'),
    ('muon', {}, 0.1, 'none', 'none'),
    ('adafactor', {}, 0, 'none', 'none'),
    ('adafactor', {'multiply_by_parameter_scale': False}, 0, 'none', 'map'),
]


@pytest.mark.parametrize('name, arguments, decay, gradient, update', CLASSES)
def test_transfer_classes(name, arguments, decay, gradient, update):
    optimizer = optimizers.make(name, decay, **arguments)
    assert (optimizer.transfer('gradient').transfer_class, optimizer.transfer('update').transfer_class) == (
        gradient,
        update,
    )


IDENTITY = [(name, arguments, decay) for name, arguments, decay, gradient, _ in CLASSES if gradient == 'identity']


@pytest.mark.parametrize('name, arguments, decay', IDENTITY)
def test_identity_class_cancels_a_constant_slope(name, arguments, decay, params, gradients):
    """The mathematics of the class: scaling every coordinate of the gradient changes no update."""
    scales = jax.tree.map(lambda g: jnp.exp(jnp.sin(jnp.arange(g.size, dtype=jnp.float32))).reshape(g.shape), gradients)
    scaled = jax.tree.map(jnp.multiply, gradients, scales)
    for plain, other in zip(
        *(jax.tree.leaves(updates(name, params, g, decay, **arguments)) for g in (gradients, scaled))
    ):
        np.testing.assert_allclose(plain, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name, arguments, decay', [row[:3] for row in CLASSES if row[4] == 'map'])
def test_update_placement_class_map_means_output_independent_of_weights(name, arguments, decay, params, gradients):
    other = jax.tree.map(lambda w: 2 * w + 1, params)
    for one, two in zip(*(jax.tree.leaves(updates(name, p, gradients, decay, **arguments)) for p in (params, other))):
        assert (one == two).all()


def test_kappa():
    adam = optimizers.make('adam', b2=0.95)
    assert optimizers.kappa(adam, 1e-3, 0.5) == pytest.approx(1e-3 / (0.05 * 0.5))
    assert optimizers.kappa(optimizers.make('signsgd'), 1e-3, 0.5) == pytest.approx(2e-3)
    assert optimizers.kappa(optimizers.make('sgd'), 1e-3, 0.5) is None
    assert optimizers.make('rmsprop', decay=0.8).second_moment_decay == 0.8


@pytest.mark.parametrize(
    'name, decay, arguments, message',
    [
        ('adm', 0, {}, "did you mean 'adam'"),
        ('sgd', 0, {'momentun': 0.9}, "did you mean 'momentum'"),
        ('sgd', 0, {'momentum': 1.0}, r'\[0, 1\)'),
        ('adam', 0, {'b2': -0.1}, r'\[0, 1\)'),
        ('sgd', 0, {'nesterov': 'yes'}, 'True or False'),
        ('sgd', -1, {}, 'at least 0'),
        ('adafactor', 0.1, {}, 'without weight decay'),
    ],
)
def test_refusals(name, decay, arguments, message):
    with pytest.raises(ValueError, match=message):
        optimizers.make(name, decay, **arguments)
    with pytest.raises(ValueError, match="did you mean 'update'"):
        optimizers.make('sgd').transfer('updates')
