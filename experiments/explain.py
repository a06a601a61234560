"""Says what the theory predicts for an estimator and an optimizer, without training.

  python -m experiments.explain --config=configs/digits.py [--config.KEY=VALUE ...] [--json | --controls] [--out=DIR]

Prints slope, alpha, M, transfer class, the recipe that turns STE into the estimator and, where an optimizer's memory
matters, kappa and the slope change within it by layer; draws DIR/estimator.png (by default in runs/explain/<name>).
With --json it prints one JSON object, and draws only if --out is given. With --controls it prints, instead, the
comparisons that a reviewer of a new estimator may ask for: commands to copy, and numbers for PyTorch. `twins` is
ignored, so that a setting without a recipe can be explained too. Of a run in full precision (quantized=none) it says
that nothing is quantized. Where images are decoded during training, the text also says how many CPU cores that takes.
"""

import contextlib
import json
import os
import pathlib
import sys

from experiments.command import run, told

_JSON, _CONTROLS = _SWITCHES = '--json', '--controls'


@told
def main(argv: list[str]) -> int:
    """Runs the command line without the program's name; returns the exit code."""
    from experiments.setup import command_line
    from experiments.setup.usage import usage

    if not argv or '--help' in argv or '-h' in argv:
        print(usage(__doc__))
        return 0
    flags = command_line.joined([argument for argument in argv if argument not in _SWITCHES])
    config, out = command_line.parse(flags, 'out', _SWITCHES)
    with contextlib.redirect_stdout(sys.stderr):  # for what a user's file prints
        answer = _answer(config, out, flags, as_json=_JSON in argv, as_controls=_CONTROLS in argv)
    print(answer)
    return 0


def _answer(config, out: str, flags: list[str], *, as_json: bool, as_controls: bool) -> str:
    """Returns what to print, and draws the figure if one is asked for."""
    os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # an accelerator would be slower, and may be busy training
    # Imported late: a wrong command line and --help are answered without jax.
    from experiments.data import registry
    from experiments.results import commands, controls, decoding, explanation, ranges
    from experiments.setup import settings
    from experiments.training import sharing

    config.twins = ''
    resolved = settings.resolve(config)
    dataset = registry.dataset(config.dataset)  # refuses a name that does not exist
    if not resolved.quantizes:
        return _in_full_precision(resolved, flags, as_json=as_json)
    if resolved.activations:  # whether they can be rounded is a matter of the model
        sharing.lockstep(resolved, registry.task(config, resolved.model))
    has_kappa = resolved.transfer.transfer_class == 'identity' and resolved.optimizer.decays
    initial = ranges.initial(resolved) if has_kappa else {}
    kappas = resolved.kappas(initial) if has_kappa else None
    kept = [flag for flag in flags if not flag.startswith('--out=')]
    if as_controls:
        return explanation.page({'Setting': explanation.setting(resolved)}, controls.owed(resolved, kept, kappas))
    figure = None
    if out or not as_json:
        figure = explanation.draw(resolved, pathlib.Path(out or f'runs/explain/{config.name}'))
    if as_json:
        return json.dumps(explanation.record(resolved, kappas), indent=2, allow_nan=False)
    said = {'Setting': explanation.setting(resolved), **explanation.words(resolved, kappas)}
    said['Input'] = decoding.in_words() if dataset.decodes else ''
    said['Warning'] = '\n'.join(resolved.warnings(initial))
    check, by_itself = [f'--config.twins={commands.twins_to_check(resolved)}'], commands.as_config(resolved)
    to_copy = {
        'Try it': commands.train_command(kept, check),
        'Try it in the limit': commands.train_command(kept, [*check, '--config.ladder=3']),
        'The recipe by itself': commands.train_command(kept, by_itself) if by_itself else '',
        'Figure': str(figure),
    }
    return explanation.page(said, to_copy)


def _in_full_precision(resolved, flags: list[str], *, as_json: bool) -> str:
    """Returns the same where nothing is quantized: there is nothing that the theory could be asked."""
    from experiments.results import commands, explanation

    said = {'Setting': explanation.setting(resolved), 'Theory': explanation.FULL_PRECISION}
    if as_json:
        return json.dumps({label.lower(): sentence for label, sentence in said.items()}, indent=2)
    kept = [flag for flag in flags if not flag.startswith('--out=')]
    return explanation.page(said, {'Try it': commands.train_command(kept, [])})


if __name__ == '__main__':
    run(main, is_answer=True)
