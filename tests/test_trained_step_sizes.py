"""Weights to start from where step sizes are trained, and ranges that the weights of a model cannot have."""

import jax
import numpy as np
import pytest

from configs import digits
from experiments import explain
from experiments.data import registry
from experiments.errors import UserError
from experiments.setup.settings import resolve
from experiments.training.trainer import Trainer
from experiments.workdir.checkpoints import Checkpoints
from qat.lockstep.twins import REFERENCE


def begun(**keys) -> dict:
    """The reference's parameters before the first step; with `workdir`, saved there."""
    workdir, config = keys.pop('workdir', None), digits.get_config()
    config.update({'max_steps': 1, 'twins': 'self', 'estimator': 'ste', **keys})
    settings = resolve(config)
    state = Trainer(settings, registry.load(settings.config)).initial_state()
    if workdir:
        workdir.mkdir()
        with Checkpoints(workdir) as checkpoints:
            checkpoints.save_now(state, ())
    return jax.device_get(state.runs[REFERENCE].params)


def test_step_sizes_are_trained_from_weights_in_full_precision_on_but_no_weights_are_taken_without_theirs(tmp_path):
    full, units = tmp_path / 'full', tmp_path / 'units'
    given = begun(quantized='none', twins='', seed=3, workdir=full)
    trained = begun(range_policy='learned_u', range='channel_max_abs', init_from=str(full), workdir=units)
    assert trained['step_sizes']['conv2'].shape == (1, 1, 1, given['conv2']['kernel'].shape[-1])
    weights = trained['conv2']['kernel'] * trained['step_sizes']['conv2']
    np.testing.assert_allclose(weights, given['conv2']['kernel'], rtol=1e-6)
    for policy in ('fixed', 'learned_u'):
        with pytest.raises(UserError, match=r'init_from: .* trained step sizes'):
            begun(range_policy=policy, init_from=str(units))


def test_blocks_that_do_not_divide_are_told_in_a_line(capsys):
    with pytest.raises(UserError, match=r'^range=block_max_abs\(size=7\): .* is not made of such blocks'):
        begun(range='block_max_abs(size=7)')
    adam = ['--config=configs/digits.py', '--config.optimizer=adam', '--config.range=block_max_abs(size=7)']
    assert explain.main([*adam, '--json']) == 2
    assert capsys.readouterr().err.startswith('error: range=block_max_abs(size=7): ')


def test_step_sizes_decay_by_a_pattern_of_theirs():
    decayed = {'weight_decay': 0.1, 'decayed': 'step_sizes/*'}
    assert begun(range_policy='learned_u', **decayed)['step_sizes']
    with pytest.raises(UserError, match='decayed=step_sizes/'):
        begun(**decayed)
