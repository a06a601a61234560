"""What is trained to be measured: digits, the small ConvNet and ResNet-50, with the settings of configs/*.py."""

import functools
import pathlib
import time
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.data.arrays import ArrayBatches, Arrays
from experiments.data.classification import Classification
from experiments.data.normalization import normalize
from experiments.training.programs import AXIS, Programs
from qat import optimizers
from qat.lockstep.lockstep import Lockstep
from qat.lockstep.state import Moment
from qat.models.convnet import ConvNet
from qat.models.resnet import ResNet50

ESTIMATOR, BITS, SGD = 'dsq(k=6.5)', 2, 'sgd(momentum=0.9)'
TWINS = ('ste', 'naive_ste', 'jitter', 'self')
_CONV = functools.partial(nn.Conv, kernel_init=nn.initializers.he_uniform())  # fills the range of that name
_DIGITS = pathlib.Path(__file__).with_name('digits.npz')
_TRAINING_DIGITS, WARMUP = 1500, 0.02


def digits() -> Arrays:
    """scikit-learn's handwritten digits in the order and split of `experiments.data.arrays.digits`."""
    with np.load(_DIGITS, allow_pickle=False) as file:
        images, labels = file['images'][..., None].astype(np.float32) / np.float32(16), file['labels'].astype(np.int32)
    halves = slice(None, _TRAINING_DIGITS), slice(_TRAINING_DIGITS, None)
    split = [dict(zip(('train', 'validation'), (array[half] for half in halves))) for array in (images, labels)]
    return Arrays(*split, reshuffle=False)


def digits_batches() -> ArrayBatches:
    """The batches of configs/digits.py."""
    return ArrayBatches(digits(), seed=0, batch_size=100)


def noise(images: int, shape: tuple[int, ...], classes: int, dtype=np.float32) -> dict[str, np.ndarray]:
    """A batch of noise: images (images, *shape), floats in [0, 1) or uint8, with random labels."""
    random = np.random.default_rng(0)
    if dtype == np.uint8:
        pixels = random.integers(0, 256, (images, *shape), np.uint8)
    else:
        pixels = random.random((images, *shape), np.float32)
    return {'image': pixels, 'label': random.integers(0, classes, images).astype(np.int32)}


def convnet(image_shape: tuple[int, int, int], dtype=jnp.float32) -> Classification:
    """The task of the ConvNet with ten classes."""
    return Classification(ConvNet(conv=_CONV, classes=10, dtype=dtype), image_shape)


def resnet(tiny: bool, axis_name: str | None = AXIS) -> Classification:
    """The task of ResNet-50 on uint8 images in bfloat16; tiny: one of its blocks, on 32x32 pixels."""
    model = functools.partial(ResNet50, conv=_CONV, dtype=jnp.bfloat16, axis_name=axis_name)
    if tiny:
        return Classification(model(classes=10, stages=(1,)), (32, 32, 3), normalize)
    return Classification(model(classes=1000), (224, 224, 3), normalize)


def lockstep(task: Classification, twins=TWINS, *, optimizer=SGD, axis_name: str | None = AXIS, tracking=True):
    """The lockstep of configs/*.py: DSQ at 2 bits on the kernels of all convolutions."""
    params, _ = jax.eval_shape(task.init, jax.random.key(0))
    quantized = _kernels(params)
    return Lockstep(
        task.loss,
        optimizers.parse(optimizer),
        ESTIMATOR,
        BITS,
        quantized=quantized.__contains__,
        twins=tuple(twins),
        ranges='he_uniform',
        has_state=True,
        axis_name=axis_name,
        track_change_points=tracking,
    )


def _kernels(params) -> frozenset[str]:
    found = jax.tree_util.tree_leaves_with_path(params)
    paths = {jax.tree_util.keystr(keys, simple=True, separator='/'): leaf.ndim for keys, leaf in found}
    return frozenset(path for path, axes in paths.items() if path.endswith('/kernel') and axes == 4)


def moments(peak: float, steps: int) -> list[Moment]:
    """What every step of a run takes: linear warm-up, then cosine to 0, as in configs/common.py."""
    warmup = round(WARMUP * steps)
    schedule = optax.warmup_cosine_decay_schedule(0 if warmup else peak, peak, warmup, max(steps, warmup + 1))
    rates = np.asarray(schedule(np.arange(steps)), np.float32)
    return [Moment(rate, np.float32(step / steps), np.bool_(step == 0)) for step, rate in enumerate(rates)]


class Stepping:
    """A training step, compiled for one device, and its state there, which every call moves on by so many steps.

    Attributes:
      compiled: the program.
      compile_seconds: what compiling took.
    """

    def __init__(self, step, init: Callable, rest: tuple, compile_=lambda lowered: lowered.compile()):
        lowered = step.lower(jax.eval_shape(init, jax.random.key(0)), *rest)
        start = time.perf_counter()
        self.compiled = compile_(lowered)
        self.compile_seconds = time.perf_counter() - start
        arguments = (jax.jit(init)(jax.random.key(0)), *rest)
        self._state, *self._rest = jax.device_put(arguments, self.compiled.input_shardings[0])

    def __call__(self, steps: int) -> None:
        """Runs so many steps, and waits for them."""
        for _ in range(steps):
            self._state = self.compiled(self._state, *self._rest)
        jax.block_until_ready(self._state)

    def memory(self) -> dict[str, int]:
        """Bytes of the program as XLA lays it out; the state is overwritten in place."""
        found = self.compiled.memory_analysis()
        beside = found.output_size_in_bytes - found.alias_size_in_bytes
        parts = {'arguments': found.argument_size_in_bytes, 'temporary': found.temp_size_in_bytes, 'outputs': beside}
        return {**parts, 'total': sum(parts.values())}


def quantized_step(task: Classification, batch: dict, twins=(), tracking=False, **options) -> Stepping:
    """A lockstep's step, as a run makes it (`Programs`), on the first device."""
    programs = Programs(lockstep(task, twins, tracking=tracking), task, jax.local_devices()[:1])
    moment = Moment(np.float32(1e-3), np.float32(0), np.bool_(False))
    return Stepping(programs.step, programs.init, (moment, programs.sharded(batch)), **options)


def plain_step(task: Classification, batch: dict) -> Stepping:
    """A bare jitted step of the same Flax model and optimizer, unquantized; its task has no axis of devices."""
    optimizer = optax.sgd(1e-3, momentum=0.9)

    def init(key):
        params, model_state = task.init(key)
        return params, model_state, optimizer.init(params)

    def step(state, batch):
        params, model_state, opt_state = state
        (_, model_state), gradients = jax.value_and_grad(task.loss, has_aux=True)(params, model_state, batch)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), model_state, opt_state

    return Stepping(jax.jit(step, donate_argnums=0), init, (batch,))
