"""Self-contained HTML pages with their figures: one function writes them all, from the templates beside this file."""

import base64
import math
import pathlib
import re
from collections.abc import Mapping

import jinja2
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from experiments.results import figures
from experiments.results.statistics import Estimate
from experiments.workdir.files import replacing, write_text

_SYMBOLS = {
    r'\balpha\b(?![.:(=])': 'α',  # but not a file or an estimator of that name
    r'\bkappa\b(?![.:(=])': 'κ',
    r'\(integral of dx/s\(x\) from 0 to \(w - T\)/D\)': '∫ dx/s(x) from 0 to (w − T)/D',
    r'\^2': '²',
    r'(?<=\w|\)) - (?=\w|\()': ' − ',
    r'(?<=[\w)]) \* (?=[\w(])': ' ',
    '<=': '≤',
    '>=': '≥',
}

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).with_name('templates')),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write(
    folder: pathlib.Path, template: str, drawn: Mapping[str, Figure], files: Mapping[str, str] | None = None, **values
) -> pathlib.Path:
    """Writes a page, its figures and its files into a folder.

    Args:
      folder: an existing folder. It gets report.html and figures/NAME.png.
      template: the name of a file in templates/.
      drawn: the figures by name. The template finds them as data URIs in `images`, so that the page opens offline.
      files: texts by the name of their file, also in the folder. The template finds them as data URIs in `files`.
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
        images[name] = _data_uri('image/png', picture)
    for name, text in (files or {}).items():
        write_text(folder / name, text)
    downloads = {name: _data_uri('text/csv', text.encode()) for name, text in (files or {}).items()}
    path = folder / 'report.html'
    write_text(path, _ENVIRONMENT.get_template(template).render(images=images, files=downloads, **values))
    return path


def _data_uri(kind: str, content: bytes) -> str:
    return f'data:{kind};base64,{base64.b64encode(content).decode()}'


def symbols(sentence: str) -> str:
    """Puts the symbols of mathematics where a terminal gets ASCII."""
    for ascii_text, symbol in _SYMBOLS.items():
        sentence = re.sub(ascii_text, symbol, sentence)
    return sentence


def breakable(name: str) -> Markup:
    """Lets a long name break behind its underscores."""
    return Markup(escape(name).replace('_', Markup('_<wbr>')))


def number(value: float | None) -> str:
    """Formats a metric for reading: a float with four significant digits, None as a dash."""
    if value is None:
        return '–'
    return f'{value:,}' if isinstance(value, int) else f'{value:.4g}'


def share(value: float | None) -> str:
    """Formats a share as a percentage with a decimal, None as a dash."""
    return '–' if value is None else f'{value:.1%}'


def with_interval(found: Estimate | None) -> str:
    """Formats an estimate, its interval and the number of seeds for reading, in three digits; None is a dash."""
    if found is None:
        return '–'
    value, low, high, n = found
    ends = f' [{low:.3g}, {high:.3g}]' if low < high < math.inf else ''  # a single seed has no interval
    return f'{value:.3g}{ends} (n = {n})'


_ENVIRONMENT.filters |= {filter.__name__: filter for filter in (number, share, with_interval, symbols, breakable)}
