"""The reference run and its twins in lockstep, as pure functions of any loss, parameter tree and optax transformation.

Here live the twins, the paired step, tracking, evaluation, finiteness, conversion and the verdict. It may import all of
the rest of `qat` and nothing outside it. A parameter tree and batches come in; states, sums and a sentence go out, and
what happens on devices, in files or on a terminal is the caller's business.
"""
