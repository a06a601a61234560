"""A long run: what the host process holds must not grow with the steps."""

import os
import pathlib
import statistics
import subprocess
import time
from collections.abc import Iterator

import numpy as np

from scripts.trials.trial import Finding, Trial, start

STEPS = 20_000
GROWTH = 0.02  # of memory
_A_CHECKPOINT = 0.2  # MB
_FLAGS = (
    '--config=configs/digits.py',
    '--config.num_epochs=2000',
    '--config.eval_every_epochs=5',
    '--config.twins=ste,self',
)


def soak(folder: pathlib.Path, steps: int = STEPS, seconds: float = 5) -> Iterator[Finding]:
    """Resident memory, open files and threads of a digits run with tracking and evaluations, from its tenth part on."""
    silent = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
    process = start(folder / 'soak', *_FLAGS, f'--config.max_steps={steps}', **silent)
    samples = []
    while process.poll() is None:
        samples.append(_sample(process.pid, folder / 'soak'))
        time.sleep(seconds)
    code = process.wait()
    # The report at the end draws pictures: that is not training.
    training = [sample for sample in samples if sample and steps // 10 <= sample['step'] < steps]
    for what, unit in (('memory', 'MB'), ('open files', ''), ('threads', '')):
        third = max(1, len(training) // 3)
        # Of memory the least: what leaks is there at every moment, what an evaluation or a checkpoint takes is not.
        typical = min if what == 'memory' else statistics.median
        early, late = (typical(sample[what] for sample in part) for part in (training[:third], training[-third:]))
        limit = early * (1 + GROWTH) if what == 'memory' else early
        seen = f'{early:.1f} {unit} in the first third, {late:.1f} {unit} in the last, of {len(training)} samples'
        yield Finding(f'{what} over {steps} steps', code == 0 and late <= limit, seen)


def checkpoints(folder: pathlib.Path, count: int = 300) -> Iterator[Finding]:
    """What every checkpoint leaves in memory, by itself: it should be nothing, and tensorstore keeps a little."""
    from experiments.training.runs import State
    from experiments.workdir.checkpoints import Checkpoints

    arrays = {str(size): np.zeros(size, np.float32) for size in (10**5, 10**6)}
    resident = []
    folder.mkdir()
    with Checkpoints(folder) as writer:
        for step in range(count):
            writer.save_now(State(np.int32(step), {}, arrays, {}))
            resident.append(_resident(os.getpid()))
    grown = (resident[-1] - resident[count // 3]) / (count - count // 3)
    yield Finding(f'{count} checkpoints', grown < _A_CHECKPOINT, f'{grown:.3f} MB each, of 4.4 MB that each writes')


def _all(folder: pathlib.Path) -> Iterator[Finding]:
    yield from soak(folder)
    yield from checkpoints(folder / 'soak-checkpoints')


def _resident(pid: int) -> float:
    status = pathlib.Path(f'/proc/{pid}/status').read_text()
    return int(status.partition('VmRSS:')[2].split()[0]) / 1000


def _threads(pid: int) -> int:
    """Without tensorstore's pool, whose idle workers come and go."""
    names = [task.joinpath('comm').read_text().strip() for task in pathlib.Path(f'/proc/{pid}/task').iterdir()]
    return len(names) - names.count('ts_pool_worker')


def _sample(pid: int, workdir: pathlib.Path) -> dict[str, float] | None:
    try:
        return {
            'memory': _resident(pid),
            'threads': _threads(pid),
            'open files': len(os.listdir(f'/proc/{pid}/fd')),
            'step': int((workdir / 'metrics.jsonl').read_text().rpartition('{"step": ')[2].partition(',')[0]),
        }
    except (OSError, ValueError, IndexError):  # it has just begun, or just ended
        return None


TRIAL = Trial(
    'soak',
    f'Memory grows by less than {GROWTH:.0%} over {STEPS:,} steps with tracking and evaluations; files and threads not '
    'at all.',
    _all,
)
