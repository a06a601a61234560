"""Convolutions as patches and a matrix product, against XLA's: where the CPU backend computes them poorly.

Not adopted: nobody has measured it on an accelerator, and its sums are in another order, so that every committed number
would change in its last digits. What it would give is reported here.
"""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from scripts.benchmarks.programs import Program
from scripts.benchmarks.rows import Benchmark, Effort, Row, ratios
from scripts.benchmarks.workloads import CONVNET, RESNET, Workload

_SIZE = 3  # of the kernels, with SAME padding


def convolution(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """As the models do it."""
    return jax.lax.conv_general_dilated(inputs, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def convolution_by_patches(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same as one matrix product."""
    product = _patches(inputs) @ kernel.reshape(-1, kernel.shape[-1])
    return product.reshape(*inputs.shape[:-1], -1)


def gradient(inputs: jax.Array, cotangent: jax.Array) -> jax.Array:
    """A kernel's, as differentiation does it: a convolution of inputs and cotangent."""
    kernel = jax.ShapeDtypeStruct((_SIZE, _SIZE, inputs.shape[-1], cotangent.shape[-1]), inputs.dtype)
    (found,) = jax.linear_transpose(lambda kernel: convolution(inputs, kernel), kernel)(cotangent)
    return found


def gradient_by_patches(inputs: jax.Array, cotangent: jax.Array) -> jax.Array:
    """The same as one matrix product over images and pixels."""
    product = _patches(inputs).T @ cotangent.reshape(-1, cotangent.shape[-1])
    return product.reshape(_SIZE, _SIZE, inputs.shape[-1], -1)


def _patches(inputs: jax.Array) -> jax.Array:
    """(images, height, width, channels) -> (images * height * width, 9 * channels): what the kernel sees of each."""
    _, height, width, channels = inputs.shape
    around = _SIZE // 2
    padded = jnp.pad(inputs, ((0, 0), (around, around), (around, around), (0, 0)))
    shifted = [padded[:, y : y + height, x : x + width] for y in range(_SIZE) for x in range(_SIZE)]
    return jnp.concatenate(shifted, axis=-1).reshape(-1, _SIZE**2 * channels)


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution of a workload's model, and what is computed of it.

    Attributes:
      name, what: of its row.
      workload: whose layer it is.
      shapes: of the two arrays that are computed with.
      by_patches, by_xla: two ways to compute it.
    """

    name: str
    what: str
    workload: Workload
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    by_patches: Callable[[jax.Array, jax.Array], jax.Array]
    by_xla: Callable[[jax.Array, jax.Array], jax.Array]


def rows(effort: Effort) -> Iterator[Row]:
    """A row a layer, and how far the two results lie apart."""
    for layer in LAYERS:
        generator = np.random.default_rng(0)
        arguments = [jnp.asarray(generator.normal(size=shape), jnp.float32) for shape in layer.shapes]
        functions = [jax.jit(layer.by_patches), jax.jit(layer.by_xla)]
        found = [function(*arguments) for function in functions]
        apart = float(jnp.max(jnp.abs(found[0] - found[1])) / jnp.max(jnp.abs(found[1])))
        samples = ratios(*(_program(function, arguments, effort.steps) for function in functions), effort.rounds)
        what = f'{layer.what} by patches / by XLA, {layer.workload.what}'
        yield Row(layer.name, what, samples, None, {'largest_relative_difference': apart})


def _program(compiled: Callable, arguments: list[jax.Array], times: int) -> Program:
    return lambda: jax.block_until_ready([compiled(*arguments) for _ in range(times)])


def _kernel_gradient(name: str, side: int, channels: int, features: int) -> Layer:
    """Of a convolution of the ConvNet, from pixels a side, channels in and channels out."""
    shapes = tuple((CONVNET.batch_size, side, side, each) for each in (channels, features))
    what = f'kernel gradient of {name}'
    return Layer(f'patches-{name}', what, CONVNET, shapes, gradient_by_patches, gradient)


LAYERS = (
    _kernel_gradient('conv1', 28, 1, 32),
    _kernel_gradient('conv2', 14, 32, 64),
    Layer(
        'patches-stage4',
        'convolution of stage 4, 3x3 over images of 2x2,',
        RESNET,
        ((RESNET.batch_size, 2, 2, 512), (_SIZE, _SIZE, 512, 512)),
        convolution_by_patches,
        convolution,
    ),
)
BENCHMARKS = (Benchmark('patches', rows),)
