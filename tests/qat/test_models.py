"""The networks: their sizes and strides, batch statistics, and a ResNet's block in lockstep."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from qat import Lockstep
from qat.estimators import make
from qat.layers import QuantConv
from qat.lockstep.twins import REFERENCE
from qat.models.cifar_resnet import CifarResNet, shortcut
from qat.models.convnet import ConvNet
from qat.models.resnet import Bottleneck, ResNet50


def shapes(model, size=224):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, size, size, 3)), train=False))


@pytest.mark.parametrize('shape, dense', [((28, 28, 1), 7 * 7 * 64), ((8, 8, 1), 2 * 2 * 64)])
def test_the_paper_s_convnet(shape, dense):
    variables = ConvNet(nn.Conv).init(jax.random.key(0), jnp.zeros((1, *shape)))
    found = jax.tree.map(jnp.shape, variables['params'])
    assert found['conv1']['kernel'] == (3, 3, 1, 32) and found['conv2']['kernel'] == (3, 3, 32, 64)
    assert found['Dense_0']['kernel'] == (dense, 256) and found['Dense_1']['kernel'] == (256, 10)
    assert all((layer['bias'] == 0).all() for layer in variables['params'].values())


def test_a_convnet_needs_an_image_that_can_be_pooled_twice():
    with pytest.raises(ValueError, match='images need 4x4 pixels or more'):
        ConvNet().init(jax.random.key(0), jnp.zeros((1, 3, 8, 1)))


def test_parameters():
    variables = shapes(ResNet50())
    assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == 25_557_032
    quantized = shapes(ResNet50(functools.partial(QuantConv, estimator=make('ste', 2))))
    assert jax.tree.map(jnp.shape, quantized['params']) == jax.tree.map(jnp.shape, variables['params'])
    convolutions = {name for name, leaf in flatten_dict(variables['params'], sep='/').items() if leaf.ndim == 4}
    assert {name.removesuffix('_range') for name in flatten_dict(quantized['ranges'], sep='/')} == convolutions
    assert len(convolutions) == 53


def test_strides_are_those_of_version_1_5():
    """The 3x3 convolution of a stage's first block halves the image; the 1x1 before it does not."""
    model = ResNet50()
    _, state = jax.eval_shape(
        lambda: model.init_with_output(
            jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False, capture_intermediates=True
        )
    )
    seen = flatten_dict(state['intermediates'], sep='/')
    sizes = {name: seen[f'stage2_block1/{name}/__call__'][0].shape[1] for name in ('conv1', 'conv2', 'conv3')}
    assert sizes == {'conv1': 16, 'conv2': 8, 'conv3': 8}
    assert seen['stage4_block3/__call__'][0].shape == (1, 2, 2, 2048)


@pytest.mark.parametrize('depth, parameters', [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018)])
def test_parameters_of_the_resnets_for_small_images(depth, parameters):
    variables = shapes(CifarResNet(depth), 32)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == parameters
    convolutions = [leaf for leaf in jax.tree.leaves(variables['params']) if leaf.ndim == 4]
    assert len(convolutions) == depth - 1 and all(leaf.shape[:2] == (3, 3) for leaf in convolutions)


@pytest.mark.parametrize('depth', [2, 18, 34])
def test_a_depth_that_is_no_6_n_plus_2_is_refused(depth):
    with pytest.raises(ValueError, match=f'such as 20, 32, 44, 56 or 110, it is {depth}'):
        CifarResNet(depth)


@pytest.mark.parametrize('stride, size', [(1, (5, 6)), (2, (3, 3))])
def test_a_shortcut_without_weights(stride, size):
    x = np.random.default_rng(0).normal(size=(2, 5, 6, 8)).astype(np.float32)
    found, expected = np.asarray(shortcut(jnp.asarray(x), 16, stride)), np.zeros((2, *size, 16), np.float32)
    for image, row, column, channel in np.ndindex(2, *size, 8):
        expected[image, row, column, 4 + channel] = x[image, stride * row, stride * column, channel]
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    'model, sizes',
    [
        (CifarResNet(8), {'conv_stem': (32, 16), 'stage1_block1': (32, 16), 'stage3_block1': (8, 64)}),
        (
            ResNet50(stages=(1, 1, 1), small_images=True),
            {'conv_stem': (32, 64), 'stage1_block1': (32, 256), 'stage3_block1': (8, 1024)},
        ),
        (ResNet50(stages=(1, 1, 1)), {'conv_stem': (16, 64), 'stage1_block1': (8, 256), 'stage3_block1': (2, 1024)}),
    ],
)
def test_sizes_and_channels_from_32_pixels(model, sizes):
    images = jnp.zeros((1, 32, 32, 3))
    _, state = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), images, train=False, capture_intermediates=True)
    )
    seen = flatten_dict(state['intermediates'], sep='/')
    for name, (size, channels) in sizes.items():
        assert seen[f'{name}/__call__'][0].shape == (1, size, size, channels)


def test_frozen_statistics_are_those_of_the_start_also_in_training():
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    variables = jax.jit(CifarResNet(8).init)(jax.random.key(1), images)
    variables['batch_stats'] = jax.tree.map(lambda leaf: leaf + 0.5, variables['batch_stats'])
    evaluated = jax.jit(functools.partial(CifarResNet(8).apply, train=False))(variables, images)
    for frozen in (False, True):
        model = CifarResNet(8, frozen_statistics=frozen)
        applied = jax.jit(functools.partial(model.apply, train=True, mutable='batch_stats'))
        trained, moved = applied(variables, images)
        same = jax.tree.all(jax.tree.map(np.array_equal, moved.get('batch_stats', {}), variables['batch_stats']))
        assert same == frozen == np.array_equal(trained, evaluated)


def test_bfloat16_computes_in_bfloat16_and_answers_in_float32():
    model = ResNet50(dtype=jnp.bfloat16)
    output, variables = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), capture_intermediates=True)
    )
    assert output.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables['params']))
    assert variables['intermediates']['stage1_block1']['conv1']['__call__'][0].dtype == jnp.bfloat16


def block() -> nn.Module:
    norm = functools.partial(nn.BatchNorm, use_running_average=False, momentum=0.9)
    return Bottleneck(4, 2, functools.partial(nn.Conv, use_bias=False), norm)


@pytest.mark.slow
@pytest.mark.parametrize(
    'model_of, learning_rate',
    [(block, 0.1), (lambda: ResNet50(classes=10), 1e-3)],
    ids=['block', 'whole'],
)
def test_a_pair_trains_in_lockstep(model_of, learning_rate):
    """self is bit-equal with its batch statistics, which move and, in the end, differ from ste's."""
    model, random = model_of(), np.random.default_rng(0)
    images = random.normal(size=(5, 8, 16, 16, 3)).astype(np.float32)
    variables = model.init(jax.random.key(0), images[0])

    def loss(params, model_state, batch):
        outputs, updated = model.apply({'params': params, **model_state}, batch, mutable=['batch_stats'])
        return jnp.sum(jnp.square(outputs - 1)) / len(batch), updated

    def is_convolution(path):
        return path.endswith('kernel') and 'conv' in path

    lockstep = Lockstep(
        loss, optax.sgd(learning_rate), 'dsq', 2, quantized=is_convolution, twins=('ste', 'self'), has_state=True
    )
    state = lockstep.init(variables['params'], {'batch_stats': variables['batch_stats']})
    first, step = jax.device_get(state.runs[REFERENCE].model_state), jax.jit(lockstep.step)
    for batch in images:
        state, _ = step(state, batch)
    for reference, twin in zip(jax.tree.leaves(state.runs[REFERENCE]), jax.tree.leaves(state.runs['self'])):
        assert np.array_equal(reference, twin)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.runs))
    last, of_ste = (jax.tree.leaves(state.runs[name].model_state) for name in (REFERENCE, 'ste'))
    assert all((a != b).any() for a, b in zip(jax.tree.leaves(first), last))
    assert any((a != b).any() for a, b in zip(last, of_ste))
    assert lockstep.summary(state)['self']['weight_alignment_error'] == 0
    assert len(state.ranges) == (53 if isinstance(model, ResNet50) else 4)
