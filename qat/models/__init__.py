"""The networks of the experiments, as plain Flax modules: a convolutional network and ResNet-50.

Their layers are injected (`conv`, `dense`), and they know nothing of quantization, data or training. They may import
jax and flax alone. Images come in, logits go out.
"""
