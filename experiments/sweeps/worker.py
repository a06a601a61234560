"""Works through the points of a sweep, beside any number of other workers; `python -m` takes `OUT INDEX COUNT`.

A worker takes points that no other worker holds. At the end it waits for those that others hold, and finishes what they
leave. Points with the same program follow each other, so each worker compiles it once.
"""

import pathlib
import sys
import time
import traceback

from experiments.errors import USERS_ERROR, UserError, tell
from experiments.sweeps import plan
from experiments.training import session
from experiments.training.stopping import STOPPED
from experiments.training.trainer import NOT_FINITE
from experiments.workdir.files import read_json, write_json
from experiments.workdir.lock import Busy

PLAN, POINTS, FAILURE = 'sweep.json', 'points', 'failure.json'
_POLL_SECONDS = 1


def is_finished(workdir: pathlib.Path) -> bool:
    """Returns whether the run in a workdir is finished."""
    return (workdir / 'summary.json').is_file()


def failure(workdir: pathlib.Path) -> str | None:
    """Returns why the run in a workdir failed when it was last tried, or None if it did not fail."""
    path = workdir / FAILURE
    return read_json(path)['reason'] if path.is_file() else None


def read_plan(out: pathlib.Path) -> list[plan.Point]:
    """Returns the points of the sweep in a folder.

    Raises:
      UserError: there is no sweep in the folder.
    """
    planned = read_json(out / PLAN)
    return [
        plan.Point(tuple(map(tuple, point['values'])), tuple(point['flags']), point['run'])
        for point in planned['points']
    ]


def work(out: pathlib.Path, index: int, count: int) -> int:
    """Runs the points that are not finished; each of the `count` workers begins at another place of the plan.

    Returns:
      An exit code: 0, or that of the signal that stopped the worker.
    """
    planned = read_plan(out)
    start = index * len(planned) // count
    left = planned[start:] + planned[:start]
    while left:
        held_by_others = []
        for point in left:
            workdir = out / POINTS / point.name
            if is_finished(workdir) or failure(workdir):
                continue
            try:
                code = _run(point, workdir)
                if code in STOPPED:
                    return code
            except Busy:
                held_by_others.append(point)
        left = held_by_others
        if left:
            time.sleep(_POLL_SECONDS)
    return 0


def _run(point: plan.Point, workdir: pathlib.Path) -> int:
    """Runs one point and returns its exit code. If it fails, writes down why, so that the sweep can go on.

    Raises:
      Busy: another worker holds the point.
    """
    print(f'--- {point.name}', flush=True)
    try:
        code = session.run(plan.resolve(point), workdir, list(point.flags), draw=False)
        reason = 'not finite' if code == NOT_FINITE else None
    except Busy:
        raise
    except UserError as error:
        code, reason = USERS_ERROR, str(error)
    except Exception as error:
        traceback.print_exc()
        code, reason = 1, f'{type(error).__name__}: {error}'
    if reason:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / FAILURE, {'reason': ' '.join(reason.split())})
    return code


def main(out: str, index: str, count: str) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    try:
        return work(pathlib.Path(out), int(index), int(count))
    except UserError as error:
        return tell(error)


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
