"""A description, for people, of what a run ran on: the command, the versions, the devices. Nothing depends on it."""

import os
import platform
import shlex
from importlib import metadata

import jax

_CHANGING = ('JAX_', 'XLA_', 'LIBTPU_', 'NVIDIA_TF32_OVERRIDE')  # how names of variables that matter begin
PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


def describe(argv: list[str], devices: list) -> dict:
    """Returns the content of environment.json for a command line, without the program's name, and jax devices."""
    return {
        'command': f'python -m experiments.train {shlex.join(argv)}',
        'python': platform.python_version(),
        'platform': f'{platform.system()} {platform.machine()}',
        'processes': jax.process_count(),
        'devices': f'{len(devices)} x {devices[0].device_kind} ({jax.default_backend()})',
        'jax_enable_x64': jax.config.jax_enable_x64,
        'variables': {name: value for name, value in sorted(os.environ.items()) if name.startswith(_CHANGING)},
        'versions': versions(),
    }


def versions() -> dict[str, str]:
    """Returns the versions of the packages that numbers may depend on, by name."""
    return {package: metadata.version(package) for package in PACKAGES}
