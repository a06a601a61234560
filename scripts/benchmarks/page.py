"""The figures of one or several benchmarks -> docs/performance.md."""

import json
import pathlib
from collections.abc import Iterable, Mapping

import jinja2

from scripts.benchmarks.rows import Row

_TEMPLATE = pathlib.Path(__file__).with_name('performance.md.jinja')


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


def page(path: pathlib.Path) -> str:
    """The figures of a JSON file as Markdown, with what was tried and why.

    Args:
      path: of the file. Files beside it, NAME-SETTING.json, hold what was measured in another setting.
    """
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters['kept'] = {True: 'yes', False: '**no**', None: ''}.get
    others = {file.stem.removeprefix(f'{path.stem}-'): _read(file) for file in path.parent.glob(f'{path.stem}-*.json')}
    machine = json.loads(path.read_text())['machine']
    template = environment.from_string(_TEMPLATE.read_text())
    return template.render(machine=machine, figures=_read(path), others=others)


def _read(path: pathlib.Path) -> dict[str, dict]:
    """The figures of a file by name."""
    return {figure['name']: figure for figure in json.loads(path.read_text())['figures']}
