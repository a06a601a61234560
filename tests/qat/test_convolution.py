"""The convolutions and poolings of a CPU give XLA's numbers, and no other backend's program is touched."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from qat.convolution import by_patches
from qat.layers import Conv
from qat.pooling import avg_pool

RANDOM = np.random.default_rng(0)
# (images), features, kernel, strides, padding: those of the models here at their smallest and largest, and others
SHAPES = {
    'convnet conv1': ((4, 28, 28, 1), 32, (3, 3), 1, 'SAME'),
    'convnet conv2 of a batch in parts': ((128, 14, 14, 32), 64, (3, 3), 1, 'SAME'),
    'parts of unequal size': ((67, 14, 14, 32), 64, (3, 3), 1, 'SAME'),
    'stem': ((2, 64, 64, 3), 64, (7, 7), 2, ((3, 3), (3, 3))),
    'stem of a small image': ((2, 5, 5, 3), 8, (7, 7), 2, ((3, 3), (3, 3))),
    '1x1': ((2, 16, 16, 64), 256, (1, 1), 1, 'SAME'),
    '1x1 with a stride': ((2, 16, 16, 32), 64, (1, 1), 2, 'SAME'),
    '1x1 with a stride of an odd image': ((2, 7, 9, 8), 4, (1, 1), 2, 'SAME'),
    '1x1 with padding': ((2, 4, 4, 8), 4, (1, 1), 1, ((1, 0), (0, 2))),
    '3x3 with a stride': ((2, 16, 16, 32), 32, (3, 3), 2, ((1, 1), (1, 1))),
    'an output smaller than the kernel': ((2, 4, 4, 16), 32, (3, 3), 2, ((1, 1), (1, 1))),
    'an image smaller than the kernel': ((2, 2, 2, 16), 32, (3, 3), 1, 'SAME'),
    'one pixel': ((2, 1, 1, 16), 32, (3, 3), 2, ((1, 1), (1, 1))),
    'an image of which one side is smaller': ((2, 9, 2, 4), 8, (3, 3), (2, 1), 'SAME'),
    'one side': ((3, 9, 4), 8, (3,), 2, 'VALID'),
    'three sides': ((2, 4, 3, 2, 4), 8, (3, 2, 3), (2, 1, 1), 'SAME'),
}
OPTIONS = {
    'dilated': {'kernel_dilation': 2},
    'dilated input': {'input_dilation': 2},
    'in groups': {'feature_group_count': 4},
    'precise': {'precision': lax.Precision.HIGHEST},
}


def results(layer: nn.Module, images: jax.Array) -> tuple:
    """The output, and the gradients of a sum in which every output has another weight."""
    variables = layer.init(jax.random.key(0), images)

    def loss(variables, images):
        output = layer.apply(variables, images)
        return jnp.sum(output * jnp.sin(jnp.arange(output.size)).reshape(output.shape)), output

    gradients, output = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(variables, images)
    return output, gradients


def assert_as_xla(images: np.ndarray, features, kernel, strides, padding, **options) -> None:
    """Our layer and Flax's, forward and backward; sums of many terms differ in their last bits."""
    given = {'strides': strides, 'padding': padding, 'kernel_init': nn.initializers.he_uniform(), **options}
    found, expected = (results(layer(features, kernel, **given), images) for layer in (Conv, nn.Conv))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6 * max(1, float(jnp.abs(other).max())))


REPETITIONS = {
    *('stem of a small image', '1x1 with a stride of an odd image', 'an output smaller than the kernel'),
    *('one pixel', 'an image of which one side is smaller', 'convnet conv1', '3x3 with a stride'),
}


@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=[pytest.mark.slow] * (name in REPETITIONS)) for name in SHAPES]
)
def test_every_shape_as_xla(name):
    shape, *arguments = SHAPES[name]
    assert_as_xla(RANDOM.standard_normal(shape, np.float32), *arguments)


@pytest.mark.parametrize('side', [2, 8])
@pytest.mark.parametrize('name', OPTIONS)
def test_every_option_as_xla(name, side):
    images = RANDOM.standard_normal((2, side, side, 8), np.float32)
    assert_as_xla(images, 8, (3, 3), 1, ((2, 2), (2, 2)), **OPTIONS[name])


@settings(deadline=None, max_examples=8)
@given(
    sides=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    window=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.tuples(st.integers(3, 4), st.integers(0, 2))] * 2),
)
def test_patches_are_the_sum_over_the_window(sides, window, strides, padding):
    images, kernel = RANDOM.standard_normal((2, *sides, 3)), RANDOM.standard_normal((*window, 3, 2))
    padded = np.pad(images, ((0, 0), *padding, (0, 0)))
    counts = [(side - width) // step + 1 for side, width, step in zip(padded.shape[1:3], window, strides)]
    expected = np.zeros((2, *counts, 2))
    for row, column in np.ndindex(*counts):
        top, left = row * strides[0], column * strides[1]
        seen = padded[:, top : top + window[0], left : left + window[1]]
        expected[:, row, column] = np.einsum('nijc,ijcf->nf', seen, kernel)
    found = by_patches(jnp.float32(images), jnp.float32(kernel), strides, padding)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_half_precision_is_as_good_as_xlas():
    shape, *arguments = SHAPES['convnet conv2 of a batch in parts']
    images = RANDOM.standard_normal(shape, np.float32)

    def found(layer, dtype):
        return jax.tree.leaves(
            results(layer(*arguments, dtype=dtype, kernel_init=nn.initializers.he_uniform()), images)
        )

    exact = found(nn.Conv, jnp.float32)
    errors = [
        [float(jnp.abs(one - other).max()) for one, other in zip(found(layer, jnp.bfloat16), exact)]
        for layer in (Conv, nn.Conv)
    ]
    assert all(ours <= 2 * xlas for ours, xlas in zip(*errors))


@pytest.mark.parametrize('name', ['1x1', 'parts of unequal size', 'an image smaller than the kernel'])
def test_programs_of_other_backends_are_as_they_were(name, monkeypatch):
    shape, *arguments = SHAPES[name]
    monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')

    def program(layer):
        made = layer(*arguments, kernel_init=nn.initializers.zeros_init())
        return jax.jit(lambda images: made.init_with_output(jax.random.key(0), images)[0]).lower(jnp.zeros(shape))

    assert program(Conv).as_text() == program(nn.Conv).as_text()


@pytest.mark.parametrize(
    'shape, window, strides',
    [
        *(((4, 28, 28, 3), (2, 2), (2, 2)), ((2, 7, 5, 3), (2, 2), (2, 2)), ((2, 9, 6, 1), (3, 2), (3, 2))),
        *(((2, 9, 9, 2), (3, 3), (2, 2)), ((3, 8, 2), (4,), (4,)), ((1, 1, 1, 4), (1, 1), (1, 1))),
    ],
)
def test_pooling_as_flax(shape, window, strides):
    images = jnp.asarray(RANDOM.standard_normal(shape, np.float32))

    def both(pool):
        output, pull = jax.vjp(lambda images: pool(images, window, strides=strides), images)
        return output, *pull(jnp.sin(jnp.arange(output.size, dtype=jnp.float32)).reshape(output.shape))

    for one, other in zip(both(avg_pool), both(nn.avg_pool), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
