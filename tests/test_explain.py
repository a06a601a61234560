"""What explain says, against theory.md's table of estimators and transfer classes, written down here by hand."""

import json
import pathlib
import shlex
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from experiments import explain, train
from experiments.data import imagenet, registry
from experiments.data.classification import Classification
from experiments.data.language import Language
from experiments.errors import UserError
from experiments.results import decoding
from experiments.setup import command_line, settings
from experiments.workdir import initial_weights
from qat.lockstep import twins
from qat.models.convnet import ConvNet
from qat.models.transformer import Transformer

ROOT = pathlib.Path(__file__).parent.parent
DIGITS = f'--config={ROOT / "configs/digits.py"}'
MNIST = f'--config={ROOT / "configs/mnist.py"}'
RESNET = f'--config={ROOT / "configs/imagenet_resnet50.py"}'
KEYS = [
    'estimator',
    'parameters',
    'bits',
    'optimizer',
    'placement',
    'alpha',
    'covered',
    'reasons',
    'cautions',
    'transfer_class',
    'kappa',
    'slope_change',
    'learning_rate_factor',
    'remaps_initialization',
    'pulled_back',
    'activation_bits',
    'activation_estimator',
]


def alpha_of_dsq(k: float, bits: int) -> float:
    u = k / (2**bits - 1)
    return u / np.tanh(u) / (1 / 2 + np.sinh(2 * u) / (4 * u))


# call, bits -> all parameters, and alpha, or a word of the reason why there is none
ESTIMATORS = {
    ('ste', 2): ({}, 1.0),
    ('dsq', 2): ({'k': 6.5}, 0.4544),
    ('dsq(k=5.5)', 2): ({'k': 5.5}, 0.6095),
    ('dsq', 4): ({'k': 18.0}, 0.878),
    ('dsq', 1): ({'k': 2.0}, alpha_of_dsq(2.0, 1)),
    ('soft_round', 2): ({'a': 5.0}, 0.320),
    ('sine', 3): ({'lam': 0.6}, 0.8),
    ('rdfs', 2): ({'A': 0.21}, 0.1135),
    ('dge', 2): ({'k': 5.0, 'clamp': 3.0}, 0.359),
    ('mad', 2): ({}, 1.0),
    ('ewgs', 2): ({'d': 0.2}, 'depends on the incoming gradient'),
    ('ede', 2): ({}, 'changes with time'),
    ('reste', 1): ({'o_end': 3.0}, 'changes with time'),
    ('swish_sign', 2): ({'b': 5.0}, 'not positive'),
}
# optimizer, placement, weight decay -> class, beta2 where kappa needs one, and a word of why there is no recipe
OPTIMIZERS = {
    ('sgd', 'gradient', 0): ('map', None, None),
    ('sgd(momentum=0.9, nesterov=True)', 'gradient', 0): ('map', None, None),
    ('muon', 'update', 0): ('map', None, None),
    ('adam(b2=0.95)', 'update', 0): ('map', None, None),
    ('adafactor(multiply_by_parameter_scale=False)', 'update', 0): ('map', None, None),
    ('signsgd', 'gradient', 0): ('identity', None, None),
    ('adam', 'gradient', 0): ('identity', 0.999, None),
    ('adamw(b2=0.95)', 'gradient', 0.1): ('identity', 0.95, None),
    ('rmsprop', 'gradient', 0): ('identity', 0.9, None),
    ('lion', 'gradient', 0.1): ('identity', 0.99, None),
    ('sgd(momentum=0.9)', 'gradient', 1e-4): ('map', None, None),
    ('sgdw', 'gradient', 1e-4): ('map', None, None),
    ('adam', 'gradient', 1e-4): ('identity', 0.999, None),
    ('rmsprop', 'gradient', 1e-4): ('identity', 0.9, None),
    ('adamw', 'update', 1e-4): ('map', None, None),
    ('adafactor', 'update', 0): ('map', None, None),
    ('adafactor', 'gradient', 0): ('none', None, 'mixes the gradients'),
    ('muon', 'gradient', 0): ('none', None, 'mixes the gradients'),
}

PULLED_BACK = {  # with the weight decay of the table
    ('sgd(momentum=0.9)', 'gradient', 1e-4): ['decay'],
    ('sgdw', 'gradient', 1e-4): ['decay'],
    ('adam', 'gradient', 1e-4): ['decay'],
    ('rmsprop', 'gradient', 1e-4): ['decay'],
    ('adamw', 'update', 1e-4): ['weights'],
    ('adafactor', 'update', 0): ['weights'],
}


def strict(text: str) -> dict:
    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def asked(capsys):
    """Runs explain; what it says as JSON."""

    def ask(*argv) -> dict:
        assert explain.main([*argv, '--json']) == 0
        return strict(capsys.readouterr().out)

    return ask


@pytest.fixture
def told(capsys, tmp_path):
    """Runs explain; its text on one line, and the text as it is."""

    def tell(*argv) -> tuple[str, str]:
        assert explain.main([*argv, f'--out={tmp_path}']) == 0
        text = capsys.readouterr().out
        return ' '.join(text.split()), text

    return tell


def to_copy(text: str, label: str) -> list[str]:
    """The flags of a command that explain gives."""
    lines = text.splitlines()
    command = shlex.split(lines[lines.index(f'{label}:') + 1])
    assert command[:3] == ['python', '-m', 'experiments.train']
    return command[3:]


def options(estimator, bits, optimizer, placement, decay) -> list[str]:
    return [
        f'--config.estimator={estimator}',
        f'--config.bits={bits}',
        f'--config.optimizer={optimizer}',
        f'--config.placement={placement}',
        f'--config.weight_decay={decay}',
    ]


@pytest.mark.parametrize('estimator, bits', ESTIMATORS)
def test_every_estimator_under_every_optimizer(estimator, bits, asked):
    parameters, alpha = ESTIMATORS[estimator, bits]
    covered = not isinstance(alpha, str)
    for (optimizer, placement, decay), (transfer_class, beta2, why) in OPTIMIZERS.items():
        if placement == 'update' and estimator == 'ewgs':
            continue  # refused, see below
        found = asked(DIGITS, *options(estimator, bits, optimizer, placement, decay))
        assert list(found) == KEYS
        name = estimator.partition('(')[0]
        assert found['estimator'].startswith(f'{name}(' if parameters else name)
        assert found['optimizer'].startswith(optimizer.partition('(')[0])
        assert (found['parameters'], found['bits'], found['placement']) == (parameters, bits, placement)
        assert (found['covered'], found['transfer_class']) == (covered, transfer_class)
        assert found['alpha'] == (pytest.approx(alpha, abs=6e-4) if covered else None)
        exact = estimator == 'ste'  # whatever the class, see qat/theory/recipe.py
        expected_reasons = [reason for reason in (None if covered else alpha, why) if reason and not exact]
        assert len(found['reasons']) == len(expected_reasons)
        assert all(expected in reason for expected, reason in zip(expected_reasons, found['reasons']))
        if exact:
            assert (found['learning_rate_factor'], found['remaps_initialization']) == (1.0, False)
        elif transfer_class == 'none' or not covered:
            assert (found['learning_rate_factor'], found['remaps_initialization']) == (None, False)
        elif transfer_class == 'identity':
            assert (found['learning_rate_factor'], found['remaps_initialization']) == (1.0, False)
        else:
            assert (found['learning_rate_factor'], found['remaps_initialization']) == (found['alpha'], True)
        has_recipe = found['learning_rate_factor'] is not None and not exact
        assert found['pulled_back'] == (PULLED_BACK.get((optimizer, placement, decay), []) if has_recipe else [])
        if beta2 is None:
            assert found['kappa'] is found['slope_change'] is None
        else:
            for layer, fan_in in (('conv1', 9), ('conv2', 9 * 32)):
                step = 2 * np.sqrt(6 / fan_in) / (2**bits - 1)
                assert found['kappa'].pop(layer) == pytest.approx(0.01 / ((1 - beta2) * step), rel=1e-5)
            assert found['kappa'] == {}


def test_the_learning_rate_in_kappa_is_the_peak(asked):
    given = ['--config.optimizer=rmsprop(decay=0.0)', '--config.learning_rate=0.1', '--config.learning_rate_images=50']
    found = asked(DIGITS, *given, '--config.batch_size=100', '--config.learning_rate_scale=0.5')
    assert found['kappa']['conv1'] == pytest.approx(0.1 / (2 * np.sqrt(6 / 9) / 3), rel=1e-5)


def test_kappa_of_resnet50_needs_no_imagenet(asked):
    kappas = asked(RESNET, '--config.optimizer=adam(b2=0.95)', '--config.data_dir=/nowhere')['kappa']
    assert len(kappas) == 53 and 'stage3_block6/conv2' in kappas
    for layer, fan_in in (('conv_stem', 7 * 7 * 3), ('stage1_block1/conv1', 64), ('stage4_block3/conv2', 9 * 512)):
        peak = 0.1 * 1024 / 256
        assert kappas[layer] == pytest.approx(peak / (0.05 * 2 * np.sqrt(6 / fan_in) / 3), rel=1e-5)


@pytest.mark.parametrize('rule, axes', [('max_abs', None), ('channel_max_abs', (0, 1, 2))])
def test_ranges_that_follow_from_the_weights_are_those_of_the_seed(rule, axes, asked):
    given = [DIGITS, '--config.optimizer=rmsprop(decay=0.0)', f'--config.range={rule}', '--config.seed=3']
    found = asked(*given)
    config, _ = command_line.parse(given)
    resolved = settings.resolve(config)
    params = resolved.model(10).init(jax.random.key(3), jnp.zeros((1, 8, 8, 1)), train=False)['params']
    for layer in ('conv1', 'conv2'):
        smallest = np.abs(np.asarray(params[layer]['kernel'])).max(axis=axes).min()
        assert found['kappa'][layer] == pytest.approx(0.01 / (2 * smallest / 3), rel=1e-6)
    assert asked(*given[:-1])['kappa'] != found['kappa']


def test_ranges_of_given_weights(asked, monkeypatch, capsys):
    kernels = {'conv1': np.full((3, 3, 1, 32), 0.25), 'conv2': np.full((3, 3, 32, 64), -0.5)}
    params = {name: {'kernel': kernel, 'bias': np.zeros(kernel.shape[-1])} for name, kernel in kernels.items()}
    params |= {'Dense_0': {'kernel': np.zeros((256, 256)), 'bias': np.zeros(256)}}
    params |= {'Dense_1': {'kernel': np.zeros((256, 10)), 'bias': np.zeros(10)}}
    monkeypatch.setattr(initial_weights, 'read_weights', lambda workdir: (params, {}))
    given = ['--config.optimizer=rmsprop(decay=0.0)', '--config.range=max_abs', '--config.init_from=somewhere']
    found = asked(DIGITS, *given)['kappa']
    assert found == {'conv1': pytest.approx(0.01 / (0.5 / 3)), 'conv2': pytest.approx(0.01 / (1 / 3))}
    assert explain.main([MNIST, *given, '--json']) == 2
    assert 'another architecture' in capsys.readouterr().err
    kernels['conv2'][..., 5:9] = 0
    assert explain.main([DIGITS, *given, '--config.range=channel_max_abs']) == 2
    expected = (
        "error: range=channel_max_abs: the range of 'conv2' must be positive and finite, it is 0 in 4 of 64 channels"
    )
    assert capsys.readouterr().err.startswith(expected)


def test_tasks_known_without_data_are_those_of_the_data():
    config = common.get_config()

    def model_of(classes):
        return ConvNet(classes=classes)

    fetched = {'mnist', 'fashion_mnist', 'cifar10', 'imagenet2012', 'tiny_shakespeare'}
    for config.dataset in registry.DATASETS.keys() - fetched:
        assert registry.task(config, model_of) == registry.load(config).task(model_of)
    for config.dataset in ('mnist', 'fashion_mnist'):
        assert registry.task(config, model_of) == Classification(model_of(10), (28, 28, 1))
    config.dataset = 'cifar10'
    assert registry.task(config, model_of) == Classification(model_of(10), (32, 32, 3), imagenet.normalize)
    config.dataset, config.image_size = 'imagenet2012', 96
    assert registry.task(config, model_of) == Classification(model_of(1000), (96, 96, 3), imagenet.normalize)
    config.dataset, config.context, small = 'tiny_shakespeare', 16, {'layers': 1, 'width': 8, 'heads': 1}
    found = registry.task(config, lambda classes: Transformer(classes=classes, **small))
    assert found == Language(Transformer(classes=256, **small), 16)


def test_arrays_of_the_users_own(asked, tmp_path, capsys):
    file = tmp_path / 'mine.npz'
    given = [DIGITS, f'--config.dataset={file}', '--config.optimizer=rmsprop(decay=0.0)']
    assert asked(*given, '--config.optimizer=sgd')['kappa'] is None  # nothing in it depends on the images
    assert explain.main([*given, '--json']) == 2
    assert f'cannot read {file}' in capsys.readouterr().err
    images, labels = np.zeros((4, 9, 9, 5), np.uint8), np.arange(4)
    np.savez(file, train_images=images, train_labels=labels, validation_images=images, validation_labels=labels)
    assert asked(*given)['kappa']['conv1'] == pytest.approx(0.01 / (2 * np.sqrt(6 / 45) / 3), rel=1e-5)


@pytest.fixture
def tent(tmp_path) -> str:
    file = tmp_path / 'a slope.py'
    file.write_text(
        'print("printed by the file")\n\n\n'
        'def tent(r, *, top=1.5, note="x"):\n'
        '    """A [bold]tent[/bold].\n\n    s = top - |r|.\n    """\n'
        '    return top - abs(r)\n\n\n'
        'def listing(r, *, values=(1, 2)):\n    return 1 + 0 * r\n'
    )
    return str(file)


def test_an_estimator_of_the_users_own(tent, asked, told):
    given = [DIGITS, f'--config.estimator={tent}:tent(top=2)']
    found = asked(*given)
    assert (found['estimator'], found['parameters']) == ("tent(top=2, note='x')", {'top': 2, 'note': 'x'})
    assert found['alpha'] == pytest.approx(1 / (2 * np.log(2 / 1.5)), rel=1e-6)
    assert found['learning_rate_factor'] == found['alpha'] and found['remaps_initialization']
    assert set(asked(*given, '--config.optimizer=adam')['kappa']) == {'conv1', 'conv2'}
    said, _ = told(*given)
    assert 'A [bold]tent[/bold]. s = top - |r|.' in said and 'kernels by 1.738, start' in said
    odd = asked(DIGITS, f'--config.estimator={tent}:listing(values=(1, 1e999))')
    assert odd['parameters'] == {'values': '(1, inf)'} and odd['alpha'] == pytest.approx(1)


def test_the_text_of_class_map(told):
    said, text = told(DIGITS)
    assert 'Recipe use ste, multiply the learning rate of the quantized kernels by 0.4544, start from M(w0)' in said
    assert 'covers dsq(k=6.5)' in said and 'Transfer class map: the updates of sgd are linear' in said
    assert 's = (u / tanh u) sech^2(2 u r)' in said and 'alpha 0.4544' in said and 'kappa' not in said
    config, _ = command_line.parse(to_copy(text, 'The recipe by itself'))
    assert config.kernel_learning_rate_factor == pytest.approx(0.454376, abs=1e-6)
    assert (config.estimator, config.init_map, config.twins) == ('ste', 'dsq(k=6.5)', 'self')
    assert text.count('\n') < 40


def test_the_text_of_class_identity_warns_of_kappa(told):
    adam = [DIGITS, '--config.optimizer=adam(b2=0.95)']
    said, text = told(*adam)
    assert 'Recipe use ste, change nothing else' in said
    config, _ = command_line.parse(to_copy(text, 'The recipe by itself'))
    assert (config.estimator, config.init_map, config.kernel_learning_rate_factor) == ('ste', '', 1)
    assert 'kappa conv1 0.37, conv2 2.1' in said and 'Warning kappa of conv2 is 2.1: while' in said
    assert 'Slope change conv1 3.1, conv2 18: kappa times 8.4, the largest |d ln s/dr|' in said
    assert 'Warning' not in told(*adam, '--config.learning_rate=1e-4')[0]
    said, text = told(*adam, '--config.estimator=mad')
    assert 'Slope change none' in said and 'Warning' not in said
    assert 'that passes gradients outside the range too' in said and 'by itself' not in text  # no key says that


def test_the_text_where_no_recipe_is_known(told):
    said, text = told(DIGITS, '--config.optimizer=muon', '--config.estimator=swish_sign', '--config.twins=ste')
    assert 'Recipe none is known: its slope is -0.195' in said and 'muon mixes the gradients' in said
    assert 'by itself' not in text


def test_a_slope_too_steep_for_float32(told, asked, capsys):
    steep = [DIGITS, '--config.estimator=dsq(k=200)']
    reason = "its alpha is 4.4e-54, 4.4e-54 of the slope's mean, out of float32's reach"
    said, _ = told(*steep)
    assert f'does not cover dsq(k=200): {reason}' in said and f'Recipe none is known: {reason}' in said
    found = asked(*steep)
    assert (found['reasons'], found['alpha'], found['covered']) == ([reason], None, False)
    assert train.main([*steep, '--workdir=/nowhere/at/all']) == 2
    assert reason in capsys.readouterr().err


def test_only_images_that_are_decoded_need_cores(told, monkeypatch):
    monkeypatch.setattr(decoding, 'in_words', lambda: 'so many cores')
    assert 'Input so many cores' in told(RESNET, '--config.data_dir=/nowhere')[0]
    assert 'so many cores' not in told(DIGITS)[0]


def test_cores_follow_from_the_rate_of_one(tmp_path):
    file = tmp_path / 'benchmark.json'
    details = {'image_size': 224, 'jpegs': {'width': 500.0, 'height': 375.0, 'bytes': 110_000.0}}
    figures = [{'name': 'images', 'value': 2.0}, {'name': 'images-core-rate', 'value': 494.0, 'details': details}]
    file.write_text(json.dumps({'machine': {'platform': 'Linux x86_64'}, 'figures': figures}))
    said = decoding.in_words(file)
    assert 'about 490 images a second (JPEGs of 500x375 to crops of 224x224, Linux x86_64' in said
    assert '1,000 a second takes about 2.0 cores' in said and 'not measured, 5.0 a chip' in said


def test_a_rate_that_nobody_measured_is_not_made_up(tmp_path):
    file = tmp_path / 'benchmark.json'
    said = decoding.in_words(file)
    assert 'has not been measured' in said and 'scripts.benchmark --only images' in said
    file.write_text('{"figures": [{"name": "images"}]}')
    assert decoding.in_words(file) == said
    file.write_text('[]')
    with pytest.raises(UserError, match='cannot read'):
        decoding.in_words(file)


@pytest.fixture
def odd(tmp_path) -> str:
    file = tmp_path / 'odd.py'
    file.write_text(
        'import jax.numpy as jnp\n'
        'def stairs(r): return jnp.where(jnp.abs(r) < 0.2, 2.0, 1.0)\n'
        'def lopsided(r): return 1 + r\n'
        'def root(r): return jnp.sqrt(jnp.abs(2 * r))\n'
    )
    return str(file)


def test_outside_the_words_of_the_theorem_is_a_caution(odd, told, asked):
    for name, caution, alpha in (('stairs', 'jumps at r = -0.2, 0.2', 1.25), ('root', 'is 0 at r = 0', 0.5)):
        found = asked(DIGITS, f'--config.estimator={odd}:{name}')
        assert found['covered'] and not found['reasons'] and caution in found['cautions'][0]
        assert found['learning_rate_factor'] == found['alpha'] == pytest.approx(alpha, rel=1e-7)
    said, _ = told(DIGITS, f'--config.estimator={odd}:root')
    assert 'Caution its slope is 0 at r = 0, though' in said and 'covers root but for the caution' in said
    assert asked(DIGITS)['cautions'] == []


def test_what_the_optimizer_does_not_need_is_no_reason(odd, told, asked):
    lopsided = [DIGITS, f'--config.estimator={odd}:lopsided']
    assert 'half cells' in asked(*lopsided)['reasons'][0] and asked(*lopsided)['cautions'] == []
    adam = [*lopsided, '--config.optimizer=adam(b2=0.95)']
    (said, _), found = told(*adam), asked(*adam)
    assert found['covered'] and not found['reasons'] and (found['alpha'], found['learning_rate_factor']) == (None, 1)
    assert 'covers lopsided under this optimizer, which needs no M; there is none, since the integral' in said
    assert 'Recipe use ste, change nothing else' in said and 'alpha' not in said.partition('Transfer class')[2]


@pytest.mark.parametrize('optimizer', ['sgd', 'adam', 'muon'])
@pytest.mark.parametrize('estimator', ['dsq', 'ewgs'])
def test_the_command_that_checks_it_is_accepted(estimator, optimizer, told):
    given = [DIGITS, f'--config.estimator={estimator}', f'--config.optimizer={optimizer}', '--config.twins=ste,self']
    _, text = told(*given)
    command = to_copy(text, 'Try it')
    assert command[:3] == given[:3] and sum(argument.startswith('--config.twins=') for argument in command) == 1
    config, _ = command_line.parse(command)
    found = settings.resolve(config)  # refuses twins without a recipe
    assert ('ste' in found.twins) == (estimator == 'dsq' and optimizer != 'muon')
    assert set(found.twins) >= {'naive_ste', 'jitter'}


def test_the_recipe_is_that_of_the_twin(asked):
    for optimizer in ('sgd', 'adam'):
        given = [DIGITS, f'--config.optimizer={optimizer}']
        found, (config, _) = asked(*given), command_line.parse(given)
        resolved = settings.resolve(config)
        recipe = twins.twins(['ste'], resolved.estimator, resolved.transfer)['ste'].recipe
        assert found['learning_rate_factor'] == recipe.learning_rate_factor
        assert found['remaps_initialization'] == recipe.remaps_initialization


def test_the_figure(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert explain.main([DIGITS, '--json']) == 0
    assert not list(tmp_path.iterdir())
    assert explain.main([DIGITS]) == 0
    assert capsys.readouterr().out.endswith('Figure:\n  runs/explain/digits/estimator.png\n')
    assert (tmp_path / 'runs/explain/digits/estimator.png').read_bytes().startswith(b'\x89PNG')
    assert explain.main([DIGITS, '--json', '--out=here', '--config.estimator=ede']) == 0
    assert (tmp_path / 'here/estimator.png').stat().st_size > 10_000
    assert explain.main([DIGITS, '--out', 'there']) == 0
    assert (tmp_path / 'there/estimator.png').is_file()
    assert '--out' not in capsys.readouterr().out  # of the commands to copy


REFUSED = {
    'no config': (['--config.seed=1'], 'give one --config=FILE'),
    'unknown flag': ([DIGITS, '--jsn'], "did you mean '--json'"),
    'a workdir': ([DIGITS, '--workdir=x'], '--out'),
    'a value of json': ([DIGITS, '--json=yes'], 'json'),
    'unknown estimator': ([DIGITS, '--config.estimator=sinus'], "did you mean 'sine'"),
    'unknown dataset': ([DIGITS, '--config.dataset=mnst'], "did you mean 'mnist'"),
    'too small images': (
        [DIGITS, '--config.dataset=imagenet2012', '--config.image_size=2', '--config.optimizer=adam'],
        'does not take images of 2x2x3',
    ),
    'outside a domain': ([DIGITS, '--config.estimator=sine(lam=1.5)'], 'lam must be a number in [0, 1)'),
    'ewgs on updates': ([DIGITS, '--config.estimator=ewgs', '--config.placement=update'], "placement 'gradient'"),
    'a bucket': ([DIGITS, '--out=gs://bucket/x'], 'must be a folder'),
    'a folder that cannot be': ([DIGITS, '--out=/dev/null/x'], 'cannot write /dev/null/x/estimator.png'),
    'no weights there': ([DIGITS, '--config.optimizer=adam', '--config.init_from=/nowhere'], 'init_from'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_a_users_error_is_one_line(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv, message = REFUSED[case]
    assert explain.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith('error: ') and captured.err.count('\n') == 1 and len(captured.err) <= 301
    assert message in captured.err and not captured.out
    assert not list(tmp_path.iterdir())


def test_a_parameter_that_cannot_be_a_constant_is_refused(tent, capsys):
    assert explain.main([DIGITS, f'--config.estimator={tent}:listing(values=[1])', '--json']) == 2
    assert 'must be numbers, words or tuples' in capsys.readouterr().err


def test_the_real_process(tent):
    def run(*argv):
        command = [sys.executable, '-m', 'experiments.explain', *argv]
        return subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT)

    found = run(DIGITS, f'--config.estimator={tent}:tent', '--config.optimizer=lion', '--json')
    assert found.returncode == 0 and list(strict(found.stdout)) == KEYS
    assert 'printed by the file' in found.stderr and 'Traceback' not in found.stderr
    shown = run('--help')
    assert shown.returncode == 0 and '--json' in shown.stdout and 'learning_rate = 0.01' in shown.stdout


def test_help_imports_nothing_heavy():
    code = "import sys; from experiments import explain; explain.main(['--help']); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, cwd=ROOT).returncode == 0
