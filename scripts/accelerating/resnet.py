"""ResNet-50 in bfloat16 on one chip: a bare step, a quantized run, pairs, four runs; speed, memory and compile time.

Every program trains on one batch of uint8 noise that is on the device already. Memory is what XLA lays out for a step,
which is known for every program by itself; what the allocator says is the most of all programs together.
"""

import dataclasses
import time
from collections.abc import Callable

import jax

from scripts.measuring.programs import Training, alone, plain, training, untracked
from scripts.measuring.session import Session, halving, out_of_memory, seconds
from scripts.measuring.tracing import profile
from scripts.measuring.workloads import IMAGENET, Workload

BATCH = 256  # images; halved until all but the four runs fit
OPERATIONS = 2.45e10  # of a training step, an image and run; see configs/imagenet_resnet50.py
_FIRST = 60  # seconds that the first program may take; never found out yet, and then measured


def resnet(session: Session) -> None:
    """All of it, at the largest batch up to `BATCH` that fits."""
    halving(_largest(session), lambda images: Measured(session, _workload(session, images)).all())


def profiled(session: Session) -> None:
    """Where the time of the pair goes, at the batch that `resnet` came to in an earlier process."""
    measured = session.record.figure('resnet-pair')
    largest = measured['details']['batch'] if measured else _largest(session)
    halving(largest, lambda images: profile(session, 'profile', _workload(session, images)))


def _largest(session: Session) -> int:
    return 4 if session.tiny else BATCH


def _workload(session: Session, images: int) -> Workload:
    return dataclasses.replace(session.sized(IMAGENET), batch_size=images)


class Measured:
    """The figures of one workload."""

    def __init__(self, session: Session, workload: Workload):
        self.session, self.workload = session, workload
        self.memory: dict[str, int] = {}  # bytes, by program
        self.seconds_a_program = 1 if session.tiny else _FIRST

    def all(self) -> None:
        """What a call is most worth comes first."""
        bare = self.program('plain', 'a single unquantized run', 1, plain)
        quantized = self.program('quantized', 'a single quantized run', 1, alone)
        if bare and quantized:
            self.ratio('quantized', 'a quantized step / an unquantized one', quantized, bare, 1.03)
        pair = self.program('pair', 'a pair with all tracking', 2, training)
        if bare and pair:
            self.ratio('pair', 'a paired step / 2 unquantized ones', pair, bare, 1.03, times=2)
        if quantized and pair:
            ratio = self.memory['pair'] / (2 * self.memory['quantized'])
            what = f'memory of a pair / 2 single quantized runs, {self.workload.what}'
            self.session.add('resnet-pair-memory-ratio', what, [ratio], limit=1.10)
        del bare, quantized  # their states make room
        without = self.program('untracked', 'a pair without tracking', 2, untracked)
        if pair and without:
            self.ratio('tracking', 'a paired step with all tracking / without', pair, without, 1.02)
        del pair, without
        try:
            twins = ('ste', 'naive_ste', 'jitter')
            self.program('four', 'four runs with all tracking', 4, lambda workload: training(workload, twins))
        except Exception as error:
            if not out_of_memory(error):
                raise
            self.session.record.leave_out('resnet-four', f'does not fit into memory, {self.workload.what}')

    def program(self, name: str, what: str, runs: int, build: Callable[[Workload], Training]) -> Training | None:
        """Builds a program and records its speed, memory and compile time; None where the time does not allow it."""
        session, steps, said = self.session, self.session.steps, f'{what}, {self.workload.what}'
        if not session.fits(f'resnet-{name}', self.seconds_a_program * (1 + runs) / 2):
            return None
        start = time.perf_counter()
        program = build(self.workload).compile()
        memory = program.memory()
        self.memory[name], name = memory['total'], f'resnet-{name}'
        program(2)  # warms up
        times = [seconds(lambda: program(steps)) / steps for _ in range(session.rounds)]
        samples = [self.workload.batch_size / spent for spent in times]
        details = {'runs': runs, 'batch': self.workload.batch_size, 'seconds_a_step': times}
        session.add(name, f'images a second of {said}', samples, 'images/s', details=details)
        session.add(f'{name}-compile', f'compiling the step of {said}', [program.compile_seconds], 's')
        allocator = jax.local_devices()[0].memory_stats() or {}
        known = {key: allocator[key] for key in ('peak_bytes_in_use', 'bytes_limit') if key in allocator}
        what = f'memory that XLA lays out for the step of {said}'
        details = {**memory, 'allocator_so_far': known}
        session.add(f'{name}-memory', what, [memory['total'] / 1e9], 'GB', details=details)
        self.reached(name, said, samples, runs)
        if runs == 1:
            self.seconds_a_program = time.perf_counter() - start
        return program

    def reached(self, name: str, said: str, samples: list[float], runs: int) -> None:
        """The fraction of the chip's own rate of products, which the same call measured."""
        chip = self.session.record.figure('chip-product')
        if chip is None or self.session.tiny:  # the operations are those of the whole network
            return
        fractions = [sample * runs * OPERATIONS / (chip['value'] * 1e12) for sample in samples]
        what = f"fraction of the chip's own rate of products that {said} reaches"
        self.session.add(f'{name}-reached', what, fractions)

    def ratio(self, name: str, what: str, measured: Training, baseline: Training, limit: float, times: int = 1) -> None:
        """Records two programs in turn; the baseline counts so many times."""
        name, what, steps = f'resnet-{name}-ratio', f'{what}, {self.workload.what}', self.session.steps
        if self.session.fits(name, 1 if self.session.tiny else 20):
            self.session.compare(name, what, lambda: measured(steps), lambda: baseline(steps * times), limit=limit)
