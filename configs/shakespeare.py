"""Tiny Shakespeare, byte by byte: a small transformer, ternary in the kernels of its attention and its MLPs.

What those train who ask whether their estimator matters (BitNet b1.58, arXiv 2402.17764): the scale of every layer is
computed at every step, activations have 8 bits, and AdamW clips and decays. explain says what theory makes of it:
--config.quantizer, range, range_policy, clip_rule and activation_bits are axes of their own.

Command:  python -m experiments.train --config=configs/shakespeare.py
          in full precision: --config.quantized=none
          on a text of your own: --config.dataset=text:FILE
Data:     tfds fetches it; without internet python -m scripts.prepare_text --file FILE, once.
Size:     nanoGPT's setting for a CPU: 4 layers, 128 wide, 64 bytes of context, 2,000 steps of 12 windows.
Cost:     9 minutes on two cores from command to verdict; in full precision 3 minutes.
Result:   in full precision a loss of 1.896, 1.905 and 1.881 (seeds 0 to 2; nanoGPT: 1.88). Ternary, seed 0: 2.129, and
          STE in its place ends at 2.039, jitter at 2.131: not the same training, as the slope change (53 to 150) lets
          expect.
"""

from configs import common


def get_config():
    config = common.get_config()
    config.name = 'shakespeare'
    config.dataset = 'tiny_shakespeare'
    config.model = 'transformer(layers=4, width=128, heads=4)'
    config.quantized = 'block*/kernel'  # neither the embedding nor the head
    config.context = 64
    config.batch_size = 12
    config.steps_per_epoch = 50
    config.num_epochs = 40
    config.max_validation_examples = 400  # windows of 64 tokens, 40 times
    config.quantizer = 'ternary'
    config.range = 'mean_abs'
    config.range_policy = 'dynamic'
    config.clip_rule = 'pass'
    config.activation_bits = 8
    config.estimator = 'soft_round(a=4.333)'  # the slope of DSQ at 2 bits
    config.optimizer = 'adamw(b2=0.99)'
    config.learning_rate = 1e-3
    config.weight_decay = 0.1
    config.decayed = 'matrices'  # but not the gains of the norms
    config.clip_norm = 1.0
    config.warmup_fraction = 0.05
    config.twins = 'ste,jitter'
    return config
