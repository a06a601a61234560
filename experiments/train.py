"""Trains an estimator and its STE twins in lockstep and says whether it is STE in disguise.

  python -m experiments.train --config=configs/digits.py [--config.KEY=VALUE ...] [--workdir=DIR]

The config is a Python file of configs/, or the config.json of an earlier run. A run that was interrupted continues when
the same command is given the same --workdir.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from experiments.command import run, told


@told
def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    from experiments.setup import command_line
    from experiments.setup.usage import usage

    if not argv or '--help' in argv or '-h' in argv:
        print(usage(__doc__))
        return 0
    argv = command_line.joined(argv)
    config, workdir = command_line.parse(argv)
    if config.distributed == 'off':
        print(f'{config.name}: starting; what it needs is loaded first', flush=True)
    else:
        os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'  # what becomes of the others is told by a line of ours
    from experiments.training import peers  # late: a wrong command line and --help are answered without jax

    return peers.together(config.distributed, lambda: _train(config, workdir, argv))


def _train(config, workdir: str, argv: list[str]) -> int:
    from experiments.setup import settings, sources
    from experiments.terminal import say
    from experiments.training import session

    for file in sources.named(config):
        say(f'Runs the code of {file}, which the config names')
    resolved = settings.resolve(config)
    with _folder(workdir, config.name) as path:
        say(f'Workdir: {path}')
        return session.run(resolved, path, argv)


@contextlib.contextmanager
def _folder(given: str, name: str) -> Iterator[pathlib.Path]:
    """The folder that is given; or a new one, which process 0 chooses for all, and which goes if nothing came of it."""
    from experiments.training import peers
    from experiments.workdir.files import blame_disk
    from experiments.workdir.lock import fresh

    def choose() -> str:
        with blame_disk(pathlib.Path('runs')):
            return given or str(fresh(pathlib.Path('runs', name)))

    chosen = peers.of_first(choose)  # also where one is given: every process must ask, or none
    path = pathlib.Path(given or chosen)
    try:
        yield path
    finally:
        if not given:
            with contextlib.suppress(OSError):  # not empty
                path.rmdir()


if __name__ == '__main__':
    run(main)
