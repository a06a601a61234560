"""Quantized activations through configs: what a run is told to round, what is said of it, and what is refused."""

import jax
import pytest

from configs import common, digits
from experiments import explain, train
from experiments.data import registry
from experiments.errors import UserError
from experiments.results import commands, explanation, next_steps
from experiments.setup import sources
from experiments.setup.settings import resolve
from experiments.training import sharing
from experiments.workdir.files import read_json
from qat.lockstep.twins import REFERENCE
from qat.quantizers import MidTreadQuantizer

CUSTOM = {'activation_bits': 4, 'activation_estimator': 'dsq(k=18)'}
OWN = """
import flax.linen as nn


class Product(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, images):
        kernel = self.param('kernel', nn.initializers.lecun_normal(), (64, self.classes))
        return images.reshape(len(images), -1) @ kernel


def my_slope(r, *, height=1.5):
    return height - abs(r)
"""


def settings(**overrides):
    config = digits.get_config()
    config.update({'twins': 'ste,jitter', **overrides})
    return resolve(config)


@pytest.fixture
def file(tmp_path) -> str:
    path = tmp_path / 'own.py'
    path.write_text(OWN, encoding='utf-8')
    return str(path)


def test_by_default_nothing_is_rounded_and_nothing_said():
    made = settings()
    assert made.activations is None and 'activations' not in explanation.setting(made)
    assert not explanation.words(made)['Activations'] and explanation.record(made, None)['activation_estimator'] is None
    assert settings(activation_bits=8, quantized='none').activations is None


def test_a_config_says_what_rounds():
    made = settings(**CUSTOM)
    assert (made.activations.quantizer, str(made.activations)) == (MidTreadQuantizer(4), 'dsq(k=18)')
    assert ' with activations of int4 (dsq(k=18))' in explanation.setting(made)
    assert made.subject.endswith(' with activations of int4 (dsq(k=18))')
    assert resolve(made.config).config.to_dict() == made.config.to_dict()
    assert sharing.fingerprint(made) != sharing.fingerprint(settings())


def test_the_theory_is_said_of_the_weights():
    with_ste, custom = (
        explanation.words(settings(**given))['Activations'] for given in ({'activation_bits': 8}, CUSTOM)
    )
    assert 'int8, with ste in all runs' in with_ste and 'not cover' not in with_ste
    assert 'not cover' in custom and 'The twin ste_activations' in custom
    assert commands.twins_to_check(settings(**CUSTOM)).endswith(',ste_activations')
    assert 'ste_activations' not in commands.twins_to_check(settings(activation_bits=8))
    (step,) = next_steps._activations(settings(**CUSTOM))
    assert 'int4 with dsq(k=18)' in step.sentence and not next_steps._activations(settings())


@pytest.mark.parametrize(
    'given, message',
    [
        ({'activation_bits': 1}, r'activation_bits: a quantizer with 0 as a value has 2\.\.8 bits, got 1'),
        ({'activation_bits': 9}, r'activation_bits must be in \[0, 8\], got 9'),
        (
            {'activation_estimator': 'dsq(k=18)'},
            r'activation_estimator: dsq\(k=18\) would not be used.*activation_bits=8',
        ),
        (
            {**CUSTOM, 'activation_estimator': 'dqs'},
            "activation_estimator: unknown estimator 'dqs': did you mean 'dsq'",
        ),
        ({**CUSTOM, 'activation_estimator': 'dsq'}, 'activation_estimator: dsq has no default k'),
        ({**CUSTOM, 'activation_estimator': 'sine(seed=1)'}, r'activation_estimator: seed is a key of its own'),
        ({**CUSTOM, 'activation_estimator': 'none.py:f'}, "activation_estimator: there is no file 'none.py'"),
        (
            {'activation_bits': 8, 'twins': 'ste_activations'},
            "twins: 'ste_activations' is refused.* rounded with ste already",
        ),
        ({'twins': 'ste_activations'}, "twins: 'ste_activations' is refused, the activations are not quantized"),
    ],
)
def test_refusals_name_the_key_in_a_line(given, message):
    with pytest.raises(UserError, match=f'^{message}') as refusal:
        settings(**given)
    assert '\n' not in str(refusal.value) and len(str(refusal.value)) < 300


def test_a_layer_whose_input_nothing_rounds_is_refused_before_training(file):
    made = settings(activation_bits=8, model=f'{file}:Product', quantized='all')
    task = registry.load(made.config).task(made.model)
    with pytest.raises(UserError, match="activation_bits=8: the input of 'kernel' would not be rounded"):
        sharing.lockstep(made, task)


def test_code_that_a_config_names_for_activations_is_found(file):
    config = common.get_config().to_dict() | {'activation_estimator': f'{file}:my_slope()'}
    assert sources.named(config) == [file]
    with pytest.raises(UserError, match='add --run-code to run it'):
        sources.check_chosen(config, chosen=False, path='config.json')


def test_every_run_of_a_config_has_its_activations():
    made = settings(**CUSTOM, twins='ste,self,ste_activations')
    task = registry.load(made.config).task(made.model)
    lockstep = sharing.lockstep(made, task)
    runs = lockstep.plan(jax.eval_shape(task.init, jax.random.key(0))[0]).runs
    found = {name: run.activations for name, run in runs.items()}
    assert found[REFERENCE] == found['ste'] == found['self'] == made.activations
    assert str(found['ste_activations']) == 'ste' and found['ste_activations'].quantizer == MidTreadQuantizer(4)


@pytest.mark.slow
def test_a_run_and_its_report(file, tmp_path, capsys):
    command = ['--config=configs/digits.py', '--config.activation_bits=4', '--config.max_steps=3']
    command.append(f'--config.activation_estimator={file}:my_slope(height=2.0)')
    twins = '--config.twins=ste,jitter,self,ste_activations'
    assert train.main([*command, twins, f'--workdir={tmp_path / "run"}']) == 0
    found = read_json(tmp_path / 'run' / 'summary.json')['twins']
    errors = {name: metrics['weight_alignment_error'] for name, metrics in found.items()}
    assert errors['self'] == 0 < errors['ste_activations']
    page = (tmp_path / 'run' / 'report.html').read_text(encoding='utf-8')
    assert 'activations of int4' in page and 'all of the above is about the weights' in page
    capsys.readouterr()
    assert explain.main([*command, f'--out={tmp_path}']) == 0
    assert 'STE in place of my_slope(height=2.0) on the activations' in ' '.join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_text_is_sampled_with_rounded_activations(tmp_path):
    (tmp_path / 'text.txt').write_text('to be or not to be, ' * 500, encoding='utf-8')
    command = [
        '--config=configs/shakespeare.py',
        f'--config.dataset=text:{tmp_path / "text.txt"}',
        '--config.context=8',
    ]
    command += ['--config.model=transformer(layers=1, width=8, heads=2)', '--config.twins=self', '--config.max_steps=2']
    assert train.main([*command, '--config.activation_bits=8', f'--workdir={tmp_path / "run"}']) == 0
    assert read_json(tmp_path / 'run' / 'summary.json')['twins']['self']['weight_alignment_error'] == 0
