"""The kernel gradient of the ConvNet's convolutions as patches and a matrix product, against XLA's convolution.

Not adopted: nobody has measured it on an accelerator, and its sums are in another order, so that every committed number
would change in its last digits. What it would give is reported here.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from scripts.benchmarks.programs import Program
from scripts.benchmarks.rows import Benchmark, Effort, Row, ratios
from scripts.benchmarks.workloads import CONVNET

_LAYERS = {'conv1': (28, 1, 32), 'conv2': (14, 32, 64)}  # pixels a side, channels in and out
_SIZE = 3  # of the kernels, with SAME padding


def by_xla(inputs: jax.Array, gradient: jax.Array) -> jax.Array:
    """As differentiation does it: a convolution of inputs and gradient."""
    channels = inputs.shape[-1], gradient.shape[-1]
    numbers = ('NHWC', 'HWIO', 'NHWC')

    def conv(kernel):
        return jax.lax.conv_general_dilated(inputs, kernel, (1, 1), 'SAME', dimension_numbers=numbers)

    (found,) = jax.linear_transpose(conv, jax.ShapeDtypeStruct((_SIZE, _SIZE, *channels), inputs.dtype))(gradient)
    return found


def by_patches(inputs: jax.Array, gradient: jax.Array) -> jax.Array:
    """The same from nine shifted copies of the inputs, side by side: one matrix product over images and pixels."""
    _, height, width, channels = inputs.shape
    around = _SIZE // 2
    padded = jnp.pad(inputs, ((0, 0), (around, around), (around, around), (0, 0)))
    shifted = [padded[:, y : y + height, x : x + width] for y in range(_SIZE) for x in range(_SIZE)]
    patches = jnp.concatenate(shifted, axis=-1).reshape(-1, _SIZE**2 * channels)
    product = jnp.tensordot(patches, gradient.reshape(len(patches), -1), axes=(0, 0))
    return product.reshape(_SIZE, _SIZE, channels, -1)


def rows(effort: Effort) -> Iterator[Row]:
    """A row a layer, and how far the two results lie apart."""
    for layer, (side, channels, features) in _LAYERS.items():
        generator = np.random.default_rng(0)
        shape = CONVNET.batch_size, side, side
        arguments = [jnp.asarray(generator.normal(size=(*shape, n)), jnp.float32) for n in (channels, features)]
        found = [jax.jit(function)(*arguments) for function in (by_patches, by_xla)]
        apart = float(jnp.max(jnp.abs(found[0] - found[1])) / jnp.max(jnp.abs(found[1])))
        programs = [_program(function, arguments, effort.steps) for function in (by_patches, by_xla)]
        what = f'kernel gradient of {layer} by patches / by XLA, {CONVNET.what}'
        yield Row(
            f'patches-{layer}', what, ratios(*programs, effort.rounds), None, {'largest_relative_difference': apart}
        )


def _program(function, arguments: list[jax.Array], times: int) -> Program:
    compiled = jax.jit(function)
    return lambda: jax.block_until_ready([compiled(*arguments) for _ in range(times)])


BENCHMARKS = (Benchmark('patches', rows),)
