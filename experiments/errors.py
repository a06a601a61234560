"""Errors that are the user's to mend, as opposed to bugs of ours."""

import contextlib


class UserError(Exception):
    """Something the user asked for cannot be done. The message is one line: what, where, what to do."""


@contextlib.contextmanager
def blame(where: str):
    """Turns a ValueError of the library into a UserError that says where the value came from."""
    try:
        yield
    except ValueError as error:
        raise UserError(f'{where}: {error}') from error
