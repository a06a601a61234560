"""Quantized layers equal the plain ones on quantized kernels, and keep the range of their first kernel."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qat import ranges
from qat.estimators import make
from qat.layers import QuantConv, QuantDense, QuantDenseGeneral
from qat.models.convnet import ConvNet
from qat.quantizers import UniformQuantizer
from qat.ranges import RANGE_RULES, max_abs

IMAGES = jax.random.normal(jax.random.key(0), (2, 6, 6, 4))
LAYERS = {
    'conv': (QuantConv, nn.Conv, (8, (3, 3)), IMAGES),
    'dense': (QuantDense, nn.Dense, (8,), IMAGES.reshape(2, -1)),
    'heads': (QuantDenseGeneral, nn.DenseGeneral, ((2, 5),), IMAGES),
    'from heads': (QuantDenseGeneral, nn.DenseGeneral, (7, (-2, -1)), IMAGES),
}
OUTPUT_AXES = {'heads': 2}  # of the kernel; one by default
DSQ = make('dsq', 2)


@pytest.mark.parametrize('rule', [*(name for name in RANGE_RULES if name != 'block_max_abs'), 'block_max_abs(size=2)'])
@pytest.mark.parametrize('kind', LAYERS)
def test_forward_is_the_plain_layer_on_the_quantized_kernel(kind, rule):
    quantized, plain, arguments, inputs = LAYERS[kind]
    layer = quantized(*arguments, estimator=DSQ, range_rule=ranges.rule(rule))
    variables = layer.init(jax.random.key(1), inputs)
    kernel, R = variables['params']['kernel'], variables['ranges']['kernel_range']
    assert np.array_equal(R, ranges.rule(rule)(kernel, output_axes=OUTPUT_AXES.get(kind, 1)))
    rounded = {'params': {**variables['params'], 'kernel': DSQ.quantizer.quantize(kernel, R)}}
    np.testing.assert_allclose(layer.apply(variables, inputs), plain(*arguments).apply(rounded, inputs), atol=1e-6)


@pytest.mark.parametrize('kind, fan_in', [('conv', 36), ('dense', 144), ('heads', 4), ('from heads', 24)])
def test_he_uniform_counts_the_input_axes(kind, fan_in):
    layer, _, arguments, inputs = LAYERS[kind]
    variables = layer(*arguments, estimator=DSQ).init(jax.random.key(1), inputs)
    assert variables['ranges']['kernel_range'] == np.float32(np.sqrt(6 / fan_in))


@pytest.mark.parametrize('kind', LAYERS)
def test_backward_multiplies_by_the_slope(kind):
    quantized, plain, arguments, inputs = LAYERS[kind]
    layer = quantized(*arguments, estimator=DSQ, range_rule=max_abs)
    variables = layer.init(jax.random.key(1), inputs)
    kernel, R = variables['params']['kernel'], variables['ranges']['kernel_range']

    def loss(kernel, apply, **more):
        params = {**variables['params'], 'kernel': kernel}
        return jnp.sum(jnp.sin(apply({'params': params, **more}, inputs)))

    found = jax.grad(loss)(kernel, layer.apply, ranges=variables['ranges'])
    incoming = jax.grad(loss)(DSQ.quantizer.quantize(kernel, R), plain(*arguments).apply)
    np.testing.assert_allclose(found, DSQ.at(kernel, R) * incoming, rtol=1e-4, atol=1e-5)


def test_the_range_does_not_follow_the_weights():
    layer = QuantDense(8, estimator=make('ste', 2), range_rule=max_abs)
    inputs = jnp.ones((1, 4))
    variables = layer.init(jax.random.key(0), inputs)
    grown = {**variables, 'params': jax.tree.map(lambda w: 3 * w, variables['params'])}
    R, quantizer = variables['ranges']['kernel_range'], UniformQuantizer(2)
    codes = quantizer.codes(3 * variables['params']['kernel'], R)
    np.testing.assert_allclose(layer.apply(grown, inputs)[0], quantizer.values(codes, R).sum(0), atol=1e-6)


@pytest.mark.parametrize('layer', [QuantDense, QuantDenseGeneral])
def test_without_its_range_a_layer_says_what_it_needs(layer):
    layer = layer(8, estimator=DSQ)
    variables = layer.init(jax.random.key(0), jnp.ones((1, 4)))
    with pytest.raises(ValueError, match="needs the collection 'ranges' that init returned: apply") as refusal:
        layer.apply({'params': variables['params']}, jnp.ones((1, 4)))
    assert '\n' not in str(refusal.value)


def test_the_progress_is_a_variable_of_the_layers_that_read_it():
    layer, inputs = QuantDense(8, estimator=make('ede', 2)), jnp.ones((1, 4))
    variables = layer.init(jax.random.key(0), inputs)
    assert variables['progress']['kernel_progress'] == 0 and 'progress' not in LAYERS['dense'][0](
        8, estimator=DSQ
    ).init(jax.random.key(0), inputs)

    def gradient(progress):
        rest = {**variables, 'progress': {'kernel_progress': jnp.float32(progress)}}
        return jax.grad(lambda params: layer.apply({**rest, 'params': params}, inputs).sum())(variables['params'])

    assert not np.allclose(gradient(0)['kernel'], gradient(1)['kernel'])
    with pytest.raises(ValueError, match="needs the collection 'progress'"):
        layer.apply({key: variables[key] for key in ('params', 'ranges')}, inputs)


def test_kernels_are_quantized_in_float32_under_bfloat16():
    layer = QuantDense(8, dtype=jnp.bfloat16, estimator=make('dsq', 8, k=10.0))
    inputs = jnp.eye(16)
    variables = layer.init(jax.random.key(0), inputs)
    kernel, R = variables['params']['kernel'], variables['ranges']['kernel_range']
    expected = UniformQuantizer(8).quantize(kernel, R).astype(jnp.bfloat16)
    outputs = layer.apply(variables, inputs)
    assert outputs.dtype == jnp.bfloat16 and kernel.dtype == jnp.float32
    assert (outputs == expected).all()


def test_in_a_flax_nnx_model():
    inputs = jax.random.normal(jax.random.key(0), (3, 4))
    linen = QuantDense(8, estimator=DSQ)
    layer = nnx.bridge.ToNNX(linen, rngs=nnx.Rngs(0)).lazy_init(inputs)
    kernel, R = layer.kernel.get_value(), layer.kernel_range.get_value()
    rounded = DSQ.quantizer.quantize(kernel, R)
    np.testing.assert_allclose(layer(inputs), inputs @ rounded, atol=1e-6)
    gradients = nnx.grad(lambda layer: layer(inputs).sum())(layer)
    expected = DSQ.at(kernel, R) * inputs.sum(axis=0)[:, None]
    np.testing.assert_allclose(gradients.kernel.get_value(), expected, rtol=1e-5, atol=1e-6)


def test_in_a_quantized_attention():
    """flax.linen builds its projections with nn.DenseGeneral: three of one input axis, one of two."""
    heads = functools.partial(QuantDenseGeneral, estimator=DSQ)
    variables = heads((2, 3)).init(jax.random.key(0), jnp.ones((1, 5, 6)))
    assert variables['params']['kernel'].shape == (6, 2, 3)
    assert variables['ranges']['kernel_range'] == np.float32(1)
    back = heads(6, (-2, -1)).init(jax.random.key(0), jnp.ones((1, 5, 2, 3)))
    assert back['params']['kernel'].shape == (2, 3, 6) and back['ranges']['kernel_range'] == np.float32(1)


def test_conv_kernels_start_within_their_he_uniform_range():
    conv = functools.partial(QuantConv, estimator=make('ste', 2))
    variables = ConvNet(conv).init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    for layer, fan_in in (('conv1', 9), ('conv2', 288)):
        kernel, R = variables['params'][layer]['kernel'], variables['ranges'][layer]['kernel_range']
        assert np.float32(np.sqrt(6 / fan_in)) == R
        assert 0.9 * R < np.abs(kernel).max() <= R * (1 + 1e-6)
    assert set(variables['ranges']) == {'conv1', 'conv2'}
