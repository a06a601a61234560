"""A whole run of configs/mnist.py, with everything that a user gets, against bare training steps."""

import contextlib
import io
import pathlib
import tempfile
from collections.abc import Iterator

from configs import mnist
from experiments.training import session
from qat.lockstep.twins import computed_by
from scripts.benchmarks.rows import Effort, Row, seconds
from scripts.benchmarks.steps import unquantized
from scripts.benchmarks.workloads import CONVNET, settings_of
from scripts.noise import save_noise

_SIZES = {'training': 60_000, 'validation': 10_000}  # MNIST's
_BARE_STEPS = 40


def rows(effort: Effort) -> Iterator[Row]:
    """Seconds of the run, from reading the data to the report, a step and run, over those of a bare step.

    One run, which takes minutes; the bare steps are timed before and after it.
    """
    with tempfile.TemporaryDirectory() as folder:
        noise = save_noise(pathlib.Path(folder, 'noise.npz'), CONVNET.image_shape, CONVNET.classes, **_SIZES)
        settings = settings_of(mnist, dataset=str(noise))
        _, steps = settings.steps(_SIZES['training'] // settings.config.batch_size)
        runs = 1 + len(set(computed_by(settings.twins).values()))
        bare = unquantized(CONVNET, _BARE_STEPS)

        def whole():
            with contextlib.redirect_stdout(io.StringIO()):
                session.run(settings, pathlib.Path(folder, 'run'), [])

        bare_seconds = [seconds(bare) for _ in range(effort.rounds)]
        whole_seconds = seconds(whole)
        bare_seconds += [seconds(bare) for _ in range(effort.rounds)]
    bare_step = [each / _BARE_STEPS for each in bare_seconds]
    samples = [whole_seconds / (steps * runs) / each for each in bare_step]
    details = {'steps': steps, 'runs': runs, 'seconds': whole_seconds, 'seconds_of_a_bare_step': bare_step}
    what = 'configs/mnist.py from data to report, a step and run / a bare step of the same ConvNet'
    yield Row('mnist-whole', what, samples, limit=1.15, details=details)


BENCHMARKS = {'mnist-whole': rows}
