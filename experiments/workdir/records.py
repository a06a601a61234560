"""What a run records as it goes, the rows of metrics.jsonl, and what a workdir says of its beginning."""

import os
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence

from experiments.errors import UserError
from experiments.workdir.events import Events
from experiments.workdir.files import read_json, write_text
from experiments.workdir.rows import ROWS, text

ORIGIN = 'origin.json'  # marks a run that experiments.convert began in the middle of another
CORRELATIONS = {'validation_accuracy_correlation': 'eval/accuracy', 'validation_loss_correlation': 'eval/loss'}


def check_same_processes(workdir: pathlib.Path, processes: int) -> None:
    """Refuses to continue with another number of processes: the order of streamed data depends on it.

    Raises:
      UserError: naming both numbers.
    """
    path = workdir / 'environment.json'
    before = read_json(path).get('processes', processes) if path.exists() else processes
    if before != processes:
        raise UserError(f'workdir {workdir} was begun by {before} process(es), not {processes}: start as many again')


def first_step(workdir: pathlib.Path) -> int:
    """Returns the updates made before the run began: 0, unless it was converted from another run."""
    path = workdir / ORIGIN
    step = read_json(path).get('step') if path.exists() else 0
    if type(step) is not int or step < 0:
        raise UserError(f'{path}: its step must be a number of updates, got {step!r}; put back what convert wrote')
    return step


class NoRecords:
    """The rows in memory only, for processes that write no files."""

    def __init__(self):
        self.rows = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def append(self, row: Mapping) -> None:
        """Adds a row."""
        self.rows.append(dict(row))


class Records(NoRecords):
    """The rows in metrics.jsonl, one for each evaluation, and their copy for TensorBoard.

    Args:
      workdir: the workdir of the run.
      rows: those so far, which become all that the file holds: a run that continues writes later ones again.
      check: raises if the workdir is not this run's any more; called before each write.
    """

    def __init__(self, workdir: pathlib.Path, rows: Sequence[Mapping], check: Callable[[], None]):
        check()
        self.path, self.rows, self._check = workdir / ROWS, list(rows), check
        write_text(self.path, text(self.rows))
        self._events = Events(workdir / 'tensorboard', self.rows[-1]['step'] + 1 if self.rows else 0)

    def __exit__(self, *_):
        self._events.close()

    def append(self, row: Mapping) -> None:
        """Writes a row to the disk."""
        self._check()
        super().append(row)
        with self.path.open('a', encoding='utf-8') as file:
            file.write(text([row]))
            file.flush()
            os.fsync(file.fileno())  # the row must be there before the checkpoint of its step
        self._events.append(row)


def correlations(rows: list[dict], twin: str) -> dict[str, float | None]:
    """Returns, by metric, the Pearson correlation of a twin's evaluations with the reference's, over all rows.

    It is None where it is not defined: for fewer than two rows, and for constants.
    """
    return {
        name: _pearson([row[key] for row in rows], [row[f'{twin}/{key.replace("/", "_")}'] for row in rows])
        for name, key in CORRELATIONS.items()
    }


def _pearson(x: list, y: list) -> float | None:
    pairs = [pair for pair in zip(x, y) if None not in pair]
    try:
        # Not numpy's: its sums depend on where an array happens to lie in memory, in the last bit.
        return max(-1.0, min(1.0, statistics.correlation(*zip(*pairs))))
    except (statistics.StatisticsError, TypeError):  # the values are constant, or fewer than two
        return None
