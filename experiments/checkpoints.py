"""Checkpoints of the whole state, through orbax, as plain arrays that any number of devices can read."""

import pathlib

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp

from experiments.errors import UserError
from experiments.runs import REFERENCE, RunState, State
from experiments.tracking import Tracking

_KEPT = 2


class Checkpoints:
    """The checkpoints of a workdir, `checkpoints/<step>/`; use it as a context manager."""

    def __init__(self, workdir: pathlib.Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=_KEPT, create=True)
        self._manager = ocp.CheckpointManager((workdir / 'checkpoints').absolute(), options=options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._manager.close()  # waits for what is being written

    def save(self, state: State) -> None:
        """Writes a checkpoint in the background; a step that is already there is left alone."""
        step = int(state.step)
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.StandardSave(jax.device_get(state)))

    def restore(self, like: State) -> State:
        """The newest checkpoint, with the structure of `like`; `like` itself where there is none."""
        step = self._manager.latest_step()
        if step is None:
            return like
        template = jax.tree.map(np.asarray, jax.device_get(like))
        return self._manager.restore(step, args=ocp.args.StandardRestore(template))


def read_weights(workdir: str) -> dict:
    """The reference's 'params' and 'batch_stats' in the newest checkpoint of a run.

    Raises:
      UserError: there is none.
    """
    reference = _newest('init_from', workdir)['runs'][REFERENCE]
    return {'params': reference['params'], 'batch_stats': reference.get('batch_stats') or {}}


def read_reference(workdir: pathlib.Path, optimizer: optax.GradientTransformation) -> State:
    """The newest checkpoint of a run without its twins and what was tracked of them.

    Args:
      workdir: of the run.
      optimizer: the reference's, for the structure of its state.

    Raises:
      UserError: there is none, or its optimizer is another.
    """
    found = _newest('--from', workdir)
    reference = found['runs'][REFERENCE]
    try:
        opt_state = _structured(jax.eval_shape(optimizer.init, reference['params']), reference['opt_state'])
    except (LookupError, TypeError):
        raise UserError(f'--from: the checkpoint in {str(workdir)!r} is not of the optimizer in config.json') from None
    run = RunState(reference['params'], reference.get('batch_stats') or {}, opt_state, reference['loss'])
    return State(found['step'], found['ranges'], {REFERENCE: run}, Tracking({}, {}, {}))


def _newest(flag: str, workdir: str | pathlib.Path) -> dict:
    """The newest checkpoint as orbax returns it without a template: nested dicts and lists of arrays."""
    directory = pathlib.Path(workdir, 'checkpoints').absolute()
    if not directory.is_dir():
        raise UserError(f'{flag}: {str(workdir)!r} holds no checkpoints')
    with ocp.CheckpointManager(directory, options=ocp.CheckpointManagerOptions(create=False)) as manager:
        if manager.latest_step() is None:
            raise UserError(f'{flag}: {str(workdir)!r} holds no finished checkpoint')
        return manager.restore(manager.latest_step(), args=ocp.args.StandardRestore())


def _structured(like: optax.OptState, nested: dict | list) -> optax.OptState:
    """Nested dicts and lists as the named tuples of `like`: orbax keeps the names, but not the types."""

    def find(path, _):
        found = nested
        for key in path:
            found = found[getattr(key, 'name', getattr(key, 'key', getattr(key, 'idx', None)))]
        return found

    return jax.tree_util.tree_map_with_path(find, like)
