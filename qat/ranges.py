"""Range policies: from the initial weights of a layer to its range [-R, R], which is then kept for the whole training.

A rule is any function from a float32 array of weights to an R that broadcasts against it: a scalar, or one value an
output channel. The last axes of a weight are its outputs, one by default, as in `nn.Dense` and `nn.Conv`; a weight of
`nn.DenseGeneral` may have several (`functools.partial(he_uniform, output_axes=2)`).
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

RangeRule = Callable[[jax.Array], jax.Array]


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


RANGE_RULES: dict[str, RangeRule] = {rule.__name__: rule for rule in (he_uniform, max_abs, channel_max_abs)}
