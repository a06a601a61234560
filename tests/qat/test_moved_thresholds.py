"""A slope that is not the same in every cell: STE on the same values with moved thresholds (docs/theory.md).

For a positive slope s of the weight, N(w) = c (integral of dx/s(x) from -R to w) - R with c such that N(R) = R maps the
estimator to STE at c times the learning rate, whose thresholds are N of the estimator's. Reference and STE are trained
by loops of this file, an MLP on noise, without lockstep; what is measured is how far N(w) and v end apart.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.results.statistics import order
from qat import estimators
from qat.estimators import fake_quantize
from qat.grids import GridQuantizer
from qat.quantizers import UniformQuantizer

LEVELS, THRESHOLDS = (-1.0, -1 / 3, 1 / 3, 1.0), (-2 / 3, 0.0, 2 / 3)
RATES, LENGTH, MOMENTUM, SEEDS = (0.04, 0.02, 0.01), 4.0, 0.9, 4
FINE = np.linspace(-1, 1, 200_001)


def slope(w):
    """Another one in each of the cells, and not symmetric."""
    return 0.6 + 0.3 * jnp.cos(6 * w + 0.5)


def moved(w):
    """N, by the trapezoidal rule."""
    inverse = 1 / np.asarray(slope(FINE), np.float64)
    integral = np.concatenate([[0], np.cumsum((inverse[1:] + inverse[:-1]) / 2)]) * (FINE[1] - FINE[0])
    return np.interp(w, FINE, 2 * integral / integral[-1] - 1)


FACTOR = 2 / np.trapezoid(1 / np.asarray(slope(FINE), np.float64), FINE)
GRID = GridQuantizer('moved', LEVELS, tuple(moved(THRESHOLDS)))
STE_MOVED, STE = (estimators.make('ste', quantizer) for quantizer in (GRID, UniformQuantizer(2)))


@jax.custom_vjp
def reference(w):
    return UniformQuantizer(2).quantize(w, jnp.float32(1))


reference.defvjp(lambda w: (reference(w), w), lambda w, g: (jnp.where(jnp.abs(w) <= 1, slope(w), 0) * g,))


def ste(estimator, w):
    return fake_quantize(estimator, w, jnp.float32(1), jnp.float32(0))


@functools.partial(jax.jit, static_argnums=(0, 4))
def trained(rounded, start, data, rate, steps: int):
    inputs, wanted = data

    def loss(weights):
        hidden = jnp.tanh(inputs @ rounded(weights[0]) / 4)
        return jnp.mean((hidden @ rounded(weights[1]) / 4 - wanted) ** 2)

    def step(carry, _):
        weights, velocity = carry
        velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, jax.grad(loss)(weights))
        return (jax.tree.map(lambda w, v: w - rate * v, weights, velocity), velocity), None

    return jax.lax.scan(step, (start, jax.tree.map(jnp.zeros_like, start)), length=steps)[0][0]


@functools.cache
def errors() -> dict[str, list[list[float]]]:
    """By twin: how far it ends from the reference over how far it went, (seeds, learning rates)."""
    found = {'moved': [], 'naive': []}
    for seed in range(SEEDS):
        random = np.random.default_rng(seed)
        start = tuple(jnp.float32(random.uniform(-1, 1, shape)) for shape in ((16, 24), (24, 8)))
        data = jnp.float32(random.normal(size=(64, 16))), jnp.float32(random.normal(size=(64, 8)))
        through = tuple(jnp.float32(moved(w)) for w in start)
        for twin in found:
            found[twin].append([])
        for rate in RATES:
            steps = round(LENGTH / rate)
            ends = [np.asarray(moved(w)) for w in trained(reference, start, data, rate, steps)]
            as_ste = trained(functools.partial(ste, STE_MOVED), through, data, rate * FACTOR, steps)
            as_it_is = trained(functools.partial(ste, STE), start, data, rate, steps)
            for twin, begun, run in (('moved', through, as_ste), ('naive', start, as_it_is)):
                apart = sum(np.abs(w - v).sum() for w, v in zip(ends, run))
                found[twin][-1].append(apart / sum(np.abs(v - w).sum() for w, v in zip(begun, run)))
    return found


def test_the_moved_thresholds_keep_every_code():
    w = np.random.default_rng(9).uniform(-1, 1, 20_000)
    clear = np.abs(w[:, None] - THRESHOLDS).min(axis=1) > 1e-5
    codes = GRID.codes(jnp.float32(moved(w)), jnp.float32(1)), UniformQuantizer(2).codes(jnp.float32(w), jnp.float32(1))
    assert np.array_equal(*(np.asarray(each)[clear] for each in codes))
    assert np.abs(np.subtract(GRID.thresholds, THRESHOLDS)).max() > 0.1


def test_ste_with_moved_thresholds_follows_and_with_those_of_the_estimator_does_not():
    found = errors()
    assert order(RATES, found['moved']).low > 0.5
    assert order(RATES, found['naive']).high < 0.3
    assert np.mean(found['moved'], axis=0)[-1] < 0.2 * np.mean(found['naive'], axis=0)[-1]
