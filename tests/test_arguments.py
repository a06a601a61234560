"""Every program answers a mistaken command line with exit code 2 and one line."""

import importlib

import pytest


@pytest.mark.parametrize(
    'program, argv, message',
    [
        ('scripts.sweep', '--out=x --seeds=0', '--seeds: must be a whole number of at least 1'),
        ('scripts.study', 'matrx', "did you mean 'matrix'"),
        ('scripts.benchmark', '--rounds 0', '--rounds: must be'),
        ('scripts.benchmark', '--only conv', "there is no 'conv'"),
        ('scripts.prepare_mnist', '--idx-dir=nowhere', 'no train-images-idx3-ubyte'),
        ('scripts.mnist_rgb', '--idx-dir=nowhere --out=x', 'no train-images-idx3-ubyte'),
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
