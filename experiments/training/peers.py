"""The other processes of a run: all work on the same run, and none waits for one that is gone.

Every process writes into the key-value store of jax's coordination service, which process 0 holds: signs of life, the
signal that stops it, and how it ends. A thread reads what the others write, for the main thread may be in a collective
that never ends.
"""

import contextlib
import itertools
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping

import jax

from experiments.errors import USERS_ERROR, UserError, tell
from experiments.setup.identity import differences
from experiments.training import distributed

_POLL_SECONDS = 1
_SILENT_SECONDS = int(os.environ.get('SILENCE_SECONDS', 60))  # without a sign of life: gone
_ANSWER_SECONDS = 600  # for what all do at the same time; a file of many GB may have to be read for it
_FAREWELL_SECONDS = 10  # for the others to read why process 0 ends
_GOES_ON = 'with the same --workdir they go on from the newest checkpoint'
_SAVED = 'stopped'  # how a process ends that a signal ended in a step
_peers = None  # of this process; None: it is alone


def together(setting: str, work: Callable[[], int]) -> int:
    """Does the work beside the other processes, if there are any; returns its exit code.

    If one of several processes fails, dies or is refused, every other one ends with exit code 2 and a line that says
    which and why, at most `_SILENT_SECONDS` and a few seconds later.

    Args:
      setting: 'off', 'auto', or 'HOST:PORT,COUNT,INDEX'.
      work: of this process.

    Raises:
      UserError: what is refused before the processes have found each other, or by a process that is alone.
    """
    global _peers
    if setting == 'off':
        return work()
    distributed.start(setting, _lost)
    _peers = _Peers()
    try:
        code = work()
    except UserError as error:
        _peers.leave(str(error), lambda error=error: tell(error))
    except KeyboardInterrupt:
        _peers.leave('it was interrupted', lambda: 128 + signal.SIGINT)
    except BaseException as error:
        _peers.leave(f'it failed with {type(error).__name__}', _trace)
    return _peers.finish(code)


def agree(facts: Callable[[], Mapping[str, str]], seconds: float = _ANSWER_SECONDS) -> None:
    """Returns once all processes have the same facts.

    Args:
      facts: returns what must not differ, by its name; not called in a process that is alone.
      seconds: how long to wait for the others.

    Raises:
      UserError: in every process, naming what differs from process 0; or another process says nothing.
    """
    if not _peers:
        return
    told = _peers.exchange(dict(facts()), range(_peers.count), seconds)
    for index, there in told.items():
        if different := differences(told[0], there):
            name, *more = different
            values = [f'{told[at].get(name, "missing")[:40]} in process {at}' for at in (0, index)]
            others = f'; so do {", ".join(more)[:80]}' if more else ''
            raise UserError(
                f'the processes differ: {name} is {", ".join(values)}{others}; start the same command on all'
            )


def of_first(make: Callable[[], object]):
    """Returns what `make` returns in process 0, the only one that calls it; a value of JSON."""
    if not _peers:
        return make()
    return _peers.exchange(make() if _peers.index == 0 else None, [0], _ANSWER_SECONDS)[0]


def signalled(number: int) -> None:
    """Passes the signal that stops this process on to the others."""
    if _peers:
        _peers.signalled(number)


def saved() -> None:
    """Tells the others that this process was stopped, and leaves."""
    if _peers:
        _peers.write('end', _SAVED)


def wait_for_news() -> None:
    """Does not return where a collective broke because another process is gone: the watch ends this one with a line."""
    time.sleep(_SILENT_SECONDS + 5 * _POLL_SECONDS)


def _lost() -> None:
    """Called by a thread of C++, and must not return."""
    if _peers:
        _peers.lost()
    os._exit(tell(UserError('distributed: the processes lost each other; start the same command on every worker')))


def _trace() -> int:
    traceback.print_exc()
    return 1


class _Peers:
    """The processes that jax knows, seen from this one; `watch` runs until this one ends."""

    def __init__(self):
        from jax._src.distributed import global_state  # late: jax has no public door to its service

        self.client, self.index, self.count = global_state.client, global_state.process_id, global_state.num_processes
        self._rounds = itertools.count()
        self._signal = self._code = None  # that stops this process, and with which it ends
        self._ending, self._over = threading.Lock(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def exchange(self, value, by: Iterable[int], seconds: float) -> dict:
        """What the processes `by` say in this round of questions, by their index."""
        number, deadline = next(self._rounds), time.monotonic() + seconds
        if self.index in by:
            self.write(f'said/{number}', json.dumps(value))
        return {index: json.loads(self._wait(f'said/{number}/{index}', index, deadline)) for index in by}

    def _wait(self, key: str, index: int, deadline: float) -> str:
        while time.monotonic() < deadline:
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # it is not there yet
                return self.client.key_value_try_get(key)
            time.sleep(0.1)
        raise UserError(f'process {index} lives, and has not come as far as the others; see what it prints')

    def signalled(self, number: int) -> None:
        """A signal is to stop all."""
        self._signal = number
        self.write('signal', str(number))

    def write(self, kind: str, text: str) -> None:
        """Tells the others."""
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # process 0 is gone: the watch says so
            self.client.key_value_set(f'{kind}/{self.index}', text, allow_overwrite=True)

    def _read(self, kind: str) -> dict[int, str]:
        """What the others have written, by their index."""
        try:
            written = self.client.key_value_dir_get(kind)
        except jax.errors.JaxRuntimeError:
            return {}
        found = {int(key.rpartition('/')[2]): text for key, text in written}
        return {index: text for index, text in found.items() if index != self.index}

    def _watch(self) -> None:
        last, signs = {}, itertools.count()
        while not self._over.wait(_POLL_SECONDS):
            self.write('alive', str(next(signs)))
            now, alive = time.monotonic(), self._read('alive')
            for index in {*range(self.count)} - {self.index}:
                if index not in last or alive.get(index, last[index][0]) != last[index][0]:
                    last[index] = alive.get(index), now
            ends = self._read('end')
            for number in self._read('signal').values():
                self._pass_on(int(number))
            for index, why in ends.items():
                if why not in ('', _SAVED):
                    time.sleep(2 * _POLL_SECONDS)  # the main thread may be about to say the same
                    self._follow(f'process {index} ended: {why}')
            for index, (_, since) in last.items():
                if index not in ends and now - since > _SILENT_SECONDS:
                    self._follow(
                        f'process {index} has given no sign of life for {_SILENT_SECONDS} s; see what it printed, then '
                        f'start all again: {_GOES_ON}'
                    )

    def _pass_on(self, number: int) -> None:
        """Another process is to stop: so is this one, once, as soon as it can save."""
        if self._signal is None and callable(signal.getsignal(number)):
            self._signal = number
            os.kill(os.getpid(), number)

    def lost(self) -> None:
        """Process 0 is gone, or another one broke the connection: ends this one, without jax, which would wait."""
        if self._code is not None:
            _exit(self._code)  # all are at the end, and process 0 was faster
        if self._signal is not None:
            os._exit(128 + self._signal)  # process 0 has saved, and left
        if not self._ending.acquire(blocking=False):
            time.sleep(5 * _POLL_SECONDS)  # another thread is saying why this process ends
            os._exit(USERS_ERROR)
        who = 'process 0 is' if self.index else 'the connection to the other processes is'
        _exit(tell(UserError(f'{who} gone; see what it printed, then start all again: {_GOES_ON}')))

    def _follow(self, message: str) -> None:
        self.leave('', lambda: tell(UserError(message)))

    def leave(self, why: str, say: Callable[[], int]) -> None:
        """Ends this process at once, without waiting for the others in a collective. Does not return.

        Args:
          why: for the others; '' if they know.
          say: tells people, and returns the exit code.
        """
        if not self._ending.acquire(blocking=False):
            threading.Event().wait()  # another thread is ending the process
        code = say()
        self.write('end', why)
        if self.index == 0:
            self._await('end', _FAREWELL_SECONDS)
        _exit(code)

    def _await(self, kind: str, seconds: float = float('inf')) -> None:
        deadline = time.monotonic() + seconds
        while len(self._read(kind)) < self.count - 1 and time.monotonic() < deadline:
            time.sleep(0.1)

    def finish(self, code: int) -> int:
        """Waits until all have come to the end; returns the code."""
        self.write('end', '')
        self._await('end')  # the watch ends this where one is gone
        if _SAVED in self._read('end').values():
            _exit(code)
        self._code = code
        self.write('left', '')
        if self.index == 0:  # takes the store along: not before the others have seen that all are at the end
            self._await('left', _FAREWELL_SECONDS)
        self._over.set()
        self._watcher.join()
        jax.distributed.shutdown()
        return code


def _exit(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
