"""The runs of a lockstep on validation examples: sums of metrics, and how often two runs predict the same."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import struct

from qat.lockstep.twins import REFERENCE


@struct.dataclass
class Examined:
    """What a model makes of a batch; every array has the shape of the batch's mask.

    Attributes:
      metrics: by name, float or bool; the same names for every run. Their means are what is reported.
      predictions: integers; equal ones are the same prediction.
      correct: bool, whether each is right.
    """

    metrics: dict[str, jax.Array]
    predictions: jax.Array
    correct: jax.Array


def compare(examined: Mapping[str, Examined], mask: jax.Array) -> dict:
    """Sums over the examples of a batch.

    Args:
      examined: by run.
      mask: (examples,) bool, False for padding; with more axes, what is counted is not examples but their parts, such
        as the tokens of a text.

    Returns:
      'examples', a scalar; 'metrics', by name and run; 'agreeing', 'both_wrong' and 'both_wrong_agreeing' by twin.
    """
    reference = examined[REFERENCE]
    sums = {
        'examples': jnp.sum(mask),
        'metrics': {
            name: {run: jnp.sum(jnp.where(mask, found.metrics[name], 0)) for run, found in examined.items()}
            for name in reference.metrics
        },
        'agreeing': {},
        'both_wrong': {},
        'both_wrong_agreeing': {},
    }
    for name, twin in examined.items():
        if name != REFERENCE:
            agreeing = mask & (twin.predictions == reference.predictions)
            wrong = mask & ~twin.correct & ~reference.correct
            sums['agreeing'][name] = jnp.sum(agreeing)
            sums['both_wrong'][name] = jnp.sum(wrong)
            sums['both_wrong_agreeing'][name] = jnp.sum(agreeing & wrong)
    return sums
