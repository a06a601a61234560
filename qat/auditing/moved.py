"""A slope that is another in every cell: N(w) = integral of dx/s makes it STE on the same values with other thresholds.

Derived: a step of the estimator is dw = s g, and that of v = N(w) is dv = dw / s = g, which is STE's with the same
learning rate; its codes change where v passes N(t), t a threshold. c N does the same at c times the learning rate, and
c is chosen so that the thresholds span what they did. Where the harmonic mean of s is the same in every
finite cell, a learning rate puts the thresholds back, and the theorem of arXiv 2405.05171 holds.
"""

import dataclasses
import itertools

import numpy as np

from qat.auditing.levels import Levels
from qat.auditing.outside import end
from qat.auditing.samples import Samples

_FEWEST = 4  # samples of a cell
_EQUAL = 2e-3  # relative, by which harmonic means from samples may differ


@dataclasses.dataclass(frozen=True)
class Moved:
    """What N makes of the thresholds.

    Attributes:
      thresholds: (k - 1,) N(t) in the unit of w, scaled and shifted so that the outermost two stay.
      factor: that scale, by which STE's learning rate is to be multiplied.
      alphas: (k - 2,) the harmonic mean of the slope in each finite cell, by the trapezoidal rule.
      ends: (2,) the same in what the outermost codes have inside of the values; NaN where there are no samples.
    """

    thresholds: tuple[float, ...]
    factor: float
    alphas: tuple[float, ...]
    ends: tuple[float, float]

    @property
    def equal(self) -> bool:
        """Whether the harmonic mean is the same in every finite cell, and at both ends, which M has to keep."""
        everywhere = [*self.alphas, *(alpha for alpha in self.ends if not np.isnan(alpha))]
        return bool(np.ptp(everywhere) <= _EQUAL * max(everywhere))


def moved(samples: Samples, levels: Levels) -> Moved | None:
    """N of the thresholds; None: there is no finite cell, one has too few samples, or the slope is not positive."""
    found, (low, _), (high, _) = levels.thresholds, end(levels, -1), end(levels, 1)
    between = (samples.w > low) & (samples.w < high)
    w, s = samples.w[between], samples.slope[between]
    counts = np.histogram(w, found)[0] if found.size > 1 else np.zeros(1)
    if counts.min() < _FEWEST or not (s > 0).all():
        return None
    ends = _harmonic_mean(w, s, low, found[0]), _harmonic_mean(w, s, found[-1], high)
    alphas = [_harmonic_mean(w, s, *cell) for cell in itertools.pairwise(found)]
    N = np.append(0, np.cumsum(np.diff(found) / alphas))
    factor = float((found[-1] - found[0]) / N[-1]) if alphas else 1.0
    return Moved(tuple((found[0] + factor * N).tolist()), factor, tuple(alphas), ends)


def _harmonic_mean(w: np.ndarray, s: np.ndarray, low: float, high: float) -> float:
    inside = (w > low) & (w < high)
    if not inside.any():
        return float('nan')
    x = np.concatenate([[low], w[inside], [high]])
    y = 1 / s[inside][[0, *range(inside.sum()), -1]]
    return float((high - low) / np.trapezoid(y, x))
