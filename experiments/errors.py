"""Errors that the user can fix, as opposed to bugs, and how they are told."""

import contextlib
import sys

USERS_ERROR = 2  # exit code
_LONGEST_MESSAGE = 300  # characters


class UserError(Exception):
    """Something the user asked for cannot be done. The message is one line: what, where, what to do."""


@contextlib.contextmanager
def blame(where: str):
    """Turns a ValueError of the library into a UserError that says where the value came from."""
    try:
        yield
    except ValueError as error:
        raise UserError(f'{where}: {error}') from error


def printable(text: str) -> str:
    """Returns lines with what would command a terminal, such as an escape, written out instead."""
    return ''.join(c if c.isprintable() or c == '\n' else c.encode('unicode_escape').decode() for c in text)


def tell(error: UserError) -> int:
    """Prints the error as one line on stderr; returns the exit code."""
    message = printable(' '.join(f'error: {error}'.split()))
    print(message if len(message) <= _LONGEST_MESSAGE else f'{message[: _LONGEST_MESSAGE - 1]}…', file=sys.stderr)
    return USERS_ERROR
