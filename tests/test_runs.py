"""The trainer's runs on real digits: bit-equal copies on any number of devices, and the theorem's limit.

What concerns the lockstep alone is tested in tests/qat/test_lockstep.py.
"""

import itertools

import jax
import numpy as np
import pytest

from configs import digits
from experiments.data import registry
from experiments.setup.settings import resolve
from experiments.training import sharing, trainer
from qat import trajectory, weights
from qat.lockstep.twins import REFERENCE


def make_trainer(devices=1, monkeypatch=None, **overrides) -> trainer.Trainer:
    config = digits.get_config()
    config.batch_size = 96
    config.update(overrides)
    settings = resolve(config)
    if monkeypatch is not None:
        monkeypatch.setattr(sharing, 'local_devices', lambda _: jax.local_devices()[:devices])
    return trainer.Trainer(settings, registry.load(settings.config))


def steps(run: trainer.Trainer, count: int, state=None):
    """Yields the state before the first step and after each."""
    state = run.initial_state() if state is None else state
    yield state
    for step, batch in enumerate(itertools.islice(run.drawn_from(0), count)):
        state = run.advance(state, step, batch)
        yield state


def weights_of(run: trainer.Trainer, state, name) -> dict:
    paths = run.lockstep.plan(state.runs[REFERENCE].params).paths
    return jax.device_get(weights.get(state.runs[name].params, paths))


def metrics(run: trainer.Trainer, state) -> dict:
    measured = jax.device_get(run.programs.measure(state))
    return {name: trajectory.summarize(layers.values()) for name, layers in measured.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    'devices, optimizer', [(1, 'sgd(momentum=0.9)'), (8, 'sgd(momentum=0.9)'), (8, 'adam(b2=0.95)')]
)
def test_self_is_bit_equal(devices, optimizer, monkeypatch):
    run = make_trainer(devices, monkeypatch, optimizer=optimizer, learning_rate=0.02, twins='self,jitter', num_epochs=1)
    assert len(run.devices) == devices
    for seed in range(4):
        *_, state = steps(run, 15, run.programs.placed(run.programs.init(jax.random.key(seed))))
        for reference, twin in zip(jax.tree.leaves(state.runs[REFERENCE]), jax.tree.leaves(state.runs['self'])):
            assert np.array_equal(np.asarray(reference), np.asarray(twin))
        found = metrics(run, state)
        assert found['self']['weight_alignment_error'] == 0 and found['jitter']['weight_alignment_error'] > 0


def test_eight_devices_give_what_one_gives(monkeypatch):
    states = []
    for devices in (1, 8):
        run = make_trainer(devices, monkeypatch, twins='ste,naive_ste', num_epochs=1)
        *_, state = steps(run, 15)
        states.append((run, state))
    (one, state_one), (eight, state_eight) = states
    for name in (REFERENCE, 'ste', 'naive_ste'):
        for a, b in zip(*(jax.tree.leaves(weights_of(run, state, name)) for run, state in states)):
            np.testing.assert_allclose(a, b, atol=1e-6)
    for name in state_one.tracking.histories:
        for a, b in zip(*(jax.tree.leaves(state.tracking.histories[name]) for state in (state_one, state_eight))):
            assert np.array_equal(a, b)  # integers: the same codes at the same times
    for twin, found in metrics(one, state_one).items():
        for key, value in metrics(eight, state_eight)[twin].items():
            assert found[key] == pytest.approx(value, rel=1e-3), (twin, key)
    assert one.evaluate(state_one)['examples'] == eight.evaluate(state_eight)['examples'] == 297


def final_errors(learning_rate: float, seed: int = 0) -> dict[str, float]:
    """Alignment errors of digits, DSQ k = 6.5, SGD momentum 0.9, learning rate x steps = 10."""
    count = round(10 / learning_rate)
    run = make_trainer(
        batch_size=100, learning_rate=learning_rate, num_epochs=1000, max_steps=count, twins='ste,naive_ste', seed=seed
    )
    *_, state = steps(run, count)
    return {name: found['weight_alignment_error'] for name, found in metrics(run, state).items()}


def order(errors: dict[float, dict], twin: str) -> float:
    """The slope of log error over log learning rate."""
    return np.polyfit(np.log(list(errors)), np.log([found[twin] for found in errors.values()]), 1)[0]


@pytest.mark.slow
def test_the_error_falls_with_the_learning_rate():
    errors = {rate: final_errors(rate) for rate in (0.04, 0.01)}
    assert errors[0.01]['ste'] < 0.15
    assert errors[0.01]['ste'] <= errors[0.01]['naive_ste'] / 3
    assert order(errors, 'ste') >= 0.6 and order(errors, 'naive_ste') < 0.3


@pytest.mark.slow
@pytest.mark.parametrize('seed', [0, 1])
def test_order_of_convergence(seed):
    errors = {rate: final_errors(rate, seed) for rate in (0.04, 0.02, 0.01, 0.005, 0.0025)}
    assert errors[0.01]['ste'] < 0.15
    assert errors[0.01]['ste'] <= errors[0.01]['naive_ste'] / 3
    assert order(errors, 'ste') >= 0.6
    assert order(errors, 'naive_ste') < 0.3
