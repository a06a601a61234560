"""The small run that mishaps happen to, as a process of its own; and whether two runs have ended alike."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np

from experiments.workdir.checkpoints import read_newest

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 45
SMALL = (  # tracking, evaluations and checkpoints close to each other
    *('--config=configs/digits.py', '--config.twins=ste,self'),
    *('--config.batch_size=96', f'--config.max_steps={STEPS}'),
    *('--config.eval_every_epochs=1', '--config.checkpoint_every_steps=5'),
)
INTERRUPTED_AT = 35  # a checkpoint step between two rows, where it is killed to be continued
PATIENCE_SECONDS = 600  # for a process that should have ended long before


def start(workdir: pathlib.Path, *flags: str, devices: int = 1, **options) -> subprocess.Popen:
    """The small run, or with further flags another, as a process with so many virtual devices."""
    environment = {**os.environ, 'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}'}
    command = [sys.executable, '-m', 'experiments.train', *(flags or SMALL), f'--workdir={workdir}']
    pipes = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
    return subprocess.Popen(command, **{'cwd': ROOT, 'env': environment, **pipes, **options})


def finish(process: subprocess.Popen) -> tuple[int, str]:
    """Waits for the end; the exit code, and what was printed on stderr without the progress bar."""
    _, error = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, '\n'.join(line for line in error.splitlines() if line and '%|' not in line)


def wait_for(path: pathlib.Path, process: subprocess.Popen) -> None:
    """Waits until a process has made a file or folder, or has ended."""
    while not path.exists() and process.poll() is None:
        time.sleep(0.005)


def kill_after(workdir: pathlib.Path, step: int, devices: int = 1) -> None:
    """Makes the small run up to the checkpoint of a step, or hardly further."""
    process = start(workdir, devices=devices)
    wait_for(workdir / 'checkpoints' / str(step), process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, 'the run ended before it was killed'


def newest_checkpoint(workdir: pathlib.Path) -> pathlib.Path:
    return max(workdir.glob('checkpoints/[0-9]*'), key=lambda path: int(path.name))


def continue_to_the_same_end(workdir: pathlib.Path, whole: pathlib.Path, devices: int = 1) -> str:
    """Starts the small run again, which must end as a whole run did; returns what it printed on stderr."""
    code, error = finish(start(workdir, devices=devices))
    assert code == 0, f'{workdir} ended with {code}: {error}'
    different = differences(workdir, whole)
    assert not different, f'{workdir} differs in {different}'
    return error


def differences(one: pathlib.Path, other: pathlib.Path) -> list[str]:
    """The names of what two finished runs do not have in common to the byte.

    Weights, optimizer's state and trajectories are those of the last checkpoint.
    """
    found = [
        name
        for name in ('config.json', 'metrics.jsonl', 'summary.json')
        if (one / name).read_bytes() != (other / name).read_bytes()
    ]
    states = [_last_state(workdir) for workdir in (one, other)]
    if set(states[0]) != set(states[1]):
        return [*found, 'names in the checkpoint']
    found += [name for name in states[0] if states[0][name].tobytes() != states[1][name].tobytes()]
    rows = [json.loads(line)['step'] for line in (one / 'metrics.jsonl').read_text().splitlines()]
    return found + (['a row twice'] if len(rows) != len(set(rows)) else [])


def _last_state(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint, by its path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(read_newest('workdir', workdir))
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
