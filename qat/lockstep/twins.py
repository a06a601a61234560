"""The twins of a reference run, as data: what each changes, and what it is compared through.

ste              STE with the recipe of its transfer class: the paper's claim
naive_ste        STE with nothing adjusted: what the recipe buys
map_ste          STE with M and alpha whatever the class: the wrong recipe, as a control
jitter           the same estimator, learning rate x 1.01: a change nobody cares about, the yardstick
reshuffle        the same estimator, another order of the same data: what the order does to weights and outcome
self             the same everything: any difference is a broken lockstep
ste_activations  the same on the weights, STE on the activations, where the reference has another estimator there
"""

import dataclasses
from collections.abc import Iterable, Mapping

from qat import calls
from qat.estimators import Estimator, ste_with_clip_of
from qat.theory.coverage import NotCovered
from qat.theory.recipe import UNCHANGED, Recipe, recipe
from qat.theory.weight_map import alpha
from qat.transfer import Transfer

REFERENCE = 'reference'
JITTER = 1.01


@dataclasses.dataclass(frozen=True)
class Twin:
    """What distinguishes a run from the reference, for one quantized weight.

    Attributes:
      estimator: its gradient estimator.
      learning_rate_factor: on the learning rate of every parameter.
      recipe: a further factor on the learning rate of this weight, and whether it starts from M(w0). Where it does, the
        reference is compared through M.
      reshuffled: whether it trains on the same data in another order.
      ste_on_activations: whether its activations are rounded with STE, whatever those of the reference are.
    """

    estimator: Estimator
    learning_rate_factor: float = 1.0
    recipe: Recipe = UNCHANGED
    reshuffled: bool = False
    ste_on_activations: bool = False


def _ste(reference: Estimator, transfer: Transfer) -> Twin:
    return _with(reference, recipe(reference, transfer))


def _with(reference: Estimator, changes: Recipe) -> Twin:
    return Twin(changes.twin(reference), recipe=changes)


TWINS = {
    'ste': _ste,
    'naive_ste': lambda reference, transfer: Twin(ste_with_clip_of(reference)),
    'map_ste': lambda reference, transfer: _with(reference, Recipe(alpha(reference), True)),
    'jitter': lambda reference, transfer: Twin(reference, learning_rate_factor=JITTER),
    'reshuffle': lambda reference, transfer: Twin(reference, reshuffled=True),
    'self': lambda reference, transfer: Twin(reference),
    'ste_activations': lambda reference, transfer: Twin(reference, ste_on_activations=True),
}
NAMES = tuple(TWINS)


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names of twins as they are.

    Raises:
      ValueError: an unknown or repeated name.
    """
    names = tuple(names)
    for name in names:
        if name not in TWINS:
            raise ValueError(calls.unknown('twin', name, TWINS))
        if names.count(name) > 1:
            raise ValueError(f'{name!r} is listed twice')
    return names


def not_ste(activations: Estimator | None) -> bool:
    """Whether activations are rounded with another estimator than STE; None: they are not rounded."""
    return activations is not None and activations != ste_with_clip_of(activations)


def check_activations(names: Iterable[str], activations: Estimator | None) -> None:
    """Refuses the twin `ste_activations` where it would be the reference.

    Raises:
      ValueError: activations are not rounded, or with STE.
    """
    if 'ste_activations' in names and not not_ste(activations):
        found = 'not quantized' if activations is None else 'rounded with ste already'
        raise ValueError(f"'ste_activations' is refused, the activations are {found}; leave it out of twins")


def twins(names: Iterable[str], reference: Estimator, transfer: Transfer) -> dict[str, Twin]:
    """The twins of these names, for an estimator under an optimizer of this transfer class, in their order.

    Raises:
      ValueError: an unknown or repeated name.
      NotCovered: a twin that asks for a recipe where none is known, with the reason.
    """
    names, made = check_names(names), {}
    for name in names:
        try:
            made[name] = TWINS[name](reference, transfer)
        except NotCovered as error:
            instead = dict.fromkeys(('naive_ste', *names))  # an STE at least to compare with
            rest = ','.join(other for other in instead if _is_possible(other, reference, transfer))
            raise NotCovered(f'{name!r} is refused, {error}; use twins={rest}') from None
    return made


def _is_possible(name: str, reference: Estimator, transfer: Transfer) -> bool:
    try:
        TWINS[name](reference, transfer)
    except NotCovered:
        return False
    return True


def computed_by(runs: Mapping[str, object]) -> dict[str, str]:
    """Which run computes each twin, by name: equal ones are computed once and listed twice."""
    return {name: next(other for other in runs if runs[other] == run) for name, run in runs.items()}
