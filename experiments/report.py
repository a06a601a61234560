"""Draws the report of a finished run again: report.html and its figures, for a person who did not run it.

  python -m experiments.report WORKDIR [--run-code]

If the run's config names a Python file, the command says so, and runs it only with --run-code.
"""

import os
import pathlib

from experiments.command import run, told

_RUN_CODE = '--run-code'


@told
def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    given = [argument for argument in argv if argument != _RUN_CODE]
    if len(given) != 1 or given[0].startswith('-'):
        print(__doc__)
        return 0 if argv in (['--help'], ['-h']) else 2
    # Imported late: all of it would be before the command has begun.
    from experiments.results import report
    from experiments.setup import config_file, identity, settings, sources
    from experiments.workdir import same_run

    workdir = pathlib.Path(os.path.expanduser(given[0]))
    config = config_file.load(str(workdir / 'config.json'))
    sources.check_chosen(config, _RUN_CODE in argv, workdir / 'config.json')
    resolved = settings.resolve(config)
    same_run.check_same_part(workdir, identity.keys(config) | identity.code(config))
    print(report.write(workdir, resolved))
    return 0


if __name__ == '__main__':
    run(main)
