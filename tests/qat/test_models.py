"""ResNet-50 v1.5: its size, what of it is quantized, its batch statistics, and a pair of it in lockstep."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from configs import imagenet_resnet50
from experiments.data.arrays import ArrayBatches, Arrays
from experiments.setup.settings import resolve
from experiments.training.runs import REFERENCE, kernels
from experiments.training.trainer import Trainer
from qat.models.resnet import ResNet50
from qat.trajectory import summarize


def settings(**overrides):
    config = imagenet_resnet50.get_config()
    config.update({'compute_dtype': 'float32', 'twins': 'ste,self', **overrides})
    return resolve(config)


def shapes(model, size=224):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, size, size, 3)), train=False))


def test_parameters():
    variables = shapes(ResNet50(nn.Conv))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables['params'])) == 25_557_032
    quantized = settings().model(settings().estimator, 1000)
    assert jax.tree.map(jnp.shape, shapes(quantized)['params']) == jax.tree.map(jnp.shape, variables['params'])


def test_every_convolution_is_quantized_and_nothing_else():
    ranges = flatten_dict(shapes(settings().model(settings().estimator, 1000))['ranges'], sep='/')
    weights = flatten_dict(shapes(ResNet50(nn.Conv))['params'], sep='/')
    assert set(ranges) == {name for name, leaf in weights.items() if leaf.ndim == 4}
    assert len(ranges) == 53


def test_strides_are_those_of_version_1_5():
    """The 3x3 convolution of a stage's first block halves the image; the 1x1 before it does not."""
    model = ResNet50(nn.Conv)
    _, state = jax.eval_shape(
        lambda: model.init_with_output(
            jax.random.key(0), jnp.zeros((1, 64, 64, 3)), train=False, capture_intermediates=True
        )
    )
    seen = flatten_dict(state['intermediates'], sep='/')
    sizes = {name: seen[f'stage2_block1/{name}/__call__'][0].shape[1] for name in ('conv1', 'conv2', 'conv3')}
    assert sizes == {'conv1': 16, 'conv2': 8, 'conv3': 8}
    assert seen['stage4_block3/__call__'][0].shape == (1, 2, 2, 2048)


def test_bfloat16_computes_in_bfloat16_and_answers_in_float32():
    model = ResNet50(nn.Conv, dtype=jnp.bfloat16)
    output, variables = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), capture_intermediates=True)
    )
    assert output.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables['params']))
    assert variables['intermediates']['stage1_block1']['conv1']['__call__'][0].dtype == jnp.bfloat16


def test_the_peak_learning_rate_follows_the_batch_after_overrides():
    assert settings(batch_size=256).peak_learning_rate == 0.1
    assert settings(batch_size=4096).peak_learning_rate == pytest.approx(1.6)
    assert settings(batch_size=512, learning_rate=0.2).peak_learning_rate == pytest.approx(0.4)


@pytest.mark.slow
def test_a_pair_trains_in_lockstep(monkeypatch):
    """Real code, small colour images: self is bit-equal with its batch statistics, which move and differ from ste's."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (48, 32, 32, 3), np.uint8)
    labels = random.integers(0, 10, 48).astype(np.int32)
    arrays = Arrays(
        {'train': images / np.float32(255), 'validation': images[:8] / np.float32(255)},
        {'train': labels, 'validation': labels[:8]},
    )
    monkeypatch.setattr('experiments.training.programs.local_devices', lambda _: jax.local_devices()[:1])  # memory
    chosen = settings(batch_size=8, num_epochs=1, learning_rate=1.0)
    run = Trainer(chosen, ArrayBatches(arrays, 0, 8))
    state = run.initial_state()
    first = jax.device_get(state.runs[REFERENCE].batch_stats)
    for step, batch in zip(range(3), run.batches_from(0)):
        state = run.advance(state, step, batch)
    for reference, twin in zip(jax.tree.leaves(state.runs[REFERENCE]), jax.tree.leaves(state.runs['self'])):
        assert np.array_equal(np.asarray(reference), np.asarray(twin))
    last = state.runs[REFERENCE].batch_stats
    assert all((a != b).any() for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(jax.device_get(last))))
    measured = jax.device_get(run.programs.measure(state))
    assert summarize(measured['self'].values())['weight_alignment_error'] == 0
    assert len(kernels(state.ranges, state.runs['ste'].params)) == 53
