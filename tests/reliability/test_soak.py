"""A long run: what the host process holds must not grow with the steps."""

import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.workdir.checkpoints import Checkpoints
from qat.lockstep.state import State
from tests.reliability.processes import start

STEPS = 20_000
GROWTH = 0.02  # of memory
MB_A_CHECKPOINT = 0.2
FLAGS = (
    *('--config=configs/digits.py', '--config.twins=ste,self'),
    *('--config.num_epochs=2000', '--config.eval_every_epochs=5', f'--config.max_steps={STEPS}'),
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != 'linux', reason='what a process holds is read from /proc'),
]


def test_memory_files_and_threads_do_not_grow_with_the_steps(tmp_path):
    process = start(tmp_path, *FLAGS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    samples = []
    while process.poll() is None:
        samples.append(sample(process.pid, tmp_path))
        time.sleep(1)
    assert process.returncode == 0
    # Compilation comes first, and the report at the end draws pictures: neither is training.
    training = [found for found in samples if found and STEPS // 10 <= found['step'] < STEPS]
    third = len(training) // 3
    assert third, 'too few samples'
    early, late = training[:third], training[-third:]
    # Of memory the least: what leaks is there at every moment, what an evaluation or a checkpoint takes is not.
    memory = [min(found['memory'] for found in part) for part in (early, late)]
    assert memory[1] <= memory[0] * (1 + GROWTH), f'{memory} MB'
    for what in ('open files', 'threads'):
        before, after = (statistics.median(found[what] for found in part) for part in (early, late))
        assert after <= before, what


def sample(pid: int, workdir: pathlib.Path) -> dict[str, float] | None:
    try:
        return {
            'memory': resident(pid),
            'threads': threads(pid),
            'open files': len(os.listdir(f'/proc/{pid}/fd')),
            'step': int((workdir / 'metrics.jsonl').read_text().rpartition('{"step": ')[2].partition(',')[0]),
        }
    except (OSError, ValueError, IndexError):  # it has just begun, or just ended
        return None


def resident(pid: int) -> float:
    """Megabytes in memory."""
    status = pathlib.Path(f'/proc/{pid}/status').read_text()
    return int(status.partition('VmRSS:')[2].split()[0]) / 1000


def threads(pid: int) -> int:
    """Without tensorstore's pool, whose idle workers come and go."""
    names = [task.joinpath('comm').read_text().strip() for task in pathlib.Path(f'/proc/{pid}/task').iterdir()]
    return len(names) - names.count('ts_pool_worker')


def test_a_checkpoint_leaves_next_to_nothing_in_memory(tmp_path):
    """It should be nothing, and tensorstore keeps a little of the 4.4 MB that each writes."""
    arrays = {str(size): np.zeros(size, np.float32) for size in (10**5, 10**6)}
    count, held = 300, []
    with Checkpoints(tmp_path) as writer:
        for step in range(count):
            writer.save_now(State(np.int32(step), {}, arrays, {}))
            held.append(resident(os.getpid()))
    assert (held[-1] - held[count // 3]) / (count - count // 3) < MB_A_CHECKPOINT
