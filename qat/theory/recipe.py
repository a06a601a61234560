"""The recipe: what must change for STE to train like an estimator, by the transfer class of the optimizer."""

import dataclasses

from qat.calls import unknown
from qat.estimators import Estimator
from qat.optimizers import TRANSFER_CLASSES
from qat.theory.coverage import NotCovered, check_covered
from qat.theory.weight_map import alpha


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What makes STE train like the estimator.

    Attributes:
      learning_rate_factor: on the learning rate of the quantized weights.
      remaps_initialization: whether they start from M(w0) instead of w0.
    """

    learning_rate_factor: float
    remaps_initialization: bool


UNCHANGED = Recipe(1.0, False)


def recipe(estimator: Estimator, transfer_class: str, reason: str = '') -> Recipe:
    """The recipe for an estimator under an optimizer of this transfer class.

    Args:
      estimator: the one to replace.
      transfer_class: 'map', 'identity' or 'none', see `qat.optimizers`.
      reason: why the class is what it is, for the message.

    Raises:
      ValueError: no such transfer class.
      NotCovered: where no recipe is known.
    """
    if transfer_class not in TRANSFER_CLASSES:
        raise ValueError(unknown('transfer class', transfer_class, TRANSFER_CLASSES))
    if transfer_class == 'none':
        raise NotCovered(f'no recipe is known: {reason}')
    check_covered(estimator, transfer_class)
    return Recipe(alpha(estimator), True) if transfer_class == 'map' else UNCHANGED
