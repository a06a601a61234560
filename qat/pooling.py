"""Average pooling in the form that a CPU computes fast; on any other backend it is Flax's."""

import functools
import itertools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


def avg_pool(images: jax.Array, window_shape: Sequence[int], strides: Sequence[int]) -> jax.Array:
    """The means of windows: `flax.linen.avg_pool` without padding.

    On a CPU, windows that lie side by side are read as strided slices, and the gradient is spread over them: XLA's
    `reduce_window` and its gradient take twice as long. Such a pooling can be differentiated in reverse mode only.

    Args:
      images: (batch, *sides, channels).
      window_shape, strides: one a side.

    Returns:
      (batch, *sides of the output, channels).
    """
    if jax.default_backend() != 'cpu' or tuple(window_shape) != tuple(strides):
        return nn.avg_pool(images, tuple(window_shape), tuple(strides))
    return _side_by_side(tuple(window_shape), images.shape, images)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _side_by_side(window: tuple[int, ...], shape: tuple[int, ...], images: jax.Array) -> jax.Array:
    """The mean over the pixels of every window; what is left over at the end of a side is in none."""
    whole = [side // width * width for side, width in zip(shape[1:], window)]
    pixels = (
        lax.slice(images, (0, *offset, 0), (shape[0], *whole, shape[-1]), (1, *window, 1))
        for offset in itertools.product(*map(range, window))
    )
    return sum(pixels) / math.prod(window)


def _forward(window: tuple, shape: tuple, images: jax.Array) -> tuple[jax.Array, None]:
    return _side_by_side(window, shape, images), None


def _backward(window: tuple, shape: tuple, _: None, gradient: jax.Array) -> tuple[jax.Array]:
    share = gradient / math.prod(window)
    for axis, width in enumerate(window, start=1):
        share = jnp.repeat(share, width, axis)
    left_over = [(0, side - covered) for side, covered in zip(shape, share.shape)]
    return (jnp.pad(share, left_over),)


_side_by_side.defvjp(_forward, _backward)
