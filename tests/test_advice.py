"""A run that cannot go on says the likeliest cause, and one whose memory ends says so in one line."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from configs import common
from experiments import train
from experiments.data.arrays import SPLITS, ArrayBatches, Arrays
from experiments.errors import UserError
from experiments.setup import settings
from experiments.training import advice
from experiments.training.trainer import Trainer

COMMAND = ['--config=configs/digits.py', '--config.twins=self', '--config.batch_size=100', '--config.max_steps=1']


def resolved(**values) -> settings.Settings:
    return settings.resolve(
        ml_collections.ConfigDict({**common.get_config(), 'twins': 'self', 'learning_rate': 0.01, **values})
    )


@pytest.mark.parametrize(
    ('values', 'step', 'doubt', 'said'),
    [
        ({}, 3, '', 'a smaller learning rate than 0.01'),
        ({'optimizer': 'adam'}, 3, '', 'a smaller learning rate than 0.01'),
        ({'optimizer': 'adam(eps=0)'}, 3, '', 'try eps=1e-8'),
        ({'optimizer': 'adam(eps=1e-300)'}, 3, '', 'try eps=1e-8'),  # 0 in float32
        ({'optimizer': 'rmsprop(eps=0)'}, 3, '', 'try eps=1e-8'),
        ({'optimizer': 'adam(eps=0)', 'learning_rate': 1e30}, 3, '', 'a smaller learning rate'),
        ({'weight_decay': 1e30}, 3, '', 'a smaller weight decay'),
        ({'weight_decay': 1e-4, 'learning_rate': 1e30}, 3, '', 'a smaller learning rate'),
        ({'optimizer': 'adam(eps=0)'}, 0, 'the images reach inf', 'the images reach inf'),
        ({'optimizer': 'adam(eps=0)'}, 0, '', 'nothing is trained yet, so look at the model (convnet)'),
    ],
)
def test_the_advice_fits_the_cause(values, step, doubt, said):
    assert said in advice.on_not_finite(resolved(**values), step, doubt)


@pytest.mark.parametrize(
    ('image', 'said'),
    [
        (np.float32(100), ''),
        (np.float32(-255), 'the images reach 255: bring them to a scale of 0 to 1'),
        (np.float32('nan'), 'the images reach nan'),
        (np.uint8(255), ''),  # which the model reads as 1
    ],
)
def test_images_on_a_scale_that_is_hard_to_learn_from_are_doubted(image, said):
    images, labels = np.full((4, 8, 8, 1), image), np.arange(4, dtype=np.int32)
    batches = ArrayBatches(Arrays(dict.fromkeys(SPLITS, images), dict.fromkeys(SPLITS, labels)), 0, 4)
    found = batches.task(resolved().model).doubt(next(batches.validation()))
    assert found.startswith(said) and bool(found) == bool(said)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('flag', 'said'), [('optimizer=adam(eps=0)', 'try eps=1e-8'), ('weight_decay=1e30', 'a smaller weight decay')]
)
def test_the_cause_is_told_by_a_run(flag, said, tmp_path, capsys):
    assert train.main([*COMMAND, '--config.warmup_fraction=0', f'--config.{flag}', f'--workdir={tmp_path}']) == 3
    assert said in capsys.readouterr().err.splitlines()[-1]


def exhausted(*_):
    return jax.block_until_ready(jnp.zeros(2**46, np.int8))


@pytest.mark.parametrize('end', [exhausted, lambda *_: np.zeros(2**55)], ids=['of a device', 'of the host'])
def test_the_end_of_memory_is_one_line(end, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Trainer, 'initial_state', end)
    assert train.main([*COMMAND, f'--workdir={tmp_path}']) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: out of memory (') and 'a batch_size below 100' in error and error.count('\n') == 1
    assert len(error) <= 300


def test_other_errors_of_jax_are_not_taken_for_it():
    with pytest.raises(jax.errors.JaxRuntimeError, match='INTERNAL'), advice.where_memory_ends(resolved()):
        raise jax.errors.JaxRuntimeError('INTERNAL: something else')
    with pytest.raises(UserError, match='RESOURCE_EXHAUSTED'), advice.where_memory_ends(resolved()):
        raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory while trying to allocate 25.00GiB.')
