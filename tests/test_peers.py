"""What this project is compared with in Keras and in plain Flax computes the same as its own ConvNet."""

import jax
import numpy as np
import pytest

from scripts.benchmarks import in_flax, in_keras, peers
from scripts.measuring.workloads import CONVNET, Workload

WORKLOAD = CONVNET.tiny()
BATCH = WORKLOAD.batch()
STEPS = 2  # the second has momentum
OURS = {'Conv_0': 'conv1', 'Conv_1': 'conv2', 'Dense_0': 'Dense_0', 'Dense_1': 'Dense_1'}  # layers of plain Flax: ours


def in_order(params) -> list[np.ndarray]:
    """Parameters of plain Flax in the order of Keras."""
    return [np.asarray(params[layer][kind]) for layer in OURS for kind in ('kernel', 'bias')]


def keras_steps(workload: Workload, weights: list[np.ndarray]) -> tuple[list[float], list[np.ndarray]]:
    """In the process of Keras: the losses of some steps from these weights, and where they lead."""
    training = in_keras.Training(workload)
    training.model.set_weights(weights)
    return [training(1) for _ in range(STEPS)], training.model.get_weights()


def test_plain_flax_has_the_loss_and_the_gradient_of_our_convnet():
    init, step = in_flax.bare(WORKLOAD)
    params, *rest = init(jax.random.key(0))
    after, _, loss = jax.jit(step)((params, *rest), BATCH)
    here = {ours: params[layer] for layer, ours in OURS.items()}
    task = WORKLOAD.task(axis_name=None)
    (our_loss, _), gradient = jax.value_and_grad(task.loss, has_aux=True)(here, {}, BATCH)
    assert float(loss) == pytest.approx(float(our_loss), rel=1e-6)
    for layer, ours in OURS.items():
        for kind, before in params[layer].items():
            expected = before - 1e-3 * gradient[ours][kind]
            np.testing.assert_allclose(after[layer][kind], expected, rtol=1e-6, atol=3e-8)


@pytest.mark.slow
def test_keras_makes_the_steps_of_plain_flax():
    init, step = in_flax.bare(WORKLOAD)
    state, losses = init(jax.random.key(0)), []
    with peers.process() as keras:
        found = keras.submit(keras_steps, WORKLOAD, in_order(state[0])).result()
    for _ in range(STEPS):
        state = jax.jit(step)(state, BATCH)
        losses.append(float(state[2]))
    np.testing.assert_allclose(found[0], losses, rtol=1e-6)
    for keras_weights, weights in zip(found[1], in_order(state[0]), strict=True):
        np.testing.assert_allclose(keras_weights, weights, rtol=1e-6, atol=3e-8)  # they have moved by 5e-5 or more
