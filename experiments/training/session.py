"""A run from its workdir to its report: opens or resumes, trains, finishes."""

import contextlib
import pathlib
import sys

import jax
import numpy as np

from experiments.data import registry
from experiments.errors import UserError
from experiments.results import report, summary
from experiments.setup.settings import Settings
from experiments.terminal import is_primary, say, warn
from experiments.training import distributed
from experiments.training.stopping import STOPPED, Stop, stopping
from experiments.training.trainer import FINISHED, Trainer
from experiments.workdir import beginning, environment, records
from experiments.workdir.checkpoints import Checkpoints
from experiments.workdir.files import blame_disk, replacing, write_json
from experiments.workdir.lock import locked
from qat.lockstep.state import State


def run(settings: Settings, workdir: pathlib.Path, argv: list[str], *, draw: bool = True) -> int:
    """Trains, or continues, the run in a workdir and writes all that the contract names.

    Args:
      settings: of the run.
      workdir: a folder, perhaps of a run that was interrupted.
      argv: the command line, for people.
      draw: whether to write the report.

    Returns:
      The exit code.

    Raises:
      UserError: before anything is written, where the config and the data or the workdir do not fit; later, where
        the disk is full, or nothing is left to go on from.
    """
    config = settings.config.to_dict()
    if not settings.twins:
        raise UserError('twins: name at least one to compare with, as in --config.twins=ste,naive_ste,jitter')
    with stopping() as stop, blame_disk(workdir):
        records.check_same_run(workdir, config)
        records.check_same_processes(workdir, jax.process_count())
        trainer = Trainer(settings, registry.load(settings.config, distributed.share()))
        state = trainer.initial_state()
        with _opened(workdir, config, environment.describe(argv, trainer.devices)):
            state, code, rows = _train(trainer, state, workdir, stop)
            if code == FINISHED and is_primary():
                _finish(trainer, state, rows, workdir, draw)
            elif code in STOPPED:
                say(f'stopped at step {state.step} and saved; --workdir={workdir} goes on from there', sys.stderr)
    return code


def _train(trainer: Trainer, state: State, workdir: pathlib.Path, stop: Stop) -> tuple[State, int, list[dict]]:
    """Restores what there is, and trains; returns the last state, the exit code and the rows of metrics too."""
    settings = trainer.settings
    with Checkpoints(workdir) as checkpoints:
        begin = beginning.beginning(workdir, checkpoints, trainer.record_every)
        if begin.step > trainer.steps:
            raise UserError(f'{workdir} has come to step {begin.step}, beyond the {trainer.steps} steps of this config')
        for message in settings.warnings(state.ranges):
            warn(message)
        _say_size(trainer)
        if begin.step < trainer.steps and is_primary():
            (workdir / 'summary.json').unlink(missing_ok=True)  # of a shorter run: this one is not finished
        if begin.restored:
            state = trainer.programs.placed(checkpoints.restore(begin.step, state))
        else:
            checkpoints.save_now(state)  # a signal during compilation finds the run saved
        try:
            with records.Records(workdir, begin.step) if is_primary() else records.NoRecords() as log:
                return *trainer.train(state, begin, log, checkpoints, stop), log.rows
        except jax.errors.JaxRuntimeError:
            if stop.code is None or jax.process_count() == 1:
                raise
            stop.wait_for_the_end()  # the other processes have left already


def _say_size(trainer: Trainer) -> None:
    devices = f'{len(trainer.devices)} of {jax.local_device_count()} devices'
    examples = trainer.settings.config.batch_size
    say(f'{devices}, {jax.process_count()} process(es), {trainer.steps} steps of {examples} examples')


@contextlib.contextmanager
def _opened(workdir: pathlib.Path, config: dict, environment_now: dict):
    """Makes the workdir, holds it for this run, and writes what is known before the first step."""
    if not is_primary():
        yield
        return
    workdir.mkdir(parents=True, exist_ok=True)
    with locked(workdir):
        records.check_same_run(workdir, config)  # again: now nobody else can write there
        write_json(workdir / 'config.json', config)
        write_json(workdir / 'environment.json', environment_now)
        yield


def _finish(trainer: Trainer, state: State, rows: list[dict], workdir: pathlib.Path, draw: bool) -> None:
    if trainer.timing()['steps_per_second'] is not None:
        write_json(workdir / 'timing.json', trainer.timing())
    with replacing(workdir / 'weights.npz') as partial, partial.open('wb') as file:
        np.savez(file, **trainer.sampled_weights(state))
    result = summary.summarize(trainer.settings, rows)
    write_json(workdir / 'summary.json', result)
    say(summary.table(result))
    say(f'\n{result["verdict"]}\n')
    if draw:
        say(f'Report: {report.write(workdir)}')
