"""Two series of weights over time, from whatever program, compared as a run compares a twin with its reference.

A *snapshot* is the weights at one step, a *series* one a step. Layers are read in parts, so that memory does not grow
with the model or the number of steps. The numbers are made in `qat.lockstep.tracking`; pickles are refused.
"""
