"""Writes the report of a finished run, for a person who did not run it."""

import pathlib

from experiments.results import explanation, figures, finished, pages
from experiments.results.metrics import METRICS
from experiments.setup import command_line
from experiments.setup.settings import resolve
from experiments.workdir import places
from experiments.workdir.files import blame_disk


def write(workdir: pathlib.Path) -> pathlib.Path:
    """Writes figures/*.png and the self-contained report.html of a finished run, and returns the path of the page.

    Raises:
      UserError: the workdir lacks a file of a finished run, or one is damaged, or the page cannot be written.
    """
    config = command_line.load(str(workdir / 'config.json'))
    settings = resolve(config)
    twins = list(settings.twins)
    places.check_workdir(workdir, workdir)
    rows, result = finished.rows(workdir), finished.result(workdir, twins)
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
            result=result,
            config=config.to_dict(),
            run=finished.environment(workdir),
            metrics=METRICS,
            theory=explanation.theory(settings),
        )
