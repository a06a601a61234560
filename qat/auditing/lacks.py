"""What samples lack, in words: values that may be missing, and what they say otherwise than their user."""

import numpy as np

from qat.auditing.cells import Pooled
from qat.auditing.levels import Levels
from qat.auditing.samples import Samples
from qat.quantizers import MAX_BITS

_FEW = 3  # samples of a value, next to which others may have been stepped over
_PLENTY = 32  # samples of a cell, in which a slope that is rough is noisy
_FAR = 50.0  # times the usual distance of samples: a gap in them


def gaps(taken: Samples, found: Levels) -> list[str]:
    """Where samples leave out what may be values."""
    steps = np.diff(taken.w)
    far = np.flatnonzero((steps > _FAR * np.median(steps)) & (steps > found.step_sizes.min() / 2))
    inside = [place for place in far if found.values[0] <= taken.w[place + 1] and taken.w[place] <= found.values[-1]]
    return [
        f'no samples between w = {taken.w[place]:.4g} and {taken.w[place + 1]:.4g}: values may be missing there'
        for place in inside[:3]
    ] + _rare(found)


def _rare(found: Levels) -> list[str]:
    rare = int((np.bincount(found.codes) < _FEW).sum())
    return [f'{rare} values have fewer than {_FEW} samples: there may be more between them'] if rare else []


def bits(found: Levels, said: int | None) -> list[str]:
    """Whether there are as many values as so many bits make.

    Raises:
      ValueError: there is no quantizer of so many bits.
    """
    if said is not None and not 1 <= said <= MAX_BITS:
        raise ValueError(f'bits must be an integer in 1..{MAX_BITS}, got {said}')
    if said is None or found.values.size in (2**said, 2**said - 1):
        return []
    if found.values.size > 2**said:
        advice = 'it rounds to more than that'
    else:
        advice = 'samples reach beyond them, it has no more' if all(found.ends) else 'sample a wider range'
    return [f'{said} bits make {2**said} values, and the samples have {found.values.size}: {advice}']


def resolution(pooled: Pooled) -> str:
    """Why samples do not tell what the slope is."""
    size, cells = pooled.r.size, pooled.disagreement.size
    if size < _PLENTY * cells:
        where = f'in {cells} cells are too few' if cells > 1 else 'are too few'
        return f'{size} samples {where} to tell what its slope is; take {max(4001, 2 * _PLENTY * cells)}'
    noise = max(pooled.rough, pooled.noise_of_curve)
    return f'its slope is noisy, by {noise:.1g} of the largest from sample to sample; sample it without the noise'


def ends(found: Levels, sides: tuple[str, str]) -> list[str]:
    """What is not known of the outside, as samples end before it."""
    unseen = [
        f'{where} {found.values[place]:.4g}'
        for where, place, side in zip(('below', 'above'), (0, -1), sides)
        if side == 'unknown' and not found.ends[place]
    ]
    if not unseen:
        return []
    return [
        f'samples do not reach half a step {" and ".join(unseen)}: whether values go on there, and whether gradients '
        'pass outside, is not known; sample a wider range'
    ]
