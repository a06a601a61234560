"""The catalogue of slopes: what published gradient estimators put in place of rounding's derivative.

A slope is an elementwise function of `r`, the offset of a weight from the nearest rounding
threshold in units of the step, in [-1/2, 1/2] and positive above the threshold. Keyword-only
arguments with a default are its parameters. It may also take, without a default,

  bits      the quantizer's bits: log2 of the number of its codes,
  gradient  the incoming gradient dL/dq, shaped like r,
  progress  the fraction of training done, a scalar in [0, 1];

the last two make it *not covered* by the theorem of arXiv 2405.05171: there s depends on the
weight alone. What happens outside the range [-R, R] is a clip rule's (`qat.clipping`): every slope is 0 there, `mad`
alone excepted.

To add one: the function here, under `@_entry(parameter=domain, ...)`, and, if you know the integral of 1/s, that in
`qat.theory.closed_forms`; without it quadrature finds alpha and M. The first line of its docstring cites, `Verdict:`
says whether the theorem covers it. tests/qat/test_estimators.py and test_theory.py each want a line in a table.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp

from qat.calls import Interval
from qat.clipping import CLIP, RECIPROCAL, ClipRule
from qat.theory import closed_forms
from qat.theory.closed_forms import Antiderivative


@dataclasses.dataclass(frozen=True)
class Entry:
    """A slope of the catalogue.

    Attributes:
      slope: the function.
      domains: of its numeric parameters.
      clip: what happens outside the range.
      resolve: (bits, given parameters) -> all parameters, where a default depends on the bits.
      closed_form: (bits, **parameters) -> the integral of 1/s, where one is known.
    """

    slope: Callable
    domains: dict[str, Interval] = dataclasses.field(default_factory=dict)
    clip: ClipRule = CLIP
    resolve: Callable[[float, dict], dict] = lambda bits, given: given
    closed_form: Callable[..., Antiderivative] | None = None


CATALOGUE: dict[str, Entry] = {}
_STEEPEST = 1e9  # twice that is an int32 yet


def _entry(*, clip: ClipRule = CLIP, resolve: Callable = Entry.resolve, integral: Callable | None = None, **domains):
    """Puts the function below it into the catalogue; `integral` is `Entry.closed_form`, `domains` its `Interval`s."""

    def register(slope: Callable) -> Callable:
        CATALOGUE[slope.__name__] = Entry(slope, domains, clip, resolve, integral)
        return slope

    return register


@_entry(integral=lambda bits: closed_forms.identity())
def ste(r):
    """Straight-through estimator (Bengio et al. 2013, arXiv 1308.3432): s = 1.

    Verdict: the identity map, alpha = 1.
    """
    return jnp.ones_like(r)


DSQ_SHARPNESS = {1: 2.0, 2: 6.5, 4: 18.0}  # the paper's experiments (arXiv 2405.05171), by bits


def _dsq_default(bits: float, given: dict) -> dict:
    if given.get('k') is None:
        if bits not in DSQ_SHARPNESS:
            alike = DSQ_SHARPNESS[2] * (2**bits - 1) / (2**2 - 1)
            raise ValueError(
                f'dsq has no default k for {2**bits:.0f} values: give one; dsq(k={alike:.4g}) has the slope of 2 bits'
            )
        return {**given, 'k': DSQ_SHARPNESS[bits]}
    return given


@_entry(
    k=Interval(0, _STEEPEST),
    resolve=_dsq_default,
    integral=lambda bits, k: closed_forms.sech_squared(k / (2**bits - 1)),
)
def dsq(r, *, bits, k=None):
    """Differentiable soft quantization (Gong et al. 2019, arXiv 1908.05033).

    s = (u / tanh u) sech^2(2 u r), u = k / (2^bits - 1). Default k: 2 at 1 bit, 6.5 at 2, 18 at 4.
    Verdict: covered, alpha = (u / tanh u) / (1/2 + sinh(2u) / (4u)); 0.4544 at 2 bits.
    """
    u = k / (2**bits - 1)
    return u / jnp.tanh(u) * _sech_squared(2 * u * r)


@_entry(a=Interval(0, _STEEPEST), integral=lambda bits, a: closed_forms.sech_squared(a / 2))
def soft_round(r, *, a=5.0):
    """Soft rounding (Agustsson & Theis 2020, arXiv 2006.09952).

    s = a / (2 tanh(a/2)) sech^2(a r). Verdict: covered, `dsq` with u = a/2; alpha = 0.320.
    """
    return a / (2 * jnp.tanh(a / 2)) * _sech_squared(a * r)


@_entry(lam=Interval(0, 1, low_included=True), integral=lambda bits, lam: closed_forms.sine(lam))
def sine(r, *, lam=0.6):
    """A sine added to the identity: s = 1 + lam cos(2 pi r).

    Verdict: covered, alpha = sqrt(1 - lam^2); 0.8 by default.
    """
    return 1 + lam * jnp.cos(2 * jnp.pi * r)


@_entry(A=Interval(0, 0.2251), integral=lambda bits, A: closed_forms.rdfs(A))
def rdfs(r, *, A=0.21):
    """Rotated damped Fourier surrogate (StableQAT 2026, arXiv 2601.19320).

    s = (1 - c cos(pi e)) / (1 + c cos(pi e)), c = sqrt(2) pi A, e the offset from the nearest
    value, so that cos(pi e) = sin(pi |r|). Verdict: covered, alpha = 0.1135.
    """
    wave = closed_forms.rdfs_amplitude(A) * jnp.sin(jnp.pi * jnp.abs(r))
    return (1 - wave) / (1 + wave)


@_entry(
    k=Interval(1, 1000, low_included=True),
    clamp=Interval(0, 1e6),
    integral=lambda bits, k, clamp: closed_forms.dge(k, clamp),
)
def dge(r, *, k=5.0, clamp=3.0):
    """Differentiable gradient estimator of FP4 training (2025, arXiv 2501.17116).

    s = min(|2r|^(1/k - 1) / k, clamp), the clamp at r = 0. Verdict: covered, alpha = 0.359.
    """
    x = jnp.maximum(jnp.abs(2 * r), jnp.finfo(jnp.float32).tiny)
    return jnp.minimum(x ** (1 / k - 1) / k, clamp)


@_entry(clip=RECIPROCAL, integral=lambda bits: closed_forms.identity())
def mad(r):
    """Magnitude-aware differentiation (Sakr et al. 2022, arXiv 2206.06501).

    s = 1 inside the range and R / |w| outside, where every other slope is 0. Verdict: covered,
    alpha = 1 and M(w) = sgn(w) (R^2 + w^2) / (2R) outside; its twins pass gradients outside too.
    """
    return jnp.ones_like(r)


@_entry(d=Interval(0, 2, low_included=True))
def ewgs(r, *, gradient, d=0.2):
    """Element-wise gradient scaling (Lee et al. 2021, arXiv 2104.00903).

    s = 1 + d sign(g) e, e the offset from the nearest value. Verdict: not covered, s depends on
    the incoming gradient g.
    """
    e = jnp.where(r < 0, r + 0.5, r - 0.5)
    return 1 + d * jnp.sign(gradient) * e


@_entry()
def ede(r, *, progress):
    """Error decay estimator (IR-Net, Qin et al. 2020, arXiv 1909.10788).

    s = k t (1 - tanh^2(t x)), x = 2r, t = 0.1 * 100^p, k = max(1/t, 1), p the progress.
    Verdict: not covered, s changes with time.
    """
    t = 0.1 * 100.0**progress
    return jnp.maximum(1 / t, 1) * t * _sech_squared(t * 2 * r)


@_entry(o_end=Interval(1, 100, low_included=True))
def reste(r, *, progress, o_end=3.0):
    """Rectified STE (ReSTE, Wu et al. 2023, arXiv 2308.06689).

    s = |x|^(1/o - 1) / o, x = 2r, o from 1 to o_end with the progress; for |x| <= 0.1 the finite
    difference 0.1^(1/o - 1). Verdict: not covered, s changes with time.
    """
    o = 1 + (o_end - 1) * progress
    x = jnp.abs(2 * r)
    return jnp.where(x <= 0.1, 0.1 ** (1 / o - 1), jnp.maximum(x, 0.1) ** (1 / o - 1) / o)


@_entry(b=Interval(0, _STEEPEST))
def swish_sign(r, *, b=5.0):
    """SignSwish (BNN+, Darabi et al. 2018, arXiv 1812.11800).

    s = b (2 - b x tanh(b x / 2)) / (1 + cosh(b x)), x = 2r. Verdict: not covered, s is negative
    for |b x| > 2.4.
    """
    x = b * 2 * r
    return b * (2 - x * jnp.tanh(x / 2)) / (1 + jnp.cosh(x))


def _sech_squared(x):
    """1 / cosh(x)^2 from one exponential, which cannot overflow."""
    e = jnp.exp(-2 * jnp.abs(x))
    return 4 * e / (1 + e) ** 2
