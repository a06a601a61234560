"""The controls that a new estimator owes: commands that are right as they stand, and M of weights from PyTorch."""

import json
import shlex

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from experiments import convert, explain
from experiments.setup import command_line
from experiments.setup.settings import resolve
from qat import estimators
from qat.quantizers import UniformQuantizer
from qat.theory.weight_map import alpha

DIGITS = '--config=configs/digits.py'
DSQ = estimators.parse('dsq(k=6.5)', 2)


def controls(capsys, *flags) -> dict[str, str]:
    """What is printed, by label."""
    assert explain.main([DIGITS, '--controls', *flags]) == 0
    lines = capsys.readouterr().out.partition('\n\n')[2].splitlines()
    return {label.rstrip(':'): line.strip() for label, line in zip(lines[::2], lines[1::2])}


def settings_of(command: str):
    program, *flags = shlex.split(command)[2:]
    assert program == 'experiments.train'
    return resolve(command_line.parse(flags)[0])


def test_every_command_of_sgd_is_one_and_asks_for_what_its_label_says(capsys):
    found = controls(capsys, '--config.optimizer=sgd(momentum=0.5)', '--config.estimator=dsq(k=6.5)')
    beside, alone, limit = (settings_of(line) for line in list(found.values())[:3])
    assert [*beside.twins] == ['ste', 'naive_ste', 'jitter', 'reshuffle'] and limit.config.ladder == 3
    assert alone.estimator.name == 'ste' and str(alone.init_map.estimator) == 'dsq(k=6.5)'
    assert alone.config.kernel_learning_rate_factor == pytest.approx(alpha(DSQ), rel=1e-6)
    group = found['STE in PyTorch'].partition('  #')[0]
    assert float(group.partition("'lr': ")[2].rstrip('}')) == pytest.approx(alpha(DSQ) * 0.01, rel=1e-6)


def test_under_adam_a_command_goes_where_the_slope_hardly_changes(capsys):
    found = controls(capsys, '--config.optimizer=adamw(b2=0.95)')
    (label,) = [label for label in found if label.startswith('Where the slope changes by less')]
    calm = settings_of(found[label])
    scaled, usual = calm.peak_learning_rate, 0.01
    assert scaled < usual / 10
    assert calm.config.learning_rate_scale * calm.config.epochs_scale == pytest.approx(1, rel=0.02)
    assert (
        explain.main([DIGITS, '--json', '--config.optimizer=adamw(b2=0.95)', f'--config.learning_rate={scaled}']) == 0
    )
    changes = json.loads(capsys.readouterr().out)['slope_change']
    assert max(changes.values()) == pytest.approx(0.4, rel=0.02)


def test_without_a_recipe_the_reason_stands_there(capsys):
    found = controls(capsys, '--config.estimator=ewgs')
    assert 'no recipe is known: its slope depends on the incoming gradient' in found['STE in PyTorch']
    assert not any('--config.twins=ste,' in line for line in found.values())


@pytest.fixture
def file(tmp_path):
    random = np.random.default_rng(0)
    tensors = {
        'features.0.weight': random.uniform(-0.4, 0.4, (8, 3, 3, 3)),
        'fc.weight': random.normal(0, 0.1, (10, 8)),
        'fc.bias': random.normal(size=10),
    }
    tensors = {name: np.float32(w) for name, w in tensors.items()}
    save_file(tensors, tmp_path / 'in.safetensors')
    return tmp_path / 'in.safetensors', tensors


def mapped_by_hand(w, R):
    """M of DSQ at 2 bits from its published form: T + alpha D F(r), F the integral of 1/s, by the trapezoidal rule."""
    u, D = 6.5 / 3, 2 * R / 3
    grid = np.linspace(-0.5, 0.5, 200_001)
    inverse = np.cosh(2 * u * grid) ** 2 * np.tanh(u) / u
    F = np.concatenate([[0], np.cumsum((inverse[1:] + inverse[:-1]) / 2)]) * (grid[1] - grid[0])
    F -= F[100_000]
    T = np.clip(np.round(np.clip(w, -R, R) / D), -1, 1) * D
    moved = T + D * np.interp((np.clip(w, -R, R) - T) / D, grid, F / (F[-1] - F[0]))
    return np.where(np.abs(w) <= R, moved, w)


@pytest.mark.parametrize(
    'quantized, chosen', [('conv', ['features.0.weight']), ('*weight', ['features.0.weight', 'fc.weight'])]
)
def test_weights_of_pytorch_go_through_M_and_others_stay(quantized, chosen, file, capsys):
    path, before = file
    out = path.with_name('out.safetensors')
    command = [f'--weights={path}', f'--out={out}', DIGITS, '--config.range=channel_max_abs']
    assert convert.main([*command, f'--config.quantized={quantized}']) == 0
    assert f'of {len(chosen)} weights' in capsys.readouterr().out
    after = load_file(out)
    assert after.keys() == before.keys()
    for name, w in before.items():
        if name not in chosen:
            np.testing.assert_array_equal(after[name], w)
            continue
        R = np.abs(w).reshape(len(w), -1).max(axis=1).reshape(-1, *(1,) * (w.ndim - 1))
        np.testing.assert_allclose(after[name], mapped_by_hand(w, R), atol=2e-5)
        codes = [UniformQuantizer(2).codes(jnp.asarray(x), jnp.asarray(R)) for x in (w, after[name])]
        np.testing.assert_array_equal(*codes)


@pytest.mark.parametrize('rule, R', [('max_abs', lambda w: np.abs(w).max()), ('he_uniform', lambda w: (6 / 27) ** 0.5)])
def test_the_range_is_named_by_layer_and_that_no_code_changes(rule, R, file, capsys):
    path, before = file
    out = path.with_name('out.safetensors')
    assert convert.main([f'--weights={path}', f'--out={out}', DIGITS, f'--config.range={rule}']) == 0
    text, w = capsys.readouterr().out, before['features.0.weight']
    assert f'R by range={rule}' in text
    assert f'features.0.weight {R(w):.3g} (largest |w| {np.abs(w).max():.3g}); it must be the R of your' in text
    assert f'Codes that M changes under this R: 0 of {w.size}' in text and text.count('\n') == 3


def test_biases_that_a_pattern_takes_are_named(file, capsys):
    out = file[0].with_name('out.safetensors')
    flags = ['--config.quantized=fc*', '--config.range=max_abs']
    assert convert.main([f'--weights={file[0]}', f'--out={out}', DIGITS, *flags]) == 0
    assert 'note: 1-axis weight included: fc.bias; ' in capsys.readouterr().err


@pytest.mark.parametrize(
    'flags, said',
    [
        (['--config.estimator=ede'], 'does not cover'),
        (['--config.quantized=other*'], 'no such weight'),
        (['--to=ste'], 'give --weights, or'),
        (['--weights=model.pt'], 'a pickle is not read'),
    ],
)
def test_what_has_no_M_is_refused_in_one_line_and_nothing_is_written(flags, said, file, capsys):
    path, _ = file
    out = path.with_name('out.safetensors')
    assert convert.main([f'--weights={path}', f'--out={out}', DIGITS, *flags]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count('\n') == 1 and not out.exists()


def test_where_nothing_can_be_written_one_line_says_so(file, capsys):
    assert convert.main([f'--weights={file[0]}', '--out=/proc/out.safetensors', DIGITS]) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: --out: cannot write /proc/out.safetensors: ') and error.count('\n') == 1


@pytest.mark.parametrize('dtype', [np.int8, np.uint8, np.int32])
def test_whole_numbers_have_no_M(dtype, tmp_path, capsys):
    path, out = tmp_path / 'in.safetensors', tmp_path / 'out.safetensors'
    save_file({'fc.weight': np.ones((4, 3), dtype)}, path)
    assert convert.main([f'--weights={path}', f'--out={out}', DIGITS, '--config.quantized=all']) == 2
    error = capsys.readouterr().err
    assert f'fc.weight is {np.dtype(dtype)}' in error and error.count('\n') == 1 and not out.exists()
