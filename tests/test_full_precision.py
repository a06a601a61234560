"""A run in which nothing is quantized: it trains and evaluates the reference alone, and says so everywhere."""

import json
import pathlib
import shlex

import pytest

from experiments import explain, report, train
from experiments.setup import command_line, settings

NONE = ['--config=configs/digits.py', '--config.quantized=none', '--config.max_steps=20', '--config.learning_rate=0.1']


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp('full') / 'run'
    assert train.main([*NONE, f'--workdir={workdir}']) == 0
    return workdir


def test_it_trains_the_reference_alone(finished):
    result = json.loads((finished / 'summary.json').read_text())
    assert result['verdict'].startswith('No verdict: nothing is quantized') and result['twins'] == {}
    assert result['reference']['accuracy'] > 0.3
    rows = [json.loads(line) for line in (finished / 'metrics.jsonl').read_text().splitlines()]
    assert all(set(row) == {'step', 'train/loss', 'eval/accuracy', 'eval/loss'} for row in rows)
    assert json.loads((finished / 'config.json').read_text())['twins'] == ''


def test_a_run_from_given_weights_tells_their_accuracy(finished, tmp_path, capsys):
    accuracy = json.loads((finished / 'summary.json').read_text())['reference']['accuracy']
    flags = [*NONE, '--config.max_steps=1', f'--config.init_from={finished}', f'--workdir={tmp_path / "run"}']
    assert train.main(flags) == 0
    assert f'as given by init_from: accuracy {accuracy:.3f}' in capsys.readouterr().out


def test_neither_estimator_nor_bits_nor_range_nor_twins_are_used(finished, tmp_path):
    other = ['--config.estimator=ewgs', '--config.bits=5', '--config.range=max_abs', '--config.twins=jitter']
    assert train.main([*NONE, *other, '--config.optimizer=sgd(momentum=0.9)', f'--workdir={tmp_path / "run"}']) == 0
    assert (tmp_path / 'run/metrics.jsonl').read_bytes() == (finished / 'metrics.jsonl').read_bytes()


def test_the_report_says_so_and_what_to_do_next(finished, capsys):
    (finished / 'report.html').unlink()
    assert report.main([str(finished)]) == 0
    page = (finished / 'report.html').read_text()
    assert 'Nothing is quantized in this run' in page and 'In the limit' not in page and 'STE in disguise?' not in page
    command = page.partition('python -m experiments.train ')[2].partition('<')[0].replace('&#39;', "'")
    config, _ = command_line.parse(shlex.split(command))
    resolved = settings.resolve(config)
    assert config.init_from == str(finished) and config.quantized == 'conv' and 'jitter' in resolved.twins


def test_explain_says_so(tmp_path, capsys):
    adam = ['--config.optimizer=adam', f'--out={tmp_path}']  # for which it would ask for the ranges
    assert explain.main([*NONE, *adam]) == 0
    said = capsys.readouterr().out
    assert 'full precision, convnet, adam' in said and 'nothing is quantized (quantized=none)' in said
    assert 'kappa' not in said and 'dsq' not in said
    assert explain.main([*NONE, *adam, '--json']) == 0
    assert set(json.loads(capsys.readouterr().out)) == {'setting', 'theory'}
