"""Quantization-aware training: quantizers, gradient estimators, the theorem that relates them, and lockstep.

A pure library (jax, flax and optax): no files, flags or printing. `qat.Lockstep` trains any JAX model with a gradient
estimator beside its STE twins, and says whether it is a straight-through estimator in disguise (arXiv 2405.05171).
What is public stands in `qat.api`.
"""

__version__ = '0.2.0'
__all__ = ['Lockstep', 'Moment', 'audit', 'audit_layer', 'estimator', 'optimizer']


def __getattr__(name: str):
    # Late: a program that reads `qat.calls` alone, to answer --help, does not wait for jax.
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from qat import api

    return getattr(api, name)


def __dir__():
    return sorted([*globals(), *__all__])
