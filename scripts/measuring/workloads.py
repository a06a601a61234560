"""What is trained to be measured: the ConvNet and ResNet-50 on a batch of noise, with the settings of configs/*.py.

Only this module and `programs` know how a lockstep is made and how its step is called.
"""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.data.batches import Batch
from experiments.data.classification import Classification, as_they_are
from experiments.data.normalization import normalize
from experiments.training.programs import AXIS, Programs
from qat import optimizers, weights
from qat.layers import Conv
from qat.lockstep.lockstep import Lockstep
from qat.models.convnet import ConvNet
from qat.models.resnet import ResNet50
from qat.pooling import avg_pool

ESTIMATOR, BITS, SGD = 'dsq(k=6.5)', 2, 'sgd(momentum=0.9)'
PAIR, TWINS = ('ste',), ('ste', 'naive_ste', 'jitter', 'self')  # self too is computed


@dataclasses.dataclass(frozen=True)
class Workload:
    """A model at a batch size.

    Attributes:
      name: of the model and its images, for people.
      model: the class of it, or what makes one.
      image_shape: (height, width, channels).
      classes: number of labels.
      batch_size: images of a step.
      dtype: that it computes in.
      image_dtype: of the images as they reach the device: float32 in [0, 1), or uint8, which ResNets normalize there.
    """

    name: str
    model: Callable[..., nn.Module]
    image_shape: tuple[int, int, int]
    classes: int
    batch_size: int
    dtype: type = jnp.float32
    image_dtype: type = np.float32

    @property
    def what(self) -> str:
        """It is, for people."""
        return f'{self.name}, batch {self.batch_size}'

    def tiny(self) -> 'Workload':
        """One that two cores of a CPU compute in no time: of the ConvNet, or of a ResNet with a single block."""
        return dataclasses.replace(_TINY_CONVNET if self.model is ConvNet else _TINY_RESNET, dtype=self.dtype)

    def batch(self) -> Batch:
        """Images of noise, with random labels."""
        random = np.random.default_rng(0)
        shape = (self.batch_size, *self.image_shape)
        if self.image_dtype is np.uint8:
            images = random.integers(0, 256, shape, np.uint8)
        else:
            images = random.random(shape, np.float32)
        return {'image': images, 'label': random.integers(0, self.classes, self.batch_size).astype(np.int32)}

    def task(self, axis_name: str | None = AXIS) -> Classification:
        """The task; the axis is that of the devices that share a batch, None without pmap."""
        options = {'conv': Conv, 'classes': self.classes, 'dtype': self.dtype}
        if self.model is ConvNet:
            options['avg_pool'] = avg_pool
        else:
            options['axis_name'] = axis_name
        return Classification(
            self.model(**options), self.image_shape, normalize if self.image_dtype is np.uint8 else as_they_are
        )

    def lockstep(self, twins=PAIR, *, tracking=True, estimator=ESTIMATOR, optimizer=SGD, axis_name=AXIS) -> Lockstep:
        """DSQ at 2 bits on the kernels of all convolutions, and twins; `tracking`: of change points too."""
        task = self.task(axis_name)
        params, _ = jax.eval_shape(task.init, jax.random.key(0))
        axes = {path: leaf.ndim for path, leaf in zip(weights.all_paths(params), jax.tree.leaves(params))}
        return Lockstep(
            task.loss,
            optimizers.parse(optimizer),
            estimator,
            BITS,
            quantized=lambda path: path.endswith('/kernel') and axes[path] == 4,
            twins=twins,
            ranges='he_uniform',
            has_state=True,
            axis_name=axis_name,
            track_change_points=tracking,
        )

    def programs(self, twins=PAIR, devices: list | None = None, **options) -> Programs:
        """What the trainer runs, on the first device or on these; the options are those of `lockstep`."""
        return Programs(self.lockstep(twins, **options), self.task(), devices or jax.local_devices()[:1])


CONVNET = Workload('MNIST ConvNet', ConvNet, (28, 28, 1), 10, 128)
DIGITS = Workload('digits', ConvNet, (8, 8, 1), 10, 100)
RESNET = Workload('ResNet-50, 64x64', ResNet50, (64, 64, 3), 1000, 16, image_dtype=np.uint8)
IMAGENET = Workload(  # batch: what one chip of 16 holds
    'ResNet-50, 224x224, bfloat16', ResNet50, (224, 224, 3), 1000, 64, jnp.bfloat16, np.uint8
)
_TINY_CONVNET = Workload('ConvNet, 8x8', ConvNet, (8, 8, 1), 10, 8)
_TINY_RESNET = Workload(
    'a block of ResNet-50, 32x32', functools.partial(ResNet50, stages=(1,)), (32, 32, 3), 10, 4, image_dtype=np.uint8
)
