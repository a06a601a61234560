"""The compiled programs of a lockstep, on this machine's devices: the only pmap."""

import functools
import json

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.errors import UserError
from experiments.setup.settings import AXIS, Settings
from experiments.training.finiteness import finite
from experiments.training.runs import Lockstep, State

# What a compiled step does not depend on: runs that differ in nothing else share it.
_FREE_KEYS = (
    *('name', 'seed', 'dataset', 'data_dir', 'init_from', 'distributed', 'eval_every_epochs', 'checkpoint_every_steps'),
    *('num_epochs', 'steps_per_epoch', 'max_steps', 'epochs_scale', 'warmup_fraction'),
    *('learning_rate', 'learning_rate_images', 'learning_rate_scale'),
)
_KEPT = 4  # programs; they take memory
_cache: dict[str, 'Programs'] = {}


class Programs:
    """A lockstep's functions, compiled when they are first called.

    The state is replicated on the way in and comes back as one copy, which is what a checkpoint holds; batches
    come with a leading axis of devices.
    """

    def __init__(self, settings: Settings, classes: int, devices: list):
        self.lockstep = Lockstep(settings, classes)
        self.devices = devices
        among = devices if jax.process_count() == 1 else None  # None: those of all processes
        pmap = functools.partial(jax.pmap, axis_name=AXIS, devices=among, out_axes=None)
        self.init = jax.jit(self.lockstep.init, static_argnames='image_shape')
        self.step = pmap(self.lockstep.step, in_axes=(None, None, 0, 0), donate_argnums=0)
        self.evaluate = pmap(self.lockstep.evaluate, in_axes=(None, 0, 0, 0))
        self.measure = jax.jit(self.lockstep.measure)
        self.finite = jax.jit(finite)
        # Where the step leaves the state; a state that starts elsewhere would be compiled for twice.
        self._replicated = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec())

    def placed(self, state: State) -> State:
        """A state on the devices, a copy on each."""
        return jax.device_put(state, self._replicated)

    def sharded(self, batch: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """A batch with a leading axis of devices."""
        return tuple(array.reshape(len(self.devices), -1, *array.shape[1:]) for array in batch)


def programs(settings: Settings, classes: int) -> Programs:
    """The programs of a setting; those that this process has compiled already are shared.

    Raises:
      UserError: a batch that the devices of all processes cannot share.
    """
    devices = local_devices(settings.config.batch_size)
    key = json.dumps([fingerprint(settings), classes, [device.id for device in devices]])
    if key not in _cache:
        if len(_cache) == _KEPT:
            del _cache[next(iter(_cache))]
        _cache[key] = Programs(settings, classes, devices)
    return _cache[key]


def fingerprint(settings: Settings) -> str:
    """Equal for settings that share programs, on the same data and devices."""
    return json.dumps({key: value for key, value in settings.config.to_dict().items() if key not in _FREE_KEYS})


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
