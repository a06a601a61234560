"""ResNet-50 on real images that a CPU finishes in about an hour: MNIST at 48x48 in colour, 2 bits.

Command:  python -m experiments.train --config=configs/mnist_resnet50.py
          for Adam: --config.optimizer='adam(b2=0.95)' --config.learning_rate=1e-5
Data:     python -m scripts.mnist_rgb --idx-dir DIR --out runs/mnist_rgb.npz, once, from the four idx files.
Cost:     200 steps of four runs, about a second a run and step on 2 cores.
Result:   docs/results/mnist_resnet50: not shown: alignment error 0.2923, as jitter's 0.2906 (naive_ste 0.4660).
"""

from configs import common


def get_config():
    config = common.get_config()
    config.name = 'mnist_resnet50'
    config.dataset = 'runs/mnist_rgb.npz'
    config.model = 'resnet50'
    config.batch_size = 16
    config.steps_per_epoch = 100
    config.num_epochs = 2
    config.estimator = 'dsq(k=6.5)'
    config.optimizer = 'sgd(momentum=0.9)'
    config.learning_rate = 0.002
    config.twins = 'ste,naive_ste,jitter'
    config.checkpoint_every_steps = 50
    return config
