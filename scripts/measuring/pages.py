"""The figures for people: a table of a terminal's width, and tables between the markers of docs/performance.md."""

import pathlib
import textwrap
from collections.abc import Iterable, Mapping

from experiments.errors import UserError
from experiments.workdir.files import read_json, write_text

WIDTH = 80
NOT_MEASURED = 'Not measured yet.'
_NOT_AN_ACCELERATOR = 'cpu.json'  # beside the files of accelerators, to be compared with
_KEPT = {True: 'yes', False: 'NO', None: ''}
_SIGNS = {'at most': '≤', 'at least': '≥', 'exactly': '='}
_ROW = '{:<29.29} {:>9.9} {:>9.9} {:>9.9} {:<8.8} {:<6.6} {:<4.4}'
_HEAD = ('figure', 'median', 'lowest', 'highest', 'unit', 'limit', 'kept')
_COLUMNS = '| figure | what | median | lowest | highest | limit | kept |\n|---|---|---|---|---|---|---|'


def table(content: Mapping, figures: Iterable[Mapping]) -> str:
    """The machine, some of the figures of a file, and what is missing; at most `WIDTH` columns."""
    lines = [about(content), _ROW.format(*_HEAD)]
    for figure in figures:
        limit = '' if figure['limit'] is None else f'{_SIGNS[figure["bound"]]} {figure["limit"]:g}'
        lines.append(
            _ROW.format(figure['name'], *_numbers(figure), figure['unit'], limit, _KEPT[figure['kept']]).rstrip()
        )
    lines += [f'failed: {each["name"]}: {each["why"]}' for each in content['failed']]
    lines += [f'left out: {each["name"]}: {each["why"]}' for each in content['left_out']]
    return '\n'.join(part for line in lines for part in textwrap.wrap(line, WIDTH, drop_whitespace=False) or [''])


def about(content: Mapping) -> str:
    """The machine in a line."""
    machine = content['machine']
    if machine is None:
        return 'no process has found a device'
    tiny = '; tiny sizes, which say nothing of speed' if content.get('tiny') else ''
    return (
        f'{machine["devices"]}, {machine["platform"]}, {machine["cores"]} cores; Python {machine["python"]}, '
        f'jax {machine["versions"]["jax"]}{tiny}.'
    )


def markdown(figures: Iterable[Mapping]) -> str:
    """The figures as a table of a page."""
    lines = [_COLUMNS]
    for figure in figures:
        value, *extremes = _numbers(figure)
        limit = '' if figure['limit'] is None else f'{figure["bound"]} {figure["limit"]:g}'
        kept = '**no**' if figure['kept'] is False else _KEPT[figure['kept']]
        cells = figure['name'], figure['what'], f'{value} {figure["unit"]}'.strip(), *extremes, limit, kept
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def of_benchmark(content: Mapping) -> str:
    """What the page says of a file of `scripts.benchmark`: the machine, and all figures by name."""
    return f'{about(content)}\n\n{markdown(sorted(content["figures"], key=lambda figure: figure["name"]))}'


def of_accelerators(folder: pathlib.Path) -> str:
    """What the page says of the files of `scripts.accelerator` in a folder, one a machine."""
    files = [path for path in sorted(folder.glob('*.json')) if path.name != _NOT_AN_ACCELERATOR]
    return '\n\n'.join(_of_accelerator(path.name, read_json(path)) for path in files) or NOT_MEASURED


def _of_accelerator(name: str, content: Mapping) -> str:
    said = f'`{name}`: {about(content)} `{content["command"]}`, {content["seconds"]:.0f} s.'
    lines = [f'{said}\n\n{markdown(content["figures"])}']
    for where, word in (('failed', 'Failed'), ('left_out', 'Left out')):
        if content[where]:
            named = '; '.join(f'{each["name"]} ({each["why"]})' for each in content[where])
            lines.append(f'\n{word}: {named}.')
    return '\n'.join(lines)


def filled(page: str, name: str, content: str) -> str:
    """The page with this content between its markers `<!-- NAME -->` and `<!-- end of NAME -->`.

    Raises:
      UserError: a page without the markers.
    """
    first, last = f'<!-- {name} -->', f'<!-- end of {name} -->'
    before, opened, rest = page.partition(first)
    _, closed, after = rest.partition(last)
    if not (opened and closed):
        raise UserError(f'--page: it needs the lines {first} and {last}; what stands between them is replaced')
    return f'{before}{first}\n\n{content}\n\n{last}{after}'


def fill(path: pathlib.Path, name: str, content: str | None) -> None:
    """Writes this content between the markers of a page; None: only checks that it could.

    Raises:
      UserError: a page that cannot be read or written, or has no place for it.
    """
    try:
        page = filled(path.read_text(encoding='utf-8'), name, content or '')
        if content is not None:
            write_text(path, page)
    except OSError as error:
        raise UserError(f'--page: {path}: {error.strerror}') from error


def _numbers(figure: Mapping) -> tuple[str, str, str]:
    samples = figure['samples']
    return tuple(f'{number:.4g}' for number in (figure['value'], min(samples), max(samples)))
