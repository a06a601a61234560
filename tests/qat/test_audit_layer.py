"""qat.audit_layer: whether a layer's other gradients read codes only."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qat
from qat.estimators import fake_quantize, make

ESTIMATOR = make('dsq', 2)


def rounded(w):
    return fake_quantize(ESTIMATOR, w, jnp.float32(0.5), jnp.float32(0))


@jax.custom_vjp
def leaking(x, w):
    """A dense layer whose backward pass multiplies by the latent weights, as that of a library once did."""
    return x @ rounded(w)


leaking.defvjp(lambda x, w: (leaking(x, w), (x, w)), lambda kept, g: (g @ kept[1].T, kept[0].T @ g))


def network(layer):
    def f(params, x):
        hidden = nn.relu(x @ params['first'] + params['bias'])
        return layer(hidden, params['second'])

    return f


def parameters():
    keys = jax.random.split(jax.random.key(0), 3)
    return {
        'first': jax.random.normal(keys[0], (6, 8)),
        'bias': jnp.full(8, 0.1),
        'second': jax.random.uniform(keys[1], (8, 4), minval=-0.5, maxval=0.5),
    }, jax.random.normal(keys[2], (16, 6))


def test_a_layer_that_reads_codes_only_is_within_the_theorem():
    params, x = parameters()
    found = qat.audit_layer(network(lambda h, w: h @ rounded(w)), params, x)
    assert found['second'].quantized and found['second'].breaches == {} and found['second'].covered is True
    assert not found['first'].quantized and found['first'].covered is None


def test_a_layer_that_reads_latent_weights_is_named_with_the_size_of_the_breach():
    params, x = parameters()
    found = qat.audit_layer(network(leaking), params, x)['second']
    assert found.quantized and found.covered is False and set(found.breaches) == {'bias', 'first', 'argument 1'}
    assert 0 < max(found.breaches.values()) < 2 * found.moved

    alone = qat.audit_layer(
        lambda params, h: leaking(h, params['kernel']), {'kernel': params['second']}, jnp.ones((3, 8))
    )
    assert list(alone['kernel'].breaches) == ['argument 1']


def test_where_no_gradient_goes_through_nothing_can_be_said():
    params, _ = parameters()
    found = qat.audit_layer(lambda params: leaking(jnp.ones((3, 8)), params['kernel']), {'kernel': params['second']})
    assert found['kernel'].covered is None and 'give its inputs' in found['kernel'].sure


def test_a_scale_of_the_largest_weight_leaves_that_weight_where_it_is():
    def absmax(w):
        scale = jax.lax.stop_gradient(jnp.abs(w).max())
        return w + jax.lax.stop_gradient(jnp.round(w / scale) * scale - w)

    params, x = parameters()
    assert qat.audit_layer(network(lambda h, w: h @ absmax(w)), params, x)['second'].covered is True


@pytest.mark.parametrize('seed', range(2))
def test_a_mask_inside_the_last_code_is_seen(seed):
    """Its gradient stops at |w| = 1, where the code goes on: moves must reach as far as the code does."""
    forward = lambda w: jnp.clip(jnp.round(w / 0.1), -8, 7) * 0.1  # noqa: E731

    @jax.custom_vjp
    def masked(x, w):
        return x @ forward(w)

    masked.defvjp(
        lambda x, w: (masked(x, w), (x, w)),
        lambda kept, g: (g @ jnp.where(jnp.abs(kept[1]) <= 1, forward(kept[1]), 0).T, kept[0].T @ g),
    )
    params = {'kernel': jax.random.normal(jax.random.key(seed), (8, 4))}
    found = qat.audit_layer(lambda params, x: masked(x, params['kernel']), params, jnp.ones((2, 8)))
    assert found['kernel'].covered is False


def test_what_is_not_finite_or_not_used_is_not_known():
    params, x = parameters()
    cases = {
        'not finite': network(lambda h, w: h @ rounded(w) * jnp.nan),
        'not used': lambda params, x: x @ params['first'],
    }
    for word, layer in cases.items():
        found = qat.audit_layer(layer, params, x)['second']
        assert found.covered is None and not found.quantized and word in found.sure


def test_gradients_that_are_not_finite_are_not_covered():
    @jax.custom_vjp
    def broken(x, w):
        return x @ rounded(w)

    broken.defvjp(lambda x, w: (broken(x, w), (x, w)), lambda kept, g: (g @ kept[1].T * jnp.nan, kept[0].T @ g))
    params, x = parameters()
    assert qat.audit_layer(network(broken), params, x)['second'].covered is None


def test_chance_is_refused():
    calls = iter(range(100))

    def f(params):
        return params['w'] * jax.pure_callback(lambda: np.float32(next(calls)), jax.ShapeDtypeStruct((), jnp.float32))

    with pytest.raises(ValueError, match='fix its random keys'):
        qat.audit_layer(lambda params: jax.lax.stop_gradient(f(params)), {'w': jnp.ones(2)})
