"""What does this machine do with this project, and does it do it right? Ten minutes on a GPU or TPU, well used.

  python -m scripts.accelerator --out DIR [--minutes 10] [--only NAME ...] [--data FILE.npz] [--tiny]
  python -m scripts.accelerator --out DIR --page FILE

It needs jax for the machine's device, flax, optax, orbax-checkpoint and numpy, and no network; docs/accelerator.md
tells how to carry them there. Every part runs in a process of its own, the most valuable first, and every figure is in
DIR/accelerator.json as soon as it is known. Parts that no longer fit into the minutes are left out, by name. Figures of
an earlier call into the same DIR stay.

--only takes names of parts, or their beginnings: {names}.
--data is MNIST as arrays, of the form that --config.dataset=FILE.npz has: train_images, train_labels,
validation_images, validation_labels. --tiny is for trying the command on two cores of a CPU: its speeds mean nothing.
--page measures nothing: it writes what DIR/*.json say between the lines `<!-- accelerator -->` and
`<!-- end of accelerator -->` of a page, docs/performance.md.

Exit codes: 0: all that was tried worked. 1: something failed, what must be right is wrong, or nothing
was measured. 2: a mistake of yours.
"""

import argparse
import importlib
import math
import pathlib
import shlex
import sys
import time

from experiments.errors import UserError, tell
from experiments.setup.arguments import Parser
from experiments.workdir.files import write_text
from scripts.accelerating import children, shown
from scripts.accelerating.parts import PARTS, chosen, fitting
from scripts.accelerating.record import Record
from scripts.benchmarks.page import filled

NEEDED = {
    'numpy': 'numpy',
    'jax': 'jax',
    'flax.linen': 'flax',
    'optax': 'optax',
    'orbax.checkpoint': 'orbax-checkpoint',
}


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line.

    Raises:
      UserError: a flag that does not exist, or a value that makes no sense.
    """
    parser = Parser(description=__doc__.format(names=', '.join(part.name for part in PARTS)))
    parser.add_argument('--out', type=pathlib.Path, required=True, help='folder of the figures')
    parser.add_argument('--minutes', type=_minutes, default=10.0, help='that all of it may take (10)')
    parser.add_argument('--only', nargs='+', metavar='NAME', help='of the parts')
    parser.add_argument('--data', type=pathlib.Path, help='MNIST as arrays, an .npz')
    parser.add_argument('--tiny', action='store_true', help='sizes for two cores of a CPU')
    parser.add_argument('--page', type=pathlib.Path, help='write the section of this page, and measure nothing')
    parser.add_argument('--part', help=argparse.SUPPRESS)  # what a process of this command's own measures
    parser.add_argument('--until', type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    arguments.parts = chosen(arguments.only)
    if arguments.data and not arguments.data.is_file():
        raise UserError(f'--data: there is no file {arguments.data}')
    return arguments


def _minutes(text: str) -> float:
    minutes = float(text)
    if not (math.isfinite(minutes) and minutes > 0):
        raise argparse.ArgumentTypeError(f'must be a number above 0, got {text!r}')
    return minutes


def check_packages() -> None:
    """Imports what every part needs; that touches no device.

    Raises:
      UserError: something is missing, all of it by name; or does not go with the rest.
    """
    missing = {}
    for module, package in NEEDED.items():
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            lacking = error.name or module
            missing[package if module.startswith(lacking) else f'{lacking} (for {package})'] = True
        except Exception as error:  # of another version than the jax here
            reason = next(iter(str(error).splitlines()), '')
            raise UserError(
                f'{package} cannot be imported beside this jax: {reason}; see docs/accelerator.md'
            ) from error
    if missing:
        raise UserError(f'missing: {", ".join(missing)}; bring the wheels along, see docs/accelerator.md')


def check_data(path: pathlib.Path | None) -> None:
    """Reads the arrays before anything is measured.

    Raises:
      UserError: they are not what they should be.
    """
    from experiments.data.arrays import from_file

    if path:
        from_file(str(path))


def begin(arguments: argparse.Namespace, argv: list[str]) -> None:
    """The folder, and the file without this call's figures.

    Raises:
      UserError: the folder cannot be made or written, or holds another file of that name.
    """
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        command = shlex.join(['python', '-m', 'scripts.accelerator', *argv])
        Record(arguments.out).begin(command, arguments.minutes, arguments.tiny)
    except OSError as error:
        raise UserError(f'--out: {error.filename}: {error.strerror}') from error


def run(arguments: argparse.Namespace, start: float) -> int:
    """Measures the parts, a process each, from `start` on (seconds of `time.time`); returns the exit code."""
    until = start + 60 * arguments.minutes
    try:
        _measure(arguments, start, until)
    except KeyboardInterrupt:  # what is known is still shown
        Record(arguments.out).fail('the call', 'interrupted')
    record = Record(arguments.out)
    record.used(time.time() - start)
    print(f'\n{shown.table(record.content)}')
    return 1 if record.content['failed'] or record.wrong() or not record.content['figures'] else 0


def _measure(arguments: argparse.Namespace, start: float, until: float) -> None:
    for part, left_out in fitting(arguments.parts, until, time.time, arguments.tiny, arguments.data is not None):
        if left_out:
            Record(arguments.out).leave_out(part.name, left_out)
            continue
        print(f'{time.time() - start:4.0f} s  {part.name}: {part.what}', flush=True)
        why = children.measured(part, arguments.out, until, arguments.tiny, arguments.data)
        record = Record(arguments.out)  # which the part's process has written
        if why:
            record.fail(part.name, why)
        record.used(time.time() - start)


def write_page(page: pathlib.Path, folder: pathlib.Path) -> None:
    """Writes the section of accelerators.

    Raises:
      UserError: a page that cannot be read, or has no place for it.
    """
    try:
        write_text(page, filled(page.read_text(), 'accelerator', shown.section(folder)))
    except OSError as error:
        raise UserError(f'--page: {error.filename}: {error.strerror}') from error


def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    start = time.time()
    try:
        arguments = parse(argv)
        if arguments.page:
            write_page(arguments.page, arguments.out)
            return 0
        if arguments.part:
            children.measure(arguments.part, arguments.out, arguments.until, arguments.tiny, arguments.data)
            return 0
        check_packages()
        check_data(arguments.data)
        begin(arguments, argv)
    except UserError as error:
        return tell(error)
    return run(arguments, start)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
