"""Takes a sweep from its plan to its table: starts workers, shows progress, and says what failed."""

import dataclasses
import functools
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from tqdm import tqdm

from experiments.errors import UserError
from experiments.sweeps import plan, report, table, worker
from experiments.terminal import progress_interval, say
from experiments.training.stopping import Stop, stopping
from experiments.workdir import places
from experiments.workdir.files import blame_disk, read_json, write_json
from experiments.workdir.rows import newest_step

_POLL_SECONDS = 1
_GRACE_SECONDS = 60  # for the workers to save, each of which has half of it
_SOME_FAILED = 1  # exit code
_LONGEST_LINE = 120  # characters, of what a worker said


def run(out: pathlib.Path, points: list[plan.Point], workers: int, cluster: str | None, command: str) -> int:
    """Runs, or continues, a sweep in a folder.

    Args:
      out: the folder.
      points: the points, which have been checked.
      workers: the number of processes side by side.
      cluster: None for processes on this machine, 'slurm' or 'local' for jobs of submitit.
      command: the command line, for people.

    Returns:
      An exit code: 0 if every point is finished, that of the signal if one stopped the sweep, otherwise 1.

    Raises:
      UserError: the folder cannot be written.
    """
    if cluster == 'slurm' and not shutil.which('srun'):  # what submitit looks for
        raise UserError('--cluster slurm: there is no srun here; run it where Slurm is, or leave --cluster out')
    planned = {'command': command, 'points': [dataclasses.asdict(point) for point in points]}
    try:
        out.mkdir(parents=True, exist_ok=True)
        _check_places(out, points, workers)
        _check_same_sweep(out, points)
        write_json(out / worker.PLAN, planned)
    except OSError as error:
        raise UserError(f'out {out}: {error.strerror}; choose another --out') from None
    workdirs = [out / worker.POINTS / point.name for point in points]
    for workdir in workdirs:
        (workdir / worker.FAILURE).unlink(missing_ok=True)  # what failed is tried again
    if not all(map(worker.is_finished, workdirs)):
        count = min(workers, len(points))
        with stopping(_GRACE_SECONDS) as stop:
            started = _on_cluster(out, count, cluster) if cluster else _on_this_machine(out, count)
            _attend(started, dict(zip(workdirs, points)), stop)
        if stop.code is not None:
            print('stopped; the same command goes on', file=sys.stderr)
            return stop.code
        for index, each in enumerate(started):
            if each.complaint():
                print(f'worker {index} {each.complaint()}', file=sys.stderr)
    with blame_disk(out, 'out'):
        return _conclude(out, points, command)


def _check_places(out: pathlib.Path, points: list[plan.Point], workers: int) -> None:
    """Refuses what could not be written when all runs are over, before any begins."""
    folders = [f'{worker.POINTS}/{point.name}' for point in points]
    files = [worker.PLAN, table.CSV, table.PARQUET, 'report.html', *(f'{each}/{worker.FAILURE}' for each in folders)]
    files += [f'worker-{index}.log' for index in range(workers)]
    places.check(out, files, [worker.POINTS, 'figures', 'submitit', *folders], out)


def _check_same_sweep(out: pathlib.Path, points: list[plan.Point]) -> None:
    """Refuses a folder that holds another sweep: points that this one, which may have more, does not have.

    Raises:
      UserError: with the command of the other one.
    """
    held = worker.read_plan(out) if (out / worker.PLAN).is_file() else []
    if not set(map(_asked, held)) <= set(map(_asked, points)):
        command = read_json(out / worker.PLAN).get('command')
        raise UserError(f'out {out}: it holds another sweep, {command}; choose another --out')


def _asked(point: plan.Point) -> frozenset[str]:
    """What a point is, apart from the content of files: its flags in any order, and where its config lies."""
    config, *others = point.flags
    return frozenset([os.path.abspath(config.removeprefix('--config=')), *others])


@dataclasses.dataclass(frozen=True)
class _Worker:
    has_ended: Callable[[], bool]
    stop: Callable[[], object]
    complaint: Callable[[], str]  # how it ended by itself; '' where it ended well


def _worker_command(out: pathlib.Path, index: int, count: int) -> list[str]:
    return [sys.executable, '-m', worker.__name__, str(out), str(index), str(count)]


def _on_this_machine(out: pathlib.Path, count: int) -> list[_Worker]:
    """Starts workers as processes of this machine, each with its log in the folder."""

    def start(index: int) -> _Worker:
        with (out / f'worker-{index}.log').open('a', encoding='utf-8') as log:
            process = subprocess.Popen(
                _worker_command(out, index, count), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        ended = functools.partial(_exit_complaint, process, pathlib.Path(log.name))
        return _Worker(lambda: process.poll() is not None, process.terminate, ended)

    return [start(index) for index in range(count)]


def _on_cluster(out: pathlib.Path, count: int, cluster: str) -> list[_Worker]:
    """Starts workers as jobs of a cluster; SBATCH_... variables give the partition, the time and the account."""
    import submitit

    executor = submitit.AutoExecutor(folder=out / 'submitit', cluster=cluster)
    executor.update_parameters(name='ste-sweep')
    commands = [_worker_command(out, index, count) for index in range(count)]
    try:
        jobs = [executor.submit(submitit.helpers.CommandFunction(command, verbose=False)) for command in commands]
    except (RuntimeError, OSError) as error:
        raise UserError(f'--cluster {cluster}: it takes no job: {error}') from None
    return [_Worker(job.done, job.cancel, functools.partial(_job_complaint, job)) for job in jobs]


def _exit_complaint(process: subprocess.Popen, log: pathlib.Path) -> str:
    code = process.returncode
    if not code:
        return ''
    how = f'ended with exit code {code}' if code > 0 else f'was killed by {signal.Signals(-code).name}'
    lines = log.read_text(encoding='utf-8', errors='replace').split('\n')
    return f'{how}; {log} ends with: {next(filter(str.strip, reversed(lines)), "nothing")[:_LONGEST_LINE]}'


def _job_complaint(job) -> str:
    """Of a job of submitit, whose errors end with the line that says what it was."""
    lines = str(job.exception() or '').strip().splitlines()
    return f'(job {job.job_id}) failed; {job.paths.stderr} says more: {lines[-1][:_LONGEST_LINE]}' if lines else ''


def _steps_done(workdir: pathlib.Path, point: plan.Point) -> int:
    """Returns the steps that a point need not do any more, as of the newest evaluation of it and of its ladder."""
    if worker.is_finished(workdir) or (workdir / worker.FAILURE).exists():
        return point.steps
    return min(point.steps, sum(map(newest_step, [workdir, *workdir.glob('ladder/*')])))


def _attend(workers: list[_Worker], points: Mapping[pathlib.Path, plan.Point], stop: Stop) -> None:
    """Shows the steps done and the points that have ended, until all workers have; passes a signal on to them."""
    workdirs, total = points.keys(), sum(point.steps for point in points.values())
    done = sum(itertools.starmap(_steps_done, points.items()))
    with tqdm(initial=done, total=total, unit='step', mininterval=progress_interval()) as bar:
        ended = passed_on = False
        while not ended:
            if stop.code is not None and not passed_on:
                passed_on = True
                for each in workers:
                    each.stop()
            ended = all(each.has_ended() for each in workers)
            failed = sum((workdir / worker.FAILURE).exists() for workdir in workdirs)
            finished = sum(map(worker.is_finished, workdirs))
            running = sum(workdir.exists() for workdir in workdirs) - finished - failed
            bar.n = sum(itertools.starmap(_steps_done, points.items()))
            doing = f'{running} under way' if running else '' if bar.n else 'workers are starting'
            ends = f'{finished + failed} of {len(workdirs)} runs', f'{failed} failed' if failed else ''
            bar.set_postfix_str(', '.join(filter(None, (*ends, doing))))
            if not ended:
                time.sleep(_POLL_SECONDS)


def _conclude(out: pathlib.Path, points: list[plan.Point], command: str) -> int:
    """Writes table and report of the finished points, prints what is not finished, and returns the exit code."""
    failures = table.failures(out, points)
    unfinished = [
        p.name for p in points if not worker.is_finished(out / worker.POINTS / p.name) and p.name not in failures
    ]
    found = table.rows(out, points)
    if found:
        table.write(out, found)
        page = report.write(out, found, {**failures, **dict.fromkeys(unfinished, 'not finished')}, command)
        say(report.terminal_table(found))
        say(f'\nTable: {out / table.CSV}\nReport: {page}')
    for name, reason in failures.items():
        say(f'failed: {name}: {reason}', sys.stderr)
    if unfinished:
        print(f'{len(unfinished)} runs were not finished; the same command continues them', file=sys.stderr)
    return _SOME_FAILED if failures or unfinished else 0
