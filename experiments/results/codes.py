"""What became of the codes of a run: which weights flip, which are dead, and how many have each code at the end."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from qat.lockstep.twins import REFERENCE

_MOST_CODES = 16  # in a table that can be read
_MOST_LAYERS = 12
_NEVER_FLIPPED = 'never_flipped'


class Codes(NamedTuple):
    """Of one run; None where it was not measured: without change points, or by an older version.

    Attributes:
      flips: changes of code, over all weights and steps.
      never_flipped: the share of the weights whose code never changed.
      shares: of the weights, by code, at the end; empty where layers differ in their codes, or have too many to show.
    """

    flips: int | None
    never_flipped: float | None
    shares: Sequence[float]


def by_run(twins: Mapping[str, Mapping]) -> dict[str, Codes]:
    """Returns the reference's and every twin's, from the twins' metrics in summary.json."""
    first = next(iter(twins.values()))  # each twin's metrics have the reference's too
    return {REFERENCE: _codes(first, 'reference'), **{name: _codes(of, 'twin') for name, of in twins.items()}}


def _codes(metrics: Mapping, side: str) -> Codes:
    shares = metrics.get(f'code_shares_{side}') or []
    shown = shares if len(shares) <= _MOST_CODES else []
    return Codes(metrics.get(f'flips_{side}'), metrics.get(f'{_NEVER_FLIPPED}_{side}'), shown)


def never_flipped_by_layer(last: Mapping, twins: Sequence[str]) -> dict[str, list[float | None]]:
    """Returns by layer the share of dead weights in the reference and in every twin; nothing where layers are many.

    Args:
      last: the last row of metrics.jsonl.
      twins: their names.
    """
    prefix, suffix = f'{twins[0]}/', f'/{_NEVER_FLIPPED}_reference'
    found = [key for key in last if key.startswith(prefix) and key.endswith(suffix) and key.count('/') >= 2]
    layers = [key.removeprefix(prefix).removesuffix(suffix) for key in found]
    if len(layers) > _MOST_LAYERS:
        return {}
    return {
        layer: [
            last[f'{prefix}{layer}{suffix}'],
            *(last.get(f'{twin}/{layer}/{_NEVER_FLIPPED}_twin') for twin in twins),
        ]
        for layer in layers
    }
