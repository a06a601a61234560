"""Range policies: from the initial weights of a layer to its range [-R, R], which is then kept for the whole training.

A rule is any function from a float32 array of weights to an R that broadcasts against it: a scalar, or one value an
output channel. The last axes of a weight are its outputs, one by default, as in `nn.Dense` and `nn.Conv`; a weight of
`nn.DenseGeneral` may have several (`functools.partial(he_uniform, output_axes=2)`).
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from qat import calls
from qat.calls import Interval

RangeRule = Callable[[jax.Array], jax.Array]
BLOCK = 32  # weights that share a scale in microscaling formats


def he_uniform(weights: jax.Array, *, output_axes: int = 1) -> jax.Array:
    """R = sqrt(6 / fan_in), a scalar: He-uniform initial weights fill [-R, R] (He et al. 2015, arXiv 1502.01852).

    fan_in is the product of all axes but the last `output_axes`.
    """
    return jnp.float32(math.sqrt(6 / math.prod(weights.shape[: weights.ndim - output_axes])))


def max_abs(weights: jax.Array, *, output_axes: int = 1) -> jax.Array:
    """R = the largest absolute weight of the layer, a scalar, whatever its axes are."""
    return jnp.max(jnp.abs(weights)).astype(jnp.float32)


def channel_max_abs(weights: jax.Array, *, output_axes: int = 1) -> jax.Array:
    """R = the largest absolute weight of each output channel, with axes of size 1 for the inputs."""
    inputs = tuple(range(weights.ndim - output_axes))
    return jnp.max(jnp.abs(weights), axis=inputs, keepdims=True).astype(jnp.float32)


def mean_abs(weights: jax.Array, *, output_axes: int = 1) -> jax.Array:
    """R = the mean absolute weight of the layer, a scalar: the scale of ternary weights (BitNet b1.58, 2402.17764)."""
    return jnp.mean(jnp.abs(weights)).astype(jnp.float32)


def block_max_abs(weights: jax.Array, *, output_axes: int = 1, size: int = BLOCK) -> jax.Array:
    """R = the largest absolute weight of each block of so many consecutive inputs of an output, one value a weight.

    Blocks lie along the last axis of the inputs, as in microscaling formats (OCP MX, version 1.0, section 5.2); there R
    is rounded to a power of two besides.

    Raises:
      ValueError: the blocks do not divide that axis.
    """
    axis = weights.ndim - output_axes - 1
    if axis < 0 or weights.shape[axis] % size:
        raise ValueError(f'block_max_abs(size={size}): a weight of shape {weights.shape} is not made of such blocks')
    blocks = jnp.abs(weights).reshape(*weights.shape[:axis], -1, size, *weights.shape[axis + 1 :])
    largest = jnp.max(blocks, axis=axis + 1, keepdims=True)
    return jnp.broadcast_to(largest, blocks.shape).reshape(weights.shape).astype(jnp.float32)


_RULES = (he_uniform, max_abs, channel_max_abs, mean_abs, block_max_abs)
RANGE_RULES: dict[str, RangeRule] = {rule.__name__: rule for rule in _RULES}
_SIZE = {'size': Interval(1, 2**20, low_included=True, whole=True)}


def rule(text: str) -> RangeRule:
    """The rule of a call: 'max_abs', 'block_max_abs(size=16)'.

    Raises:
      ValueError: there is no such rule, or it does not take the arguments.
    """
    name, given = calls.parse(text)
    if name not in RANGE_RULES:
        raise ValueError(calls.unknown('range', name, RANGE_RULES))
    arguments = calls.bind(f'range {name!r}', RANGE_RULES[name], given, _SIZE, ('output_axes',))
    return functools.partial(RANGE_RULES[name], **arguments) if given else RANGE_RULES[name]
