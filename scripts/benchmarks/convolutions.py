"""The rule of `qat.convolution`, shape by shape: a convolution with both its gradients, against XLA's own.

Where the rule leaves a convolution to XLA, the product of patches that it did not choose is measured.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from qat.convolution import by_patches, conv_general_dilated
from scripts.measuring.session import Session

SHAPES = {  # what, images, kernel, stride, padding on every side; of ResNet-50 where nothing else is said
    'one-pixel': ('a kernel of one pixel', (16, 16, 16, 64), (1, 1, 64, 256), 1, 0),
    'small-image': ('an image smaller than the kernel', (16, 2, 2, 512), (3, 3, 512, 512), 1, 1),
    'large-batch': ('large images, summed in parts: conv2 of the ConvNet', (128, 14, 14, 32), (3, 3, 32, 64), 1, 1),
    'few-channels': ('large images, summed in parts: 16 channels', (128, 32, 32, 16), (3, 3, 16, 16), 1, 1),
}
LEFT_TO_XLA = {
    'middle': ('8x8 images', (16, 8, 8, 128), (3, 3, 128, 128), 1, 1),
    'digits': ('conv2 of digits', (100, 4, 4, 32), (3, 3, 32, 64), 1, 1),
}


def compare(name: str, shape: tuple, ours: Callable, session: Session) -> None:
    """A convolution, its output and both gradients, in a form of ours and in XLA's."""
    what, images, kernel, stride, padding = shape
    if session.tiny:
        images = (2, *images[1:])
    last = (0, 3, 1, 2)
    given = {'window_strides': (stride, stride), 'padding': ((padding, padding), (padding, padding))}
    given['dimension_numbers'] = lax.ConvDimensionNumbers(last, (3, 2, 0, 1), last)
    random = np.random.default_rng(0)
    arrays = [jnp.asarray(random.standard_normal(shape, np.float32)) for shape in (images, kernel)]
    measured, baseline = (
        functools.partial(_repeat, _with_gradients(functools.partial(form, **given)), arrays, session.steps)
        for form in (ours, lax.conv_general_dilated)
    )
    session.compare(f'convolutions-{name}', f'{what}: images {images}, kernel {kernel}', measured, baseline)


def _with_gradients(convolution: Callable) -> Callable:
    def both(images, kernel):
        output, pull = jax.vjp(convolution, images, kernel)
        return output, pull(output)

    return jax.jit(both)


def _repeat(program: Callable, arrays: list[jax.Array], times: int) -> None:
    for _ in range(times):
        results = program(*arrays)
    jax.block_until_ready(results)


def _patches(images, kernel, window_strides, padding, dimension_numbers) -> jax.Array:
    del dimension_numbers  # those that it has
    return by_patches(images, kernel, window_strides, padding)


BENCHMARKS = {
    f'convolutions-{name}': functools.partial(compare, name, (f'{form} / XLA, {what}', *shape), ours)
    for form, ours, shapes in (('chosen', conv_general_dilated, SHAPES), ('by patches', _patches, LEFT_TO_XLA))
    for name, (what, *shape) in shapes.items()
}
