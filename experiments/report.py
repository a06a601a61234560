"""Draws the report of a finished run again: report.html and its figures, for a person who did not run it.

  python -m experiments.report WORKDIR [--run-code]

If the run's config names a Python file, the command says so, and runs it only with --run-code.
"""

import pathlib
import sys

from experiments.errors import UserError, tell
from experiments.results import report
from experiments.setup import command_line, identity, settings, sources
from experiments.workdir import same_run

_RUN_CODE = '--run-code'


def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    given = [argument for argument in argv if argument != _RUN_CODE]
    if len(given) != 1 or given[0].startswith('-'):
        print(__doc__)
        return 0 if argv in (['--help'], ['-h']) else 2
    try:
        workdir = pathlib.Path(given[0])
        config = command_line.load(str(workdir / 'config.json'))
        sources.check_chosen(config, _RUN_CODE in argv, workdir / 'config.json')
        resolved = settings.resolve(config)
        same_run.check_same_files(workdir, identity.code(config))
        print(report.write(workdir, resolved))
    except UserError as error:
        return tell(error)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
