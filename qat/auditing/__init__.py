"""What a fake-quantizer of anybody is, found out from samples of it: values, slope, clip rule, and which estimator.

samples <- levels <- outside <- cells <- matching <- agreement <- audits, which is `qat.audit`. A JAX
function is sampled and tried by `probing`; whether a layer reads codes only, `latent` asks (`qat.audit_layer`).
"""
