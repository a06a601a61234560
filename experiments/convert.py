"""Turns a run in the middle of training into the equivalent run of another estimator.

  python -m experiments.convert --from WORKDIR --to ste --out DIR [--config.KEY=VALUE ...]
  python -m experiments.convert --from WORKDIR --to 'dsq(k=6.5)' --out DIR

Takes the reference in the newest checkpoint of WORKDIR and writes DIR, a run that begins at that step: config.json,
checkpoints/ and origin.json, which says where it comes from. The data and the schedule continue from that step:

  python -m experiments.train --config=DIR/config.json --workdir=DIR

For a program of your own, M of the weights in a file of PyTorch's, with the estimator, quantizer, range and `quantized`
(conv, all, or a pattern of its names) of a config; chosen weights that are no floats are refused:

  python -m experiments.convert --weights IN.safetensors --out OUT.safetensors --config=FILE [--config.KEY=VALUE ...]

Weights, optimizer state and learning rate of the quantized weights change as qat/lockstep/conversion.py says. If
WORKDIR has the twins jitter and self, they become copies of the new reference; other twins are dropped. A finished run
needs more steps to do, for example --config.num_epochs=N. If WORKDIR's config names a Python file, the command says so,
and runs it only with --run-code.
"""

import os
import pathlib

from experiments.command import run, told
from experiments.errors import UserError
from experiments.setup.arguments import Parser


@told
def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    if not argv or '--help' in argv or '-h' in argv:
        print(__doc__)
        return 0
    parser = Parser(add_help=False)
    of_weights = any(argument.partition('=')[0] == '--weights' for argument in argv)
    parser.add_argument('--weights', type=pathlib.Path)
    parser.add_argument('--from', dest='workdir', type=pathlib.Path, required=not of_weights)
    parser.add_argument('--to', required=not of_weights)
    parser.add_argument('--out', type=pathlib.Path, required=True)
    parser.add_argument('--run-code', action='store_true')
    given, overrides = parser.parse_known_args(argv)
    os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # an accelerator may be busy training
    # Imported late: a wrong command line is answered without jax.
    if of_weights:
        if given.workdir or given.to:
            raise UserError('command line: give --weights, or --from and --to')
        from experiments.setup import command_line
        from experiments.training import mapping

        print(mapping.write_mapped(given.weights, given.out, command_line.parse(overrides, 'out')[0]))
        return 0
    from experiments.training import converting

    print(converting.convert(given.workdir, given.to, str(given.out), overrides, given.run_code))
    return 0


if __name__ == '__main__':
    run(main)
