"""The figure of an audit: slope by offset, rounding, and slope over the weights."""

import pathlib

import numpy as np
from matplotlib.figure import Figure

from experiments.errors import UserError
from experiments.results.figures import colour, empty, legend, png, styled
from qat.auditing.audits import Audit
from qat.theory.sampling import sampled

_DOT = {'marker': '.', 'ls': '', 'ms': 2}


def draw(audit: Audit, directory: pathlib.Path) -> pathlib.Path:
    """Writes audit.png into a directory, and returns its path.

    Raises:
      UserError: it cannot be written.
    """
    path = directory / 'audit.png'
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(figure(audit)))
    except OSError as error:
        raise UserError(f'out: cannot write {path}: {error.strerror}') from None
    return path


def figure(audit: Audit) -> Figure:
    """Draws what was sampled, and the entry of the catalogue that it may be."""
    drawn = empty(12, 4)
    left, middle, right = drawn.subplots(1, 3)
    samples, levels, pooled = audit.samples, audit.levels, audit.pooled
    left.axhline(1, color='#bbbbbb', lw=0.8, label='STE')
    if pooled is not None:
        left.plot(pooled.r, pooled.slope, color=colour('reference'), label='samples', **_DOT)
        if audit.matches:
            r = np.linspace(-0.5, 0.5, 801)
            left.plot(r, _of_match(audit, r), color=colour('ste'), lw=1.5, label=audit.names[0])
    styled(left, 'slope by offset', 'weight, in gaps from a threshold', 's')
    middle.plot(samples.w, samples.q, color=colour('reference'), label='q', **_DOT)
    ends = [levels.values[0], levels.values[-1]]
    middle.plot(ends, ends, color='#bbbbbb', lw=0.8, label='unchanged')
    styled(middle, f'{levels.values.size} values', 'w', 'q(w)')
    if samples.slope is not None:
        right.plot(samples.w, samples.slope, color=colour('reference'), label='dq/dw', **_DOT)
        for value in ends:
            right.axvline(value, color=colour('ste'), lw=0.8)
    styled(right, 'slope, and the outermost values', 'w', 's(w)')
    for axis in (left, middle, right):
        legend(axis)
    return drawn


def _of_match(audit: Audit, r: np.ndarray) -> np.ndarray:
    """The slope of the first match at the time, and for the gradient, of the samples."""
    context = dict(audit.matches[0].context)
    if not context:
        return sampled(audit.estimator, r)
    return np.asarray(audit.estimator(r, context.get('gradient', 1.0), context.get('progress', 0.0)))
