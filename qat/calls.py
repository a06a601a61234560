"""Choices written as calls, `dsq(k=6.5)`: parsed, never evaluated, and checked against what they name."""

import ast
import dataclasses
import difflib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping


@dataclasses.dataclass(frozen=True)
class Interval:
    """The domain of a numeric parameter; an end is excluded unless its flag is set."""

    low: float
    high: float
    low_included: bool = False
    high_included: bool = False

    def __contains__(self, x) -> bool:
        if type(x) not in (int, float) or abs(x) > sys.float_info.max:  # an int may be larger than any float
            return False
        above = self.low <= x if self.low_included else self.low < x
        below = x <= self.high if self.high_included else x < self.high
        return above and below

    def __str__(self):
        return f'{"[" if self.low_included else "("}{self.low:g}, {self.high:g}{"]" if self.high_included else ")"}'


def parse(text: str) -> tuple[str, dict]:
    """Splits `name(key=literal, ...)` into the name and its arguments; `name` alone has none.

    Raises:
      ValueError: not of that form, a positional argument, or a value that is no Python literal.
    """
    name, parenthesis, rest = text.strip().partition('(')
    if not parenthesis:
        return name, {}
    try:
        call = ast.parse(f'f({rest}', mode='eval').body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError
        arguments = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise ValueError(f'cannot read {text!r}: write name(key=value, ...) with literal values') from None
    if None in arguments:
        raise ValueError(f'cannot read {text!r}: ** is not allowed')
    return name.strip(), arguments


def write(name: str, arguments: Mapping) -> str:
    """The inverse of `parse`. What is no literal, such as a function that is a default, cannot be written: left out."""
    written = [f'{key}={value!r}' for key, value in arguments.items() if _is_literal(value)]
    return f'{name}({", ".join(written)})' if written else name


def _is_literal(value) -> bool:
    try:
        return ast.literal_eval(repr(value)) == value
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return False


def bind(
    kind: str,
    function: Callable,
    given: Mapping,
    domains: Mapping[str, Interval],
    reserved: Iterable[str] = (),
    *,
    leading: int = 1,
) -> dict:
    """All arguments of `function` that can be given by name, but for the leading and the reserved ones.

    Raises:
      ValueError: an argument the function does not take or lacks, or a value outside its domain.
    """
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    declared = {
        key: parameter.default
        for place, (key, parameter) in enumerate(inspect.signature(function).parameters.items())
        if parameter.kind in by_name and place >= leading and key not in reserved
    }
    for key in given:
        if key not in declared:
            raise ValueError(unknown(f'argument of {kind}', key, declared))
    arguments = {**declared, **given}
    for key, value in arguments.items():
        if value is inspect.Parameter.empty:
            raise ValueError(f'{kind} needs a value for {key!r}')
        if key in domains and value is not None and value not in domains[key]:
            raise ValueError(f'{kind}: {key} must be a number in {domains[key]}, got {value!r}')
        if isinstance(declared[key], bool) and not isinstance(value, bool):
            raise ValueError(f'{kind}: {key} must be True or False, got {value!r}')
    return arguments


def unknown(kind: str, name: str, valid: Iterable[str]) -> str:
    """A one-line message for `name`, which is none of the `valid` names: the nearest one, then all."""
    valid = list(valid)
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    hint = f'did you mean {near[0]!r}? ' if near else ''
    return f'unknown {kind} {name!r}: {hint}valid: {", ".join(valid) or "none"}'
