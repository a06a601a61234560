"""Quantization-aware training: quantizers, gradient estimators and the theorem that relates them."""
