"""SIGKILL at any moment: the same command again ends as a run that nothing happened to, byte for byte."""

import pathlib
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator

from scripts.trials.trial import Finding, Trial, continued, start, unbroken


def _begun(workdir: pathlib.Path) -> bool:
    return (workdir / 'checkpoints').exists()


def _evaluating(workdir: pathlib.Path) -> bool:
    return (workdir / 'metrics.jsonl').exists() and not (workdir / 'metrics.jsonl').stat().st_size


def _compiling(workdir: pathlib.Path) -> bool:
    return (workdir / 'metrics.jsonl').exists() and (workdir / 'metrics.jsonl').stat().st_size > 0


def _saving(workdir: pathlib.Path) -> bool:
    return any(workdir.glob('checkpoints/.[1-9]*'))


def _reporting(workdir: pathlib.Path) -> bool:
    return (workdir / 'summary.json').exists() and not (workdir / 'report.html').exists()


# What the files show when the moment comes, and the most seconds to wait from then on.
MOMENTS: dict[str, tuple[Callable[[pathlib.Path], bool], float]] = {
    'at a random time': (_begun, 5),
    'while a checkpoint is written': (_saving, 0),
    'in the first evaluation': (_evaluating, 1),
    'while the step is compiled': (_compiling, 1),
    'while the report is written': (_reporting, 1),
}


def kills(folder: pathlib.Path, count: int, devices: tuple[int, ...], seed: int = 0) -> Iterator[Finding]:
    """So many runs, in turn with each number of devices, killed in turn at each moment."""
    generator, names = random.Random(seed), list(MOMENTS)
    for number in range(count):
        each, moment = devices[number % len(devices)], names[number // len(devices) % len(names)]
        whole, workdir = unbroken(folder, each), folder / f'killed-{number}'
        after = _killed(workdir, *MOMENTS[moment], each, generator)
        what = f'killed {moment}, {after:.1f} s after the command, {each} device(s)'
        yield continued(what, workdir, whole, devices=each)


def _killed(workdir: pathlib.Path, has_come: Callable, longest: float, devices: int, generator: random.Random) -> float:
    """Kills a run; one that was faster is made again. Returns the seconds since the command."""
    while True:
        shutil.rmtree(workdir, ignore_errors=True)
        began = time.monotonic()
        process = start(workdir, devices=devices)
        while not has_come(workdir) and process.poll() is None:
            time.sleep(0.0005)
        time.sleep(generator.uniform(0, longest))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            return time.monotonic() - began


TRIAL = Trial(
    'kills',
    'A run killed at any moment, started again with the same command, ends as the unbroken one, byte for byte.',
    lambda folder: kills(folder, 20, (1, 4)),
)
