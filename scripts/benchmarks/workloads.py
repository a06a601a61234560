"""The settings that are measured: a config, and noise of its data's shape.

Only this module and `programs` know how settings are resolved and how a training step is called.
"""

import dataclasses
from types import ModuleType

import flax.linen as nn
import jax
import ml_collections
import numpy as np

from configs import imagenet_resnet50, mnist
from experiments.data import imagenet
from experiments.data.arrays import SPLITS, ArrayBatches, Arrays
from experiments.data.batches import Batch
from experiments.data.classification import Classification, as_they_are
from experiments.setup.settings import Settings, resolve
from experiments.training.programs import AXIS, Programs
from experiments.training.sharing import lockstep
from experiments.training.trainer import Trainer

ALONE = {'twins': '', 'track_change_points': False}  # one quantized run and nothing else
PAIR = {'twins': 'ste', 'track_change_points': True}
_LONG = {'steps_per_epoch': -1, 'num_epochs': 10**5}  # more steps than anyone measures


def settings_of(module: ModuleType, **overrides) -> Settings:
    """The settings of a config's module, with what differs from it."""
    config = ml_collections.ConfigDict(module.get_config())
    config.update(overrides)
    return resolve(config)


@dataclasses.dataclass(frozen=True)
class Workload:
    """A model at a batch size.

    Attributes:
      what: it is, for people.
      config: the module of the experiment ...
      overrides: ... and what differs from it.
      image_shape: (height, width, channels).
      classes: number of labels.
      image_dtype: of the images as they reach the device.
    """

    what: str
    config: ModuleType
    overrides: dict
    image_shape: tuple[int, int, int]
    classes: int
    image_dtype: type = np.float32

    def settings(self, **overrides) -> Settings:
        """The workload's settings, a pair's by default."""
        return settings_of(self.config, **{**_LONG, **PAIR, **self.overrides, **overrides})

    @property
    def batch_size(self) -> int:
        return self.settings().config.batch_size

    def batch(self) -> Batch:
        """Images and labels of noise."""
        random = np.random.default_rng(0)
        images = random.random((self.batch_size, *self.image_shape), np.float32)
        labels = random.integers(0, self.classes, self.batch_size).astype(np.int32)
        labels[0] = self.classes - 1  # so that their number is seen
        return {'image': images, 'label': labels}

    def trainer(self, **overrides) -> Trainer:
        """A trainer on one batch of noise, again and again."""
        batch = self.batch()
        arrays = Arrays(dict.fromkeys(SPLITS, batch['image']), dict.fromkeys(SPLITS, batch['label']))
        settings = self.settings(**overrides)
        return Trainer(settings, ArrayBatches(arrays, settings.config.seed, self.batch_size))

    def programs(self, **overrides) -> Programs:
        """The programs for one device, whatever this machine has."""
        settings = self.settings(**overrides)
        normalize = imagenet.normalize if self.image_dtype is np.uint8 else as_they_are
        task = Classification(settings.model(self.classes, AXIS), self.image_shape, normalize)
        return Programs(lockstep(settings, task), task, jax.local_devices()[:1])

    def unquantized_model(self) -> nn.Module:
        """The same Flax model with `nn.Conv`."""
        return self.settings().model(self.classes)


CONVNET = Workload('MNIST ConvNet, batch 128', mnist, {}, (28, 28, 1), 10)
RESNET = Workload(
    'ResNet-50, 64x64, batch 16',
    imagenet_resnet50,
    {'batch_size': 16, 'compute_dtype': 'float32'},
    (64, 64, 3),
    1000,
)
IMAGENET = Workload(  # what one chip of 16 holds
    'ResNet-50, 224x224, 64 images a device', imagenet_resnet50, {'batch_size': 64}, (224, 224, 3), 1000, np.uint8
)
