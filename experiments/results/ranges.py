"""The ranges of a setting's quantized kernels before any training, and without the data that a name stands for."""

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import FlaxError

from experiments.data import arrays
from experiments.errors import UserError
from experiments.setup.settings import Settings, check_image_shape
from experiments.training.runs import kernels
from experiments.workdir.checkpoints import read_weights


def images(config) -> tuple[tuple[int, int, int], int]:
    """(height, width, channels) of the configured images, and how many classes they have.

    Raises:
      UserError: no such dataset, or a file of arrays that cannot be read.
    """
    arrays.check_name(config.dataset)
    if config.dataset.endswith('.npz'):
        batches = arrays.ArrayBatches(arrays.from_file(config.dataset), config.seed, config.batch_size)
        return batches.image_shape, batches.classes
    shape, classes = arrays.IMAGES[config.dataset]
    return shape or (config.image_size, config.image_size, 3), classes


def initial(settings: Settings) -> dict[str, np.ndarray]:
    """R of every quantized kernel by layer, as a run of this config computes it from its initial weights.

    Raises:
      UserError: as `images`, images too small for the model, or `init_from` names no weights of this architecture.
    """
    config = settings.config
    shape, classes = images(config)
    check_image_shape(config, shape)
    model, image = settings.model(settings.estimator, classes), jnp.zeros((1, *shape))
    # The compiler drops the forward pass, of which only the ranges are asked. The rest runs once: not worth optimizing.
    once = {'compiler_options': {'xla_backend_optimization_level': 0}}
    if not config.init_from:
        of_key = jax.jit(lambda key: model.init(key, image, train=False)['ranges'], **once)
        ranges = of_key(jax.random.key(config.seed))
    else:
        of_weights = jax.jit(lambda given: model.apply(given, image, train=False, mutable=True)[1]['ranges'], **once)
        try:
            ranges = of_weights(read_weights(config.init_from))
        except FlaxError:
            raise UserError(f'init_from: the weights of {config.init_from} are of another architecture') from None
    return jax.device_get(kernels(ranges, ranges))
