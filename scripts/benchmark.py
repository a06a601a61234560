"""Measures what this project costs, against what it is measured by; a table of figures with their limits.

  python -m scripts.benchmark [--only NAME ...] [--rounds N] [--steps N] [--data_dir DIR] [--json FILE] [--page FILE]

A name stands for all that begin with it: memory, convnet, resnet, growth, profile, mnist, command, images.
Ratios of times are measured alternately in one process (A B A B ...) and their median counts, because absolute times
on a shared machine mean nothing. The JSON file holds `machine` (devices, versions) and `figures`, a row each: `name`,
`what`, `median`, `limit`, `bound` (at most | at least), `kept`, `samples`, `details`, what it was computed from,
`command`, and `load`, the machine's before; `limit`, `bound` and `kept` are null where a figure is only reported.
Figures of other names that were measured on the same machine stay in the file. The page is docs/performance.md: the
command replaces the table between two of its lines, `<!-- table -->` and `<!-- end of table -->`, and nothing else.
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Iterable

import jax
from rich.console import Console
from rich.table import Table

from experiments.errors import UserError, tell
from experiments.setup.arguments import Parser, count
from experiments.workdir import environment
from experiments.workdir.files import write_json, write_text
from scripts.benchmarks import commands, growth, images, memory, page, profile, steps, whole
from scripts.benchmarks.rows import Benchmark, Effort

# TensorFlow's threads last.
_MODULES = (memory, steps, growth, profile, whole, commands, images)
BENCHMARKS = {name: rows for module in _MODULES for name, rows in module.BENCHMARKS.items()}


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line.

    Raises:
      UserError: a flag that does not exist, or a value that makes no sense.
    """
    parser = Parser(description=__doc__)
    parser.add_argument('--only', nargs='+', metavar='NAME', help=f'of {", ".join(BENCHMARKS)}')
    parser.add_argument('--rounds', type=count, default=15, help='samples a row; their median counts')
    parser.add_argument('--steps', type=count, default=10, help='training steps a sample')
    parser.add_argument('--data_dir', type=pathlib.Path, help='prepared ImageNet; without, a tiny one is made')
    parser.add_argument('--json', type=pathlib.Path, help='also write the figures there')
    parser.add_argument('--page', type=pathlib.Path, help='also write the table of the file of --json into this page')
    arguments = parser.parse_args(argv)
    if arguments.page and not arguments.json:
        raise UserError('--page: needs --json FILE, from which the table is made')
    if arguments.page:
        page.filled(_read(arguments.page), 'table', '')  # a page without markers is told before hours are spent
    arguments.benchmarks = chosen(arguments.only)
    return arguments


def chosen(names: list[str] | None) -> dict[str, Benchmark]:
    """The benchmarks of these names, or that begin with them; all without names.

    Raises:
      UserError: a name that is none's.
    """
    if names is None:
        return BENCHMARKS
    for name in names:
        if not any(_matches(each, name) for each in BENCHMARKS):
            raise UserError(f'--only: there is no {name!r}; there are {", ".join(BENCHMARKS)}')
    return {each: rows for each, rows in BENCHMARKS.items() if any(_matches(each, name) for name in names)}


def _matches(benchmark: str, name: str) -> bool:
    return f'{benchmark}-'.startswith(f'{name}-')


def _read(path: pathlib.Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise UserError(f'--page: {path}: {error.strerror}') from error


def shown(figures: Iterable[dict]) -> Table:
    """The figures for people."""
    grid = Table('what', show_lines=True)
    for name in ('median', 'lowest', 'highest', 'limit', 'kept'):
        grid.add_column(name, justify='right', no_wrap=True)
    for figure in figures:
        numbers = (figure['median'], min(figure['samples']), max(figure['samples']))
        limit = (
            '' if figure['limit'] is None else f'{"≥" if figure["bound"] == "at least" else "≤"} {figure["limit"]:g}'
        )
        kept = {True: 'yes', False: 'NO', None: ''}[figure['kept']]
        grid.add_row(f'{figure["name"]}\n{figure["what"]}', *(f'{x:.3f}' for x in numbers), limit, kept)
    return grid


def machine(argv: list[str]) -> dict:
    """What the figures were measured on."""
    described = environment.describe(argv, jax.local_devices())
    described['command'] = ' '.join(['python -m scripts.benchmark', *argv])
    return {**described, 'cores': len(os.sched_getaffinity(0)), 'load': os.getloadavg()[0]}


def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    try:
        arguments = parse(argv)
    except UserError as error:
        return tell(error)
    about, console = machine(argv), Console()
    console.print(
        f'{about["devices"]}, {about["platform"]}, {about["cores"]} cores (load {about["load"]:.1f} before), '
        f'jax {about["versions"]["jax"]}'
    )
    effort, found = Effort(arguments.rounds, arguments.steps, arguments.data_dir), []
    for name, rows in arguments.benchmarks.items():
        with console.status(name):
            found += rows(effort)
        if arguments.json:  # after each: the whole takes long
            content = page.merged(arguments.json, about, found)
            write_json(arguments.json, content)
            if arguments.page:
                write_text(arguments.page, page.filled(_read(arguments.page), 'table', page.table(content)))
    console.print(shown(row.to_json() for row in found))
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
