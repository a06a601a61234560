"""What a run ran on: the command, the versions, the devices. For people; nothing depends on it."""

import platform
import shlex
from importlib import metadata

import jax

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


def describe(argv: list[str], devices: list) -> dict:
    """The content of environment.json."""
    return {
        'command': f'python -m experiments.train {shlex.join(argv)}',
        'python': platform.python_version(),
        'platform': f'{platform.system()} {platform.machine()}',
        'processes': jax.process_count(),
        'devices': f'{len(devices)} x {devices[0].device_kind} ({jax.default_backend()})',
        'versions': versions(),
    }


def versions() -> dict[str, str]:
    """Of the packages that numbers may depend on."""
    return {package: metadata.version(package) for package in PACKAGES}
