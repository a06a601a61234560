"""Something is not what it was when the run began: a user's file, its arrays, a checkpoint. Never silently."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments import convert, report, train
from experiments.setup import users
from experiments.sweeps import table
from scripts import sweep
from tests.reliability.processes import PATIENCE_SECONDS, ROOT

SLOPES = """
import functools
import jax.numpy as jnp
from helper import height
def family(k):
    def slope(r): return height + k * jnp.cos(2 * jnp.pi * r)
    return slope
low, high = family(0.1), family(0.8)
nameless = lambda r, k=0.5: height + k * jnp.cos(2 * jnp.pi * r)
def passed_on(function): return lambda *args, **options: function(*args, **options)
wrapped = passed_on(nameless)
bound = functools.partial(lambda r, wave=jnp.sin, k=0.3: height + k * wave(r) ** 2, wave=jnp.cos)
"""
NAMES = ('low', 'high', 'nameless', 'wrapped', 'bound')
SMALL = ['--config=configs/digits.py', '--config.twins=self,naive_ste', '--config.checkpoint_every_steps=2']


def begin(folder: pathlib.Path) -> list[str]:
    """Writes a user's slopes and arrays; returns the flags of a run that uses both."""
    (folder / 'fam.py').write_text(SLOPES)
    (folder / 'helper.py').write_text('height = 1\n')
    arrays(folder / 'mine.npz', 0)
    return of(folder)


def of(folder: pathlib.Path, epochs: int = 1) -> list[str]:
    return [*SMALL, '--config.batch_size=10', f'--config.dataset={folder}/mine.npz', f'--config.num_epochs={epochs}']


def arrays(path: pathlib.Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    images, labels = random.integers(0, 255, (40, 8, 8, 1), np.uint8), np.arange(40) % 4
    np.savez(path, train_images=images, train_labels=labels, validation_images=images, validation_labels=labels)


@pytest.fixture(scope='module')
def ended(tmp_path_factory) -> pathlib.Path:
    """A run of 4 steps."""
    folder = tmp_path_factory.mktemp('ended')
    assert train.main([*begin(folder), f'--config.estimator={folder}/fam.py:low', f'--workdir={folder}/run']) == 0
    return folder


def files(workdir: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(workdir)): path.read_bytes() for path in workdir.rglob('*') if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize('edited', ['fam.py', 'helper.py', 'mine.npz'])
def test_an_edited_file_is_named_and_nothing_is_touched(edited, ended, capsys):
    path, before = ended / edited, files(ended / 'run')
    content = path.read_bytes()
    try:
        arrays(path, 1) if edited == 'mine.npz' else path.write_bytes(content + b'# edited\n')
        command = [*of(ended, epochs=2), f'--config.estimator={ended}/fam.py:low', f'--workdir={ended}/run']
        assert train.main(command) == 2
        error = capsys.readouterr().err
        assert error.count('\n') == 1 and f'{edited}: not what it was when the run in' in error
        for main, flags in (
            (report.main, ['--run-code']),
            (convert.main, ['--to=ste', f'--out={ended}/x', '--run-code']),
        ):
            given = [f'{ended}/run'] if main is report.main else ['--from', f'{ended}/run']
            if (main, edited) != (report.main, 'mine.npz'):  # a report needs no data
                assert main([*given, *flags]) == 2
                assert f'{edited}: not what it was' in capsys.readouterr().err
        assert files(ended / 'run') == before
    finally:
        path.write_bytes(content)


@pytest.mark.slow
def test_another_slope_of_the_same_factory_is_another_run(ended, capsys):
    command = [*of(ended), f'--config.estimator={ended}/fam.py:high', f'--workdir={ended}/run']
    assert train.main(command) == 2
    assert 'these keys differ: estimator.' in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_every_name_works_to_the_end(name, tmp_path, capsys):
    flags, out = begin(tmp_path), tmp_path / 'converted'
    workdir = tmp_path / 'run'
    command = [*flags, f'--config.estimator={tmp_path}/fam.py:{name}', f'--workdir={workdir}']
    assert train.main(command) == 0
    assert f'Runs the code of {tmp_path}/fam.py' in capsys.readouterr().out
    page = (workdir / 'report.html').read_bytes()
    assert report.main([str(workdir), '--run-code']) == 0
    assert (workdir / 'report.html').read_bytes() == page
    assert train.main([f'--config={workdir}/config.json', f'--workdir={workdir}', '--config.num_epochs=2']) == 0
    given = ['--from', str(workdir), '--to=ste', f'--out={out}', '--config.num_epochs=3', '--run-code']
    assert convert.main(given) == 0
    assert train.main([f'--config={out}/config.json', f'--workdir={out}']) == 0
    assert json.loads((out / 'summary.json').read_text())['steps'] == 12
    back = ['--from', str(workdir), f'--to={tmp_path}/fam.py:{name}', f'--out={tmp_path}/back', '--config.num_epochs=3']
    assert convert.main([*back, '--run-code']) == 0
    assert train.main([f'--config={tmp_path}/back/config.json', f'--workdir={tmp_path}/back']) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    'case, said, goes_on',
    [
        ('renamed', 'it is of step 4; set aside as 6.set-aside', True),
        ('foreign', 'it belongs to another run; set aside as 6.set-aside', True),
        ('all foreign', 'no sound checkpoint is left', False),
        ('config.json deleted', 'these keys differ: seed.', False),
        ('config.json and identity.json deleted', 'no run of this program made that', False),
        ('older', '', True),
    ],
)
def test_a_checkpoint_belongs_to_its_run(case, said, goes_on, ended, tmp_path, capsys):
    folder = shutil.copytree(ended, tmp_path / 'copy')
    for name in ('config.json', 'identity.json'):  # the copy is the same run: its files have not moved
        assert str(ended) in (folder / 'run' / name).read_text()
    checkpoints, flags = folder / 'run' / 'checkpoints', []
    match case:
        case 'renamed':
            shutil.copytree(checkpoints / '4', checkpoints / '6')
        case 'foreign' | 'all foreign':
            other = tmp_path / 'other'
            changed = [*of(ended, epochs=2), f'--config.estimator={ended}/fam.py:low', '--config.seed=1']
            assert train.main([*changed, '--config.max_steps=6', f'--workdir={other}']) == 0
            shutil.copytree(other / 'checkpoints' / '6', checkpoints / '6')
            if case == 'all foreign':
                shutil.rmtree(checkpoints / '4')
                shutil.rmtree(checkpoints / '2')
        case 'older':
            shutil.rmtree(checkpoints / '4')
        case _:
            (folder / 'run' / 'config.json').unlink()
            (folder / 'run' / 'identity.json').unlink() if 'identity' in case else None
            flags = ['--config.seed=1']
    command = [*of(ended, epochs=2), f'--config.estimator={ended}/fam.py:low', *flags]
    capsys.readouterr()
    assert train.main([*command, f'--workdir={folder}/run']) == (0 if goes_on else 2)
    error = capsys.readouterr().err
    assert said in error
    if goes_on:
        assert json.loads((folder / 'run' / 'summary.json').read_text())['twins']['self']['weight_alignment_error'] == 0


@pytest.mark.slow
def test_a_sweep_of_two_slopes_of_one_factory_and_of_an_edited_file(tmp_path):
    flags = [
        *begin(tmp_path),
        f'--grid=estimator={tmp_path}/fam.py:low|{tmp_path}/fam.py:high',
        f'--out={tmp_path}/out',
    ]
    assert sweep.main(flags) == 0
    first = (tmp_path / 'out' / table.CSV).read_text()
    errors = [line.split(',')[-8:] for line in first.splitlines() if 'naive_ste' in line]
    assert len(errors) == 2 and errors[0] != errors[1]
    (tmp_path / 'helper.py').write_text('height = 1.1\n')
    assert sweep.main(flags) == 0
    second = (tmp_path / 'out' / table.CSV).read_text()
    assert len(second.splitlines()) == len(first.splitlines()) and second != first
    assert len(list((tmp_path / 'out' / 'points').iterdir())) == 4  # the old runs are kept, and are others


@pytest.mark.slow
@pytest.mark.parametrize('end', [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_the_trial_of_a_slope_ends_with_whoever_started_it(end, tmp_path):
    (tmp_path / 'mine.py').write_text(
        f'import os, pathlib, subprocess\nother = subprocess.Popen(["sleep", "3600"])\n'
        f'pathlib.Path({str(tmp_path)!r}, "pids").write_text(f"{{os.getpid()}} {{other.pid}}")\nother.wait()\n'
    )
    command = [sys.executable, '-m', 'experiments.train', *SMALL, f'--config.estimator={tmp_path}/mine.py:slope']
    pipes = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as parent:
        until(lambda: (tmp_path / 'pids').exists() and len((tmp_path / 'pids').read_text().split()) == 2)
        pids = (tmp_path / 'pids').read_text().split()
        assert all(map(alive, pids))
        parent.send_signal(end)
        parent.wait(PATIENCE_SECONDS)
    until(lambda: not any(map(alive, pids)))


def until(condition) -> None:
    """Waits, generously, until it is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: str) -> bool:
    try:
        return pathlib.Path('/proc', pid, 'stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


@pytest.mark.slow
def test_a_slope_that_computes_for_ever_is_told_by_its_processor_time(tmp_path, monkeypatch):
    monkeypatch.setattr(users, '_SECONDS', 2)
    (tmp_path / 'mine.py').write_text('import sys\nassert not sys.stdin.read()\nwhile True: pass\n')
    with pytest.raises(ValueError, match='did not return within 2 s; put what runs under if __name__'):
        users.load_estimator(f'{tmp_path}/mine.py', 'slope', 2)
