"""What samples at one moment cannot show of a JAX fake-quantizer, by calling it again: with other gradients, other
weights beside a weight, and a second time.
"""

import dataclasses
import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

SAMPLES = 4001
CONTEXT = ('key', 'rng', 'progress')  # what a function may ask for besides weights
_REPEATS = 64  # calls whose mean is looked at
_WITNESSES = 16  # weights that others are to act on
_EQUAL = 1e-5  # of the largest slope
_BLOCK = 128  # weights whose own derivatives are taken together
_SCALES = 2.0 ** np.arange(-12, 9)  # ranges that are tried
_FARTHER = 1 + 2.0**-12  # where a scale is the largest |w|, two weights that tie for it would share its gradient


@dataclasses.dataclass(frozen=True)
class Probed:
    """What a function did when it was called again; every entry has been tried.

    Attributes:
      stochastic: whether a second call rounds otherwise.
      unbiased: of a stochastic one, whether the mean over calls is the weight itself.
      slope_changes: whether a second call has another slope.
      gradient_sign: whether the slope depends on the incoming gradient's sign.
      gradient_size: whether it depends on its size.
      other_weights: whether what a weight is rounded to moves when another weight does, as under a dynamic scale.
      gradient_of_scale: whether the gradient of what one weight is rounded to reaches other weights.
      progress: whether its slope depends on an argument `progress`; None where it takes none.
    """

    stochastic: bool
    unbiased: bool | None
    slope_changes: bool
    gradient_sign: bool
    gradient_size: bool
    other_weights: bool
    gradient_of_scale: bool
    progress: bool | None

    def reasons(self) -> tuple[str, ...]:
        """Why the theorem does not cover it, a clause each; a scale that moves is a matter of the optimizer too."""
        said = {
            'its rounding is decided by chance: q is no function of w': self.stochastic,
            'its slope changes from call to call': self.slope_changes and not self.stochastic,
            'its slope depends on the incoming gradient': self.gradient_sign or self.gradient_size,
            'its slope changes with time': bool(self.progress),
            'the gradient of its scale reaches other weights': self.gradient_of_scale,
        }
        return tuple(clause for clause, found in said.items() if found)


@dataclasses.dataclass(frozen=True)
class Tried:
    """Samples of a function, for `qat.audit`, and what else it did.

    Attributes:
      w, q, slope: (n,) float32.
      probed: what became of it.
    """

    w: np.ndarray
    q: np.ndarray
    slope: np.ndarray
    probed: Probed


class _Subject:
    """A function with what it asks for besides weights: a key of jax.random, the progress."""

    def __init__(self, function: Callable):
        parameters = [*inspect.signature(function).parameters][1:]
        self.timed = 'progress' in parameters
        self._key = next((name for name in ('key', 'rng') if name in parameters), None)
        self._function = function

    def __call__(self, w: jax.Array, call: int = 0, time: float = 0.0) -> jax.Array:
        given = {self._key: jax.random.key(call)} if self._key else {}
        given |= {'progress': time} if self.timed else {}
        q = jnp.asarray(self._function(w, **given))
        if q.shape != w.shape:
            raise ValueError(f'it must return an array shaped like the weights, {w.shape}, and returned {q.shape}')
        return q.astype(jnp.float32)

    def slope(self, w: jax.Array, gradient: jax.Array, call: int = 0, time: float = 0.0) -> np.ndarray:
        """What the incoming gradient has become, over it."""
        _, back = jax.vjp(lambda x: self(x, call, time), w)
        return np.asarray(back(gradient)[0] / gradient)


def sample(function: Callable, R: float | None = None, count: int = SAMPLES) -> Tried:
    """Samples a function and calls it again in every way that could matter.

    Args:
      function: float32 weights of any shape -> what they are rounded to, differentiable by jax. It may also take `key`
        (or `rng`), and `progress`.
      R: samples lie evenly from -1.5 R to 1.5 R; None: the range in which it is no longer changing is looked for.
      count: of them.

    Raises:
      ValueError: it does not return an array like its weights, or never stops changing.
    """
    subject = _Subject(function)
    w = jnp.asarray(np.linspace(-1.5, 1.5, count, dtype=np.float32) * np.float32(R or _range(subject)))
    w = w.at[0].multiply(_FARTHER)
    ones = jnp.ones_like(w)
    q, slope = np.asarray(subject(w)), subject.slope(w, ones)
    stochastic = not np.array_equal(q, np.asarray(subject(w, 1)))
    reaches, moves = _others(subject, w)
    own = _own_slopes(subject, w) if reaches and not stochastic else slope
    pattern = jnp.asarray(np.where(np.arange(count) % 3 == 0, 1e-3, 7.0), jnp.float32)
    again = subject.slope(w, ones, 1)
    times = [subject.slope(w, ones, time=time) for time in (0.5, 1.0)] if subject.timed else []
    return Tried(
        np.asarray(w),
        q,
        own,
        Probed(
            stochastic=stochastic,
            unbiased=_unbiased(subject, w) if stochastic else None,
            slope_changes=_differ(slope, again),
            gradient_sign=not stochastic and _differ(slope, subject.slope(w, -ones)),
            gradient_size=not (stochastic or reaches) and _differ(slope, subject.slope(w, pattern)),
            other_weights=not stochastic and moves,
            gradient_of_scale=reaches,
            progress=any(_differ(slope, later) for later in times) if subject.timed else None,
        ),
    )


def _range(subject: _Subject) -> float:
    """The weight at which the last value is reached, as far as powers of two tell; a scale that moves gets 1."""
    ends = [np.asarray(subject(jnp.linspace(-scale, scale, 1001, dtype=jnp.float32))) for scale in _SCALES]
    largest = np.array([np.abs(q).max() for q in ends])
    if not np.isfinite(largest).all():
        raise ValueError('it returns numbers that are not finite; give the range of its values, --range R')
    if largest[-1] > 0.4 * _SCALES[-1]:  # it follows the weights
        return 1.0
    if largest[-1] == 0:
        raise ValueError('it returns 0 whatever the weights; give the range of its values, --range R')
    return float(largest[-1])


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    both = np.isfinite(one) & np.isfinite(other)
    return bool(np.abs(one - other)[both].max(initial=0) > _EQUAL * max(np.abs(one[both]).max(initial=0), 1e-30))


def _others(subject: _Subject, w: jax.Array) -> tuple[bool, bool]:
    """(whether a gradient of one weight's value reaches others, whether its value moves when others do)."""
    chosen = np.linspace(0, w.size - 1, _WITNESSES).astype(int)
    hot = jnp.zeros((_WITNESSES, w.size), jnp.float32).at[np.arange(_WITNESSES), chosen].set(1)
    _, back = jax.vjp(subject, w)
    reached = np.array([back(each)[0] for each in hot])
    reached[np.arange(_WITNESSES), chosen] = 0
    q = np.asarray(subject(w))
    moved = (w.at[0].multiply(3.0), w.at[-1].multiply(0.5), w.at[1:-1:2].set(0))
    away = [np.abs(q - np.asarray(subject(other)))[np.asarray(other == w)] for other in moved]
    moves = max(each.max() for each in away) > _EQUAL * max(np.abs(q).max(), 1e-30)
    return bool(np.abs(reached).max() > 0), bool(moves)


def _own_slopes(subject: _Subject, w: jax.Array) -> np.ndarray:
    """dq_i / dw_i, without what reaches a weight through the values of others."""
    _, back = jax.vjp(subject, w)

    def own(place):
        return back(jnp.zeros_like(w).at[place].set(1))[0][place]

    blocks = np.array_split(np.arange(w.size), -(-w.size // _BLOCK))
    return np.concatenate([np.asarray(jax.vmap(own)(jnp.asarray(block))) for block in blocks])


def _unbiased(subject: _Subject, w: jax.Array) -> bool:
    """Whether the mean over calls comes near the weight in the middle half of the range."""
    mean = np.mean([np.asarray(subject(w, call)) for call in range(_REPEATS)], axis=0)
    middle = np.abs(np.asarray(w)) < float(jnp.abs(w).max()) / 3
    away = (mean - np.asarray(w))[middle]
    spread = np.std([np.asarray(subject(w, call))[middle] for call in range(4)], axis=0).mean()
    return bool(np.abs(away).mean() < 2 * spread / np.sqrt(_REPEATS))
