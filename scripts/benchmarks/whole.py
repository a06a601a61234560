"""A whole run of configs/mnist.py, with everything that a user gets, against bare training steps."""

import contextlib
import io
import pathlib
import tempfile

from configs import mnist
from experiments.setup.settings import resolve
from experiments.training import session as run
from qat.lockstep.twins import computed_by
from scripts.measuring.programs import plain
from scripts.measuring.session import Session, seconds, timed
from scripts.measuring.workloads import CONVNET
from scripts.noise import save_noise

_SIZES = {'training': 60_000, 'validation': 10_000}  # MNIST's
_TINY_SIZES, _TINY_RUN = {'training': 16, 'validation': 8}, {'batch_size': 8, 'steps_per_epoch': 2, 'num_epochs': 1}
_BARE_STEPS = 40


def whole(session: Session) -> None:
    """Seconds of the run, from reading the data to the report, a step and run, over those of a bare step.

    One run, which takes minutes; the bare steps are timed before and after it.
    """
    sizes = _TINY_SIZES if session.tiny else _SIZES
    workload = session.sized(CONVNET)
    bare = plain(workload)
    with tempfile.TemporaryDirectory() as folder:
        noise = save_noise(pathlib.Path(folder, 'noise.npz'), workload.image_shape, workload.classes, **sizes)
        config = mnist.get_config()
        config.update({'dataset': str(noise), **(_TINY_RUN if session.tiny else {})})
        settings = resolve(config)
        spent = timed(lambda: bare(_BARE_STEPS), session.rounds)
        with contextlib.redirect_stdout(io.StringIO()):
            elapsed = seconds(lambda: run.run(settings, pathlib.Path(folder, 'run'), []))
        spent += timed(lambda: bare(_BARE_STEPS), session.rounds)
    _, steps = settings.steps(sizes['training'] // settings.config.batch_size)
    runs = 1 + len(set(computed_by(settings.twins).values()))
    bare_step = [each / _BARE_STEPS for each in spent]
    samples = [elapsed / (steps * runs) / each for each in bare_step]
    details = {'steps': steps, 'runs': runs, 'seconds': elapsed, 'seconds_of_a_bare_step': bare_step}
    what = 'configs/mnist.py from data to report, a step and run / a bare step of the same ConvNet'
    session.add('mnist-whole', what, samples, limit=1.15, details=details)


BENCHMARKS = {'mnist-whole': whole}
