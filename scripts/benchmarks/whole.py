"""A whole run of configs/mnist.py, with everything that a user gets, against bare training steps."""

import contextlib
import io
import pathlib
import tempfile
from collections.abc import Iterator

import numpy as np

from configs import mnist
from experiments import session
from experiments.settings import resolve
from experiments.twins import computed_by
from scripts.benchmarks.rows import Benchmark, Effort, Limit, Row, seconds
from scripts.benchmarks.steps import unquantized
from scripts.benchmarks.workloads import CONVNET

_SIZES = {'train': 60_000, 'validation': 10_000}  # MNIST's; what the images show costs nothing
_BARE_STEPS = 40


def rows(effort: Effort) -> Iterator[Row]:
    """Seconds of the run, from reading the data to the report, a step and run, over those of a bare step.

    One run, which takes minutes; the bare steps are timed before and after it.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = mnist.get_config()
        config.dataset = str(_data(pathlib.Path(folder)))
        settings = resolve(config)
        _, steps = settings.steps(_SIZES['train'] // config.batch_size)
        runs = 1 + len(set(computed_by(settings.twins).values()))
        bare = unquantized(CONVNET, _BARE_STEPS)

        def whole():
            with contextlib.redirect_stdout(io.StringIO()):
                session.run(settings, pathlib.Path(folder, 'run'), [])

        bare_seconds = [seconds(bare) for _ in range(effort.rounds)]
        whole_seconds = seconds(whole)
        bare_seconds += [seconds(bare) for _ in range(effort.rounds)]
    samples = [whole_seconds / (steps * runs) / (each / _BARE_STEPS) for each in bare_seconds]
    details = {'steps': steps, 'runs': runs, 'seconds': whole_seconds, 'seconds_of_40_bare_steps': bare_seconds}
    what = 'configs/mnist.py from data to report, a step and run / a bare step of the same ConvNet'
    yield Row('mnist-whole', what, samples, Limit(1.15), details)


def _data(folder: pathlib.Path) -> pathlib.Path:
    generator, arrays = np.random.default_rng(0), {}
    for split, size in _SIZES.items():
        arrays[f'{split}_images'] = generator.integers(0, 256, (size, 28, 28, 1), np.uint8)
        arrays[f'{split}_labels'] = generator.integers(0, 10, size).astype(np.int32)
    np.savez(folder / 'noise.npz', **arrays)
    return folder / 'noise.npz'


BENCHMARKS = (Benchmark('mnist-whole', rows),)
