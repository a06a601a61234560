"""Config files as people write them: what is accepted, and what is refused in a line that names key and file."""

import json

import pytest

from configs import common
from experiments import train
from experiments.errors import UserError
from experiments.setup import command_line, config_file

DECLARED = common.get_config().to_dict()
START = """
import sys
import ml_collections
from ml_collections import config_dict
from configs import common
def get_config():
    config = common.get_config()
"""


def written(folder, body, name='mine.py', end='    return config\n') -> str:
    """The path of a config file whose get_config has these lines."""
    path = folder / name
    path.write_text(START + ''.join(f'    {line}\n' for line in body.splitlines()) + end)
    return str(path)


@pytest.mark.parametrize('key', DECLARED)
@pytest.mark.parametrize('value', ['None', 'get_config', '[1]', 'object()'])
def test_a_key_of_another_type_is_refused(key, value, tmp_path):
    path = written(tmp_path, f'config = {{**config.to_dict(), {key!r}: {value}}}')
    with pytest.raises(UserError) as refused:
        config_file.load(path)
    said = str(refused.value)
    assert path in said and f'{key} must be ' in said and f'config.{key} = {DECLARED[key]!r}' in said


REFUSED = {
    'nothing': ('return', 'must return a ConfigDict, got None'),
    'a number': ('return 3', 'got 3'),
    'itself': ('return get_config', 'got a function'),
    'a key that is None': ('config.bits = None', 'bits must be a whole number, as in config.bits = 2, got None'),
    'a missing key': ('del config.bits', 'mine.py lacks bits; begin with config = common.get_config()'),
    'missing keys': ('return ml_collections.ConfigDict()', f'lacks {min(DECLARED)} and {len(DECLARED) - 1} more'),
    'an empty dict': ('return {}', f'lacks {min(DECLARED)} and'),
    'a dict that holds itself': ('config = config.to_dict(); config["name"] = config', 'name must be a text'),
    'a config inside': ('return {**config, "bits": config}', 'bits must be a whole number'),
    'another key': ('return {**config, "lr": 0.1}', "unknown key 'lr': did you mean 'learning_rate'?"),
    'a key that is none': ('return {**config, 3: 0.1}', "unknown key '3'"),
    'a required placeholder': (
        'config = {**config.to_dict(), "bits": config_dict.required_placeholder(int)}',
        'bits has no value, None value found in required reference; give --config.bits=VALUE',
    ),
    'a placeholder': ('config = {**config.to_dict(), "bits": config_dict.placeholder(int)}', 'got None'),
    'what cannot be computed': ('return {**config, "bits": config.get_ref("seed").to_int() // 0}', 'mine.py'),
    'a fraction': ('return {**config, "bits": 2.5}', 'got 2.5'),
    'a flag for a number': ('return {**config, "bits": True}', 'got True'),
    'a number for a flag': ('return {**config, "sync_batch_norm": 1}', 'must be True or False'),
    'a number for a text': ('return {**config, "name": 1}', 'name must be a text'),
    'a text for a number': (
        'return {**config, "learning_rate": "1e-3"}',
        'must be a number, as in config.learning_rate',
    ),
    'more than an int': ('return {**config, "seed": 2**70}', 'seed must be'),
    'thousands of digits': ('return {**config, "seed": 10**5000}', 'got a huge int'),
    'more than a float': ('return {**config, "learning_rate": 10**400}', 'learning_rate must be'),
    'a line break': ('return {**config, "name": "a\\nb"}', 'printable'),
    'half of a character': ('return {**config, "name": "\\udc80"}', 'printable'),
    'an exception': ('raise KeyError("x")', "KeyError: 'x'"),
    'without end': ('return get_config()', 'RecursionError'),
    'the end of the program': ('sys.exit(0)', 'ends the program'),
    'a string for an int field': ('config.bits = "two"', 'TypeError'),
}


@pytest.mark.parametrize('body, message', REFUSED.values(), ids=REFUSED)
def test_what_get_config_may_not_return(body, message, tmp_path, capsys):
    path = written(tmp_path, body)
    assert train.main([f'--config={path}']) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: config') and 'mine.py' in error and error.count('\n') == 1 and len(error) <= 301
    assert message in error


@pytest.mark.parametrize(
    'text, message',
    [
        ('', 'has no function get_config()'),
        ('get_config = 3', 'has no function get_config()'),
        ('def get_config(:', 'SyntaxError'),
        ('import sys; sys.exit(1)', 'ends the program'),
        ('def get_config(size): pass', "missing a required argument: 'size'; an argument goes behind a colon"),
        ('#' + 'x' * 2**21, 'it has 2 MB, and a config has less than 1'),
    ],
)
def test_files_that_have_no_config(text, message, tmp_path):
    (tmp_path / 'mine.py').write_text(text)
    with pytest.raises(UserError, match=r'mine\.py') as refused:
        config_file.load(str(tmp_path / 'mine.py'))
    assert message in str(refused.value)


ACCEPTED = {
    'a dict': 'return config.to_dict()',
    'a frozen config': 'return ml_collections.FrozenConfigDict(config)',
    'a locked config': 'return config.lock()',
    'a whole weight decay, overridden by a fraction': 'return {**config, "weight_decay": 1}',
    'its own reference, likewise': 'return {**config, "weight_decay": config_dict.FieldReference(1)}',
    'an int for a float': 'return {**config, "learning_rate": 1}',
    'numbers of numpy': 'import numpy as np; return {**config, "learning_rate": np.float32(0.5), "bits": np.int64(3)}',
}


@pytest.mark.parametrize('body', ACCEPTED.values(), ids=ACCEPTED)
def test_what_get_config_may_return(body, tmp_path):
    path = written(tmp_path, body)
    config, _ = command_line.parse([f'--config={path}', '--config.seed=3', '--config.weight_decay=0.5'])
    assert {key: type(value) for key, value in config.items()} == {key: type(DECLARED[key]) for key in DECLARED}
    assert config.seed == 3 and config.weight_decay == 0.5
    json.dumps(config.to_dict())


def test_a_placeholder_is_filled_and_what_follows_from_a_key_follows_it(tmp_path):
    body = """del config.learning_rate, config.num_epochs
config.learning_rate = config_dict.required_placeholder(float)
config.num_epochs = config.get_ref('batch_size') * 2"""
    path = written(tmp_path, body)
    config, _ = command_line.parse([f'--config={path}', '--config.learning_rate=0.5', '--config.batch_size=7'])
    assert (config.learning_rate, config.num_epochs) == (0.5, 14)


def test_a_config_takes_an_argument_behind_a_colon(tmp_path):
    path = tmp_path / 'mine.py'
    body = START.replace('get_config()', "get_config(size='small')", 1)
    path.write_text(body + "    import beside\n    config.name = f'{beside.FIRST}-{size}'\n    return config\n")
    (tmp_path / 'beside.py').write_text("FIRST = 'of'\n")
    assert config_file.load(str(path)).name == 'of-small'
    assert config_file.load(f'{path}:large').name == 'of-large'
    assert config_file.load(f'{path}:').name == 'of-'
    with pytest.raises(UserError, match='too many positional arguments'):
        config_file.load('configs/digits.py:large')
    with pytest.raises(UserError, match=r"there is no file 'nowhere.py'"):
        config_file.load('nowhere.py:large')


@pytest.mark.parametrize(
    'content, message',
    [
        (b'', 'JSONDecodeError'),
        (b'[1]', 'must hold an object'),
        (b'{"bits": null}', 'bits must be a whole number'),
        (b'{"bits": 2.0}', 'got 2.0'),
        (b'{"bits": {}}', 'bits must be'),
        (b'{"bit": 2}', "did you mean 'bits'"),
        (b'{"name": "\\ud800"}', 'printable'),
        (b'\xff\xfe{', 'cannot load'),
        (b'[' * 200_000, 'cannot load'),
        (b'{"learning_rate": 1' + b'0' * 400 + b'}', 'learning_rate must be a number'),
        (b'{"seed": 1' + b'0' * 5000 + b'}', 'cannot load'),
        (b'{"seed": 1, "seed": 2}', 'seed is given twice'),
        (b' ' * 60_000_000, 'it has 60 MB, and a config has less than 1'),
    ],
    ids=[
        'empty',
        'list',
        'null',
        'float',
        'object',
        'key',
        'surrogate',
        'bytes',
        'deep',
        'big',
        'huge',
        'twice',
        'sixty',
    ],
)
def test_json_that_is_no_config(content, message, tmp_path):
    path = tmp_path / 'config.json'
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'config\.json') as refused:
        config_file.load(str(path))
    assert message in str(refused.value)


def test_json_of_an_older_run_has_fewer_keys_and_takes_no_argument(tmp_path):
    path = tmp_path / 'config.json'
    path.write_text('{"name": "ä", "learning_rate": 1}', encoding='utf-8')
    assert config_file.load(str(path)).to_dict() == {**DECLARED, 'name': 'ä', 'learning_rate': 1.0}
    with pytest.raises(UserError, match='takes no argument'):
        config_file.load(f'{path}:x')


def test_home_is_where_a_tilde_points(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    written(tmp_path, 'config.data_dir = "~/data"')
    argv = ['--config=~/mine.py', '--config.dataset=~/x.npz', '--config.estimator=~/f.py:slope', '--workdir=~/runs']
    config, workdir = command_line.parse(argv)
    assert workdir == f'{tmp_path}/runs' and config.data_dir == f'{tmp_path}/data'
    assert (config.dataset, config.estimator) == (f'{tmp_path}/x.npz', f'{tmp_path}/f.py:slope')
    assert command_line.parse(['--config=configs/digits.py'])[1] == ''


@pytest.mark.parametrize(
    'flag, hint',
    [
        ('--config.lr=1', "did you mean 'learning_rate'"),
        ('--config.wd=1', "did you mean 'weight_decay'"),
        ('--config.epochs=1', "did you mean 'num_epochs'"),
        ('--config.batch=1', "did you mean 'batch_size'"),
        ('--lr=1', 'did you mean --config.learning_rate=1?'),
        ('--learning_rate=0.1', 'did you mean --config.learning_rate=0.1?'),
        ('--workdr=x', "did you mean '--workdir'"),
    ],
)
def test_a_flag_that_is_none_has_a_hint(flag, hint):
    with pytest.raises(UserError) as refused:
        command_line.parse(['--config=configs/digits.py', flag])
    assert hint in str(refused.value)


def test_a_folder_may_follow_its_flag_after_a_space():
    given = ['--config', 'configs/digits.py', '--out', 'here', '--json', '--workdir', '--config.seed=1']
    joined = ['--config=configs/digits.py', '--out=here', '--json', '--workdir', '--config.seed=1']
    assert command_line.joined(given) == joined
