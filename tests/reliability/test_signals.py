"""SIGTERM, wherever it finds the run: a checkpoint, exit code 143, and the same end later."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from experiments.training.stopping import STOPPED as STOPPED_CODES
from experiments.training.stopping import stopping
from scripts.noise import save_noise
from tests.reliability.processes import PATIENCE_SECONDS, SMALL, continue_to_the_same_end, finish, start

STOPPED = 143


def stop(
    process: subprocess.Popen, workdir: pathlib.Path, has_come: Callable[[], bool], seconds_later: float = 1
) -> None:
    """Sends the signal a little after the moment has come; the run must save and end by itself."""
    while not has_come() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(seconds_later)
    process.send_signal(signal.SIGTERM)
    code, error = finish(process)
    assert code == STOPPED and 'Traceback' not in error, f'ended with {code}: {error}'
    assert any(workdir.glob('checkpoints/[0-9]*'))


def count_rows(workdir: pathlib.Path) -> int:
    path = workdir / 'metrics.jsonl'
    return path.read_text().count('\n') if path.exists() else 0


@pytest.mark.slow
def test_in_a_step(unbroken, tmp_path):
    stop(start(tmp_path), tmp_path, lambda: count_rows(tmp_path) >= 2, seconds_later=0.2)
    continue_to_the_same_end(tmp_path, unbroken(1))


@pytest.mark.slow
@pytest.mark.parametrize('heard', [True, False])
def test_a_closed_terminal_stops_and_saves_unless_nohup_ignores_it(heard, tmp_path):
    program = [] if heard else ['nohup']
    command = [*program, sys.executable, '-m', 'experiments.train', *SMALL, f'--workdir={tmp_path}']
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        while count_rows(tmp_path) < 1 and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=600)
    assert process.returncode == (129 if heard else 0)
    assert any(tmp_path.glob('checkpoints/[0-9]*')) and (tmp_path / 'summary.json').exists() != heard


def test_sighup_is_heard_only_where_it_is_not_ignored():
    before = signal.getsignal(signal.SIGHUP)
    try:
        for ignored in (True, False):
            signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
            with stopping():
                assert (signal.getsignal(signal.SIGHUP) == signal.SIG_IGN) == ignored
    finally:
        signal.signal(signal.SIGHUP, before)
    assert 128 + signal.SIGHUP in STOPPED_CODES


@pytest.mark.slow
def test_in_a_compilation(tmp_path):
    """A ResNet-50, whose step takes XLA more than a minute to compile on two cores."""
    data, workdir = save_noise(tmp_path / 'images.npz', (32, 32, 3), 10, training=8, validation=8), tmp_path / 'run'
    flags = ('--config=configs/imagenet_resnet50.py', f'--config.dataset={data}', '--config.batch_size=2')
    flags += ('--config.compute_dtype=float32', '--config.twins=naive_ste', '--config.max_steps=1')
    stop(start(workdir, *flags), workdir, (workdir / 'checkpoints' / '0').exists)


@pytest.mark.slow
def test_in_an_evaluation(tmp_path):
    """The first evaluation, of so many images that it outlasts the signal."""
    data = save_noise(tmp_path / 'images.npz', (8, 8, 1), 10, training=96, validation=300_000)
    workdir = tmp_path / 'run'
    process = start(workdir, *SMALL, f'--config.dataset={data}', '--config.max_steps=1')
    stop(process, workdir, (workdir / 'metrics.jsonl').exists)


@pytest.mark.slow
def test_on_one_of_two_processes_both_stop_and_go_on(tmp_path):
    first, second = start_two(tmp_path)
    stop(second, tmp_path, lambda: count_rows(tmp_path) >= 2, seconds_later=0)
    assert finish(first)[0] == STOPPED
    assert [finish(process)[0] for process in start_two(tmp_path)] == [0, 0]


def start_two(workdir: pathlib.Path) -> list[subprocess.Popen]:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{listener.getsockname()[1]}'
    return [start(workdir, *SMALL, f'--config.distributed={address},2,{index}', devices=2) for index in (0, 1)]


WITHIN_XLA = """
import pathlib, sys, time
import jax
from experiments.training.stopping import stopping
with stopping() as stop:
    stop.rescue = lambda: pathlib.Path(sys.argv[1], 'rescued').touch()
    spin = jax.jit(lambda n: jax.lax.while_loop(lambda i: i < n, lambda i: i + 1, 0)).lower(0).compile()
    pathlib.Path(sys.argv[1], 'inside').touch()
    while True:
        spin(2**31 - 2).block_until_ready()
"""


@pytest.mark.parametrize('number', [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_is_heard_while_the_main_thread_is_inside_xla(number, tmp_path):
    process = subprocess.Popen([sys.executable, '-c', WITHIN_XLA, str(tmp_path)], env={**os.environ, 'XLA_FLAGS': ''})
    while not (tmp_path / 'inside').exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(number)
    assert process.wait(PATIENCE_SECONDS) == 128 + number
    assert (tmp_path / 'rescued').exists()


@pytest.mark.parametrize(
    'rescue',
    [
        pytest.param('time.sleep(10_000)', id='waits for a step'),
        pytest.param('raise_()', id='finds no state'),
    ],
)
@pytest.mark.slow
def test_a_step_that_never_ends_does_not_keep_the_process(rescue, tmp_path):
    """As where another process of a collective is gone: nobody can read the state, now or later."""
    code = f"""
import sys, time
from experiments.training import stopping

stopping._GRACE_SECONDS = stopping._RESCUE_SECONDS = 1

def raise_():
    raise RuntimeError('Array has been deleted')

with stopping.stopping() as stop:
    stop.rescue = lambda: {rescue}
    print('ready', flush=True)
    time.sleep(10_000)
"""
    with subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == STOPPED
        assert b'nothing saved since the last checkpoint' in process.stderr.read()
