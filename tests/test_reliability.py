"""A small dose of every trial of `python -m scripts.reliability`, and what stops a run."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments import train
from experiments.training import finiteness, trainer
from experiments.workdir import checkpoints, checksums
from experiments.workdir.records import read_rows
from scripts import reliability
from scripts.trials import damage, hardware, kills, nonsense, same, signals, soak
from scripts.trials.trial import Finding, Trial, differences, unbroken

DIGITS = '--config=configs/digits.py'
SHORT = [DIGITS, '--config.twins=ste,self', '--config.checkpoint_every_steps=5', '--config.learning_rate=0.1']


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp('trials')


def all_hold(findings) -> None:
    found = list(findings)
    assert found and not [str(finding) for finding in found if not finding.held]


def test_a_killed_run_ends_as_the_unbroken_one(folder):
    all_hold(kills.kills(folder, 2, (1,)))


def test_sigterm_in_a_step(folder):
    all_hold(signals.in_a_step(folder))


@pytest.mark.parametrize(
    'kind', [pytest.param('half_written', marks=pytest.mark.slow), 'torn_row', 'nothing_left', 'two_at_once']
)
def test_damage(kind, folder):
    all_hold(getattr(damage, kind)(folder))


def test_damage_to_files_of_the_newest_checkpoint(folder):
    all_hold(damage.files(folder, every=29))


@pytest.mark.skipif(not damage.can_mount(), reason='this user may not mount a small file system')
def test_a_full_disk(folder):
    all_hold(damage.full_disk(folder, rooms=(500_000,)))


def test_a_run_of_an_older_jax_goes_on(folder):
    all_hold(hardware.older_jax(folder))


def test_eight_devices_go_on_as_one(folder):
    all_hold(hardware.other_devices(folder, counts=(1,)))


def test_nonsense_at_main(folder):
    (folder / 'thrown').mkdir()
    ends = nonsense.throw_at_main(folder / 'thrown', 15)
    assert sum(ends.values()) >= 15 and {0, 2} <= set(ends)


def test_nonsense_at_the_process(folder):
    (folder / 'hostile').mkdir()
    all_hold(nonsense.at_processes(folder / 'hostile', 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    'trial',
    [signals.in_a_compilation, signals.in_an_evaluation, signals.on_two_processes, hardware.more_epochs, same.twice],
)
def test_longer_trials(trial, folder):
    all_hold(trial(folder))


def test_the_comparison_sees_a_difference(folder, tmp_path):
    whole = unbroken(folder)
    assert differences(whole, whole) == []
    for name in ('metrics.jsonl', 'summary.json'):
        (tmp_path / name).write_bytes((whole / name).read_bytes().replace(b'1', b'2', 1))
    (tmp_path / 'config.json').write_bytes((whole / 'config.json').read_bytes())
    (tmp_path / 'checkpoints').symlink_to(whole / 'checkpoints')
    assert differences(whole, tmp_path) == ['metrics.jsonl', 'summary.json']


def test_damage_is_found_wherever_it_is(tmp_path):
    (tmp_path / 'deep').mkdir()
    for name in ('a', 'deep/b'):
        (tmp_path / name).write_bytes(b'12345678')
    checksums.seal(tmp_path)
    assert checksums.damage(tmp_path) is None
    for name in ('a', 'deep/b', 'checksums.json'):
        before = (tmp_path / name).read_bytes()
        for damaging in damage.DAMAGES.values():
            damaging(tmp_path / name)
            assert name in checksums.damage(tmp_path)
            (tmp_path / name).write_bytes(before)
    assert checksums.damage(tmp_path) is None


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
    assert process.wait(signals.SECONDS) == 128 + number
    assert (tmp_path / 'rescued').exists()


def poison(monkeypatch, at: int, run: str, layer: str, value: float) -> None:
    """Puts a number into a layer's bias before a step."""
    step = trainer.Trainer.advance

    def poisoned(self, state, number, batch):
        if number == at:
            params = state.runs[run].params
            bias = params[layer]['bias'].at[0].set(value)
            params = {**params, layer: {**params[layer], 'bias': bias}}
            poisoned_run = state.runs[run].replace(params=params)
            state = self.programs.placed(state.replace(runs={**state.runs, run: poisoned_run}))
        return step(self, state, number, batch)

    monkeypatch.setattr(trainer.Trainer, 'advance', poisoned)


@pytest.mark.parametrize('at, noticed', [(14, 15), (17, 20)], ids=['at an evaluation', 'at a checkpoint'])
def test_a_number_that_is_not_finite_is_named_and_the_last_good_checkpoint_kept(
    at, noticed, tmp_path, monkeypatch, capsys
):
    poison(monkeypatch, at, 'ste', 'Dense_1', float('inf'))
    assert train.main([*SHORT, '--config.num_epochs=2', '--config.eval_every_epochs=1', f'--workdir={tmp_path}']) == 3
    error = capsys.readouterr().err
    assert f'not finite at step {noticed}: ste (' in error and 'reference' not in error
    assert read_rows(tmp_path)[-1]['step'] == noticed and read_rows(tmp_path)[-1]['ste/eval_loss'] is None
    assert not (tmp_path / 'summary.json').exists()
    with checkpoints.Checkpoints(tmp_path) as kept:
        assert kept.newest() == noticed - 5


def test_what_is_not_finite_is_named_by_run_and_layer():
    found = {'reference': {'training loss': True, 'conv1': True}, 'ste': {'training loss': True, 'conv1': False}}
    assert finiteness.complaint(found, {}) == 'ste (conv1)'
    found['ste']['conv1'] = True
    assert finiteness.complaint(found, {'eval/loss': 0.5, 'ste/eval_loss': None}) == 'ste/eval_loss'
    assert finiteness.complaint(found, {'eval/loss': 0.5, 'ste/weight_alignment_error': None}) == ''
    layers = dict.fromkeys('abcde', False)
    assert finiteness.complaint({'jitter': layers}, {}) == 'jitter (a, b, c and 2 more)'


def test_num_epochs_may_grow_and_nothing_else(tmp_path, capsys):
    command = [*SHORT, '--config.batch_size=750', f'--workdir={tmp_path}']
    assert train.main([*command, '--config.num_epochs=6']) == 0
    rows = (tmp_path / 'metrics.jsonl').read_text()
    assert train.main([*command, '--config.num_epochs=11']) == 0
    assert json.loads((tmp_path / 'summary.json').read_text())['steps'] == 22
    assert (tmp_path / 'metrics.jsonl').read_text().startswith(rows)
    for flag, key in (('num_epochs=10', 'num_epochs'), ('bits=3', 'bits')):
        capsys.readouterr()
        assert train.main([*command, '--config.num_epochs=11', f'--config.{flag}']) == 2
        assert f'differ: {key}.' in capsys.readouterr().err


def test_a_run_without_any_checkpoint_does_not_begin_again_silently(tmp_path, capsys):
    command = [*SHORT, '--config.max_steps=3', f'--workdir={tmp_path}']
    assert train.main(command) == 0
    rows = (tmp_path / 'metrics.jsonl').read_text()
    (tmp_path / 'checkpoints').rename(tmp_path / 'elsewhere')
    assert train.main(command) == 2
    assert 'has come to step 3, and no checkpoint is there any more' in capsys.readouterr().err
    assert (tmp_path / 'metrics.jsonl').read_text() == rows
    (tmp_path / 'checkpoints').rmdir()
    (tmp_path / 'elsewhere').rename(tmp_path / 'checkpoints')
    assert train.main(command) == 0


def test_weights_to_start_from_are_those_of_the_newest_sound_checkpoint(tmp_path, capsys):
    assert train.main([*SHORT, '--config.max_steps=7', f'--workdir={tmp_path}']) == 0
    sound = checkpoints.read_weights(str(tmp_path))
    damage._flip(next((tmp_path / 'checkpoints' / '7').rglob('_METADATA')))
    older = checkpoints.read_weights(str(tmp_path))
    assert 'taking step 5' in capsys.readouterr().err
    assert not np.array_equal(sound['params']['conv1']['kernel'], older['params']['conv1']['kernel'])
    assert (tmp_path / 'checkpoints' / '7').exists()  # somebody else's: nothing is moved


def test_the_page(tmp_path, monkeypatch, capsys):
    findings = [Finding('this | that', True, 'fine'), Finding('x', None, 'no disk')]
    made = tuple(Trial(name, 'up', lambda folder: iter(findings)) for name in ('made', 'again'))
    monkeypatch.setattr(reliability, 'TRIALS', made)
    assert reliability.main(['--only', 'made', '--out', str(tmp_path)]) == 0
    page = tmp_path / 'reliability.md'
    text = page.read_text()
    assert '1 of 2 trials held' in text and r'| this \| that | held | fine |' in text and '| not tried |' in text
    assert reliability.main(['--only', 'again', '--out', str(tmp_path)]) == 0
    findings.append(Finding('y', False, 'broke'))
    assert reliability.main(['--only', 'made', '--out', str(tmp_path)]) == 1
    text = page.read_text()
    assert '2 of 5 trials held' in text and text.count('| y | BROKEN | broke |') == 1
    assert reliability.main(['--only', 'nothing']) == 2
    assert 'there are made, again' in capsys.readouterr().err


@pytest.mark.slow
def test_the_soak_measures_the_process(folder):
    found = {finding.what: finding for finding in soak.soak(folder, steps=300, seconds=0.1)}
    assert len(found) == 3 and all('samples' in finding.seen for finding in found.values())
