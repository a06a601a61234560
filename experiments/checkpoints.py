"""Checkpoints of the whole state, through orbax, as plain arrays that any number of devices can read."""

import pathlib

import jax
import numpy as np
import orbax.checkpoint as ocp

from experiments.errors import UserError
from experiments.runs import REFERENCE, State

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
    directory = pathlib.Path(workdir, 'checkpoints').absolute()
    if not directory.is_dir():
        raise UserError(f'init_from: {workdir!r} holds no checkpoints')
    with ocp.CheckpointManager(directory, options=ocp.CheckpointManagerOptions(create=False)) as manager:
        if manager.latest_step() is None:
            raise UserError(f'init_from: {workdir!r} holds no finished checkpoint')
        state = manager.restore(manager.latest_step(), args=ocp.args.StandardRestore())
    reference = state['runs'][REFERENCE]
    return {'params': reference['params'], 'batch_stats': reference.get('batch_stats') or {}}
