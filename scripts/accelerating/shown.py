"""The figures for people: a table of a terminal's width, and the section of docs/performance.md."""

import pathlib
import textwrap
from collections.abc import Mapping

from experiments.workdir.files import read_json

WIDTH = 80
_KEPT = {True: 'yes', False: 'NO', None: ''}
_HEAD = '| figure | what | value | unit | limit | kept |\n|---|---|---|---|---|---|'
NOT_MEASURED = 'Not measured yet.'
_NOT_AN_ACCELERATOR = 'cpu.json'  # beside the files of accelerators, to be compared with


def table(content: Mapping) -> str:
    """The content of a file of figures, at most `WIDTH` columns."""
    row = '{:<29.29} {:>11.11} {:<9.9} {:<16.16} {:<4.4}'
    lines = [about(content), row.format('figure', 'value', 'unit', 'limit', 'kept').rstrip()]
    for figure in content['figures']:
        cells = figure['name'], f'{figure["value"]:.4g}', figure['unit'], _limit(figure), _KEPT[figure['kept']]
        lines.append(row.format(*cells).rstrip())
    lines += [f'failed: {each["name"]}: {each["why"]}' for each in content['failed']]
    lines += [f'left out: {each["name"]}: {each["why"]}' for each in content['left_out']]
    lines.append(f'{content["seconds"]:.0f} s of {60 * content["minutes"]:.0f}')
    return '\n'.join(part for line in lines for part in textwrap.wrap(line, WIDTH, drop_whitespace=False) or [''])


def about(content: Mapping) -> str:
    """The machine in a line."""
    machine = content['machine']
    if machine is None:
        return 'no process has found a device'
    tiny = '; tiny sizes, which say nothing of speed' if content['tiny'] else ''
    return (
        f'{machine["devices"]}, {machine["platform"]}, {machine["cores"]} cores; Python {machine["python"]}, '
        f'jax {machine["versions"]["jax"]}{tiny}.'
    )


def section(folder: pathlib.Path) -> str:
    """What docs/performance.md says of accelerators, from the files of a folder, one a machine."""
    files = [path for path in sorted(folder.glob('*.json')) if path.name != _NOT_AN_ACCELERATOR]
    return '\n\n'.join(_of_machine(path.name, read_json(path)) for path in files) or NOT_MEASURED


def _of_machine(name: str, content: Mapping) -> str:
    lines = [f'`{name}`: {about(content)} `{content["command"]}`, {content["seconds"]:.0f} s.\n\n{_HEAD}']
    for figure in content['figures']:
        kept = f'**{_KEPT[False]}**' if figure['kept'] is False else _KEPT[figure['kept']]
        cells = figure['name'], figure['what'], f'{figure["value"]:.4g}', figure['unit'], _limit(figure), kept
        lines.append(f'| {" | ".join(cells)} |')
    for where, word in (('failed', 'Failed'), ('left_out', 'Left out')):
        if content[where]:
            named = '; '.join(f'{each["name"]} ({each["why"]})' for each in content[where])
            lines.append(f'\n{word}: {named}.')
    return '\n'.join(lines)


def _limit(figure: Mapping) -> str:
    return '' if figure['limit'] is None else f'{figure["bound"]} {figure["limit"]:g}'
