"""Flax layers whose kernels are quantized in the forward pass and trained through an estimator.

The range of every kernel is computed once, from the initial kernel, and stored in the collection
`ranges`, so that all twins share it. Kernels are quantized in float32 and only then cast to the
compute dtype.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from qat.estimators import Estimator, fake_quantize
from qat.quantizers import UniformQuantizer


class _QuantizedKernel(nn.Module):
    """A linen layer in which the parameter `kernel` is read through the rounding primitive.

    Attributes:
      quantizer: bits, and the rule that sets the range.
      estimator: the gradient estimator, made for as many bits.
    """

    quantizer: UniformQuantizer = dataclasses.field(kw_only=True)
    estimator: Estimator = dataclasses.field(kw_only=True)

    def param(self, name, init_fn, *args, **kwargs):
        value = super().param(name, init_fn, *args, **kwargs)
        if name != 'kernel':
            return value
        range = self.variable('ranges', name, self.quantizer.range_rule, value).value
        progress = jnp.float32(0)
        if self.estimator.needs('progress'):
            progress = self.variable('progress', name, jnp.zeros, ()).value
        return fake_quantize(self.quantizer, self.estimator, value, range, progress)


class QuantConv(_QuantizedKernel, nn.Conv):
    """`nn.Conv` with a quantized kernel. Its he_uniform initial kernel fills [-R, R] of that range."""

    kernel_init: nn.initializers.Initializer = nn.initializers.he_uniform()


class QuantDense(_QuantizedKernel, nn.Dense):
    """`nn.Dense` with a quantized kernel."""

    kernel_init: nn.initializers.Initializer = nn.initializers.he_uniform()
