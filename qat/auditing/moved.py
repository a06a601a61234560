"""A slope that is another in every cell: N(w) = integral of dx/s makes it STE on the same values with other thresholds.

Derived: a step of the estimator is dw = s g, and that of v = N(w) is dv = dw / s = g, which is STE's with the same
learning rate; its codes change where v passes N(t), t a threshold. Where the harmonic mean of s is the same in every
finite cell, a learning rate puts the thresholds back, and the theorem of arXiv 2405.05171 holds.
"""

import dataclasses
import itertools

import numpy as np

from qat.auditing.levels import Levels
from qat.auditing.samples import Samples

_FEWEST = 4  # samples of a cell
_EQUAL = 2e-3  # relative, by which harmonic means from samples may differ


@dataclasses.dataclass(frozen=True)
class Moved:
    """What N makes of the thresholds.

    Attributes:
      thresholds: (k - 1,) N(t), in the unit of w; the one that is nearest to 0 stays.
      alphas: (k - 2,) the harmonic mean of the slope in each finite cell, by the trapezoidal rule.
    """

    thresholds: tuple[float, ...]
    alphas: tuple[float, ...]

    @property
    def equal(self) -> bool:
        """Whether the harmonic mean is the same in every finite cell."""
        return bool(np.ptp(self.alphas) <= _EQUAL * max(self.alphas))


def moved(samples: Samples, levels: Levels) -> Moved | None:
    """N of the thresholds; None: there is no finite cell, one has too few samples, or the slope is not positive."""
    found = levels.thresholds
    between = (samples.w > found[0]) & (samples.w < found[-1])
    w, s = samples.w[between], samples.slope[between]
    counts = np.histogram(w, found)[0] if found.size > 1 else np.zeros(1)
    if counts.min() < _FEWEST or not (s > 0).all():
        return None
    alphas = []
    for low, high in itertools.pairwise(found):
        inside = (w > low) & (w < high)
        x = np.concatenate([[low], w[inside], [high]])
        y = 1 / s[inside][[0, *range(inside.sum()), -1]]
        alphas.append(float((high - low) / np.trapezoid(y, x)))
    N, kept = np.append(0, np.cumsum(np.diff(found) / alphas)), np.abs(found).argmin()
    return Moved(tuple((N - N[kept] + found[kept]).tolist()), tuple(alphas))
