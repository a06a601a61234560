"""Turns a run in the middle of training into the equivalent run of another estimator.

  python -m experiments.convert --from WORKDIR --to ste --out DIR [--config.KEY=VALUE ...]
  python -m experiments.convert --from WORKDIR --to 'dsq(k=6.5)' --out DIR

Takes the reference in the newest checkpoint of WORKDIR and writes DIR, a run that begins at that step: config.json,
checkpoints/ and origin.json, which says where it comes from. Data and schedule go on where they were:

  python -m experiments.train --config=DIR/config.json --workdir=DIR

Weights, optimizer's state and learning rate of the quantized kernels change as experiments/training/conversion.py says.
The twins jitter and self are kept where WORKDIR has them, as copies of the new reference; others are not.
A finished run needs more to do, as --config.num_epochs=N.
"""

import os
import pathlib
import shlex
import sys
import tempfile

from experiments.errors import UserError, blame, tell
from experiments.setup import command_line
from experiments.setup.arguments import Parser

_COPIES = ('jitter', 'self')  # the twins that have the reference's estimator and start
_MAY_CHANGE = {  # in the middle of a run: neither the state nor the batches depend on it
    *('name', 'data_dir', 'distributed', 'checkpoint_every_steps', 'twins'),
    *('num_epochs', 'epochs_scale', 'max_steps', 'learning_rate', 'learning_rate_scale'),
}


def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    if not argv or '--help' in argv or '-h' in argv:
        print(__doc__)
        return 0
    parser = Parser(add_help=False)
    parser.add_argument('--from', dest='workdir', required=True)
    parser.add_argument('--to', required=True)
    parser.add_argument('--out', required=True)
    try:
        given, overrides = parser.parse_known_args(argv)
        print(convert(pathlib.Path(given.workdir), given.to, given.out, overrides))
    except UserError as error:
        return tell(error)
    return 0


def convert(workdir: pathlib.Path, to: str, out: str, overrides: list[str]) -> str:
    """Writes the equivalent run; returns what to tell the user.

    Args:
      workdir: of the run to convert.
      to: the estimator of the new run.
      out: folder of the new run, in which there is nothing yet.
      overrides: '--config.KEY=VALUE' each.

    Raises:
      UserError: before anything is written.
    """
    os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # an accelerator may be busy training
    # Imported late: a wrong command line is answered without jax.
    import ml_collections

    from experiments.setup import settings
    from experiments.training.conversion import Conversion
    from experiments.workdir.checkpoints import read_reference

    source = settings.resolve(_config(workdir, out, overrides))
    # The state is all there: what init_from names is not needed any more.
    target = settings.resolve(ml_collections.ConfigDict({**source.config, 'estimator': to, 'init_from': ''}))
    with blame('no equivalent run'):
        conversion = Conversion(source.estimator, target.estimator, target.optimizer, target.config.placement)
    factor = conversion.kernel_learning_rate_factor(source.config.kernel_learning_rate_factor)
    target.config.kernel_learning_rate_factor = factor
    state = _begin(target, read_reference(workdir, source.optimizer.build(0.0)), conversion)
    origin = {'from': str(workdir), 'estimator': source.config.estimator, 'step': int(state.step)}
    _write(pathlib.Path(out), target.config, origin, state)
    train = ['python', '-m', 'experiments.train', f'--config={out}/config.json', f'--workdir={out}']
    return (
        f'{source.config.estimator} -> {target.config.estimator} at step {state.step}, '
        f'kernel_learning_rate_factor {factor:.6g}. Continue with\n  {shlex.join(train)}'
    )


def _config(workdir: pathlib.Path, out: str, overrides: list[str]):
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
    twins = [name.strip() for name in config.twins.split(',')]
    copies = [name for name in twins if name in _COPIES]
    if 'twins' in changed and copies != twins:
        raise UserError(f'twins: a converted run has no others than {", ".join(_COPIES)}, got {config.twins!r}')
    config.twins = ','.join(copies) or 'self'
    return config


def _begin(settings, source, conversion):
    """The state of the new run from the `State` of the old one, the twins as copies.

    Raises:
      UserError: weights that are not finite, or a run that is over.
    """
    import jax
    import numpy as np

    from experiments.data.registry import load
    from experiments.training.runs import REFERENCE, Lockstep, kernels

    batches = load(settings.config)
    _, steps = settings.steps(batches.steps_in_data)
    if source.step >= steps:
        raise UserError(f'--from: {source.step} of {steps} steps are done, nothing is left; raise --config.num_epochs')
    reference = jax.jit(conversion)(source.runs[REFERENCE], source.ranges)
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(reference)):
        raise UserError('no equivalent run: its weights or their moments are not finite in float32')
    lockstep = Lockstep(settings, batches.classes)
    runs = dict.fromkeys([REFERENCE, *lockstep.computed_by.values()], reference)
    followed = dict.fromkeys(runs, kernels(source.ranges, reference.params))
    tracking = jax.jit(lockstep.tracker.begin)(followed, kernels(source.ranges, source.ranges))
    return source.replace(runs=runs, tracking=tracking)


def _write(folder: pathlib.Path, config, origin: dict, state) -> None:
    """Writes the workdir, whole or not at all."""
    from experiments.workdir.checkpoints import Checkpoints
    from experiments.workdir.files import write_json
    from experiments.workdir.records import ORIGIN

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.unfinished-', dir=folder.parent) as unfinished:
            whole = pathlib.Path(unfinished, 'workdir')
            whole.mkdir()
            write_json(whole / 'config.json', config.to_dict())
            write_json(whole / ORIGIN, origin)
            with Checkpoints(whole) as checkpoints:
                checkpoints.save(state)
            whole.replace(folder)
    except OSError as error:
        raise UserError(f'--out: cannot write {folder}: {error.strerror or error}') from None


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
