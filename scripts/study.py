"""Runs a study of docs/results, or continues it, and writes the figure and table of its page.

  python -m scripts.study NAME [--part PART] [--workers N] [--out DIR] [--record DIR]

Studies: {names}. Runs go to runs/studies/NAME, the page to docs/results/NAME.
What people wrote on the page, outside its two markers, stays.
"""

import importlib
import pathlib

from experiments.command import run, told
from experiments.errors import UserError
from experiments.setup.arguments import Parser, count
from qat import calls

NAMES = (
    'calibration',
    'paper_table',
    'convergence',
    'matrix',
    'kappa',
    'placement',
    'stableqat',
    'photographs',
    'finetuning',
    'decay',
    'quantizers',
    'language',
)


@told
def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    parser = Parser(description=__doc__.format(names=', '.join(NAMES)))
    parser.add_argument('name', help='of the study')
    parser.add_argument('--part', help='the only one of its parts to run (all)')
    parser.add_argument('--workers', type=count, default=2, help='processes side by side (2)')
    parser.add_argument('--out', type=pathlib.Path, help='where the runs go')
    parser.add_argument('--record', type=pathlib.Path, help='where the page goes')
    arguments = parser.parse_args(argv)
    name = arguments.name
    if name not in NAMES:
        raise UserError(calls.unknown('study', name, NAMES))
    from scripts.studies import study

    chosen = importlib.import_module(f'scripts.studies.{name}')
    out = arguments.out or pathlib.Path('runs/studies', name)
    parts = study.parts(chosen, arguments.part)
    code = study.run(chosen, out, arguments.workers, parts)
    if code == 0:
        print(study.record(chosen, out, arguments.record or pathlib.Path('docs/results', name), parts))
    return code


if __name__ == '__main__':
    run(main)
