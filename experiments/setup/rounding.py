"""What a config says of rounding: quantizer, range, clip rule, and the estimators that stand in for its derivative."""

from experiments.errors import UserError, blame
from experiments.setup import users
from qat import calls, estimators, policies, ranges
from qat.estimators import Estimator
from qat.grids import QUANTIZERS
from qat.quantizers import MidTreadQuantizer

UNIFORM = 'uniform'  # the quantizer of `bits`
_EVERY_WEIGHT = 'block_max_abs'  # the rule that gives every weight an R
_OF_THE_SHAPE = 'he_uniform'  # the one that reads no weight


def check(config) -> None:
    """Refuses a quantizer, a range, a range policy or a clip rule that does not exist.

    Raises:
      UserError: with the key.
    """
    if config.quantizer not in (UNIFORM, *QUANTIZERS):
        raise UserError(f'quantizer: {calls.unknown("quantizer", config.quantizer, [UNIFORM, *QUANTIZERS])}')
    with blame('bits'):
        made = estimators.make('ste', config.bits)
    with blame('range'):
        ranges.rule(config.range)
    with blame('range_policy'):
        policy, rule = policies.policy(config.range_policy), calls.parse(config.range)[0]
        if policy.learns and rule == _EVERY_WEIGHT:
            raise ValueError(f'{config.range_policy} trains a step size a layer or a channel, {config.range} has more')
        if policy is policies.Dynamic and rule == _OF_THE_SHAPE:
            raise ValueError(f'{rule} reads only the shape of a weight, it never moves; try --config.range=max_abs')
    with blame('clip_rule'):
        made.with_clip(config.clip_rule)


def estimator(text: str, config) -> Estimator:
    """The estimator of a call, on the quantizer and with the clip rule of a config.

    Raises:
      ValueError: there is none, or not on this quantizer.
    """
    grid = config.bits if config.quantizer == UNIFORM else config.quantizer
    return on_grid(text, grid).with_clip(config.clip_rule)


def activations(config) -> Estimator | None:
    """What rounds activations; None where nothing does, as in full precision.

    Raises:
      UserError: there is no such quantizer or estimator, or an estimator that would not be used.
    """
    if config.activation_bits == 0 and config.activation_estimator != 'ste':
        raise UserError(
            f'activation_estimator: {config.activation_estimator} would not be used: no activations are quantized, '
            'activation_bits is 0. Try --config.activation_bits=8'
        )
    if config.activation_bits == 0 or config.quantized == 'none':
        return None
    with blame('activation_bits'):
        quantizer = MidTreadQuantizer(config.activation_bits)
    with blame('activation_estimator'):
        return on_grid(config.activation_estimator, quantizer.name)


def on_grid(text: str, grid: int | str) -> Estimator:
    """The estimator of a call, for a quantizer of so many bits or of a name.

    Raises:
      ValueError: there is none.
    """
    file, colon, call = text.partition(':')
    return users.load_estimator(file, call, grid) if colon else estimators.parse(text, grid)


def as_written(text: str, made: Estimator) -> str:
    """The call with every argument, behind the file that it is of."""
    file, colon, _ = text.partition(':')
    return f'{file}:{made}' if colon else str(made)


def range_policy(config) -> policies.RangePolicy:
    """The range policy with its rule."""
    return policies.policy(config.range_policy)(ranges.rule(config.range))


def in_words(config, made: Estimator) -> str:
    """What an estimator rounds and how, as the rest of a sentence that names it."""
    on = f' at {config.bits} bits' if config.quantizer == UNIFORM else f' on the values of {made.quantizer.name}'
    rule = f', clip rule {config.clip_rule}' if config.clip_rule else ''
    return f'{on}{rule}, range {config.range_policy} from {config.range}'
