"""Convolutions in the form that a CPU computes fast; on any other backend they are `lax.conv_general_dilated`.

XLA's own convolution is good on a CPU but for three cases, which docs/performance.md measures:

- a kernel of one pixel: a product of matrices is twice as fast;
- an image with fewer pixels a side than the kernel: XLA falls back to a plain loop, a hundred times slower than the
  product of the image's patches with the kernel;
- the kernel's gradient of many large images: what it sums over does not fit into a core's cache. Summed over parts of
  the batch that do, it is twice as fast.

Which one is used is decided by shapes when the program is built, and every way gives the same numbers to rounding.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

_CACHE_BYTES = 2**21  # of a core: images and gradients of one part of a batch


def conv_general_dilated(
    images: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **options,
) -> jax.Array:
    """`lax.conv_general_dilated`, with its arguments; for `conv_general_dilated_cls` of `flax.linen.Conv`.

    On a CPU, large batches can be differentiated in reverse mode only.

    Args:
      images: (batch, *sides, channels) where `dimension_numbers` say so, as Flax's do; else left to XLA as they are.
      kernel: (*sides, channels, features).
      window_strides: one a side.
      padding: 'SAME', 'VALID', or (before, after) of every side.
      **options: the others of `lax.conv_general_dilated`.
    """
    convolution = functools.partial(lax.conv_general_dilated, window_strides=window_strides, padding=padding, **options)
    if jax.default_backend() != 'cpu' or not _has_plain_batches(images.ndim, options):
        return convolution(images, kernel)
    sides, outputs = kernel.shape[:-2], jax.eval_shape(convolution, images, kernel)
    one_pixel = math.prod(sides) == 1
    small = any(min(pair) < side for *pair, side in zip(images.shape[1:-1], outputs.shape[1:-1], sides))
    if (one_pixel or small) and _has_plain_windows(options):
        return by_patches(images, kernel, window_strides, padding)
    parts = -(-(images.nbytes + outputs.size * outputs.dtype.itemsize) // _CACHE_BYTES)
    return _in_parts(convolution, min(parts, len(images)), images, kernel) if parts > 1 else convolution(images, kernel)


def by_patches(
    images: jax.Array, kernel: jax.Array, strides: Sequence[int], padding: str | Sequence[tuple[int, int]]
) -> jax.Array:
    """The convolution as one product: every output's window, a row of all that the kernel covers, by the kernel.

    Args:
      images: (batch, *sides, channels).
      kernel: (*sides, channels, features).
      strides: one a side.
      padding: 'SAME', 'VALID', or (before, after) of every side.

    Returns:
      (batch, *sides of the output, features).
    """
    *window, channels, features = kernel.shape
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(images.shape[1:-1], window, strides, padding)
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    sides = [(side - width) // step + 1 for side, width, step in zip(padded.shape[1:-1], window, strides)]
    reach = [(side - 1) * step + 1 for side, step in zip(sides, strides)]  # from the first window to the last
    pixels = [
        lax.slice(
            padded,
            (0, *offset, 0),
            (len(images), *(start + length for start, length in zip(offset, reach)), channels),
            (1, *strides, 1),
        )
        for offset in itertools.product(*map(range, window))
    ]
    # Of two axes: with more, XLA would transpose for the kernel's gradient.
    rows = lax.concatenate(pixels, images.ndim - 1).reshape(-1, math.prod(window) * channels)
    return (rows @ kernel.reshape(-1, features)).reshape(len(images), *sides, features)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _in_parts(convolution: Callable, parts: int, images: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution, whose gradient with respect to the kernel is the sum of those of so many parts of the batch."""
    return convolution(images, kernel)


def _forward(convolution: Callable, parts: int, images: jax.Array, kernel: jax.Array) -> tuple:
    return convolution(images, kernel), (images, kernel)


def _backward(convolution: Callable, parts: int, saved: tuple, gradient: jax.Array) -> tuple:
    images, kernel = saved
    of_images = jax.linear_transpose(lambda images: convolution(images, kernel), images)
    of_kernel = [
        jax.linear_transpose(functools.partial(convolution, some), kernel)(cotangent)[0]
        for some, cotangent in zip(jnp.array_split(images, parts), jnp.array_split(gradient, parts))
    ]
    return *of_images(gradient), sum(part.astype(jnp.float32) for part in of_kernel).astype(kernel.dtype)


_in_parts.defvjp(_forward, _backward)


def _has_plain_batches(axes: int, options: dict) -> bool:
    """Whether images and outputs are (batch, *sides, channels), kernels (*sides, channels, features)."""
    last = (0, axes - 1, *range(1, axes - 1))
    numbers = options.get('dimension_numbers')
    plain = lax.ConvDimensionNumbers(last, (axes - 1, axes - 2, *range(axes - 2)), last)
    return numbers == plain and options.get('batch_group_count', 1) == 1


def _has_plain_windows(options: dict) -> bool:
    """Whether windows have no gaps, every output sees all channels, and nothing is asked of the product."""
    dilations = (*(options.get('lhs_dilation') or ()), *(options.get('rhs_dilation') or ()))
    asked = options.get('precision'), options.get('preferred_element_type')
    return set(dilations) <= {1} and options.get('feature_group_count', 1) == 1 and asked == (None, None)
