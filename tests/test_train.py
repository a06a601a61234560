"""Whole runs through the command line: the files of the contract, byte equality, resume, refusals."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from experiments import report, train
from experiments.results.metrics import BY_CODE, shown
from experiments.setup.config_file import load
from experiments.training import trainer
from experiments.workdir import initial_weights, lock
from experiments.workdir.rows import read_rows

DIGITS = '--config=configs/digits.py'
SHORT = [
    '--config.num_epochs=2',
    '--config.eval_every_epochs=1',
    '--config.checkpoint_every_steps=10',
    '--config.learning_rate=0.1',
]


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> pathlib.Path:
    workdir = tmp_path_factory.mktemp('run') / 'work dir'
    assert train.main([DIGITS, *SHORT, f'--workdir={workdir}']) == 0
    return workdir


def test_the_contract_of_files(finished):
    for name in (
        'config.json',
        'metrics.jsonl',
        'timing.json',
        'summary.json',
        'report.html',
        'figures',
        'checkpoints/30',
    ):
        assert (finished / name).exists(), name
    result = json.loads((finished / 'summary.json').read_text())
    of_memory = ['kappa', 'slope_change']
    assert list(result) == ['config', 'steps', 'verdict', 'limit', *of_memory, 'compared', 'reference', 'twins']
    assert [result[key] for key in of_memory] == [None, None]  # SGD has no memory in which a slope must cancel
    assert result['config'] == 'digits' and result['steps'] == 30
    assert list(result['twins']) == ['ste', 'naive_ste', 'jitter', 'self']
    for twin in result['twins'].values():
        assert sorted(twin) == sorted([*shown(()), *BY_CODE])
        assert all(sum(twin[key]) == pytest.approx(1) and len(twin[key]) == 4 for key in BY_CODE)
        assert twin['flips_twin'] > 0 and 0 < twin['never_flipped_twin'] < 1
    assert result['twins']['self']['weight_alignment_error'] == 0
    assert result['twins']['self']['inference_agreement'] == 1
    assert set(json.loads((finished / 'timing.json').read_text())) >= {
        'steps_per_second',
        'compile_seconds',
        'peak_memory_bytes',
    }
    events = list((finished / 'tensorboard').glob('events*'))
    assert events and events[0].stat().st_size > 1000


def test_rows_of_metrics(finished):
    rows = read_rows(finished)
    assert [row['step'] for row in rows] == [0, 15, 30]
    assert rows[0]['train/loss'] is None and rows[0]['ste/weight_alignment_error'] is None
    for key in (
        'train/loss',
        'eval/accuracy',
        'eval/loss',
        'ste/train_loss',
        'ste/eval_accuracy',
        'ste/eval_loss',
        'jitter/weight_alignment_error',
        'naive_ste/conv1/weight_alignment_error',
        'ste/conv2/quantized_weight_agreement',
    ):
        assert isinstance(rows[-1][key], float), key
    assert rows[-1]['eval/loss'] < rows[0]['eval/loss']
    assert rows[-1]['self/train_loss'] == rows[-1]['train/loss']
    accuracies = [[row[key] for row in rows] for key in ('eval/accuracy', 'naive_ste/eval_accuracy')]
    expected = np.corrcoef(*accuracies)[0, 1]
    assert rows[-1]['naive_ste/validation_accuracy_correlation'] == pytest.approx(expected)


def test_accuracy_counts_every_example_once(finished):
    for row in read_rows(finished):
        assert row['eval/accuracy'] * 297 == pytest.approx(round(row['eval/accuracy'] * 297), abs=1e-9)


def interrupt_at(monkeypatch, at: int) -> None:
    step = trainer.Trainer.advance

    def interrupted(self, state, number, batch):
        if number == at:
            signal.raise_signal(signal.SIGTERM)
        return step(self, state, number, batch)

    monkeypatch.setattr(trainer.Trainer, 'advance', interrupted)


def same_bytes(one: pathlib.Path, other: pathlib.Path) -> None:
    for name in ('summary.json', 'metrics.jsonl', 'config.json'):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    with np.load(one / 'weights.npz') as a, np.load(other / 'weights.npz') as b:
        assert all(np.array_equal(a[key], b[key]) for key in a)


def test_an_interrupted_run_ends_as_the_unbroken_one(finished, tmp_path, monkeypatch, capsys):
    command = [DIGITS, *SHORT, f'--workdir={tmp_path}']
    with monkeypatch.context() as patch:
        interrupt_at(patch, 17)
        assert train.main(command) == 143
    assert not (tmp_path / 'summary.json').exists() and (tmp_path / 'checkpoints/18').is_dir()
    assert train.main(command) == 0
    same_bytes(finished, tmp_path)
    out = capsys.readouterr().out
    assert 'jitter' in out and 'report.html' in out


def test_a_lost_row_comes_back_from_the_checkpoint(finished, tmp_path, capsys):
    workdir = tmp_path / 'copy'
    shutil.copytree(finished, workdir)
    rows = (workdir / 'metrics.jsonl').read_text().splitlines(keepends=True)
    (workdir / 'metrics.jsonl').write_text(''.join(rows[1:]))
    assert train.main([f'--config={finished / "config.json"}', f'--workdir={workdir}']) == 0
    assert 'is not as the run wrote it' in capsys.readouterr().err
    assert (workdir / 'metrics.jsonl').read_text() == ''.join(rows)
    assert (workdir / 'metrics.jsonl.set-aside').read_text() == ''.join(rows[1:])


def test_starting_a_finished_run_again_changes_nothing(finished, capsys):
    before = {
        name: (finished / name).read_bytes() for name in ('summary.json', 'metrics.jsonl', 'report.html', 'timing.json')
    }
    assert train.main([f'--config={finished / "config.json"}', f'--workdir={finished}']) == 0
    for name in ('summary.json', 'metrics.jsonl', 'timing.json'):
        assert (finished / name).read_bytes() == before[name]


def test_the_report_opens_offline(finished):
    page = (finished / 'report.html').read_text()
    assert 'http://' not in page and 'https://' not in page and '<script' not in page
    assert page.count('data:image/png;base64,') == 5 == len(list((finished / 'figures').glob('*.png')))
    result = json.loads((finished / 'summary.json').read_text())
    assert result['verdict'].partition(': ')[2].split("'")[0] in page
    for key, metric in shown(()).items():
        assert f'<td>{key.replace("_", "_<wbr>")}</td>' in page and len(metric.meaning) > 10
    assert 'python -m experiments.train' in page
    assert report.main([str(finished)]) == 0


def test_the_report_says_first_what_matters(finished):
    page = (finished / 'report.html').read_text()
    (kind, sentence), _ = re.findall(r'<div class="answer (\w+)"><p><b>(.*?)</b>', page)
    assert sentence.startswith({'yes': 'Yes. ', 'no': 'No. ', 'open': 'This run'}[kind])
    places = [page.index(part) for part in ('class="answer', 'Do this', 'optax.masked', 'torch.optim', '<dl>', '<img')]
    assert places == sorted(places) and '<math>' in page and '<dt>α</dt>' in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # it opens without its folder
    table = np.loadtxt(finished / 'weight_map.csv', delimiter=',', skiprows=1)
    assert (np.diff(table, axis=0) > 0).all() and 'download="weight_map.csv"' in page
    np.testing.assert_allclose(table[[0, 500, -1]], [[-0.5, -0.5], [0, 0], [0.5, 0.5]], atol=1e-6)


def test_the_report_has_a_style_for_the_dark_a_phone_and_paper(finished):
    page = (finished / 'report.html').read_text()
    for rule in ('prefers-color-scheme: dark', 'max-width: 600px', '@media print', 'position: sticky'):
        assert rule in page
    assert page.count('class="sticky"') == 1 and page.count('class="wide"') == 5 == page.count('class="scroll"><img')


@pytest.mark.slow
def test_not_finite_stops_with_3(tmp_path, capsys):
    command = [
        DIGITS,
        '--config.learning_rate=1e30',
        '--config.num_epochs=1',
        '--config.twins=self',
        f'--workdir={tmp_path}',
    ]
    assert train.main(command) == 3
    error = capsys.readouterr().err
    assert 'not finite' in error and 'try a smaller learning rate than 1e+30, with another --workdir' in error
    assert not (tmp_path / 'summary.json').exists()
    assert read_rows(tmp_path)[-1]['eval/loss'] is None


REFUSED = {
    'no config': ([], None),
    'unknown config': (['--config=configs/digit.py'], 'there is no file'),
    'unknown key': ([DIGITS, '--config.learning_rat=1'], "did you mean 'learning_rate'"),
    'unknown flag': ([DIGITS, '--wokdir=x'], "did you mean '--workdir'"),
    'no value': ([DIGITS, '--config.seed'], 'needs a value'),
    'wrong type': ([DIGITS, '--config.seed=one'], 'seed'),
    'stray word': ([DIGITS, 'digits'], 'not a flag'),
    'unknown estimator': ([DIGITS, '--config.estimator=sinus'], "did you mean 'sine'"),
    'unknown optimizer': ([DIGITS, '--config.optimizer=adm'], "did you mean 'adam'"),
    'unknown twin': ([DIGITS, '--config.twins=ste,jiter'], "did you mean 'jitter'"),
    'no twin': ([DIGITS, '--config.twins='], 'name at least one'),
    'twice a twin': ([DIGITS, '--config.twins=ste,ste'], 'listed twice'),
    'unknown placement': ([DIGITS, '--config.placement=updates'], "did you mean 'update'"),
    'unknown range': ([DIGITS, '--config.range=maxabs'], "did you mean 'max_abs'"),
    'unknown model': ([DIGITS, '--config.model=conv'], "did you mean 'convnet'"),
    'field of a model': ([DIGITS, '--config.model=convnet(clases=2)'], "did you mean 'classes'"),
    'unknown dataset': ([DIGITS, '--config.dataset=mnst'], "did you mean 'mnist'"),
    'bits 0': ([DIGITS, '--config.bits=0'], '1..8'),
    'bits 9': ([DIGITS, '--config.bits=9'], '1..8'),
    'outside a domain': ([DIGITS, '--config.estimator=sine(lam=1.5)'], 'lam must be a number in [0, 1)'),
    'argument not taken': ([DIGITS, '--config.estimator=dsq(q=1)'], "unknown argument of estimator 'dsq' 'q'"),
    'code in a call': ([DIGITS, '--config.estimator=dsq(k=__import__("os"))'], 'cannot read'),
    'optimizer domain': ([DIGITS, '--config.optimizer=sgd(momentum=2)'], 'momentum must be a number in [0, 1)'),
    'learning rate': ([DIGITS, '--config.learning_rate=-1'], 'learning_rate must be in [1e-30, 1e+30]'),
    'nan': ([DIGITS, '--config.learning_rate=nan'], 'learning_rate'),
    'zero epochs': ([DIGITS, '--config.num_epochs=0'], 'num_epochs'),
    'too many steps an epoch': ([DIGITS, '--config.steps_per_epoch=16'], 'only 15 batches of 100'),
    'too large a batch': ([DIGITS, '--config.batch_size=1501'], 'fewer training examples'),
    'ste under muon': ([DIGITS, '--config.optimizer=muon'], 'no recipe is known: muon mixes'),
    'pulled back by dsq': ([DIGITS, '--config.pull_back=dsq'], 'only a run of ste pulls back'),
    'nothing to pull back': ([DIGITS, '--config.estimator=ste', '--config.pull_back=dsq'], 'nothing to pull back'),
    'pulled back by mad': (
        [DIGITS, '--config.estimator=ste', '--config.weight_decay=0.1', '--config.pull_back=mad'],
        'only one of mad and ste passes gradients outside',
    ),
    'clipping': ([DIGITS, '--config.clip_norm=-1'], 'clip_norm must be in'),
    'ste of ewgs': ([DIGITS, '--config.estimator=ewgs'], 'depends on the incoming gradient'),
    'ewgs on updates': (
        [DIGITS, '--config.estimator=ewgs', '--config.twins=jitter', '--config.placement=update'],
        "use placement 'gradient'",
    ),
    'nobody has that home, of a text': (
        [DIGITS, '--config.dataset=text:~nobody-at-all/x'],
        'cannot read ~nobody-at-all/x',
    ),
    'nobody has that home': (
        [DIGITS, '--config.dataset=folder:~nobody-at-all/x'],
        'cannot read the folder ~nobody-at-all',
    ),
    'too long a folder': ([DIGITS, f'--config.dataset=folder:/{"x" * 5000}'], 'File name too long'),
    'no such slope file': ([DIGITS, '--config.estimator=none.py:f'], "there is no file 'none.py'"),
    'no weights there': ([DIGITS, '--config.init_from=/nowhere'], 'init_from'),
    'no file of weights': ([DIGITS, '--config.init_from=none.safetensors'], 'there is no file none.safetensors'),
    'ladder of nothing': ([DIGITS, '--config.quantized=none', '--config.ladder=3'], 'with quantized=none there is no'),
    'depth of a name': ([DIGITS, '--config.model=resnet20(depth=32)'], 'field of CifarResNet'),
    'a name too long for a file': ([DIGITS, f'--config.init_from={"x" * 300}'], 'is neither a workdir nor'),
    'what nobody sees': ([DIGITS, '--config.twins=ste\n'], 'cannot be printed'),
    'no folder': ([DIGITS, '--config.name=../x'], 'name of a folder'),
    'larger than a float': ([DIGITS, f'--config.estimator=dsq(k={10**400})'], 'k must be a number in (0, 1e+09)'),
    'help with a value': ([DIGITS, '--help=1'], 'takes no value'),
    'no such npz': ([DIGITS, '--config.dataset=none.npz'], 'cannot read none.npz'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_a_users_error_is_one_line(case, tmp_path, monkeypatch, capsys):
    argv, message = REFUSED[case]
    if not argv:
        argv = ['--config.seed=1']
        message = 'give one --config=FILE'
    workdir = tmp_path / 'run'
    assert train.main([*argv, f'--workdir={workdir}']) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and error.count('\n') == 1 and len(error) <= 301
    assert message in error
    assert not workdir.exists()


def test_a_bucket_is_no_workdir(capsys):
    assert train.main([DIGITS, '--workdir=gs://bucket/run']) == 2
    assert 'must be a folder' in capsys.readouterr().err


def test_another_config_in_the_workdir_is_refused_with_the_keys(finished, capsys):
    before = (finished / 'config.json').read_bytes()
    assert (
        train.main(
            [DIGITS, *SHORT, '--config.seed=7', '--config.bits=4', '--config.estimator=sine', f'--workdir={finished}']
        )
        == 2
    )
    assert 'differ: bits, estimator, seed' in capsys.readouterr().err
    assert (finished / 'config.json').read_bytes() == before


def test_a_missing_dataset_is_refused_with_the_two_ways_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('experiments.data.registry._can_fetch', lambda url: False)
    monkeypatch.setattr('experiments.data.prepared.import_tfds', lambda: pytest.fail('seconds for nothing'))
    assert (
        train.main(
            ['--config=configs/mnist.py', f'--config.data_dir={tmp_path / "none"}', f'--workdir={tmp_path / "run"}']
        )
        == 2
    )
    error = capsys.readouterr().err
    assert 'connect to the internet' in error and 'scripts.prepare_mnist' in error
    assert not (tmp_path / 'run').exists()


def test_a_users_estimator_from_a_file(tmp_path):
    slope = tmp_path / 'mine.py'
    slope.write_text('def tent(r, *, top=1.5):\n    return top - abs(r)\n')
    command = [DIGITS, '--config.max_steps=2', '--config.twins=ste,jitter', f'--workdir={tmp_path / "run"}']
    assert train.main([*command, f'--config.estimator={slope}:tent(top=2.0)']) == 0
    config = json.loads((tmp_path / 'run/config.json').read_text())
    assert config['estimator'] == f'{slope}:tent(top=2.0)'


def test_channels_without_a_range_are_refused_before_training(finished, tmp_path, monkeypatch, capsys):
    params, model_state = initial_weights.read_weights(str(finished))
    params['conv2']['kernel'] = np.where(np.arange(64) < 3, 0, params['conv2']['kernel'])
    monkeypatch.setattr(initial_weights, 'read_weights', lambda workdir: (params, model_state))
    workdir = tmp_path / 'pruned'
    given = [DIGITS, f'--config.init_from={finished}', '--config.range=channel_max_abs', f'--workdir={workdir}']
    assert train.main(given) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "error: range=channel_max_abs: the range of 'conv2' must be positive and finite, it is 0 in 3 of 64" in error
    assert error.endswith('with one range for the whole layer, max_abs or he_uniform, a channel may be 0')
    assert not workdir.exists()


def test_arrays_of_the_users_own_and_init_from(finished, tmp_path):
    random = np.random.default_rng(0)
    arrays = {}
    for split, size in (('train', 120), ('validation', 35)):
        arrays[f'{split}_images'] = random.integers(0, 256, (size, 8, 8, 1), np.uint8)
        arrays[f'{split}_labels'] = random.integers(0, 10, size)
    np.savez(tmp_path / 'mine.npz', **arrays)
    command = [
        DIGITS,
        f'--config.dataset={tmp_path / "mine.npz"}',
        f'--config.init_from={finished}',
        '--config.batch_size=40',
    ]
    assert (
        train.main([*command, '--config.num_epochs=1', '--config.twins=ste,self', f'--workdir={tmp_path / "run"}']) == 0
    )
    with np.load(tmp_path / 'run/weights.npz') as weights, np.load(finished / 'weights.npz') as start:
        assert np.abs(weights['reference/conv1'] - start['reference/conv1']).max() < 0.2


@pytest.mark.slow
@pytest.mark.parametrize(
    'options',
    [
        ['--config.optimizer=muon', '--config.twins=naive_ste,map_ste,jitter', '--config.learning_rate=2e-3'],
        [
            '--config.optimizer=adafactor(multiply_by_parameter_scale=False)',
            '--config.placement=update',
            '--config.twins=ste,jitter',
        ],
        [
            '--config.estimator=ede',
            '--config.bits=1',
            '--config.twins=naive_ste,jitter',
            '--config.track_change_points=False',
        ],
        [
            '--config.estimator=mad',
            '--config.range=channel_max_abs',
            '--config.optimizer=adamw',
            '--config.weight_decay=0.1',
        ],
    ],
    ids=['muon', 'update', 'ede', 'mad'],
)
def test_other_settings_run(options, tmp_path):
    assert train.main([DIGITS, '--config.max_steps=3', *options, f'--workdir={tmp_path}']) == 0
    twins = json.loads((tmp_path / 'summary.json').read_text())['twins']
    assert all(0 < twin['weight_alignment_error'] < 2 for name, twin in twins.items() if name != 'self')


def test_every_config_loads():
    for path in pathlib.Path('configs').glob('*.py'):
        if path.stem != '__init__':
            assert load(str(path)).name == path.stem


def process(*argv, **variables):
    environment = {**os.environ, 'XLA_FLAGS': '', **variables}
    return subprocess.run(
        [sys.executable, '-m', 'experiments.train', *argv],
        capture_output=True,
        text=True,
        timeout=600,  # it ends by itself, however busy the machine
        env=environment,
    )


def test_the_real_process(tmp_path):
    shown = process('--help')
    assert shown.returncode == 0 and 'learning_rate = 0.01' in shown.stdout and 'at its peak' in shown.stdout
    refused = process(DIGITS, '--config.bits=77')
    assert refused.returncode == 2 and refused.stderr.count('\n') == 1 and 'Traceback' not in refused.stderr


def test_help_and_digits_import_nothing_heavy():
    code = """
import sys
from experiments import train
train.main(['--help'])
heavy = {'jax', 'tensorflow'} & set(sys.modules)
from configs import digits
from experiments.data import registry
from experiments.training import trainer
registry.load(digits.get_config())
heavy |= {'tensorflow'} & set(sys.modules)
sys.exit(f'imported {heavy}' if heavy else 0)
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def start(devices: int, *argv) -> subprocess.Popen:
    environment = {**os.environ, 'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}'}
    return subprocess.Popen([sys.executable, '-m', 'experiments.train', *argv], stderr=subprocess.PIPE, env=environment)


OF_PROCESSES = {
    'digits': [DIGITS, '--config.num_epochs=1', '--config.twins=ste,self'],
    'a text': [
        *('--config=configs/shakespeare.py', '--config.model=transformer(layers=1,width=16,heads=2)'),
        *('--config.context=16', '--config.batch_size=8', '--config.steps_per_epoch=10', '--config.num_epochs=1'),
        # Not Adam: it divides what rounding leaves of a gradient by as little, for bytes that no text has.
        *('--config.optimizer=sgd(momentum=0.9)', '--config.twins=naive_ste,self', '--config.dataset=text:LICENSE'),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize('name', OF_PROCESSES)
def test_two_processes_give_what_one_gives(name, tmp_path):
    command = OF_PROCESSES[name]
    address = f'127.0.0.1:{free_port()}'
    both = [
        start(2, *command, f'--workdir={tmp_path / "two"}', f'--config.distributed={address},2,{index}')
        for index in (0, 1)
    ]
    for process_ in both:
        _, error = process_.communicate(timeout=600)
        assert process_.returncode == 0, error.decode()
    alone = start(4, *command, f'--workdir={tmp_path / "one"}')
    alone.communicate(timeout=600)
    with np.load(tmp_path / 'one/weights.npz') as one, np.load(tmp_path / 'two/weights.npz') as two:
        for key in one:
            np.testing.assert_allclose(one[key], two[key], atol=1e-6)
    last = [read_rows(tmp_path / name)[-1] for name in ('one', 'two')]
    assert set(last[0]) == set(last[1])
    for key, value in last[0].items():
        if 'sequence' in key or 'oscillations' in key or 'flip' in key or 'moved' in key:
            assert last[1][key] == value, key  # integers: identical codes
        elif value is not None:
            assert last[1][key] == pytest.approx(value, rel=1e-3, abs=1e-6), key


@pytest.mark.parametrize(
    'setting',
    [
        *('on', 'host,2,0', 'host:1,2,2', 'host:1,x,0', '127.0.0.1:abc,2,0', '127.0.0.1:70000,2,1', 'host:0,2,0'),
        *(':80,2,0', 'host:٣,2,0', 'host:80,0,0', 'host:80,2,-1', 'host:80,2'),
    ],
)
def test_a_bad_distributed_setting_is_refused(setting, tmp_path, capsys):
    assert train.main([DIGITS, f'--config.distributed={setting}', f'--workdir={tmp_path / "run"}']) == 2
    assert 'off, auto or HOST:PORT,COUNT,INDEX' in capsys.readouterr().err


def test_a_port_that_is_in_use_is_refused(tmp_path, capsys):
    with socket.create_server(('', 0)) as taken:
        setting = f'--config.distributed=127.0.0.1:{taken.getsockname()[1]},2,0'
        assert train.main([DIGITS, setting, f'--workdir={tmp_path / "run"}']) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: distributed: port ') and 'in use; choose another one' in error


@pytest.mark.slow
def test_auto_on_one_machine_says_what_is_missing(tmp_path):
    alone = process(DIGITS, '--config.distributed=auto', f'--workdir={tmp_path / "run"}')
    assert alone.returncode == 2 and alone.stderr.count('\n') == 1
    assert alone.stderr.startswith('error: distributed=auto: there is no TPU slice and no Slurm job here')


def test_a_folder_of_the_same_second_is_another_one(tmp_path, monkeypatch):
    monkeypatch.setattr('time.strftime', lambda _: 'now')
    made = [lock.fresh(tmp_path / 'runs' / 'digits').name for _ in range(3)]
    assert made == ['now', 'now-2', 'now-3']


def test_a_folder_of_its_own_goes_where_the_run_is_refused(tmp_path, monkeypatch, capsys):
    root = pathlib.Path.cwd()
    monkeypatch.chdir(tmp_path)
    assert train.main([f'--config={root}/configs/digits.py', '--config.batch_size=2000']) == 2
    assert 'Workdir: runs/digits/' in capsys.readouterr().out
    assert not list(tmp_path.glob('runs/digits/*'))


@pytest.mark.slow
@pytest.mark.parametrize('index', [0, 1])
def test_a_process_whose_others_do_not_come_ends_with_a_message(index, tmp_path):
    setting = f'--config.distributed=127.0.0.1:{free_port()},2,{index}'
    alone = process(DIGITS, setting, f'--workdir={tmp_path / "run"}', RENDEZVOUS_SECONDS='3')
    assert alone.returncode == 2 and 'start the same command on every worker' in alone.stderr
    assert alone.stderr.startswith('error: ') and alone.stderr.count('\n') == 1
    assert not (tmp_path / 'run').exists()
