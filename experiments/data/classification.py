"""The task of image classification: what a Flax model's loss and metrics are on a batch of images and labels.

A batch is a dict: 'image' (examples, height, width, channels), 'label' (examples,) int32 and, in validation, 'mask'
(examples,) bool, False for padding. Another kind of task needs the same four: `init`, `loss`, `examine`, and the data
that gives its batches.
"""

import dataclasses
import inspect
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from experiments.errors import UserError
from qat.lockstep.evaluation import Examined

ModelOf = Callable[[int], nn.Module]  # from the number of classes
_LONGEST_REASON = 120  # characters


def as_they_are(images: jax.Array) -> jax.Array:
    """The normalisation of images that come as floats."""
    return images


@dataclasses.dataclass(frozen=True)
class Classification:
    """A model that classifies images.

    Attributes:
      model: a Flax module, images (examples, height, width, channels) float -> logits (examples, classes).
      image_shape: (height, width, channels).
      normalize: what is done to images on the device before the model reads them.

    Raises:
      UserError: the model does not take images of this shape.
    """

    model: nn.Module
    image_shape: tuple[int, int, int]
    normalize: Callable[[jax.Array], jax.Array] = as_they_are

    def __post_init__(self):
        try:
            jax.eval_shape(self.init, jax.random.key(0))
        except Exception as error:  # a user's model may raise anything
            shape, reason = 'x'.join(map(str, self.image_shape)), ' '.join(str(error).split())[:_LONGEST_REASON]
            raise UserError(f'model: {type(self.model).__name__} does not take images of {shape}: {reason}') from error

    def init(self, key: jax.Array) -> tuple[dict, dict]:
        """Random parameters, and the state of the model besides them ('batch_stats')."""
        variables = dict(self._apply(self.model.init, key, jnp.zeros((1, *self.image_shape)), train=False))
        return variables.pop('params'), variables

    def loss(self, params, model_state, batch) -> tuple[jax.Array, dict]:
        """The mean cross-entropy of a training batch, a scalar, and the model's new state."""
        variables, images = {'params': params, **model_state}, self.normalize(batch['image'])
        logits, updated = self._apply(self.model.apply, variables, images, train=True, mutable=list(model_state))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch['label'])
        return losses.mean(), {**model_state, **updated}

    def examine(self, params, model_state, batch) -> Examined:
        """Loss and accuracy of every example, and the predicted classes."""
        variables, images = {'params': params, **model_state}, self.normalize(batch['image'])
        logits = self._apply(self.model.apply, variables, images, train=False)
        predictions = jnp.argmax(logits, axis=-1)
        correct = predictions == batch['label']
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch['label'])
        return Examined({'accuracy': correct, 'loss': losses}, predictions, correct)

    def _apply(self, function: Callable, variables, images: jax.Array, *, train: bool, **options):
        takes_train = 'train' in inspect.signature(type(self.model).__call__).parameters
        return function(variables, images, **({'train': train} if takes_train else {}), **options)
