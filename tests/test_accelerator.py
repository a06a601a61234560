"""The command that measures an accelerator: it needs little, keeps what it has found, and knows what still fits."""

import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from experiments.data import arrays
from experiments.workdir.files import read_json
from scripts import accelerator
from scripts.accelerating import children, parts, resnet, right, stand_ins
from scripts.accelerating.children import FILE
from scripts.measuring import pages
from scripts.measuring.figures import Figure, Record
from scripts.measuring.session import Session, halving
from scripts.measuring.workloads import IMAGENET
from scripts.noise import save_noise

ROOT = pathlib.Path(__file__).parent.parent
FILES = [path for package in ('measuring', 'accelerating') for path in (ROOT / 'scripts' / package).glob('[!_]*.py')]
MODULES = ['scripts.accelerator', *(f'scripts.{path.parent.name}.{path.stem}' for path in FILES)]
ABSENT = {
    *('ml_collections', 'tqdm', 'tensorboardX', 'matplotlib', 'jinja2'),
    *('sklearn', 'tensorflow', 'tensorflow_datasets'),
}
PARTS = [part.name for part in parts.PARTS]
MACHINE = {'devices': '1 x x', 'platform': 'p', 'cores': 2, 'python': '3', 'versions': {'jax': '0'}, 'backend': 'gpu'}
RIGHT = {'limit': 0, 'bound': 'exactly', 'required': True}
LACKING = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.split('.')[0] in {absent} else find(name, *rest)
"""


@pytest.fixture
def without(tmp_path):
    """(packages) -> the environment of a Python that lacks them."""

    def make(*absent: str) -> dict[str, str]:
        folder = tmp_path / 'lacking'
        folder.mkdir(exist_ok=True)
        (folder / 'sitecustomize.py').write_text(LACKING.format(absent=set(absent)))
        return {**os.environ, 'PYTHONPATH': str(folder)}

    return make


def command(*arguments: str, **options) -> subprocess.CompletedProcess:
    argv = [sys.executable, '-m', 'scripts.accelerator', *arguments]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=1800, **options)


def begun(folder: pathlib.Path, tiny: bool = False) -> Record:
    record = Record(folder / FILE)
    record.begin('command', minutes=10, tiny=tiny, seconds=0.0)
    record.on(MACHINE, judged=not tiny)
    return record


def test_it_imports_what_a_bare_machine_has(without):
    code = f'import importlib; [importlib.import_module(name) for name in {MODULES}]'
    ran = subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=without(*ABSENT), capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_what_does_not_go_with_the_rest_is_one_line(tmp_path):
    (tmp_path / 'optax.py').write_text('import jax\njax.gone_long_ago')
    ran = command('--out', str(tmp_path / 'out'), env={**os.environ, 'PYTHONPATH': str(tmp_path)})
    assert ran.returncode == 2 and ran.stderr.count('\n') == 1
    assert 'cannot be imported beside this jax' in ran.stderr and 'gone_long_ago' in ran.stderr


def test_what_is_missing_is_one_line(without, tmp_path):
    ran = command('--out', str(tmp_path / 'out'), env=without('optax', 'tensorstore'))
    assert ran.returncode == 2 and ran.stdout == '' and ran.stderr.count('\n') == 1
    assert 'optax' in ran.stderr and 'tensorstore (for orbax-checkpoint)' in ran.stderr and 'docs/' in ran.stderr
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        (['--only', 'wrong'], "there is no 'wrong'; there are right-digits"),
        (['--minutes', '0'], 'above 0'),
        (['--minutes', 'nan'], 'above 0'),
        (['--minutes', 'ten'], 'ten'),
        (['--data', 'nowhere.npz'], 'no file nowhere.npz'),
        (['--data', 'pyproject.toml'], 'cannot read pyproject.toml'),
        (['--page', 'nowhere.md'], '--page: nowhere.md'),
        (['--out', 'pyproject.toml/folder'], '--out:'),
    ],
)
def test_a_mistake_is_one_line(flags, said, tmp_path, capsys):
    assert accelerator.main(['--out', str(tmp_path), *flags]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count('\n') == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(('minutes', 'slow', 'expected'), [(1, 1, PARTS[:2]), (10, 1, PARTS), (10, 2, PARTS[:6])])
def test_what_no_longer_fits_is_left_out(minutes, slow, expected, tmp_path, monkeypatch):
    """By a clock on which every part takes so many times what it is said to."""
    now, measured = [0.0], []

    def measure(part, *_):
        measured.append(part.name)
        now[0] += slow * part.seconds
        return ''

    monkeypatch.setattr(children, 'measured', measure)
    data = save_noise(tmp_path / 'noise.npz', (8, 8, 1), 10, training=10, validation=10)
    arguments = accelerator.parse(['--out', str(tmp_path), '--minutes', str(minutes), '--data', str(data)])
    accelerator.begin(arguments, [])
    accelerator.run(arguments, 0.0, lambda: now[0])
    left_out = {each['name']: each['why'] for each in read_json(tmp_path / FILE)['left_out']}
    assert measured == expected and [*measured, *left_out] == PARTS
    assert all('s were left' in why for why in left_out.values())


def test_what_needs_data_or_an_accelerator_is_left_out(tmp_path):
    assert accelerator.main(['--out', str(tmp_path), '--only', 'small', 'paper']) == 1
    content = read_json(tmp_path / FILE)
    reasons = {each['name']: each['why'] for each in content['left_out']}
    assert list(reasons) == ['small', 'paper'] and 'only a CPU' in reasons['small'] and '--data' in reasons['paper']
    assert content['figures'] == [] and content['machine']['backend'] == 'cpu'
    assert all(part.on_cpu == part.name.startswith('right-') for part in parts.PARTS)


def test_the_file_is_whole_after_every_figure(tmp_path):
    record = begun(tmp_path)
    record.add(Figure('fast', 'a', [1.0, 3.0, 1.1], limit=1.2))
    record.add(Figure('fast', 'a', [1.3], limit=1.2))
    record.add(Figure('right', 'c', [0], **RIGHT))
    content = read_json(tmp_path / FILE)
    keys = 'machine command minutes tiny seconds figures failed left_out'
    assert set(content) == set(keys.split()) and content['machine'] == MACHINE
    assert [(figure['value'], figure['kept']) for figure in content['figures']] == [(1.3, False), (0, True)]
    record.add(Figure('right', 'c', [2], **RIGHT))
    assert Record(tmp_path / FILE).wrong() == ['right']
    with pytest.raises(ValueError, match='not finite'):
        Figure('bad', '', [1.0, float('nan')])


def test_tiny_figures_stand_alone_and_their_speed_is_not_judged(tmp_path):
    begun(tmp_path).add(Figure('one', '', [1]))
    assert begun(tmp_path).figure('one')
    record = begun(tmp_path, tiny=True)
    record.add(Figure('fast', 'a', [9], limit=1))
    record.add(Figure('right', 'a', [9], limit=1, required=True))
    assert [(each['name'], each['kept']) for each in record.content['figures']] == [('fast', None), ('right', False)]


def test_a_part_that_crashes_or_hangs_has_a_reason(tmp_path):
    begun(tmp_path)
    unknown = parts.Part('unknown', '', 600, 600, ())
    assert children.measured(unknown, tmp_path, time.time() + 600, True, None).startswith('ended with exit code 1: Val')
    assert 'Traceback' in (tmp_path / 'unknown.log').read_text()
    assert 'its time' in children.measured(parts.PARTS[0], tmp_path, time.time() + 0.5, True, None)


@pytest.mark.parametrize(('samples', 'why', 'code'), [([0], '', 0), ([1], '', 1), ([0], 'crashed', 1)])
def test_the_exit_code_says_whether_all_is_right(samples, why, code, tmp_path, monkeypatch, capsys):
    def measured(part, folder, *_):
        record = Record(folder / FILE)
        record.on(MACHINE, judged=True)
        record.add(Figure('right', '', samples, **RIGHT))
        record.add(Figure('slow', '', [9], limit=1))  # a limit of speed that is not kept is a result
        return why

    monkeypatch.setattr(children, 'measured', measured)
    assert accelerator.main(['--out', str(tmp_path / 'new'), '--only', 'small']) == code
    assert ('failed: small: crashed' in capsys.readouterr().out) == bool(why)


def test_the_table_is_as_wide_as_a_terminal(tmp_path):
    record = begun(tmp_path)
    record.add(Figure('n' * 40, 'w' * 200, [-1.23456789e-100], 'images/second', limit=1.23456789e-5, bound='at least'))
    record.fail('part', 'why ' * 100)
    record.leave_out('other', 'x' * 100)
    text = pages.table(record.content, record.added)
    assert max(map(len, text.splitlines())) <= pages.WIDTH and 'failed: part' in text and 'left out: other' in text


def test_the_page_says_what_the_files_say(tmp_path):
    record, page = begun(tmp_path), tmp_path / 'page.md'
    record.add(Figure('pair', 'a pair', [1.5], 'images/s', limit=1.03))
    record.leave_out('small', 'no time')
    (tmp_path / 'cpu.json').write_text('{}')
    page.write_text('before\n<!-- accelerator -->\nold\n<!-- end of accelerator -->\nafter')
    assert accelerator.main(['--out', str(tmp_path), '--page', str(page)]) == 0
    text = page.read_text()
    assert text.startswith('before') and text.endswith('after') and 'old' not in text
    assert '| 1.5 images/s | 1.5 | 1.5 | at most 1.03 | **no** |' in text and 'Left out: small (no time).' in text


def test_the_committed_page_and_cpu_figures():
    page, folder = ROOT / 'docs/performance.md', right.CPU_FIGURES.parent
    assert pages.filled(page.read_text(), 'accelerator', pages.of_accelerators(folder)) == page.read_text()
    content = read_json(right.CPU_FIGURES)
    assert content['machine']['backend'] == 'cpu' and not content['tiny'] and not content['failed']
    figures = {figure['name']: figure for figure in content['figures']}
    assert all(figure['kept'] for figure in figures.values() if figure['required'])
    assert figures['right-exact-deterministic']['required'] and figures['right-twice-deterministic']['required']
    assert {f'right-{twin}-default' for twin in ('ste', 'naive_ste', 'jitter', 'loss')} <= set(figures)


def test_digits_are_those_of_scikit_learn():
    carried, original = stand_ins.digits(), arrays.digits(None)
    for split in arrays.SPLITS:
        assert np.array_equal(carried.images[split], original.images[split])
        assert np.array_equal(carried.labels[split], original.labels[split])
        assert carried.images[split].dtype == original.images[split].dtype
    assert carried.reshuffle == original.reshuffle


def test_a_batch_that_does_not_fit_is_halved():
    tried = []

    def measured(images):
        tried.append(images)
        if images > 64:
            raise RuntimeError('RESOURCE_EXHAUSTED: Out of memory while trying to allocate')

    halving(256, measured)
    assert tried == [256, 128, 64]
    with pytest.raises(RuntimeError, match='EXHAUSTED'):
        halving(256, lambda images: measured(128))


def test_the_fraction_reached_is_of_the_chips_own_rate(tmp_path):
    session = Session(begun(tmp_path), 1, 1)
    session.add('chip-product', '', [490.0], 'TFLOP/s')
    resnet.Measured(session, IMAGENET).reached('resnet-pair', 'a pair', [1000.0], runs=2)
    assert session.record.figure('resnet-pair-reached')['value'] == pytest.approx(0.1)


@pytest.mark.slow
def test_the_whole_runs_on_two_cores_of_a_bare_machine(without, tmp_path):
    ran = command('--out', str(tmp_path / 'out'), '--tiny', env={**without(*ABSENT), 'XLA_FLAGS': ''})
    content = read_json(tmp_path / 'out' / FILE)
    assert ran.returncode == 0 and not content['failed'] and not content['left_out'], ran.stdout
    assert max(map(len, ran.stdout.splitlines())) <= pages.WIDTH
    assert {figure['name'].partition('-')[0] for figure in content['figures']} == {
        *('right', 'chip', 'resnet', 'small', 'paper', 'profile')
    }


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(3))
def test_what_is_killed_has_kept_what_it_had(seed, tmp_path):
    rng, file = random.Random(seed), tmp_path / FILE
    argv = [sys.executable, '-m', 'scripts.accelerator', '--out', str(tmp_path), '--tiny']
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL)
    wanted = rng.randrange(1, 12)
    while not file.exists() or len(json.loads(file.read_text())['figures']) < wanted:
        assert process.poll() is None
        time.sleep(rng.uniform(0, 0.05))
    time.sleep(rng.uniform(0, 2))
    process.send_signal(signal.SIGKILL)
    process.wait()
    while works_in(tmp_path):  # the part's process ends by itself
        time.sleep(0.1)
    assert len(json.loads(file.read_bytes())['figures']) >= wanted


def works_in(folder: pathlib.Path) -> bool:
    """Whether a process has this folder on its command line."""
    commands = pathlib.Path('/proc').glob('[0-9]*/cmdline')
    with contextlib.suppress(OSError):  # one that has ended meanwhile: look again
        return any(str(folder).encode() in command.read_bytes() for command in commands)
    return True
