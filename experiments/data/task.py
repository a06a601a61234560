"""What every kind of data has a task for: the loss and the metrics of a model on its batches."""

import inspect
from collections.abc import Callable, Mapping
from typing import Protocol

import flax.linen as nn
import jax

from experiments.errors import UserError
from qat.lockstep.evaluation import Examined

ModelOf = Callable[[int], nn.Module]  # makes a model from the number of classes that it tells apart
_LONGEST_REASON = 120  # characters


class Task(Protocol):
    """A model on the batches of a data set; equal tasks have one repr.

    A task may also have a method `sample(params, model_state, batch, key) -> str`: what the model makes up, from where
    the first example of a validation batch begins, for people. The same arguments give the same text.
    """

    derived: Mapping[str, Callable[[Mapping[str, float]], float]]
    """By name, metrics that are functions of the means of the others, such as a perplexity of the mean loss."""

    @property
    def loss_of_guessing(self) -> float:
        """The loss, in nats, of a model that knows nothing."""

    def init(self, key: jax.Array) -> tuple[dict, dict]:
        """Returns random parameters, and the other state of the model, such as 'batch_stats'."""

    def loss(self, params, model_state, batch) -> tuple[jax.Array, dict]:
        """Returns the mean loss of a training batch in nats, a scalar, and the new state of the model."""

    def examine(self, params, model_state, batch) -> Examined:
        """Returns the metrics and predictions of a validation batch, each of the shape of its 'mask'."""

    def doubt(self, batch) -> str:
        """Returns what makes it hard to learn from a batch, and what to do about it; '' if nothing does."""


def check_takes(task: Task, model: nn.Module, inputs: str) -> None:
    """Refuses a model that does not take the inputs of a task.

    Args:
      task: of the model.
      model: a Flax module.
      inputs: what the model is to take, for people.

    Raises:
      UserError: with what the model says.
    """
    try:
        jax.eval_shape(task.init, jax.random.key(0))
    except Exception as error:  # a user's model may raise anything
        reason = ' '.join(str(error).split())[:_LONGEST_REASON]
        raise UserError(
            f'model: {type(model).__name__} does not take {inputs}: {reason}; choose another by --config.model'
        ) from error


def apply(model: nn.Module, function: Callable, *arguments, train: bool, **options):
    """Calls a function of a model, and tells it whether it trains where the model wants to know."""
    takes_train = 'train' in inspect.signature(type(model).__call__).parameters
    return function(*arguments, **({'train': train} if takes_train else {}), **options)
