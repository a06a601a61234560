"""What a run is: its config and the content of its files; and what is refused where either is another."""

import json
import os
import pathlib

import numpy as np
import pytest

from configs import common
from experiments import convert, report
from experiments.errors import UserError
from experiments.setup import sources, users
from experiments.setup.config_file import load
from experiments.setup.identity import content_of_images, contents, differences, identity
from experiments.setup.settings import Settings, resolve
from experiments.sweeps import plan
from experiments.training.sharing import fingerprint
from experiments.workdir import checksums, same_run, seals
from experiments.workdir.checkpoints import Checkpoints
from qat import calls

FAMILY = """
import functools
import jax.numpy as jnp
from helper import height


def family(k):
    def slope(r):
        return height + k * jnp.cos(2 * jnp.pi * r)

    return slope


def passed_on(function):
    def inner(*args, **options):
        return function(*args, **options)

    return inner


low, high = family(0.1), family(0.8)
nameless = lambda r, k=0.5: height + k * jnp.cos(2 * jnp.pi * r)
wrapped = passed_on(nameless)
bound = functools.partial(lambda r, wave=jnp.sin, k=0.3: height + k * wave(r) ** 2, wave=jnp.cos)
"""
IDENTITY = {key: json.dumps(value) for key, value in common.get_config().items()}
IDENTITY |= {'num_epochs': '3', 'content of mine.py': 'a' * 64, 'content of init_from': 'b' * 64}


@pytest.fixture
def file(tmp_path, monkeypatch) -> pathlib.Path:
    """A user's file and the helper that it imports; they are not tried in a process of their own."""
    monkeypatch.setattr(users, '_problem', lambda *_: None)
    path = tmp_path / 'code' / 'fam.py'
    path.parent.mkdir()
    path.write_text(FAMILY)
    path.with_name('helper.py').write_text('height = 1\n')
    return path


def settings(**changes) -> Settings:
    config = load('configs/digits.py')
    config.update(changes)
    return resolve(config)


@pytest.mark.parametrize(
    'name, written',
    [('low', 'low'), ('nameless', 'nameless(k=0.5)'), ('wrapped', 'wrapped'), ('bound', 'bound(k=0.3)')],
)
def test_config_json_says_the_name_that_the_user_wrote_and_it_can_be_read_again(name, written, file):
    made = settings(estimator=f'{file}:{name}')
    assert made.config.estimator == f'{file}:{written}'
    again = resolve(made.config)
    assert again.estimator == made.estimator and again.config.estimator == made.config.estimator


def test_what_is_no_literal_is_not_written():
    values = {'k': 0.5, 'word': 'a', 'pair': (1, 2), 'none': None, 'wave': np.cos, 'single': np.float32(0.3)}
    assert calls.write('f', values) == "f(k=0.5, word='a', pair=(1, 2), none=None)"
    assert calls.parse(calls.write('f', values)) == ('f', dict(list(values.items())[:4]))
    assert calls.write('f', {'wave': np.cos}) == 'f'


def test_a_name_and_the_content_of_its_file_make_a_program(file):
    low, high = (settings(estimator=f'{file}:{name}') for name in ('low', 'high'))
    assert low.estimator != high.estimator and fingerprint(low) != fingerprint(high)
    assert fingerprint(settings(estimator=f'{file}:low', seed=1)) == fingerprint(low)
    before = fingerprint(low)
    file.with_name('helper.py').write_text('height = 2\n')
    edited = settings(estimator=f'{file}:low')
    assert fingerprint(edited) != before
    assert float(edited.estimator(np.float32(0.25))) == pytest.approx(2)  # the helper of now, not the one of before


def test_an_identity_names_the_files_that_changed(file, tmp_path):
    arrays, start = tmp_path / 'mine.npz', tmp_path / 'start' / 'checkpoints' / '5'
    np.savez(arrays, a=np.zeros(3))
    start.mkdir(parents=True)
    (start / 'checksums.json').write_text('{}')
    config = {
        'estimator': f'{file}:low',
        'model': 'convnet',
        'dataset': str(arrays),
        'init_from': str(tmp_path / 'start'),
    }
    before = contents(config)
    helper = file.with_name('helper.py')
    assert set(before) == {f'content of {name}' for name in (file, helper, arrays, 'init_from')}
    for path, named in ((file, file), (helper, helper), (arrays, arrays), (start / 'checksums.json', 'init_from')):
        content = path.read_bytes()
        path.write_bytes(content + b'\n')
        assert differences(before, contents(config)) == [f'content of {named}']
        path.write_bytes(content)
    assert contents(config) == before
    weights = tmp_path / 'model.safetensors'
    weights.write_bytes(b'1')
    one = contents(config | {'init_from': str(weights)})
    weights.write_bytes(b'2')
    assert differences(one, contents(config | {'init_from': str(weights)})) == [f'content of {weights}']
    own = identity(settings(seed=3))
    assert own['seed'] == '3' and differences(own, identity(settings(seed=4))) == ['seed']


def test_an_identity_knows_the_images_of_a_folder(tmp_path):
    def found() -> dict[str, str]:
        return contents({'estimator': 'dsq', 'model': 'convnet', 'dataset': f'folder:{tmp_path}', 'init_from': ''})

    cats = tmp_path / 'train' / 'cat'
    cats.mkdir(parents=True)
    (cats / 'one.png').write_bytes(b'1')
    seen = [found()]
    for change in (
        lambda: (cats / 'one.png').write_bytes(b'2'),
        lambda: (cats / 'one.png').rename(cats / 'two.png'),
        lambda: cats.rename(cats.with_name('dog')),
        lambda: cats.with_name('dog').rename(cats.with_name(os.fsdecode(b'caf\xe9'))),  # of Latin-1, as archives have
    ):
        change()
        content_of_images.cache_clear()  # as in another process
        seen.append(found())
    assert [list(one) for one in seen] == [[f'content of folder:{tmp_path}']] * 5
    assert len({*map(str, seen)}) == 5 and seen[-1] == found()
    next(tmp_path.glob('train/*')).joinpath('.DS_Store').write_bytes(b'of a file manager')
    assert seen[-1] == found()


def test_a_pipe_in_place_of_arrays_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'pipe.npz')
    with pytest.raises(UserError, match=r'cannot read .*pipe.npz: it is no regular file'):
        contents({'estimator': 'dsq', 'model': 'convnet', 'dataset': f'{tmp_path}/pipe.npz', 'init_from': ''})


def test_the_files_that_code_is_made_of(tmp_path, monkeypatch):
    def written(name, text=''):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    written(
        'mine.py', 'import json, jax, qat\nfrom package.part import x\nimport spaces.y\ntry: import broken\nexcept: 1\n'
    )
    written('package/__init__.py')
    written('package/part.py', 'def f():\n  import late\n')
    written('broken.py', 'def (')
    for name in ('late.py', 'unused.py', 'qat.py', 'spaces/y.py'):
        written(name)
    expected = ['late.py', 'mine.py', 'package/__init__.py', 'package/part.py']
    assert sources.files(f'{tmp_path}/mine.py') == [f'{tmp_path}/{name}' for name in expected]
    monkeypatch.chdir(tmp_path)
    assert sources.files('mine.py') == expected
    written('scripts/h.py')  # a folder that is called as one of ours is the user's all the same
    written('scripts/__init__.py')
    written('mine.py', 'from scripts.h import f')
    assert sources.files('mine.py') == ['mine.py', 'scripts/__init__.py', 'scripts/h.py']
    assert sources.files('broken.py') == ['broken.py']  # what is wrong with it is said where it is loaded


def test_a_sweep_of_an_edited_file_is_another(file, monkeypatch):
    def names():
        return [point.name for point in plan.points('configs/digits.py', [], [f'estimator={file}:low|{file}:high'], 2)]

    before = names()
    assert len(set(before)) == 4 and names() == before
    (point, *_) = plan.points('configs/digits.py', [f'--config.estimator={file}:low'], [], 1)
    assert plan.resolve(point).config.seed == 0
    file.write_text(FAMILY.replace('0.1', '0.2'))
    assert not set(before) & set(names())
    with pytest.raises(UserError, match='has changed since the sweep was started'):
        plan.resolve(point)


def test_a_sweep_of_an_edited_config_is_another(tmp_path):
    config = tmp_path / 'mine.py'
    text = 'from configs import digits\ndef get_config():\n  c = digits.get_config()\n  c.bits = 2\n  return c\n'
    points = []
    for bits in (2, 3):
        config.write_text(text.replace('2', str(bits)))
        points += plan.points(str(config), [], [], 1)
    assert points[0].flags == points[1].flags and points[0].name != points[1].name


@pytest.mark.parametrize(
    'changes, message',
    [
        ({}, ''),
        ({'content of init_from': 'c' * 64, 'num_epochs': '4', 'ladder': '3'}, ''),
        ({'num_epochs': '2'}, 'these keys differ: num_epochs.'),
        ({'seed': '1', 'bits': '3'}, 'these keys differ: bits, seed.'),
        ({'content of mine.py': 'c' * 64}, 'mine.py: not what it was when the run in'),
        ({'content of helper.py': 'c' * 64}, ''),
    ],
)
def test_a_workdir_holds_one_run(changes, message, tmp_path):
    same_run.check_same_run(tmp_path, IDENTITY)  # nothing is there
    same_run.write_identity(tmp_path, IDENTITY)
    (tmp_path / 'config.json').write_text('{"seed": 7}')  # what was written with it decides
    if not message:
        return same_run.check_same_run(tmp_path, {**IDENTITY, **changes})
    with pytest.raises(UserError, match=message):
        same_run.check_same_run(tmp_path, {**IDENTITY, **changes})


def test_what_may_change_and_what_is_new_in_a_later_version_leaves_the_seal_alone():
    free = {
        'num_epochs': '9',
        'ladder': '3',
        'data_dir': '"there"',
        'name': '"other"',
        'checkpoint_every_steps': '7',
        'content of init_from': 'c' * 64,
        'weight_decay': '0.0',
    }
    assert same_run.digest({**IDENTITY, **free}) == same_run.digest(IDENTITY)
    for key in ('seed', 'bits', 'content of mine.py'):
        assert same_run.digest({**IDENTITY, key: '"other"'}) != same_run.digest(IDENTITY)


def checkpoint(workdir: pathlib.Path, name: int, step: int | None, own=IDENTITY) -> None:
    """A sound checkpoint of that name, sealed for a step, or by an earlier version without a seal."""
    folder = workdir / 'checkpoints' / str(name)
    folder.mkdir(parents=True)
    (folder / 'arrays').write_bytes(bytes(8))
    if step is not None:
        seals.seal(folder, same_run.digest(own), step)
    checksums.seal(folder)


@pytest.mark.parametrize(
    'step, own, reason',
    [
        (9, IDENTITY, ''),
        (8, IDENTITY, 'it is of step 8'),
        (9, {**IDENTITY, 'seed': '1'}, 'it belongs to another run'),
        (9, {**IDENTITY, 'content of mine.py': 'c' * 64}, 'it belongs to another run'),
        (None, IDENTITY, 'an earlier version wrote it, for another run'),
    ],
)
def test_a_checkpoint_that_is_not_of_this_run_and_step_is_set_aside(step, own, reason, tmp_path, capsys):
    same_run.write_identity(tmp_path, IDENTITY)
    checkpoint(tmp_path, 5, 5)
    checkpoint(tmp_path, 9, step, own)
    assert Checkpoints(tmp_path).newest() == (5 if reason else 9)
    assert f'{reason}; set aside as 9.set-aside' in capsys.readouterr().err if reason else True
    assert (tmp_path / 'checkpoints' / '9.set-aside').exists() == bool(reason)


def test_if_none_is_of_this_run_it_stops_and_leaves_them(tmp_path):
    same_run.write_identity(tmp_path, IDENTITY)
    checkpoint(tmp_path, 5, 5, {**IDENTITY, 'seed': '1'})
    with pytest.raises(UserError, match=r'no sound checkpoint is left in .*it belongs to another run'):
        Checkpoints(tmp_path).newest()
    assert (tmp_path / 'checkpoints' / '5').exists()


def test_without_identity_and_config_the_seals_still_tell(tmp_path):
    checkpoint(tmp_path, 5, 5)
    same_run.check_same_run(tmp_path, IDENTITY)
    with pytest.raises(UserError, match='holds a checkpoint of another run, of step 5'):
        same_run.check_same_run(tmp_path, {**IDENTITY, 'seed': '1'})


def test_a_workdir_of_an_earlier_version_goes_on_and_stays_one(tmp_path):
    (tmp_path / 'config.json').write_text('{"seed": 0, "num_epochs": 3}')
    checkpoint(tmp_path, 5, None)
    same_run.check_same_run(tmp_path, IDENTITY)
    with pytest.raises(UserError, match='these keys differ: seed'):
        same_run.check_same_run(tmp_path, {**IDENTITY, 'seed': '1'})
    same_run.write_identity(tmp_path, IDENTITY)
    assert not (tmp_path / 'identity.json').exists() and Checkpoints(tmp_path).newest() == 5


@pytest.mark.parametrize('key, call', [('estimator', 'slope'), ('model', 'Net')])
@pytest.mark.parametrize('command', ['report', 'convert'])
def test_code_that_only_a_workdir_names_is_not_run_unless_asked_for(command, key, call, tmp_path, capsys):
    code, trace = tmp_path / 'evil.py', tmp_path / 'trace'
    code.write_text(f'import pathlib\npathlib.Path({str(trace)!r}).touch()\n')
    workdir, main = tmp_path / 'run', {'report': report.main, 'convert': convert.main}[command]
    workdir.mkdir()
    (workdir / 'config.json').write_text(json.dumps({key: f'{code}:{call}'}))
    flags = [str(workdir)] if command == 'report' else ['--from', str(workdir), '--to=ste', f'--out={tmp_path}/out']
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and f'names code, {code}: read it, and add --run-code' in error
    assert not trace.exists()
    assert main([*flags, '--run-code']) == 2  # it runs, and has no slope
    assert 'evil.py' in capsys.readouterr().err and trace.exists()
