"""What is known of each metric where only some updates were saved: between snapshots, changes are unseen.

Exact: what depends on the first and the last snapshot alone. A path that is seen at fewer points is shorter, so that
the error over its length is too large; a weight that is seen to move has moved, and at least as often. Of sequences of
codes nothing follows, either way: a visit may be seen in one series and missed in the other, and one that goes
0 1 2 1 0 1 2 without an oscillation is seen at every other step as 0 2 0 2, with one.
"""

from experiments.comparison.series import Pair
from experiments.results.metrics import BY_CODE

LOWER, UPPER, SAMPLED = 'lower bound', 'upper bound', 'sampled'  # the last: true of the snapshots alone
_OF_ENDS = ('weight_alignment_error_displacement', 'changed_codes', 'changed_fraction')
_OF_THE_LAST = ('quantized_weight_agreement', *BY_CODE)
_BOUNDS = {
    'weight_alignment_error': UPPER,
    **dict.fromkeys(('path_length', 'moved_fraction', 'flips_reference', 'flips_twin'), LOWER),
    **dict.fromkeys(('never_flipped_reference', 'never_flipped_twin'), UPPER),
}


def certainty(metric: str, pair: Pair) -> bool | str:
    """Returns True where a metric is exact, or else LOWER, UPPER or SAMPLED."""
    if pair.is_every_update or metric in _OF_THE_LAST or (metric in _OF_ENDS and pair.from_start):
        return True
    return _BOUNDS.get(metric, SAMPLED)
