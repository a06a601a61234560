"""What other packages give elsewhere, for a machine without them: scikit-learn's digits, and a config's schedule."""

import pathlib

import numpy as np
import optax

from experiments.data.arrays import SPLITS, ArrayBatches, Arrays
from qat.lockstep.state import Moment

_DIGITS = pathlib.Path(__file__).with_name('digits.npz')
_TRAINING_DIGITS, _WARMUP = 1500, 0.02  # images; of the steps


def digits() -> Arrays:
    """scikit-learn's handwritten digits in the order and split of `experiments.data.arrays.digits`."""
    with np.load(_DIGITS, allow_pickle=False) as file:
        images, labels = file['images'][..., None].astype(np.float32) / np.float32(16), file['labels'].astype(np.int32)
    halves = slice(None, _TRAINING_DIGITS), slice(_TRAINING_DIGITS, None)
    split = [dict(zip(SPLITS, (array[half] for half in halves))) for array in (images, labels)]
    return Arrays(*split, reshuffle=False)


def digits_batches() -> ArrayBatches:
    """The batches of configs/digits.py."""
    return ArrayBatches(digits(), seed=0, batch_size=100)


def moments(peak: float, steps: int) -> list[Moment]:
    """What every step of a run takes, as configs/common.py has it: linear warm-up, then cosine to 0."""
    warmup = round(_WARMUP * steps)
    schedule = optax.warmup_cosine_decay_schedule(0 if warmup else peak, peak, warmup, max(steps, warmup + 1))
    rates = np.asarray(schedule(np.arange(steps)), np.float32)
    return [Moment(rate, np.float32(step / steps), np.bool_(step == 0)) for step, rate in enumerate(rates)]
