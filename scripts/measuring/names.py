"""Names on a command line: each stands for all that begin with it."""

from collections.abc import Iterable

from experiments.errors import UserError


def chosen(names: Iterable[str] | None, known: Iterable[str]) -> list[str]:
    """Those of the known names that --only asks for, in their own order; all without names.

    Raises:
      UserError: a name that is none's.
    """
    known = list(known)
    if names is None:
        return known
    for name in names:
        if not any(_begins(each, name) for each in known):
            raise UserError(f'--only: there is no {name!r}; there are {", ".join(known)}')
    return [each for each in known if any(_begins(each, name) for name in names)]


def _begins(known: str, name: str) -> bool:
    return f'{known}-'.startswith(f'{name}-')
