"""Quantization-aware training: quantizers, gradient estimators, the theorem that relates them, and lockstep.

A pure library (jax, flax and optax): no files, flags or printing. `qat.Lockstep` trains any JAX model with a gradient
estimator beside its STE twins, and says whether it is a straight-through estimator in disguise (arXiv 2405.05171).
"""

from qat.estimators import parse as estimator
from qat.lockstep.lockstep import Lockstep
from qat.lockstep.state import Moment
from qat.optimizers import parse as optimizer

__all__ = ['Lockstep', 'Moment', 'estimator', 'optimizer']
