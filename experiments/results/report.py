"""A workdir -> report.html and its figures, for a person who did not run it."""

import pathlib
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments.results import explanation, figures, pages
from experiments.results.metrics import METRICS
from experiments.setup import command_line
from experiments.setup.settings import resolve
from experiments.workdir.files import read_json, write_text
from experiments.workdir.records import read_rows


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
        metrics=METRICS,
        theory=explanation.words(settings),
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
