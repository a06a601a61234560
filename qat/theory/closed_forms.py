"""Antiderivatives F(r) = integral of dx/s(x) from 0 to r, for the slopes s of the catalogue that have one.

r is an offset from a threshold in units of the step size, in [-1/2, 1/2]. All functions are elementwise; tests compare
each with quadrature.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Antiderivative:
    """F and its inverse, elementwise; `inverse` is None where it has no closed form."""

    value: Callable
    inverse: Callable | None = None


def identity() -> Antiderivative:
    """s = 1: F(r) = r."""
    return Antiderivative(lambda r: r, lambda y: y)


def sech_squared(u: float) -> Antiderivative:
    """s = (u / tanh u) sech^2(2 u r). As cosh^2 x = (1 + cosh 2x) / 2, F = (tanh u / u) (r/2 + sinh(4 u r) / (8 u))."""
    return Antiderivative(lambda r: jnp.tanh(u) / u * (r / 2 + jnp.sinh(4 * u * r) / (8 * u)))


def sine(lam: float) -> Antiderivative:
    """s = 1 + lam cos(2 pi r). With t = tan(pi r), dr = dt / (pi (1 + t^2)), the integrand becomes a multiple of
    1 / (1 + q^2 t^2), q^2 = (1 - lam) / (1 + lam), so F = arctan(q t) / (pi sqrt(1 - lam^2))."""
    ratio, root = np.sqrt((1 - lam) / (1 + lam)), np.sqrt(1 - lam**2)
    return Antiderivative(
        lambda r: jnp.arctan2(ratio * jnp.sin(jnp.pi * r), jnp.cos(jnp.pi * r)) / (jnp.pi * root),
        lambda y: jnp.arctan2(jnp.sin(jnp.pi * root * y), ratio * jnp.cos(jnp.pi * root * y)) / jnp.pi,
    )


def rdfs_amplitude(A):
    """c = sqrt(2) pi A of the RDFS slope (1 - c sin(pi |r|)) / (1 + c sin(pi |r|)); below 1 for A < 0.2251."""
    return jnp.sqrt(2.0) * jnp.pi * A


def rdfs(A: float) -> Antiderivative:
    """1/s = 2 / (1 - c sin(pi |r|)) - 1. With t = tan(pi |r| / 2) the first term is a quadratic's reciprocal:
    F = sgn(r) (4 / (pi q) arctan(q t / (1 - c t)) - |r|), q = sqrt(1 - c^2)."""

    def value(r):
        c = rdfs_amplitude(A)
        q = jnp.sqrt(1 - c**2)
        t = jnp.tan(jnp.pi / 2 * jnp.abs(r))
        return jnp.sign(r) * (4 / (jnp.pi * q) * jnp.arctan2(q * t, 1 - c * t) - jnp.abs(r))

    return Antiderivative(value)


def dge(k: float, clamp: float) -> Antiderivative:
    """s = min(x^(1/k - 1) / k, clamp), x = |2r|: 1/clamp up to the knee, where the power falls below the clamp, and
    beyond it k x^(1 - 1/k), whose integral over x is k / p x^p, p = 2 - 1/k."""
    p = 2 - 1 / k
    knee = float(clamp < 1) if k == 1 else float(min(1, (k * clamp) ** (k / (1 - k))))

    def value(r):
        x = jnp.abs(2 * r)
        beyond = k / p * (jnp.maximum(x, knee) ** p - knee**p)
        return jnp.sign(r) / 2 * (jnp.minimum(x, knee) / clamp + beyond)

    def inverse(y):
        z = jnp.abs(2 * y)
        beyond = (jnp.maximum(z - knee / clamp, 0) * p / k + knee**p) ** (1 / p)
        return jnp.sign(y) / 2 * jnp.where(z <= knee / clamp, z * clamp, beyond)

    return Antiderivative(value, inverse)
