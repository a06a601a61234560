"""Several processes, one run: who takes part, and which share of every batch is whose."""

import contextlib
import ctypes
import functools
import os
import socket
from collections.abc import Callable, Iterator

import jax
from jax._src.distributed import global_state

from experiments.data.batches import Share
from experiments.errors import UserError

_TIMEOUT_SECONDS = int(os.environ.get('RENDEZVOUS_SECONDS', 120))  # slices and clusters may start unevenly
_SHUTDOWN_SECONDS = 60
_NEVER = 10**6  # seconds; jax's own watch over the processes ends them with stack traces: `peers` watches
_kept = []  # functions that C++ calls: they must live as long as the process


def start(setting: str, lost: Callable[[], None]) -> None:
    """Joins the other processes, before anything else touches a device.

    Args:
      setting: 'auto' on a TPU slice or under Slurm; or 'HOST:PORT,COUNT,INDEX', the address of process 0, the number
        of processes and which one this is.
      lost: ends this process; called by another thread once process 0 is gone.

    Raises:
      UserError: not of that form, or the others did not come.
    """
    arguments = _arguments(setting)
    if arguments.get('process_id') == 0:
        _check_free(int(arguments['coordinator_address'].rpartition(':')[2]))
    try:
        with _instead_of_a_stack_trace(lost):
            jax.distributed.initialize(
                **arguments,
                initialization_timeout=_TIMEOUT_SECONDS,
                heartbeat_timeout_seconds=_NEVER,
                shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
            )
    except ValueError:  # nothing says who takes part
        raise UserError(
            'distributed=auto: there is no TPU slice and no Slurm job here; write HOST:PORT,COUNT,INDEX, or leave it '
            'off on one machine'
        ) from None
    except RuntimeError:
        global_state.client = global_state.service = None  # jax would try to shut them down, with a stack trace
        raise UserError(
            f'distributed={setting}: {_missing(**arguments)} in {_TIMEOUT_SECONDS} s; '
            'start the same command on every worker'
        ) from None


def _arguments(setting: str) -> dict:
    if setting == 'auto':
        return {}
    try:
        address, count, index = setting.split(',')
        host, _, port = address.rpartition(':')
        arguments = {'coordinator_address': address, 'num_processes': int(count), 'process_id': int(index)}
        if not host.strip() or not port.isascii() or int(port) not in range(1, 2**16):
            raise ValueError
        if not 0 <= arguments['process_id'] < arguments['num_processes']:
            raise ValueError
    except ValueError:
        raise UserError(
            f'distributed: write off, auto or HOST:PORT,COUNT,INDEX with a port up to 65535 and INDEX from 0 to '
            f'COUNT - 1, not {setting!r}'
        ) from None
    return arguments


def _check_free(port: int) -> None:
    """Refuses a port that process 0 cannot open, at which jax's service would end in a segmentation fault."""
    try:
        socket.create_server(('', port)).close()
    except OSError as error:
        raise UserError(
            f'distributed: port {port}: {os.strerror(error.errno)}; choose another one, the same on all'
        ) from None


def _missing(coordinator_address: str = '', num_processes: int = 0, process_id: int = 0) -> str:
    """Who did not come, as far as one process can know."""
    if process_id:
        host, _, port = coordinator_address.rpartition(':')
        try:
            socket.create_connection((host.strip('[]'), int(port)), timeout=2).close()
        except OSError:
            return f'process 0 did not answer at {coordinator_address}'
    return f'process {1 - process_id} did not come' if num_processes == 2 else 'the processes did not find each other'


@contextlib.contextmanager
def _instead_of_a_stack_trace(lost: Callable[[], None]) -> Iterator[None]:
    """Where a client of jax's service that is made in the block loses the service, `lost` is called.

    By default C++ aborts the process at once. jax has no argument for another callback, and jaxlib cannot call one
    that is written in Python: it raises bad_cast in a thread of its own, which ends in std::terminate.
    """
    try:
        from jax._src.lib import _jax

        original = _jax.get_distributed_runtime_client
    except (ImportError, AttributeError):  # another version of jax: the stack trace stays
        yield
        return
    _kept.append(ctypes.CFUNCTYPE(None)(lost))
    with contextlib.suppress(OSError, AttributeError):  # another C++ library: the stack trace stays
        ctypes.CDLL('libstdc++.so.6')._ZSt13set_terminatePFvvE(_kept[-1])
    _jax.get_distributed_runtime_client = functools.partial(
        original, missed_heartbeat_callback=lambda _: lost(), shutdown_on_destruction=False
    )
    try:
        yield
    finally:
        _jax.get_distributed_runtime_client = original


def share() -> Share:
    """This process's."""
    return Share(jax.process_index(), jax.process_count())
