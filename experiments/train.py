"""Trains an estimator and its STE twins in lockstep and says whether it is STE in disguise.

  python -m experiments.train --config=configs/digits.py [--config.KEY=VALUE ...] [--workdir=DIR]

The config is a Python file of configs/, or the config.json of an earlier run. A run that was interrupted continues when
the same command is given the same --workdir.
"""

import pathlib
import sys
import time

from experiments.errors import UserError, tell
from experiments.setup import command_line


def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    if not argv or '--help' in argv or '-h' in argv:
        print(command_line.usage(__doc__))
        return 0
    try:
        config, workdir = command_line.parse(argv)
        if config.distributed == 'off':
            print(f'{config.name}: starting; what it needs is loaded first', flush=True)
        # Imported late: a wrong command line and --help are answered without jax.
        from experiments.setup import settings, sources
        from experiments.terminal import say
        from experiments.training import distributed, session

        distributed.start(config.distributed)
        for file in sources.named(config):
            say(f'Runs the code of {file}, which the config names')
        resolved = settings.resolve(config)
        workdir = pathlib.Path(workdir or f'runs/{config.name}/{time.strftime("%Y%m%d-%H%M%S")}')
        say(f'Workdir: {workdir}')
        return session.run(resolved, workdir, argv)
    except UserError as error:
        return tell(error)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
