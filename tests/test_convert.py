"""Conversion in the middle of training: the equivalent run stays with the first one, and a wrong one does not."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import convert, train
from experiments.data import registry
from experiments.setup.config_file import load
from experiments.setup.settings import resolve
from experiments.training import trainer
from experiments.workdir.checkpoints import Checkpoints
from experiments.workdir.rows import read_rows
from qat import estimators
from qat.lockstep.twins import REFERENCE
from qat.quantizers import UniformQuantizer
from qat.theory.weight_map import WeightMap, alpha

QUANTIZER = UniformQuantizer(2)
DSQ, STE = (estimators.make(name, 2) for name in ('dsq', 'ste'))
STOPPED_AT, STEPS, CONTINUED = 100, 200, 20
DIGITS = ['--config=configs/digits.py', f'--config.max_steps={STEPS}']
SGD = [*DIGITS, '--config.optimizer=sgd(momentum=0.9)']
ADAM = [*DIGITS, '--config.optimizer=adam(b2=0.95)', '--config.learning_rate=2e-4']


def interrupt(workdir: pathlib.Path, *options, at=STOPPED_AT) -> pathlib.Path:
    """Trains until a SIGTERM, which leaves a checkpoint in the middle of the schedule."""
    advance = trainer.Trainer.advance

    def interrupted(self, state, step, batch):
        if step == at - 1:
            signal.raise_signal(signal.SIGTERM)
        return advance(self, state, step, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Trainer, 'advance', interrupted)
        assert train.main([*options, f'--workdir={workdir}']) == 143
    return workdir


def converted(workdir: pathlib.Path, to: str, out: pathlib.Path, *overrides) -> pathlib.Path:
    assert convert.main(['--from', str(workdir), '--to', to, '--out', str(out), *overrides]) == 0
    return out


def opened(workdir: pathlib.Path, **changes):
    """The trainer of a workdir, with changes to the config, and its newest checkpoint."""
    config = load(str(workdir / 'config.json'))
    config.update(changes)
    settings = resolve(config)
    run = trainer.Trainer(settings, registry.load(settings.config))
    with Checkpoints(workdir) as checkpoints:
        return run, jax.device_get(checkpoints.restore(checkpoints.newest(), run.initial_state()))


def continued(run: trainer.Trainer, state, count=CONTINUED):
    """The state so many steps later, on the batches of these steps."""
    first, state = int(state.step), run.programs.placed(state)
    for step, batch in zip(range(first, first + count), run.drawn_from(first)):
        state = run.advance(state, step, batch)
    return jax.device_get(state)


def weights(state) -> np.ndarray:
    """All quantized weights of the reference, in units of their ranges."""
    params = state.runs[REFERENCE].params
    return np.concatenate([np.ravel(params[layer]['kernel'] / R) for layer, R in state.ranges.items()])


def identity(w):
    return w


def through_M(w):
    return np.asarray(WeightMap(DSQ)(w, jnp.float32(1)))


def error(start, end, other, mapped=through_M) -> float:
    """Distance of another run's weights from the mapped ones, over how far those went since the conversion."""
    goal = mapped(weights(end))
    return np.abs(goal - weights(other)).sum() / np.abs(goal - mapped(weights(start))).sum()


def with_reference(state, **changes):
    """The state with every run (there are only copies) changed alike."""
    return state.replace(runs={name: run.replace(**changes) for name, run in state.runs.items()})


@pytest.fixture(scope='module')
def sgd(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp('sgd')
    interrupt(folder / 'dsq', *SGD, '--config.twins=ste,jitter')
    converted(folder / 'dsq', 'ste', folder / 'ste')
    return folder


@pytest.fixture(scope='module')
def adam(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp('adam')
    interrupt(folder / 'dsq', *ADAM, '--config.twins=self')
    converted(folder / 'dsq', 'ste', folder / 'ste')
    return folder


def test_under_sgd_the_converted_run_stays_with_M_of_the_first(sgd):
    (of_dsq, start), (of_ste, begun) = opened(sgd / 'dsq'), opened(sgd / 'ste')
    np.testing.assert_allclose(weights(begun), through_M(weights(start)), atol=1e-6)
    end, before = continued(of_dsq, start), start.runs[REFERENCE]
    right = error(start, end, continued(of_ste, begun))
    momentum_as_it_was = error(start, end, continued(of_ste, with_reference(begun, opt_state=before.opt_state)))
    weights_as_they_were = error(start, end, continued(of_ste, with_reference(begun, params=before.params)))
    assert right < 0.06
    assert momentum_as_it_was > 5 * right and weights_as_they_were > 100 * right


def test_the_error_is_of_second_order(sgd):
    """From the same state it falls in proportion to the learning rate, over the way gone: the first order is right.

    At lower rates the error of the momentum, whose gradients met other slopes in the steps before, is seen beside it.
    """
    errors = []
    for rate in (0.04, 0.01):
        (of_dsq, start), (of_ste, begun) = (opened(sgd / name, learning_rate=rate) for name in ('dsq', 'ste'))
        errors.append(error(start, continued(of_dsq, start, 3), continued(of_ste, begun, 3)))
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.2)


@pytest.mark.slow
def test_under_adam_the_weights_stay_and_the_moments_are_divided(adam):
    (of_dsq, start), (of_ste, begun) = opened(adam / 'dsq'), opened(adam / 'ste')
    assert np.array_equal(weights(begun), weights(start))
    before, after = (state.runs[REFERENCE].opt_state[0] for state in (start, begun))
    for layer, R in start.ranges.items():
        w = start.runs[REFERENCE].params[layer]['kernel']
        slope = np.where(np.abs(w) <= R, DSQ.at(w, R), alpha(DSQ))
        np.testing.assert_allclose(after.mu[layer]['kernel'], before.mu[layer]['kernel'] / slope, rtol=1e-5)
        np.testing.assert_allclose(after.nu[layer]['kernel'], before.nu[layer]['kernel'] / slope**2, rtol=1e-5)
        assert np.array_equal(after.mu[layer]['bias'], before.mu[layer]['bias'])
    assert after.count == before.count == STOPPED_AT
    end = continued(of_dsq, start)
    right = error(start, end, continued(of_ste, begun), identity)
    as_they_were = with_reference(begun, opt_state=start.runs[REFERENCE].opt_state)
    assert right < 0.01
    assert error(start, end, continued(of_ste, as_they_were), identity) > 10 * right


@pytest.mark.parametrize('setting', ['sgd', pytest.param('adam', marks=pytest.mark.slow)])
def test_there_and_back(setting, tmp_path, request):
    folder = request.getfixturevalue(setting)
    back = converted(folder / 'ste', 'dsq(k=6.5)', tmp_path / 'back')
    (_, start), (_, begun), (_, returned) = opened(folder / 'dsq'), opened(folder / 'ste'), opened(back)
    assert start.step == begun.step == returned.step == STOPPED_AT
    np.testing.assert_allclose(weights(returned), weights(start), atol=1e-6)
    for state in (begun, returned):
        assert np.array_equal(*(QUANTIZER.codes(weights(one), jnp.float32(1)) for one in (start, state)))
    reference, again = start.runs[REFERENCE], returned.runs[REFERENCE]
    assert jax.tree.structure(reference.opt_state) == jax.tree.structure(again.opt_state)
    for one, other in zip(jax.tree.leaves(reference.opt_state), jax.tree.leaves(again.opt_state)):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-9)
    config, as_it_was = (json.loads((path / 'config.json').read_text()) for path in (back, folder / 'dsq'))
    assert {**config, 'twins': as_it_was['twins']} == as_it_was
    factor = json.loads((folder / 'ste/config.json').read_text())['kernel_learning_rate_factor']
    assert factor == (alpha(DSQ) if setting == 'sgd' else 1)


@pytest.fixture(scope='module')
def ended(sgd, tmp_path_factory) -> pathlib.Path:
    """Both runs, trained to the end through the command line."""
    folder = tmp_path_factory.mktemp('ended')
    for name in ('dsq', 'ste'):
        shutil.copytree(sgd / name, folder / name)
        assert train.main([f'--config={folder / name / "config.json"}', f'--workdir={folder / name}']) == 0
    return folder


@pytest.mark.slow
def test_it_ends_where_the_first_run_ends(sgd, ended):
    ends = [opened(ended / name)[1] for name in ('dsq', 'ste')]
    assert error(opened(sgd / 'dsq')[1], *ends) < 0.1
    results = [json.loads((ended / name / 'summary.json').read_text()) for name in ('dsq', 'ste')]
    accuracies = [result['reference']['accuracy'] for result in results]
    assert accuracies[1] == pytest.approx(accuracies[0], abs=0.01) and accuracies[0] > 0.6
    assert results[1]['steps'] == STEPS and list(results[1]['twins']) == ['jitter']
    last, last_of_ste = (read_rows(ended / name)[-1] for name in ('dsq', 'ste'))
    apart = abs(last_of_ste['train/loss'] - last['train/loss'])
    assert apart < abs(last['jitter/train_loss'] - last['train/loss'])  # less than 1% of the learning rate does


@pytest.mark.slow
def test_its_rows_begin_with_it_and_none_is_lost(sgd, ended, tmp_path, capsys):
    assert [row['step'] for row in read_rows(ended / 'ste')] == [150, 200]
    origin = json.loads((ended / 'ste/origin.json').read_text())
    assert origin == {'from': str(sgd / 'dsq'), 'estimator': 'dsq(k=6.5)', 'step': STOPPED_AT}
    broken = shutil.copytree(sgd / 'ste', tmp_path / 'broken')
    command = [f'--config={broken / "config.json"}']
    interrupt(broken, *command, at=160)
    assert train.main([*command, f'--workdir={broken}']) == 0
    for name in ('summary.json', 'metrics.jsonl'):
        assert (ended / 'ste' / name).read_bytes() == (broken / name).read_bytes()
    (broken / 'metrics.jsonl').write_text('')
    assert train.main([*command, f'--workdir={broken}']) == 0  # a checkpoint has the rows before it too
    assert 'metrics.jsonl is not as the run wrote it' in capsys.readouterr().err
    assert (ended / 'ste/metrics.jsonl').read_bytes() == (broken / 'metrics.jsonl').read_bytes()
    shutil.rmtree(broken / 'checkpoints')
    assert train.main([*command, f'--workdir={broken}']) == 2
    assert 'began at step 100, and no checkpoint is there any more' in capsys.readouterr().err


def test_a_run_of_more_epochs(sgd, tmp_path):
    options = ['--config.max_steps=-1', '--config.num_epochs=30', '--config.twins=self', '--config.name=longer']
    longer = converted(sgd / 'dsq', 'sine(lam=0.3)', tmp_path / 'longer', *options)
    settings = resolve(load(str(longer / 'config.json')))
    assert settings.steps(15) == (15, 450) and list(settings.twins) == ['self'] and settings.config.name == 'longer'
    assert settings.config.kernel_learning_rate_factor == alpha(DSQ) / alpha(estimators.make('sine', 2, lam=0.3))


def test_the_factor_is_on_the_quantized_kernels_of_every_run(sgd):
    moved = {}
    for factor in (1.0, 0.5):
        run, start = opened(sgd / 'ste', kernel_learning_rate_factor=factor)
        end = continued(run, start, 1)
        for name in (REFERENCE, 'jitter'):
            moved[factor, name] = jax.tree.map(np.subtract, end.runs[name].params, start.runs[name].params)
    for name in (REFERENCE, 'jitter'):
        whole, half = moved[1.0, name], moved[0.5, name]
        for layer, leaves in whole.items():
            for leaf in leaves:
                share = 0.5 if (layer, leaf) in {('conv1', 'kernel'), ('conv2', 'kernel')} else 1
                np.testing.assert_allclose(half[layer][leaf], share * whole[layer][leaf], rtol=1e-4, atol=2e-7)


REFUSED = {  # changes to the config of a run without a checkpoint; --to and overrides; a word of the message
    'no checkpoint': ({}, ['ste'], 'holds no checkpoints'),
    'full precision': ({'quantized': 'none'}, ['ste'], 'has no estimator to convert from'),
    'depends on the gradient': ({'estimator': 'ewgs', 'twins': 'jitter'}, ['ste'], 'ewgs(d=0.2): its slope depends on'),
    'to a slope that changes': ({}, ['ede'], 'ede: its slope changes with time'),
    'muon': ({'optimizer': 'muon', 'twins': 'jitter'}, ['ste'], 'no recipe is known: muon mixes'),
    'decay between two': (
        {'weight_decay': 0.1, 'twins': 'self'},
        ['sine'],
        'decay of dsq(k=6.5) can be pulled back by ste alone',
    ),
    'decay of a plain ste': ({'estimator': 'ste', 'weight_decay': 0.1, 'twins': 'self'}, ['sine'], 'decay of ste'),
    'mad': ({'estimator': 'mad'}, ['ste'], 'only one of mad and ste passes gradients outside'),
    'unknown estimator': ({}, ['sinus'], "estimator: unknown estimator 'sinus': did you mean 'sine'"),
    'outside its domain': ({}, ['sine(lam=2.0)'], 'lam must be a number in [0, 1)'),
    'another setting': ({}, ['ste', '--config.bits=4'], 'bits: only these may change: '),
    'estimator as a key': ({}, ['ste', '--config.estimator=sine'], 'estimator: only these may change: '),
    'unknown key': ({}, ['ste', '--config.num_epoch=4'], "did you mean 'num_epochs'"),
    'unknown flag': ({}, ['ste', '--form=x'], "did you mean '--from'"),
    'stray word': ({}, ['ste', 'dsq'], "'dsq' is not a flag"),
    'twins that differ': (
        {},
        ['ste', '--config.twins=ste,self'],
        'a converted run has no others than jitter, reshuffle, self',
    ),
}


def one_line(capsys, message: str) -> None:
    text = capsys.readouterr().err
    assert text.startswith('error: ') and text.count('\n') == 1 and len(text) <= 301
    assert message in text


@pytest.mark.parametrize('case', REFUSED)
def test_a_users_error_is_one_line_and_leaves_nothing(case, tmp_path, capsys):
    changes, (to, *overrides), message = REFUSED[case]
    config = load('configs/digits.py')
    config.update(changes)
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run/config.json').write_text(resolve(config).config.to_json())
    out = tmp_path / 'out'
    assert convert.main(['--from', str(tmp_path / 'run'), '--to', to, f'--out={out}', *overrides]) == 2
    one_line(capsys, message)
    assert [path.name for path in tmp_path.iterdir()] == ['run']


def test_there_must_be_a_run_and_a_free_folder(sgd, tmp_path, capsys):
    def refused(workdir, out, message):
        assert convert.main(['--from', str(workdir), '--to', 'ste', '--out', str(out)]) == 2
        one_line(capsys, message)

    refused(tmp_path / 'none', tmp_path / 'out', 'holds no run')
    refused(sgd / 'dsq', 'gs://bucket/run', 'must be a folder')
    assert convert.main(['--from', str(sgd / 'dsq'), '--to', 'ste']) == 2
    one_line(capsys, 'required: --out')
    assert list(tmp_path.iterdir()) == []
    for out in (sgd / 'ste', sgd / 'dsq', sgd / 'ste/config.json'):
        before = sorted(path.name for path in sgd.rglob('*'))
        refused(sgd / 'dsq', out, 'holds something already')
        assert sorted(path.name for path in sgd.rglob('*')) == before
    refused(sgd / 'dsq', sgd / 'ste/config.json/out', 'cannot write')
    (tmp_path / 'empty').mkdir()
    converted(sgd / 'dsq', 'ste', tmp_path / 'empty')


@pytest.mark.parametrize(
    'key, value, message',
    [
        ('max_steps', STOPPED_AT, '100 of 100 steps are done, nothing is left; raise --config.max_steps'),
        ('optimizer', 'adam', 'is not of the optimizer in config.json'),
        ('seed', 0, 'not finite'),
    ],
)
def test_a_checkpoint_that_cannot_be_converted(key, value, message, sgd, tmp_path, capsys):
    workdir = shutil.copytree(sgd / 'dsq', tmp_path / 'run')
    config = json.loads((workdir / 'config.json').read_text())
    (workdir / 'config.json').write_text(json.dumps({**config, key: value}))
    (workdir / 'identity.json').unlink()  # as of an earlier version: otherwise the edit itself is refused
    if message == 'not finite':
        _, state = opened(workdir)
        params = jax.tree.map(lambda leaf: leaf * np.nan, state.runs[REFERENCE].params)
        with Checkpoints(workdir) as checkpoints:
            checkpoints.save(with_reference(state, params=params).replace(step=np.int32(STOPPED_AT + 1)))
    assert convert.main(['--from', str(workdir), '--to', 'ste', '--out', str(tmp_path / 'out')]) == 2
    one_line(capsys, message)
    assert [path.name for path in tmp_path.iterdir()] == ['run']


def test_help_and_a_wrong_command_line_are_answered_without_jax():
    code = """
import sys
from experiments import convert
assert convert.main(['--help']) == 0 and convert.main(['--to=ste']) == 2
sys.exit('imported jax' if 'jax' in sys.modules else 0)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '--from WORKDIR --to ste --out DIR' in done.stdout
