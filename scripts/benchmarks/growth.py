"""How cost grows: of tracking with weights and with steps, of a step with twins and with devices."""

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from qat.lockstep.tracking import Tracker
from qat.lockstep.twins import REFERENCE
from scripts.benchmarks.programs import Program, repeated, training, under_jit
from scripts.benchmarks.rows import Effort, Row, ratios
from scripts.benchmarks.workloads import ALONE, CONVNET

WEIGHTS = (10**5, 10**6, 10**7)
_LATER = 2000  # steps
_TWINS = ('ste', 'ste,naive_ste', 'ste,naive_ste,jitter', 'ste,naive_ste,jitter,self')


def tracked(weights: int, steps: int, before: int = 0) -> Program:
    """The tracking of so many steps of a pair with so many weights, after others; half the codes change in each."""
    ranges, quantizers = {'layer': jnp.float32(1)}, {'layer': CONVNET.settings().estimator.quantizer}
    tracker = Tracker(quantizers, REFERENCE, {'ste': {'layer': lambda w, R: w}}, change_points=True)
    start = np.random.default_rng(0).uniform(-1, 1, weights).astype(np.float32)
    here, there = ({name: {'layer': jnp.asarray(w)} for name in (REFERENCE, 'ste')} for w in (start, start[::-1]))
    advance = jax.jit(tracker.advance, donate_argnums=0)
    turns = itertools.cycle([(here, there), (there, here)])

    def step(tracking):
        return advance(tracking, *next(turns), ranges)

    tracking = jax.jit(tracker.begin)(here, ranges)
    for _ in itertools.repeat(None, before):
        tracking = step(tracking)
    return repeated(step, tracking, steps)


def of_weights(effort: Effort) -> Iterator[Row]:
    """Tracking a weight, among many against among few: O(weights) is 1, but few fit into a cache."""
    for few, many in itertools.pairwise(WEIGHTS):
        samples = ratios(tracked(many, effort.steps), tracked(few, effort.steps), effort.rounds)
        what = f'tracking {many:.0e} weights / {many // few} x tracking {few:.0e}'
        yield Row(f'growth-weights-{many:.0e}', what, [sample * few / many for sample in samples])


def of_steps(effort: Effort) -> Iterator[Row]:
    """Tracking late in a run against early."""
    late, early = (tracked(WEIGHTS[0], effort.steps * 10, before) for before in (_LATER, 0))
    what = f'tracking after {_LATER} steps / at the start'
    yield Row('growth-steps', what, ratios(late, early, effort.rounds), limit=1.05)


def of_twins(effort: Effort) -> Iterator[Row]:
    """A step with more twins against a run alone, a run."""
    alone = training(CONVNET, effort.steps, **ALONE)
    for twins in _TWINS:
        runs = 1 + len(twins.split(','))
        samples = ratios(training(CONVNET, effort.steps, twins=twins), alone, effort.rounds)
        what = f'a step of {runs} runs in lockstep / {runs} x a run alone, {CONVNET.what}'
        yield Row(f'growth-twins-{runs}', what, [sample / runs for sample in samples])


def of_devices(effort: Effort) -> Iterator[Row]:
    """A paired step on more devices against one; virtual devices of a CPU share its cores."""
    one = under_jit(CONVNET, effort.steps, devices=1)
    for count in itertools.takewhile(lambda n: n <= jax.local_device_count(), (2, 4, 8)):
        samples = ratios(under_jit(CONVNET, effort.steps, devices=count), one, effort.rounds)
        yield Row(f'growth-devices-{count}', f'paired step on {count} devices / on one, {CONVNET.what}', samples)


BENCHMARKS = {
    'growth-weights': of_weights,
    'growth-steps': of_steps,
    'growth-twins': of_twins,
    'growth-devices': of_devices,
}
