"""What to try where a run cannot go on: told from what is there, the likeliest cause first."""

import contextlib

import jax
import numpy as np

from experiments.errors import UserError
from experiments.setup.settings import Settings

_LARGE_RATE = 1  # at which it is likelier the cause than what else there is
_LARGE_DECAY = 1
_LONGEST_REASON = 90  # characters


def on_not_finite(settings: Settings, step: int, doubt: str) -> str:
    """Returns what to try after numbers that are not finite.

    Args:
      settings: of the run.
      step: at which they were found.
      doubt: what the task says of the data, perhaps ''.
    """
    config, rate = settings.config, settings.peak_learning_rate
    if doubt:
        return doubt
    if step == 0:
        return f'nothing is trained yet, so look at the model ({config.model}) and at init_from'
    if np.float32(dict(settings.optimizer.parameters).get('eps', 1)) == 0 and rate < _LARGE_RATE:
        return f'{config.optimizer} divides 0 by 0 where a gradient is 0: try eps=1e-8'
    if config.weight_decay > _LARGE_DECAY and rate * config.weight_decay > 1:  # 1 - rate * decay overshoots 0
        return f'weight_decay={config.weight_decay:g} times the learning rate is above 1: try a smaller weight decay'
    return f'try a smaller learning rate than {rate:g}'


@contextlib.contextmanager
def where_memory_ends(settings: Settings):
    """Turns what jax and numpy raise where memory runs out into a UserError that says what to make smaller."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and 'RESOURCE_EXHAUSTED' not in str(error):
            raise
        reason = ' '.join(str(error).split())[:_LONGEST_REASON]
        count = len(settings.twins)
        twins = f'fewer than {count} twins (each is a model of its own), ' if count else ''
        raise UserError(
            f'out of memory ({reason}). Try, with another --workdir, a batch_size below {settings.config.batch_size}, '
            f'{twins}or a smaller model'
        ) from error
