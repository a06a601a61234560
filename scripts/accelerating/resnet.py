"""ResNet-50 in bfloat16 on one chip: a bare step, a quantized run, pairs, four runs; speed, memory and compile time.

Every program trains on one batch of uint8 noise that is on the device already. Memory is what XLA lays out for a step,
which is known for every program by itself; what the allocator says is the most of all programs together.
"""

import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

from scripts.accelerating import models
from scripts.accelerating.models import Stepping
from scripts.accelerating.record import Session
from scripts.benchmarks.rows import ratios, seconds

BATCH = 256  # images; halved until all but the four runs fit
OPERATIONS = 2.45e10  # of a training step, an image and run; see configs/imagenet_resnet50.py
_STEPS, _ROUNDS = 5, 6  # of a sample; of a figure
_FIRST = 60  # seconds that the first program may take; never found out yet, and then measured


def resnet(session: Session) -> None:
    """All of it, at the largest batch up to `BATCH` that fits."""
    batch = 4 if session.tiny else BATCH
    while True:
        try:
            _Measured(session, batch).all()
            return
        except Exception as error:
            if not out_of_memory(error) or batch == 1:
                raise
            batch //= 2


def out_of_memory(error: Exception) -> bool:
    """Whether that is why something failed; jax has no class for it."""
    return 'RESOURCE_EXHAUSTED' in str(error) or 'out of memory' in str(error).lower()


class _Measured:
    """The figures at one batch size."""

    def __init__(self, session: Session, images: int):
        self.session, self.images = session, images
        self.steps, self.rounds = (1, 2) if session.tiny else (_STEPS, _ROUNDS)
        self.task = models.resnet(session.tiny)
        classes, shape = self.task.model.classes, self.task.image_shape
        # On the device from the start, so that it is not copied there for every program.
        self.batch = jax.device_put(models.noise(images, shape, classes, np.uint8))
        self.said = f'ResNet-50, {shape[0]}x{shape[1]}, bfloat16, batch {images}'
        self.made: dict[str, dict] = {}
        self.seconds_a_program = 1 if session.tiny else _FIRST

    def all(self) -> None:
        """What a call is most worth comes first."""
        plain = self._program('plain', 'a single unquantized run', 1, lambda: self._plain())
        quantized = self._program('quantized', 'a single quantized run', 1, lambda: self._quantized(()))
        if plain and quantized:
            what = f'a quantized step / an unquantized one, {self.said}'
            self._ratio('resnet-quantized-ratio', what, quantized, plain, limit=1.03)
        pair = self._program('pair', 'a pair with all tracking', 2, lambda: self._quantized(('ste',), tracking=True))
        if plain and pair:
            what = f'a paired step / 2 unquantized ones, {self.said}'
            self._ratio('resnet-pair-ratio', what, pair, plain, limit=1.03, times=2)
        if quantized and pair:
            ratio = self.made['pair']['total'] / (2 * self.made['quantized']['total'])
            what = f'memory of a pair / 2 single quantized runs, {self.said}'
            self.session.add('resnet-pair-memory-ratio', what, [ratio], limit=1.10)
        del plain, quantized  # their states make room
        untracked = self._program('untracked', 'a pair without tracking', 2, lambda: self._quantized(('ste',)))
        if pair and untracked:
            what = f'a paired step with all tracking / without, {self.said}'
            self._ratio('resnet-tracking-ratio', what, pair, untracked, limit=1.02)
        del pair, untracked
        self._four()

    def _plain(self) -> Stepping:
        return models.plain_step(models.resnet(self.session.tiny, axis_name=None), self.batch)

    def _quantized(self, twins: tuple[str, ...], tracking: bool = False) -> Stepping:
        return models.quantized_step(self.task, self.batch, twins, tracking)

    def _four(self) -> None:
        try:
            twins = ('ste', 'naive_ste', 'jitter')
            self._program('four', 'four runs with all tracking', 4, lambda: self._quantized(twins, tracking=True))
        except Exception as error:
            if not out_of_memory(error):
                raise
            self.session.record.leave_out('resnet-four', f'does not fit into memory with batch {self.images}')

    def _program(self, name: str, what: str, runs: int, build: Callable[[], Stepping]) -> Stepping | None:
        """Builds a program and records its speed, memory and compile time; None where the time does not allow it."""
        name = f'resnet-{name}'
        if not self.session.fits(name, self.seconds_a_program * (1 + runs) / 2):
            return None
        start = time.perf_counter()
        stepping = build()
        memory = stepping.memory()
        self.made[name.removeprefix('resnet-')] = memory
        stepping(2)  # warms up
        times = [seconds(lambda: stepping(self.steps)) / self.steps for _ in range(self.rounds)]
        samples = [self.images / spent for spent in times]
        details = {'runs': runs, 'batch': self.images, 'seconds_a_step': times, **self._copied(stepping, times)}
        said = f'{what}, {self.said}'
        self.session.add(name, f'images a second of {said}', samples, 'images/s', details=details)
        compiling = [stepping.compile_seconds]
        self.session.add(f'{name}-compile', f'compiling the step of {said}', compiling, 's')
        self._memory(name, said, memory)
        self._reached(name, said, samples, runs)
        if runs == 1:
            self.seconds_a_program = time.perf_counter() - start
        return stepping

    def _memory(self, name: str, said: str, memory: dict[str, int]) -> None:
        device = jax.local_devices()[0].memory_stats() or {}
        known = {key: device[key] for key in ('peak_bytes_in_use', 'bytes_limit') if key in device}
        details = {**memory, 'allocator_so_far': known}
        what = f'memory that XLA lays out for the step of {said}'
        self.session.add(f'{name}-memory', what, [memory['total'] / 1e9], 'GB', details=details)

    def _reached(self, name: str, said: str, samples: list[float], runs: int) -> None:
        """The fraction of the chip's own rate of products, which the same call measured."""
        chip = self.session.record.figure('chip-product')
        if chip is None or self.session.tiny:  # the operations are those of the whole network
            return
        fractions = [sample * runs * OPERATIONS / (chip['value'] * 1e12) for sample in samples]
        what = f"fraction of the chip's own rate of products that {said} reaches"
        self.session.add(f'{name}-reached', what, fractions)

    def _copied(self, stepping: Stepping, times: list[float]) -> dict:
        """The bytes a second that XLA counts as read and written, over the chip's own rate of copying."""
        counted = (stepping.compiled.cost_analysis() or {}).get('bytes accessed')
        chip = self.session.record.figure('chip-copy')
        if not counted or chip is None:
            return {}
        return {'counted_bytes_of_chip_copy': counted / statistics.median(times) / (chip['value'] * 1e9)}

    def _ratio(self, name: str, what: str, measured, baseline, limit: float, times: int = 1) -> None:
        if not self.session.fits(name, 1 if self.session.tiny else 20):
            return
        samples = ratios(
            lambda: measured(self.steps), lambda: baseline(self.steps * times), 1 if self.session.tiny else self.rounds
        )
        self.session.add(name, what, samples, limit=limit)
