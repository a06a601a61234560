"""Quantized activations: against the definition in numpy, which layers have them, and what a lockstep makes of them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import qat
from qat.activations import all_inputs_rounded, inputs_rounded, rounded
from qat.estimators import fake_quantize
from qat.lockstep.evaluation import Examined
from qat.lockstep.twins import REFERENCE
from qat.ranges import max_abs

STE8 = qat.estimator('ste', 'int8')
SHAPE = (4, 6, 6, 2)  # of a batch of images


def by_definition(inputs: np.ndarray, bits: int, axes) -> np.ndarray:
    """x -> round(x Q / max |x|) max |x| / Q in float64, rounding half to even."""
    largest, exact = 2 ** (bits - 1) - 1, inputs.astype(np.float64)
    scale = np.abs(exact).max(axis=axes, keepdims=True)
    scale[scale == 0] = 1
    return np.round(exact * largest / scale) * scale / largest


def images(seed: int = 0, dtype=np.float32) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(dtype)


@pytest.mark.parametrize('bits', [2, 4, 8])
@pytest.mark.parametrize('axes', [-1, (-3, -2, -1)])
def test_values_are_those_of_the_definition(bits, axes):
    found = rounded(qat.estimator('ste', f'int{bits}'), images(), axes)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, by_definition(images(), bits, axes), atol=1e-6)
    assert len(np.unique(rounded(qat.estimator('ste', f'int{bits}'), images(), (0, 1, 2, 3)))) <= 2**bits - 1


def test_zero_is_a_value_exactly_and_ties_go_to_the_even_integer():
    inputs = jnp.float32([[0, 1e-4, 7.3], [0, 0.5, 7], [0, -1.5, 7]])
    found = rounded(qat.estimator('ste', 'int4'), inputs, -1)
    assert found[:, 0].tolist() == [0, 0, 0] and found[:, 1].tolist() == [0, 0, -2]


@pytest.mark.parametrize('scale', [0, 1e-38, 1e30])
def test_tokens_of_zeros_and_of_extreme_size_stay_finite(scale):
    inputs = jnp.float32(scale) * jnp.float32([[1, -1, 0.5]])
    found, gradient = jax.value_and_grad(lambda x: (rounded(STE8, x, -1) * jnp.float32([3, 5, 7])).sum())(inputs)
    assert np.isfinite(found) and gradient.tolist() == [[3, 5, 7]]
    assert scale or (rounded(STE8, inputs, -1) == 0).all()


def test_the_derivative_is_the_slope_alone():
    cotangent = jnp.asarray(images(1))
    _, pull = jax.vjp(lambda x: rounded(STE8, x, -1), images())
    assert (pull(cotangent)[0] == cotangent).all()  # of the largest too: the scale is a constant
    sine = qat.estimator('sine(lam=0.6)', 'int4')
    _, pull = jax.vjp(lambda x: rounded(sine, x, -1), images())
    scale = np.abs(images()).max(axis=-1, keepdims=True)
    position = images() * 7 / scale
    inside = np.abs(position) < 7  # at the ends the cell is open to one side
    slope = 1 + 0.6 * np.cos(2 * np.pi * (position - np.floor(position) - 0.5))
    np.testing.assert_allclose(pull(cotangent)[0][inside], (slope * cotangent)[inside], rtol=1e-3, atol=1e-4)


def test_bfloat16_is_rounded_in_float32():
    inputs = jnp.asarray(images(), jnp.bfloat16)
    found = rounded(STE8, inputs, -1)
    expected = by_definition(np.asarray(inputs, np.float32), 8, -1)
    assert found.dtype == jnp.bfloat16
    assert (np.asarray(found, np.float32) == np.asarray(jnp.asarray(expected, jnp.bfloat16), np.float32)).mean() > 0.99
    np.testing.assert_allclose(np.asarray(found, np.float32), expected, rtol=2**-8)


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(num_heads=2, name='attention')(x)
        return nn.remat(nn.Dense)(3, name='head')(inputs=x)


class Net(nn.Module):
    """A convolution, then an attention, whose `out` contracts two axes, and a dense layer under `nn.remat`."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), name='conv')(x))
        return Inner(name='inner')(x.reshape(len(x), -1, 4))


def test_the_input_of_every_kind_of_layer_is_rounded_along_its_axes(monkeypatch):
    from qat import activations

    asked, real = {}, activations.rounded
    monkeypatch.setattr(
        activations, 'rounded', lambda e, x, axes, p: asked.setdefault((x.shape, axes), real(e, x, axes, p))
    )
    kernels = {'conv/kernel', 'inner/attention/query/kernel', 'inner/attention/out/kernel', 'inner/head/kernel'}
    with all_inputs_rounded(STE8, kernels):
        jax.eval_shape(Net().init, jax.random.key(0), images())
    assert set(asked) == {
        (SHAPE, (-3, -2, -1)),
        ((4, 36, 4), -1),
        ((4, 36, 2, 2), (-2, -1)),  # (batch, token, heads, features)
    }


class Plain(nn.Module):
    """A convolution and two dense layers, of which the last is not to be quantized."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3))(x)).reshape(len(x), -1)
        x = nn.relu(nn.Dense(8)(x))
        return nn.Dense(3)(x)


def by_hand(params, x):
    """The same with activations rounded by hand, in front of `Conv_0` and `Dense_0`."""
    x = nn.Conv(4, (3, 3)).apply({'params': params['Conv_0']}, rounded(STE8, x, (1, 2, 3)))
    x = nn.Dense(8).apply({'params': params['Dense_0']}, rounded(STE8, nn.relu(x).reshape(len(x), -1), (1,)))
    return nn.Dense(3).apply({'params': params['Dense_1']}, nn.relu(x))


def loss(params, batch):
    return jnp.square(Plain().apply({'params': params}, batch) - jnp.arange(3)).mean()


def params():
    return Plain().init(jax.random.key(1), images())['params']


def quantized(path):
    return path in ('Conv_0/kernel', 'Dense_0/kernel')


def pair(activations=STE8, twins=('ste', 'jitter', 'self'), loss=loss, **options):
    options = {'quantized': quantized, 'optimizer': optax.sgd(0.05)} | options
    return qat.Lockstep(loss, estimator='sine', bits=2, twins=twins, activations=activations, **options)


def test_the_loss_is_that_of_a_model_that_rounds_by_itself_bit_by_bit():
    estimator, start = qat.estimator('sine', 2), params()

    def own(params, batch):
        for layer in ('Conv_0', 'Dense_0'):
            kernel = params[layer]['kernel']
            params = params | {
                layer: params[layer] | {'kernel': fake_quantize(estimator, kernel, max_abs(kernel), 0.0)}
            }
        return jnp.square(by_hand(params, batch) - jnp.arange(3)).mean()

    lockstep = pair(twins=('self',))
    state, losses = jax.jit(lockstep.step)(lockstep.init(start), images())
    expected, gradients = jax.jit(jax.value_and_grad(own))(start, images())
    assert losses[REFERENCE] == expected
    found = state.runs[REFERENCE].params
    for after, before, gradient in zip(*map(jax.tree.leaves, (found, start, gradients))):
        np.testing.assert_allclose(after, before - 0.05 * gradient, rtol=1e-5, atol=1e-6)
    assert loss(lockstep.quantized(REFERENCE, lockstep.init(start)), images()) != expected  # without the rounding


def test_validation_reads_rounded_inputs_too():
    def examine(params, model_state, batch):
        logits = Plain().apply({'params': params}, batch['image'])
        return Examined({'logit': logits[:, 0]}, logits.argmax(1), logits[:, 0] > 0)

    lockstep = pair(twins=('self',))
    state = lockstep.init(params())
    found = lockstep.evaluate(examine, state, {'image': images(), 'mask': np.ones(4, bool)})
    expected = by_hand(lockstep.quantized(REFERENCE, state), images())[:, 0].sum()
    np.testing.assert_allclose(found['metrics']['logit'][REFERENCE], expected, rtol=1e-6)
    with lockstep.reading(REFERENCE, state):
        again = Plain().apply({'params': lockstep.quantized(REFERENCE, state)}, images())[:, 0].sum()
    np.testing.assert_allclose(again, expected, rtol=1e-6)


def trained(lockstep, steps: int):
    state, step = lockstep.init(params()), jax.jit(lockstep.step)
    for number in range(steps):
        state, _ = step(state, images(number))
    return state


def error(lockstep, state, twin: str) -> float:
    return lockstep.summary(state)[twin]['weight_alignment_error']


def test_a_copy_is_equal_bit_by_bit_and_ste_on_the_activations_is_another_run():
    custom = qat.estimator('dsq(k=18)', 'int4')
    lockstep = pair(custom, ('self', 'ste_activations', 'ste'))
    plan = lockstep.plan(params())
    assert {name: str(run.activations) for name, run in plan.runs.items()} == {
        REFERENCE: 'dsq(k=18)',
        'self': 'dsq(k=18)',
        'ste_activations': 'ste',
        'ste': 'dsq(k=18)',
    }
    assert plan.runs['ste_activations'].estimators == plan.runs[REFERENCE].estimators
    state = trained(lockstep, 5)
    assert error(lockstep, state, 'self') == 0 < error(lockstep, state, 'ste_activations')
    with_ste = pair(qat.estimator('ste', 'int4'), ('self',))
    by_itself = trained(with_ste, 5).runs[REFERENCE].params
    for found, expected in zip(*map(jax.tree.leaves, (state.runs['ste_activations'].params, by_itself))):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_verdict_says_what_is_rounded():
    lockstep = pair(twins=('self',))
    said = lockstep.verdict(lockstep.init(params()))
    assert 'sine(lam=0.6) under ' in said and ' with activations of int8 (ste) (class map' in said


class Product(nn.Module):
    @nn.compact
    def __call__(self, x):
        kernel = self.param('kernel', nn.initializers.lecun_normal(), (72, 3))
        return x.reshape(len(x), -1) @ kernel


def of_nnx():
    graph, state = nnx.split(nnx.Linear(72, 3, rngs=nnx.Rngs(0)))
    return state, lambda params, batch: nnx.merge(graph, params)(batch.reshape(len(batch), -1)).sum()


def of_product():
    variables = Product().init(jax.random.key(0), images())
    return variables['params'], lambda params, batch: Product().apply({'params': params}, batch).sum()


@pytest.mark.parametrize(
    'made, options',
    [
        (of_nnx, {}),
        (of_product, {}),
        (
            lambda: (params(), loss),
            {'quantized': lambda path: path == 'Dense_1/bias', 'ranges': lambda bias: jnp.float32(1)},
        ),
        (lambda: (params(), jax.jit(loss)), {}),
    ],
    ids=['nnx', 'a product of its own', 'bias', 'traced before'],
)
def test_an_input_that_nothing_rounds_is_an_error(made, options):
    start, of_params = made()
    of_params(start, images())  # which jax.jit remembers
    lockstep = pair(loss=of_params, twins=('self',), **({'quantized': lambda path: 'kernel' in path} | options))
    with pytest.raises(ValueError, match=r"^the input of '\S*(kernel|bias)' would not be rounded") as refusal:
        lockstep.step(lockstep.init(start), images())
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    'options, message',
    [
        ({'activations': qat.estimator('ste', 8)}, "a quantizer that has 0 as a value, as 'int8' has, and 8 bits does"),
        ({'activations': 'ste'}, r"an estimator, as qat.estimator\('ste', 'int8'\), not 'ste'"),
        ({'activations': STE8, 'twins': ('ste_activations',)}, 'refused, the activations are rounded with ste already'),
        ({'activations': None, 'twins': ('ste_activations',)}, 'refused, the activations are not quantized'),
    ],
)
def test_refusals_say_what_is_wrong_in_a_line(options, message):
    with pytest.raises(ValueError, match=message):
        pair(**options)


@pytest.mark.parametrize('bits', [1, 9, 2.0])
def test_other_bits_are_refused(bits):
    from qat.quantizers import MidTreadQuantizer

    with pytest.raises(ValueError, match=r'has 2\.\.8 bits'):
        MidTreadQuantizer(bits)


def test_without_an_estimator_nothing_is_rounded():
    with inputs_rounded(None, {'Dense_0/kernel'}) as seen:
        found = Plain().apply({'params': params()}, images())
    assert (found == Plain().apply({'params': params()}, images())).all() and not seen


class Perceptron(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4)(nn.tanh(nn.Dense(32)(x)))


@pytest.mark.slow
def test_with_ste_on_the_activations_the_theorem_on_the_weights_stands():
    """The recipe's error falls with the learning rate over a fixed way; that of STE with nothing adjusted does not."""
    teacher = np.random.default_rng(3).normal(size=(16, 4)).astype(np.float32)

    def of_perceptron(params, x):
        logits = Perceptron().apply({'params': params}, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, (x @ teacher).argmax(1)).mean()

    def errors(learning_rate, steps):
        lockstep = qat.Lockstep(
            *(of_perceptron, optax.sgd(learning_rate, momentum=0.9), 'dsq(k=6.5)', 2),
            quantized=lambda path: 'kernel' in path,
            twins=('ste', 'naive_ste'),
            activations=qat.estimator('ste', 'int4'),
            track_change_points=False,
        )
        state = lockstep.init(Perceptron().init(jax.random.key(0), jnp.zeros((1, 16)))['params'])
        batches = jax.random.normal(jax.random.key(1), (steps, 64, 16))
        state, _ = jax.jit(lambda state: jax.lax.scan(lockstep.step, state, batches))(state)
        return [error(lockstep, state, twin) for twin in ('ste', 'naive_ste')]

    (ste, naive), (ste_in_the_limit, naive_in_the_limit) = errors(0.04, 100), errors(0.0025, 1600)
    assert ste_in_the_limit < 0.3 * ste and ste_in_the_limit < 0.1
    assert naive_in_the_limit > 0.8 * naive
