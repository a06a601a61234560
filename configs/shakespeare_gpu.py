"""Tiny Shakespeare at the size of an accelerator, ternary in the kernels of its attention and its MLPs.

Command:  python -m experiments.train --config=configs/shakespeare_gpu.py
          in full precision: --config.quantized=none
Data:     tfds fetches it; without internet python -m scripts.prepare_text --file FILE, once.
Size:     nanoGPT's setting for a GPU: 6 layers, 384 wide, 256 bytes of context, 5,000 steps of 64 windows, dropout.
Cost:     three runs of 10.8 million weights; on a CPU try --config.max_steps=20 --config.max_validation_examples=64.
Result:   not measured yet.
"""

from configs import shakespeare


def get_config():
    config = shakespeare.get_config()
    config.name = 'shakespeare_gpu'
    config.model = 'transformer(layers=6, width=384, heads=6, dropout=0.2)'
    config.context = 256
    config.batch_size = 64
    config.steps_per_epoch = 250
    config.num_epochs = 20
    config.warmup_fraction = 0.02
    return config
