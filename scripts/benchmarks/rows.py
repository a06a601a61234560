"""What a benchmark finds, a row a figure, and how two programs are timed against each other.

A benchmark is a function `rows(effort) -> rows`; a module lists its own by name in `BENCHMARKS`. Nothing is built or
compiled before the function is called.
"""

import dataclasses
import pathlib
import statistics
import time
from collections.abc import Callable, Iterable


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure of the table.

    Attributes:
      name: unique among all rows; it begins with the name of its benchmark.
      what: it is, for people.
      samples: measured one after the other; their median counts. A figure that is counted has one.
      limit: it should keep; None where it is only reported.
      at_least: whether the limit is one from below.
      details: what it was computed from, for the JSON file.
    """

    name: str
    what: str
    samples: list[float]
    limit: float | None = None
    at_least: bool = False
    details: dict = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict:
        """The row of the JSON file."""
        median, kept, bound = statistics.median(self.samples), None, None
        if self.limit is not None:
            kept = median >= self.limit if self.at_least else median <= self.limit
            bound = 'at least' if self.at_least else 'at most'
        return {
            'name': self.name,
            'what': self.what,
            'median': median,
            'limit': self.limit,
            'bound': bound,
            'kept': kept,
            'samples': self.samples,
            'details': self.details,
        }


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much to measure: the rounds of a row, the training steps of a round, and where ImageNet lies."""

    rounds: int
    steps: int
    data_dir: pathlib.Path | None = None


Benchmark = Callable[[Effort], Iterable[Row]]


def seconds(program: Callable[[], object]) -> float:
    """What the program takes."""
    start = time.perf_counter()
    program()
    return time.perf_counter() - start


def ratios(measured: Callable[[], object], baseline: Callable[[], object], rounds: int) -> list[float]:
    """The ratio of their times in every round, A B A B ..., because absolute times on a shared machine mean nothing.

    A first round, which warms up, is left out.
    """
    return [seconds(measured) / seconds(baseline) for _ in range(rounds + 1)][1:]
