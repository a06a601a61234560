"""Runs a study of docs/results, or continues it, and writes its page from the run files.

  python -m scripts.study NAME [--workers N] [--out DIR] [--record DIR]

Studies: {names}. Runs go to runs/studies/NAME, the page to docs/results/NAME.
"""

import importlib
import pathlib
import sys

from experiments.errors import UserError, tell
from experiments.setup.arguments import Parser, count
from qat import calls

NAMES = ('paper_table', 'convergence', 'matrix', 'kappa', 'placement', 'stableqat')


def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    parser = Parser(description=__doc__.format(names=', '.join(NAMES)))
    parser.add_argument('name', help='of the study')
    parser.add_argument('--workers', type=count, default=2, help='processes side by side (2)')
    parser.add_argument('--out', type=pathlib.Path, help='where the runs go')
    parser.add_argument('--record', type=pathlib.Path, help='where the page goes')
    try:
        arguments = parser.parse_args(argv)
        name = arguments.name
        if name not in NAMES:
            raise UserError(calls.unknown('study', name, NAMES))
        from scripts.studies import study

        chosen = importlib.import_module(f'scripts.studies.{name}').STUDY
        out = arguments.out or pathlib.Path('runs/studies', name)
        command = f'python -m scripts.study {name}'
        code = study.run(chosen, out, arguments.workers, command)
        if code == 0:
            print(study.record(chosen, name, out, arguments.record or pathlib.Path('docs/results', name), command))
        return code
    except UserError as error:
        return tell(error)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
