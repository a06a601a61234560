"""The paper's ConvNet in Keras on TensorFlow, as it comes; for a process in which TensorFlow is nothing else's."""

import os

from experiments.data.prepared import import_tensorflow
from scripts.measuring.programs import LEARNING_RATE, MOMENTUM
from scripts.measuring.workloads import Workload


class Training:
    """A bare step of SGD with momentum on the workload's batch, compiled by `tf.function`, from random weights.

    Not by XLA (`jit_compile=True`), with which it takes several times as long on a CPU.

    Attributes:
      model: the Keras model, whose weights every call moves on.
    """

    def __init__(self, workload: Workload):
        tf, keras = _import()
        self.model, batch = _convnet(keras, workload), workload.batch()
        self._batch = tf.constant(batch['image']), tf.constant(batch['label'])
        weights, loss = self.model.trainable_variables, keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        optimizer = keras.optimizers.SGD(LEARNING_RATE, momentum=MOMENTUM)
        optimizer.build(weights)

        @tf.function
        def step(images, labels):
            with tf.GradientTape() as tape:
                found = loss(labels, self.model(images, training=True))
            optimizer.apply(tape.gradient(found, weights), weights)
            return found

        self._step = step

    def __call__(self, times: int) -> float:
        """Makes so many steps, and waits; returns the loss before the last one, in nats."""
        for _ in range(times):
            loss = self._step(*self._batch)
        return float(loss)


def _convnet(keras, workload: Workload):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(workload.image_shape),
            layers.Conv2D(32, 3, padding='same', activation='relu'),
            layers.AveragePooling2D(2),
            layers.Conv2D(64, 3, padding='same', activation='relu'),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(256, activation='relu'),
            layers.Dense(workload.classes),
        ]
    )


def _import():
    os.environ['TF_ENABLE_ONEDNN_OPTS'] = '1'  # its fast convolutions, which it needs where it does not only read data
    os.environ['KERAS_BACKEND'] = 'tensorflow'
    tf = import_tensorflow()
    import keras

    return tf, keras
