"""The recipe: what must change for STE to train like an estimator, by the transfer class of the optimizer."""

import dataclasses
import math

from qat.estimators import Estimator, ste_with_clip_of
from qat.theory.coverage import NotCovered, check_covered, conditions_that_fail
from qat.theory.sampling import extremes
from qat.theory.weight_map import alpha
from qat.transfer import Transfer


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What makes STE train like the estimator.

    Attributes:
      learning_rate_factor: on the learning rate of the quantized weights.
      remaps_initialization: whether they start from M(w0) instead of w0.
      pulled_back: what is computed from the estimator's weights that belong to STE's, see `Transfer`.
    """

    learning_rate_factor: float
    remaps_initialization: bool
    pulled_back: tuple[str, ...] = ()

    def twin(self, estimator: Estimator) -> Estimator:
        """The STE of this recipe for the estimator: outside the range it passes as far as M moves its reach."""
        return ste_with_clip_of(estimator, self.learning_rate_factor if self.remaps_initialization else 1.0)


UNCHANGED = Recipe(1.0, False)


def recipe(estimator: Estimator, transfer: Transfer) -> Recipe:
    """The recipe for an estimator under an optimizer of this transfer class.

    Raises:
      NotCovered: where no recipe is known.
    """
    if is_ste(estimator, transfer):
        return UNCHANGED
    if transfer.transfer_class == 'none':
        raise NotCovered(f'no recipe is known: {transfer.reason}')
    check_covered(estimator, transfer.transfer_class)
    moves = transfer.transfer_class == 'map'
    return Recipe(alpha(estimator) if moves else 1.0, moves, transfer.pulled_back)


def check_passes_alike(one: Estimator, other: Estimator, transfer: Transfer) -> None:
    """Refuses two estimators whose STE twins, which are to be one, pass gradients outside the range differently.

    Raises:
      NotCovered: they do, or one of the two has no recipe.
    """
    if one.clip.passes != other.clip.passes:
        raise NotCovered(f'only one of {one} and {other} passes gradients outside the range')
    twins = [recipe(estimator, transfer).twin(estimator) for estimator in (one, other)]
    reaches = [twin.clip.reach for twin in twins]
    if not math.isclose(*reaches, rel_tol=1e-6):
        raise NotCovered(
            f'outside the range STE in place of {one} passes gradients up to |w| = {reaches[0]:.4g} R, in place of '
            f'{other} up to {reaches[1]:.4g} R: they are no two forms of one training'
        )


def obstacles(estimator: Estimator, transfer: Transfer) -> list[str]:
    """Why there is no recipe, those of the estimator first; empty where there is one."""
    if is_ste(estimator, transfer):
        return []
    of_optimizer = [transfer.reason] if transfer.transfer_class == 'none' else []
    return [*conditions_that_fail(estimator, transfer.transfer_class), *of_optimizer]


def is_ste(estimator: Estimator, transfer: Transfer) -> bool:
    """Whether the slope is 1, or a constant that the optimizer, scale-free, does not see: STE, whatever the class."""
    changes = estimator.needs('gradient') or estimator.needs('progress')
    if changes or estimator.clip != ste_with_clip_of(estimator).clip:
        return False
    least, largest = extremes(estimator)
    scale_free = transfer.scale_free or (transfer.transfer_class == 'identity' and not transfer.pulled_back)
    return least == largest and (least == 1 or (largest > 0 and scale_free))
