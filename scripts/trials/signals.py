"""SIGTERM, wherever it finds the run: a checkpoint, exit code 143 within half a minute, and the same end later."""

import pathlib
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator

from scripts.noise import save_noise
from scripts.trials.trial import SMALL, Finding, Trial, continued, finish, start, unbroken

SECONDS = 30  # from the signal to the end
_STOPPED = 143


def in_a_step(folder: pathlib.Path) -> Iterator[Finding]:
    """The small run, between two evaluations."""
    workdir = folder / 'in-a-step'
    yield _stopped('in a step', start(workdir), lambda: _rows(workdir) >= 2, workdir, 0.2)
    yield continued('the same, started again', workdir, unbroken(folder))


def in_a_compilation(folder: pathlib.Path) -> Iterator[Finding]:
    """A ResNet-50, whose step takes XLA more than a minute to compile here."""
    workdir, data = folder / 'in-a-compilation', folder / 'small-images.npz'
    save_noise(data, (32, 32, 3), 10, training=8, validation=8)
    flags = ('--config=configs/imagenet_resnet50.py', f'--config.dataset={data}', '--config.batch_size=2')
    flags += ('--config.compute_dtype=float32', '--config.twins=naive_ste', '--config.max_steps=1')
    process = start(workdir, *flags)
    yield _stopped('in a compilation', process, (workdir / 'checkpoints' / '0').exists, workdir)


def in_an_evaluation(folder: pathlib.Path, images: int = 300_000) -> Iterator[Finding]:
    """The first evaluation, of so many images that it outlasts the signal."""
    workdir, data = folder / 'in-an-evaluation', folder / 'many-images.npz'
    save_noise(data, (8, 8, 1), 10, training=96, validation=images)
    process = start(workdir, *SMALL, f'--config.dataset={data}', '--config.max_steps=1')
    yield _stopped('in an evaluation', process, (workdir / 'metrics.jsonl').exists, workdir)


def on_two_processes(folder: pathlib.Path) -> Iterator[Finding]:
    """A signal to one of two processes: both stop, at the same step."""
    workdir = folder / 'on-two-processes'
    both = _two(workdir)
    yield _stopped('on one of two processes', both[1], lambda: _rows(workdir) >= 2, workdir, 0)
    code, error = finish(both[0])
    yield Finding('the other process', code == _STOPPED, f'ended with {code} {error}')
    ends = [finish(process) for process in _two(workdir)]
    told = '; '.join(f'ended with {code} {error}' for code, error in ends)
    yield Finding('both, started again', all(code == 0 for code, _ in ends), told)


def _two(workdir: pathlib.Path) -> list[subprocess.Popen]:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{listener.getsockname()[1]}'
    return [start(workdir, *SMALL, f'--config.distributed={address},2,{index}', devices=2) for index in (0, 1)]


def _stopped(
    where: str, process: subprocess.Popen, has_come: Callable[[], bool], workdir: pathlib.Path, wait: float = 1
) -> Finding:
    """Sends the signal a little after the moment has come."""
    while not has_come() and process.poll() is None:
        time.sleep(0.05)
    time.sleep(wait)
    process.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    code, error = finish(process)
    seconds = time.monotonic() - sent
    saved = sorted(int(path.name) for path in workdir.glob('checkpoints/[0-9]*'))
    held = code == _STOPPED and seconds <= SECONDS and bool(saved) and 'Traceback' not in error
    return Finding(f'SIGTERM {where}', held, f'ended with {code} after {seconds:.1f} s, checkpoints {saved} {error}')


def _rows(workdir: pathlib.Path) -> int:
    path = workdir / 'metrics.jsonl'
    return path.read_text().count('\n') if path.exists() else 0


def _all(folder: pathlib.Path) -> Iterator[Finding]:
    for each in (in_a_step, in_a_compilation, in_an_evaluation, on_two_processes):
        yield from each(folder)


TRIAL = Trial(
    'signals',
    f'SIGTERM in a step, a compilation or an evaluation, or on one of two processes: saved, and ended with 143 within '
    f'{SECONDS} s.',
    _all,
)
