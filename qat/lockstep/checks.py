"""What a user of `Lockstep` may get wrong, told in a line before it ends in somebody else's traceback."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from qat.lockstep.state import State
from qat.optimizers import Optimizer


def arguments(optimizer, quantized, twins) -> None:
    """Refuses what is none of the kind that the constructor takes.

    Raises:
      ValueError: with what is wanted.
    """
    if quantized is None and twins:
        raise ValueError('with quantized=None there is nothing that twins could differ in: give twins=()')
    if not (quantized is None or callable(quantized)):
        raise ValueError(f'quantized must be a function, path -> whether it is quantized, not {quantized!r}')
    if not (isinstance(optimizer, Optimizer) or (hasattr(optimizer, 'init') and hasattr(optimizer, 'update'))):
        raise ValueError(f"optimizer must be one of optax or qat.optimizer('sgd'), not {optimizer!r}")
    if isinstance(twins, str):
        raise ValueError(f'twins must be several names, as in ({twins!r},), not a text')


def ranges(found: Mapping[str, jax.Array]) -> None:
    """Refuses ranges of size 0 or beyond float32, which make every weight NaN; what is being traced is let pass.

    Raises:
      ValueError: with the first such layer, how many of its channels have no range, and what to do.
    """
    for layer, R in found.items():
        if isinstance(R, jax.core.Tracer):
            continue
        R = np.asarray(R)  # each operation outside of a program would be compiled for itself
        bad = ~((R > 0) & np.isfinite(R))
        if bad.any():
            which, instead = '', 'he_uniform is no matter of the weights'
            if bad.size > 1:
                which = f' in {bad.sum()} of {bad.size} channels (dead or pruned?)'
                instead = 'with one range for the whole layer, max_abs or he_uniform, a channel may be 0'
            raise ValueError(
                f'the range of {layer!r} must be positive and finite, it is {R[bad][0]:.3g}{which}; {instead}'
            )


def one_state(state) -> None:
    """Refuses what is no state, or several at once.

    Raises:
      ValueError: with what it is.
    """
    if not isinstance(state, State):
        raise ValueError(f'the state must be that of `init` or of the step before, not {type(state).__name__}')
    if jnp.ndim(state.step):
        raise ValueError(
            f'a state with a leading axis of {jnp.shape(state.step)[0]}, of devices or seeds: take one of them, as in '
            'jax.tree.map(lambda leaf: leaf[0], state)'
        )


def reshuffled(plan, batch) -> None:
    """Refuses a twin `reshuffle` that gets no batch of its own.

    Raises:
      ValueError: with how to give it one.
    """
    if batch is None and any(run.reshuffled for run in plan.runs.values()):
        raise ValueError("the twin 'reshuffle' needs batches in another order: step(state, batch, reshuffled=other)")


def returned(found) -> tuple:
    """(loss, model state) as a loss returned them, where the loss is a scalar that has a gradient.

    Raises:
      ValueError: with what it is instead.
    """
    if not (isinstance(found, tuple) and len(found) == 2):
        raise ValueError('with has_state the loss must return (scalar, new model state)')
    loss, model_state = found
    if not jax.tree_util.all_leaves([loss]) or loss is None:
        raise ValueError(f'the loss must be a scalar, it is a {type(loss).__name__}; what else it returns is not kept')
    if jnp.shape(loss) != ():
        raise ValueError(f'the loss must be a scalar, it has shape {jnp.shape(loss)}')
    if not jnp.issubdtype(jnp.result_type(loss), jnp.floating):
        raise ValueError(f'the loss must be a real number, it is {jnp.result_type(loss)}')
    return loss, model_state
