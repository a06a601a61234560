"""What makes a recipe doubtful in this setting, as far as the state of a lockstep shows it."""

from collections.abc import Mapping

import optax

from qat import trajectory, weights
from qat.lockstep.plan import Plan
from qat.lockstep.state import State
from qat.lockstep.twins import REFERENCE
from qat.theory import small_parameters


def cautions(plan: Plan, optimizer, state: State, measured: Mapping) -> list[str]:
    """Sentences without their full stops; none where nothing is wrong.

    Args:
      plan: of the lockstep.
      optimizer: its optimizer.
      state: of the runs, on this process.
      measured: the sums of `Lockstep.measure`, on the host.
    """
    match plan.transfer.transfer_class:
        case 'map':
            said = _of_steps(plan, int(state.step), measured)
        case 'identity':
            said = [small_parameters.longer_numerator(optimizer), _of_eps(plan, optimizer, state)]
        case _:
            said = []
    return [sentence for sentence in said if sentence]


def _of_steps(plan: Plan, steps: int, measured: Mapping) -> list[str]:
    """Of the layer with the longest steps; `jitter` goes as far as the reference does."""
    layers = measured.get(plan.computed_by.get('jitter'), {})
    lengths = {layer: trajectory.summarize([sums])['path_length'] or 0.0 for layer, sums in layers.items()}
    said = [small_parameters.long_steps(plan.estimators[layer], lengths[layer] / max(steps, 1)) for layer in lengths]
    return sorted(filter(None, said))[-1:]


def _of_eps(plan: Plan, optimizer, state: State) -> str:
    arguments = dict(getattr(optimizer, 'parameters', ()))
    if 'eps' not in arguments or 'nu' not in optimizer.moments:
        return ''
    moments = weights.get(optax.tree_utils.tree_get(state.runs[REFERENCE].opt_state, 'nu'), plan.paths)
    return small_parameters.large_eps(arguments['eps'], small_parameters.share_with_eps(moments, arguments['eps']))
