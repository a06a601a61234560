"""A run that goes on elsewhere: on another number of devices, after an older jax, and longer than it was meant to."""

import json
import pathlib
import shutil

import pytest

from experiments import train
from tests.reliability.processes import ROOT, SMALL, finish, kill_after, start

# Workdirs, interrupted; their READMEs say how they were made.
OLDER_JAX, OLDER_VERSION = (ROOT / 'tests' / 'data' / name for name in ('older_jax', 'older_version'))


@pytest.fixture(scope='module')
def on_eight_devices(tmp_path_factory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp('eight')
    kill_after(workdir, 20, devices=8)
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize('devices', [1, 4])
def test_from_eight_devices_to_fewer(devices, on_eight_devices, tmp_path):
    goes_on(shutil.copytree(on_eight_devices, tmp_path / 'run'), *SMALL, devices=devices)


@pytest.mark.slow
def test_a_run_of_an_older_jax(tmp_path):
    workdir = shutil.copytree(OLDER_JAX, tmp_path / 'run')
    goes_on(workdir, f'--config={workdir / "config.json"}')


def test_a_run_of_an_older_version_is_refused_in_one_line_and_left_alone(tmp_path, capsys):
    workdir = shutil.copytree(OLDER_VERSION, tmp_path / 'run')
    before = {path: path.read_bytes() for path in workdir.rglob('*') if path.is_file() and path.suffix != '.json'}
    command = [f'--config={workdir / "config.json"}', f'--workdir={workdir}']
    assert train.main(command) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('error')]
    assert 'was written by another version of this program' in error and len(error) <= 300
    assert {path: path.read_bytes() for path in before} == before


def goes_on(workdir: pathlib.Path, *flags: str, devices: int = 1) -> None:
    """The run comes to its end with new rows behind the earlier ones, and the exact copy stays exact."""
    before = (workdir / 'metrics.jsonl').read_text()
    code, error = finish(start(workdir, *flags, devices=devices))
    assert code == 0, error
    after = (workdir / 'metrics.jsonl').read_text()
    assert after.startswith(before) and after != before
    twins = json.loads((workdir / 'summary.json').read_text())['twins']
    assert twins['self']['weight_alignment_error'] == 0


@pytest.mark.slow
def test_num_epochs_may_grow_and_nothing_else(tmp_path, capsys):
    command = ['--config=configs/digits.py', '--config.twins=ste,self', '--config.learning_rate=0.1']
    command += ['--config.checkpoint_every_steps=5', '--config.batch_size=750', f'--workdir={tmp_path}']
    assert train.main([*command, '--config.num_epochs=6']) == 0
    rows = (tmp_path / 'metrics.jsonl').read_text()
    assert train.main([*command, '--config.num_epochs=11']) == 0
    assert json.loads((tmp_path / 'summary.json').read_text())['steps'] == 22
    assert (tmp_path / 'metrics.jsonl').read_text().startswith(rows)
    for flag, key in (('num_epochs=10', 'num_epochs'), ('bits=3', 'bits'), ('seed=1', 'seed')):
        capsys.readouterr()
        assert train.main([*command, '--config.num_epochs=11', f'--config.{flag}']) == 2
        assert f'differ: {key}.' in capsys.readouterr().err
