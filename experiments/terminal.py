"""What people see while a run goes on: lines and a progress bar, once for all processes."""

import sys

import jax


def is_primary() -> bool:
    """Whether this process writes the files and talks to people."""
    return jax.process_index() == 0


def say(message: str, file=None) -> None:
    """Prints, once for all processes."""
    if is_primary():
        print(message, file=file or sys.stdout, flush=True)


def warn(message: str) -> None:
    """Prints a warning, once for all processes."""
    say(f'warning: {message}', sys.stderr)


def progress_bar(steps: int, done: int):
    """A tqdm bar that counts steps."""
    from tqdm import tqdm  # late: not every program that talks to people shows one

    return tqdm(initial=done, total=steps, unit='step', mininterval=progress_interval(), disable=not is_primary())


def progress_interval() -> float:
    """Seconds between updates of a progress bar: often for eyes, seldom for a log file."""
    return 0.1 if sys.stderr.isatty() else 10
