"""The networks of the experiments, as plain Flax modules: a small convolutional network and ResNets.

Their layers are injected (`conv`, `dense`), and they know nothing of quantization, data or training. They may import
jax, flax and each other alone. Images come in, logits go out.
"""
