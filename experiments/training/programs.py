"""The compiled programs of a lockstep, on this machine's devices: the only pmap."""

import concurrent.futures
import functools
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.data.batches import Batch
from experiments.data.task import Task
from experiments.errors import UserError
from qat.lockstep.finiteness import finite
from qat.lockstep.lockstep import Lockstep
from qat.lockstep.state import Moment, State

AXIS = 'batch'  # of the devices that share a batch


class Drawn(NamedTuple):
    """What a step takes of the data; with a leading axis of devices.

    Attributes:
      batch: of every run but one.
      reshuffled: of the twin `reshuffle`, in another order; None where it is not run.
    """

    batch: Batch
    reshuffled: Batch | None = None


class Programs:
    """A lockstep's functions, compiled when they are first called.

    The state is replicated on the way in and comes back as one copy, which is what a checkpoint holds; batches
    come with a leading axis of devices.

    Args:
      lockstep: made for the axis `AXIS`.
      task: gives the initial parameters, and what is evaluated.
      devices: this process's.
    """

    def __init__(self, lockstep: Lockstep, task: Task, devices: list):
        self.lockstep, self.devices = lockstep, devices

        def init(key, given=None):
            return lockstep.init(*(task.init(key) if given is None else given))

        def step(state: State, moment: Moment, drawn: Drawn) -> State:
            return lockstep.step(state, drawn.batch, moment, reshuffled=drawn.reshuffled)[0]

        def evaluate(state: State, batch: Batch) -> dict:
            return jax.lax.psum(lockstep.evaluate(task.examine, state, batch), AXIS)

        among = devices if jax.process_count() == 1 else None  # None: those of all processes
        pmap = functools.partial(jax.pmap, axis_name=AXIS, devices=among, out_axes=None)
        # It runs once, and its random numbers are long to compile.
        self.init = jax.jit(init, compiler_options={'xla_backend_optimization_level': 1})
        self.step = pmap(step, in_axes=(None, None, 0), donate_argnums=0)
        self.evaluate = pmap(evaluate, in_axes=(None, 0))
        self.measure = jax.jit(lockstep.measure)
        self.finite = jax.jit(finite)
        # Where the step leaves the state; a state that starts elsewhere would be compiled for twice.
        self._replicated = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec())

    def compile(self, state: State, moment: Moment, drawn: Drawn, of_validation: Batch) -> None:
        """Compiles all but `init`, side by side: their first calls need not wait for it.

        Args:
          state: placed.
          moment: of any step.
          drawn, of_validation: of the shapes to come, sharded.
        """
        longest_first = (self.step, moment, drawn), (self.measure,), (self.evaluate, of_validation), (self.finite,)
        # Several processes compile in one order: on some backends they exchange what they find.
        with concurrent.futures.ThreadPoolExecutor(None if jax.process_count() == 1 else 1) as pool:
            compiling = [pool.submit(program.lower(state, *others).compile) for program, *others in longest_first]
        for program in compiling:
            program.result()

    def placed(self, state: State) -> State:
        """A state on the devices, a copy on each."""
        return jax.device_put(state, self._replicated)

    def sharded(self, batch: Batch) -> Batch:
        """A batch (examples, ...) with a leading axis of devices: (devices, examples a device, ...)."""
        return {key: array.reshape(len(self.devices), -1, *array.shape[1:]) for key, array in batch.items()}


def local_devices(batch_size: int) -> list:
    """This process's devices: alone, the most that divide the batch; with others, all.

    Raises:
      UserError: a batch that the devices of all processes cannot share.
    """
    devices = jax.local_devices()
    if jax.process_count() == 1:
        return devices[: max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)]
    if batch_size % jax.device_count():
        raise UserError(
            f'batch_size={batch_size} must be a multiple of the {jax.device_count()} devices of all processes'
        )
    return devices
