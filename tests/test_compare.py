"""Series of weights compared: a run's dump gives the run's summary, samples give bounds, and bad input one line."""

import itertools
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import save_file

from experiments import compare
from experiments.comparison import following, matching, report, series
from experiments.comparison.following import Rounding
from experiments.comparison.shared_ranges import SharedRange
from qat import Lockstep, trajectory
from qat.estimators import make
from qat.grids import quantizer
from tests.qat import oracle

STEPS, LAYERS = 30, ('first/kernel', 'second/kernel')
ROUNDED = ['--bits=2', '--range=he_uniform', '--quantized=*kernel']
MAP = '--map=dsq(k=6.5)'


def loss(params, batch):
    return jnp.mean((jnp.tanh(batch @ params['first/kernel'] + params['first/bias']) @ params['second/kernel']) ** 2)


@pytest.fixture(scope='module')
def run():
    """By run, the parameters after each step of a perceptron; and the run's own summary of STE with the recipe."""
    random = np.random.default_rng(0)
    params = {
        'first/kernel': np.float32(random.uniform(-1, 1, (6, 40))),
        'first/bias': np.zeros(40, np.float32),
        'second/kernel': np.float32(random.uniform(-0.4, 0.4, (40, 3))),
    }
    is_kernel = LAYERS.__contains__
    pair = Lockstep(loss, optax.sgd(0.3), 'dsq(k=6.5)', 2, quantized=is_kernel, twins=('ste', 'naive_ste'))
    states, step = [pair.init(params)], jax.jit(pair.step)
    for _ in range(STEPS):
        states.append(step(states[-1], np.float32(random.normal(size=(16, 6))))[0])
    dumps = {name: [jax.device_get(state.runs[name].params) for state in states] for name in ('reference', 'ste')}
    return dumps, pair.summary(states[-1])['ste']


def safetensors(folder: pathlib.Path, step: int, arrays) -> None:
    save_file(dict(arrays), folder / f'step-{step}.safetensors')


def npz(folder: pathlib.Path, step: int, arrays) -> None:
    (np.savez, np.savez_compressed)[step % 2](folder / f'{step}.npz', **arrays)


def orbax(folder: pathlib.Path, step: int, arrays) -> None:
    nested = {}
    for name, array in arrays.items():
        layer, _, leaf = name.partition('/')
        nested.setdefault(layer, {})[leaf] = array
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.absolute() / str(step), nested)


def dumped(folder: pathlib.Path, snapshots, write=npz, steps=range(STEPS + 1)) -> str:
    folder.mkdir(parents=True)
    for step in steps:
        write(folder, step, snapshots[step])
    return str(folder)


def compared(tmp_path, *arguments) -> dict:
    out = tmp_path / 'out'
    assert compare.main([*map(str, arguments), f'--out={out}']) == 0
    return json.loads((out / 'summary.json').read_text())


def refused(capsys, tmp_path, *arguments) -> str:
    """The one line in which a command is refused."""
    capsys.readouterr()
    assert compare.main([*map(str, arguments), f'--out={tmp_path / "refused"}']) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith('note: ')]
    assert line.startswith('error: ') and len(line) <= 300
    return line


def test_the_dump_of_every_step_gives_the_summary_of_the_run(run, tmp_path, capsys):
    dumps, own = run
    a, b = (dumped(tmp_path / name, dumps[name]) for name in ('reference', 'ste'))
    found = compared(tmp_path, a, b, *ROUNDED, MAP)
    assert found['twins']['mapped'] == own
    assert own['change_point_sequence_agreement'] < 1 and own['changed_codes'] > 5  # or it would be too easy
    assert set(found['exact'].values()) == {True} and found['exact'].keys() == own.keys()
    assert found['twins']['unmapped']['weight_alignment_error'] > own['weight_alignment_error']
    page = (tmp_path / 'out/report.html').read_text()
    assert 'all metrics are <b>exact</b>' in page and 'lower bound' not in page
    assert 'weight_alignment_error' in capsys.readouterr().out
