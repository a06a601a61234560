"""A number that is not finite: its run and layer are named, and the last good checkpoint is kept."""

import pytest

from experiments import train
from experiments.training import trainer
from experiments.workdir import checkpoints
from experiments.workdir.rows import read_rows
from qat.lockstep import finiteness

COMMAND = [
    '--config=configs/digits.py',
    '--config.twins=ste,self',
    '--config.num_epochs=2',
    '--config.eval_every_epochs=1',
    '--config.checkpoint_every_steps=5',
    '--config.learning_rate=0.1',
]


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


@pytest.mark.parametrize(
    'at, noticed',
    [(14, 15), pytest.param(17, 20, marks=pytest.mark.slow)],
    ids=['at an evaluation', 'at a checkpoint'],
)
def test_a_number_that_is_not_finite_is_named_and_the_last_good_checkpoint_kept(
    at, noticed, tmp_path, monkeypatch, capsys
):
    poison(monkeypatch, at, 'ste', 'Dense_1', float('inf'))
    assert train.main([*COMMAND, f'--workdir={tmp_path}']) == 3
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
