"""The JSON file of figures, and their table in docs/performance.md."""

import json
import pathlib
from collections.abc import Iterable, Mapping

from experiments.errors import UserError
from scripts.benchmarks.rows import Row

_HEAD = '| figure | what | median | lowest | highest | limit | kept |\n|---|---|---|---|---|---|---|'
_KEPT = {True: 'yes', False: '**no**', None: ''}


def merged(path: pathlib.Path, machine: Mapping, rows: Iterable[Row]) -> dict:
    """The content of a JSON file of figures after these rows; figures of other names stay as they are.

    Figures are kept only while they come from the same devices and versions.
    """
    new = [{**row.to_json(), 'command': machine['command'], 'load': machine['load']} for row in rows]
    about = {key: value for key, value in machine.items() if key not in ('command', 'load')}
    names, old = {figure['name'] for figure in new}, []
    if path.exists():
        before = json.loads(path.read_text())
        if before['machine'] == about:
            old = [figure for figure in before['figures'] if figure['name'] not in names]
    return {'machine': about, 'figures': [*old, *new]}


def table(content: Mapping) -> str:
    """The machine and the figures of a JSON file as Markdown, sorted by name."""
    machine = content['machine']
    lines = [
        f'{machine["devices"]}, {machine["platform"]}, {machine["cores"]} cores; Python {machine["python"]}, '
        f'jax {machine["versions"]["jax"]}.\n\n{_HEAD}'
    ]
    for figure in sorted(content['figures'], key=lambda figure: figure['name']):
        numbers = (figure['median'], min(figure['samples']), max(figure['samples']))
        limit = '' if figure['limit'] is None else f'{figure["bound"]} {figure["limit"]:g}'
        cells = [figure['name'], figure['what'], *(f'{x:.3f}' for x in numbers), limit, _KEPT[figure['kept']]]
        lines.append(f'| {" | ".join(cells)} |')
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
        raise UserError(f'the page needs the lines {first} and {last}; what stands between them is replaced')
    return f'{before}{first}\n\n{content}\n\n{last}{after}'
