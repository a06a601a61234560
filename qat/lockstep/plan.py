"""What every run of a lockstep does, once the parameter tree is known."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax

from qat import weights
from qat.estimators import Estimator, ste_with_clip_of
from qat.lockstep import twins
from qat.lockstep.spec import Spec
from qat.lockstep.twins import REFERENCE, Twin
from qat.policies import RangePolicy
from qat.theory.pull_back import PullBack
from qat.theory.weight_map import WeightMap
from qat.transfer import Transfer, in_setting


@dataclasses.dataclass(frozen=True)
class Run:
    """How one run is updated; every mapping is by layer.

    Attributes:
      estimators: what the quantized weights are rounded with: the run's, or STE where the slope multiplies the output.
      output_slopes: the estimators that multiply the optimizer's output; empty under placement 'gradient'.
      weight_factors: on the updates of the quantized weights.
      learning_rate_factor: on the learning rate of every parameter.
      maps: what the reference's initial weights go through to become the run's, (w, R) -> w.
      pull_backs: of the weights of a run whose recipe, or whose spec, pulls something back.
      reshuffled: whether it trains on the batch of another order.
      activations: what the inputs of the layers whose kernels are quantized are rounded with; None: nothing.
    """

    estimators: Mapping[str, Estimator]
    output_slopes: Mapping[str, Estimator]
    weight_factors: Mapping[str, float]
    learning_rate_factor: float
    maps: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]]
    pull_backs: Mapping[str, PullBack]
    reshuffled: bool
    activations: Estimator | None


@dataclasses.dataclass(frozen=True)
class Plan:
    """A spec made for one structure of parameters.

    Attributes:
      paths: of the quantized weights, by layer.
      estimators: the reference's, by layer.
      policies: of the ranges, by layer.
      transfer: the optimizer's class, and why.
      runs: by name, the reference first, then the twins that are computed.
      computed_by: by listed twin, the run that computes it.
    """

    paths: weights.Paths
    estimators: Mapping[str, Estimator]
    policies: Mapping[str, RangePolicy]
    transfer: Transfer
    runs: Mapping[str, Run]
    computed_by: Mapping[str, str]


def make(spec: Spec, params) -> Plan:
    """The plan of a spec for a parameter tree (of arrays or shapes).

    Raises:
      ValueError: no weight is quantized, or a twin that has no recipe.
    """
    paths = weights.select(params, spec.quantized)
    estimators = {layer: spec.estimator(path) for layer, path in paths.items()}
    policies = {layer: spec.range_policy(spec.range_rule(path)) for layer, path in paths.items()}
    transfer = Transfer('none', 'nothing is quantized')
    if paths:
        transfer = spec.optimizer.transfer(spec.placement, params, tuple(paths.values()))
    transfer = in_setting(transfer, spec.placement, clips=bool(spec.clip_norm), why_moving=spec.range_policy.why_moving)
    if spec.placement == 'update' and any(estimator.needs('gradient') for estimator in estimators.values()):
        raise ValueError("an estimator that depends on the incoming gradient needs placement 'gradient'")
    # By run and layer. Layers with one estimator share its twins.
    of_estimator = {each: twins.twins(spec.twins, each, transfer) for each in dict.fromkeys(estimators.values())}
    listed = {name: {layer: of_estimator[each][name] for layer, each in estimators.items()} for name in spec.twins}
    computed_by = twins.computed_by(listed)
    computed = {REFERENCE: {layer: Twin(each) for layer, each in estimators.items()}}
    computed |= {name: listed[name] for name in dict.fromkeys(computed_by.values())}
    runs = {name: _run(spec, transfer, by_layer, estimators) for name, by_layer in computed.items()}
    return Plan(paths, estimators, policies, transfer, runs, computed_by)


def _run(spec: Spec, transfer: Transfer, by_layer: Mapping[str, Twin], reference: Mapping[str, Estimator]) -> Run:
    update = spec.placement == 'update'
    of_layers = {(twin.learning_rate_factor, twin.reshuffled, twin.ste_on_activations) for twin in by_layer.values()}
    # The same for all layers; in full precision there are none.
    ((learning_rate_factor, reshuffled, ste_on_activations),) = of_layers or {(1.0, False, False)}
    return Run(
        estimators={
            layer: ste_with_clip_of(twin.estimator) if update else twin.estimator for layer, twin in by_layer.items()
        },
        output_slopes={layer: twin.estimator for layer, twin in by_layer.items()} if update else {},
        weight_factors={
            layer: spec.kernel_learning_rate_factor * twin.recipe.learning_rate_factor
            for layer, twin in by_layer.items()
        },
        learning_rate_factor=learning_rate_factor,
        maps={
            layer: _weight_map(reference[layer]) if twin.recipe.remaps_initialization else _no_map
            for layer, twin in by_layer.items()
        },
        pull_backs=_pull_backs(spec, transfer, by_layer, reference),
        reshuffled=reshuffled,
        activations=ste_with_clip_of(spec.activations) if ste_on_activations else spec.activations,
    )


def _pull_backs(spec: Spec, transfer: Transfer, by_layer, reference) -> dict[str, PullBack]:
    """Those of a twin's recipe; or those that the spec asks of all runs, where something is to be pulled back."""
    pulled_back = {}
    for layer, twin in by_layer.items():
        what, source = twin.recipe.pulled_back, reference[layer]
        if spec.pull_back is not None and not what:
            what, source = transfer.pulled_back, spec.pull_back
        if what:
            weight_map = _weight_map(source) if transfer.transfer_class == 'map' else None
            pulled_back[layer] = PullBack(source, weight_map, what)
    return pulled_back


_weight_map = functools.lru_cache(maxsize=64)(WeightMap)


def _no_map(weights: jax.Array, R: jax.Array) -> jax.Array:
    """The identity, for twins that start where the reference starts."""
    return weights
