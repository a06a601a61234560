"""Finds where a run begins: at step 0, or at the newest sound checkpoint before which no row of metrics is lost."""

import dataclasses
import pathlib

from experiments.errors import UserError
from experiments.workdir.checkpoints import Checkpoints
from experiments.workdir.records import first_step
from experiments.workdir.rows import first_lost_row, read_rows, set_aside


@dataclasses.dataclass(frozen=True)
class Beginning:
    """Where the training loop begins.

    Attributes:
      step: updates made so far.
      restored: whether there is a checkpoint of that step.
      recorded: whether the row of that step is written already, or belongs to the run that this one was converted from.
      rows: those so far; empty in the processes that write none.
    """

    step: int = 0
    restored: bool = False
    recorded: bool = False
    rows: tuple[dict, ...] = ()


def beginning(workdir: pathlib.Path, checkpoints: Checkpoints, every: int) -> Beginning:
    """Returns where to begin.

    Args:
      workdir: the workdir of the run.
      checkpoints: the checkpoints of the workdir.
      every: steps between rows of metrics.

    Raises:
      UserError: the run has made steps, and there is no checkpoint to continue from.
    """
    there, begun = read_rows(workdir), first_step(workdir)
    rows = {row['step'] for row in there}
    step = checkpoints.newest(first_lost_row(rows, begun, every))
    if step is not None:
        kept = checkpoints.rows(step)  # an earlier version left them in metrics.jsonl alone
        kept = [row for row in there if row['step'] <= step] if kept is None else kept
        set_aside(workdir, kept)
        return Beginning(step, True, step in {row['step'] for row in kept} or step == begun > 0, tuple(kept))
    if begun:
        raise UserError(f'{workdir} began at step {begun}, and no checkpoint is there any more: convert again')
    if rows - {0}:
        raise UserError(
            f'{workdir} has come to step {max(rows)}, and no checkpoint is there any more: '
            'put one back, or choose another --workdir'
        )
    set_aside(workdir, ())
    return Beginning()
