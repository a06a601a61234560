"""Writes the report of a finished run, for a person who did not run it."""

import pathlib

import jax

from experiments.results import codes, explanation, figures, finished, next_steps, pages, take_home
from experiments.results.metrics import shown
from experiments.setup.settings import Settings
from experiments.workdir import places
from experiments.workdir.files import blame_disk
from qat.lockstep.twins import REFERENCE


@jax.enable_x64(False)  # for the same page wherever it is written
def write(workdir: pathlib.Path, settings: Settings) -> pathlib.Path:
    """Writes figures/*.png and the self-contained report.html of a finished run, and returns the path of the page.

    Args:
      workdir: of the run.
      settings: of the run.

    Raises:
      UserError: the workdir lacks a file of a finished run, or one is damaged, or the page cannot be written.
    """
    twins = list(settings.twins)
    places.check_workdir(workdir, workdir)
    rows, result = finished.rows(workdir), finished.result(workdir, twins)
    shared = {
        'result': result,
        'answers': next_steps.answers(result, str(settings.estimator)),
        'to_do': next_steps.to_do(settings, result, workdir),
        'config': settings.config.to_dict(),
        'run': finished.environment(workdir),
        'samples': finished.samples(workdir),
    }
    if not settings.quantizes:
        with blame_disk(workdir):
            return pages.write(workdir, 'full_precision.html.jinja', {'curves': figures.curves(rows, [])}, **shared)
    weights = finished.weights(workdir, twins)
    drawn = {
        'curves': figures.curves(rows, twins),
        'alignment': figures.alignment(rows, twins),
        'scatter': figures.scatter(weights, settings, twins),
        'estimator': figures.estimator(settings),
        'layers': figures.layers(rows, twins),
    }
    found = result.get('limit', {})  # a run may be older than the ladder
    if found.get('errors'):
        drawn['limit'] = figures.limit(found)
    with blame_disk(workdir):
        return pages.write(
            workdir,
            'report.html.jinja',
            drawn,
            take_home.table(settings),
            **shared,
            evaluations=len(rows),
            metrics=shown(result[REFERENCE]),
            theory=explanation.theory(settings, result),
            twins=explanation.twins(settings),
            rounded=explanation.rounded(settings),
            codes=codes.by_run(result['twins']),
            never_flipped=codes.never_flipped_by_layer(rows[-1], twins),
        )
