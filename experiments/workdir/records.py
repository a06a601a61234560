"""The rows of metrics.jsonl, and what a workdir says of its beginning."""

import itertools
import json
import os
import pathlib
import re
import shutil
import statistics
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence

from experiments.errors import UserError
from experiments.terminal import warn
from experiments.workdir.events import Events
from experiments.workdir.files import free_name, json_object, read_json, write_text

_ROWS = 'metrics.jsonl'
_STEP = re.compile(rb'^\{"step": (\d{1,18})\b', re.MULTILINE)
ORIGIN = 'origin.json'  # marks a run that experiments.convert began in the middle of another
CORRELATIONS = {'validation_accuracy_correlation': 'eval/accuracy', 'validation_loss_correlation': 'eval/loss'}


def read_rows(workdir: pathlib.Path) -> list[dict]:
    """Returns the rows of metrics.jsonl, in order, up to the first that no run wrote; none if there is no file."""
    return list(sound_rows(workdir / _ROWS))


def sound_rows(path: pathlib.Path) -> Iterator[dict]:
    """Yields the rows of a file up to the first that is torn, or that does not go on from the one before."""
    before = {'step': -1}
    for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else []:
        try:
            row = json_object(line) if line.endswith(b'\n') else {}
        except ValueError:
            row = {}
        if not (before.keys() <= row.keys() and all(map(_is_number, row.values())) and _follows(row, before)):
            return
        yield row
        before = row


def _is_number(value) -> bool:
    return value is None or (type(value) in (int, float) and abs(value) <= sys.float_info.max)


def _follows(row: Mapping, before: Mapping) -> bool:
    return type(row['step']) is int and row['step'] > before['step']


def newest_step(workdir: pathlib.Path) -> int:
    """Returns the step of the last row of metrics.jsonl, read without parsing the rows; 0 where there is none."""
    try:
        steps = _STEP.findall((workdir / _ROWS).read_bytes())
    except OSError:
        return 0
    return int(steps[-1]) if steps else 0


def set_aside(workdir: pathlib.Path, kept: Sequence[Mapping]) -> None:
    """Keeps a copy of a metrics.jsonl that is not as the run wrote it, for example after a crash, and warns.

    Args:
      workdir: of the run.
      kept: the rows from which the run goes on, which the file should begin with.
    """
    path = workdir / _ROWS
    if not path.exists():
        return
    there = read_rows(workdir)
    if there[: len(kept)] != list(kept) or path.read_bytes() != text(there).encode():
        aside = free_name(path.with_name(f'{_ROWS}.set-aside'))
        shutil.copyfile(path, aside)
        warn(f'{path} is not as the run wrote it; what it was is in {aside.name}, what is lost is made again')


def first_lost_row(there: Container[int], begun: int, every: int) -> int:
    """Returns the first step whose row is due and missing: a run can continue from that step or an earlier one.

    Args:
      there: the steps that have rows.
      begun: updates made before the run began.
      every: steps between rows.
    """
    first_due = begun // every * every + every if begun else 0
    return next(step for step in itertools.count(first_due, every) if step not in there)


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
        self.path, self.rows, self._check = workdir / _ROWS, list(rows), check
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


def text(rows: Sequence[Mapping]) -> str:
    """Returns rows as the content of a file."""
    return ''.join(json.dumps(row, allow_nan=False) + '\n' for row in rows)


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
