"""Flax layers whose kernels are quantized in the forward pass and trained through an estimator.

For models of your own that are to be quantized without a lockstep; `qat.Lockstep` needs none of them. The range of
every kernel is computed once, from the initial kernel, and stored in the collection `ranges` as `kernel_range`. Kernels
are quantized in float32 and only then cast to the compute dtype.
"""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from qat.convolution import conv_general_dilated
from qat.estimators import Estimator, fake_quantize
from qat.ranges import RangeRule, he_uniform


class Conv(nn.Conv):
    """`nn.Conv` as a CPU computes it fast. Its he_uniform initial kernel fills [-R, R] of the range of that name."""

    kernel_init: nn.initializers.Initializer = nn.initializers.he_uniform()
    conv_general_dilated_cls: Callable[[], Callable] = lambda: conv_general_dilated


class _QuantizedKernel(nn.Module):
    """A linen layer in which the parameter `kernel` is read through the rounding primitive.

    Attributes:
      estimator: the gradient estimator, which knows its quantizer.
      range_rule: the initial kernel -> its range R.
    """

    estimator: Estimator = dataclasses.field(kw_only=True)
    range_rule: RangeRule = dataclasses.field(default=he_uniform, kw_only=True)

    def param(self, name, init_fn, *args, **kwargs):
        value = super().param(name, init_fn, *args, **kwargs)
        if name != 'kernel':
            return value
        progress = jnp.float32(0)
        if self.estimator.needs('progress'):
            progress = self._variable('progress', 'kernel_progress', jnp.zeros, ())
        R = self._variable('ranges', 'kernel_range', self._range_of, value)
        return fake_quantize(self.estimator, value, R, progress)

    def _variable(self, collection: str, name: str, init_fn, *args):
        if not self.has_variable(collection, name) and not self.is_mutable_collection(collection):
            raise ValueError(
                f'{type(self).__name__} {self.name!r} needs the collection {collection!r} that init returned: '
                f"apply({{'params': params, '{collection}': variables['{collection}']}}, ...)"
            )
        return self.variable(collection, name, init_fn, *args).value

    def _range_of(self, kernel):
        return self.range_rule(kernel)


class QuantConv(_QuantizedKernel, Conv):
    """`Conv` with a quantized kernel."""


class QuantDense(_QuantizedKernel, nn.Dense):
    """`nn.Dense` with a quantized kernel."""

    kernel_init: nn.initializers.Initializer = nn.initializers.he_uniform()


class QuantDenseGeneral(_QuantizedKernel, nn.DenseGeneral):
    """`nn.DenseGeneral` with a quantized kernel, as the projections of an attention have it."""

    kernel_init: nn.initializers.Initializer = nn.initializers.he_uniform()

    def _range_of(self, kernel):
        features = self.features if isinstance(self.features, tuple | list) else (self.features,)
        return functools.partial(self.range_rule, output_axes=len(features))(kernel)
