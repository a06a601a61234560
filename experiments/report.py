"""Draws the report of a finished run again: report.html and its figures, for a person who did not run it.

python -m experiments.report WORKDIR
"""

import os
import pathlib
import sys

from experiments.errors import UserError, tell
from experiments.results import report


def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    if len(argv) != 1 or argv[0].startswith('-'):
        print(__doc__)
        return 0 if argv in (['--help'], ['-h']) else 2
    try:
        print(report.write(pathlib.Path(os.path.expanduser(argv[0]))))
    except UserError as error:
        return tell(error)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
