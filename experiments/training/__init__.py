"""A run from its workdir to its report: the only training loop, the only pmap, signals, several processes.

Here live the session, the trainer, compiled programs and their sharing, stopping, and conversion of a run. It may
import all other rooms but `sweeps`. Settings and batches come in; rows of metrics, checkpoints and a report go out.
"""
