"""The programs that a report gives a person to copy: they start and train STE as the library does."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.results import take_home
from experiments.setup import command_line, settings
from qat import ranges, weights
from qat.lockstep.lockstep import Lockstep
from qat.lockstep.state import Moment
from qat.ranges import he_uniform
from qat.theory.pull_back import PullBack
from qat.theory.weight_map import WeightMap

DSQ, DECAYED, ALL = 'dsq(k=6.5)', '--config.weight_decay=0.5', '--config.quantized=all'


def resolved(*flags: str) -> settings.Settings:
    return settings.resolve(command_line.parse(['--config=configs/digits.py', *flags])[0])


@pytest.fixture
def write_table(tmp_path, monkeypatch):
    """Puts the table of a setting where its programs read it."""

    def write(made: settings.Settings) -> None:
        monkeypatch.chdir(tmp_path)
        for name, content in take_home.table(made).items():
            pathlib.Path(name).write_text(content)

    return write


def run(home: dict, *programs: str) -> None:
    for program in programs:
        exec(program, home)  # what a person copies is a program


@pytest.mark.parametrize(
    'estimator, bits',
    [
        (DSQ, 2),
        pytest.param('sine(lam=0.6)', 4, marks=pytest.mark.slow),
        pytest.param('mad', 2, marks=pytest.mark.slow),  # it passes gradients outside the range
    ],
)
def test_the_recipe_to_take_home_is_the_theorems(estimator, bits, write_table):
    made = resolved(f'--config.estimator={estimator}', f'--config.bits={bits}')
    write_table(made)
    params = {'layer': {'kernel': jnp.ones((3, 3, 1, 2)), 'bias': jnp.ones(2)}, 'dense': {'kernel': jnp.ones((2, 2))}}
    home = {'optimizer': optax.sgd(1.0), 'params': params}
    run(home, take_home.start(made))
    before = np.linspace(-1.3, 1.3, 977, dtype=np.float32)
    np.testing.assert_allclose(home['M'](before, 0.9), WeightMap(made.estimator)(before, jnp.float32(0.9)), atol=1e-5)
    run(home, take_home.in_jax(made))
    updates, _ = home['optimizer'].update(params, home['optimizer'].init(params))
    alpha = made.alpha()
    np.testing.assert_allclose(updates['layer']['kernel'], -alpha, rtol=1e-5)
    np.testing.assert_array_equal(updates['layer']['bias'], -1)
    np.testing.assert_array_equal(updates['dense']['kernel'], -1)  # the config says: only convolutions
    assert home['M'](before, 0.9).dtype == np.float32
    R = np.linspace(0.1, 2, 500, dtype=np.float32)
    assert (home['M'](R, R) <= R).all()  # the last weight of a range stays in it: outside no gradient passes
    in_torch = take_home.in_torch(made)
    compile(in_torch, 'in_torch', 'exec')
    assert f"'lr': {alpha:.6g} * 0.01" in in_torch


@pytest.mark.parametrize('start', ['in the cells', 'far outside'])
def test_ternary_weights_whose_gradient_passes_everywhere(start, write_table):
    """The theorem of BitNet's grid with a fixed range: M beyond the outermost values too, alpha on both kernels."""
    flags = ('quantizer=ternary', 'clip_rule=pass', 'range=mean_abs', 'quantized=all', 'optimizer=sgd')
    made = resolved(*(f'--config.{flag}' for flag in flags), f'--config.estimator={DSQ.replace("6.5", "3.0")}')
    write_table(made)
    home = {'optimizer': optax.sgd(1.0), 'params': {'dense': {'kernel': jnp.ones((2, 2))}}}
    run(home, take_home.start(made), take_home.in_jax(made))
    w = np.linspace(-1, 1, 977, dtype=np.float32) * (1 if start == 'in the cells' else 40)
    np.testing.assert_allclose(home['M'](w, 0.9), WeightMap(made.estimator)(w, jnp.float32(0.9)), rtol=1e-5, atol=1e-5)
    params = home['params']
    updates, _ = home['optimizer'].update(params, home['optimizer'].init(params))
    np.testing.assert_allclose(updates['dense']['kernel'], -made.alpha() * params['dense']['kernel'], rtol=1e-5)


@pytest.mark.parametrize(
    'quantized, rule',
    [
        *(('conv', 'he_uniform'), ('all', 'channel_max_abs'), ('conv*/*', 'he_uniform'), ('*_1/kernel', 'max_abs')),
        *(('conv', 'mean_abs'), ('conv', 'block_max_abs(size=1)')),
    ],
)
def test_what_is_copied_quantizes_what_the_run_does(quantized, rule, write_table):
    made = resolved(f'--config.quantized={quantized}', f'--config.range={rule}')
    write_table(made)
    params = {
        'conv1': {'kernel': jax.random.normal(jax.random.key(0), (3, 3, 2, 5)), 'bias': jnp.full(5, 0.3)},
        'Dense_1': {'kernel': jax.random.normal(jax.random.key(1), (7, 5)), 'bias': jnp.full(5, 0.3)},
    }
    home = {'params': params, 'optimizer': optax.sgd(1.0)}
    run(home, take_home.start(made), take_home.in_jax(made))
    compile(take_home.in_torch(made), 'in_torch', 'exec')
    chosen = made.quantized(params)
    paths = weights.all_paths(params)
    assert dict(zip(paths, jax.tree.leaves(home['quantized'](params)))) == {path: path in chosen for path in paths}
    for path, before, after in zip(paths, jax.tree.leaves(params), jax.tree.leaves(home['params'])):
        assert np.array_equal(before, after) == (path not in chosen)  # it starts from M
    for layer in params.values():
        R = ranges.rule(rule)(layer['kernel'])
        np.testing.assert_allclose(home['range_of'](layer['kernel']), R, rtol=1e-6)


def rounded(w, R, bits: int, passes: bool):
    """STE as a person writes it."""
    D, clipped = 2 * R / (2**bits - 1), jnp.clip(w, -R, R)
    through = w if passes else clipped
    return through + jax.lax.stop_gradient(-R + D * jnp.round((clipped + R) / D) - through)


def loss(params, batch):
    layer = params['layer']
    return jnp.mean((jnp.tanh(batch @ layer['kernel'] + layer['bias']) - 0.5) ** 2)


def trained(made: settings.Settings, optimizer, params, batches):
    """The weights of a person's STE training, whose layer has its range from `he_uniform`."""
    R, state = (6 / 5) ** 0.5, optimizer.init(params)

    @jax.jit
    def step(params, state, batch):
        def of_rounded(params):
            kernel = rounded(params['layer']['kernel'], R, made.estimator.bits, made.estimator.clip.passes)
            return loss({'layer': params['layer'] | {'kernel': kernel}}, batch)

        updates, state = optimizer.update(jax.grad(of_rounded)(params), state, params)
        return optax.apply_updates(params, updates), state

    for batch in batches:
        params, state = step(params, state, batch)
    return params


@pytest.mark.parametrize(
    'optimizer, estimator',
    [
        ('sgd(momentum=0.9)', DSQ),
        ('adam(b1=0.5)', DSQ),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ('sgdw(momentum=0.9)', DSQ),
                ('rmsprop', 'sine(lam=0.6)'),
                ('sgd', 'mad'),  # it passes gradients outside the range
                ('adam', 'mad'),
            )
        ),
    ],
)
def test_what_is_copied_trains_as_the_twin_does_with_weight_decay(optimizer, estimator, write_table):
    made = resolved(f'--config.optimizer={optimizer}', f'--config.estimator={estimator}', DECAYED, ALL)
    params = {'layer': {'kernel': jax.random.normal(jax.random.key(0), (5, 70)), 'bias': jnp.ones(70)}}  # R = 1.1
    batches = jax.random.normal(jax.random.key(1), (8, 16, 5))
    rate = 0.02
    chosen = {'quantized': lambda path: 'kernel' in path, 'ranges': he_uniform}
    pair = Lockstep(loss, made.optimizer, made.estimator, twins=('ste',), **chosen)
    state, step = pair.init(params), jax.jit(pair.step)
    for batch in batches:
        state, _ = step(state, batch, Moment(jnp.float32(rate)))
    twin = state.runs['ste'].params
    write_table(made)
    home = {'params': params, 'optimizer': made.optimizer.build(rate)}
    run(home, take_home.start(made), take_home.in_jax(made))
    ours, plain = (trained(made, home[name], home['params'], batches) for name in ('optimizer', 'inner'))
    jax.tree.map(lambda *both: np.testing.assert_allclose(*both, atol=2e-5), ours, twin)
    assert jnp.abs(plain['layer']['kernel'] - twin['layer']['kernel']).max() > 3e-4  # with the decay of a plain STE
    compile(take_home.in_torch(made), 'in_torch', 'exec')


@pytest.mark.slow
@pytest.mark.parametrize('optimizer', ['sgd', 'adam'])
@pytest.mark.parametrize('estimator', [DSQ, 'soft_round', 'sine(lam=0.9)', 'rdfs', 'dge', 'mad'])
def test_decay_acts_on_what_the_library_has_it_act_on(estimator, optimizer, write_table):
    made = resolved(f'--config.estimator={estimator}', f'--config.optimizer={optimizer}', DECAYED, '--config.bits=3')
    write_table(made)
    home, R, v = {}, np.float32(0.9), np.linspace(-1.3, 1.3, 997, dtype=np.float32)
    run(home, take_home.start(made))
    weight_map = WeightMap(made.estimator) if optimizer == 'sgd' else None
    expected = PullBack(made.estimator, weight_map, made.transfer.pulled_back).read(v, R)
    for interp in (np.interp, jax.jit(jnp.interp)):
        np.testing.assert_allclose(home['decayed'](v, R, interp), expected, rtol=2e-3, atol=2e-6)
