"""A JAX fake-quantizer as it is called: with what it asks for besides weights, in the range in which it rounds."""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

CONTEXT = ('key', 'rng', 'progress')  # what a function may ask for besides weights
_SCALES = 2.0 ** np.arange(-12, 16)  # ranges that are tried; float16 ends there
_FOLLOWS = 0.4  # of the largest weight, that a scale computed from weights gives at least


class Subject:
    """A function with what it asks for besides weights: a key of jax.random, the progress."""

    def __init__(self, function: Callable):
        parameters = [*inspect.signature(function).parameters][1:]
        self.timed = 'progress' in parameters
        self._key = next((name for name in ('key', 'rng') if name in parameters), None)
        self._function = function

    def __call__(self, w: jax.Array, call: int = 0, time: float = 0.0) -> jax.Array:
        """What weights are rounded to, shaped like them, float32.

        Raises:
          ValueError: something else is returned.
        """
        given = {self._key: jax.random.key(call)} if self._key else {}
        given |= {'progress': time} if self.timed else {}
        returned = self._function(w, **given)
        try:
            q = jnp.asarray(returned)
        except (TypeError, ValueError):
            raise ValueError(f'it must return an array, and returned {type(returned).__name__}') from None
        if q.shape != w.shape:
            raise ValueError(f'it must return an array shaped like the weights, {w.shape}, and returned {q.shape}')
        if jnp.iscomplexobj(q):
            raise ValueError('it must return real numbers, and returned complex ones')
        return q.astype(jnp.float32)

    def slope(self, w: jax.Array, gradient: jax.Array, call: int = 0, time: float = 0.0) -> np.ndarray:
        """What the incoming gradient has become, over it."""
        _, back = jax.vjp(lambda x: self(x, call, time), w)
        return np.asarray(back(gradient)[0] / gradient)

    def range(self) -> float | None:
        """The largest magnitude that weights are rounded to; None where it follows the weights.

        Raises:
          ValueError: it returns 0, or no numbers.
        """
        ends = [np.asarray(self(jnp.linspace(-scale, scale, 1001, dtype=jnp.float32))) for scale in _SCALES]
        usable = [place for place, q in enumerate(ends) if np.isfinite(q).mean() > 0.9]
        if not usable:
            raise ValueError('it returns numbers that are not finite; give the range of its values, --range R')
        largest = [float(np.abs(ends[place][np.isfinite(ends[place])]).max()) for place in usable]
        if largest[-1] > _FOLLOWS * _SCALES[usable[-1]]:
            return None
        if max(largest) == 0:
            raise ValueError('it returns 0 whatever the weights; give the range of its values, --range R')
        return max(largest)
