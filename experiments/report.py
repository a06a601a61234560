"""A workdir -> report.html and its figures, for a person who did not run it.

python -m experiments.report WORKDIR     draws it again, from the files of a finished run
"""

import pathlib
import sys

from experiments.errors import UserError, tell
from experiments.results import report


def main(argv: list[str]) -> int:
    """Draws the report of the workdir given on the command line again."""
    if len(argv) != 1 or argv[0].startswith('-'):
        print(__doc__)
        return 0 if argv in (['--help'], ['-h']) else 2
    try:
        print(report.write(pathlib.Path(argv[0])))
    except UserError as error:
        return tell(error)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
