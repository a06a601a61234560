"""Layers cut along their first axis into parts, and parts put together to groups that fit into memory."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from experiments.comparison.matching import Layer, check
from experiments.comparison.snapshots import CODES, Snapshot, Wanted
from experiments.errors import UserError
from qat.grids import quantizer

GROUP = 2**21  # weights that are followed at once; each takes about 300 bytes
_RECORDED = quantizer(8)  # for codes that are read: its values stand for them, and round to them again


class Part(NamedTuple):
    """Some rows of a layer.

    Attributes:
      layer: whose.
      rows: of its first axis.
    """

    layer: Layer
    rows: slice

    @property
    def size(self) -> int:
        """How many weights it has."""
        return (self.rows.stop - self.rows.start) * math.prod(self.layer.shape[1:])


def fits(layer: Layer, largest: int) -> bool:
    """Whether a layer is one part."""
    return layer.shape[0] == 1 or math.prod(layer.shape) <= largest


def of_layer(layer: Layer, largest: int) -> Iterator[Part]:
    """Parts with so many weights at most, or one row."""
    count, size = layer.shape[0], math.prod(layer.shape[1:])
    rows = max(1, largest // size)
    if rows < count:
        rows = 2 ** (rows.bit_length() - 1)  # blocks of rows that share a scale stay whole
    return (Part(layer, slice(start, min(start + rows, count))) for start in range(0, count, rows))


def groups(layers: Iterable[Layer], largest: int) -> Iterator[list[Part]]:
    """All parts of all layers, in order; together those of a group have so many weights at most, or are one part."""
    group, size = [], 0
    for part in itertools.chain.from_iterable(of_layer(layer, largest) for layer in layers):
        if group and size + part.size > largest:
            yield group
            group, size = [], 0
        group, size = [*group, part], size + part.size
    yield group


def read(snapshot: Snapshot, step: int, parts: Sequence[Part], *, is_b: bool) -> list[np.ndarray]:
    """Returns these parts of the weights at a step, float32; codes as the values of 8 bits where the range is 1.

    Raises:
      UserError: the snapshot cannot be read, lacks one, has it otherwise, or has a number that is not finite.
    """
    headers = snapshot.headers()
    names = [part.layer.name_in_b if is_b else part.layer.name for part in parts]
    for name, part in zip(names, parts):
        check(str(snapshot.path), headers, name, part.layer.shape)
    found = snapshot.read([Wanted(name, (part.rows,)) for name, part in zip(names, parts)])
    return [_numbers(snapshot, step, name, array, headers[name].dtype == CODES) for name, array in zip(names, found)]


def _numbers(snapshot: Snapshot, step: int, name: str, array: np.ndarray, are_codes: bool) -> np.ndarray:
    if are_codes:
        return np.asarray(_RECORDED.values(array, np.float32(1)))
    with np.errstate(over='ignore'):
        numbers = np.asarray(array, np.float32)
    if not np.isfinite(numbers).all():
        bad = numbers[~np.isfinite(numbers)][0]
        raise UserError(f'{snapshot.path}: {name} has {bad} at step {step}; compare the snapshots before that')
    return numbers
