"""Measures what this project costs, against what it is measured by; a table of figures with their limits.

  python -m scripts.benchmark [--only NAME ...] [--rounds N] [--steps N] [--data_dir DIR] [--json FILE] [--page FILE]

A name stands for all that begin with it: memory, convolutions, roofline, convnet, resnet, digits, growth, profile,
mnist, command, peers, images.
Ratios of times are measured alternately in one process (A B A B ...; Keras, of peers, has its own) and their median
counts, because absolute times on a shared machine mean nothing. The JSON file holds `machine` (devices, versions),
`command` and `figures`, a row each: `name`, `what`, `value` (the median), `samples`, `unit`, `limit`, `bound` (at most
| at least), `kept`, `details`, what it was computed from, `command`, and `load`, the machine's before; `limit`, `bound`
and `kept` are null where a figure is only reported. Figures of other names that were measured on the same machine stay
in the file. The page is docs/performance.md: the command replaces the table between two of its lines,
`<!-- table -->` and `<!-- end of table -->`, and nothing else.
"""

import argparse
import pathlib
import shlex

from experiments.command import run, told
from experiments.errors import UserError
from experiments.setup.arguments import Parser, count
from scripts.benchmarks import commands, convolutions, growth, images, memory, peers, roofline, steps, whole
from scripts.measuring import pages
from scripts.measuring.figures import Record
from scripts.measuring.machine import machine
from scripts.measuring.names import chosen
from scripts.measuring.session import Session

# TensorFlow's threads last.
_MODULES = (memory, convolutions, roofline, steps, growth, whole, commands, peers, images)
BENCHMARKS = {name: measure for module in _MODULES for name, measure in module.BENCHMARKS.items()}


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line.

    Raises:
      UserError: a flag that does not exist, or a value that makes no sense.
    """
    parser = Parser(description=__doc__)
    parser.add_argument('--only', nargs='+', metavar='NAME', help=f'of {", ".join(BENCHMARKS)}')
    parser.add_argument('--rounds', type=count, default=15, help='samples a row; their median counts')
    parser.add_argument('--steps', type=count, default=10, help='training steps a sample')
    parser.add_argument('--data_dir', type=pathlib.Path, help='also measure images on the ImageNet there')
    parser.add_argument('--json', type=pathlib.Path, help='also write the figures there')
    parser.add_argument('--page', type=pathlib.Path, help='also write the table of the file of --json into this page')
    arguments = parser.parse_args(argv)
    if arguments.page and not arguments.json:
        raise UserError('--page: needs --json FILE, from which the table is made')
    if arguments.page:
        pages.fill(arguments.page, 'table', None)  # a page without markers is told before hours are spent
    arguments.names = chosen(arguments.only, BENCHMARKS)
    return arguments


def begin(arguments: argparse.Namespace, argv: list[str]) -> Record:
    """The figures of an earlier call that stay.

    Raises:
      UserError: a file that cannot be written, or is another.
    """
    record = Record(arguments.json)
    try:
        record.begin(shlex.join(['python', '-m', 'scripts.benchmark', *argv]))
        record.on(machine(), judged=True)
    except OSError as error:
        raise UserError(f'--json: {arguments.json}: {error.strerror}') from error
    return record


@told
def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    arguments = parse(argv)
    record = begin(arguments, argv)
    session = Session(record, arguments.rounds, arguments.steps, data=arguments.data_dir)
    for name in arguments.names:
        print(f'{name} ...', flush=True)
        BENCHMARKS[name](session)
        if arguments.page:  # after each: the whole takes long
            pages.fill(arguments.page, 'table', pages.of_benchmark(record.content))
    print(f'\n{pages.table(record.content, record.added)}')
    return 0


if __name__ == '__main__':
    run(main)
