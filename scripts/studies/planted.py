"""Slopes whose distance to STE is known: differences planted for a verdict to find."""

import jax.numpy as jnp

from qat import slopes


def constant(r, *, height=1.0):
    """STE with its learning rate on the quantized weights wrong by a factor: `naive_ste` lacks the height."""
    return jnp.full_like(r, height)


def dsq_of_alpha_1(r, *, k=6.5):
    """DSQ (Gong 2019, 1908.05033) at 2 bits over its alpha: `naive_ste` has the right learning rate and lacks M."""
    u = k / 3
    return slopes.dsq(r, bits=2, k=k) * (0.5 + jnp.sinh(2 * u) / (4 * u)) * jnp.tanh(u) / u
