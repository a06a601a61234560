"""The task of image classification: the loss and the metrics of a Flax model on a batch of images and labels.

A batch is a dict: 'image' (examples, height, width, channels), 'label' (examples,) int32 and, in validation, 'mask'
(examples,) bool, False for padding. Another kind of task needs the same methods `init`, `loss` and `examine`, and
data that give its batches.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from experiments.errors import UserError
from qat.lockstep.evaluation import Examined

ModelOf = Callable[[int], nn.Module]  # makes a model from the number of classes
_LONGEST_REASON = 120  # characters


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

    def __post_init__(self):
        try:
            jax.eval_shape(self.init, jax.random.key(0))
        except Exception as error:  # a user's model may raise anything
            shape, reason = 'x'.join(map(str, self.image_shape)), ' '.join(str(error).split())[:_LONGEST_REASON]
            raise UserError(f'model: {type(self.model).__name__} does not take images of {shape}: {reason}') from error

    def init(self, key: jax.Array) -> tuple[dict, dict]:
        """Returns random parameters, and the other state of the model, such as 'batch_stats'."""
        variables = dict(self._apply(self.model.init, key, jnp.zeros((1, *self.image_shape)), train=False))
        return variables.pop('params'), variables

    @property
    def loss_of_guessing(self) -> float:
        """The loss, in nats, of giving every class the same probability."""

        def logits():
            images = jnp.zeros((1, *self.image_shape))
            return self._apply(self.model.init_with_output, jax.random.key(0), images, train=False)[0]

        return math.log(jax.eval_shape(logits).shape[-1])

    def largest_input(self, batch) -> float:
        """Returns the largest magnitude that the model reads in a batch."""
        return float(jnp.abs(self.normalize(jnp.asarray(batch['image']))).max())

    def loss(self, params, model_state, batch) -> tuple[jax.Array, dict]:
        """Returns the mean cross-entropy of a training batch in nats, a scalar, and the new state of the model."""
        variables, images = {'params': params, **model_state}, self.normalize(batch['image'])
        logits, updated = self._apply(self.model.apply, variables, images, train=True, mutable=list(model_state))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch['label'])
        return losses.mean(), {**model_state, **updated}

    def examine(self, params, model_state, batch) -> Examined:
        """Returns the loss, the correctness and the predicted class of every example, each (examples,)."""
        variables, images = {'params': params, **model_state}, self.normalize(batch['image'])
        logits = self._apply(self.model.apply, variables, images, train=False)
        predictions = jnp.argmax(logits, axis=-1)
        correct = predictions == batch['label']
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch['label'])
        return Examined({'accuracy': correct, 'loss': losses}, predictions, correct)

    def _apply(self, function: Callable, variables, images: jax.Array, *, train: bool, **options):
        takes_train = 'train' in inspect.signature(type(self.model).__call__).parameters
        return function(variables, images, **({'train': train} if takes_train else {}), **options)
