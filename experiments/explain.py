"""Says what theory says of an estimator and an optimizer, without training.

  python -m experiments.explain --config=configs/digits.py [--config.KEY=VALUE ...] [--json] [--out=DIR]

Prints slope, alpha, M, transfer class, kappa and the recipe that turns STE into the estimator, and
draws DIR/estimator.png (by default in runs/explain/<name>). With --json it prints one JSON object
and draws only where --out is given. `twins` is not read: what has no recipe is explained too.
"""

import contextlib
import io
import json
import os
import pathlib
import shlex
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.errors import UserError, tell
from experiments.setup import command_line

_JSON = '--json'
_WIDTH = 100  # characters


def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    if not argv or '--help' in argv or '-h' in argv:
        print(command_line.usage(__doc__))
        return 0
    flags = [argument for argument in argv if argument != _JSON]
    try:
        config, out = command_line.parse(flags, 'out', (_JSON,))
        with contextlib.redirect_stdout(sys.stderr):  # where a user's file prints, if it does
            answer = _answer(config, out, flags, as_json=_JSON in argv)
    except UserError as error:
        return tell(error)
    print(answer)
    return 0


def _answer(config, out: str, flags: list[str], *, as_json: bool) -> str:
    """What is to be printed; the figure is drawn on the way, where one is asked for."""
    os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # an accelerator would be slower, and may be busy training
    # Imported late: a wrong command line and --help are answered without jax.
    from experiments.data import registry
    from experiments.results import explanation, ranges
    from experiments.setup import settings

    config.twins = ''
    resolved = settings.resolve(config)
    registry.dataset(config.dataset)  # refuses now what does not exist
    initial = ranges.initial(resolved) if resolved.transfer.transfer_class == 'identity' else {}
    kappas = resolved.kappas(initial) or None
    figure = _draw(resolved, pathlib.Path(out or f'runs/explain/{config.name}')) if out or not as_json else None
    if as_json:
        return json.dumps(explanation.record(resolved, kappas), indent=2, allow_nan=False)
    said = {'Setting': explanation.setting(resolved), **explanation.words(resolved, kappas)}
    said['Warning'] = '\n'.join(resolved.warnings(initial))
    kept = [flag for flag in flags if not flag.startswith(('--out=', '--config.twins='))]
    check = ['python', '-m', 'experiments.train', *kept, f'--config.twins={explanation.twins_to_check(resolved)}']
    return _page(
        said, {'As a config': explanation.as_config(resolved), 'Check it': shlex.join(check), 'Figure': str(figure)}
    )


def _page(said: dict[str, str], to_copy: dict[str, str]) -> str:
    """Sentences in two columns, then lines to copy, which are not wrapped; what is empty is left out."""
    grid = Table.grid(padding=(0, 2))
    for label, sentence in said.items():
        if sentence:
            grid.add_row(label, Text(sentence))
    out = io.StringIO()
    Console(file=out, width=_WIDTH).print(grid)
    sentences = [line.rstrip() for line in out.getvalue().splitlines()]
    return '\n'.join([*sentences, '', *(f'{label}:\n  {line}' for label, line in to_copy.items() if line)])


def _draw(settings, directory: pathlib.Path) -> pathlib.Path:
    """Writes the picture of slope, alpha, M and quantizer; returns its path."""
    from experiments.results import figures

    path = directory / 'estimator.png'
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_bytes(figures.png(figures.estimator(settings)))
    except OSError as error:
        raise UserError(f'out: cannot write {path}: {error.strerror}') from None
    return path


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
