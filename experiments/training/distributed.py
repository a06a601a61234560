"""Several processes, one run: who takes part, and which share of every batch is whose."""

import os
import threading

import jax

from experiments.data.batches import Share
from experiments.errors import UserError, tell

_TIMEOUT_SECONDS = int(os.environ.get('RENDEZVOUS_SECONDS', 120))  # slices and clusters may start unevenly


def start(setting: str) -> None:
    """Joins the other processes, before anything else touches a device.

    Args:
      setting: 'off'; 'auto' on a TPU slice or under Slurm; or 'HOST:PORT,COUNT,INDEX', the address of
        process 0, the number of processes and which one this is.

    Raises:
      UserError: not of that form, or the others did not come.
    """
    if setting == 'off':
        return
    message = (
        f'distributed={setting}: the processes did not find each other in {_TIMEOUT_SECONDS} s; '
        'start the same command on every worker'
    )
    # When its own time is up jax aborts the process with a stack trace: a minute before, one line says what is wrong.
    giving_up = threading.Timer(_TIMEOUT_SECONDS, lambda: os._exit(tell(UserError(message))))
    giving_up.daemon = True
    giving_up.start()
    try:
        jax.distributed.initialize(**_arguments(setting), initialization_timeout=_TIMEOUT_SECONDS + 60)
    except (ValueError, RuntimeError) as error:
        raise UserError(f'{message} ({str(error).splitlines()[0][:120]})') from None
    finally:
        giving_up.cancel()


def _arguments(setting: str) -> dict:
    if setting == 'auto':
        return {}
    try:
        address, count, index = setting.split(',')
        arguments = {'coordinator_address': address, 'num_processes': int(count), 'process_id': int(index)}
        if ':' not in address or not 0 <= arguments['process_id'] < arguments['num_processes']:
            raise ValueError
    except ValueError:
        raise UserError(f'distributed: write off, auto or HOST:PORT,COUNT,INDEX, not {setting!r}') from None
    return arguments


def share() -> Share:
    """This process's."""
    return Share(jax.process_index(), jax.process_count())
