"""Self-contained HTML pages: one environment for all templates, pictures inline, numbers for reading."""

import base64
import pathlib

import jinja2

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).with_name('templates')),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values) -> str:
    """The page that a file of templates/ makes of these values."""
    return _ENVIRONMENT.get_template(template).render(values)


def inline(picture: bytes) -> str:
    """A PNG as a data URI, for a page that opens offline."""
    return f'data:image/png;base64,{base64.b64encode(picture).decode()}'


def number(value) -> str:
    """A metric for reading: four significant digits, a dash where it does not exist."""
    if value is None:
        return '–'
    return f'{value:,}' if isinstance(value, int) else f'{value:.4g}'


def with_interval(found: tuple[float, float, float] | None) -> str:
    """(mean, low, high) for reading; a dash where there is none."""
    if found is None:
        return '–'
    mean, low, high = found
    return number(mean) if low == high else f'{number(mean)} [{number(low)}, {number(high)}]'


_ENVIRONMENT.filters |= {'number': number, 'with_interval': with_interval}
