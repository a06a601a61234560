"""Turns a run in the middle of training into the equivalent run of another estimator.

  python -m experiments.convert --from WORKDIR --to ste --out DIR [--config.KEY=VALUE ...]
  python -m experiments.convert --from WORKDIR --to 'dsq(k=6.5)' --out DIR

Takes the reference in the newest checkpoint of WORKDIR and writes DIR, a run that begins at that step: config.json,
checkpoints/ and origin.json, which says where it comes from. The data and the schedule continue from that step:

  python -m experiments.train --config=DIR/config.json --workdir=DIR

Weights, optimizer state and learning rate of the quantized weights change as qat/lockstep/conversion.py says. If
WORKDIR has the twins jitter and self, they become copies of the new reference; other twins are dropped. A finished run
needs more steps to do, for example --config.num_epochs=N. If WORKDIR's config names a Python file, the command says so,
and runs it only with --run-code.
"""

import os
import pathlib
import sys

from experiments.errors import UserError, tell
from experiments.setup.arguments import Parser


def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    if not argv or '--help' in argv or '-h' in argv:
        print(__doc__)
        return 0
    parser = Parser(add_help=False)
    parser.add_argument('--from', dest='workdir', required=True)
    parser.add_argument('--to', required=True)
    parser.add_argument('--out', required=True)
    parser.add_argument('--run-code', action='store_true')
    try:
        given, overrides = parser.parse_known_args(argv)
        os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # an accelerator may be busy training
        # Imported late: a wrong command line is answered without jax.
        from experiments.training import converting

        print(converting.convert(pathlib.Path(given.workdir), given.to, given.out, overrides, given.run_code))
    except UserError as error:
        return tell(error)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
