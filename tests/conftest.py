"""Eight virtual CPU devices, and programs compiled once for all tests; must be set before jax starts."""

import os
import pathlib

from hypothesis import settings

os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
os.environ['JAX_PLATFORMS'] = 'cpu'
cache = pathlib.Path(__file__).parent.parent / '.pytest_cache' / 'compiled'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(cache))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.3')

settings.register_profile('exact', deadline=None, derandomize=True, max_examples=40)
settings.load_profile('exact')
