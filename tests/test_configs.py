"""What the docstring of a config says came out, came out."""

import json
import pathlib
import re

import jax
import pytest

from configs import digits, mnist, quickstart
from experiments import train
from experiments.results import limit
from experiments.training import sharing
from qat.lockstep.verdict import NO

RESULTS = pathlib.Path(__file__).parent.parent / 'docs' / 'results'


def check(text: str, summary: dict) -> None:
    """Every number of the text's result stands in the summary, rounded alike."""
    said = re.findall(r'0\.\d{3,}', text.partition('Result:')[2])
    assert said
    values = [summary['reference']['accuracy']]
    values += [twin[key] for twin in summary['twins'].values() for key in ('weight_alignment_error', 'accuracy')]
    for number in said:
        assert number in {f'{value:.{len(number) - 2}f}' for value in values}, number


def test_of_a_run_that_is_committed():
    check(mnist.__doc__, json.loads((RESULTS / 'mnist' / 'mnist-sgd' / 'summary.json').read_text()))


@pytest.mark.slow
def test_of_digits(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, 'local_devices', lambda _: jax.local_devices()[:1])
    assert train.main(['--config=configs/digits.py', f'--workdir={tmp_path}']) == 0
    summary = json.loads((tmp_path / 'summary.json').read_text())
    check(digits.__doc__, summary)
    (ratio,) = re.findall(r'\d\.\d times', digits.__doc__)
    assert summary['verdict'].startswith(NO) and ratio in summary['verdict']


@pytest.mark.slow
def test_of_the_quickstart(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, 'local_devices', lambda _: jax.local_devices()[:1])
    assert train.main(['--config=configs/quickstart.py', f'--workdir={tmp_path}']) == 0
    summary = json.loads((tmp_path / 'summary.json').read_text())
    ratio, order = re.findall(r'\d\.\d times|-?\d\.\d\d \[[^]]+\]', quickstart.__doc__)
    assert summary['verdict'].startswith(NO) and ratio in summary['verdict']
    assert summary['limit']['answer'].startswith(limit.YES) and order in summary['limit']['answer']
