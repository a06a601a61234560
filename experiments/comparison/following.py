"""Two series followed step by step, group of parts by group, as a run follows its twin."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.comparison import parts
from experiments.comparison.matching import Layer
from experiments.comparison.series import Pair
from experiments.comparison.shared_ranges import SharedRange
from experiments.comparison.snapshots import Snapshot
from qat.estimators import Estimator
from qat.lockstep.tracking import Followed, Tracker
from qat.quantizers import Quantizer
from qat.theory.weight_map import WeightMap

UNMAPPED, MAPPED = 'unmapped', 'mapped'  # A as it is, and through M
_A, _B = 'a', 'b'
# Sums that codes do not have, of which nobody says how many there are.
_OF_WEIGHTS = ('distance', 'path', 'displacement', 'path_in_step_sizes', 'codes_reference', 'codes_twin')

Sums = dict[str, dict[str, list[dict]]]  # by UNMAPPED or MAPPED, by layer: what `trajectory.summarize` takes


class Rounding(NamedTuple):
    """How weights become codes.

    Attributes:
      quantizer: of both series.
      range: of both; None where the series are codes.
      estimator: whose M the weights of A go through; None: they are compared as they are alone.
    """

    quantizer: Quantizer
    range: SharedRange | None
    estimator: Estimator | None


def follow(
    pair: Pair, layers: Sequence[Layer], rounding: Rounding, measured: Sequence[int], largest: int = parts.GROUP
) -> dict[int, Sums]:
    """Returns the sums at the measured steps.

    Args:
      pair: the series.
      layers: that are compared.
      rounding: how.
      measured: steps of the pair.
      largest: how many weights are followed at once, which memory is proportional to.

    Raises:
      UserError: a snapshot cannot be read or is not like the first, or a range is not positive.
    """
    labels = [UNMAPPED, *([MAPPED] if rounding.estimator else [])]
    found = {step: {label: {layer.name: [] for layer in layers} for label in labels} for step in measured}
    first, snapshot = next(iter(pair.a.items()))
    for group, ranges in ranged(snapshot, first, layers, rounding.range, largest):
        for step, by_label in _followed(pair, group, ranges, rounding, frozenset(measured)):
            for label, of_parts in by_label.items():
                for part, sums in zip(group, of_parts):
                    found[step][label][part.layer.name].append(sums)
    return found


def ranged(
    snapshot: Snapshot, step: int, layers: Sequence[Layer], how: SharedRange | None, largest: int
) -> Iterator[tuple[list[parts.Part], list[np.ndarray]]]:
    """Yields the groups of parts, each with the ranges that its weights have by those of a snapshot.

    Args:
      snapshot: the first of A.
      step: its.
      layers: that are compared.
      how: ranges are found; None: they hold codes.
      largest: weights in a group.

    Raises:
      UserError: the snapshot cannot be read, or a range is not positive or does not fit a layer.
    """

    def in_parts(layer: Layer, region: parts.Index) -> np.ndarray:
        read = (parts.read(snapshot, step, [part], is_b=False)[0] for part in parts.cut(layer, region, largest))
        return how.of_parts(layer.name, layer.shape, read)

    shared = functools.lru_cache(maxsize=1)(in_parts)  # parts of a region come one after the other
    least = functools.partial(_least, how)
    for group in parts.groups(layers, largest, least):
        weights = parts.read(snapshot, step, group, is_b=False)
        yield group, [_range(how, part, of_part, shared) for part, of_part in zip(group, weights)]


def _least(how: SharedRange | None, layer: Layer) -> Sequence[int]:
    return how.least(layer.name, layer.shape) if how else layer.shape


def _range(how: SharedRange | None, part: parts.Part, weights: np.ndarray, shared: Callable) -> np.ndarray:
    if how is None:
        return np.float32(1)
    if part.index == part.region:
        return how.of(part.layer.name, weights)
    return shared(part.layer, part.region)


def _followed(pair: Pair, group, ranges, rounding: Rounding, measured: frozenset) -> Iterator[tuple[int, dict]]:
    """At every measured step, by label: the sums of every part of a group."""
    names = [str(number) for number in range(len(group))]  # parts of equal shapes share their programs
    begin, advance, measure = _programs(len(group), rounding.quantizer, rounding.estimator)
    R = dict(zip(names, map(jnp.asarray, ranges)))
    first, tracking, before = next(iter(pair.a)), None, None
    for step in pair.a:
        here = {
            run: dict(zip(names, map(jnp.asarray, parts.read(snapshots[step], step, group, is_b=run == _B))))
            for run, snapshots in ((_A, pair.a), (_B, pair.b))
        }
        updates = jnp.int32(step - first)
        tracking = advance(tracking, before, here, R, updates) if tracking else begin(here, R)
        jax.block_until_ready(tracking)  # or what is read would wait for it in memory, step after step
        before = here[_B]
        if step in measured:
            sums = jax.device_get(measure(tracking, here, R, updates))
            yield step, {label: [_kept(by_part[name], rounding) for name in names] for label, by_part in sums.items()}


def _kept(sums: Mapping[str, np.ndarray], rounding: Rounding) -> dict[str, np.ndarray]:
    return {key: value for key, value in sums.items() if rounding.range or key not in _OF_WEIGHTS}


@functools.lru_cache(maxsize=16)
def _programs(count: int, quantizer: Quantizer, estimator: Estimator | None) -> tuple[Callable, Callable, Callable]:
    """Compiled for so many parts: begin, advance and measure of `Tracker`, the last by label."""
    names = [str(number) for number in range(count)]
    maps = {UNMAPPED: lambda weights, R: weights} | ({MAPPED: WeightMap(estimator)} if estimator else {})
    trackers = {
        label: Tracker(
            dict.fromkeys(names, quantizer),
            _A,
            {_B: dict.fromkeys(names, through)},
            dict.fromkeys(names, lambda weights, R: R),
            change_points=True,
        )
        for label, through in maps.items()
    }

    def runs(weights, R):
        return {run: Followed(of_run, R) for run, of_run in weights.items()}

    def begin(weights, R):
        return trackers[UNMAPPED].begin(runs(weights, R))

    def advance(tracking, before, weights, R, step):
        return trackers[UNMAPPED].advance(tracking, {_B: Followed(before, R)}, runs(weights, R), R, step)

    def measure(tracking, weights, R, step):
        return {label: tracker.measure(tracking, runs(weights, R), R, step)[_B] for label, tracker in trackers.items()}

    return jax.jit(begin), jax.jit(advance, donate_argnums=0), jax.jit(measure)
