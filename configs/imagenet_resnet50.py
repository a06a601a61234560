"""The paper's large experiment (arXiv 2405.05171, section 5): ResNet-50 on ImageNet, every conv kernel 2 bits.

Command:  python -m experiments.train --config=configs/imagenet_resnet50.py --config.data_dir=DIR
Data:     ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar in DIR/downloads/manual;
          without ImageNet, python -m scripts.make_tiny_imagenet --out DIR.
"""

from configs import common


def get_config():
    config = common.get_config()
    config.name = 'imagenet_resnet50'
    config.dataset = 'imagenet2012'
    config.batch_size = 1024
    config.num_epochs = 100
    config.model = 'resnet50'
    config.compute_dtype = 'bfloat16'
    config.estimator = 'dsq(k=6.5)'
    config.optimizer = 'sgd(momentum=0.9)'
    config.learning_rate = 0.1
    config.learning_rate_images = 256
    config.warmup_fraction = 0.05  # 5 epochs
    # No weight decay: coupled decay on quantized kernels breaks the theorem, and the twin ste is refused with it.
    config.twins = 'ste,naive_ste,jitter'
    config.checkpoint_every_steps = 1250
    return config
