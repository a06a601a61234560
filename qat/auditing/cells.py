"""The slope of a fake-quantizer as a function of the offset from the nearest threshold, pooled over its cells."""

import dataclasses
import functools

import numpy as np

from qat.auditing.levels import Levels
from qat.auditing.outside import DEVIATIONS, Outside, end, noise_of
from qat.auditing.samples import Samples

NODES = 257  # of the pooled curve, a power of two of intervals: nodes of every quadrature panel
_WINDOW = 9  # samples whose median stands for the curve
AGREE = 2e-3  # of the largest slope
_QUARTILE = 75  # of a gap's samples that must lie so near; the others may lie beside a jump
JUMP = 0.05  # of the largest slope, in which a curve must change between neighbours
_FLOAT32 = 2.0**-23
_ROUGH = 1e-4  # of the largest slope; as much noise moves integrals
_CONSTANT = 1e-6  # of the largest slope
_EDGE = 1e-6  # of a gap
_FEWEST = 3  # samples of a gap, of which the middle one can be compared with the others
_TELLING = 4.0  # times what neighbours in one gap differ by anyway: what gaps must differ by to be other gaps


@dataclasses.dataclass(frozen=True)
class Pooled:
    """Samples inside the outermost values, by offset.

    Attributes:
      w: (n,) the weights.
      r: (n,) their offsets from the nearest threshold in units of the gap, in [-1/2, 1/2], in order.
      slope: (n,) there.
      gap: (n,) which threshold each is nearest to.
      noise: (n,) what float32 may have changed in each slope.
      disagreement: (gaps,) of each gap from the pooled curve, of the largest slope.
      rough: how far samples lie from the line through their neighbours in the same gap, of the largest slope; as far
        apart, gaps tell nothing. Infinite where gaps have too few samples for that.
      unlike: the sample that is farthest from what others have at its offset, in words; '' where none is.
    """

    w: np.ndarray
    r: np.ndarray
    slope: np.ndarray
    gap: np.ndarray
    noise: np.ndarray
    disagreement: np.ndarray
    rough: float = 0.0
    unlike: str = ''

    @property
    def agree(self) -> bool:
        """Whether the slope is the same in every cell."""
        return bool(self.disagreement.max(initial=0) <= AGREE)

    @property
    def tells(self) -> bool:
        """Whether gaps differ by more than noise, or samples that are far apart, let neighbours in one gap differ."""
        return self.agree or bool(self.disagreement.max() > _TELLING * self.rough)

    @property
    def noise_of_curve(self) -> float:
        """What neighbours by offset differ by, of the largest slope: noise, or samples that are far apart."""
        return noise_of(self.slope) / self.scale

    @property
    def may_be_noise(self) -> bool:
        """Whether the curve is too rough for what hangs on its details, such as where it jumps; its sign is plain."""
        return self.noise_of_curve > _ROUGH and bool((self.slope > -DEVIATIONS * noise_of(self.slope)).all())

    @property
    def scale(self) -> float:
        """The largest magnitude of the slope."""
        return float(np.abs(self.slope).max())

    @property
    def constant(self) -> float | None:
        """The slope, where it is the same at every offset."""
        return float(np.median(self.slope)) if np.ptp(self.slope) <= _CONSTANT * self.scale else None

    @functools.cached_property
    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """(offsets, slopes) at `NODES` evenly spaced offsets: medians of neighbours, linear in between."""
        nodes = np.linspace(-0.5, 0.5, NODES)
        r, index = np.unique(self.r, return_index=True)
        found = np.interp(nodes, r, self.slope[index])
        return nodes, found if self.constant is None else np.full(NODES, self.constant)

    @functools.cached_property
    def jumps(self) -> tuple[float, ...]:
        """Offsets at which the slope jumps, as near as samples; 1/2: its ends do not meet. () unless cells agree."""
        if not self.agree:
            return ()
        r, s = self.curve
        steps = np.abs(np.diff(s))
        around = np.maximum(np.append(steps[1:], 0), np.append(0, steps[:-1]))
        places = np.flatnonzero((steps > JUMP * self.scale) & (steps > 3 * around))
        ends = (0.5,) if abs(s[0] - s[-1]) > JUMP * self.scale else ()
        return (*((r[places] + r[places + 1]) / 2).tolist(), *ends)

    @property
    def sure(self) -> str:
        """How sure this is."""
        said = f'{self.r.size} samples at {np.unique(np.round(self.r, 5)).size} offsets'
        return said if self.disagreement.size > 1 else f'{said}; with one threshold there is nothing to agree with'


def pool(samples: Samples, levels: Levels, rule: Outside) -> Pooled:
    """The samples inside the outermost values by their offset, but for an outermost code that the clip rule judges."""
    (low, _), (high, _) = end(levels, -1), end(levels, 1)
    r, width, gap = _placed(samples.w, levels, low, high)
    slack = _EDGE * width + 2 * levels.errors.max()  # an end is known as well as the last two thresholds
    inside = (samples.w >= low - slack) & (samples.w <= high + slack)
    at_end = (np.abs(samples.w - low) <= slack) | (np.abs(samples.w - high) <= slack)
    inside &= ~at_end  # what happens at the very end is the clip rule's
    largest = np.abs(levels.values).max()
    moved = 2 * _FLOAT32 * np.maximum(np.abs(samples.w), largest) / width
    for code, side in zip((0, levels.intervals), rule.sides):  # one end alone may be silent
        if side in ('boundary_zero', 'boundary_half'):
            inside &= levels.codes != code
    order = np.flatnonzero(inside)[np.argsort(r[inside], kind='stable')]
    r, s, gap = np.clip(r[order], -0.5, 0.5), samples.slope[order], gap[order]
    disagreement, rough = _disagreement(s, gap, levels.intervals), _rough(r, s, gap, levels.intervals)
    return Pooled(samples.w[order], r, s, gap, _noise(r, s, moved[order]), disagreement, rough)


def _placed(w: np.ndarray, levels: Levels, low: float, high: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(offset, gap's width, threshold's place) of every weight."""
    if levels.midway or levels.intervals < 2:
        gap = np.clip(np.searchsorted(levels.values, w, side='right') - 1, 0, levels.intervals - 1)
        width = levels.step_sizes[gap]
        return (w - levels.thresholds[gap]) / width, width, gap
    thresholds = levels.thresholds
    edges = np.concatenate([[low - (thresholds[0] - low)], thresholds, [high + (high - thresholds[-1])]])
    cell = np.clip(np.searchsorted(thresholds, w, side='right'), 0, thresholds.size)
    width = (edges[1:] - edges[:-1])[cell]
    share = (w - edges[cell]) / width
    above = share >= 0.5
    gap = np.clip(np.where(above, cell, cell - 1), 0, thresholds.size - 1)
    return np.where(above, share - 1, share), width, gap


def _noise(r: np.ndarray, s: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """What float32 makes of a slope, and of the offset that it is at, to each sample."""
    if r.size < 3:
        return np.full(r.size, np.inf)
    spread = np.abs(s[2:] - s[:-2])
    steep = np.pad(spread / np.maximum(r[2:] - r[:-2], 1e-4), 1, mode='edge')
    second = np.abs(s[2:] - 2 * s[1:-1] + s[:-2])
    apart = r[2:] - r[:-2] < 2e-3
    rough = np.median(second[apart]) / 2 if apart.sum() > 8 else 0.0
    scale = np.abs(s).max()
    return np.minimum(rough, 1e-3 * scale) + 4 * _FLOAT32 * scale + moved * steep


def _disagreement(s: np.ndarray, gap: np.ndarray, intervals: int) -> np.ndarray:
    if intervals < 2 or s.size < _WINDOW:
        return np.zeros(1)
    padded = np.pad(s, _WINDOW // 2, mode='reflect')
    away = np.abs(s - np.median(np.lib.stride_tricks.sliding_window_view(padded, _WINDOW), axis=1))
    each = [away[gap == place] for place in range(intervals)]
    scale = max(np.abs(s).max(), 1e-300)
    return np.array([np.percentile(found, _QUARTILE) / scale if found.size else 0.0 for found in each])


def _rough(r: np.ndarray, s: np.ndarray, gap: np.ndarray, intervals: int) -> float:
    """Of most samples of most gaps, so that one gap in which the slope is wild is no noise."""
    found = []
    for place in range(intervals):
        x, y = r[gap == place], s[gap == place]
        if x.size < _FEWEST:
            return np.inf
        share = (x[1:-1] - x[:-2]) / np.maximum(x[2:] - x[:-2], 1e-300)
        line = y[:-2] + share * (y[2:] - y[:-2])
        found.append(np.percentile(np.abs(y[1:-1] - line), _QUARTILE))
    return float(np.median(found)) / max(np.abs(s).max(), 1e-300)
