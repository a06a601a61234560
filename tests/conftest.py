"""Eight virtual CPU devices, and programs compiled once for all tests; must be set before jax starts.

Signals that nohup or the background of a shell ignores would be ignored by what the tests start and send them to.
"""

import os
import pathlib
import signal

from hypothesis import settings

os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
os.environ['JAX_PLATFORMS'] = 'cpu'
cache = pathlib.Path(__file__).parent.parent / '.pytest_cache' / 'compiled'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(cache))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.3')

for number, handler in {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}.items():
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, handler)

settings.register_profile('exact', deadline=None, derandomize=True, max_examples=40)
settings.load_profile('exact')
