"""The integral of 1/s over a cell, refined until it no longer changes.

Ordinary panels are halved where halving matters: at kinks, at jumps, where the slope is nearly 0. Towards a point where
it is 0, panels shrink by halves. If 1/s is integrable there, their integrals become a geometric series, whose rest is
known; if it is not, they do not shrink.
"""

import functools
from typing import NamedTuple

import numpy as np

from qat.estimators import Estimator
from qat.theory.sampling import BREAK, breaks, sampled, zeros

PANELS = 2**13  # before any is halved; a power of 2, so that thresholds and the ends of the cell are nodes
CONVERGED = 1e-7  # the relative error that is let pass
_HALVINGS, _MOST_PANELS = 45, 2**15
_PANEL_ERROR = 1e-11  # of a panel, relative to the whole integral
_HARDLY_SHRINKS = 0.999  # the integrals of panels towards a zero, each over the one before
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(8)


class Quadrature(NamedTuple):
    """F(r) = integral of dx/s(x) from 0 to r.

    Attributes:
      nodes: of [-1/2, 1/2], increasing, float64; the ends and 0 are among them.
      F: there, float64. Between nodes, linear interpolation is exact to about 1e-8 of the whole.
      error: of the whole integral, relative: what the last refinement changed.
      divergence: a zero of s where 1/s is not integrable; None where there is none. F is infinite beyond it.
    """

    nodes: np.ndarray
    F: np.ndarray
    error: float
    divergence: float | None


@functools.lru_cache(maxsize=64)
@np.errstate(divide='ignore', over='ignore', invalid='ignore')
def quadrature(estimator: Estimator) -> Quadrature:
    """F of an estimator, by eight-point Gauss-Legendre on every panel; the slope is nowhere negative or NaN."""
    nodes, places = np.linspace(-0.5, 0.5, PANELS + 1), np.array(zeros(estimator))
    # A panel with a jump near its end may look as smooth as its halves.
    jumps = np.array([place.r for place in breaks(estimator) if place.jumps and place.r < 0.5])
    nodes = np.unique(np.concatenate([nodes, jumps, np.minimum(jumps + BREAK, 0.5)]))
    aside = (np.abs(nodes[:, None] - places) < 1 / PANELS).any(axis=1)  # graded panels take their place
    starts = np.clip(places[:, None] + np.array([-1, 1]) / PANELS, -0.5, 0.5)
    edges = np.unique(np.concatenate([nodes[~aside], places, starts.ravel(), [0.0]]))
    touches = np.isin(edges[:-1], places) | np.isin(edges[1:], places)
    ordinary = _halved(estimator, edges[:-1][~touches], edges[1:][~touches])
    graded = [
        _towards(estimator, *((left, right) if left in places else (right, left)))
        for left, right in zip(edges[:-1][touches], edges[1:][touches])
    ]
    lefts, panels = (np.concatenate(each) for each in zip(ordinary[:2], *(found[:2] for found in graded)))
    order = np.argsort(lefts)
    cumulative = np.concatenate([[0.0], np.cumsum(panels[order])])
    nodes = np.append(lefts[order], 0.5)
    error = (ordinary[2] + sum(found[2] for found in graded)) / cumulative[-1]
    diverging = [found[3] for found in graded if found[2] == np.inf or found[2] > CONVERGED * cumulative[-1]]
    F = cumulative - cumulative[np.searchsorted(nodes, 0.0)]
    return Quadrature(nodes, F, float(error), diverging[0] if diverging else None)


def _gauss(estimator: Estimator, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The integral of 1/s over each panel, shaped like its ends; infinite where the slope is 0 at one of the points."""
    half = (right - left) / 2
    s = sampled(estimator, (left + right)[:, None] / 2 + half[:, None] * _POINTS)
    return half * ((1 / np.maximum(s, 0)) @ _WEIGHTS)


def _halved(estimator: Estimator, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """(left ends, integrals, error) of panels that are halved until halving changes nothing."""
    lefts, panels, error, coarse = [], [], 0.0, _gauss(estimator, left, right)
    allowed = _PANEL_ERROR * coarse.sum()
    for _ in range(_HALVINGS):
        middle = (left + right) / 2
        both = np.stack([left, middle]), np.stack([middle, right])
        fine = _gauss(estimator, *(ends.ravel() for ends in both)).reshape(2, -1)
        change = np.abs(fine.sum(axis=0) - coarse)
        open_ = ~(change <= allowed) & (2 * np.sum(~(change <= allowed)) <= _MOST_PANELS)
        lefts.append(both[0][:, ~open_].ravel())
        panels.append(fine[:, ~open_].ravel())
        error += change[~open_].sum()
        left, right, coarse = both[0][:, open_].ravel(), both[1][:, open_].ravel(), fine[:, open_].ravel()
        if not left.size:
            break
    return np.concatenate([*lefts, left]), np.concatenate([*panels, coarse]), error + allowed * left.size


def _towards(estimator: Estimator, zero: float, start: float) -> tuple[np.ndarray, np.ndarray, float, float]:
    """(left ends, integrals, error, the zero) of panels from `start` to a zero of the slope, each half the one before.

    With q the ratio of the last two integrals, what is left is the last one times q / (1 - q). Near the zero rounding
    spoils the slope, far from it the series is not yet geometric: it ends where its sum is steadiest.
    """
    edges = zero + (start - zero) * 2.0 ** -np.arange(36)
    parts = _gauss(estimator, *np.sort([edges[1:], edges[:-1]], axis=0))
    ratio = parts[1:] / parts[:-1]
    rest = np.where(ratio < _HARDLY_SHRINKS, parts[1:] * ratio / (1 - ratio), np.inf)
    change = np.abs(np.diff(np.cumsum(parts)[1:] + rest))
    change = np.where(np.isfinite(change), change, np.inf)
    change = np.maximum(change[:-1], change[1:])
    last = int(change.argmin()) + 1  # of the sums; it has a neighbour on either side
    panels = np.append(parts[: last + 2], rest[last])
    ends = np.append(edges[: last + 3], zero)
    return np.minimum(ends[1:], ends[:-1]), panels, float(change.min()), zero
