"""Around a run's optimizer: the gradients that it gets, the weights that it reads, and what becomes of its output.

Trees here are shaped like the parameters; ranges are R by layer.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from qat import weights
from qat.lockstep.plan import Plan, Run


def clipped(plan: Plan, run: Run, clip_norm: float | None, gradients, params, ranges: Mapping[str, jax.Array]):
    """The gradients, scaled down where the norm that counts is above `clip_norm`; None: as they are."""
    if clip_norm is None:
        return gradients
    own, kernels = weights.get(gradients, plan.paths), weights.get(params, plan.paths)
    measured = {
        layer: each.measured(own[layer], kernels[layer], ranges[layer]) for layer, each in run.pull_backs.items()
    }
    norm = optax.tree.norm(weights.replace(gradients, plan.paths, own | measured))
    factor = clip_norm / jnp.maximum(norm, clip_norm)
    return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), gradients)


def read(plan: Plan, run: Run, params, ranges: Mapping[str, jax.Array]):
    """What the optimizer of a run reads in the place of its parameters."""
    if not run.pull_backs:
        return params
    found = weights.get(params, plan.paths)
    found |= {layer: each.read(found[layer], ranges[layer]) for layer, each in run.pull_backs.items()}
    return weights.replace(params, plan.paths, found)


def adjusted(plan: Plan, run: Run, updates, params, ranges: Mapping[str, jax.Array], progress: jax.Array):
    """The optimizer's output, times the slope under placement 'update', times the recipe's factor."""
    found, kernels = weights.get(updates, plan.paths), weights.get(params, plan.paths)
    for layer, factor in run.weight_factors.items():
        if layer in run.output_slopes:
            found[layer] *= run.output_slopes[layer].at(kernels[layer], ranges[layer], progress=progress)
        found[layer] *= factor
    return weights.replace(updates, plan.paths, found)
