"""What a measurement is given, and how times are taken.

A measurement is a function of a session, to which it adds figures. It builds and compiles nothing before it is called.
"""

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable

from scripts.measuring.figures import Figure, Record


@dataclasses.dataclass
class Session:
    """Where the figures go, how much is measured, and how long it may take.

    Attributes:
      record: of figures.
      rounds: samples of a figure of times.
      steps: training steps of a sample.
      tiny: whether sizes are those for trying a measurement on two cores of a CPU.
      until: when all must be over, in seconds of `time.time`.
      data: what the command line gives: a data set, of a kind that the measurement knows; None without.
    """

    record: Record
    rounds: int
    steps: int
    tiny: bool = False
    until: float = math.inf
    data: pathlib.Path | None = None

    def add(self, name: str, what: str, samples: list[float], unit: str = '', **options) -> None:
        """Records a figure, see `Figure`."""
        self.record.add(Figure(name, what, samples, unit, **options))

    def compare(self, name: str, what: str, measured: Callable, baseline: Callable, **options) -> None:
        """Records the ratio of the times of two programs, both built already."""
        self.add(name, what, ratios(measured, baseline, self.rounds), **options)

    def fits(self, name: str, seconds: float) -> bool:
        """Whether something of so many seconds still fits; what does not is left out by name."""
        return self.record.fits(name, seconds, self.until - time.time())

    def sized(self, workload):
        """The workload, or where sizes are tiny the tiny one of its model."""
        return workload.tiny() if self.tiny else workload


def seconds(program: Callable[[], object]) -> float:
    """What the program takes."""
    start = time.perf_counter()
    program()
    return time.perf_counter() - start


def timed(program: Callable[[], object], rounds: int) -> list[float]:
    """What the program takes, in seconds, in every round after a first one, which warms up."""
    return [seconds(program) for _ in range(rounds + 1)][1:]


def ratios(measured: Callable[[], object], baseline: Callable[[], object], rounds: int) -> list[float]:
    """The ratio of their times in every round, A B A B ..., because absolute times on a shared machine mean nothing.

    A first round, which warms up, is left out.
    """
    return [seconds(measured) / seconds(baseline) for _ in range(rounds + 1)][1:]


def halving(size: int, measure: Callable[[int], None]) -> None:
    """Measures at the largest of `size`, its half, its quarter ... that fits into the device's memory."""
    while True:
        try:
            return measure(size)
        except Exception as error:
            if not out_of_memory(error) or size == 1:
                raise
            size //= 2


def out_of_memory(error: Exception) -> bool:
    """Whether that is why something failed; jax has no class for it."""
    return 'RESOURCE_EXHAUSTED' in str(error) or 'out of memory' in str(error).lower()
