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
from collections.abc import Callable

from experiments.errors import UserError, tell
from experiments.setup.arguments import Parser
from scripts.accelerating import children
from scripts.accelerating.children import FILE
from scripts.accelerating.parts import PARTS, Part
from scripts.measuring import pages
from scripts.measuring.figures import Record
from scripts.measuring.names import chosen

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
    names = chosen(arguments.only, (part.name for part in PARTS))
    arguments.parts = [part for part in PARTS if part.name in names]
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


def begin(arguments: argparse.Namespace, argv: list[str]) -> None:
    """Reads the data once; then the folder, and the file without this call's figures.

    Raises:
      UserError: other data; the folder cannot be made or written, or holds another file of that name.
    """
    from experiments.data import npz  # after `check_packages`

    if arguments.data:
        npz.read(str(arguments.data))
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
        command = shlex.join(['python', '-m', 'scripts.accelerator', *argv])
        Record(arguments.out / FILE).begin(command, minutes=arguments.minutes, tiny=arguments.tiny, seconds=0.0)
    except OSError as error:
        raise UserError(f'--out: {error.filename}: {error.strerror}') from error


def run(arguments: argparse.Namespace, start: float, clock: Callable[[], float] = time.time) -> int:
    """Measures the parts, a process each, from `start` on (seconds of the clock); returns the exit code."""
    try:
        for part in arguments.parts:
            _measure(part, arguments, start, clock)
            Record(arguments.out / FILE).used(clock() - start)
    except KeyboardInterrupt:  # what is known is still shown
        Record(arguments.out / FILE).fail('the call', 'interrupted')
    record = Record(arguments.out / FILE)  # which the processes of the parts have written
    print(f'\n{pages.table(record.content, record.content["figures"])}')
    print(f'{record.content["seconds"]:.0f} s of {60 * arguments.minutes:.0f}')
    return 1 if record.content['failed'] or record.wrong() or not record.content['figures'] else 0


def _measure(part: Part, arguments: argparse.Namespace, start: float, clock: Callable[[], float]) -> None:
    """Measures the part where it still fits."""
    record, until = Record(arguments.out / FILE), start + 60 * arguments.minutes
    seconds = part.tiny_seconds if arguments.tiny else part.seconds
    if part.needs_data and not (arguments.data or arguments.tiny):
        record.leave_out(part.name, 'needs MNIST as arrays, --data FILE.npz')
    elif record.fits(part.name, seconds, until - clock()):
        print(f'{clock() - start:4.0f} s  {part.name}: {part.what}', flush=True)
        why = children.measured(part, arguments.out, until, arguments.tiny, arguments.data)
        if why:
            Record(arguments.out / FILE).fail(part.name, why)


def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    start = time.time()
    try:
        arguments = parse(argv)
        if arguments.page:
            pages.fill(arguments.page, 'accelerator', pages.of_accelerators(arguments.out))
            return 0
        if arguments.part:
            children.measure(arguments.part, arguments.out, arguments.until, arguments.tiny, arguments.data)
            return 0
        check_packages()
        begin(arguments, argv)
    except UserError as error:
        return tell(error)
    return run(arguments, start)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
