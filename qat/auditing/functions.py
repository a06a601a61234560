"""The audit of a JAX function: its samples, and what it does when it is called again."""

import dataclasses
from collections.abc import Callable

from qat.auditing.audits import Audit, of_samples
from qat.auditing.probing import sample
from qat.auditing.samples import collect

MOVING_SCALE = 'its range is computed from the latent weights, or its thresholds (fixed ones would have a recipe)'


def audit_function(function: Callable, *, R: float | None = None, bits: int | None = None) -> Audit:
    """What a fake-quantizer in JAX is.

    Args:
      function: weights -> quantized weights, float32 of any shape; see `qat.auditing.probing.sample`.
      R: its range, from -1.5 R to 1.5 R is sampled; None: it is looked for.
      bits: as in `qat.audit`.

    Raises:
      ValueError: it does not return an array like its weights, or one that is not of a fake-quantizer.
    """
    tried = sample(function, R)
    found = of_samples(collect(tried.w, tried.q, tried.slope), bits, is_whole=tried.is_whole)
    of_calls = tried.probed.reasons()
    reasons = of_calls if tried.probed.stochastic else tuple(dict.fromkeys((*of_calls, *found.reasons)))
    caution = (MOVING_SCALE,) if tried.probed.other_weights else ()
    alpha = None if of_calls else found.alpha
    cautions = (*found.cautions, *caution)
    return dataclasses.replace(
        found,
        alpha=alpha,
        reasons=reasons,
        identity_reasons=tuple(dict.fromkeys((*of_calls, *found.identity_reasons))),
        cautions=cautions,
        probed=tried.probed,
    )
