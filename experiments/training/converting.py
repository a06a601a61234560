"""A run's workdir -> the workdir of the equivalent run of another estimator, which training goes on from."""

import contextlib
import glob
import pathlib
import shlex
import shutil
import tempfile

import jax
import ml_collections
import numpy as np

from experiments.data import registry
from experiments.errors import UserError, blame
from experiments.setup import command_line, config_file, sources
from experiments.setup.identity import contents, identity, keys
from experiments.setup.settings import Settings, names_of_twins, resolve
from experiments.training.sharing import lockstep
from experiments.workdir import same_run
from experiments.workdir.checkpoints import Checkpoints, read_reference
from experiments.workdir.files import write_json
from experiments.workdir.lock import Busy, locked
from experiments.workdir.records import ORIGIN
from qat.lockstep import ranged
from qat.lockstep.conversion import Conversion
from qat.lockstep.state import State
from qat.lockstep.twins import REFERENCE
from qat.theory.recipe import is_ste

_COPIES = ('jitter', 'reshuffle', 'self')  # the twins that have the reference's estimator and start
_MAY_CHANGE = {  # in the middle of a run: neither the state nor the batches depend on it
    *('name', 'data_dir', 'distributed', 'checkpoint_every_steps', 'twins'),
    *('num_epochs', 'epochs_scale', 'max_steps', 'learning_rate', 'learning_rate_scale'),
}


def convert(workdir: pathlib.Path, to: str, out: str, overrides: list[str], run_code: bool = False) -> str:
    """Writes the equivalent run; returns what to tell the user.

    Args:
      workdir: of the run to convert.
      to: the estimator of the new run.
      out: folder of the new run, in which there is nothing yet.
      overrides: '--config.KEY=VALUE' each.
      run_code: whether code that the run's config names may run.

    Raises:
      UserError: before anything is written.
    """
    config = _config(workdir, out, overrides)
    sources.check_chosen(config, run_code, workdir / 'config.json')
    source = resolve(config)
    if not source.quantizes:
        raise UserError(f'--from: {workdir} is a run with quantized=none, it has no estimator to convert from')
    written = keys(config_file.load(str(workdir / 'config.json')))
    same_run.check_same_part(workdir, written | contents({**source.config, 'init_from': ''}))
    # The state is all there: what init_from and init_map name is not needed any more.
    config = ml_collections.ConfigDict({**source.config, 'estimator': to, 'init_from': '', 'init_map': ''})
    config.pull_back = ''
    target = resolve(config)
    with blame('no equivalent run'):
        config.pull_back = _pulled_back(source, target)
    with blame('no equivalent run'):
        conversion = Conversion(source.estimator, target.estimator, target.optimizer, config.placement, target.transfer)
    factor = conversion.kernel_learning_rate_factor(config.kernel_learning_rate_factor)
    config.kernel_learning_rate_factor = factor
    target = resolve(config)
    state = _begin(target, read_reference(workdir, source.optimizer.build(0.0)), conversion)
    origin = {'from': str(workdir), 'estimator': source.config.estimator, 'step': int(state.step)}
    _write(pathlib.Path(out), target, origin, state)
    flags = shlex.join([f'--config={out}/config.json', f'--workdir={out}'])
    return (
        f'{source.config.estimator} -> {target.config.estimator} at step {state.step}, '
        f'kernel_learning_rate_factor {factor:.6g}. Continue with\n  python -m experiments.train {flags}'
    )


def _pulled_back(source: Settings, target: Settings) -> str:
    """The value of `pull_back` for the equivalent run.

    Raises:
      ValueError: the target cannot pull back: it is not STE, or not from the estimator that the source stands for.
    """
    if not target.transfer.pulled_back:
        return ''
    stands_for = source.config.pull_back or source.config.estimator
    if is_ste(target.estimator, target.transfer):
        return '' if stands_for == target.config.estimator else stands_for
    if stands_for != target.config.estimator:
        what = ' and '.join(target.transfer.pulled_back)
        raise ValueError(f'{what} of {stands_for} can be pulled back by ste alone, not by {target.estimator}')
    return ''


def _config(workdir: pathlib.Path, out: str, overrides: list[str]) -> ml_collections.ConfigDict:
    """The config of the run to convert, with the overrides, and with no other twins than copies."""
    path, folder = workdir / 'config.json', pathlib.Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f'--out: {out} holds something already; choose another folder')
    if not path.is_file():
        raise UserError(f'--from: {workdir} holds no run: there is no {path}')
    config, _ = command_line.parse([f'--config={path}', f'--out={out}', *overrides], 'out', ('--from', '--to'))
    changed = {override.partition('=')[0].removeprefix('--config.') for override in overrides}
    if changed - _MAY_CHANGE:
        raise UserError(f'{min(changed - _MAY_CHANGE)}: only these may change: {", ".join(sorted(_MAY_CHANGE))}')
    twins = names_of_twins(config.twins)
    copies = [name for name in twins if name in _COPIES]
    if 'twins' in changed and copies != twins:
        raise UserError(f'twins: a converted run has no others than {", ".join(_COPIES)}, got {config.twins!r}')
    config.twins, config.ladder = ','.join(copies) or 'self', 1
    return config


def _begin(settings: Settings, source: State, conversion: Conversion) -> State:
    """The state of the new run from that of the old one, the twins as copies.

    Raises:
      UserError: weights that are not finite, or a run that is over.
    """
    batches = registry.load(settings.config)
    _, steps = settings.steps(batches.steps_in_data)
    if source.step >= steps:
        limiting = 'max_steps' if steps == settings.config.max_steps else 'num_epochs'
        raise UserError(f'--from: {source.step} of {steps} steps are done, nothing is left; raise --config.{limiting}')
    pair, before = lockstep(settings, batches.task(settings.model)), source.runs[REFERENCE]
    paths = pair.plan(before.params).paths
    ranges = ranged.current(pair.plan(before.params), before.params, source.ranges)
    reference = jax.jit(lambda run, ranges: conversion(run, ranges, paths))(before, ranges)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(reference)):
        raise UserError('no equivalent run: its weights or their moments are not finite in float32')
    return pair.restart(source, reference)


def _write(folder: pathlib.Path, settings: Settings, origin: dict, state: State) -> None:
    """Writes the workdir, whole or not at all."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        prefix = f'.unfinished-{folder.name}-'
        _remove_unfinished(folder.parent, prefix)
        made = tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent)
        with made as unfinished, locked(pathlib.Path(unfinished)):
            whole = pathlib.Path(unfinished, 'workdir')
            whole.mkdir()
            same_run.write_identity(whole, identity(settings))
            write_json(whole / 'config.json', settings.config.to_dict())
            write_json(whole / ORIGIN, origin)
            with Checkpoints(whole) as checkpoints:
                checkpoints.save(state)
            whole.replace(folder)
    except OSError as error:
        raise UserError(f'--out: cannot write {folder}: {error.strerror or error}') from None


def _remove_unfinished(parent: pathlib.Path, prefix: str) -> None:
    """Removes what earlier commands left that were killed: nobody holds it."""
    for unfinished in parent.glob(f'{glob.escape(prefix)}*'):
        if (unfinished / '.lock').is_file():
            with contextlib.suppress(Busy), locked(unfinished):
                shutil.rmtree(unfinished, ignore_errors=True)
