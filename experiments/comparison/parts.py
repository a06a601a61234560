"""Layers cut into parts, whatever their shape, and parts put together to groups that fit into memory.

A layer is cut into regions first, which share no range with each other, and these into parts, each of which lies in one
piece in a file: of the axes of a part, one at most is cut, those before it have one entry, and those behind are whole.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from experiments.comparison.matching import Layer, check
from experiments.comparison.snapshots import CODES, Snapshot, Wanted
from experiments.errors import UserError
from qat.grids import quantizer

GROUP = 2**21  # weights that are followed at once; each takes about 300 bytes
_RECORDED = quantizer(8)  # for codes that are read: its values stand for them, and round to them again

Index = tuple[range, ...]  # along every axis


class Part(NamedTuple):
    """Some weights of a layer.

    Attributes:
      layer: whose.
      index: where in it they are.
      region: where the weights are on which their ranges depend.
    """

    layer: Layer
    index: Index
    region: Index

    @property
    def size(self) -> int:
        """How many weights it has."""
        return math.prod(map(len, self.index))


def of_layer(layer: Layer, largest: int, least: Sequence[int]) -> Iterator[Part]:
    """Parts with so many weights at most, region by region.

    Args:
      layer: that is cut.
      largest: weights of a part.
      least: widths of the smallest region, along every axis.
    """
    whole = tuple(map(range, layer.shape))
    for region in _boxes(whole, _widths(layer.shape, least, layer.shape, largest)):
        yield from cut(layer, region, largest)


def cut(layer: Layer, region: Index, largest: int) -> Iterator[Part]:
    """The parts of a region, with so many weights at most."""
    widths = _widths(layer.shape, [1] * len(region), [*map(len, region)], largest)
    return (Part(layer, index, region) for index in _boxes(region, widths))


def groups(
    layers: Iterable[Layer], largest: int, least: Callable[[Layer], Sequence[int]] = lambda layer: layer.shape
) -> Iterator[list[Part]]:
    """All parts of all layers, in order; together those of a group have so many weights at most."""
    group, size = [], 0
    for part in itertools.chain.from_iterable(of_layer(layer, largest, least(layer)) for layer in layers):
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
        check(snapshot.path, headers, name, part.layer)
    found = snapshot.read([Wanted(name, _slices(part.index)) for name, part in zip(names, parts)])
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


def _widths(shape: Sequence[int], least: Sequence[int], most: Sequence[int], largest: int) -> list[int]:
    """Widths of boxes of about one size: multiples of the least, with so many weights at most or else the least."""
    found, room = [], largest
    for side, low, high in reversed([*zip(shape, least, most)]):
        count = -(-high // max(low, room // low * low))
        found.append(min(high, -(-high // (count * low)) * low))
        room = room // found[-1] if found[-1] == side else 0  # before an axis that is cut, one entry after the other
    return found[::-1]


def _boxes(whole: Index, widths: Sequence[int]) -> Iterator[Index]:
    starts = (range(0, len(along), width) for along, width in zip(whole, widths))
    for corner in itertools.product(*starts):
        yield tuple(along[start : start + width] for along, start, width in zip(whole, corner, widths))


def _slices(index: Index) -> tuple[slice, ...]:
    return tuple(slice(along.start, along.stop) for along in index)
