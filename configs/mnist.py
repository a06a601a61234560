"""The paper's small experiment (arXiv 2405.05171, section 5): ConvNet on MNIST, 2-bit conv kernels.

Command:  python -m experiments.train --config=configs/mnist.py
          for Adam: --config.optimizer='adam(b2=0.95)' --config.learning_rate=1e-4
Cost:     2,500 steps of five runs; 15 minutes on two cores.
Result:   docs/results/mnist: alignment error of ste 0.0227 (naive_ste 0.4457, jitter 0.0057), accuracy
          0.9414 (dsq 0.9415).
Offline:  python -m scripts.prepare_mnist --idx-dir DIR, once, from the four idx files.
"""

from configs import common


def get_config():
    config = common.get_config()
    config.name = 'mnist'
    config.dataset = 'mnist'
    config.batch_size = 128
    config.steps_per_epoch = 100
    config.num_epochs = 25
    config.estimator = 'dsq(k=6.5)'
    config.optimizer = 'sgd(momentum=0.9)'
    config.learning_rate = 1e-3
    return config
