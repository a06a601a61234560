"""ResNet-20 on CIFAR-10's photographs (He et al. 2015, section 4.2), 2 bits in all convolutions but the first.

Command:  python -m experiments.train --config=configs/cifar10_resnet20.py
          fine-tuning: --config.init_from=FILE.safetensors --config.range=max_abs --config.learning_rate=0.01
                       --config.num_epochs=10
          under Adam: --config.optimizer='adamw(b2=0.95)' --config.learning_rate=1e-3
          in full precision: --config.quantized=none
Data:     tfds fetches it; or --config.dataset=folder:DIR with DIR/{train,test}/<class>/*.png.
Cost:     four runs of 39,000 steps of 128 photographs: for an accelerator. On a CPU try --config.max_steps=200.
Result:   docs/results/photographs: at the size of a CPU, in the first steps and as far as 160 of them.
"""

from configs import common


def get_config():
    config = common.get_config()
    config.name = 'cifar10_resnet20'
    config.dataset = 'cifar10'
    config.image_size = 32
    config.model = 'resnet20'
    config.quantized = 'stage*/kernel'  # neither the first convolution nor the classifier
    config.batch_size = 128
    config.num_epochs = 100
    config.estimator = 'dsq'  # its k follows from the bits
    config.optimizer = 'sgd(momentum=0.9)'
    config.learning_rate = 0.1
    config.weight_decay = 1e-4
    config.warmup_fraction = 0.05
    config.twins = 'ste,naive_ste,jitter'
    return config
