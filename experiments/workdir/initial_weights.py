"""The weights that `init_from` names: those of a run of ours, or of a file from PyTorch."""

import os

import jax
import numpy as np

from experiments.errors import UserError
from experiments.workdir import pytorch
from experiments.workdir.checkpoints import read_weights
from qat.weights import STEP_SIZES


def read(init_from: str, like: tuple[dict, dict]) -> tuple[dict, dict]:
    """Returns the parameters and the model's state.

    Args:
      init_from: the workdir of a run, or a file.
      like: parameters and state of the model, arrays or their shapes.

    Raises:
      UserError: there are none, or they are of another architecture.
    """
    if os.path.isfile(init_from) or (init_from.endswith(pytorch.SUFFIX) and not os.path.isdir(init_from)):
        return pytorch.read(init_from, like)
    given = read_weights(init_from)
    if STEP_SIZES in given[0]:
        raise UserError(
            f'init_from: {init_from} trained step sizes beside its weights, which are not the same without them; name '
            'a run in full precision, or one with range_policy fixed or dynamic'
        )
    if jax.tree.map(np.shape, given) != jax.tree.map(np.shape, like):
        raise UserError(f'init_from: the weights of {init_from} are of another architecture')
    return given
