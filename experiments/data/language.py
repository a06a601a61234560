"""The task of language modelling: the loss and the metrics of a Flax model that predicts the next token of a text.

A token is a byte. A batch is a dict: 'token' and 'next' (examples, context) int32, where the next of a token is what
follows it; in training also 'draw' (examples,) uint32, a random number an example; in validation 'mask' (examples,
context) bool, False for padding. What is counted in validation is tokens, not examples.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.data.task import apply, check_takes
from qat.lockstep.evaluation import Examined

_SAMPLED = 300  # tokens


def perplexity(means: Mapping[str, float]) -> float:
    """exp of the mean loss in nats: among so many equally likely tokens the model chooses, in the mean."""
    return math.exp(min(means['loss'], 700.0))  # above, float64 ends


@dataclasses.dataclass(frozen=True)
class Language:
    """A model that predicts the next token.

    Attributes:
      model: a Flax module, tokens (examples, context) int32 -> logits (examples, context, vocabulary).
      context: tokens of an example.

    Raises:
      UserError: the model does not take such tokens, or gives other logits.
    """

    model: nn.Module
    context: int

    derived: ClassVar = {'perplexity': perplexity}

    def __post_init__(self):
        check_takes(self, self.model, f'{self.context} tokens')

    def init(self, key: jax.Array) -> tuple[dict, dict]:
        """Returns random parameters, and the other state of the model, which stays as it is.

        Raises:
          ValueError: the model gives no logits for every token.
        """
        logits, variables = apply(self.model, self.model.init_with_output, key, self._nothing(), train=False)
        if logits.ndim != 3 or logits.shape[:2] != (1, self.context):
            raise ValueError(f'it must give logits (examples, {self.context}, vocabulary), not {logits.shape}')
        variables = dict(variables)
        return variables.pop('params'), variables

    @property
    def loss_of_guessing(self) -> float:
        """The loss, in nats, of giving every token the same probability."""
        call = functools.partial(apply, self.model, self.model.init_with_output, train=False)
        logits, _ = jax.eval_shape(lambda: call(jax.random.key(0), self._nothing()))
        return math.log(logits.shape[-1])

    def doubt(self, batch) -> str:
        """Returns '': tokens have no scale that could be wrong."""
        return ''

    def loss(self, params, model_state, batch) -> tuple[jax.Array, dict]:
        """Returns the mean cross-entropy of a training batch in nats per token, a scalar, and the state as it is.

        Every example has its own random numbers, so that what is dropped does not depend on the number of devices.
        """

        def logits_of(tokens, draw):
            rngs = {'dropout': jax.random.key(draw)}
            variables = {'params': params, **model_state}
            return apply(self.model, self.model.apply, variables, tokens[None], train=True, rngs=rngs)[0]

        logits = jax.vmap(logits_of)(batch['token'], batch['draw'])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch['next'])
        return losses.mean(), model_state

    def examine(self, params, model_state, batch) -> Examined:
        """Returns the loss, the correctness and the prediction of every next token, each (examples, context)."""
        logits = self._logits(params, model_state, batch['token'])
        predictions = jnp.argmax(logits, axis=-1)
        correct = predictions == batch['next']
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch['next'])
        return Examined({'accuracy': correct, 'loss': losses}, predictions, correct)

    def sample(self, params, model_state, batch, key: jax.Array) -> str:
        """Returns the first example of a batch, and the text with which the model goes on."""
        start = jnp.asarray(batch['token'][0])
        drawn = np.concatenate([start, self._drawn(params, model_state, start, jax.random.split(key, _SAMPLED))])
        return drawn.astype(np.uint8).tobytes().decode('utf-8', 'replace')

    @functools.cached_property
    def _drawn(self) -> Callable:
        """(params, model_state, tokens (context,), keys (n,)) -> the n tokens that follow, compiled for all runs."""

        def drawn(params, model_state, start, keys):
            def step(window, key):
                token = jax.random.categorical(key, self._logits(params, model_state, window[None])[0, -1])
                return jnp.append(window[1:], token.astype(window.dtype)), token

            return jax.lax.scan(step, start, keys)[1]

        return jax.jit(drawn)

    def _logits(self, params, model_state, tokens: jax.Array) -> jax.Array:
        return apply(self.model, self.model.apply, {'params': params, **model_state}, tokens, train=False)

    def _nothing(self) -> jax.Array:
        return jnp.zeros((1, self.context), jnp.int32)
