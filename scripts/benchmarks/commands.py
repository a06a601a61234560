"""What a person waits for: whole processes, from the command on, with nothing compiled before."""

import functools
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from scripts.measuring.session import Session, timed

ROUNDS = 5  # at most: they take seconds, and differ little
_ROOT = pathlib.Path(__file__).parents[2]
_TRAIN = [sys.executable, '-m', 'experiments.train']
_GIVE_UP_SECONDS = 300


def first_step() -> None:
    """Waits for the line that digits writes after its first step, the only one here: a little later than the step."""
    with tempfile.TemporaryDirectory() as workdir:
        rows = pathlib.Path(workdir, 'run', 'metrics.jsonl')
        process = _start('--config=configs/digits.py', '--config.max_steps=1', f'--workdir={rows.parent}')
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        try:
            while not rows.exists() or rows.read_text(encoding='utf-8').count('\n') < 2:
                if process.poll() or time.monotonic() > deadline:
                    raise RuntimeError('digits came to no first step')
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()


def usage() -> None:
    """Waits for --help."""
    if _start('--help').wait(_GIVE_UP_SECONDS):
        raise RuntimeError('--help failed')


def _start(*arguments: str) -> subprocess.Popen:
    environment = {key: value for key, value in os.environ.items() if key != 'JAX_COMPILATION_CACHE_DIR'}
    silent = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
    return subprocess.Popen([*_TRAIN, *arguments], cwd=_ROOT, env=environment, **silent)


def waiting(name: str, what: str, wait: Callable[[], None], limit: float, session: Session) -> None:
    """The figure of one command; the first round, in which files come from the disk, is left out."""
    session.add(name, what, timed(wait, min(ROUNDS, session.rounds)), limit=limit)


BENCHMARKS = {
    name: functools.partial(waiting, name, what, wait, limit)
    for name, what, wait, limit in (
        ('command-first-step', 'seconds from the command to the first step, digits', first_step, 12),
        ('command-help', 'seconds of --help', usage, 2),
    )
}
