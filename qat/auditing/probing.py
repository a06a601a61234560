"""What samples at one moment cannot show of a JAX fake-quantizer, by calling it again: with other gradients, other
weights beside a weight, at other times, and again.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from qat.auditing.subjects import Subject

SAMPLES = 4001
_REPEATS = 64  # calls whose mean is looked at
_WITNESSES = 16  # weights that others are to act on
_EQUAL = 1e-5  # of the largest slope
_BLOCK = 128  # weights whose own derivatives are taken together
_ROUGHLY = 0.5
_SIZES = (2.0**-20, 2.0**20)  # of an incoming gradient, about a millionth and a million
_SHIFTS = (0.08, -0.08, 0.01, -0.01)  # of the largest weight
_TIMES = np.linspace(0, 1, 9).tolist()
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
      slope_of_others: whether its slope does, though what it is rounded to does not.
      gradient_of_scale: whether the gradient of what one weight is rounded to reaches other weights.
      remembers: whether it rounds otherwise after a call with other weights.
      progress: whether its slope depends on an argument `progress`; None where it takes none.
      rounding_in_time: whether what it rounds to does.
    """

    stochastic: bool
    unbiased: bool | None
    slope_changes: bool
    gradient_sign: bool
    gradient_size: bool
    other_weights: bool
    slope_of_others: bool
    gradient_of_scale: bool
    remembers: bool
    progress: bool | None
    rounding_in_time: bool | None

    def reasons(self) -> tuple[str, ...]:
        """Why the theorem does not cover it, a clause each; a scale that moves is a matter of the optimizer too."""
        said = {
            'its rounding is decided by chance: q is no function of w': self.stochastic,
            'its slope changes from call to call': self.slope_changes and not self.stochastic,
            'its slope depends on the incoming gradient': self.gradient_sign or self.gradient_size,
            'its slope changes with time': bool(self.progress),
            'its rounding changes with time': bool(self.rounding_in_time),
            'its rounding depends on earlier calls': self.remembers,
            'its slope depends on other weights': self.slope_of_others,
            'the gradient of its scale reaches other weights': self.gradient_of_scale,
        }
        return tuple(clause for clause, found in said.items() if found)


@dataclasses.dataclass(frozen=True)
class Tried:
    """Samples of a function, for `qat.audit`, and what else it did.

    Attributes:
      w, q, slope: (n,) float32.
      is_whole: whether no value lies further out: the range was found, or is that of the weights.
      probed: what became of it.
    """

    w: np.ndarray
    q: np.ndarray
    slope: np.ndarray
    is_whole: bool
    probed: Probed


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
    subject = Subject(function)
    found = None if R else subject.range()
    w = jnp.asarray(np.linspace(-1.5, 1.5, count, dtype=np.float32) * np.float32(R or found or 1.0))
    w = w.at[0].multiply(_FARTHER)
    q, slope = np.asarray(subject(w)), subject.slope(w, jnp.ones_like(w))
    probed = _probed(subject, w, q, slope)
    if probed.gradient_of_scale and not probed.stochastic:
        slope = _own_slopes(subject, w)
    return Tried(np.asarray(w), q, slope, found is not None or probed.other_weights, probed)


def _probed(subject: Subject, w: jax.Array, q: np.ndarray, slope: np.ndarray) -> Probed:
    ones = jnp.ones_like(w)
    stochastic = not np.array_equal(q, np.asarray(subject(w, 1)), equal_nan=True)
    reaches = _reaches(subject, w)
    others = (False, False) if stochastic else _others(subject, w)
    later = [(np.asarray(subject(w, time=time)), subject.slope(w, ones, time=time)) for time in _TIMES]
    return Probed(
        stochastic=stochastic,
        unbiased=_unbiased(subject, w) if stochastic else None,
        slope_changes=_differ(slope, subject.slope(w, ones, 1)),
        gradient_sign=not stochastic and _differ(slope, subject.slope(w, -ones)),
        gradient_size=not (stochastic or reaches) and _by_size(subject, w, slope),
        other_weights=others[0],
        slope_of_others=others[1] and not others[0],
        gradient_of_scale=reaches,
        remembers=not stochastic and _remembers(subject, w, q),
        progress=any(_differ(slope, each) for _, each in later) if subject.timed else None,
        rounding_in_time=any(_differ(q, each) for each, _ in later) if subject.timed else None,
    )


def _differ(one: np.ndarray, other: np.ndarray, most: float = _EQUAL) -> bool:
    both = np.isfinite(one) & np.isfinite(other)
    return bool(np.abs(one - other)[both].max(initial=0) > most * max(np.abs(one[both]).max(initial=0), 1e-30))


def _reaches(subject: Subject, w: jax.Array) -> bool:
    """Whether a gradient of one weight's value reaches others."""
    chosen = np.linspace(0, w.size - 1, _WITNESSES).astype(int)
    hot = jnp.zeros((_WITNESSES, w.size), jnp.float32).at[np.arange(_WITNESSES), chosen].set(1)
    _, back = jax.vjp(subject, w)
    reached = np.array([back(each)[0] for each in hot])
    reached[np.arange(_WITNESSES), chosen] = 0
    return bool(np.abs(reached).max() > 0)


def _others(subject: Subject, w: jax.Array) -> tuple[bool, bool]:
    """Whether (what a weight is rounded to, its slope) moves when others are moved, or change places."""
    q, slope = np.asarray(subject(w)), subject.slope(w, jnp.ones_like(w))
    top, odd = jnp.abs(w).max(), w.at[1:-1:2]
    moved = (w.at[0].multiply(3.0), w.at[-1].multiply(0.5), odd.set(0), odd.set(top), odd.set(-top))
    moved = (*moved, jnp.where(jnp.abs(w) > top / 4, 0, w))
    order = np.random.default_rng(0).permutation(w.size)
    tries = [(np.arange(w.size), other) for other in moved] + [(order, w[order])]
    found = [False, False]
    for places, other in tries:
        same = np.asarray(other == w[places])
        seen = np.asarray(subject(other)), subject.slope(other, jnp.ones_like(w))
        for at, (before, after) in enumerate(zip((q, slope), seen)):
            found[at] |= _differ(before[places][same], after[same])
    return found[0], found[1]


def _remembers(subject: Subject, w: jax.Array, q: np.ndarray) -> bool:
    """Whether it rounds otherwise after it has rounded other weights, as hysteresis does."""
    for shift in _SHIFTS:
        subject(w + shift * jnp.abs(w).max())
        if _differ(q, np.asarray(subject(w))):
            return True
    return False


def _by_size(subject: Subject, w: jax.Array, slope: np.ndarray) -> bool:
    """Whether the slope depends on the gradient's size: next to a smaller one exactly, at the extremes roughly.

    All are powers of two, which 16 bits keep; where they reach neither, what comes back is rounded, or not finite.
    """
    pattern = jnp.asarray(np.where(np.arange(w.size) % 3 == 0, 2.0**-4, 2.0**3), jnp.float32)
    extremes = (subject.slope(w, jnp.full_like(w, size)) for size in _SIZES)
    return _differ(slope, subject.slope(w, pattern)) or any(_differ(slope, each, _ROUGHLY) for each in extremes)


def _own_slopes(subject: Subject, w: jax.Array) -> np.ndarray:
    """dq_i / dw_i, without what reaches a weight through the values of others."""
    _, back = jax.vjp(subject, w)

    def own(place):
        return back(jnp.zeros_like(w).at[place].set(1))[0][place]

    blocks = np.array_split(np.arange(w.size), -(-w.size // _BLOCK))
    return np.concatenate([np.asarray(jax.vmap(own)(jnp.asarray(block))) for block in blocks])


def _unbiased(subject: Subject, w: jax.Array) -> bool:
    """Whether the mean over calls comes near the weight in the middle half of the range."""
    mean = np.mean([np.asarray(subject(w, call)) for call in range(_REPEATS)], axis=0)
    middle = np.abs(np.asarray(w)) < float(jnp.abs(w).max()) / 3
    away = (mean - np.asarray(w))[middle]
    spread = np.std([np.asarray(subject(w, call))[middle] for call in range(4)], axis=0).mean()
    return bool(np.abs(away).mean() < 2 * spread / np.sqrt(_REPEATS))
