"""What a trial is, the small run that it is made with, and when two runs have ended alike."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 45
SMALL = (  # tracking, evaluations and checkpoints close to each other
    *('--config=configs/digits.py', '--config.twins=ste,self'),
    *('--config.batch_size=96', f'--config.max_steps={STEPS}'),
    *('--config.eval_every_epochs=1', '--config.checkpoint_every_steps=5'),
)
_LONGEST = 400  # characters of what was seen
PATIENCE_SECONDS = 600  # for a process that should have ended long before


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was tried, and what came of it.

    Attributes:
      what: was done to the run.
      held: whether the promise was kept; None where it could not be tried here.
      seen: what was seen, for people.
    """

    what: str
    held: bool | None
    seen: str

    def __str__(self):
        return f'{self.outcome}: {self.what}: {self.seen[:_LONGEST]}'

    @property
    def outcome(self) -> str:
        """In a word or two."""
        return {True: 'held', False: 'BROKEN', None: 'not tried'}[self.held]


@dataclasses.dataclass(frozen=True)
class Trial:
    """A promise and how it is put to the test.

    Attributes:
      name: on the command line.
      promise: in a sentence.
      run: folder to work in -> findings, one at a time.
    """

    name: str
    promise: str
    run: Callable[[pathlib.Path], Iterator[Finding]]


def start(workdir: pathlib.Path, *flags: str, devices: int = 1, **options) -> subprocess.Popen:
    """The small run, or with further flags another, as a process with so many virtual devices."""
    environment = {
        **os.environ,
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
    }
    command = [sys.executable, '-m', 'experiments.train', *(flags or SMALL), f'--workdir={workdir}']
    pipes = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **{**pipes, **options})


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Waits for the end; the exit code, and what was printed on stderr without the progress bar."""
    _, error = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, '\n'.join(line for line in error.splitlines() if line and '%|' not in line)


def killed_after(workdir: pathlib.Path, step: int, devices: int = 1) -> None:
    """Makes the small run up to the checkpoint of a step, or hardly further."""
    process = start(workdir, devices=devices)
    wait_for(workdir / 'checkpoints' / str(step), process)
    process.kill()
    process.communicate()


def wait_for(path: pathlib.Path, process: subprocess.Popen) -> None:
    """Waits until a process has made a file or folder, or has ended."""
    while not path.exists() and process.poll() is None:
        time.sleep(0.005)


def unbroken(folder: pathlib.Path, devices: int = 1) -> pathlib.Path:
    """The workdir of a small run that nothing has happened to; made once."""
    workdir = folder / f'unbroken-{devices}'
    if not (workdir / 'summary.json').exists():
        code, error = finish(start(workdir, devices=devices))
        if code:
            raise RuntimeError(f'the unbroken run ended with {code}: {error}')
    return workdir


def differences(one: pathlib.Path, other: pathlib.Path) -> list[str]:
    """The names of what two finished runs do not have in common to the byte.

    Weights, optimizer's state and trajectories are those of the last checkpoint.
    """
    found = [
        name
        for name in ('config.json', 'metrics.jsonl', 'summary.json')
        if (one / name).read_bytes() != (other / name).read_bytes()
    ]
    states = [last_state(workdir) for workdir in (one, other)]
    if set(states[0]) != set(states[1]):
        return [*found, 'names in the checkpoint']
    found += [name for name in states[0] if states[0][name].tobytes() != states[1][name].tobytes()]
    rows = [json.loads(line)['step'] for line in (one / 'metrics.jsonl').read_text().splitlines()]
    return found + (['a row twice'] if len(rows) != len(set(rows)) else [])


def last_state(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint, by its path."""
    import jax

    from experiments.workdir.checkpoints import read_newest

    leaves, _ = jax.tree_util.tree_flatten_with_path(read_newest('workdir', workdir))
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def continued(what: str, workdir: pathlib.Path, whole: pathlib.Path, *, devices: int = 1, expect: str = '') -> Finding:
    """Starts the small run again and compares its end with a whole run's; `expect` must be on stderr."""
    code, error = finish(start(workdir, devices=devices))
    if code:
        return Finding(what, False, f'ended with {code}: {error[-300:]}')
    if expect not in error:
        return Finding(what, False, f'{expect!r} was not told, but {error[-300:]!r}')
    different = differences(workdir, whole)
    return Finding(what, not different, f'differ: {", ".join(different[:5])}' if different else 'ended alike')
