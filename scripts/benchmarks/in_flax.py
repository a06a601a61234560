"""The paper's ConvNet in plain Flax and optax, as somebody who does not know this project writes it.

It has Flax's own convolution and pooling, which this project's models do without on a CPU.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from scripts.measuring.programs import LEARNING_RATE, MOMENTUM, Training
from scripts.measuring.workloads import Workload


class ConvNet(nn.Module):
    """conv 3x3x32, conv 3x3x64, each with ReLU and 2x2 average pooling; dense 256 with ReLU; dense.

    Attributes:
      classes: number of logits.
    """

    classes: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """images (batch, height, width, channels) float32 -> logits (batch, classes)."""
        x = images
        for features in (32, 64):
            x = nn.relu(nn.Conv(features, (3, 3))(x))
            x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(256)(x.reshape(len(x), -1)))
        return nn.Dense(self.classes)(x)


def bare(workload: Workload) -> tuple[Callable, Callable]:
    """(init, step) of SGD with momentum: key -> state, and (state, batch) -> state.

    A state is the parameters, the optimizer's state and the loss in nats before the last step, of which nothing is
    known at first.
    """
    model, optimizer = ConvNet(workload.classes), optax.sgd(LEARNING_RATE, MOMENTUM)

    def init(key):
        params = model.init(key, jnp.zeros((1, *workload.image_shape)))['params']
        return params, optimizer.init(params), jnp.float32(jnp.nan)

    def loss(params, batch):
        logits = model.apply({'params': params}, batch['image'])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch['label']).mean()

    def step(state, batch):
        params, opt_state, _ = state
        found, gradients = jax.value_and_grad(loss)(params, batch)
        updates, opt_state = optimizer.update(gradients, opt_state)
        return optax.apply_updates(params, updates), opt_state, found

    return init, step


def training(workload: Workload) -> Training:
    """The bare step, jitted, on the workload's batch."""
    init, step = bare(workload)
    return Training(jax.jit(step, donate_argnums=0), jax.jit(init), (jax.device_put(workload.batch()),))
