"""Quantized layers equal the plain ones on quantized kernels, and keep the range of their first kernel."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat.estimators import make
from qat.layers import QuantConv, QuantDense
from qat.models.convnet import ConvNet
from qat.quantizers import RANGE_RULES, UniformQuantizer

IMAGES = jax.random.normal(jax.random.key(0), (2, 6, 6, 4))
LAYERS = {
    'conv': (QuantConv, nn.Conv, (8, (3, 3)), IMAGES),
    'dense': (QuantDense, nn.Dense, (8,), IMAGES.reshape(2, -1)),
}


@pytest.mark.parametrize('rule', RANGE_RULES)
@pytest.mark.parametrize('kind', LAYERS)
def test_forward_is_the_plain_layer_on_the_quantized_kernel(kind, rule):
    quantized, plain, arguments, inputs = LAYERS[kind]
    quantizer = UniformQuantizer(2, RANGE_RULES[rule])
    layer = quantized(*arguments, quantizer=quantizer, estimator=make('dsq', 2))
    variables = layer.init(jax.random.key(1), inputs)
    kernel, range_ = variables['params']['kernel'], variables['ranges']['kernel']
    assert (range_ == RANGE_RULES[rule](kernel)).all()
    rounded = {'params': {**variables['params'], 'kernel': quantizer.quantize(kernel, range_)}}
    np.testing.assert_allclose(layer.apply(variables, inputs), plain(*arguments).apply(rounded, inputs), atol=1e-6)


def test_the_range_does_not_follow_the_weights():
    layer = QuantDense(8, quantizer=UniformQuantizer(2, RANGE_RULES['max_abs']), estimator=make('ste', 2))
    inputs = jnp.ones((1, 4))
    variables = layer.init(jax.random.key(0), inputs)
    grown = {**variables, 'params': jax.tree.map(lambda w: 3 * w, variables['params'])}
    outputs = layer.apply(grown, inputs)
    codes = layer.quantizer.codes(3 * variables['params']['kernel'], variables['ranges']['kernel'])
    np.testing.assert_allclose(
        outputs[0], layer.quantizer.values(codes, variables['ranges']['kernel']).sum(0), atol=1e-6
    )


def test_kernels_are_quantized_in_float32_under_bfloat16():
    quantizer = UniformQuantizer(8)
    layer = QuantDense(8, dtype=jnp.bfloat16, quantizer=quantizer, estimator=make('dsq', 8, k=10.0))
    inputs = jnp.eye(16)
    variables = layer.init(jax.random.key(0), inputs)
    expected = quantizer.quantize(variables['params']['kernel'], variables['ranges']['kernel']).astype(jnp.bfloat16)
    outputs = layer.apply(variables, inputs)
    assert outputs.dtype == jnp.bfloat16 and variables['params']['kernel'].dtype == jnp.float32
    assert (outputs == expected).all()


def test_estimator_and_quantizer_must_agree_on_the_bits():
    layer = QuantDense(8, quantizer=UniformQuantizer(2), estimator=make('dsq', 4))
    with pytest.raises(ValueError, match='4 bits'):
        layer.init(jax.random.key(0), jnp.ones((1, 4)))


@pytest.mark.parametrize('shape, dense', [((28, 28, 1), 7 * 7 * 64), ((8, 8, 1), 2 * 2 * 64)])
def test_the_paper_s_convnet(shape, dense):
    variables = ConvNet(nn.Conv).init(jax.random.key(0), jnp.zeros((1, *shape)))
    shapes = jax.tree.map(jnp.shape, variables['params'])
    assert shapes['conv1']['kernel'] == (3, 3, 1, 32) and shapes['conv2']['kernel'] == (3, 3, 32, 64)
    assert shapes['Dense_0']['kernel'] == (dense, 256) and shapes['Dense_1']['kernel'] == (256, 10)
    assert all((leaf == 0).all() for layer in variables['params'].values() for leaf in [layer['bias']])


def test_conv_kernels_start_within_their_he_uniform_range():
    def conv(*args, **kwargs):
        return QuantConv(*args, quantizer=UniformQuantizer(2), estimator=make('ste', 2), **kwargs)

    variables = ConvNet(conv).init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    for layer, fan_in in (('conv1', 9), ('conv2', 288)):
        kernel, range_ = variables['params'][layer]['kernel'], variables['ranges'][layer]['kernel']
        assert range_ == np.float32(np.sqrt(6 / fan_in))
        assert 0.9 * range_ < np.abs(kernel).max() <= range_ * (1 + 1e-6)
    assert set(variables['ranges']) == {'conv1', 'conv2'}
