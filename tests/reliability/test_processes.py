"""Two processes, one run: they agree before the first step, and neither waits for one that is gone."""

import os
import pathlib
import signal
import socket
import subprocess
import time
from collections.abc import Sequence

import pytest

from tests.reliability.processes import PATIENCE_SECONDS, ROOT, SMALL, start

ENDLESS = (*SMALL, '--config.max_steps=100000', '--config.num_epochs=100000')


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def two(
    workdir: pathlib.Path | str,
    *flags: str,
    more: Sequence[tuple[str, ...]] = ((), ()),
    folders: Sequence[pathlib.Path] = (ROOT, ROOT),
) -> list[subprocess.Popen]:
    """Two processes that get the same flags, each with more of its own, and in a folder of its own."""
    address = f'127.0.0.1:{free_port()}'
    environment = {**os.environ, 'XLA_FLAGS': '', 'PYTHONPATH': str(ROOT)}
    for folder in folders:
        folder.mkdir(exist_ok=True)
    return [
        start(
            *(workdir, *(flags or SMALL), *more[index], f'--config.distributed={address},2,{index}'),
            cwd=folders[index],
            env=environment,
        )
        for index in (0, 1)
    ]


def ended(process: subprocess.Popen) -> tuple[int, list[str]]:
    """The exit code, and the lines on stderr, without the progress bar that a line may follow."""
    _, error = process.communicate(timeout=PATIENCE_SECONDS)
    lines = [line[line.index('error: ') :] if 'error: ' in line else line for line in error.splitlines()]
    return process.returncode, [line for line in lines if line and '%|' not in line]


def refused(processes: list[subprocess.Popen]) -> list[str]:
    """The line that each says; both end by themselves, with nothing else."""
    said = []
    for process in processes:
        code, lines = ended(process)
        assert code == 2 and len(lines) == 1 and lines[0].startswith('error: '), (code, lines)
        assert len(lines[0]) <= 300
        said.append(lines[0])
    return said


@pytest.mark.parametrize(
    ('flags', 'key'),
    [
        ('--config.seed=7', 'seed is 0 in process 0, 7 in process 1'),
        pytest.param(
            '--config.learning_rate=0.5', 'learning_rate is 0.01 in process 0, 0.5 in process 1', marks=pytest.mark.slow
        ),
        pytest.param('--config.max_steps=9', 'max_steps is 45 in process 0, 9', marks=pytest.mark.slow),
        pytest.param('--config.estimator=sine(lam=0.6)', 'estimator is "dsq(', marks=pytest.mark.slow),
    ],
)
def test_processes_that_differ_in_a_key_both_say_so(flags, key, tmp_path):
    said = refused(two(tmp_path / 'run', more=((), (flags,))))
    assert key in said[0] and said[0] == said[1]
    assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_processes_whose_file_of_one_name_differs_both_say_so(tmp_path):
    """As on two machines: each has a file of this name in its own folder."""
    folders = [tmp_path / 'machine0', tmp_path / 'machine1']
    for slope, folder in enumerate(folders, 1):
        folder.mkdir(exist_ok=True)
        (folder / 'own.py').write_text(f'import jax.numpy as jnp\n\ndef slope(x):\n    return {slope} + jnp.cos(x)\n')
    flags = (f'--config={ROOT}/configs/digits.py', '--config.twins=self', '--config.estimator=own.py:slope')
    said = refused(two(tmp_path / 'run', *flags, folders=folders))
    assert 'content of own.py is ' in said[0] and said[0] == said[1]


@pytest.mark.slow
@pytest.mark.parametrize('index', [0, 1])
def test_one_that_is_refused_ends_the_other_with_its_reason(index, tmp_path):
    more = [(), ()]
    more[index] = ('--config.estimator=none.py:slope',)
    said = refused(two(tmp_path / 'run', more=tuple(more)))
    assert said[index].startswith("error: estimator: there is no file 'none.py'")
    assert said[1 - index].startswith(f"error: process {index} ended: estimator: there is no file 'none.py'")


@pytest.mark.slow
@pytest.mark.parametrize(
    ('index', 'line'), [(0, 'error: process 0 is gone'), (1, 'error: process 1 has given no sign of life for 3 s')]
)
def test_one_that_is_killed_in_training_ends_the_other(index, line, tmp_path, monkeypatch):
    monkeypatch.setenv('SILENCE_SECONDS', '3')
    processes = two(tmp_path, *ENDLESS)
    while not (tmp_path / 'checkpoints' / '10').exists():
        assert processes[0].poll() is None, processes[0].stderr.read()
        time.sleep(0.05)
    processes[index].kill()
    (said,) = refused([processes[1 - index]])
    assert said.startswith(line) and 'the newest checkpoint' in said
    processes[index].communicate()


@pytest.mark.slow
def test_a_hangup_of_one_of_two_saves_and_stops_both(tmp_path):
    processes = two(tmp_path, *ENDLESS)
    while not (tmp_path / 'checkpoints' / '10').exists():
        assert processes[0].poll() is None, processes[0].stderr.read()
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGHUP)
    assert [ended(process)[0] for process in processes] == [129, 129]
    assert max(int(path.name) for path in tmp_path.glob('checkpoints/[0-9]*')) > 10


@pytest.mark.slow
def test_without_a_workdir_process_0_chooses_for_both(tmp_path):
    """In a folder of each, as on two machines that share no disk: only process 0 makes one."""
    config = f'--config={ROOT}/configs/digits.py'
    flags = (config, *SMALL[1:], '--config.max_steps=2', '--config.twins=self')
    folders = [tmp_path / 'machine0', tmp_path / 'machine1']
    processes = two('', *flags, folders=folders)
    assert [ended(process) for process in processes] == [(0, []), (0, [])]
    assert len(list(folders[0].glob('runs/digits/*/summary.json'))) == 1
    assert not list(folders[1].glob('runs/digits/*'))
