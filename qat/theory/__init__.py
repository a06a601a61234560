"""The theorem as code: when, and how, an estimator is STE in disguise (arXiv 2405.05171).

Here live the integrals of 1/s, the conditions under which the theorem covers an estimator, the map M, and the recipe
for an STE twin. It may import jax, numpy and the modules of `qat` below it (estimators, quantizers), nothing of
`qat.lockstep`. An estimator comes in; what goes out is alpha, M, a recipe, or `NotCovered` with the reason.
"""
