"""The paper's large experiment (arXiv 2405.05171, section 5): ResNet-50 on ImageNet, every conv kernel 2 bits.

Command:  python -m experiments.train --config=configs/imagenet_resnet50.py --config.data_dir=DIR
          on several machines: scripts/launch_tpu_pod.sh or scripts/launch_slurm.sh, see README.md
Data:     ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar in DIR/downloads/manual;
          without ImageNet, python -m scripts.make_tiny_imagenet --out DIR.

Nobody has run it to the end here. What follows is derived, and says from what.

Time:     4 hours on a v4-32 (16 chips), 7 on 8 A100. Four runs in lockstep, the reference and three twins:
            an image and run    4.09e9 multiply-adds forward (counted), x 2 operations x 3 for training = 2.45e10
            the whole           100 epochs x 1,251 steps x 1,024 images = 1.281e8 images, x 4 runs = 1.26e19
            v4-32               16 x 2.75e14/s at its peak [1], of which 21% [2]: 9.2e14/s, 3.8 h
            8 A100              8 x 3.12e14/s at its peak, of which 20% [3]: 5.0e14/s, 7.0 h
          Compilation, evaluation and checkpoints come on top. To keep up, the hosts together decode 9,400 images a
          second for the v4-32 and 5,100 for the A100s; `python -m scripts.benchmark --only images` tells what a core
          does.
Memory:   of a device, 6 to 15 GB with 64 images on each (v4-32: 32 GiB), 9 to 26 GB with 128 (8 A100: 40 or 80 GB):
            state               3.26 GB (counted, `--only memory`): 0.82 GB of weights, momentum and batch norm, and
                                tracking of 23,454,912 quantized weights, 104 bytes each for four runs: 2.44 GB
            activations         44 MB an image and run: outputs of convolutions and of batch norms, 2 x 11.1 million
                                (counted) in bfloat16, for the runs one after the other at least and all at most
Accuracy: not known. Above it lies 76.5%: Flax's example, which has this model, batch, schedule and length, reports
          76.54% top-1 with kernels in full precision, Nesterov momentum and weight decay 1e-4 [2]. Kernels of 2 bits,
          the first one too, cost some of that. The paper's own figures could not be looked up here. What is under test
          is not the accuracy, but whether `ste` ends where the reference ends, with `jitter` as the yardstick.

[1] cloud.google.com/tpu/docs/v4.
[2] README of google/flax, examples/imagenet: 125,100 steps of 1,024 images on a TPU v3-32 in 2.1 h. At 2.45e10 an image
    that is 4.2e14/s, 21% of the peak of its 16 chips (1.23e14/s, cloud.google.com/tpu/docs/v3).
[3] github.com/huggingface/pytorch-image-models/issues/1491: 2,500 images a second in training on an A100, 6.1e13/s.
    Its peak: github.com/calculon-ai/calculon, systems/a100_80g.json.
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
    config.weight_decay = 1e-4
    config.twins = 'ste,naive_ste,jitter'
    config.checkpoint_every_steps = 1250
    return config
