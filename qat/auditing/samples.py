"""Samples of a fake-quantizer: weights, what they are rounded to, and by what rounding multiplies the gradient."""

import dataclasses

import numpy as np

FEWEST = 16  # samples that anything is said of
MOST_VALUES = 256
_SAME = 2e-6  # of the span of q: values nearer than this are one, but for float32
_CROWDED = 0.25  # of the samples; more values than that are no rounding


@dataclasses.dataclass(frozen=True)
class Samples:
    """Distinct weights in order.

    Attributes:
      w: (n,) float64, increasing.
      q: (n,) float64, what each is rounded to.
      slope: (n,) float64, dq/dw as the gradient has it; None where it was not given.
      notes: what is wrong with the samples, and what cannot be known for it, a sentence each.
    """

    w: np.ndarray
    q: np.ndarray
    slope: np.ndarray | None
    notes: tuple[str, ...] = ()


def collect(w, q, slope=None) -> Samples:
    """Samples from arrays in any order and of any shape, duplicates and numbers that are not finite left out.

    Raises:
      ValueError: they are of different sizes, no numbers, or too few; the message says what is missing.
    """
    columns = [_numbers(name, column) for name, column in zip(('w', 'q', 'slope'), (w, q, slope)) if column is not None]
    sizes = [column.size for column in columns]
    if len(set(sizes)) > 1:
        raise ValueError(f'w, q and slope must have one entry a sample each, and have {", ".join(map(str, sizes))}')
    table = np.stack(columns, axis=1)
    finite = np.isfinite(table).all(axis=1)
    notes = [] if finite.all() else [f'{(~finite).sum()} of {len(table)} samples are not finite, and left out']
    table = np.unique(table[finite], axis=0)  # in the order of w, then of q
    if len(table) < finite.sum():
        notes.append(f'{finite.sum() - len(table)} samples are there twice, and are counted once')
    first = np.append(True, np.diff(table[:, 0]) > 0)[: len(table)]
    if not first.all():
        notes.append(f'{(~first).sum()} weights are there with different q or slope: chance, or time, plays a part')
    if first.sum() < FEWEST:
        raise ValueError(f'there are {first.sum()} different weights, and it takes {FEWEST} at least; 4001 are plenty')
    w, q, *rest = table[first].T
    return Samples(w, q, rest[0] if rest else None, tuple(notes))


def clusters(q: np.ndarray) -> np.ndarray:
    """The different values among q in order, each the mean of those that float32 could not keep apart.

    Raises:
      ValueError: there is only one, or there are so many that nothing is rounded.
    """
    ordered = np.sort(q)
    span = ordered[-1] - ordered[0]
    starts = np.flatnonzero(np.append(True, np.diff(ordered) > _SAME * span))
    if span == 0:
        raise ValueError(f'q is {ordered[0] + 0.0:g} at every sample: sample weights on both sides of a threshold')
    if starts.size > min(MOST_VALUES, _CROWDED * q.size):
        raise ValueError(
            f'q has {starts.size} different values in {q.size} samples: it is noisy or not rounded, or the samples are '
            f'too few; it takes at most {MOST_VALUES} values with 4 samples each'
        )
    counts = np.diff(np.append(starts, q.size))
    return np.add.reduceat(ordered, starts) / counts


def _numbers(name: str, column) -> np.ndarray:
    try:
        if not np.iscomplexobj(column):
            return np.asarray(column, np.float64).ravel()
    except (TypeError, ValueError):
        pass
    raise ValueError(f'{name} must be an array of real numbers')
