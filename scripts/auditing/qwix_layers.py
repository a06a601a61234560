"""Dense and convolutional layers of flax.linen, quantized by qwix (github.com/google/qwix), weights only.

A layer that is given the identity matrix returns its rounded kernel: so its fake-quantizer can be audited.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import qwix

PROVIDERS = {'qt': qwix.QtProvider, 'odml': qwix.OdmlQatProvider}
RULES = {'qt': qwix.QtRule, 'odml': qwix.QuantizationRule}


def dense(w: jax.Array, provider: str = 'qt', qtype: str = 'int4', calibration: str = 'absmax') -> jax.Array:
    """The weights (n,) as the kernel (n, 1) of nn.Dense, one output channel with one scale -> (n,) rounded."""
    layer = quantized(nn.Dense(1, use_bias=False), provider, qtype, calibration)
    return layer({'kernel': w[:, None]}, jnp.eye(w.size))[:, 0]


def conv(w: jax.Array, provider: str = 'qt', qtype: str = 'int4', calibration: str = 'absmax') -> jax.Array:
    """The weights (n,) as the kernel (1, n, 1) of nn.Conv, one output channel with one scale -> (n,) rounded."""
    layer = quantized(nn.Conv(1, (1,), use_bias=False), provider, qtype, calibration)
    return layer({'kernel': w[None, :, None]}, jnp.eye(w.size)[:, None, :])[:, 0, 0]


def quantized(layer: nn.Module, provider: str, qtype: str, calibration: str = 'absmax', **rule):
    """(params, inputs) -> outputs of a linen layer that qwix quantizes."""
    rule = RULES[provider](weight_qtype=qtype, weight_calibration_method=calibration, **rule)
    model = qwix.quantize_model(layer, PROVIDERS[provider]([rule]))
    return lambda params, x: model.apply({'params': params}, x)


def rounded(kernel: jax.Array, qtype: str) -> jax.Array:
    """A kernel (..., features) rounded by qwix's own functions, with one scale for each of the features."""
    return qwix.dequantize(qwix.quantize(kernel, qtype, channelwise_axes=[kernel.ndim - 1]))
