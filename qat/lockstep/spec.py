"""What is compared with what, as a user asks for it; the parameter tree is not known yet."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

from qat.activations import check_has_zero
from qat.estimators import Estimator, from_slope, parse
from qat.lockstep import twins
from qat.policies import Fixed, RangePolicy
from qat.ranges import RangeRule, rule
from qat.transfer import check_placement


@dataclasses.dataclass(frozen=True)
class Spec:
    """What is compared with what; frozen and hashable.

    Attributes:
      optimizer: of all runs: `build(learning_rate)` gives its optax transformation, `transfer(placement, params,
        paths)` its transfer class. `qat.optimizers.Optimizer`, or `qat.probe.Probed` around any optax transformation.
      quantized: the path of a leaf -> whether it is quantized; None: none is.
      estimator: the path of a quantized leaf -> the reference's estimator there, with its bits.
      range_rule: the path of a quantized leaf -> the rule of its range.
      range_policy: what becomes of a range in training, made from its rule.
      placement: 'gradient' (the slope multiplies the gradient) or 'update' (it multiplies the optimizer's output).
      twins: names, see `qat.lockstep.twins`.
      kernel_learning_rate_factor: on the learning rate of the quantized weights of every run.
      start: (w, R) -> w, what the quantized weights of every run go through first; None: nothing.
      clip_norm: what the global norm of the gradients is clipped to before the optimizer gets them; None: they are not.
      pull_back: the estimator from whose weights every run takes what its recipe pulls back; None: from none.
      activations: what rounds the inputs of the layers whose kernels are quantized, of every run; None: nothing.
      track_change_points: whether to remember what the codes went through, 19 bytes a weight and run.
    """

    optimizer: object
    quantized: Callable[[str], bool] | None
    estimator: Callable[[str], Estimator]
    range_rule: Callable[[str], RangeRule]
    range_policy: type[RangePolicy] = Fixed
    placement: str = 'gradient'
    twins: tuple[str, ...] = ('ste', 'naive_ste', 'jitter', 'self')
    kernel_learning_rate_factor: float = 1.0
    start: Callable | None = None
    clip_norm: float | None = None
    pull_back: Estimator | None = None
    activations: Estimator | None = None
    track_change_points: bool = True

    def __post_init__(self):
        check_placement(self.placement)
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise ValueError(f'clip_norm must be positive and finite, or None, got {self.clip_norm!r}')
        check_has_zero(self.activations)
        twins.check_activations(twins.check_names(self.twins), self.activations)


def estimators(
    estimator: str | Estimator | Callable, bits: int | str | Callable[[str], int | str] | None, clip_rule: str = ''
) -> Callable[[str], Estimator]:
    """The path of a weight -> its estimator, from what a user gives for both, with a clip rule; '': its own.

    Raises:
      ValueError: bits that are given twice or not at all, or an estimator that does not exist.
    """
    if not (isinstance(estimator, str) or callable(estimator)):
        raise ValueError(f"the estimator must be a call, as in 'dsq(k=6.5)', or a slope, not {estimator!r}")
    if isinstance(estimator, Estimator):
        if bits is not None:
            raise ValueError(f'bits are given twice: {estimator} has {estimator.bits} already; leave them out')
        clipped = estimator.with_clip(clip_rule)
        return lambda path: clipped
    if bits is None:
        raise ValueError(f'give the bits of the quantizer, as in bits=2, with the estimator {estimator!r}')
    make = parse if isinstance(estimator, str) else from_slope
    made = functools.lru_cache(maxsize=None)(lambda bits: make(estimator, bits).with_clip(clip_rule))
    if callable(bits):
        return lambda path: made(bits(path))
    made(bits)  # refuses now what does not exist
    return lambda path: made(bits)


def range_rules(ranges: str | RangeRule | Mapping[str, str | RangeRule]) -> Callable[[str], RangeRule]:
    """The path of a weight -> the rule of its range, from a name, a rule, or a mapping of paths to either.

    Raises:
      ValueError: a name of none; when it is asked, a path that the mapping lacks.
    """
    if isinstance(ranges, Mapping):
        rules = {path: _range_rule(given) for path, given in ranges.items()}

        def of_path(path: str) -> RangeRule:
            if path not in rules:
                raise ValueError(f'ranges says nothing of the quantized weight {path!r}')
            return rules[path]

        return of_path
    of_all = _range_rule(ranges)
    return lambda path: of_all


def _range_rule(given: str | RangeRule) -> RangeRule:
    if callable(given):
        return given
    return rule(str(given))
