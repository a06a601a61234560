"""A run from its workdir to its report: opens or resumes, trains, finishes."""

import contextlib
import dataclasses
import functools
import pathlib
import sys
import threading
from collections.abc import Callable

import jax
import numpy as np

from experiments import terminal
from experiments.data import registry
from experiments.errors import UserError
from experiments.results import finished, limit, summary
from experiments.setup.identity import identity
from experiments.setup.settings import Settings
from experiments.terminal import is_primary, say, warn
from experiments.training import advice, distributed, ladder, peers
from experiments.training.stopping import STOPPED, Stop, stopping
from experiments.training.trainer import FINISHED, NOT_FINITE, Trainer
from experiments.workdir import beginning, environment, places, records, same_run
from experiments.workdir.checkpoints import Checkpoints
from experiments.workdir.files import blame_disk, replacing, write_json
from experiments.workdir.lock import locked
from qat.lockstep.state import State

_OWN_KEYS = ('distributed', 'data_dir')  # each of several processes has its own


def run(settings: Settings, workdir: pathlib.Path, argv: list[str], *, draw: bool = True) -> int:
    """Trains, or continues, the run in a workdir, and its ladder, and writes all that the contract names.

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
    if settings.quantizes and not settings.twins:
        raise UserError('twins: name at least one to compare with, as in --config.twins=ste,naive_ste,jitter')
    peers.agree(lambda: _same_in_all(identity(settings)))
    if settings.config.ladder > 1:
        ladder.check(settings, workdir)
    climbed = {}
    rungs = [(rung, identity(rung.settings)) for rung in ladder.rungs(settings)]  # now: a file may be edited meanwhile
    for rung, _ in rungs:
        places.check_workdir(workdir / rung.folder, workdir)
    if draw and is_primary():
        threading.Thread(target=_report).start()  # loaded beside the compiler, which leaves a core to others
    with stopping() as stop, blame_disk(workdir), advice.where_memory_ends(settings):
        for number, (rung, own) in enumerate(rungs, 1):
            place, label = workdir / rung.folder, f'ladder {number}/{len(rungs)}' if rung.folder else ''
            code, result = _run(rung.settings, own, place, argv, stop, label)
            if code in STOPPED:
                say(f'stopped and saved; --workdir={workdir} goes on from there', sys.stderr)
            if code in STOPPED or (code == NOT_FINITE and not rung.folder):
                return code
            climbed.setdefault(rung.settings.peak_learning_rate, []).append(result)
        if is_primary():
            _conclude(settings, workdir, climbed, draw)
    return FINISHED


def _same_in_all(found: dict[str, str]) -> dict[str, str]:
    """What all processes must have in common, out of an identity; `distributed` says which one this is."""
    same = {key: value for key, value in found.items() if key not in _OWN_KEYS}
    return same | {'the version of jax': jax.__version__}


def _run(
    settings: Settings, own: dict[str, str], workdir: pathlib.Path, argv: list[str], stop: Stop, label: str
) -> tuple[int, dict | None]:
    """One run; returns the exit code, and the content of its summary.json where it is finished.

    `own`: its identity. `label`: '' of the run itself, which tells more; its summary.json is written once the ladder
    is climbed.
    """
    result = None
    same_run.check_same_run(workdir, own)
    records.check_same_processes(workdir, jax.process_count())
    trainer = Trainer(settings, registry.load(settings.config, distributed.share()))
    peers.agree(trainer.facts, float('inf'))  # the data of one may have to be prepared for hours
    if label and jax.process_count() == 1 and (workdir / 'summary.json').is_file():  # others may not see the files
        result = finished.result(workdir, settings.twins)
        if result['steps'] == trainer.steps:
            return FINISHED, result
    state = trainer.initial_state()
    with _opened(workdir, settings, own, environment.describe(argv, trainer.devices)) as check:
        state, code, rows = _train(trainer, state, workdir, stop, label, check)
        if code == FINISHED and is_primary():
            check()
            result = _finish(trainer, state, rows, workdir)
            if label:
                write_json(workdir / 'summary.json', result)
    return code, result if code == FINISHED else None


def _train(
    trainer: Trainer, state: State, workdir: pathlib.Path, stop: Stop, label: str, check: Callable[[], None]
) -> tuple[State, int, list[dict]]:
    """Restores what there is, and trains; returns the last state, the exit code and the rows of metrics too."""
    settings = trainer.settings
    with Checkpoints(workdir, check) as checkpoints:
        begin = _beginning(workdir, checkpoints, trainer.record_every)
        if begin.step > trainer.steps:
            raise UserError(f'{workdir} has come to step {begin.step}, beyond the {trainer.steps} steps of this config')
        if not label:
            for message in settings.warnings(state.ranges):
                warn(message)
            _say_size(trainer)
        unfinished = begin.step < trainer.steps or settings.config.ladder > 1
        if unfinished and is_primary():
            (workdir / 'summary.json').unlink(missing_ok=True)  # of a shorter run: this one is not finished
        if begin.restored:
            state = trainer.programs.placed(checkpoints.restore(begin.step, state))
        else:
            checkpoints.save_now(state, begin.rows)  # a signal during compilation finds the run saved
        try:
            with records.Records(workdir, begin.rows, check) if is_primary() else records.NoRecords() as log:
                return *trainer.train(state, begin, log, checkpoints, stop, label), log.rows
        except jax.errors.JaxRuntimeError:
            if jax.process_count() == 1:
                raise
            peers.wait_for_news()  # most likely another process has left
            raise
        finally:
            stop.rescue = lambda: None  # all is saved, and the workdir is not held any more


def _beginning(workdir: pathlib.Path, checkpoints: Checkpoints, every: int) -> beginning.Beginning:
    """Where process 0 finds that the run begins, in all processes."""
    look = functools.partial(beginning.beginning, workdir, checkpoints, every)
    return beginning.Beginning(*peers.of_first(lambda: dataclasses.astuple(look())))


def _say_size(trainer: Trainer) -> None:
    devices = f'{len(trainer.devices)} of {jax.local_device_count()} devices'
    examples = trainer.settings.config.batch_size
    say(f'{devices}, {jax.process_count()} process(es), {trainer.steps} steps of {examples} examples')


@contextlib.contextmanager
def _opened(workdir: pathlib.Path, settings: Settings, own: dict[str, str], environment_now: dict):
    """Makes the workdir, holds it for this run, and writes what is known before the first step."""
    if not is_primary():
        yield lambda: None
        return
    workdir.mkdir(parents=True, exist_ok=True)
    with locked(workdir) as check:
        places.check_workdir(workdir, workdir)  # these two again: now nobody else can write there
        same_run.check_same_run(workdir, own)
        same_run.write_identity(workdir, own)
        write_json(workdir / 'config.json', settings.config.to_dict())
        write_json(workdir / 'environment.json', environment_now)
        yield check


def _finish(trainer: Trainer, state: State, rows: list[dict], workdir: pathlib.Path) -> dict:
    """Writes what a finished run leaves, but for summary.json, whose content it returns."""
    settings = trainer.settings
    if trainer.timing()['steps_per_second'] is not None:
        write_json(workdir / 'timing.json', trainer.timing())
    with replacing(workdir / 'weights.npz') as partial, partial.open('wb') as file:
        np.savez(file, **trainer.sampled_weights(state))
    if made_up := trainer.samples(state):
        write_json(workdir / finished.SAMPLES, made_up)
    cautions = list(dict.fromkeys([*settings.warnings(state.ranges), *trainer.lockstep.cautions(state)]))
    return summary.summarize(settings, rows, trainer.loss_of_guessing, state.ranges, cautions)


def _conclude(settings: Settings, workdir: pathlib.Path, climbed: dict[float, list], draw: bool) -> None:
    """Writes summary.json, with what the ladder says: where it is, all is finished; tells both answers, and draws."""
    (result, *_), *_ = climbed.values()
    if settings.config.ladder > 1:
        result['limit'] = limit.in_the_limit(settings.subject, climbed, settings.why_no_recipe())
    write_json(workdir / 'summary.json', result)
    say(summary.table(result))
    for answer in filter(None, (result['verdict'], result['limit']['answer'])):
        say(f'\n{terminal.wrapped(answer)}')
    if draw:
        say(f'\nReport: {_report().write(workdir, settings)}')


def _report():
    """Returns the module of the report; it loads matplotlib, which the answers need not wait for."""
    from experiments.results import report

    return report
