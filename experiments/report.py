"""A workdir -> report.html and its figures, for a person who did not run it.

python -m experiments.report WORKDIR     draws it again, from the files of a finished run
"""

import pathlib
import sys
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments import command_line, figures, pages, theory
from experiments.errors import UserError, tell
from experiments.files import read_json, write_text
from experiments.records import read_rows
from experiments.settings import resolve

EXPLANATIONS = {
    'accuracy': 'share of the validation examples classified correctly',
    'loss': 'mean cross-entropy on the validation examples',
    'weight_alignment_error': "distance to the reference (through the twin's M) over the length of the twin's path",
    'weight_alignment_error_displacement': 'the same distance over how far the twin is from where it began',
    'quantized_weight_agreement': 'share of the quantized weights with the same code',
    'quantized_weight_agreement_moved': 'the same among the weights whose code ever changed, in either run',
    'moved_fraction': 'share of the weights whose code ever changed, in either run',
    'change_point_sequence_agreement': 'share of the weights that went through the same sequence of codes',
    'change_point_sequence_agreement_moved': 'the same among the weights that moved',
    'compressed_change_point_sequence_agreement': 'the same after collapsing oscillations a b a b to a b',
    'average_change_point_error': 'steps between equal changes of code, over weights with the same sequence',
    'oscillations_reference': 'oscillations collapsed in the reference',
    'oscillations_twin': 'oscillations collapsed in the twin',
    'validation_accuracy_correlation': 'Pearson correlation of the validation accuracies over the run',
    'validation_loss_correlation': 'Pearson correlation of the validation losses over the run',
    'inference_agreement': 'share of the validation examples given the same class',
    'incorrect_inference_agreement': 'the same among the examples that both get wrong',
}


def write(workdir: pathlib.Path) -> pathlib.Path:
    """Writes figures/*.png and the self-contained report.html of a finished run; returns its path.

    Raises:
      UserError: the workdir lacks a file of a finished run.
    """
    config = command_line.load(str(workdir / 'config.json'))
    settings, rows = resolve(config), read_rows(workdir)
    result, run = read_json(workdir / 'summary.json'), read_json(workdir / 'environment.json')
    twins = list(settings.twins)
    with np.load(workdir / 'weights.npz', allow_pickle=False) as weights:
        drawn = {
            'curves': figures.curves(rows, twins),
            'alignment': figures.alignment(rows, twins),
            'scatter': figures.scatter(weights, settings, twins),
            'estimator': figures.estimator(settings),
            'layers': figures.layers(rows, twins),
        }
    images = _save(drawn, workdir / 'figures')
    page = pages.render(
        'report.html.jinja',
        result=result,
        config=config.to_dict(),
        run=run,
        images=images,
        explanations=EXPLANATIONS,
        theory=theory.words(settings),
    )
    path = workdir / 'report.html'
    write_text(path, page)
    return path


def _save(drawn: Mapping[str, Figure], directory: pathlib.Path) -> dict[str, str]:
    """Writes each figure as a PNG and returns it as a data URI, for a page that opens offline."""
    directory.mkdir(exist_ok=True)
    uris = {}
    for name, figure in drawn.items():
        picture = figures.png(figure)
        (directory / f'{name}.png').write_bytes(picture)
        uris[name] = pages.inline(picture)
    return uris


def main(argv: list[str]) -> int:
    """Draws the report of the workdir given on the command line again."""
    if len(argv) != 1 or argv[0].startswith('-'):
        print(__doc__)
        return 0 if argv in (['--help'], ['-h']) else 2
    try:
        print(write(pathlib.Path(argv[0])))
    except UserError as error:
        return tell(error)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
