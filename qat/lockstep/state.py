"""The data of a lockstep: what a run remembers, what all runs share, and what a step takes besides its batch."""

from typing import Any

import jax
import numpy as np
import optax
from flax import struct

from qat.lockstep.tracking import Tracking


@struct.dataclass
class RunState:
    """One run.

    Attributes:
      params: its weights, a tree.
      model_state: what the model remembers besides, such as the statistics of batch norms; a tree, perhaps empty.
      opt_state: its optimizer's.
      loss: its training losses, summed since the last `Moment.first`, float32.
    """

    params: Any
    model_state: Any
    opt_state: optax.OptState
    loss: jax.Array


@struct.dataclass
class State:
    """Everything that a checkpoint holds.

    Attributes:
      step: updates made so far, int32.
      ranges: R of every quantized weight by layer, shared by all runs: scalars, or shaped to broadcast.
      runs: by name, 'reference' and the twins that are computed.
      tracking: what is remembered of their trajectories.
    """

    step: jax.Array
    ranges: dict[str, jax.Array]
    runs: dict[str, RunState]
    tracking: Tracking


@struct.dataclass
class Moment:
    """What a step takes besides state and batch, so that one compiled step serves every schedule and length.

    Attributes:
      learning_rate: of the reference, a scalar; where the optimizer is an optax transformation, which has its own, a
        factor on it.
      progress: the fraction of the run that is done, a scalar in [0, 1], read by slopes that change with time.
      first: whether it is the first step since losses were recorded.
    """

    learning_rate: jax.Array = np.float32(1)
    progress: jax.Array = np.float32(0)
    first: jax.Array = np.bool_(True)
