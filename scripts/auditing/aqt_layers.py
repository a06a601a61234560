"""Dense and convolutional layers of flax.linen, quantized by AQT (github.com/google/aqt, aqtp on PyPI), weights only."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from aqt.jax.v2 import aqt_conv_general, config
from aqt.jax.v2.flax import aqt_flax


def dense(w: jax.Array, bits: int = 4) -> jax.Array:
    """The weights (n,) as the kernel (n, 1) of nn.Dense, one output channel with one scale -> (n,) rounded."""
    return quantized_dense(1, bits, use_bias=False)({'kernel': w[:, None]}, jnp.eye(w.size))[:, 0]


def conv(w: jax.Array, bits: int = 4) -> jax.Array:
    """The weights (n,) as the kernel (1, n, 1) of nn.Conv, one output channel with one scale -> (n,) rounded."""
    layer = quantized_conv(1, (1,), bits, use_bias=False)
    return layer({'kernel': w[None, :, None]}, jnp.eye(w.size)[:, None, :])[:, 0, 0]


def quantized_dense(features: int, bits: int, use_fwd_quant: bool = False, **fields):
    """(params, inputs) -> outputs of nn.Dense with the weights at `bits`."""
    rule = config.config_v4(fwd_bits=bits, dlhs_bits=None, drhs_bits=None)
    config.set_bits(rule, None, bits, None, None, None, None)
    if use_fwd_quant:
        config.set_use_fwd_quant(rule, dlhs_use_fwd_quant=True, drhs_use_fwd_quant=True)
    layer = nn.Dense(features, dot_general_cls=functools.partial(aqt_flax.AqtDotGeneral, rule), **fields)
    key = jax.random.key(0)  # which AQT asks for, and uses only where rounding is stochastic
    return lambda params, x: layer.apply({'params': params}, x, rngs={'params': key})


def quantized_conv(features: int, window: tuple[int, ...], bits: int, **fields):
    """(params, inputs) -> outputs of nn.Conv with the weights at `bits`."""
    rule = config.conv_general_dilated_make(len(window), lhs_bits=None, rhs_bits=bits)
    function = aqt_conv_general.make_conv_general_dilated(rule)
    layer = nn.Conv(features, window, conv_general_dilated=function, **fields)
    return lambda params, x: layer.apply({'params': params}, x)
