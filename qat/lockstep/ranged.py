"""The quantized weights of a run with their ranges: what is stored, what they are rounded in, what the model reads.

Trained step sizes are parameters like others: they stand in a run's tree under the key `STEP_SIZES`, by layer.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from qat import weights
from qat.lockstep.plan import Plan, Run
from qat.policies import Begun
from qat.weights import STEP_SIZES


def begin(plan: Plan, params) -> tuple[object, weights.Weights]:
    """(the parameters of a run before its first step, the R of its quantized weights), from a model's parameters.

    Raises:
      ValueError: step sizes are to be trained, and the parameters are no dict, or have such a key.
    """
    begun = {
        layer: plan.policies[layer].begin(weight, plan.estimators[layer].quantizer)
        for layer, weight in weights.get(params, plan.paths).items()
    }
    params = weights.replace(params, plan.paths, {layer: each.weights for layer, each in begun.items()})
    step_sizes = {layer: each.step_size for layer, each in begun.items() if each.step_size is not None}
    if step_sizes:
        if not isinstance(params, Mapping) or STEP_SIZES in params:
            raise ValueError(f'to train step sizes the parameters must be a dict without the key {STEP_SIZES!r}')
        params = {**params, STEP_SIZES: step_sizes}
    return params, {layer: each.R for layer, each in begun.items()}


def of_model(params):
    """The parameters of a run without its step sizes."""
    if isinstance(params, Mapping) and STEP_SIZES in params:
        return {key: leaf for key, leaf in params.items() if key != STEP_SIZES}
    return params


def scales(params, ranges: weights.Weights) -> weights.Weights:
    """What has to be positive of a run before its first step, by layer: R, or the step size where that is trained."""
    return {**ranges, **params[STEP_SIZES]} if of_model(params) is not params else ranges


def current(plan: Plan, params, ranges: weights.Weights) -> weights.Weights:
    """The R in which a run's weights are rounded now; `ranges` are those of `begin`."""
    return {
        layer: plan.policies[layer].current(*each, plan.estimators[layer].quantizer)
        for layer, each in _begun(plan, params, ranges).items()
    }


def restarted(plan: Plan, params, ranges: weights.Weights) -> weights.Weights:
    """The R of `begin` for runs that begin with these parameters: a step size may have been trained before."""
    now = current(plan, params, ranges)
    return {layer: now[layer] if plan.policies[layer].learns else R for layer, R in ranges.items()}


def first(plan: Plan, layer: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """(weights before the first step, the R that `begin` found) -> the R in which they are rounded."""
    policy, quantizer = plan.policies[layer], plan.estimators[layer].quantizer
    return lambda weights, R: policy.current(weights, R, quantizer.step_size(R), quantizer)


def read(plan: Plan, run: Run, params, ranges: weights.Weights, progress: jax.Array | float):
    """The parameters as the model reads them, the quantized ones rounded."""
    with jax.named_scope('quantize'):
        rounded = {
            layer: plan.policies[layer].read(run.estimators[layer], each, jnp.float32(progress))
            for layer, each in _begun(plan, params, ranges).items()
        }
    return weights.replace(of_model(params), plan.paths, rounded)


def _begun(plan: Plan, params, ranges: weights.Weights) -> dict[str, Begun]:
    found, step_sizes = weights.get(params, plan.paths), {}
    if of_model(params) is not params:
        step_sizes = params[STEP_SIZES]
    return {layer: Begun(weight, ranges[layer], step_sizes.get(layer)) for layer, weight in found.items()}
