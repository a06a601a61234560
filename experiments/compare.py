"""Compares two series of weights over time, saved by whatever program, as a run compares a twin with its reference.

  python -m experiments.compare A B --bits 2 --range max_abs --out DIR [--map 'dsq(k=6.5)']

A and B are folders, patterns such as 'a/*.npz', or files: .safetensors or .npz, one a step or one with time as first
axis, or checkpoints of orbax. Arrays of floats are weights; arrays of uint8 are codes, which need no --bits and no
--range. DIR gets summary.json, report.html and figures, in which every metric is marked as exact or as what it is where
not every update was saved. Files, steps and a callback that saves codes: docs/compare.md.
"""

import argparse
import os
import pathlib

from experiments.command import run, told
from experiments.errors import UserError, blame
from experiments.setup.arguments import Parser, count

_MEASURED = 20  # points of the curves


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    made = Parser(description=__doc__)
    made.add_argument('a', metavar='A', help='the reference')
    made.add_argument('b', metavar='B', help='what is compared with it, the twin')
    made.add_argument('--out', required=True, type=pathlib.Path, help='the folder of the results')
    grid = made.add_mutually_exclusive_group()
    grid.add_argument('--bits', type=count, help='of the uniform quantizer, 1 to 8')
    grid.add_argument('--quantizer', help='another one: ternary, e2m1, int2 to int8')
    made.add_argument('--range', help='R, a number or a rule on the first weights of A: max_abs, he_uniform ...')
    made.add_argument('--outputs', choices=['last', 'first'], default='last', help='their axis; first in PyTorch')
    made.add_argument('--quantized', action='append', default=[], metavar='PATTERN', help="names in A, as '*kernel'")
    made.add_argument('--names', action='append', default=[], metavar='A=B', help="other names in B, as '*=module.*'")
    made.add_argument('--map', metavar='ESTIMATOR', help="compare with M(A) too, of a call as 'dsq(k=6.5)'")
    made.add_argument('--clip-rule', default='', help="the estimator's outside the range: clip, pass ...")
    made.add_argument('--every', type=count, help='updates between two snapshots, where names do not say it')
    return made


@told
def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    arguments = parser().parse_args(argv)
    if arguments.clip_rule and not arguments.map:
        raise UserError('--clip-rule: only the M of an estimator depends on it; give one with --map')
    os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # files are what it waits for
    # Imported late: a wrong command line and --help are answered without jax.
    import numpy as np

    from experiments import terminal
    from experiments.comparison import following, matching, report, series

    a, b = (series.find(where, arguments.every) for where in (arguments.a, arguments.b))
    pair = series.together(a, b)
    layers, are_codes = matching.layers(a, b, arguments.quantized, arguments.names)
    rounding = _rounding(arguments, are_codes)
    steps = list(pair.a)
    chosen = np.unique(np.linspace(0, len(steps) - 1, _MEASURED + 1).round().astype(int))[1:]
    with report.folder(arguments.out):
        over_time = following.follow(pair, layers, rounding, [steps[index] for index in chosen])
        result = report.summarize(a, b, pair, layers, rounding, over_time[steps[-1]])
        page = report.write(arguments.out, result, report.rows(over_time))
    print(report.table(result))
    print(terminal.wrapped(report.yardstick(result)))
    print(f'Report: {page}')
    return 0


def _rounding(arguments: argparse.Namespace, are_codes: bool):
    from experiments.comparison.following import Rounding
    from experiments.comparison.shared_ranges import SharedRange
    from experiments.setup import rounding
    from qat.grids import quantizer
    from qat.theory.coverage import check_covered

    grid = arguments.bits or arguments.quantizer
    if are_codes:
        if grid or arguments.range or arguments.map:
            raise UserError('A and B hold codes (uint8): leave out --bits, --quantizer, --range and --map')
        return Rounding(quantizer(8), None, None)
    if not (grid and arguments.range):
        raise UserError('A and B hold weights: say how they are rounded, such as --bits 2 --range max_abs')
    with blame('--bits' if arguments.bits else '--quantizer'):
        made = quantizer(grid)
    with blame('--range'):
        shared = SharedRange(arguments.range, arguments.outputs)
    if not arguments.map:
        return Rounding(made, shared, None)
    with blame('--map'):
        estimator = rounding.on_grid(arguments.map, grid).with_clip(arguments.clip_rule)
        check_covered(estimator)
    return Rounding(made, shared, estimator)


if __name__ == '__main__':
    run(main)
