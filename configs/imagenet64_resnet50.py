"""ResNet-50 on ImageNet's photographs at 64x64 pixels, 2 bits: the paper's large experiment at a size for one chip.

Command:  python -m experiments.train --config=configs/imagenet64_resnet50.py --config.data_dir=DIR
          under Adam: --config.optimizer='adam(b2=0.95)' --config.learning_rate=1e-4
Data:     ImageNet's two archives, or archives of some of its classes, in DIR/downloads/manual, as for
          configs/imagenet_resnet50.py.
Cost:     4 runs of 94 steps of 256 photographs an epoch on 24,000 photographs: for an accelerator.
Result:   docs/results/photographs: its first steps at the size of a CPU, in batches of 16.
"""

from configs import common


def get_config():
    config = common.get_config()
    config.name = 'imagenet64_resnet50'
    config.dataset = 'imagenet2012'
    config.image_size = 64
    config.model = 'resnet50'
    config.batch_size = 256
    config.num_epochs = 20
    config.estimator = 'dsq'  # its k follows from the bits
    config.optimizer = 'sgd(momentum=0.9)'
    config.learning_rate = 0.1
    config.weight_decay = 1e-4
    config.warmup_fraction = 0.05
    config.twins = 'ste,naive_ste,jitter'
    return config
