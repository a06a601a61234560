"""Says what somebody's fake-quantizer is, and whether it is a straight-through estimator in disguise.

  python -m experiments.audit my_file.py:fake_quantize [--range R] [--bits B] [--optimizer 'adam(b2=0.95)']
  python -m experiments.audit samples.csv [--bits B] [--placement update] [--json] [--out DIR]

The first is a function in JAX, weights -> quantized weights, which may be given arguments, my_file.py:f(bits=4); it is
called with 4001 weights from -1.5 R to 1.5 R (R is looked for, if it is not given), and again with others. The second
is a file of samples from any framework, CSV or npz: w, q and dq/dw; docs/audit.md has ten lines that write it.

Prints values, thresholds, slope, clip rule, which estimator of the catalogue it is, alpha and, with --optimizer, the
recipe that turns STE into it; draws DIR/audit.png (by default in runs/audit). With --json it prints one JSON object,
and draws only if --out is given.
"""

import contextlib
import inspect
import json
import os
import pathlib
import sys
from collections.abc import Callable

from experiments.command import run, told
from experiments.errors import UserError, blame
from experiments.setup.arguments import Parser, count


@told
def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    if not argv or '--help' in argv or '-h' in argv:
        print(__doc__)
        return 0
    parser = Parser(add_help=False)
    parser.add_argument('target')
    parser.add_argument('--bits', type=count)
    parser.add_argument('--range', dest='R', type=float)
    parser.add_argument('--optimizer', default='')
    parser.add_argument('--placement', default='gradient')
    parser.add_argument('--json', action='store_true')
    parser.add_argument('--out', type=pathlib.Path)
    given = parser.parse_args(argv)
    if given.R is not None and not 1e-30 < given.R < 1e30:
        raise UserError(f'command line: --range must be a positive number, got {given.R:g}')
    with contextlib.redirect_stdout(sys.stderr):  # for what a user's file prints
        answer = _answer(given)
    print(answer)
    return 0


def _answer(given) -> str:
    """Returns what to print, and draws the figure if one is asked for."""
    os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # an accelerator may be busy training
    # Imported late: a wrong command line and --help are answered without jax.
    from experiments.results import audit_recipe, audits, explanation
    from qat import optimizers

    transfer = optimizer = None
    if given.optimizer:
        with blame('optimizer'):
            optimizer = optimizers.parse(given.optimizer)
            transfer = optimizer.transfer(given.placement)
    found = _audit(given)
    transfer = transfer and audits.transfer_of(found, transfer)
    figure = None
    if given.out or not given.json:
        from experiments.results import audit_figure  # matplotlib costs a second, and JSON needs no figure

        figure = audit_figure.draw(found, given.out or pathlib.Path('runs/audit'))
    if given.json:
        return json.dumps(audits.record(found, transfer), indent=2, allow_nan=False)
    said = {'Audited': given.target, **audits.words(found, transfer, optimizer)}
    of_m = audit_recipe.command(found, transfer, given.optimizer, given.placement) if transfer else ''
    return explanation.page(said, {'M of the weights of a model': of_m, 'Figure': str(figure)})


def _audit(given):
    """Returns the audit of a function in a file, or of a file of samples."""
    from experiments.data import samples
    from experiments.setup import users
    from qat.auditing.audits import audit
    from qat.auditing.functions import audit_function

    file, colon, call = given.target.rpartition(':')
    if not (colon and file.endswith('.py')):
        if given.R is not None:
            raise UserError('command line: --range is for functions; a file of samples has what it has')
        path = pathlib.Path(os.path.expanduser(given.target))
        columns = samples.read(path)
        try:
            return audit(**columns, bits=given.bits)
        except ValueError as error:
            raise UserError(f'{given.target}{samples.strange_heading(path)}: {error}') from error
    with blame(given.target):
        function = users.load_function(os.path.expanduser(file), call)
        try:
            return audit_function(function, R=given.R, bits=given.bits)
        except ValueError as error:
            raise ValueError(f'{error}{_other_framework(function, error)}') from error


def _other_framework(function: Callable, error: ValueError) -> str:
    """What to say where a function failed that seems to be written for another framework than JAX."""
    values = inspect.unwrap(function).__globals__.values()
    roots = {getattr(value, '__name__', '').partition('.')[0] for value in values if inspect.ismodule(value)}
    found = [name for root, name in (('torch', 'PyTorch'), ('tensorflow', 'TensorFlow')) if root in roots]
    if not found and "ArrayImpl' object has no attribute" not in str(error):
        return ''
    name = found[0] if found else 'another framework'
    return f'; it looks like a function of {name}, and is called with arrays of JAX: sample it by docs/audit.md instead'


if __name__ == '__main__':
    run(main, is_answer=True)
