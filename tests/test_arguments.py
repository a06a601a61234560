"""Every program answers a mistaken command line with exit code 2 and one line."""

import importlib
import pathlib

import pytest

from configs import common
from experiments.errors import UserError, tell
from experiments.setup import usage
from experiments.setup.arguments import Parser
from qat import estimators, optimizers, slopes


@pytest.mark.parametrize(
    'program, argv, message',
    [
        ('scripts.sweep', '--out=x --seeds=0', '--seeds: must be a whole number of at least 1'),
        ('scripts.study', 'matrx', "did you mean 'matrix'"),
        ('scripts.benchmark', '--rounds 0', '--rounds: must be'),
        ('scripts.benchmark', '--only conv', "there is no 'conv'"),
        ('scripts.prepare_mnist', '--idx-dir=nowhere', 'no train-images-idx3-ubyte'),
        ('scripts.prepare_text', '--file=nowhere', 'cannot read the text nowhere: no such file'),
        ('scripts.make_tiny_imagenet', '--ot=x', 'required: --out'),
        ('experiments.convert', '--fro=x', 'required: --from'),
        ('experiments.explain', '--confg=x', '--config=FILE'),
        ('experiments.train', '--confg=x', '--config=FILE'),
        ('experiments.report', 'nowhere', 'nowhere'),
    ],
)
def test_a_mistake_is_told_in_one_line(program, argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert importlib.import_module(program).main(argv.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and message in error and error.count('\n') == 1 and len(error) <= 301
    assert not list(tmp_path.iterdir())


PATH = '/home/' + 'very-long/' * 60 + 'weights.npz'


@pytest.mark.parametrize(
    'message, kept',
    [
        (f'cannot read {PATH}: no such file; choose another --workdir', ['cannot read /home/', 'weights.npz: no such']),
        (f'{PATH} and {PATH}x differ; make them equal', ['/home/', 'and', 'differ; make them equal']),
        ('one of these: ' + 'name, ' * 200 + 'choose one', ['one of these: name', 'choose one']),
        ('x' * 5000, ['error: xxx']),
        ('short; and whole', ['error: short; and whole\n']),
    ],
)
def test_a_long_message_keeps_its_advice(message, kept, capsys):
    assert tell(UserError(message)) == 2
    told = capsys.readouterr().err
    assert told.count('\n') == 1 and len(told) <= 301
    assert all(part in told for part in kept) and told.endswith(message[-9:] + '\n')


def test_a_path_may_begin_at_home(monkeypatch):
    monkeypatch.setenv('HOME', '/home/me')
    parser = Parser()
    parser.add_argument('--out', type=pathlib.Path)
    assert [parser.parse_args([f'--out={text}']).out for text in ('~/x', 'a/~', '~nobody-of-this-name')] == [
        pathlib.Path('/home/me/x'),
        pathlib.Path('a/~'),
        pathlib.Path('~nobody-of-this-name'),
    ]
    with pytest.raises(UserError, match='mount the bucket'):
        parser.parse_args(['--out=gs://x'])


def test_help_says_of_every_key_what_it_means():
    said = list(usage.keys())
    assert {line.split()[0] for line in said} == set(common.get_config())
    assert not [line for line in said if '\n' not in line]


def test_help_names_every_estimator_and_optimizer_with_its_arguments():
    said = usage.usage('')
    assert [call.partition('(')[0] for call in usage.estimators()] == list(slopes.CATALOGUE)
    assert [call.partition('(')[0] for call in usage.optimizers()] == list(optimizers.FAMILIES)
    for call in usage.estimators():
        assert estimators.parse(call, 2) == estimators.parse(call.partition('(')[0], 2) and call in said
    for call in usage.optimizers():
        assert optimizers.parse(call) == optimizers.parse(call.partition('(')[0]) == optimizers.parse(call)
        assert call.partition(', ')[0] in said
    assert max(map(len, said.partition('Estimators')[2].splitlines())) <= 80
