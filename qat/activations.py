"""Activation quantization: the inputs of the layers whose kernels are quantized, rounded too.

The model does not know: an interceptor of Flax rounds what `nn.Dense`, `nn.DenseGeneral` and the convolutions of
flax.linen are called with, where their kernel is among those it is given. Every scale is R = max |x|, computed anew at
each call and taken for a constant (BitNet b1.58, arXiv 2402.17764): x -> round(x Q / R) R / Q, Q = 2^(b-1) - 1 under
`qat.quantizers.MidTreadQuantizer`. So nothing is ever clipped, and the derivative is the estimator's slope alone.

- Dense: one scale a token, that is over the axes that the kernel contracts (the last one, if nothing else is said).
- Convolution: one scale an example, over positions and channels, since a kernel mixes positions.
"""

import contextlib
from collections.abc import Collection, Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp

from qat.estimators import Estimator, fake_quantize

_SMALLEST_SCALE = 1e-30  # below it, and where all is 0, activations become 0; Q / R stays finite


def rounded(
    estimator: Estimator, inputs: jax.Array, axes: int | tuple[int, ...], progress: jax.Array | float = 0.0
) -> jax.Array:
    """Activations rounded in float32, with the estimator's slope as derivative.

    Args:
      estimator: its quantizer has 0 as a value, see `check_has_zero`.
      inputs: any shape and type of number.
      axes: those that share one scale.
      progress: scalar in [0, 1], read by slopes that change with time.

    Returns:
      What `inputs` become, of their shape and, where that is one of floats, of their dtype; otherwise float32.
    """
    dtype = inputs.dtype if jnp.issubdtype(inputs.dtype, jnp.floating) else jnp.float32
    exact = jnp.asarray(inputs, jnp.float32)
    R = jnp.max(jnp.abs(jax.lax.stop_gradient(exact)), axis=axes, keepdims=True)
    return fake_quantize(estimator, exact, jnp.maximum(R, _SMALLEST_SCALE), jnp.float32(progress)).astype(dtype)


@contextlib.contextmanager
def inputs_rounded(
    estimator: Estimator | None, kernels: Collection[str], progress: jax.Array | float = 0.0
) -> Iterator[set[str]]:
    """Inside, Flax layers with these kernels read their inputs rounded; what is compiled already stays as it is.

    Args:
      estimator: None: nothing is rounded.
      kernels: paths in the parameters, such as 'block1/attention/query/kernel'.
      progress: as in `rounded`.

    Yields:
      The kernels whose layers have been called so far.
    """
    seen, running = set(), set()
    if estimator is None:
        yield seen
        return

    def interceptor(call, arguments, options, context):
        axes = _axes_of_a_scale(context.module) if context.method_name == '__call__' else None
        kernel = '/'.join((*context.module.path, 'kernel')) if axes is not None else None
        if kernel not in kernels or kernel in running:  # a method under `nn.remat`, say, runs the layer's own
            return call(*arguments, **options)
        seen.add(kernel)
        running.add(kernel)
        try:
            inputs, *others = arguments or [options.pop('inputs')]
            return call(rounded(estimator, inputs, axes, progress), *others, **options)
        finally:
            running.remove(kernel)

    with nn.intercept_methods(interceptor):
        yield seen


@contextlib.contextmanager
def all_inputs_rounded(
    estimator: Estimator | None, kernels: Collection[str], progress: jax.Array | float = 0.0
) -> Iterator[None]:
    """As `inputs_rounded`, and every one of the layers must be called inside.

    Raises:
      ValueError: naming a kernel whose layer was not.
    """
    with inputs_rounded(estimator, kernels, progress) as seen:
        yield
    missing = [kernel for kernel in kernels if kernel not in seen] if estimator is not None else []
    if missing:
        raise ValueError(
            f'the input of {missing[0]!r} would not be rounded: it is no kernel of a flax.linen Dense, DenseGeneral or '
            'Conv that the model calls by this path (or a jax.jit of your own hides it); quantize other weights, or no '
            'activations'
        )


def check_has_zero(estimator: Estimator | None) -> None:
    """Refuses what would round activations that are 0, as behind a ReLU or in padding, to something else.

    Raises:
      ValueError: with what to do.
    """
    if estimator is None:
        return
    if not isinstance(estimator, Estimator):
        raise ValueError(f"activations must be an estimator, as qat.estimator('ste', 'int8'), not {estimator!r}")
    if estimator.quantizer.quantize(jnp.float32(0), jnp.float32(1)) != 0:
        name = estimator.quantizer.name
        raise ValueError(f"activations need a quantizer that has 0 as a value, as 'int8' has, and {name} does not")


def in_words(estimator: Estimator | None) -> str:
    """What a sentence on a run says of its activations, as in ' with activations of int8 (ste)'; '' if nothing."""
    return f' with activations of {estimator.quantizer.name} ({estimator})' if estimator else ''


def _axes_of_a_scale(module: nn.Module) -> int | tuple[int, ...] | None:
    """The axes of a layer's input that share one scale; None where it is neither dense nor a convolution."""
    match module:
        case nn.Dense():
            return -1
        case nn.DenseGeneral():
            return module.axis if isinstance(module.axis, int) else tuple(module.axis)
        case nn.Conv() | nn.ConvLocal() | nn.ConvTranspose():
            sides = 1 if isinstance(module.kernel_size, int) else len(module.kernel_size)
            return tuple(range(-1 - sides, 0))
    return None
