"""How every command begins and ends, whatever terminal, notebook, pipe or locale it is called from.

Imports nothing heavy: what it sets must be set before jax and matplotlib are imported.
"""

import contextlib
import errno
import functools
import gc
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable

from experiments.allocation import keep_memory
from experiments.errors import UserError, tell

INTERRUPTED = 128 + signal.SIGINT  # exit code, as a shell has it

_IMPORTING = '<frozen importlib._bootstrap>'


def told(main: Callable[..., int]) -> Callable[..., int]:
    """Returns a command whose user's errors are one line on stderr and an exit code."""

    @functools.wraps(main)
    def command(*arguments) -> int:
        try:
            return main(*arguments)
        except UserError as error:
            return tell(error)
        except Exception as error:
            problem = _jax_refuses(error) or _without_devices()
            if not problem:
                raise
            return tell(UserError(problem))

    return command


def run(main: Callable[[list[str]], int], *, is_answer: bool = False) -> None:
    """Runs a command as this process, and ends it with the exit code.

    Args:
      main: takes the command line without the program's name; returns the exit code.
      is_answer: whether what it prints is all that it gives, so that without it the command has failed.
    """
    os.environ['MPLBACKEND'] = 'agg'  # a notebook's own, which its commands inherit, needs packages of the notebook
    keep_memory()
    outputs = _lasting_outputs()
    with _silent_when_interrupted():
        code = main(sys.argv[1:])
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    lost = outputs[0].lost
    if lost and lost.errno != errno.EPIPE:  # a reader that has gone knows
        message = f'standard output: {lost.strerror}; make room there: some of what was printed is lost'
        if is_answer and not code:
            code = tell(UserError(message))
        else:
            print(f'warning: {message}', file=sys.stderr)
    gc.freeze()  # what is left goes with the process: nobody need look through it for cycles
    sys.exit(code)


class _Output(io.FileIO):
    """A file to print to that never fails: its reader may go away, and its disk fill up, without ending a training.

    Attributes:
      lost: the first error of writing; None if all has been written.
    """

    lost: OSError | None = None

    def write(self, data) -> int | None:
        try:
            return super().write(data)
        except OSError as error:
            self.lost = self.lost or error
            return len(data)


def _lasting_outputs() -> list[_Output]:
    """Puts streams that never fail in the place of stdout and stderr; what their encoding lacks is escaped."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file to be opened, perhaps a checkpoint, would be printed into
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    raws = []
    for descriptor, name in ((1, 'stdout'), (2, 'stderr')):
        raw, before = _Output(descriptor, 'w', closefd=False), getattr(sys, name)
        options = {'encoding': 'utf-8'}
        if before:
            options = {key: getattr(before, key) for key in ('encoding', 'line_buffering', 'write_through')}
        buffer = raw if options.get('write_through') else io.BufferedWriter(raw)  # Python's stderr has no buffer
        setattr(sys, name, io.TextIOWrapper(buffer, errors='backslashreplace', **options))
        raws.append(raw)
    return raws


@contextlib.contextmanager
def _silent_when_interrupted():
    """Ctrl-C ends the process with its exit code and without a word, wherever it comes; a second one, at once."""
    came = False

    def interrupt(_, frame):
        nonlocal came
        while frame and frame.f_code.co_filename != _IMPORTING:
            frame = frame.f_back
        if came or frame:  # in an import nothing is written yet, and not every library bears an exception there
            os._exit(INTERRUPTED)
        came = True
        raise KeyboardInterrupt

    def swallowed(what):  # an exception that no caller can see, as in a destructor
        if came:
            os._exit(INTERRUPTED)
        sys.__unraisablehook__(what)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it is ignored in the background of a script
        signal.signal(signal.SIGINT, interrupt)
    sys.unraisablehook = swallowed
    try:
        yield
    except BaseException:  # libraries turn it into errors of their own
        if not came:
            raise
        os._exit(INTERRUPTED)  # waits for no thread


def _jax_refuses(error: Exception) -> str:
    """What is wrong with the variables by which the environment sets jax, if that is what the error is about."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, ValueError) and any(file.endswith('jax/_src/config.py') for file in files):
        return f'the environment sets jax to what it does not take ({" ".join(str(error).split())[:150]}); unset it'
    if os.environ.get('JAX_TRANSFER_GUARD', 'allow') != 'allow' and 'transfer' in str(error):
        return 'JAX_TRANSFER_GUARD forbids what this program does all the time; unset it'
    return ''


def _without_devices() -> str:
    """What is wrong with jax's devices, if anything is: asked after an error that may come from there."""
    jax = sys.modules.get('jax')
    try:
        if jax:
            jax.local_devices()
        return ''
    except Exception as error:
        reason = ' '.join(str(error).partition(' (set JAX')[0].split())[:150]  # jax's advice is in ours
        return (
            f'JAX_PLATFORMS={os.environ.get("JAX_PLATFORMS", "")}: jax finds no such device here'
            f'{f" ({reason})" if reason else ""}; unset the variable, or set it to cpu'
        )
