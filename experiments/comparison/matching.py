"""Which weights are compared: those of A that are quantized, and under which name B has each."""

import difflib
import fnmatch
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from experiments.comparison.series import Series
from experiments.comparison.snapshots import CODES, FLOATS, STEP, Header
from experiments.errors import UserError
from experiments.terminal import note

_ANY = '*'


class Layer(NamedTuple):
    """A weight in both series.

    Attributes:
      name: in A.
      name_in_b: in B.
      shape: of it.
      are_codes: whether its weights were saved as codes.
    """

    name: str
    name_in_b: str
    shape: tuple[int, ...]
    are_codes: bool = False


def layers(a: Series, b: Series, quantized: Sequence[str], renamed: Sequence[str]) -> tuple[list[Layer], bool]:
    """Returns the weights to compare, in the order of A's first snapshot, and whether they are codes in both.

    Args:
      a: one series.
      b: the other.
      quantized: patterns of names in A, such as '*kernel'; none: all weights with two axes or more.
      renamed: 'NAME_IN_A=NAME_IN_B', both with one *, which stands for the same in both.

    Raises:
      UserError: there are none, or B lacks one or has it otherwise, or they are not of one kind that is known, or a
        name that is given for B is of nothing in A.
    """
    first, first_of_b = (next(iter(series.snapshots.values())) for series in (a, b))
    ours, theirs = first.headers(), first_of_b.headers()
    names = [name for name, header in ours.items() if _chosen(name, header, quantized)]
    if not names:
        what = f'no name matches {", ".join(quantized)}' if quantized else 'no weight has two axes or more'
        shown = ', '.join(list(ours)[:4]) or 'nothing'
        raise UserError(f'{a.where}: {what}; it has {shown}; say which are quantized with --quantized=PATTERN')
    rules = [_rule(text, ours) for text in renamed]
    if vectors := [name for name in names if len(ours[name].shape) < 2]:
        note(f'1-axis weight included: {", ".join(vectors)}; --quantized chooses')
    are_codes = ours[names[0]].dtype == CODES
    found = [Layer(name, _name_in_b(name, rules), ours[name].shape, are_codes) for name in names]
    for layer in found:
        check(first.path, ours, layer.name, layer)
        check(first_of_b.path, theirs, layer.name_in_b, layer)
    return found, are_codes


def check(path: pathlib.Path, headers: Mapping[str, Header], name: str, layer: Layer) -> None:
    """Refuses a snapshot in which a weight is missing or another than it should be.

    Raises:
      UserError: with its name.
    """
    if name not in headers:
        has, advice = ', '.join(list(headers)[:3]) or 'nothing', _advice(layer.name, headers)
        raise UserError(f'{path} has no {name}; it has {has}; {advice}, or leave it out by --quantized=PATTERN')
    there, dtype = headers[name]
    shape = layer.shape
    if tuple(there) != shape:
        raise UserError(
            f'{path}: {name} has shape {tuple(there)}, and {shape} in the first of A; name its like with --names A=B'
        )
    if dtype not in (*FLOATS, CODES):
        raise UserError(f'{path}: {name} is {dtype}; weights are {", ".join(FLOATS)}, and codes {CODES}')
    if (dtype == CODES) != layer.are_codes:
        there, first = ('codes', 'weights') if dtype == CODES else ('weights', 'codes')
        raise UserError(
            f'{path}: {name} is {dtype}, {there}, and the first of A has {first}; give one kind in both series'
        )
    if not shape or min(shape) < 1:
        raise UserError(f'{path}: {name} has shape {shape}, in which there are no weights; leave it out of --quantized')


def _advice(name: str, headers: Iterable[str]) -> str:
    """How to say what B calls a weight of A: the pair that fits its names, where they differ in what stands before."""
    for there in headers:
        if there.endswith(name):
            return f"say --names '{_ANY}={there.removesuffix(name)}{_ANY}'"
        if name.endswith(there):
            return f"say --names '{name.removesuffix(there)}{_ANY}={_ANY}'"
    return 'where B calls it otherwise, say --names NAME_IN_A=NAME_IN_B'


def weights(found: Sequence[Layer]) -> int:
    """How many weights layers have."""
    return sum(math.prod(layer.shape) for layer in found)


def _chosen(name: str, header: Header, patterns: Sequence[str]) -> bool:
    if patterns:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    return len(header.shape) >= 2 and name != STEP


def _rule(text: str, names: Iterable[str]) -> tuple[str, str]:
    ours, _, theirs = text.partition('=')
    if not (ours and theirs) or not ours.count(_ANY) == theirs.count(_ANY) <= 1:
        raise UserError(f'--names {text!r} must be NAME_IN_A=NAME_IN_B, both with one {_ANY} or none, as "*=module.*"')
    if not any(_fits(name, ours) for name in names):
        near = difflib.get_close_matches(ours, names, n=3, cutoff=0)
        raise UserError(f'--names {text!r}: A has no {ours}; the nearest of its names are {", ".join(near)}')
    return ours, theirs


def _fits(name: str, pattern: str) -> bool:
    before, any_, after = pattern.partition(_ANY)
    if not any_:
        return name == pattern
    return name.startswith(before) and name.endswith(after) and len(name) >= len(before + after)


def _name_in_b(name: str, rules: Sequence[tuple[str, str]]) -> str:
    for ours, theirs in rules:
        if _fits(name, ours):
            before, _, after = ours.partition(_ANY)
            return theirs.replace(_ANY, name[len(before) : len(name) - len(after)])
    return name
