"""Which numbers of which run are not finite any more."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from qat import weights
from qat.lockstep.state import RunState, State

_LOSS = 'training loss'
_NAMED = 3  # layers of a run; the others are counted


def finite(state: State) -> dict[str, dict[str, jax.Array]]:
    """By run: whether its training loss is finite, and by layer whether all weights and the model's state are."""
    return {name: {_LOSS: jnp.isfinite(run.loss), **_layers(run)} for name, run in state.runs.items()}


def _layers(run: RunState) -> dict[str, jax.Array]:
    found = {}
    for tree in (run.params, run.model_state):
        for path, leaf in zip(weights.all_paths(tree), jax.tree.leaves(tree)):
            layer = path.rpartition('/')[0]
            found[layer] = found.get(layer, True) & jnp.isfinite(leaf).all()
    return found


def complaint(found: Mapping[str, Mapping[str, bool]], row: Mapping) -> str:
    """Run and layer of what is not finite, for people; '' where all is.

    Args:
      found: the result of `finite`, on the host.
      row: of metrics.jsonl at the same step, which has None where a number is not finite; empty without one.
    """
    words = []
    for run, parts in found.items():
        bad = [part for part, is_finite in parts.items() if not is_finite]
        more = f' and {len(bad) - _NAMED} more' if len(bad) > _NAMED else ''
        if bad:
            words.append(f'{run} ({", ".join(bad[:_NAMED])}{more})')
    if not words:
        words = [key for key in row if key.endswith(('eval/loss', 'eval_loss')) and row[key] is None]
    return ', '.join(words)
