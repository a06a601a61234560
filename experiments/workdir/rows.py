"""The rows of metrics.jsonl as they are read and written: each goes on from the one before."""

import itertools
import json
import pathlib
import re
import shutil
from collections.abc import Container, Iterator, Mapping, Sequence

import numpy as np

from experiments.terminal import warn
from experiments.workdir.files import free_name, json_object

ROWS = 'metrics.jsonl'
_LARGEST = float(np.finfo(np.float32).max) * 1e6  # a sum of what a device computes is less
_STEP = re.compile(rb'^\{"step": (\d{1,18})\b', re.MULTILINE)


def read_rows(workdir: pathlib.Path) -> list[dict]:
    """Returns the rows of metrics.jsonl, in order, up to the first that no run wrote; none if there is no file."""
    return list(sound_rows(workdir / ROWS))


def sound_rows(path: pathlib.Path) -> Iterator[dict]:
    """Yields the rows of a file up to the first that is torn, or that does not go on from the one before."""
    before = {'step': -1}
    for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else []:
        try:
            row = json_object(line) if line.endswith(b'\n') else {}
        except ValueError:
            row = {}
        if not (before.keys() <= row.keys() and all(map(_is_value, row.values())) and _follows(row, before)):
            return
        yield row
        before = row


def _is_value(value) -> bool:
    return all(map(_is_number, value)) if type(value) is list else _is_number(value)


def _is_number(value) -> bool:
    return value is None or (type(value) in (int, float) and abs(value) <= _LARGEST)


def _follows(row: Mapping, before: Mapping) -> bool:
    return type(row['step']) is int and row['step'] > before['step']


def newest_step(workdir: pathlib.Path) -> int:
    """Returns the step of the last row of metrics.jsonl, read without parsing the rows; 0 where there is none."""
    try:
        steps = _STEP.findall((workdir / ROWS).read_bytes())
    except OSError:
        return 0
    return int(steps[-1]) if steps else 0


def set_aside(workdir: pathlib.Path, kept: Sequence[Mapping]) -> None:
    """Keeps a copy of a metrics.jsonl that is not as the run wrote it, for example after a crash, and warns.

    Args:
      workdir: of the run.
      kept: the rows from which the run goes on, which the file should begin with.
    """
    path = workdir / ROWS
    if not path.exists():
        return
    there = read_rows(workdir)
    if there[: len(kept)] != list(kept) or path.read_bytes() != text(there).encode():
        aside = free_name(path.with_name(f'{ROWS}.set-aside'))
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


def text(rows: Sequence[Mapping]) -> str:
    """Returns rows as the content of a file."""
    return ''.join(json.dumps(row, allow_nan=False) + '\n' for row in rows)
