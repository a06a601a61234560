"""The machine that figures come from."""

import os

import jax

from experiments.workdir import environment


def machine() -> dict:
    """The content of `machine` in a file of figures."""
    about = environment.describe([], jax.local_devices())
    kept = {key: about[key] for key in ('python', 'platform', 'devices', 'versions')}
    return {**kept, 'backend': jax.default_backend(), 'cores': len(os.sched_getaffinity(0))}
