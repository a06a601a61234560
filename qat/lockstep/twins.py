"""The twins of a reference run, as data: what each changes, and what it is compared through.

ste        STE with the recipe of its transfer class: the paper's claim
naive_ste  STE with nothing adjusted: what the recipe buys
map_ste    STE with M and alpha whatever the class: the wrong recipe, as a control
jitter     the same estimator, learning rate x 1.01: a change nobody cares about, the yardstick
self       the same everything: any difference is a broken lockstep
"""

import dataclasses

from qat import calls
from qat.equivalence import UNCHANGED, NotCovered, Recipe, alpha, recipe
from qat.estimators import Estimator, ste_with_clip_of
from qat.optimizers import Transfer

NAMES = ('ste', 'naive_ste', 'map_ste', 'jitter', 'self')
JITTER = 1.01


@dataclasses.dataclass(frozen=True)
class Twin:
    """What distinguishes a run from the reference.

    Attributes:
      estimator: its gradient estimator.
      learning_rate_factor: on the learning rate of every parameter.
      recipe: on the quantized kernels: a further factor, and the start from M(w0). Where the
        start is remapped, the reference is compared through M.
    """

    estimator: Estimator
    learning_rate_factor: float = 1.0
    recipe: Recipe = UNCHANGED


def twin(name: str, reference: Estimator, transfer: Transfer) -> Twin:
    """The twin of this name, for an estimator under an optimizer of this transfer class.

    Raises:
      NotCovered: where it asks for a recipe and none is known.
    """
    ste = ste_with_clip_of(reference)
    match name:
        case 'ste':
            return Twin(ste, recipe=recipe(reference, transfer.transfer_class, transfer.reason))
        case 'naive_ste':
            return Twin(ste)
        case 'map_ste':
            return Twin(ste, recipe=Recipe(alpha(reference), True))
        case 'jitter':
            return Twin(reference, learning_rate_factor=JITTER)
        case 'self':
            return Twin(reference)
    raise ValueError(calls.unknown('twin', name, NAMES))


def twins(text: str, reference: Estimator, transfer: Transfer) -> dict[str, Twin]:
    """The twins named in a comma-separated list, in its order.

    Raises:
      ValueError: an unknown or repeated name, or a twin without a recipe, with the reason.
    """
    listed = [name.strip() for name in text.split(',') if name.strip()]
    for name in listed:
        if listed.count(name) > 1:
            raise ValueError(f'{name!r} is listed twice')
    made = {}
    for name in listed:
        try:
            made[name] = twin(name, reference, transfer)
        except NotCovered as error:
            rest = ','.join(other for other in listed if other not in ('ste', 'map_ste')) or 'naive_ste'
            raise ValueError(f'{name!r} is refused, {error}; use --config.twins={rest}') from None
    return made


def computed_by(twins: dict[str, Twin]) -> dict[str, str]:
    """Which run computes each twin: equal ones are computed once and listed twice."""
    return {name: next(other for other in twins if twins[other] == spec) for name, spec in twins.items()}
