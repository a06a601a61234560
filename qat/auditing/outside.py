"""The clip rule of a fake-quantizer, from samples: how far outside its values a gradient passes, and what absorbs."""

import dataclasses
import math

import numpy as np

from qat import clipping
from qat.auditing.levels import Levels
from qat.auditing.samples import Samples
from qat.clipping import ClipRule

_EDGE = 1e-4  # of a gap: nearer to an end than this, float32 decides on which side a sample lies
_EQUAL = 1e-2  # by which slopes may differ from 1/2 of the largest, from 1 or R/|w|, besides what their noise is
_NOTHING = 1e-6  # of the largest slope; what leaks more passes, but for noise
DEVIATIONS = 6.0  # of the noise, which next to no sample exceeds
_HALF = 0.5  # of a gap: as far as codes go on when weights are rounded first and clamped then
_UNKNOWN = 'unknown'


@dataclasses.dataclass(frozen=True)
class Outside:
    """What becomes of gradients outside of the values.

    Attributes:
      rule: 'clip', 'pass', 'round_clamp' (as far as half a gap, where rounding comes before clamping), 'trust' (another
        distance), 'reciprocal' (R/|w|, of `mad`), 'boundary_zero' (nothing in the outermost codes, inside either),
        'boundary_half' (half of it there, as jnp.clip has it at its very ends), 'other', or 'unknown'; where the two
        sides differ, both, as 'clip below, pass above'.
      reach: how many gaps far outside gradients pass; inf: as far as there are samples; NaN: unknown.
      error: by how much `reach` may be wrong, the distance of samples.
      absorbing: the codes that no gradient leaves, as it is 0 at all of their samples.
      sides: the rules below and above, apart.
      passes: the least and the largest slope outside of the values; None where there are no samples.
      sure: how sure this is.
    """

    rule: str
    reach: float
    error: float
    absorbing: tuple[int, ...]
    sides: tuple[str, str]
    passes: tuple[float, float] | None
    sure: str

    def as_clip_rule(self, levels: Levels) -> ClipRule | None:
        """The rule of `qat.clipping` that does the same; None where none does. Unknown: `clip`."""
        known = {
            'clip': clipping.CLIP,
            _UNKNOWN: clipping.CLIP,
            'pass': clipping.PASS,
            'reciprocal': clipping.RECIPROCAL,
        }
        if self.rule in ('round_clamp', 'trust') and self.reach > 0:
            half = (levels.values[-1] - levels.values[0]) / 2
            return clipping.trust(1 + self.reach * float(levels.step_sizes[-1]) / half)
        return known.get(self.rule)


def find(samples: Samples, levels: Levels) -> Outside:
    """The clip rule that samples with slopes show."""
    silent = [code for code in range(levels.values.size) if not samples.slope[levels.codes == code].any()]
    sides = [_side(samples, levels, sign) for sign in (-1, 1)]
    known = [side for side in sides if side[0] != _UNKNOWN] or sides[:1]
    (rule, reach, error), other = known[0], known[-1]
    if other[0] != rule or abs(other[1] - reach) > error + other[2] + _EDGE:
        rule, reach, error = f'{_with_reach(known[0])} below, {_with_reach(other)} above', math.nan, math.nan
    sure = {
        0: 'no sample lies outside the values',
        1: 'samples lie outside on one side only',
        2: 'seen on both sides as far as there are samples',
    }[sum(side[0] != _UNKNOWN for side in sides)]
    if rule == 'round_clamp':
        sure += '; the same as trust(T=0.5)'
    (low, first), (high, last) = end(levels, -1), end(levels, 1)
    there = samples.slope[(samples.w < low - _EDGE * first) | (samples.w > high + _EDGE * last)]
    passes = (float(there.min()), float(there.max())) if there.size else None
    return Outside(rule, reach, error, tuple(silent), (sides[0][0], sides[1][0]), passes, sure)


def _with_reach(side: tuple[str, float, float]) -> str:
    return f'trust(T={side[1]:.3g})' if side[0] == 'trust' else side[0]


def _side(samples: Samples, levels: Levels, sign: int) -> tuple[str, float, float]:
    """(rule, reach, its error) below the values (-1) or above them (1)."""
    edge, gap = end(levels, sign)
    distance = sign * (samples.w - edge) / gap
    order = np.argsort(distance)
    order = order[np.abs(distance[order] - _HALF) > _EDGE]  # at its very end, a clamp may pass half
    distance, slope = distance[order], samples.slope[order]
    outer = distance > -_HALF + _EDGE
    largest = np.abs(samples.slope).max()
    outside = distance > _EDGE
    noise = DEVIATIONS * noise_of(slope[outside])
    passed = np.abs(slope) > _NOTHING * largest + noise
    if (outer & ~outside).any() and not passed[outer].any():
        return 'boundary_zero', -_HALF, 0.0
    if not outside.any():
        return _UNKNOWN, math.nan, math.nan
    if not passed[outside].any():
        return 'clip', 0.0, 0.0
    s, x, passed = slope[outside], distance[outside], passed[outside]
    moving = np.flatnonzero(passed)[-1] + 1  # from there on nothing passes
    if not passed[:moving].all():
        return 'other', math.nan, math.nan
    if moving == s.size:
        weights = np.abs(samples.w[order][outside])
        if np.abs(s - abs(edge) / weights).max() < _EQUAL + noise and np.ptp(s) > _EQUAL + 2 * noise:
            return 'reciprocal', math.inf, 0.0
        if not levels.ends[sign > 0]:  # the values may go on
            return _UNKNOWN, math.nan, math.nan
        return ('pass' if _is_one(s, noise) else 'other'), math.inf, 0.0
    low, high = x[moving - 1], x[moving]
    if _half(s[:moving], largest, noise) and low - _EDGE <= _HALF <= high + _EDGE:
        return 'boundary_half', _HALF, 0.0
    if not _is_one(s[:moving], noise):
        return 'other', (low + high) / 2, (high - low) / 2
    if low - _EDGE <= _HALF <= high + _EDGE:
        return 'round_clamp', _HALF, 0.0
    return 'trust', (low + high) / 2, (high - low) / 2


def noise_of(s: np.ndarray) -> float:
    """The standard deviation of numbers in order about whatever smooth course they take."""
    return float(np.median(np.abs(np.diff(s, 2)))) / (0.6745 * math.sqrt(6)) if s.size > 2 else 0.0


def _is_one(s: np.ndarray, noise: float) -> bool:
    return bool(np.abs(s - 1).max() < _EQUAL + noise)


def _half(s: np.ndarray, largest: float, noise: float) -> bool:
    return bool(np.abs(s - largest / 2).max() < _EQUAL * largest + noise)


def end(levels: Levels, sign: int) -> tuple[float, float]:
    """(where it lies, the gap inside it) of the least value (-1) or the greatest (1), on the axis of w.

    Where thresholds are not midway between values, it lies half a cell outside the last threshold.
    """
    place = -1 if sign > 0 else 0
    if levels.midway or levels.intervals < 2:
        return float(levels.values[place]), float(levels.step_sizes[place])
    cell = float(np.diff(levels.thresholds)[place])
    return float(levels.thresholds[place] + sign * cell / 2), cell
