"""Errors that the user can fix, as opposed to bugs, and how they are told."""

import contextlib
import pathlib
import sys

USERS_ERROR = 2  # exit code
_LONGEST_MESSAGE = 300  # characters
_LONGEST_WORD = 60  # in a message that would be longer


class UserError(Exception):
    """Something the user asked for cannot be done. The message is one line: what, where, what to do."""


@contextlib.contextmanager
def blame(where: str):
    """Turns a ValueError of the library into a UserError that says where the value came from."""
    try:
        yield
    except ValueError as error:
        raise UserError(f'{where}: {error}') from error


def check_file(path: pathlib.Path) -> None:
    """Refuses what is no file that can be read: a pipe would be waited for.

    Raises:
      OSError: with what is there instead.
    """
    if not path.is_file():
        there = 'it is a folder' if path.is_dir() else 'it is no regular file'
        raise OSError(0, there if path.exists() else 'no such file')


def printable(text: str) -> str:
    """Returns lines with what would command a terminal, such as an escape, written out instead."""
    return ''.join(c if c.isprintable() or c == '\n' else c.encode('unicode_escape').decode() for c in text)


def tell(error: UserError) -> int:
    """Prints the error as one line on stderr; returns the exit code."""
    print(_shortened(printable(' '.join(f'error: {error}'.split()))), file=sys.stderr)
    return USERS_ERROR


def _shortened(message: str) -> str:
    """As long as a message may be: first long words, which are paths and values, lose their middle, then the whole."""
    while len(message) > _LONGEST_MESSAGE:
        word = max(message.split(' '), key=len)
        if len(word) <= _LONGEST_WORD:
            return _without_middle(message, _LONGEST_MESSAGE)
        room = len(word) - (len(message) - _LONGEST_MESSAGE)
        message = message.replace(word, _without_middle(word, max(room, _LONGEST_WORD)))
    return message


def _without_middle(text: str, length: int) -> str:
    """The text in so many characters; its end, where a file's name or the advice is, gets half."""
    end = length // 2
    return f'{text[: length - end - 1]}…{text[-end:]}'
