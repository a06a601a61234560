"""Measures what this project costs, against what it is measured by; a table of figures with their limits.

  python -m scripts.benchmark [--only NAME ...] [--rounds N] [--steps N] [--data_dir DIR] [--json FILE] [--page FILE]

A name stands for all that begin with it: memory, convnet, resnet, growth, patches, profile, mnist, command, images.
Ratios of times are measured alternately in one process (A B A B ...) and their median counts, because absolute times
on a shared machine mean nothing. The JSON file holds `machine` (devices, versions) and `figures`, a row each: `name`,
`what`, `median`, `limit`, `bound` (at most | at least), `kept`, `samples`, `details`, what it was computed from,
`command`, and `load`, the machine's before; `limit`, `bound` and `kept` are null where a figure is only reported.
Figures of other names that were measured on the same machine stay in the file. The page is docs/performance.md, made
from the file.
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
from scripts.benchmarks import commands, growth, images, memory, page, patches, profile, steps, whole
from scripts.benchmarks.rows import Benchmark, Effort, Row

# Memory first: a device tells only the highest peak of the process. TensorFlow's threads last.
_MODULES = (memory, steps, growth, patches, profile, whole, commands, images)
BENCHMARKS = tuple(benchmark for module in _MODULES for benchmark in module.BENCHMARKS)


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line.

    Raises:
      UserError: a flag that does not exist, or a value that makes no sense.
    """
    parser = Parser(description=__doc__)
    names = ', '.join(benchmark.name for benchmark in BENCHMARKS)
    parser.add_argument('--only', nargs='+', metavar='NAME', help=f'of {names}')
    parser.add_argument('--rounds', type=count, default=15, help='samples a row; their median counts')
    parser.add_argument('--steps', type=count, default=10, help='training steps a sample')
    parser.add_argument('--data_dir', type=pathlib.Path, help='prepared ImageNet; without, a tiny one is made')
    parser.add_argument('--json', type=pathlib.Path, help='also write the figures there')
    parser.add_argument('--page', type=pathlib.Path, help='also write the file of --json as a page')
    arguments = parser.parse_args(argv)
    if arguments.page and not arguments.json:
        raise UserError('--page: needs --json FILE, from which the page is made')
    arguments.benchmarks = chosen(arguments.only)
    return arguments


def chosen(names: list[str] | None) -> list[Benchmark]:
    """The benchmarks of these names, or that begin with them; all without names.

    Raises:
      UserError: a name that is none's.
    """
    matching = {name: [b for b in BENCHMARKS if f'{b.name}-'.startswith(f'{name}-')] for name in names or []}
    for name, found in matching.items():
        if not found:
            raise UserError(f'--only: there is no {name!r}; there are {", ".join(b.name for b in BENCHMARKS)}')
    return [b for b in BENCHMARKS if not names or any(b in found for found in matching.values())]


def table(rows: Iterable[Row]) -> Table:
    """The rows for people."""
    grid = Table('what', show_lines=True)
    for name in ('median', 'lowest', 'highest', 'limit', 'kept'):
        grid.add_column(name, justify='right', no_wrap=True)
    for row in rows:
        numbers = (f'{x:.3f}' for x in (row.median, min(row.samples), max(row.samples)))
        kept = {True: 'yes', False: 'NO', None: ''}[row.kept]
        grid.add_row(f'{row.name}\n{row.what}', *numbers, str(row.limit or ''), kept)
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
    effort, rows = Effort(arguments.rounds, arguments.steps, arguments.data_dir), []
    for benchmark in arguments.benchmarks:
        with console.status(benchmark.name):
            rows += benchmark.rows(effort)
        if arguments.json:  # after each: the whole takes long
            write_json(arguments.json, page.merged(arguments.json, about, rows))
            if arguments.page:
                write_text(arguments.page, page.page(arguments.json))
    console.print(table(rows))
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
