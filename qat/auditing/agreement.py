"""Whether one slope accounts for every sample: with that a claim that it is the same in every cell stands or falls.

Fits and medians forgive a share of the samples. Here none is forgiven but for noise, and but for what lies beside a
jump or exactly on a threshold or a value, where float32 or a convention decides. As alpha hangs on the smallest slopes,
which a bound on differences does not see, the harmonic mean is compared as well, gap by gap.
"""

import dataclasses

import numpy as np

from qat.auditing.cells import AGREE, JUMP, NODES, Pooled
from qat.auditing.outside import DEVIATIONS, noise_of
from qat.estimators import Estimator
from qat.theory.sampling import sampled

_TIE = 1e-4  # of a gap: as near to a threshold or a value, a sample is on it
_HARMONIC = 5e-3  # relative, by which harmonic means may differ


def checked(pooled: Pooled, estimator: Estimator) -> Pooled:
    """The same, its disagreement (and what is unlike) no less than the samples are from the estimator's slope."""
    found = sampled(estimator, pooled.r)
    beside = [sampled(estimator, _wrapped(pooled.r + step)) for step in (-1 / (NODES - 1), 1 / (NODES - 1))]
    low, high = np.minimum(found, np.minimum(*beside)), np.maximum(found, np.maximum(*beside))
    noise = noise_of((pooled.slope - found)[np.argsort(pooled.w)])
    tied = (np.abs(pooled.r) < _TIE) | (np.abs(pooled.r) > 0.5 - _TIE)
    away = np.where(tied, 0, np.maximum(pooled.slope - high, low - pooled.slope)) / pooled.scale
    away[away <= AGREE + DEVIATIONS * noise / pooled.scale] = 0
    judged = ~tied & (found > 0) & (high - low <= JUMP * pooled.scale)
    worst = np.maximum(_largest(away, pooled), _harmonic(pooled, found, judged, noise))
    said = ''
    if away.any():
        at = int(away.argmax())
        others = f' ({away.astype(bool).sum()} such samples)' if (away > 0).sum() > 1 else ''
        said = f'at w = {pooled.w[at]:.4g} it is {pooled.slope[at]:.3g}, where most samples ask for '
        said += f'{found[at]:.3g}{others}'
    return dataclasses.replace(pooled, disagreement=np.maximum(pooled.disagreement, worst), unlike=said)


def _wrapped(r: np.ndarray) -> np.ndarray:
    """Offsets beyond a value are those from the next threshold."""
    return r - np.round(r)


def _largest(away: np.ndarray, pooled: Pooled) -> np.ndarray:
    return np.array([away[pooled.gap == gap].max(initial=0) for gap in range(pooled.disagreement.size)])


def _harmonic(pooled: Pooled, found: np.ndarray, judged: np.ndarray, noise: float) -> np.ndarray:
    """(gaps,) by what share the integral of 1/s differs from that of most gaps, to first order; 0 where noise may."""
    shares, errors = [], []
    for gap in range(pooled.disagreement.size):
        here = judged & (pooled.gap == gap)
        s = found[here]
        whole = max((1 / s).sum(), 1e-300)
        shares.append(((s - pooled.slope[here]) / s**2).sum() / whole)
        errors.append(noise * np.sqrt((1 / s**4).sum()) / whole)
    away = np.abs(np.array(shares) - np.median(shares))
    return np.where(away > _HARMONIC + DEVIATIONS * np.array(errors), away, 0)
