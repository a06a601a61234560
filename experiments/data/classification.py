"""The task of image classification: the loss and the metrics of a Flax model on a batch of images and labels.

A batch is a dict: 'image' (examples, height, width, channels), 'label' (examples,) int32 and, in validation, 'mask'
(examples,) bool, False for padding.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from experiments.data.task import apply, check_takes
from qat.lockstep.evaluation import Examined

_LARGE_INPUT = 100  # of mean 0 and deviation 1 hardly a number is so large


def as_they_are(images: jax.Array) -> jax.Array:
    """Returns images unchanged: the normalisation of those that come as floats."""
    return images


@dataclasses.dataclass(frozen=True)
class Classification:
    """A model that classifies images.

    Attributes:
      model: a Flax module, images (examples, height, width, channels) float -> logits (examples, classes).
      image_shape: (height, width, channels).
      normalize: a function of a batch of images, applied on the device before the model reads them.

    Raises:
      UserError: the model does not take images of this shape.
    """

    model: nn.Module
    image_shape: tuple[int, int, int]
    normalize: Callable[[jax.Array], jax.Array] = as_they_are

    derived: ClassVar = {}

    def __post_init__(self):
        check_takes(self, self.model, f'images of {"x".join(map(str, self.image_shape))}')

    def init(self, key: jax.Array) -> tuple[dict, dict]:
        """Returns random parameters, and the other state of the model, such as 'batch_stats'."""
        variables = dict(apply(self.model, self.model.init, key, jnp.zeros((1, *self.image_shape)), train=False))
        return variables.pop('params'), variables

    @property
    def loss_of_guessing(self) -> float:
        """The loss, in nats, of giving every class the same probability."""

        def logits():
            images = jnp.zeros((1, *self.image_shape))
            return apply(self.model, self.model.init_with_output, jax.random.key(0), images, train=False)[0]

        return math.log(jax.eval_shape(logits).shape[-1])

    def doubt(self, batch) -> str:
        """Returns what to do about images that are on a scale on which a model hardly learns; '' if they are not."""
        largest = float(jnp.abs(self.normalize(jnp.asarray(batch['image']))).max())
        if largest <= _LARGE_INPUT:  # which NaN is not
            return ''
        return f'the images reach {largest:.3g}: bring them to a scale of 0 to 1, or to mean 0 and deviation 1'

    def loss(self, params, model_state, batch) -> tuple[jax.Array, dict]:
        """Returns the mean cross-entropy of a training batch in nats, a scalar, and the new state of the model."""
        variables, images = {'params': params, **model_state}, self.normalize(batch['image'])
        logits, updated = apply(self.model, self.model.apply, variables, images, train=True, mutable=list(model_state))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch['label'])
        return losses.mean(), {**model_state, **updated}

    def examine(self, params, model_state, batch) -> Examined:
        """Returns the loss, the correctness and the predicted class of every example, each (examples,)."""
        variables, images = {'params': params, **model_state}, self.normalize(batch['image'])
        logits = apply(self.model, self.model.apply, variables, images, train=False)
        predictions = jnp.argmax(logits, axis=-1)
        correct = predictions == batch['label']
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch['label'])
        return Examined({'accuracy': correct, 'loss': losses}, predictions, correct)
