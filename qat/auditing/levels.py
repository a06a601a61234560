"""Values, thresholds and step sizes of a fake-quantizer, from samples of what it rounds to.

Values are seen as they are. A threshold is only known to lie between two samples; where the middle between its two
values does too, it is taken to lie there, as rounding to the nearest value has it.
"""

import dataclasses
import functools

import numpy as np

from qat.auditing.samples import Samples, clusters

_EVEN = 1e-4  # of a step size, by which evenly spaced values may differ
_TOUCHES = 1e-4  # of a gap, that rounding moves a threshold by
_REACHED = 0.499  # of a gap beyond the last value, where rounding would go on to the next
_ZERO = 1e-6  # of the least gap
_FLOAT32 = 2.0**-22  # of the largest weight: nearer weights may have changed places


@dataclasses.dataclass(frozen=True)
class Levels:
    """What weights are rounded to, and where.

    Attributes:
      values: (k,) increasing.
      thresholds: (k - 1,) increasing, on the axis of w.
      errors: (k - 1,) how far each threshold may lie from there at most; 0 where it was taken to be midway.
      midway: whether every threshold may lie midway between its two values.
      falls: (m,) weights at which q is less than at the one before, though w grows: no threshold explains that.
      codes: (n,) the place of each sample's q among the values.
      ends: whether samples were seen at half a gap and more beyond the least and the greatest value, so that no value
        can be missing there.
    """

    values: np.ndarray
    thresholds: np.ndarray
    errors: np.ndarray
    midway: bool
    falls: np.ndarray
    codes: np.ndarray
    ends: tuple[bool, bool]

    @property
    def intervals(self) -> int:
        return self.values.size - 1

    @property
    def step_sizes(self) -> np.ndarray:
        """(k - 1,) from value to value."""
        return np.diff(self.values)

    @property
    def uniform(self) -> bool:
        return bool(np.ptp(self.step_sizes) <= _EVEN * self.step_sizes.min())

    @property
    def symmetric(self) -> bool:
        """Whether the values are as far above 0 as below it."""
        return bool(np.abs(self.values + self.values[::-1]).max() <= _EVEN * self.step_sizes.min())

    @property
    def zero_point(self) -> float | None:
        """The code whose value is 0, which may be a fraction or lie outside of the codes; None unless uniform."""
        if not self.uniform:
            return None
        code = -self.values[0] / self.step_sizes.mean()
        return round(float(code), 4) + 0.0

    @property
    def monotone(self) -> bool:
        """Whether q grows with w, as rounding does; otherwise chance decides, or noise, or codes overflow."""
        return not self.falls.size

    @functools.cached_property
    def sure(self) -> str:
        """How sure all this is."""
        if not self.monotone:
            return f'values as seen; q falls at {self.falls.size} samples though w grows, so thresholds do not exist'
        unseen = [end for end, seen in zip(('below', 'above'), self.ends) if not seen]
        said = ['values as seen']
        if unseen:
            said.append(f'there may be more of them {" and ".join(unseen)}, where samples do not reach half a step on')
        if self.midway:
            said.append('thresholds taken to be midway, where no sample contradicts')
        else:
            said.append(f'thresholds to {self.errors.max():.2g}, the distance of samples')
        return '; '.join(said)


def find(samples: Samples) -> Levels:
    """The values and thresholds that samples show.

    Raises:
      ValueError: q has one value, or so many that nothing is rounded.
    """
    values = clusters(samples.q)
    codes = np.searchsorted((values[1:] + values[:-1]) / 2, samples.q)
    values = _with_zero(_on_a_line(values), values)
    last = np.array([samples.w[codes <= code].max() for code in range(values.size - 1)])
    first = np.array([samples.w[codes > code].min() for code in range(values.size - 1)])
    lowest, highest = np.minimum(last, first), np.maximum(last, first)
    middles = _with_zero((values[1:] + values[:-1]) / 2, values)
    slack = _TOUCHES * np.diff(values)
    midway = bool(((lowest - slack <= middles) & (middles <= highest + slack)).all())
    thresholds, errors = (
        (middles, np.zeros(middles.size)) if midway else ((lowest + highest) / 2, (highest - lowest) / 2)
    )
    ends = _ends(samples.w, values, thresholds, midway)
    apart = np.diff(samples.w) > _FLOAT32 * np.abs(samples.w).max()
    falls = samples.w[1:][(np.diff(codes) < 0) & apart]
    return Levels(values, thresholds, errors, midway and not falls.size, falls, codes, ends)


def _ends(w: np.ndarray, values: np.ndarray, thresholds: np.ndarray, midway: bool) -> tuple[bool, bool]:
    """Whether samples reach so far below and above that rounding would have gone on to another value."""
    if midway or values.size < 3:
        (first, last), (low, high) = np.diff(values)[[0, -1]] * _REACHED, values[[0, -1]]
    else:  # values need not be on the axis of w
        (first, last), (low, high) = np.diff(thresholds)[[0, -1]], thresholds[[0, -1]]
    return bool(w[0] <= low - first), bool(w[-1] >= high + last)


def _with_zero(places: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The same, and 0 itself where rounding has left next to nothing."""
    return np.where(np.abs(places) < _ZERO * np.diff(values).min(), 0.0, places)


def _on_a_line(values: np.ndarray) -> np.ndarray:
    """The values themselves, or, where they are evenly spaced but for rounding, the line through them."""
    if values.size < 3:
        return values
    codes = np.arange(values.size)
    line = np.polyval(np.polyfit(codes, values, 1), codes)
    return line if np.abs(line - values).max() <= _EVEN * np.diff(values).min() / 4 else values
