"""How cost grows: of tracking with weights and with steps, and of a step with devices."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from qat import estimators
from qat.lockstep.tracking import Followed, Tracker
from qat.lockstep.twins import REFERENCE
from scripts.measuring.programs import training
from scripts.measuring.session import Session, ratios
from scripts.measuring.workloads import BITS, CONVNET, ESTIMATOR

_WEIGHTS = (10**5, 10**6, 10**7)
_LATER = 2000  # steps


def tracked(weights: int, before: int = 0) -> Callable[[int], None]:
    """The tracking of a pair with so many weights, after so many steps; half the codes change in each."""
    ranges, quantizers = {'layer': jnp.float32(1)}, {'layer': estimators.parse(ESTIMATOR, BITS).quantizer}
    maps, first_ranges = {'ste': {'layer': lambda w, R: w}}, {'layer': lambda v, unit: unit}
    tracker = Tracker(quantizers, REFERENCE, maps, first_ranges, change_points=True)
    start = np.random.default_rng(0).uniform(-1, 1, weights).astype(np.float32)
    here, there = (
        {name: Followed({'layer': jnp.asarray(w)}, ranges) for name in (REFERENCE, 'ste')} for w in (start, start[::-1])
    )
    advance, turns = jax.jit(tracker.advance, donate_argnums=0), itertools.cycle([(here, there), (there, here)])
    tracking, counted = jax.jit(tracker.begin)(here), itertools.count(1)

    def run(steps):
        nonlocal tracking
        for _ in range(steps):
            tracking = advance(tracking, *next(turns), ranges, jnp.int32(next(counted)))
        jax.block_until_ready(tracking)

    run(before)
    return run


def of_weights(session: Session) -> None:
    """Tracking a weight, among many against among few: O(weights) is 1, but few fit into a cache."""
    steps = session.steps
    for few, many in itertools.pairwise(_WEIGHTS[:2] if session.tiny else _WEIGHTS):
        what = f'tracking {many:.0e} weights / {many // few} x tracking {few:.0e}'
        of_many, of_few = tracked(many), tracked(few)
        # The same number of steps: more of the few would be dispatched while others run.
        found = ratios(lambda: of_many(steps), lambda: of_few(steps), session.rounds)  # noqa: B023
        session.add(f'growth-weights-{many:.0e}', what, [ratio * few / many for ratio in found])


def of_steps(session: Session) -> None:
    """Tracking late in a run against early."""
    late, early, steps = tracked(_WEIGHTS[0], before=_LATER), tracked(_WEIGHTS[0]), session.steps * 10
    what = f'tracking after {_LATER} steps / at the start'
    session.compare('growth-steps', what, lambda: late(steps), lambda: early(steps), limit=1.05)


def of_devices(session: Session) -> None:
    """A paired step on more devices against one; virtual devices of a CPU share its cores."""
    workload, steps, devices = session.sized(CONVNET), session.steps, jax.local_devices()
    one = training(workload)
    for count in itertools.takewhile(lambda n: n <= len(devices), (2, 4, 8)):
        split = training(workload, devices=devices[:count])
        what = f'paired step on {count} devices / on one, {workload.what}'
        session.compare(f'growth-devices-{count}', what, lambda: split(steps), lambda: one(steps))  # noqa: B023


BENCHMARKS = {
    'growth-weights': of_weights,
    'growth-steps': of_steps,
    'growth-devices': of_devices,
}
