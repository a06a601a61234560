"""Self-contained HTML pages with their figures: one function writes them all, from the templates beside this file."""

import base64
import math
import pathlib
from collections.abc import Mapping

import jinja2
from matplotlib.figure import Figure

from experiments.results import figures
from experiments.results.statistics import Estimate
from experiments.workdir.files import replacing, write_text

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).with_name('templates')),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write(folder: pathlib.Path, template: str, drawn: Mapping[str, Figure], **values) -> pathlib.Path:
    """Writes a page and its figures into a folder.

    Args:
      folder: an existing folder. It gets report.html and figures/NAME.png.
      template: the name of a file in templates/.
      drawn: the figures by name. The template finds them as data URIs in `images`, so that the page opens offline.
      values: everything else that the template shows, by name.

    Returns:
      The path of report.html.
    """
    (folder / 'figures').mkdir(exist_ok=True)
    images = {}
    for name, figure in drawn.items():
        picture = figures.png(figure)
        with replacing(folder / 'figures' / f'{name}.png') as partial:
            partial.write_bytes(picture)
        images[name] = f'data:image/png;base64,{base64.b64encode(picture).decode()}'
    path = folder / 'report.html'
    write_text(path, _ENVIRONMENT.get_template(template).render(images=images, **values))
    return path


def number(value: float | None) -> str:
    """Formats a metric for reading: a float with four significant digits, None as a dash."""
    if value is None:
        return '–'
    return f'{value:,}' if isinstance(value, int) else f'{value:.4g}'


def with_interval(found: Estimate | None) -> str:
    """Formats an estimate, its interval and the number of seeds for reading, in three digits; None is a dash."""
    if found is None:
        return '–'
    value, low, high, n = found
    ends = f' [{low:.3g}, {high:.3g}]' if low < high < math.inf else ''  # a single seed has no interval
    return f'{value:.3g}{ends} (n = {n})'


_ENVIRONMENT.filters |= {'number': number, 'with_interval': with_interval}
