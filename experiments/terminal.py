"""What people see during a run: lines and a progress bar, from only one of the processes."""

import sys
import textwrap

import jax

_WIDTH = 80  # characters


def is_primary() -> bool:
    """Returns whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def say(message: str, file=None) -> None:
    """Prints a line, if this process is the one that prints."""
    if is_primary():
        print(message, file=file or sys.stdout, flush=True)


def warn(message: str) -> None:
    """Prints a warning on stderr, if this process is the one that prints."""
    say(f'warning: {message}', sys.stderr)


def wrapped(text: str) -> str:
    """Returns a paragraph in lines for a terminal."""
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def progress_bar(steps: int, done: int, label: str = ''):
    """Returns a tqdm bar that counts steps, of which some are done; it is shown by one process.

    Args:
      steps: in all.
      done: of them.
      label: what goes before the bar; a labelled bar is one of many, and is wiped out at its end.
    """
    from tqdm import tqdm  # late, because most programs show no bar

    look = {'unit': 'step', 'mininterval': progress_interval(), 'desc': label, 'leave': not label}
    return tqdm(initial=done, total=steps, disable=not is_primary(), **look)


def progress_interval() -> float:
    """Returns the seconds between updates of a progress bar: few in a terminal, more in a log file."""
    return 0.1 if sys.stderr.isatty() else 10
