"""SIGKILL at any moment: the same command again ends as a run that nothing happened to, byte for byte."""

import itertools
import pathlib
import random
import shutil
import signal
import time
from collections.abc import Callable

import pytest

from tests.reliability.processes import continue_to_the_same_end, differences, finish, start

_TRIES = 20  # to catch a moment before the run is over


def _begun(workdir: pathlib.Path) -> bool:
    return (workdir / 'checkpoints').exists()


def _compiling(workdir: pathlib.Path) -> bool:
    return (workdir / 'metrics.jsonl').exists() and not (workdir / 'metrics.jsonl').stat().st_size


def _stepping(workdir: pathlib.Path) -> bool:
    return (workdir / 'metrics.jsonl').exists() and (workdir / 'metrics.jsonl').stat().st_size > 0


def _saving(workdir: pathlib.Path) -> bool:
    return any(workdir.glob('checkpoints/.[1-9]*'))


def _reporting(workdir: pathlib.Path) -> bool:
    return (workdir / 'summary.json').exists() and not (workdir / 'report.html').exists()


# What the files show when the moment comes, and the most seconds to wait from then on.
MOMENTS: dict[str, tuple[Callable[[pathlib.Path], bool], float]] = {
    'at a random time': (_begun, 5),
    'while a checkpoint is written': (_saving, 0),
    'while the programs are compiled': (_compiling, 2),
    'in the first steps': (_stepping, 1),
    'while the report is written': (_reporting, 1),
}
FAST = [('while a checkpoint is written', 1, 0)]


@pytest.mark.parametrize(
    'moment, devices, seed',
    [
        pytest.param(*case, marks=[] if case in FAST else pytest.mark.slow)
        for case in itertools.product(MOMENTS, (1, 4), (0, 1))
    ],
)
def test_a_killed_run_ends_as_the_unbroken_one(moment, devices, seed, unbroken, tmp_path):
    kill(tmp_path / 'killed', moment, devices, random.Random(f'{moment} {devices} {seed}'))
    continue_to_the_same_end(tmp_path / 'killed', unbroken(devices), devices)


def kill(workdir: pathlib.Path, moment: str, devices: int, generator: random.Random) -> None:
    """Kills a run at a moment; one that was faster is made again."""
    has_come, longest = MOMENTS[moment]
    for _ in range(_TRIES):
        shutil.rmtree(workdir, ignore_errors=True)
        process = start(workdir, devices=devices)
        while not has_come(workdir) and process.poll() is None:
            time.sleep(0.0005)
        time.sleep(generator.uniform(0, longest))
        process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            return
    pytest.fail(f'no run was caught {moment}')


@pytest.mark.slow
@pytest.mark.parametrize('devices', [1, 4])
def test_the_same_command_twice_gives_the_same_bytes(devices, unbroken, tmp_path):
    code, error = finish(start(tmp_path, devices=devices))
    assert code == 0, error
    assert differences(unbroken(devices), tmp_path) == []


def test_the_comparison_sees_a_difference(unbroken, tmp_path):
    whole = unbroken(1)
    assert differences(whole, whole) == []
    for name in ('metrics.jsonl', 'summary.json'):
        (tmp_path / name).write_bytes((whole / name).read_bytes().replace(b'1', b'2', 1))
    (tmp_path / 'config.json').write_bytes((whole / 'config.json').read_bytes())
    (tmp_path / 'checkpoints').symlink_to(whole / 'checkpoints')
    assert differences(whole, tmp_path) == ['metrics.jsonl', 'summary.json']
