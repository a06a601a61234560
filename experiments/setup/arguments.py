"""argparse for this project's programs: a mistake is one line that says what is wrong, without lines of usage."""

import argparse

from experiments.errors import UserError


class Parser(argparse.ArgumentParser):
    """Prints a docstring as it is; no abbreviations; an error is a UserError."""

    def __init__(self, **options):
        options = {'allow_abbrev': False, 'formatter_class': argparse.RawDescriptionHelpFormatter} | options
        super().__init__(**options)

    def error(self, message: str):
        raise UserError(f'command line: {message}')


def count(text: str) -> int:
    """A type of argument: an integer of at least 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'must be a whole number of at least 1, got {text!r}')
    return int(text)
