"""SIGTERM, Ctrl-C and a closed terminal: the run saves, and ends within half a minute, wherever they find it."""

import collections
import contextlib
import functools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.errors import UserError, tell
from experiments.training import peers

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STOPPED = {128 + number for number in _SIGNALS}  # exit codes, as a shell has them
_GRACE_SECONDS = 10  # for the training loop to come to the end of a step
_OTHERS_GRACE_SECONDS = 20  # process 0 saves; who leaves earlier takes it along
_RESCUE_SECONDS = 12  # to save; in a step that does not end there is nothing to save
_BALLOTS_IN_FLIGHT = 2


class Stop:
    """Whether a signal has asked the run to end, and what to do when the main thread does not see it.

    Attributes:
      code: the exit code that goes with the signal; None before one came.
      rescue: saves what there is to save; called by another thread where the training loop does not end by itself.
        RuntimeError says that there is nothing to read at the moment.
    """

    def __init__(self, grace: float):
        self._grace = grace
        self.code: int | None = None
        self.rescue: Callable[[], None] = lambda: None
        self._ballots = collections.deque()

    def agreed(self) -> bool:
        """Whether to end after this step; all processes get the same answer in the same step.

        Several processes vote with every step, and look at the votes of a few steps ago, which are there without
        waiting.
        """
        if jax.process_count() == 1:
            return self.code is not None
        self._ballots.append(_highest_vote(self.code or 0))
        highest = self._ballots.popleft().item() if len(self._ballots) > _BALLOTS_IN_FLIGHT else 0
        self.code = self.code or highest or None
        return highest > 0

    def _note(self, number: int, _) -> None:
        self.code = 128 + number

    def _watch(self, wakes: socket.socket) -> None:
        numbers = wakes.recv(1)
        if not numbers:
            return
        self._note(numbers[0], None)
        peers.signalled(numbers[0])
        wakes.settimeout(self._grace if jax.process_index() == 0 else _OTHERS_GRACE_SECONDS)
        with contextlib.suppress(TimeoutError):
            while wakes.recv(1):  # further signals change nothing
                pass
            return
        rescuer = threading.Thread(target=self._rescue, daemon=True)
        rescuer.start()
        rescuer.join(_RESCUE_SECONDS)
        if rescuer.is_alive():  # the step waits for a process that is gone, and with it whoever waits for its result
            message = 'stopped with nothing saved since the last checkpoint: a step did not end'
            print(message, file=sys.stderr, flush=True)
        peers.saved()
        os._exit(self.code)

    def _rescue(self) -> None:
        """Saves what there is to save; between two steps there is a moment when it can be read."""
        while True:
            try:
                return self.rescue()
            except RuntimeError:  # the state is being overwritten by a step
                time.sleep(0.2)
            except UserError as error:
                os._exit(tell(error))


@contextlib.contextmanager
def stopping(grace: float = _GRACE_SECONDS) -> Iterator[Stop]:
    """Turns the signals into a `Stop` while the block runs.

    A Python handler would have to wait while the main thread is inside XLA, minutes where a large model is compiled.
    So the signal's number goes to a socket at once, and another thread reads it.

    Args:
      grace: the seconds that process 0 has to come to an end by itself.
    """
    stop, (wakes, woken) = Stop(grace), socket.socketpair()
    woken.setblocking(False)
    heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores SIGHUP
    before = {number: signal.signal(number, stop._note) for number in heard}
    fd_before = signal.set_wakeup_fd(woken.fileno())
    watcher = threading.Thread(target=stop._watch, args=(wakes,), daemon=True)
    watcher.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(fd_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        woken.close()  # ends the watcher
        watcher.join()
        wakes.close()


def _highest_vote(vote: int) -> jax.Array:
    mesh = Mesh(np.array(jax.devices()), ('devices',))
    votes = np.full(jax.local_device_count(), vote, np.int32)
    given = jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec('devices')), votes)
    return _max(given, NamedSharding(mesh, PartitionSpec()))


@functools.partial(jax.jit, static_argnums=1)
def _max(votes: jax.Array, everywhere: NamedSharding) -> jax.Array:
    return jax.lax.with_sharding_constraint(jnp.max(votes), everywhere)
