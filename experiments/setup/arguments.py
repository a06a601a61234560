"""argparse for the programs of this project: a mistake is told in one line, without the usage."""

import argparse
import os
import pathlib

from experiments.errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser that prints a docstring as it is, takes no abbreviated flags, and raises a UserError.

    In a path, ~ is the user's home, also where the shell has left it, as in --out=~/x.
    """

    def __init__(self, **options):
        options = {'allow_abbrev': False, 'formatter_class': argparse.RawDescriptionHelpFormatter} | options
        super().__init__(**options)
        self.register('type', pathlib.Path, _path)

    def error(self, message: str):
        raise UserError(f'command line: {message}')


def _path(text: str) -> pathlib.Path:
    if '://' in text:
        raise argparse.ArgumentTypeError(f'{text} must be a folder; mount the bucket and give its path')
    return pathlib.Path(os.path.expanduser(text))


def count(text: str) -> int:
    """Reads an argument that is an integer of at least 1.

    Raises:
      ArgumentTypeError: it is anything else.
    """
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'must be a whole number of at least 1, got {text!r}')
    return int(text)
