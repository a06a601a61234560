"""Reference and twins in lockstep, on real digits: bit-equal copies, exact tracking, the theorem's limit."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from experiments.data import registry
from experiments.setup.settings import resolve
from experiments.training import programs, trainer
from experiments.training.runs import REFERENCE, kernels
from qat import trajectory
from qat.quantizers import UniformQuantizer
from tests import oracle


def make_trainer(devices=1, monkeypatch=None, **overrides) -> trainer.Trainer:
    config = digits.get_config()
    config.batch_size = 96
    config.update(overrides)
    settings = resolve(config)
    if monkeypatch is not None:
        monkeypatch.setattr(programs, 'local_devices', lambda _: jax.local_devices()[:devices])
    return trainer.Trainer(settings, registry.load(settings.config))


def steps(run: trainer.Trainer, count: int, state=None):
    """Yields the state before the first step and after each."""
    state = run.initial_state() if state is None else state
    yield state
    for step, batch in enumerate(itertools.islice(run.batches_from(0), count)):
        state = run.advance(state, step, batch)
        yield state


def weights(state, name) -> dict:
    return jax.device_get(kernels(state.ranges, state.runs[name].params))


def metrics(run: trainer.Trainer, state) -> dict:
    measured = jax.device_get(run.programs.measure(state))
    return {name: trajectory.summarize(layers.values()) for name, layers in measured.items()}


@pytest.mark.parametrize(
    'devices, optimizer', [(1, 'sgd(momentum=0.9)'), (8, 'sgd(momentum=0.9)'), (8, 'adam(b2=0.95)')]
)
def test_self_is_bit_equal(devices, optimizer, monkeypatch):
    run = make_trainer(devices, monkeypatch, optimizer=optimizer, learning_rate=0.02, twins='self,jitter', num_epochs=1)
    assert len(run.devices) == devices
    for seed in range(4):
        start = run.lockstep.init(jax.random.key(seed), run.batches.image_shape)
        *_, state = steps(run, 15, run.programs.placed(start))
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
        for a, b in zip(*(jax.tree.leaves(weights(state, name)) for state in (state_one, state_eight))):
            np.testing.assert_allclose(a, b, atol=1e-6)
    for name in state_one.tracking.histories:
        for a, b in zip(*(jax.tree.leaves(state.tracking.histories[name]) for state in (state_one, state_eight))):
            assert np.array_equal(a, b)  # integers: the same codes at the same times
    for twin, found in metrics(one, state_one).items():
        for key, value in metrics(eight, state_eight)[twin].items():
            assert found[key] == pytest.approx(value, rel=1e-3), (twin, key)
    assert one.evaluate(state_one)['examples'] == eight.evaluate(state_eight)['examples'] == 297


def test_tracking_equals_the_oracle_on_a_real_run():
    run = make_trainer(learning_rate=0.1, num_epochs=4, twins='ste,naive_ste')
    story = {name: [] for name in (REFERENCE, 'ste', 'naive_ste')}
    quantizer, path = UniformQuantizer(2), dict.fromkeys(story, 0.0)
    for state in steps(run, 60):
        ranges = jax.device_get(kernels(state.ranges, state.ranges))
        for name, told in story.items():
            told.append(weights(state, name))
            if len(told) > 1:
                path[name] += sum(
                    np.abs(told[-1][k] - told[-2][k].astype(np.float64)).sum() / ranges[k] for k in ranges
                )
    found = metrics(run, state)

    def codes(name):
        return np.array(
            [np.concatenate([np.ravel(quantizer.codes(w[k], ranges[k])) for k in ranges]) for w in story[name]]
        )

    for name in ('ste', 'naive_ste'):
        expected = oracle.metrics(codes(REFERENCE).T.tolist(), codes(name).T.tolist())
        assert {key: found[name][key] for key in expected} == expected
        assert expected['oscillations_twin'] > 0 and expected['moved_fraction'] > 0.05
        mapped = jax.tree.map(run.lockstep.tracker.maps[name], story[REFERENCE][-1], ranges)
        distance = sum(np.abs(mapped[k] - story[name][-1][k].astype(np.float64)).sum() / ranges[k] for k in ranges)
        assert found[name]['weight_alignment_error'] == pytest.approx(distance / path[name], rel=1e-4)


def test_the_ste_twin_starts_from_M_and_shares_all_else():
    state = make_trainer(twins='ste,naive_ste,map_ste').initial_state()
    assert set(state.runs) == {REFERENCE, 'ste', 'naive_ste'}  # map_ste is ste here: computed once
    start = state.runs[REFERENCE].params
    for layer in start:
        for leaf in start[layer]:
            same = np.array_equal(start[layer][leaf], state.runs['ste'].params[layer][leaf])
            assert same == (leaf == 'bias' or layer.startswith('Dense'))
            assert np.array_equal(start[layer][leaf], state.runs['naive_ste'].params[layer][leaf])


def test_under_adam_ste_is_naive_and_computed_once():
    run = make_trainer(optimizer='adam(b2=0.95)', twins='ste,naive_ste,map_ste')
    assert run.lockstep.computed_by == {'ste': 'ste', 'naive_ste': 'ste', 'map_ste': 'map_ste'}


@pytest.mark.parametrize('optimizer, learning_rate', [('sgd(momentum=0.9)', 0.1), ('adam(b2=0.95)', 1e-3)])
def test_ste_is_its_own_twin(optimizer, learning_rate):
    run = make_trainer(estimator='ste', optimizer=optimizer, learning_rate=learning_rate, twins='ste', num_epochs=1)
    *_, state = steps(run, 15)
    assert metrics(run, state)['ste']['weight_alignment_error'] == 0


def test_placement_update_multiplies_the_output():
    """SignSGD's output is +-learning rate, so one step shows the slope, or alpha, by itself."""
    run = make_trainer(optimizer='signsgd', placement='update', twins='ste', warmup_fraction=0.0, num_epochs=1)
    before = jax.device_get(run.initial_state())
    *_, after = steps(run, 1)
    estimator, rate = run.settings.estimator, run.settings.peak_learning_rate
    for name, factor in ((REFERENCE, estimator.at), ('ste', lambda w, _: jnp.full(w.shape, run.settings.alpha()))):
        old, new = (kernels(state.ranges, state.runs[name].params) for state in (before, after))
        for layer, range_ in kernels(before.ranges, before.ranges).items():
            output = np.abs(new[layer] - old[layer]) / rate
            moved = output > 0
            assert moved.mean() > 0.9
            np.testing.assert_allclose(output[moved], factor(old[layer], range_)[moved], atol=1e-4)


def test_bytes_of_tracking():
    run = make_trainer(twins='ste,naive_ste')
    state = run.initial_state()
    size = sum(kernel.size for kernel in jax.tree.leaves(weights(state, REFERENCE)))

    def bytes_of(tree):
        return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))

    tracked = bytes_of(state.tracking.histories) + bytes_of(state.tracking.lags)
    starts = bytes_of(
        jax.tree.map(lambda path: path.start, state.tracking.paths, is_leaf=lambda x: isinstance(x, trajectory.Path))
    )
    assert tracked <= 24 * size * 3 and starts == 4 * size * 2


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
