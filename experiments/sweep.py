"""Runs every point of a grid as a run with its twins, and ends with one table and one report.

  python -m experiments.sweep --config=configs/digits.py --grid "estimator=dsq(k=6.5)|sine(lam=0.6)"
      --grid "learning_rate=0.02;max_steps=500|0.01;max_steps=1000" --seeds 5 --out DIR [--config.KEY=VALUE ...]

The same command again continues: finished runs are kept, failed ones are tried again. An alternative of a grid may set
more keys, after semicolons. DIR gets table.csv, table.parquet, report.html, and a folder for every run.
"""

import argparse
import pathlib
import shlex

from experiments.command import run, told
from experiments.errors import UserError
from experiments.setup.arguments import Parser, count
from experiments.setup.command_line import check_flag

_FLAGS = ('--grid', '--seeds', '--out', '--workers', '--cluster')


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line; it leaves flags that begin with --config. to the points."""
    made = Parser(description=__doc__)
    made.add_argument('--config', help='the config of all points, such as configs/digits.py')
    made.add_argument('--grid', action='append', default=[], help='KEY=VALUE|VALUE; several multiply')
    made.add_argument('--seeds', type=count, default=1, help='seeds 0, 1, ... of every point (1)')
    made.add_argument('--out', required=True, type=pathlib.Path, help='the folder of the sweep')
    made.add_argument('--workers', type=count, default=1, help='processes side by side (1)')
    made.add_argument('--cluster', choices=['slurm', 'local'], help='start the workers through submitit')
    return made


@told
def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    arguments, overrides = parser().parse_known_args(argv)
    if not arguments.config:
        raise UserError('command line: give --config=FILE, such as --config=configs/digits.py')
    for override in overrides:
        check_flag(override, _FLAGS)
    # Imported late: a wrong command line and --help are answered without jax.
    from experiments.sweeps import plan, pool

    points = plan.points(arguments.config, overrides, arguments.grid, arguments.seeds)
    command = f'python -m experiments.sweep {shlex.join(argv)}'
    return pool.run(arguments.out, points, arguments.workers, arguments.cluster, command)


if __name__ == '__main__':
    run(main)
