"""Gradient estimators: a slope bound to its parameters, and the rounding primitive that uses it.

Forward, a weight becomes its quantized value; backward, dL/dw = s(w) dL/dq (arXiv 2405.05171,
section 2). The catalogue of slopes is in `qat.slopes`; any function of its form will do.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from qat import calls
from qat.quantizers import UniformQuantizer
from qat.slopes import CATALOGUE, Entry

CONTEXT = ('bits', 'gradient', 'progress')  # what a slope may ask for besides its own parameters


@dataclasses.dataclass(frozen=True)
class Estimator:
    """A slope with every parameter fixed. Make one with `make` or `from_slope`; it is hashable.

    Attributes:
      name: what the user calls it; `str(estimator)` adds the parameters: `dsq(k=6.5)`.
      bits: of the quantizer it serves.
      slope: the function of `r`, see `qat.slopes`.
      parameters: (name, value) of every parameter.
      outside: maps |w|/R > 1 to the slope there.
    """

    name: str
    bits: int
    slope: Callable
    parameters: tuple[tuple[str, object], ...]
    outside: Callable = jnp.zeros_like

    def __str__(self):
        return calls.write(self.name, dict(self.parameters))

    @property
    def catalogued(self) -> bool:
        """Whether the slope is the catalogue's own of this name."""
        return self.name in CATALOGUE and CATALOGUE[self.name].slope is self.slope

    @property
    def passes_outside(self) -> bool:
        """Whether gradients pass where |w| > R."""
        return self.outside is not jnp.zeros_like

    def needs(self, context: str) -> bool:
        """Whether the slope asks for 'gradient', 'progress' or 'bits'."""
        return context in inspect.signature(self.slope).parameters

    def __call__(self, r: jax.Array, gradient: jax.Array = 1.0, progress: jax.Array = 0.0) -> jax.Array:
        """The slope at offsets `r` (any shape) from the nearest threshold, inside the range."""
        available = dict(zip(CONTEXT, (self.bits, gradient, progress)))
        context = {name: value for name, value in available.items() if self.needs(name)}
        return self.slope(r, **context, **dict(self.parameters))

    def at(self, weights: jax.Array, range: jax.Array, gradient: jax.Array = 1.0, progress: jax.Array = 0.0):
        """s(w), shaped like `weights`: the slope inside [-R, R], the clip rule outside."""
        _, r = UniformQuantizer(self.bits).nearest_threshold(weights, range)
        magnitude = jnp.abs(weights) / range
        outside = self.outside(jnp.maximum(magnitude, 1))
        return jnp.where(jnp.abs(weights) <= range, self(r, gradient, progress), outside)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def fake_quantize(
    quantizer: UniformQuantizer, estimator: Estimator, weights: jax.Array, range: jax.Array, progress: jax.Array
) -> jax.Array:
    """Rounds float32 weights to their quantized values, with the estimator's slope as derivative.

    Args:
      quantizer: static.
      estimator: static, made for the quantizer's bits.
      weights: any shape.
      range: R, broadcasts against the weights. A constant: its gradient is 0.
      progress: scalar in [0, 1], read by slopes that change with time.

    Returns:
      The quantized weights; their vector-Jacobian product multiplies by `estimator.at(weights)`.
    """
    if quantizer.bits != estimator.bits:
        raise ValueError(f'{estimator} was made for {estimator.bits} bits, the quantizer has {quantizer.bits}')
    return quantizer.quantize(weights, range)


def _forward(quantizer, estimator, weights, range, progress):
    return fake_quantize(quantizer, estimator, weights, range, progress), (weights, range, progress)


def _backward(quantizer, estimator, residuals, gradient):
    weights, range, progress = residuals
    slope = estimator.at(weights, range, gradient, progress)
    return slope * gradient, jnp.zeros_like(range), jnp.zeros_like(progress)


fake_quantize.defvjp(_forward, _backward)


def make(name: str, bits: int, **parameters) -> Estimator:
    """The catalogued estimator of this name.

    Raises:
      ValueError: unknown name or argument, a value outside its domain, or bits outside 1..8.
    """
    if name not in CATALOGUE:
        raise ValueError(calls.unknown('estimator', name, CATALOGUE))
    return _bind(name, bits, CATALOGUE[name], parameters)


def from_slope(slope: Callable, bits: int, *, name: str = '', **parameters) -> Estimator:
    """An estimator from a user's function `slope(r, *, parameter=default)`, elementwise on `r`.

    Raises:
      ValueError: an argument the function does not take or lacks; or it raises, or returns anything
        but finite numbers shaped like `r`.
    """
    estimator = _bind(name or slope.__name__, bits, Entry(slope, {}), parameters)
    try:
        hash(estimator)  # it is static in compiled programs
    except TypeError as error:
        raise ValueError(f'parameters of {estimator.name} must be numbers, words or tuples: {error}') from None
    r = jnp.linspace(-0.5, 0.5, 101, dtype=jnp.float32)
    for progress in (0, 0.5, 1) if estimator.needs('progress') else (0,):
        try:
            s = jax.jit(estimator)(r, jnp.ones_like(r), jnp.float32(progress))  # as in a training step
        except Exception as error:
            raise ValueError(f'estimator {estimator.name!r} raised {type(error).__name__}: {error}') from error
        if jnp.shape(s) != r.shape or not jnp.issubdtype(jnp.result_type(s), jnp.floating):
            raise ValueError(f'estimator {estimator.name!r} must return floats shaped like r, elementwise')
        if not np.isfinite(s).all():
            raise ValueError(f'estimator {estimator.name!r} is not finite at r = {r[~np.isfinite(s)][0]:.3g}')
    return estimator


def ste_with_clip_of(estimator: Estimator) -> Estimator:
    """STE that passes gradients outside the range if and only if the estimator does (as `mad`)."""
    return dataclasses.replace(
        make('ste', estimator.bits), outside=jnp.ones_like if estimator.passes_outside else jnp.zeros_like
    )


def _bind(name: str, bits: int, entry: Entry, given: dict) -> Estimator:
    UniformQuantizer(bits)  # refuses bits outside 1..8
    kind = f'estimator {name!r}'
    given = entry.resolve(bits, calls.bind(kind, entry.slope, given, entry.domains, CONTEXT))
    return Estimator(name, bits, entry.slope, tuple(given.items()), entry.outside)
