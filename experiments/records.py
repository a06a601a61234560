"""What a run leaves in its workdir for other programs: JSON files and TensorBoard events."""

import json
import os
import pathlib
import statistics
from collections.abc import Mapping

from tensorboardX import SummaryWriter

from configs import common
from experiments.errors import UserError

_MAY_DIFFER = {'corrupt_images'}  # of a run that continues: what it has seen so far is the same
ORIGIN = 'origin.json'  # of a run that experiments.convert began in the middle of another
CORRELATIONS = {'validation_accuracy_correlation': 'eval/accuracy', 'validation_loss_correlation': 'eval/loss'}


def write_json(path: pathlib.Path, content: Mapping) -> None:
    """Writes JSON so that a reader sees the old file or the whole new one, never half."""
    partial = path.with_name(f'.{path.name}.partial')
    partial.write_text(json.dumps(content, indent=2, allow_nan=False) + '\n')
    os.replace(partial, path)


def read_json(path: pathlib.Path) -> dict:
    """Reads JSON that a run wrote.

    Raises:
      UserError: not a JSON object.
    """
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise ValueError('not an object')
        return content
    except (OSError, ValueError) as error:
        raise UserError(f'cannot read {path}: {error}') from None


def read_rows(workdir: pathlib.Path) -> list[dict]:
    """The rows of metrics.jsonl, in order; empty where there is none."""
    path = workdir / 'metrics.jsonl'
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def check_same_run(workdir: pathlib.Path, config: Mapping) -> None:
    """Refuses a workdir that holds a run with another config.

    Raises:
      UserError: with the keys that differ.
    """
    path = workdir / 'config.json'
    if not path.exists():
        return
    there = {**common.get_config().to_dict(), **read_json(path)}  # a key may be newer than the run
    keys = [key for key in {**there, **config} if there.get(key) != config.get(key) and key not in _MAY_DIFFER]
    if keys:
        raise UserError(
            f'workdir {workdir} holds a run with another config; these keys differ: {", ".join(keys)}. '
            'Choose another --workdir'
        )


def check_same_processes(workdir: pathlib.Path, processes: int) -> None:
    """Refuses to continue with another number of processes: the order of streamed data depends on it.

    Raises:
      UserError: with both numbers.
    """
    path = workdir / 'environment.json'
    before = read_json(path).get('processes', processes) if path.exists() else processes
    if before != processes:
        raise UserError(f'workdir {workdir} was begun by {before} process(es), not {processes}: start as many again')


def first_step(workdir: pathlib.Path) -> int:
    """The updates that were made before the run began: 0, unless it was converted from another."""
    path = workdir / ORIGIN
    return read_json(path)['step'] if path.exists() else 0


class NoRecords:
    """What the processes that write no files have in place of `Records`."""

    def __init__(self):
        self.rows = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def append(self, row: Mapping) -> None:
        """Keeps a row."""
        self.rows.append(dict(row))


class Records(NoRecords):
    """metrics.jsonl and its copy for TensorBoard, one row an evaluation.

    A run that continues from a step forgets the rows after it, for it will write them again; one that begins at
    step 0 forgets all.

    Args:
      workdir: of the run.
      step: updates made so far.
      every: steps between rows.

    Raises:
      UserError: a row of an earlier step is missing, or every checkpoint, so that the run could not end whole.
    """

    def __init__(self, workdir: pathlib.Path, step: int, every: int):
        self.path = workdir / 'metrics.jsonl'
        first_to_come = step + 1 if step else 0
        self.rows = [row for row in read_rows(workdir) if row['step'] < first_to_come]
        begun = first_step(workdir)
        if step < begun:
            raise UserError(f'{workdir} began at step {begun}, and no checkpoint is there any more: convert again')
        due = {row for row in range(0, first_to_come, every) if row > begun or begun == 0}
        lost = due - {row['step'] for row in self.rows}
        if lost:
            raise UserError(f'{self.path} has no row of step {min(lost)}, but a checkpoint of step {step} is there')
        self.path.write_text(''.join(map(_line, self.rows)))
        self._tensorboard = SummaryWriter(str(workdir / 'tensorboard'), purge_step=first_to_come)

    def __exit__(self, *_):
        self._tensorboard.close()

    def append(self, row: Mapping) -> None:
        """Writes a row."""
        super().append(row)
        with self.path.open('a') as file:
            file.write(_line(row))
        for key, value in row.items():
            if key != 'step' and value is not None:
                self._tensorboard.add_scalar(key, value, row['step'])


def _line(row: Mapping) -> str:
    return json.dumps(row, allow_nan=False) + '\n'


def correlations(rows: list[dict], twin: str) -> dict[str, float | None]:
    """Pearson's correlation of a twin's evaluations with the reference's, over all rows."""
    return {
        name: _pearson([row[key] for row in rows], [row[f'{twin}/{key.replace("/", "_")}'] for row in rows])
        for name, key in CORRELATIONS.items()
    }


def _pearson(x: list, y: list) -> float | None:
    pairs = [pair for pair in zip(x, y) if None not in pair]
    try:
        # Not numpy's: its sums depend on where an array happens to lie in memory, in the last bit.
        return max(-1.0, min(1.0, statistics.correlation(*zip(*pairs))))
    except (statistics.StatisticsError, TypeError):  # a constant, or fewer than two pairs
        return None
