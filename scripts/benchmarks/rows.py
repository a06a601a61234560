"""What a benchmark finds, a row a figure, and how two programs are timed against each other.

Absolute times on a shared machine mean nothing, so two programs run in turn, A B A B, and the median of the
rounds' ratios counts.
"""

import dataclasses
import pathlib
import statistics
import time
from collections.abc import Callable, Iterable


@dataclasses.dataclass(frozen=True)
class Limit:
    """What a figure should stay below, or above."""

    value: float
    at_least: bool = False

    def keeps(self, figure: float) -> bool:
        """Whether this figure is within the limit."""
        return figure >= self.value if self.at_least else figure <= self.value

    def __str__(self):
        return f'{"≥" if self.at_least else "≤"} {self.value:g}'


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure of the table.

    Attributes:
      name: unique among all rows.
      what: it is, for people.
      samples: measured one after the other; their median counts. A figure that is counted has one.
      limit: it should keep; None where it is only reported.
      details: what it was computed from, for the JSON file.
    """

    name: str
    what: str
    samples: list[float]
    limit: Limit | None
    details: dict = dataclasses.field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def kept(self) -> bool | None:
        return None if self.limit is None else self.limit.keeps(self.median)

    def to_json(self) -> dict:
        """The row of the JSON file."""
        return {
            'name': self.name,
            'what': self.what,
            'median': self.median,
            'limit': self.limit and self.limit.value,
            'bound': self.limit and ('at least' if self.limit.at_least else 'at most'),
            'kept': self.kept,
            'samples': self.samples,
            'details': self.details,
        }


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much to measure: the rounds of a row, the training steps of a round, and where ImageNet lies."""

    rounds: int
    steps: int
    data_dir: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Something to choose with --only; nothing is built or compiled before `rows` is called."""

    name: str
    rows: Callable[[Effort], Iterable[Row]]


def seconds(program: Callable[[], object]) -> float:
    """What the program takes."""
    start = time.perf_counter()
    program()
    return time.perf_counter() - start


def ratios(measured: Callable[[], object], baseline: Callable[[], object], rounds: int) -> list[float]:
    """The ratio of their times in every round; a first round, which warms up, is left out."""
    return [seconds(measured) / seconds(baseline) for _ in range(rounds + 1)][1:]
