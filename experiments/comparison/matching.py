"""Which weights are compared: those of A that are quantized, and under which name B has each."""

import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.comparison.series import Series
from experiments.comparison.snapshots import CODES, FLOATS, STEP, Header
from experiments.errors import UserError

_ANY = '*'


class Layer(NamedTuple):
    """A weight in both series.

    Attributes:
      name: in A.
      name_in_b: in B.
      shape: of it.
    """

    name: str
    name_in_b: str
    shape: tuple[int, ...]


def layers(a: Series, b: Series, quantized: Sequence[str], renamed: Sequence[str]) -> tuple[list[Layer], bool]:
    """Returns the weights to compare, in the order of A's first snapshot, and whether they are codes in both.

    Args:
      a: one series.
      b: the other.
      quantized: patterns of names in A, such as '*kernel'; none: all weights with two axes or more.
      renamed: 'NAME_IN_A=NAME_IN_B', both with one *, which stands for the same in both.

    Raises:
      UserError: there are none, or B lacks one or has it otherwise, or they are no numbers of a kind that is known.
    """
    ours, theirs = (next(iter(series.snapshots.values())).headers() for series in (a, b))
    names = [name for name, header in ours.items() if _chosen(name, header, quantized)]
    if not names:
        what = f'no name matches {", ".join(quantized)}' if quantized else 'no weight has two axes or more'
        shown = ', '.join(list(ours)[:4]) or 'nothing'
        raise UserError(f'{a.where}: {what}; it has {shown}; say which are quantized with --quantized=PATTERN')
    rules = [_rule(text) for text in renamed]
    found = [Layer(name, _name_in_b(name, rules), ours[name].shape) for name in names]
    for layer in found:
        check(a.where, ours, layer.name, layer.shape)
        check(b.where, theirs, layer.name_in_b, layer.shape)
    kinds = {header.dtype == CODES for layer in found for header in (ours[layer.name], theirs[layer.name_in_b])}
    if len(kinds) > 1:
        raise UserError(f'some arrays of {a.where} and {b.where} are codes ({CODES}) and some weights; give one kind')
    return found, kinds.pop()


def check(where: str, headers: Mapping[str, Header], name: str, shape: tuple[int, ...]) -> None:
    """Refuses a snapshot in which a weight is missing or another than it should be.

    Raises:
      UserError: with its name.
    """
    if name not in headers:
        raise UserError(
            f'{where} has no {name}; it has {", ".join(list(headers)[:3]) or "nothing"}; where B calls it otherwise, '
            'say --names A=B, such as --names "module.*=*"'
        )
    there, dtype = headers[name]
    if tuple(there) != shape:
        raise UserError(
            f'{where}: {name} has shape {tuple(there)}, and {shape} in the first of A; name its like with --names A=B'
        )
    if dtype not in (*FLOATS, CODES):
        raise UserError(f'{where}: {name} is {dtype}; weights are {", ".join(FLOATS)}, and codes {CODES}')
    if not shape or min(shape) < 1:
        raise UserError(
            f'{where}: {name} has shape {shape}, in which there are no weights; leave it out of --quantized'
        )


def weights(found: Sequence[Layer]) -> int:
    """How many weights layers have."""
    return sum(math.prod(layer.shape) for layer in found)


def _chosen(name: str, header: Header, patterns: Sequence[str]) -> bool:
    if patterns:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    return len(header.shape) >= 2 and name != STEP


def _rule(text: str) -> tuple[str, str]:
    ours, _, theirs = text.partition('=')
    if not (ours and theirs) or not ours.count(_ANY) == theirs.count(_ANY) <= 1:
        raise UserError(f'--names {text!r} must be NAME_IN_A=NAME_IN_B, both with one {_ANY} or none, as "module.*=*"')
    return ours, theirs


def _name_in_b(name: str, rules: Sequence[tuple[str, str]]) -> str:
    for ours, theirs in rules:
        before, any_, after = ours.partition(_ANY)
        fits = name.startswith(before) and name.endswith(after) and len(name) >= len(before + after)
        if fits if any_ else name == ours:
            return theirs.replace(_ANY, name[len(before) : len(name) - len(after)])
    return name
