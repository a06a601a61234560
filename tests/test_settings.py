"""From a config to its objects: schedule, length, and the warnings a setting deserves."""

import pathlib
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from configs import digits, imagenet_resnet50
from experiments.data.registry import DATASETS
from experiments.errors import UserError
from experiments.setup.models import MODELS
from experiments.setup.settings import DTYPES, resolve
from qat.optimizers import FAMILIES
from qat.ranges import RANGE_RULES


def settings(**overrides):
    config = digits.get_config()
    config.update({'twins': 'ste', **overrides})
    return resolve(config)


def test_warm_up_then_cosine_to_zero():
    rates = settings(learning_rate=0.5, warmup_fraction=0.1).learning_rates(100)
    assert rates.shape == (100,) and rates.dtype == np.float32
    np.testing.assert_allclose(rates[:11], np.linspace(0, 0.5, 11), atol=1e-6)
    np.testing.assert_allclose(rates[10:], 0.25 * (1 + np.cos(np.pi * np.arange(90) / 90)), atol=1e-6)
    assert settings(learning_rate=0.5, warmup_fraction=0.0).learning_rates(100)[0] == 0.5


def test_scaling_down_trades_learning_rate_for_epochs():
    scaled = settings(learning_rate_scale=0.1, epochs_scale=3.0, num_epochs=4)
    assert scaled.peak_learning_rate == pytest.approx(0.001)
    assert scaled.steps(15) == (15, 180)
    assert settings(num_epochs=4, max_steps=7).steps(15) == (15, 7)
    assert settings(num_epochs=4, steps_per_epoch=5).steps(15) == (5, 20)


def test_more_steps_than_anyone_makes_are_refused():
    endless = {'num_epochs': 2**31 - 1, 'epochs_scale': 1e300}
    with pytest.raises(UserError, match='set max_steps'):
        settings(**endless).steps(15)
    assert settings(**endless, max_steps=7).steps(15) == (15, 7)


@pytest.mark.parametrize(
    'key, call, message',
    [
        ('optimizer', 'adamw(weight_decay=0.1)', r'weight_decay is a key .*: --config\.weight_decay=0\.1'),
        ('optimizer', 'adam(lr=0.1)', r'lr is a key .*: --config\.learning_rate=0\.1'),
        ('estimator', 'dsq(bits=2)', r'--config\.bits=2'),
        ('estimator', 'dsq(name=2)', r'--config\.name=2'),
        ('optimizer', 'adam(b1=0.9, b1=0.8)', 'gives an argument twice'),
        ('optimizer', 'adam(b1=None)', 'optimizer: .* b1 must be a number'),
        ('estimator', 'soft_round(a=2147483648)', 'a must be a number'),
        ('estimator', 'soft_round(a=None)', 'a must be a number'),
    ],
)
def test_arguments_of_a_call(key, call, message):
    with pytest.raises(UserError, match=message):
        settings(**{key: call})


@pytest.mark.parametrize('name', ['', '..', 'a/b', 'a b', '-x'])
def test_a_name_is_that_of_a_folder(name):
    with pytest.raises(UserError, match='name of a folder'):
        settings(name=name)


def test_a_high_kappa_is_warned_of_by_layer():
    ranges = {'conv1': np.float32(0.8), 'conv2': np.float32(0.1)}
    step = 2 * 0.1 / 3
    step *= 0.4 / float(4 * 6.5 / 3 * np.tanh(6.5 / 3)) / 0.05  # where DSQ at 2 bits is warned of
    assert 'kappa of conv2' in settings(optimizer='adam(b2=0.95)', learning_rate=0.06 * 0.05 * step).warnings(ranges)[0]
    assert settings(optimizer='adam(b2=0.95)', learning_rate=0.04 * 0.05 * step).warnings(ranges) == []
    assert settings(optimizer='sgd', learning_rate=10.0).warnings(ranges) == []


def test_a_resolved_config_names_every_parameter_and_resolves_to_itself():
    once = settings(estimator='dsq', optimizer='adam').config
    assert (once.estimator, once.optimizer) == ('dsq(k=6.5)', 'adam(b1=0.9, b2=0.999, eps=1e-08)')
    assert resolve(once).config.to_dict() == once.to_dict()


def test_a_model_of_the_catalogue_takes_arguments():
    model = settings(model='convnet(dtype="bfloat16")').model(7)
    assert (model.dtype, model.classes) == ('bfloat16', 7)


def test_comments_list_what_there_is():
    """A key whose values are names says so in its comment, with all of them."""
    comments = dict(re.findall(r'config\.(\w+) = .*?  # (.*)', pathlib.Path('configs/common.py').read_text()))
    named = {'dataset': DATASETS, 'model': MODELS, 'range': RANGE_RULES, 'compute_dtype': DTYPES}
    for key, registry in named.items():
        assert set(registry) <= set(re.findall(r'\w+', comments[key])), f'the comment of {key}'
    coupled = {name for name, family in FAMILIES.items() if family.decay == 'coupled'}
    assert coupled == set(re.findall(r'\w+', comments['weight_decay'].split(';')[0])) - {'coupled', 'for'}


def of_resnet(**overrides):
    config = imagenet_resnet50.get_config()
    config.update({'compute_dtype': 'float32', 'twins': 'ste,self', **overrides})
    return resolve(config)


def test_the_peak_learning_rate_follows_the_batch_after_overrides():
    assert of_resnet(batch_size=256).peak_learning_rate == 0.1
    assert of_resnet(batch_size=4096).peak_learning_rate == pytest.approx(1.6)
    assert of_resnet(batch_size=512, learning_rate=0.2).peak_learning_rate == pytest.approx(0.4)


def test_every_convolution_of_the_resnet_is_quantized_and_nothing_else():
    model = of_resnet().model(1000)
    images = jnp.zeros((1, 32, 32, 3))
    params = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))['params']
    convolutions = {path for path, leaf in flatten_dict(params, sep='/').items() if leaf.ndim == 4}
    assert set(of_resnet().quantized(params)) == convolutions and len(convolutions) == 53
    plain = of_resnet().model_class(nn.Conv)
    plain = jax.eval_shape(lambda: plain.init(jax.random.key(0), images, train=False))['params']
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, plain)
