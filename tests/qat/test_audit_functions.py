"""The audit of JAX functions that were written from published formulas, and what each is found to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import qat
from qat.auditing import cells, levels, outside, samples
from qat.auditing.functions import audit_function
from qat.auditing.probing import sample

constant = jax.lax.stop_gradient


def through(x, y):
    """y, with x's gradient: the straight-through estimator as it is written in frameworks."""
    return x + constant(y - x)


def with_slope(forward, slope):
    """A function with a derivative of its own: slope(w, g) times the incoming g."""

    @jax.custom_vjp
    def rounded(w):
        return forward(w)

    rounded.defvjp(lambda w: (forward(w), w), lambda w, g: (slope(w, g) * g,))
    return rounded


def pytorch_fake_quantize(w, scale=0.1, zero_point=0, low=-8, high=7):
    """torch.fake_quantize_per_tensor_affine: the gradient passes where round(w/scale + zero point) is a code."""
    code = lambda w: jnp.round(w / scale + zero_point)  # noqa: E731
    forward = lambda w: (jnp.clip(code(w), low, high) - zero_point) * scale  # noqa: E731
    return with_slope(forward, lambda w, g: ((code(w) >= low) & (code(w) <= high)).astype(w.dtype))(w)


def bitnet(w):
    """BitNet b1.58 (2402.17764): the scale is the mean of |w|, and everything passes straight through."""
    scale = jnp.mean(jnp.abs(w)) + 1e-5
    return through(w, jnp.clip(jnp.round(w / scale), -1, 1) * scale)


def lsq(w, scale=0.2):
    """LSQ (1902.08153): clip, then round."""
    inside = jnp.clip(w / scale, -2, 1)
    return through(inside, jnp.round(inside)) * scale


def clamp_that_halves(w, scale=0.1):
    """Round, then jnp.clip, which at its very ends passes half."""
    return jnp.clip(through(w / scale, jnp.round(w / scale)), -7, 7) * scale


def clamp_that_silences(w, scale=0.1):
    """Round, then a clamp that passes nothing at its ends."""
    clamp = with_slope(lambda x: jnp.clip(x, -7, 7), lambda x, g: (jnp.abs(x) < 7).astype(x.dtype))
    return clamp(through(w / scale, jnp.round(w / scale))) * scale


def dorefa(w, bits=3):
    """DoReFa (1606.06160): tanh, scaled into [0, 1], rounded there."""
    n = 2**bits - 1
    unit = jnp.tanh(w) / (2 * constant(jnp.max(jnp.abs(jnp.tanh(w))))) + 0.5
    return 2 * through(unit, jnp.round(unit * n) / n) - 1


def quest(w, R=1.0, bits=4, reach=0.5):
    """QuEST (2502.05003): gradients where |w - q| is at most `reach` step sizes."""
    D = 2 * R / (2**bits - 1)
    forward = lambda w: jnp.clip(jnp.round((w + R) / D), 0, 2**bits - 1) * D - R  # noqa: E731
    return with_slope(forward, lambda w, g: (jnp.abs(w - forward(w)) <= reach * D).astype(w.dtype))(w)


def stable_qat(w, A=0.21, scale=0.25):
    """StableQAT's RDFS (2601.19320): the wave c cos(pi e), e from the nearest value."""
    c = np.sqrt(2) * np.pi * A

    def slope(w, g):
        wave = c * jnp.cos(jnp.pi * (w / scale - jnp.round(w / scale)))
        return (1 - wave) / (1 + wave) * (jnp.abs(w) <= 3 * scale)

    return with_slope(lambda w: jnp.clip(jnp.round(w / scale), -3, 3) * scale, slope)(w)


def ewgs(w, d=0.2):
    """EWGS (2104.00903) on [0, 1]: 1 + d sign(g) (x - round(x)), x in units of the step."""
    forward = lambda x: jnp.round(3 * x) / 3  # noqa: E731
    return with_slope(forward, lambda x, g: 1 + d * jnp.sign(g) * (3 * x - jnp.round(3 * x)))(jnp.clip(w, 0, 1))


def dge_on_e2m1(w, k=5.0, clamp=3.0):
    """FP4 training (2501.17116): the power 1/k of the place between two values of E2M1."""
    half = jnp.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    values = jnp.concatenate([-half[:0:-1], half])

    def place(w):
        gap = jnp.clip(jnp.searchsorted(values, w, side='right') - 1, 0, values.size - 2)
        low, high = values[gap], values[gap + 1]
        return low, high, 2 * (w - low) / (high - low) - 1

    def forward(w):
        low, high, x = place(w)
        return jnp.where(x > 0, high, low)

    def slope(w, g):
        x = jnp.maximum(jnp.abs(place(w)[2]), 1e-30)
        return jnp.minimum(x ** (1 / k - 1) / k, clamp) * (jnp.abs(w) <= 6)

    return with_slope(forward, slope)(w)


def stochastic(w, key):
    """Rounding up with the probability of what is left over."""
    return through(w, jnp.floor(w / 0.1 + jax.random.uniform(key, w.shape)) * 0.1)


def absmax(w):
    """A scale that is computed from the weights, through which gradients flow."""
    scale = jnp.max(jnp.abs(w)) / 7
    return through(w / scale, jnp.round(w / scale)) * scale


def annealed(w, progress):
    """A slope that becomes steeper with time."""
    slope = lambda w, g: 1 + 0.5 * progress * jnp.cos(2 * jnp.pi * (w - 0.5))  # noqa: E731
    return with_slope(lambda w: jnp.clip(jnp.round(w), -1, 1), slope)(w)


# function -> verdict, names, clip rule, and a word of the reason or caution
FOUND = {
    pytorch_fake_quantize: ('ste', ('ste',), 'round_clamp', ''),
    bitnet: ('ste', ('ste',), 'pass', 'range is computed from the latent weights'),
    lsq: ('ste', ('ste',), 'clip', ''),
    clamp_that_halves: ('not_covered', ('ste',), 'boundary_half', 'half of the gradient'),
    clamp_that_silences: ('not_covered', ('ste',), 'boundary_zero', 'codes 0, 14 absorb'),
    dorefa: ('not_covered', (), 'other', 'nor is its harmonic mean; it is STE with moved thresholds'),
    quest: ('ste', ('ste',), 'round_clamp', ''),
    stable_qat: ('disguised', ('rdfs(A=0.21)',), 'clip', ''),
    ewgs: ('not_covered', ('ewgs(d=0.2, gradient=1)',), 'clip', 'depends on the incoming gradient'),
    dge_on_e2m1: ('disguised', ('dge(k=5, clamp=3)',), 'clip', ''),
    absmax: ('not_covered', ('ste', 'mad'), 'unknown', 'the gradient of its scale reaches other weights'),
}


@pytest.mark.slow
@pytest.mark.parametrize('function', FOUND, ids=lambda function: function.__name__)
def test_published_fake_quantizers(function):
    verdict, names, rule, word = FOUND[function]
    found = audit_function(function)
    assert (found.verdict, found.names, found.outside.rule) == (verdict, names, rule)
    assert word in '; '.join((*found.reasons, *found.cautions)) and bool(word) == bool(found.reasons or found.cautions)


def flags(function) -> set[str]:
    """What a function did when it was called again."""
    return {name for name, value in vars(sample(function).probed).items() if value}


CALLED_AGAIN = {
    lsq: set(),
    bitnet: {'other_weights'},
    absmax: {'other_weights', 'gradient_of_scale'},
    ewgs: {'gradient_sign'},
    annealed: {'progress'},
    with_slope(jnp.round, lambda w, g: jnp.minimum(1, 1 / jnp.abs(g))): {'gradient_size'},
}


@pytest.mark.slow
@pytest.mark.parametrize('function', CALLED_AGAIN, ids=lambda function: getattr(function, '__name__', 'size'))
def test_what_only_calls_tell(function):
    assert flags(function) == CALLED_AGAIN[function]


def test_the_range_is_looked_for():
    for scale in (1e-3, 0.1, 20.0):
        tried = sample(lambda w, scale=scale: jnp.clip(jnp.round(w / scale), -1, 1) * scale)
        assert tried.w.max() == pytest.approx(1.5 * scale)


@pytest.mark.parametrize('function, message', [(jnp.sum, 'shaped like the weights'), (lambda w: 0 * w, 'it returns 0')])
def test_what_is_no_fake_quantizer_is_refused(function, message):
    with pytest.raises(ValueError, match=message):
        sample(function)


def test_stochastic_rounding_has_no_thresholds():
    assert flags(stochastic) == {'stochastic', 'unbiased'}
    found = audit_function(stochastic)
    assert found.verdict == 'not_covered' and found.reasons == (
        'its rounding is decided by chance: q is no function of w',
    )


def test_jumps_are_where_the_formula_has_them():
    """EWGS jumps at thresholds only; at values, where the ends of its slope meet, it is 1."""
    tried = sample(ewgs)
    given = samples.collect(tried.w, tried.q, tried.slope)
    at = levels.find(given)
    found = cells.pool(given, at, outside.find(given, at))
    assert found.jumps == pytest.approx([0], abs=1 / 256) and found.slope.min() == pytest.approx(0.9, abs=1e-3)


@pytest.mark.slow
def test_pytorchs_learned_scale():
    torch = pytest.importorskip('torch')
    w = torch.linspace(-1.5, 1.5, 4001, requires_grad=True)
    scale, zero_point = torch.tensor([0.1], requires_grad=True), torch.tensor([0.0])
    q = torch._fake_quantize_learnable_per_tensor_affine(w, scale, zero_point, -8, 7, 1.0)
    q.sum().backward()
    found = qat.audit(w.detach().numpy(), q.detach().numpy(), w.grad.numpy())
    assert (found.names, found.outside.rule, found.levels.values.size) == (('ste',), 'round_clamp', 16)


def test_two_weights_that_tie_for_the_largest_do_not_look_like_the_gradient_of_a_scale():
    """A clamp at the largest |w| passes everything to it, by halves; where two tie, each gets some of the other's."""

    def clamped(w):
        top = jnp.max(jnp.abs(w))
        return through(jnp.clip(w, -top, top), jnp.round(w / top * 7) * top / 7)

    assert flags(clamped) == {'other_weights'}


def test_one_silent_end_leaves_the_slope_of_the_others_known():
    """Codes -8 to 7 and a clamp at 7.5 steps: -8 is silent, 7 is not; at the very end the clamp passes half."""
    w, D = np.round(np.linspace(-1.6, 1.6, 4001), 6), 1 / 7.5
    q = np.clip(np.round(w / D), -8, 7) * D
    found = qat.audit(w, q, np.select([np.abs(w) < 1, np.abs(w) == 1], [1, 0.5]) * (w > -1))
    assert (found.names, found.alpha, found.cautions) == (('ste',), 1, ())
    assert found.outside.rule == 'boundary_zero below, round_clamp above' and found.outside.absorbing == (0,)
