"""From settings to compiled programs, which runs of one process share where they can."""

import functools
import json

import jax

from experiments.data.batches import Batches
from experiments.data.task import Task
from experiments.errors import blame
from experiments.setup import identity
from experiments.setup.settings import Settings
from experiments.training.programs import AXIS, Programs, local_devices
from qat.activations import all_inputs_rounded
from qat.lockstep import ranged
from qat.lockstep.lockstep import Lockstep

# What a compiled step does not depend on: runs that differ in nothing else share it.
_FREE_KEYS = (
    *('name', 'seed', 'dataset', 'data_dir', 'init_from', 'distributed', 'eval_every_epochs', 'checkpoint_every_steps'),
    *('num_epochs', 'steps_per_epoch', 'max_steps', 'epochs_scale', 'warmup_fraction', 'ladder', 'ladder_seeds'),
    *('learning_rate', 'learning_rate_images', 'learning_rate_scale'),
)
_KEPT = 4  # programs; they take memory
_cache: dict[str, Programs] = {}


def lockstep(settings: Settings, task: Task) -> Lockstep:
    """The reference and its twins that a config asks for.

    Raises:
      UserError: the model has no weights of the kind that is to be quantized, or that is to decay; a range is not made
        for one of them; or nothing can round the inputs of a layer whose activations are to be quantized.
    """
    params, _ = jax.eval_shape(task.init, jax.random.key(0))
    config, quantized = settings.config, settings.quantized(params)
    if settings.activations:
        # A function of its own: what jax has traced before, it would not trace again.
        with blame(f'activation_bits={config.activation_bits}'), all_inputs_rounded(settings.activations, quantized):
            jax.eval_shape(lambda key: task.init(key), jax.random.key(0))
    pair = Lockstep(
        task.loss,
        settings.optimizer,
        settings.estimator,
        quantized=quantized.__contains__ if quantized else None,
        twins=tuple(settings.twins),
        ranges=config.range,
        range_policy=config.range_policy,
        placement=config.placement,
        has_state=True,
        axis_name=AXIS,
        kernel_learning_rate_factor=config.kernel_learning_rate_factor,
        start=settings.init_map,
        clip_norm=config.clip_norm or None,
        pull_back=settings.pull_back,
        activations=settings.activations,
        track_change_points=config.track_change_points,
    )
    plan = pair.plan(params)
    with blame(f'range={config.range}'):
        begun, _ = jax.eval_shape(lambda params: ranged.begin(plan, params), params)
    with blame(f'decayed={config.decayed}'):
        settings.optimizer.check_decayed(begun)  # of step sizes too
    return pair


def programs(settings: Settings, batches: Batches) -> Programs:
    """The programs of a setting; those that this process has compiled already are shared.

    Raises:
      UserError: a batch that the devices of all processes cannot share, or data that the model does not take.
    """
    devices = local_devices(settings.config.batch_size)
    task = batches.task(functools.partial(settings.model, axis_name=AXIS))
    key = json.dumps([fingerprint(settings), repr(task), [device.id for device in devices]])
    if key not in _cache:
        if len(_cache) == _KEPT:
            del _cache[next(iter(_cache))]
        _cache[key] = Programs(lockstep(settings, task), task, devices)
    return _cache[key]


def fingerprint(settings: Settings) -> str:
    """Equal for settings that share programs, on the same data and devices: a name stands for its file's content."""
    kept = {key: value for key, value in settings.config.to_dict().items() if key not in _FREE_KEYS}
    return json.dumps(kept | identity.code(settings.config))
