"""What people see during a run: lines and a progress bar, from only one of the processes."""

import sys
import textwrap
from collections.abc import Iterable, Sequence

import jax
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from experiments.errors import printable

_WIDTH = 80  # characters
_ANY = 10 * _WIDTH  # that a table might want


def is_primary() -> bool:
    """Returns whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def say(message: str, file=None) -> None:
    """Prints a line, if this process is the one that prints."""
    if is_primary():
        print(printable(message), file=file or sys.stdout, flush=True)


def warn(message: str) -> None:
    """Prints a warning on stderr, if this process is the one that prints."""
    say(f'warning: {message}', sys.stderr)


def note(message: str) -> None:
    """Prints on stderr what is as it should be, and better known, if this process is the one that prints."""
    say(f'note: {message}', sys.stderr)


def wrapped(text: str) -> str:
    """Returns a paragraph in lines for a terminal."""
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table as wide as a terminal at most: what is too long for its column goes on below.

    Without headings it has no frame either.
    """
    columns = (Column(heading, overflow='fold') for heading in headings)
    grid = Table(*columns) if headings else Table.grid(padding=(0, 2))
    for row in rows:
        grid.add_row(*(Text(printable(cell), overflow='fold') for cell in row))  # a Text is no markup
    console = Console(width=_WIDTH, force_terminal=False)  # asks stdout for its encoding: a frame of ASCII for ASCII
    grid.collapse_padding = console.measure(grid, options=console.options.update(width=_ANY)).maximum > _WIDTH
    with console.capture() as captured:
        console.print(grid)
    return '\n'.join(line.rstrip() for line in captured.get().rstrip().splitlines())


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
