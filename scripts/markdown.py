"""What programs write on committed pages: tables, and text between two markers; the rest of a page is people's."""

import pathlib

from experiments.errors import UserError


def table(header: list[str], lines: list[list[str]]) -> str:
    """A table of cells."""
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in (header, ['---'] * len(header), *lines))


def markers(name: str) -> tuple[str, str]:
    """The lines between which a program writes."""
    return f'<!-- {name} -->', f'<!-- end of {name} -->'


def between(text: str, name: str, content: str, path: pathlib.Path) -> str:
    """The text of a page with the content between its markers.

    Raises:
      UserError: it does not have both, once each; `path` is where it lies.
    """
    begin, end = markers(name)
    try:
        (before, rest) = text.split(begin)
        (_, after) = rest.split(end)
    except ValueError:
        raise UserError(f'{path} lacks the lines {begin} and {end}, once each, for what is written there') from None
    return f'{before}{begin}\n\n{content}\n\n{end}{after}'
