"""Transfer classes: how a slope passes through an optimizer, which decides what recipe an STE twin needs.

The class depends on optimizer, arguments, weight decay, clipping, range policy and placement together (arXiv
2405.05171, theorems 1 and 2, and what follows from their proofs; what reads the weights, such as weight decay, can be
pulled back, see `qat.theory.pull_back`):

  map       M on the initial weights, alpha on the learning rate of the quantized kernels;
  identity  nothing changes: coordinates are normalised, so a slope cancels;
  none      no recipe is known.

Placement `gradient` is the usual one: the slope multiplies the gradient. Placement `update`: the optimizer sees the
plain STE gradient and the slope multiplies the optimizer's output.
"""

import dataclasses

from qat import calls

PLACEMENTS = ('gradient', 'update')
WEIGHTS, DECAY, NORM = 'weights', 'decay', 'norm'  # what can be pulled back


@dataclasses.dataclass(frozen=True)
class Transfer:
    """How a slope passes through an optimizer.

    Attributes:
      transfer_class: 'map', 'identity' or 'none'.
      reason: why it is that one.
      scale_free: whether one factor on all gradients of a weight changes nothing, so that a constant slope is STE.
      pulled_back: what the STE twin of the recipe computes from the reference's weights, see `qat.theory.pull_back`:
        WEIGHTS: what its optimizer reads; DECAY: what is added to its gradients; NORM: what they are clipped by.
    """

    transfer_class: str
    reason: str
    scale_free: bool = False
    pulled_back: tuple[str, ...] = ()

    @property
    def adjusts(self) -> bool:
        """Whether a recipe of this class changes anything of STE's training."""
        return self.transfer_class == 'map' or bool(self.pulled_back)


def with_clipping(transfer: Transfer, placement: str) -> Transfer:
    """The transfer where gradients are clipped by their global norm before the optimizer gets them.

    SGD's steps follow the norm, and the twin takes that of s(w) g. So it does where a slope cancels: the factor changes
    from step to step within an optimizer's memory, and a coupled decay is added to what it leaves. Under placement
    'update' the gradients are STE's. For the same reason not even a constant slope cancels.
    """
    if placement == 'update':
        return transfer
    if transfer.transfer_class == 'none':
        return dataclasses.replace(transfer, scale_free=False)
    return dataclasses.replace(transfer, pulled_back=(*transfer.pulled_back, NORM))


def in_setting(transfer: Transfer, placement: str, *, clips: bool, why_moving: str) -> Transfer:
    """The transfer with all that bears on it: clipping, and why the range moves; '': it stays."""
    if clips:
        transfer = with_clipping(transfer, placement)
    return with_moving_range(transfer, why_moving) if why_moving else transfer


def with_moving_range(transfer: Transfer, why: str) -> Transfer:
    """The transfer where the range of the quantized weights moves with the latent weights; `why`: on what it depends.

    Two runs whose weights M keeps apart then round in two ranges. Where a slope cancels they have the same weights.
    """
    if transfer.transfer_class == 'map':
        return Transfer('none', why)
    return transfer


def check_placement(placement: str) -> None:
    """Refuses a placement that does not exist.

    Raises:
      ValueError: with those that do.
    """
    if placement not in PLACEMENTS:
        raise ValueError(calls.unknown('placement', placement, PLACEMENTS))
