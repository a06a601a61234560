"""A model of the user's own, and the choice of what is quantized, through the command line."""

import json

import jax
import numpy as np
import pytest

import qat
from configs import digits
from experiments import train
from experiments.data import registry
from experiments.setup.settings import resolve
from experiments.training import sharing, trainer
from qat import weights
from qat.lockstep.state import Moment

MODEL = """
import flax.linen as nn


class Perceptron(nn.Module):
    classes: int
    width: int = 16

    @nn.compact
    def __call__(self, images):
        hidden = nn.relu(nn.Dense(self.width)(images.reshape(len(images), -1)))
        return nn.Dense(self.classes)(hidden)


class NeedsColour(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, images, train):
        if images.shape[-1] != 3:
            raise ValueError('three channels, please')
        return nn.Dense(self.classes)(images.mean((1, 2)))


not_a_model = 3
"""
DIGITS = ['--config=configs/digits.py', '--config.max_steps=3', '--config.twins=ste,self']


@pytest.fixture
def file(tmp_path) -> str:
    path = tmp_path / 'mine.py'
    path.write_text(MODEL)
    return str(path)


@pytest.mark.parametrize(
    'quantized, layers',
    [pytest.param('all', {'Dense_0', 'Dense_1'}, marks=pytest.mark.slow), ('Dense_0/*l', {'Dense_0'})],
)
def test_a_flax_module_from_a_file(quantized, layers, file, tmp_path, capsys):
    command = [*DIGITS, f'--config.model={file}:Perceptron(width=8)', f'--config.quantized={quantized}']
    assert train.main([*command, '--config.range=max_abs', f'--workdir={tmp_path / "run"}']) == 0
    last = json.loads((tmp_path / 'run/metrics.jsonl').read_text().splitlines()[-1])
    measured = {key.removeprefix('ste/').rpartition('/')[0] for key in last if key.startswith('ste/')}
    assert measured - {''} == layers
    result = json.loads((tmp_path / 'run/summary.json').read_text())
    assert result['twins']['self']['weight_alignment_error'] == 0


@pytest.mark.parametrize(
    'model, message',
    [
        ('Perceptron(depth=2)', "unknown field of Perceptron 'depth'"),
        ('Perceptron', 'quantized=conv: the model has no such weight. Try --config.quantized=all'),
        ('NeedsColour', 'NeedsColour does not take images of 8x8x1: three channels, please'),
        ('not_a_model', 'unknown function of'),
        ('Other', "'Other'"),
    ],
)
def test_what_is_no_model_or_does_not_fit_is_refused_in_one_line(model, message, file, tmp_path, capsys):
    assert train.main([*DIGITS, f'--config.model={file}:{model}', f'--workdir={tmp_path / "run"}']) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1 and len(error) <= 301
    assert not (tmp_path / 'run').exists()


def test_the_trainer_is_a_user_of_the_library(monkeypatch):
    """Its pair on the ConvNet equals, bit for bit, one that is built from the library's names alone."""
    monkeypatch.setattr(sharing, 'local_devices', lambda _: jax.local_devices()[:1])
    config = digits.get_config()
    config.update({'twins': 'ste,naive_ste,jitter', 'num_epochs': 1})
    settings = resolve(config)
    run = trainer.Trainer(settings, registry.load(settings.config))
    task = run.batches.task(settings.model)
    pair = qat.Lockstep(
        lambda params, batch: task.loss(params, {}, batch)[0],
        qat.optimizer('sgd(momentum=0.9)'),
        'dsq(k=6.5)',
        2,
        quantized=lambda path: path in ('conv1/kernel', 'conv2/kernel'),
        twins=('ste', 'naive_ste', 'jitter'),
        ranges='he_uniform',
    )
    ours, theirs = run.initial_state(), pair.init(task.init(jax.random.key(config.seed))[0])
    step, rates = jax.jit(pair.step), settings.learning_rates(run.steps)
    for number, (batch, plain) in enumerate(zip(run.drawn_from(0), run.batches.train(0, 15))):
        if number == run.steps:
            break
        ours = run.advance(ours, number, batch)
        theirs, _ = step(theirs, plain, Moment(rates[number], np.float32(number / run.steps), np.bool_(False)))
    for name, reference in ours.runs.items():
        for one, other in zip(jax.tree.leaves(reference.params), jax.tree.leaves(theirs.runs[name].params)):
            assert np.array_equal(one, other)
    assert weights.all_paths(ours.tracking) == weights.all_paths(theirs.tracking)
    for one, other in zip(jax.tree.leaves(ours.tracking), jax.tree.leaves(theirs.tracking)):
        assert np.array_equal(one, other)
    assert sharing.programs(settings, run.batches) is run.programs
