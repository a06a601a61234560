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

from qat import calls, clipping, trial
from qat.clipping import CLIP, ClipRule
from qat.grids import quantizer
from qat.quantizers import Quantizer
from qat.slopes import CATALOGUE, Entry

CONTEXT = ('bits', 'gradient', 'progress')  # what a slope may ask for besides its own parameters


@dataclasses.dataclass(frozen=True)
class Estimator:
    """A slope with every parameter fixed, for one quantizer. Make one with `make`, `parse` or `from_slope`.

    It is hashable, so that it can be static in compiled programs; two are equal where their fields are.

    Attributes:
      name: what the user calls it; `str(estimator)` adds the parameters: `dsq(k=6.5)`.
      quantizer: the one whose rounding it stands in for.
      slope: the function of `r`, see `qat.slopes`.
      parameters: (name, value) of every parameter.
      clip: what it does outside the range.
      closed_form: (bits, **parameters) -> the integral of 1/s; None where none is known.
    """

    name: str
    quantizer: Quantizer
    slope: Callable
    parameters: tuple[tuple[str, object], ...]
    clip: ClipRule = CLIP
    closed_form: Callable | None = None

    def __str__(self):
        return calls.write(self.name, dict(self.parameters))

    @property
    def bits(self) -> float:
        """Of the quantizer."""
        return self.quantizer.bits

    def with_clip(self, rule: str) -> 'Estimator':
        """The same with the clip rule of a call, such as 'pass', see `qat.clipping`; '': its own.

        Raises:
          ValueError: there is no such rule.
        """
        return dataclasses.replace(self, clip=clipping.parse(rule, self.quantizer)) if rule else self

    def needs(self, context: str) -> bool:
        """Whether the slope asks for 'gradient', 'progress' or 'bits'."""
        return context in inspect.signature(self.slope).parameters

    def __call__(self, r: jax.Array, gradient: jax.Array = 1.0, progress: jax.Array = 0.0) -> jax.Array:
        """The slope at offsets `r` (any shape) from the nearest threshold, inside the range."""
        available = dict(zip(CONTEXT, (self.bits, gradient, progress)))
        context = {name: value for name, value in available.items() if self.needs(name)}
        return self.slope(r, **context, **dict(self.parameters))

    def at(self, weights: jax.Array, R: jax.Array, gradient: jax.Array = 1.0, progress: jax.Array = 0.0) -> jax.Array:
        """s(w), shaped like `weights`: the slope inside [-R, R], the clip rule outside; R broadcasts against them."""
        r = self.quantizer.place(weights, R).offset
        outside = self.clip.slope(jnp.maximum(jnp.abs(weights) / R, 1))
        return jnp.where(jnp.abs(weights) <= R, self(r, gradient, progress), outside)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def fake_quantize(estimator: Estimator, weights: jax.Array, R: jax.Array, progress: jax.Array) -> jax.Array:
    """Rounds float32 weights to their quantized values, with the estimator's slope as derivative.

    Args:
      estimator: static; its quantizer does the rounding.
      weights: any shape.
      R: the range, broadcasts against the weights. A constant: its gradient is 0.
      progress: scalar in [0, 1], read by slopes that change with time.

    Returns:
      The quantized weights, shaped like `weights`; their vector-Jacobian product multiplies by `estimator.at(weights)`
      (arXiv 2405.05171, section 2).
    """
    return estimator.quantizer.quantize(weights, R)


def _forward(estimator, weights, R, progress):
    return fake_quantize(estimator, weights, R, progress), (weights, R, progress)


def _backward(estimator, residuals, gradient):
    weights, R, progress = residuals
    slope = estimator.at(weights, R, gradient, progress)
    return slope * gradient, jnp.zeros_like(R), jnp.zeros_like(progress)


fake_quantize.defvjp(_forward, _backward)


def parse(text: str, bits: int | str | Quantizer) -> Estimator:
    """The catalogued estimator of a call with literals, such as 'dsq(k=6.5)'; nothing is evaluated.

    Raises:
      ValueError: as `make`, or not of that form.
    """
    name, arguments = calls.parse(text)
    return make(name, bits, **arguments)


def make(name: str, bits: int | str | Quantizer, /, **parameters) -> Estimator:
    """The catalogued estimator of this name, for a quantizer: its bits, its name, or itself (see `qat.grids`).

    Raises:
      ValueError: unknown name or argument, a value outside its domain, or no such quantizer.
    """
    if name not in CATALOGUE:
        raise ValueError(calls.unknown('estimator', name, CATALOGUE))
    return _bind(name, bits, CATALOGUE[name], parameters)


def from_slope(slope: Callable, bits: int | str | Quantizer, *, name: str = '', **parameters) -> Estimator:
    """An estimator from a user's function `slope(r, *, parameter=default)`, elementwise on `r`.

    Args:
      slope: a function, a `functools.partial` of one, or an object with `__call__`; all that it takes besides its first
        argument and what `qat.slopes` names are its parameters, with or without the `*`.
      bits: of the quantizer, as in `make`.
      name: what it is called; by default as the function, or the object's class.
      **parameters: values for its parameters.

    Raises:
      ValueError: a parameter that it does not take or that has no value; or `trial.try_slope` refuses it.
    """
    if isinstance(slope, type):
        raise ValueError(f'{slope.__name__} is a class: give an instance of it, as in mine = {slope.__name__}(...)')
    function = getattr(slope, 'func', slope)  # of a functools.partial
    name = name or getattr(function, '__name__', type(slope).__name__)
    estimator = _bind(name, bits, Entry(slope), parameters)
    for what, kinds, found in (
        ('parameters of', 'numbers, words or tuples', estimator.parameters),
        ('the slope', 'a function, or an object that can be hashed', slope),
    ):
        try:
            hash(found)  # it is static in compiled programs
        except TypeError as error:
            raise ValueError(f'{what} {name} must be {kinds}: {error}') from None
    trial.try_slope(name, estimator, gradient=estimator.needs('gradient'), progress=estimator.needs('progress'))
    return estimator


def ste_with_clip_of(estimator: Estimator, alpha: float = 1.0) -> Estimator:
    """STE on the same quantizer, which passes gradients outside the range where the estimator does (as `mad`).

    `alpha`: the estimator's, where its weights go through M, which moves the place up to which they pass.
    """
    return dataclasses.replace(make('ste', estimator.quantizer), clip=estimator.clip.of_twin(alpha))


def _bind(name: str, bits: int | str | Quantizer, entry: Entry, given: dict) -> Estimator:
    made = quantizer(bits)
    given = entry.resolve(made.bits, calls.bind(f'estimator {name!r}', entry.slope, given, entry.domains, CONTEXT))
    return Estimator(name, made, entry.slope, tuple(given.items()), entry.clip, entry.closed_form)
