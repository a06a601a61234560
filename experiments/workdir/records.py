"""The rows of metrics.jsonl, their copy for TensorBoard, and what a workdir says of its beginning."""

import itertools
import json
import os
import pathlib
import re
import shutil
import statistics
from collections.abc import Container, Iterator, Mapping

from tensorboardX import SummaryWriter

from experiments.errors import UserError
from experiments.terminal import warn
from experiments.workdir.files import free_name, read_json, write_text

_ROWS = 'metrics.jsonl'
_STEP = re.compile(rb'^\{"step": (\d{1,18})\b', re.MULTILINE)
ORIGIN = 'origin.json'  # marks a run that experiments.convert began in the middle of another
CORRELATIONS = {'validation_accuracy_correlation': 'eval/accuracy', 'validation_loss_correlation': 'eval/loss'}


def read_rows(workdir: pathlib.Path) -> list[dict]:
    """Returns the rows of metrics.jsonl, in order, up to the first that cannot be read; none if there is no file."""
    return list(map(json.loads, _sound_lines(workdir / _ROWS)))


def _sound_lines(path: pathlib.Path) -> Iterator[bytes]:
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        try:
            whole = line.endswith(b'\n') and isinstance(json.loads(line)['step'], int)
        except (ValueError, LookupError, TypeError):
            whole = False
        if not whole:
            return
        yield line


def newest_step(workdir: pathlib.Path) -> int:
    """Returns the step of the last row of metrics.jsonl, read without parsing the rows; 0 where there is none."""
    try:
        steps = _STEP.findall((workdir / _ROWS).read_bytes())
    except OSError:
        return 0
    return int(steps[-1]) if steps else 0


def set_torn_rows_aside(workdir: pathlib.Path) -> None:
    """Keeps a copy of a metrics.jsonl that cannot be read to its end, for example after a crash, and warns."""
    path = workdir / _ROWS
    if path.exists() and path.read_bytes() != b''.join(_sound_lines(path)):
        aside = free_name(path.with_name(f'{_ROWS}.set-aside'))
        shutil.copyfile(path, aside)
        warn(f'{path} cannot be read to its end; what it was is in {aside.name}, what is lost is made again')


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
    return read_json(path)['step'] if path.exists() else 0


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

    When a run continues, the rows after its first step are dropped, because it writes them again.

    Args:
      workdir: the workdir of the run.
      step: updates made so far.
    """

    def __init__(self, workdir: pathlib.Path, step: int):
        self.path = workdir / _ROWS
        self.rows = [row for row in read_rows(workdir) if row['step'] <= step]
        write_text(self.path, ''.join(map(_line, self.rows)))
        self._tensorboard = SummaryWriter(
            str(workdir / 'tensorboard'), purge_step=self.rows[-1]['step'] + 1 if self.rows else 0
        )

    def __exit__(self, *_):
        self._tensorboard.close()

    def append(self, row: Mapping) -> None:
        """Writes a row to the disk."""
        super().append(row)
        with self.path.open('a') as file:
            file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())  # the row must be there before the checkpoint of its step
        for key, value in row.items():
            if key != 'step' and value is not None:
                self._tensorboard.add_scalar(key, value, row['step'])


def _line(row: Mapping) -> str:
    return json.dumps(row, allow_nan=False) + '\n'


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
