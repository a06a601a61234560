"""Optimizers take the path on their label, and the transfer class follows from all that decides it."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qat import optimizers, transfer, weights
from qat.models.convnet import ConvNet
from qat.optimizers import FAMILIES
from qat.probe import Probed
from qat.transfer import PLACEMENTS


@pytest.fixture(scope='module')
def params():
    return jax.jit(ConvNet().init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))['params']


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
    'sgdw': lambda g, w, decay: -0.1 * (g + decay * w),
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


DECAYING = {name for name, family in FAMILIES.items() if family.decay != 'unsupported'}


@pytest.mark.parametrize('name', sorted(DECAYING))
def test_only_what_is_to_decay_decays_and_that_as_it_would_among_all(name):
    random = np.random.default_rng(0)
    weight, gradient = (
        {
            path: np.float32(random.normal(size=shape))
            for path, shape in {'one': (4, 6), 'two': (6, 4), 'gain': 6}.items()
        }
        for _ in range(2)
    )

    def update(decay, decayed='all'):
        transformation = optimizers.make(name, decay, decayed).build(0.1)
        return transformation.update(gradient, transformation.init(weight), weight)[0]

    plain, everywhere = update(0.0), update(5.0)
    assert all((plain[key] != everywhere[key]).any() for key in weight)
    for decayed, keys in (('matrices', ('one', 'two')), ('t*', ('two',))):
        found = update(5.0, decayed)
        for key in weight:
            np.testing.assert_allclose(found[key], (everywhere if key in keys else plain)[key], rtol=1e-5, atol=1e-6)


def test_what_decays_is_chosen_by_axes_or_path_and_must_be_there(params):
    def chosen(decayed):
        of = optimizers.parse('adamw', 0.1, decayed).decays_of(params)
        return {path for path, decays in zip(weights.all_paths(params), jax.tree.leaves(of)) if decays}

    kernels = {f'{layer}/kernel' for layer in params}
    assert chosen('matrices') == chosen('*/kernel') == kernels
    assert chosen('all') == kernels | {f'{layer}/bias' for layer in params}
    assert chosen('conv1/*') == {'conv1/kernel', 'conv1/bias'}
    for weight_decay in (0.1, 0.0):  # a slip is one, even while nothing decays
        with pytest.raises(ValueError, match=r"'matrix' is no weight of the model\. Try all, .* a pattern of Dense_0"):
            optimizers.make('adamw', weight_decay, 'matrix').check_decayed(params)
    optimizers.make('adamw', 0.0, 'matrices').check_decayed(params)


@pytest.mark.parametrize('name', ['adamw', 'sgd', 'muon'])
def test_the_class_of_what_decays_in_part_is_the_table_s(name):
    optimizer = optimizers.make(name, 0.1, 'matrices')
    found, expected = (
        Probed(optimizer.build(0.01)).transfer('gradient', PROBED, KERNELS),
        optimizer.transfer('gradient'),
    )
    assert (found.transfer_class, found.pulled_back) == (expected.transfer_class, expected.pulled_back)


def test_every_optimizer_is_tested():
    assert set(optimizers.FAMILIES) == {*FIRST_UPDATES, 'muon', 'adafactor'}, 'FIRST_UPDATES and CLASSES here'


def test_muon_orthogonalizes_conv_kernels(params, gradients):
    update = updates('muon', params, gradients)
    for layer in ('conv1', 'conv2'):
        kernel = np.asarray(update[layer]['kernel'])
        singular = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)
        # Five Newton-Schulz steps bring every singular value near 1, times the learning rate and optax's shape factor.
        assert singular.max() / singular.min() < 3, layer
    bias = np.abs(np.asarray(update['conv2']['bias']))  # what is no matrix goes to Adam, which normalises each weight
    np.testing.assert_allclose(bias, bias.mean(), rtol=1e-4)


def test_a_step_size_for_each_channel_is_no_matrix():
    """Nor does it decay as one: orthogonalized, a row would only be normalised, and its channels mixed."""
    given = {'kernel': jnp.ones((2, 3)), 'step_sizes': {'a': jnp.asarray([[0.1, 0.2, 0.4]])}}
    update = updates('muon', given, given)['step_sizes']['a']
    np.testing.assert_allclose(update, update.mean(), rtol=1e-4)  # Adam normalises each; orthogonalized, 1 to 4
    decays = optimizers.make('sgd', 0.1, optimizers.MATRICES).decays_of(given)
    assert decays == {'kernel': True, 'step_sizes': {'a': False}}


@pytest.mark.parametrize('shape', [(8, 2, 4), (2, 4, 8), (3, 3, 4, 8)])
def test_muon_orthogonalizes_kernels_of_three_and_four_axes(shape):
    """As the projections of an attention: no Adam under Muon's name."""
    kernel = {'kernel': jax.random.normal(jax.random.key(2), shape)}
    update = np.asarray(updates('muon', kernel, kernel)['kernel']).reshape(-1, shape[-1])
    singular = np.linalg.svd(update, compute_uv=False)
    assert singular.max() / singular.min() < 3
    assert np.abs(update).std() > 0.1 * np.abs(update).mean()  # Adam's first update has one size


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
    ('sgd', {'momentum': 0.9}, 1e-4, 'map', 'map'),
    ('sgdw', {'momentum': 0.9}, 0, 'map', 'map'),
    ('sgdw', {'momentum': 0.9}, 0.1, 'map', 'map'),
    ('signsgd', {}, 0, 'identity', 'map'),
    ('signsgd', {}, 0.1, 'identity', 'map'),
    ('lion', {}, 0, 'identity', 'map'),
    ('lion', {}, 0.1, 'identity', 'map'),
    ('rmsprop', {}, 0, 'identity', 'map'),
    ('rmsprop', {}, 0.1, 'identity', 'map'),
    ('adam', {}, 0, 'identity', 'map'),
    ('adam', {}, 0.1, 'identity', 'map'),
    ('adamw', {}, 0, 'identity', 'map'),
    ('adamw', {}, 0.1, 'identity', 'map'),
    ('muon', {}, 0, 'none', 'map'),
    ('muon', {}, 0.1, 'none', 'map'),
    ('adafactor', {}, 0, 'none', 'map'),
    ('adafactor', {'multiply_by_parameter_scale': False}, 0, 'none', 'map'),
]


@pytest.mark.parametrize('name, arguments, decay, gradient, update', CLASSES)
def test_transfer_classes(name, arguments, decay, gradient, update):
    optimizer = optimizers.make(name, decay, **arguments)
    assert (optimizer.transfer('gradient').transfer_class, optimizer.transfer('update').transfer_class) == (
        gradient,
        update,
    )


def test_every_optimizer_is_in_the_table_of_classes():
    assert {row[0] for row in CLASSES} == set(FAMILIES), 'CLASSES here, and CONVERTED of test_conversion.py'
    with_decay = {row[0] for row in CLASSES if row[2]}
    assert with_decay == {name for name, family in FAMILIES.items() if family.decay != 'unsupported'}


IDENTITY = [(name, arguments, decay) for name, arguments, decay, gradient, _ in CLASSES if gradient == 'identity']


@pytest.mark.parametrize('name, arguments, decay', IDENTITY)
def test_identity_class_cancels_a_constant_slope(name, arguments, decay, params, gradients):
    """The mathematics of the class: scaling every coordinate of the gradient changes no update.

    Where decay is pulled back, that is of the weights over the scale.
    """
    scales = jax.tree.map(lambda g: jnp.exp(jnp.sin(jnp.arange(g.size, dtype=jnp.float32))).reshape(g.shape), gradients)
    scaled = jax.tree.map(jnp.multiply, gradients, scales)
    pulled_back = optimizers.make(name, decay, **arguments).transfer('gradient').pulled_back
    read = jax.tree.map(jnp.divide, params, scales) if pulled_back else params
    for plain, other in zip(
        *(jax.tree.leaves(updates(name, p, g, decay, **arguments)) for p, g in ((read, gradients), (params, scaled)))
    ):
        np.testing.assert_allclose(plain, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name, arguments, decay', [row[:3] for row in CLASSES])
def test_under_placement_update_only_what_reads_the_weights_is_pulled_back(name, arguments, decay, params, gradients):
    other = jax.tree.map(lambda w: 2 * w + 1, params)
    pairs = zip(*(jax.tree.leaves(updates(name, p, gradients, decay, **arguments)) for p in (params, other)))
    reads = any((one != two).any() for one, two in pairs)
    assert bool(optimizers.make(name, decay, **arguments).transfer('update').pulled_back) == reads


# One weight is large enough for Adafactor to factor it; both are matrices, for Muon.
PROBED = {'a': {'kernel': np.zeros((40, 48)), 'bias': np.zeros(48)}, 'b': {'kernel': np.zeros((48, 10))}}
KERNELS = ('a/kernel', 'b/kernel')


@pytest.mark.parametrize('placement', PLACEMENTS)
@pytest.mark.parametrize('name, arguments, decay', [row[:3] for row in CLASSES])
def test_the_probe_finds_the_class_of_the_table(name, arguments, decay, placement):
    optimizer = optimizers.make(name, decay, **arguments)
    found = Probed(optimizer.build(0.01)).transfer(placement, PROBED, KERNELS)
    expected = optimizer.transfer(placement)
    assert found.transfer_class == expected.transfer_class, found.reason
    assert (found.scale_free, found.pulled_back) == (expected.scale_free, expected.pulled_back)


DECAY = 1e-4
# Of optax, and nowhere in the table: (transformation, class under placement gradient, under update).
OTHERS = {
    'adabelief': (optax.adabelief(0.01), 'identity', 'map'),
    'nadam': (optax.nadam(0.01), 'identity', 'map'),
    'amsgrad': (optax.amsgrad(0.01), 'identity', 'map'),
    'rprop': (optax.rprop(0.01), 'identity', 'map'),
    # Its output is scaled by the size of the weights, which both runs share where the class is identity.
    'lamb': (optax.lamb(0.01), 'identity', 'map'),
    'lars': (optax.lars(0.01), 'none', 'map'),
    'warm up from 0': (optax.sgd(optax.linear_schedule(0, 0.1, 10)), 'map', 'map'),
    'nothing for 9 steps': (optax.sgd(lambda step: 0.1 * (step > 9)), 'map', 'map'),
    'clip': (optax.chain(optax.clip(1.0), optax.sgd(0.1)), 'none', 'map'),
    'clip to much': (optax.chain(optax.clip(1e4), optax.sgd(0.1)), 'none', 'map'),
    'clip by norm': (optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)), 'none', 'map'),
    'clip by norm, adam': (optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)), 'none', 'map'),
    'muon': (optax.contrib.muon(0.01), 'none', 'map'),
    'coupled': (optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(0.1)), 'map', 'map'),
    'decoupled': (optax.chain(optax.sgd(0.1), optax.add_decayed_weights(-0.1 * DECAY)), 'map', 'map'),
    'decay inside a sign': (optax.chain(optax.add_decayed_weights(DECAY), optax.sign_sgd(0.1)), 'identity', 'map'),
    'accumulation': (optax.MultiSteps(optax.sgd(0.1), 4), 'map', 'map'),
    'long accumulation': (optax.MultiSteps(optax.sgd(0.1, momentum=0.9), 32), 'map', 'map'),
    'accumulation, adam': (optax.MultiSteps(optax.adam(0.1), 4), 'identity', 'map'),
    'noise': (optax.noisy_sgd(0.1, key=0), 'none', 'map'),
    'no update': (optax.set_to_zero(), 'none', 'none'),
}


@pytest.mark.parametrize('name', OTHERS)
def test_the_probe_finds_the_class_of_other_transformations(name):
    transformation, *expected = OTHERS[name]
    for placement, transfer_class in zip(PLACEMENTS, expected):
        found = Probed(transformation).transfer(placement, PROBED, KERNELS)
        assert found.transfer_class == transfer_class and found.reason.startswith('probed: ')


def test_the_probe_looks_at_the_quantized_weights_alone():
    """Weight decay on biases moves nothing that M moves; the labels know the tree's own structure."""
    labels = {'a': {'kernel': 'sgd', 'bias': 'decay'}, 'b': {'kernel': 'adam'}}
    decayed = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1))
    mixed = optax.multi_transform({'sgd': optax.sgd(0.1), 'adam': optax.adam(0.1), 'decay': decayed}, labels)
    for paths, expected in ((('a/kernel',), 'map'), (('b/kernel',), 'identity'), (KERNELS, 'none')):
        assert Probed(mixed).transfer('gradient', PROBED, paths).transfer_class == expected
    of_decay = Probed(mixed).transfer('gradient', PROBED, ('a/bias',))
    assert (of_decay.transfer_class, of_decay.pulled_back) == ('map', (transfer.DECAY,))
    assert not Probed(mixed).transfer('gradient', PROBED, ('a/kernel',)).pulled_back


def test_the_probe_inside_of_a_compiled_program():
    transformation = optax.sgd(0.3)

    @jax.jit
    def traced(w):
        assert Probed(transformation).transfer('gradient', {'w': w}, ('w',)).transfer_class == 'map'
        return w

    traced(jnp.ones((3, 4)))


def test_what_cannot_be_probed_is_refused():
    with pytest.raises(ValueError, match=r'cannot be probed for its transfer class: TypeError: .*value'):
        Probed(optax.polyak_sgd()).transfer('gradient', PROBED, KERNELS)
    with pytest.raises(ValueError, match="did you mean 'update'"):
        Probed(optax.sgd(0.1)).transfer('updates', PROBED, KERNELS)


def test_a_probed_optimizer_takes_a_factor_on_its_learning_rate():
    weight = {'w': jnp.float32([1.0, -2.0])}
    halved = Probed(optax.sgd(0.1)).build(0.5)
    updates, _ = halved.update(weight, halved.init(weight), weight)
    np.testing.assert_allclose(updates['w'], [-0.05, 0.1], rtol=1e-6)


@pytest.mark.parametrize(
    'name, decay, arguments, message',
    [
        ('adm', 0, {}, "did you mean 'adam'"),
        ('sgd', 0, {'momentun': 0.9}, "did you mean 'momentum'"),
        ('sgd', 0, {'momentum': 1.0}, r'\[0, 1\)'),
        ('adam', 0, {'b2': -0.1}, r'\[0, 1\)'),
        ('sgd', 0, {'nesterov': 'yes'}, 'True or False'),
        ('sgd', -1, {}, 'at least 0'),
        ('adam', 0, {'b1': None}, r'b1 must be a number in \[0, 1\), got None'),
        ('muon', 0, {'ns_steps': 2.5}, 'ns_steps must be a whole number'),
        ('adafactor', 0, {'decay_rate': None}, 'decay_rate must be a number'),
        ('adamw', 0, {'weight_decay': 0.1}, "unknown argument of optimizer 'adamw' 'weight_decay'"),
        ('adafactor', 0.1, {}, 'without weight decay'),
    ],
)
def test_refusals(name, decay, arguments, message):
    with pytest.raises(ValueError, match=message):
        optimizers.make(name, decay, **arguments)
    with pytest.raises(ValueError, match="did you mean 'update'"):
        optimizers.make('sgd').transfer('updates')


ARGUMENTS = [  # (optimizer, argument, default)
    (name, key, parameter.default)
    for name, family in FAMILIES.items()
    for key, parameter in list(inspect.signature(family.build).parameters.items())[2:]
]
LITERALS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.floats(0, 1),
    st.sampled_from([0, 1, 2, 99, 2.0, 2**31, 10**30, 10**400, 1e308, 5e-324, 1j, b'x', 'x', (), (0.5,), [1], {}, {1}]),
)


@pytest.mark.parametrize('name, key, default', ARGUMENTS)
def test_every_argument_has_a_domain_or_is_a_switch(name, key, default):
    for wrong in (None, 'x', (0.5,), float('nan')):
        with pytest.raises(ValueError, match=f'{key} must be '):
            optimizers.make(name, **{key: wrong})
    assert dict(optimizers.make(name).parameters)[key] == default


@settings(max_examples=100)
@given(st.sampled_from(ARGUMENTS), LITERALS)
def test_an_argument_is_refused_or_the_optimizer_updates(argument, value):
    name, key, _ = argument
    try:
        optimizer = optimizers.parse(f'{name}({key}={value!r})')
    except ValueError:
        return
    tree = {'kernel': jnp.ones((2, 3)), 'bias': jnp.ones(3)}
    transformation = optimizer.build(0.1)
    updated = jax.eval_shape(lambda w: transformation.update(w, transformation.init(w), w)[0], tree)
    assert jax.tree.map(jnp.shape, updated) == jax.tree.map(jnp.shape, tree)


def test_adam_without_eps_is_allowed():
    assert dict(optimizers.parse('adam(eps=0)').parameters)['eps'] == 0
