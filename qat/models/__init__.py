"""The networks of the experiments, as plain Flax modules: a small convolutional network, ResNets and a transformer.

Their layers are injected (`conv`, `dense`), and they know nothing of quantization, data or training. They may import
jax, flax and each other alone. Images or tokens come in, logits go out.
"""
