"""Draws the report of a finished run again: report.html and its figures, for a person who did not run it.

python -m experiments.report WORKDIR
"""

import pathlib

from experiments.command import run, told


@told
def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    if len(argv) != 1 or argv[0].startswith('-'):
        print(__doc__)
        return 0 if argv in (['--help'], ['-h']) else 2
    from experiments.results import report

    print(report.write(pathlib.Path(argv[0])))
    return 0


if __name__ == '__main__':
    run(main)
