"""The transformer against plain numpy, its parts by name, and what it refuses."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from qat.models.transformer import Transformer

SMALL = Transformer(layers=2, width=8, heads=2, classes=11, context=6)
TOKENS = np.random.default_rng(0).integers(0, 11, (3, 6)).astype(np.int32)


@pytest.fixture(scope='module')
def params() -> dict:
    """Of a size at which nothing is nearly linear."""
    drawn = jax.jit(SMALL.init)(jax.random.key(0), TOKENS)['params']
    return jax.tree.map(lambda leaf: 12 * leaf if leaf.ndim > 1 else leaf + 0.1, drawn)


def rms_norm(x, gain):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * gain


def attention(x, kernels, heads):
    """One position, head and earlier position at a time."""
    query, key, value = (x @ kernels[f'{name}/kernel'] for name in ('query', 'key', 'value'))
    mixed, size = np.zeros_like(x), x.shape[1] // heads
    for position in range(len(x)):
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = np.array([query[position, part] @ key[j, part] / math.sqrt(size) for j in range(position + 1)])
            weights = np.exp(scores - scores.max())
            mixed[position, part] = weights @ value[: position + 1, part] / weights.sum()
    return mixed @ kernels['out/kernel']


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def expected(params, tokens):
    flat = {path: np.asarray(leaf, np.float64) for path, leaf in flatten_dict(params, sep='/').items()}
    x = flat['embedding/embedding'][tokens] + flat['position'][: len(tokens)]
    for number in (1, 2):
        own = {path.removeprefix(f'block{number}/'): leaf for path, leaf in flat.items()}
        kernels = {path.removeprefix('attention/'): leaf for path, leaf in own.items() if 'attention/' in path}
        x = x + attention(rms_norm(x, own['norm_attention/scale']), kernels, 2)
        x = x + gelu(rms_norm(x, own['norm_mlp/scale']) @ own['mlp/up/kernel']) @ own['mlp/down/kernel']
    return rms_norm(x, flat['norm/scale']) @ flat['head/kernel']


def test_it_computes_what_plain_numpy_does(params):
    logits = np.asarray(SMALL.apply({'params': params}, TOKENS, train=False))
    assert logits.dtype == np.float32 and logits.std() > 0.3
    for tokens, found in zip(TOKENS, logits):
        np.testing.assert_allclose(found, expected(params, tokens), atol=2e-4)


def test_no_position_reads_what_comes_after_it_and_all_read_what_came_before(params):
    changed = TOKENS.copy()
    changed[:, 3] = (changed[:, 3] + 1) % 11
    one, other = (np.asarray(SMALL.apply({'params': params}, each, train=False)) for each in (TOKENS, changed))
    assert np.array_equal(one[:, :3], other[:, :3])
    assert (np.abs(one[:, 3:] - other[:, 3:]).max(-1) > 1e-3).all()
    shorter = SMALL.apply({'params': params}, TOKENS[:, :4], train=False)
    np.testing.assert_allclose(shorter, one[:, :4], atol=1e-5)


def test_its_kernels_by_name_and_size():
    shapes = jax.eval_shape(lambda: Transformer().init(jax.random.key(0), jnp.zeros((1, 64), int)))['params']
    found = {path: leaf.shape for path, leaf in flatten_dict(shapes, sep='/').items()}
    inner = {'attention/query': (128, 128), 'attention/key': (128, 128), 'attention/value': (128, 128)}
    inner |= {'attention/out': (128, 128), 'mlp/up': (128, 512), 'mlp/down': (512, 128)}
    blocks = {f'block{number}/{name}/kernel': shape for number in (1, 2, 3, 4) for name, shape in inner.items()}
    assert blocks.items() <= found.items()
    others = {path: shape for path, shape in found.items() if path not in blocks and 'scale' not in path}
    assert others == {'embedding/embedding': (256, 128), 'position': (64, 128), 'head/kernel': (128, 256)}
    assert {shape for path, shape in found.items() if 'scale' in path} == {(128,)} and 'bias' not in str(found)


def test_dropout_is_for_training_alone_and_needs_its_random_numbers(params):
    dropping = SMALL.clone(dropout=0.5)
    plain = SMALL.apply({'params': params}, TOKENS, train=True)
    assert np.array_equal(plain, dropping.apply({'params': params}, TOKENS, train=False))
    one, again, other = (
        dropping.apply({'params': params}, TOKENS, train=True, rngs={'dropout': jax.random.key(seed)})
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, again) and not np.array_equal(one, other) and not np.array_equal(one, plain)


def test_bfloat16_answers_in_float32():
    model = SMALL.clone(dtype=jnp.bfloat16)
    logits, variables = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), TOKENS))
    assert logits.dtype == jnp.float32 and all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize(
    ('values', 'said'),
    [
        ({'heads': 3}, 'width=8 must be a multiple of heads=3'),
        ({'layers': 0}, 'layers at least 1'),
        ({'dropout': 1.0}, r'dropout must be in \[0, 1\)'),
        ({'context': 5}, 'at most 5'),
    ],
)
def test_refusals(values, said):
    with pytest.raises(ValueError, match=said):
        SMALL.clone(**values).init(jax.random.key(0), TOKENS)
    with pytest.raises(ValueError, match='it reads tokens'):
        SMALL.init(jax.random.key(0), jnp.zeros((2, 8, 8, 1)))
