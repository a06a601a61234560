"""Eight virtual CPU devices for every test; must be set before jax starts."""

import os

from hypothesis import settings

os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
os.environ['JAX_PLATFORMS'] = 'cpu'

settings.register_profile('exact', deadline=None, derandomize=True, max_examples=60)
settings.load_profile('exact')
