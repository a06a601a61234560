"""The paper's small experiment at its full length (arXiv 2405.05171, section 5), many seeds in one program."""

import collections
import dataclasses
import time

import jax
import numpy as np

from experiments.data import npz
from experiments.data.arrays import SPLITS, ArrayBatches, Arrays, permutation
from experiments.data.transforms import scaled
from qat.lockstep.state import State
from qat.lockstep.twins import REFERENCE
from scripts.accelerating.stand_ins import moments
from scripts.measuring.session import Session, halving
from scripts.measuring.workloads import CONVNET, SGD, TWINS

# configs/mnist.py: optimizer and peak learning rate.
RATES = {'sgd': (SGD, 1e-3), 'adam': ('adam(b2=0.95)', 1e-4)}
EPOCHS, STEPS_PER_EPOCH, SEEDS = 25, 100, 16
_ERROR = 'weight_alignment_error'
_EVALUATED = 1000  # validation images at a time
_SECONDS = 60  # that one of the two may take; never found out yet


def paper(session: Session) -> None:
    """SGD and Adam, on the arrays of the session's data."""
    arrays = npz.read(str(session.data)) if session.data else _noise()
    for name, (optimizer, peak) in RATES.items():
        if session.fits(f'paper-{name}', 5 if session.tiny else _SECONDS):
            halving(2 if session.tiny else SEEDS, Experiment(session, arrays, name, optimizer, peak).run)


class Experiment:
    """One optimizer."""

    def __init__(self, session: Session, arrays: Arrays, name: str, optimizer: str, peak: float):
        self.session, self.name, self.peak, self.arrays = session, name, peak, arrays
        workload = dataclasses.replace(CONVNET, image_shape=arrays.images['train'].shape[1:])
        self.task = workload.task(axis_name=None)
        self.lockstep = workload.lockstep(TWINS, optimizer=optimizer, axis_name=None)
        self.batch = 8 if session.tiny else workload.batch_size
        self._evaluate = jax.jit(lambda state, batch: self.lockstep.evaluate(self.task.examine, state, batch))
        self.epochs, self.steps = (1, 2) if session.tiny else (EPOCHS, STEPS_PER_EPOCH)

    def run(self, seeds: int) -> None:
        """Trains and records the errors of all twins, a sample a seed, and the accuracies."""
        start = time.perf_counter()
        states = self._trained(seeds)
        spent = time.perf_counter() - start
        take = jax.jit(lambda states, seed: jax.tree.map(lambda leaf: leaf[seed], states))  # compiled once for all
        of_seeds = [take(states, seed) for seed in range(seeds)]
        said = f'{self.name}, {self.epochs} epochs of {self.steps} steps of {self.batch} images, {seeds} seeds'
        summaries = [self.lockstep.summary(state) for state in of_seeds]
        for twin in TWINS:
            samples = [found[twin][_ERROR] for found in summaries]
            options = {'limit': 0, 'bound': 'exactly', 'required': True} if twin == 'self' else {}
            self.session.add(f'paper-{self.name}-{twin}', f'alignment error of {twin}, {said}', samples, **options)
        found = [self._accuracies(state) for state in of_seeds]
        for run in (REFERENCE, 'ste'):
            samples = [accuracies[run] for accuracies in found]
            self.session.add(f'paper-{self.name}-accuracy-{run}', f'validation accuracy of {run}, {said}', samples)
        rate = seeds * self.epochs * self.steps / spent
        what = f'steps a second of all seeds, compiling included, {said}'
        self.session.add(f'paper-{self.name}-speed', what, [rate], 'steps/s')

    def _trained(self, seeds: int) -> State:
        of_run = moments(self.peak, self.epochs * self.steps)
        images = jax.device_put(self.arrays.images['train'])
        labels = jax.device_put(self.arrays.labels['train'])

        def epoch(state, moments, rows):
            def step(state, given):
                moment, chosen = given
                batch = {'image': scaled(images[chosen]), 'label': labels[chosen]}
                return self.lockstep.step(state, batch, moment)[0], None

            return jax.lax.scan(step, state, (moments, rows))[0]

        compiled = jax.jit(jax.vmap(epoch, in_axes=(0, None, 0)), donate_argnums=0)
        init = jax.vmap(lambda seed: self.lockstep.init(*self.task.init(jax.random.key(seed))))
        states = jax.jit(init)(np.arange(seeds))
        for number in range(self.epochs):
            own = of_run[number * self.steps : (number + 1) * self.steps]
            rows = np.stack([self._rows(seed, number) for seed in range(seeds)])
            states = compiled(states, jax.tree.map(lambda *leaves: np.stack(leaves), *own), rows)
        return jax.block_until_ready(states)

    def _rows(self, seed: int, epoch: int) -> np.ndarray:
        """(steps, batch) rows of the data, the same that `experiments.data.arrays.ArrayBatches` takes."""
        order = permutation(seed, epoch, len(self.arrays.labels['train']))
        return order[: self.steps * self.batch].reshape(self.steps, self.batch)

    def _accuracies(self, state: State) -> dict[str, float]:
        right, images = collections.Counter(), len(self.arrays.labels['validation'])
        for batch in ArrayBatches(self.arrays, 0, min(images, _EVALUATED)).validation():
            right.update(jax.device_get(self._evaluate(state, batch)['metrics']['accuracy']))
        return {run: float(right[run]) / images for run in state.runs}


def _noise() -> Arrays:
    """What tiny sizes are tried with."""
    batch = dataclasses.replace(CONVNET.tiny(), batch_size=32, image_dtype=np.uint8).batch()
    return Arrays(*(dict.fromkeys(SPLITS, batch[key]) for key in ('image', 'label')))
