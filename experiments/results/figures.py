"""The figures of the report: functions from what a run left behind to matplotlib figures.

Throughout, `rows` are the rows of metrics.jsonl, and `twins` the names of the twins to draw.
"""

import io
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from matplotlib.ticker import LogFormatterSciNotation, NullLocator

from experiments.results.statistics import Estimate
from experiments.setup.settings import Settings
from qat.lockstep.verdict import STE_TWINS
from qat.quantizers import Quantizer
from qat.theory.coverage import NotCovered
from qat.theory.weight_map import WeightMap

matplotlib.rcdefaults()  # a user's matplotlibrc is for the user's figures: here it could ask for LaTeX

_COLOURS = {
    'reference': '#222222',
    'ste': '#0072b2',
    'naive_ste': '#d55e00',
    'map_ste': '#cc79a7',
    'jitter': '#009e73',
    'reshuffle': '#e69f00',
    'self': '#999999',
    'ste_activations': '#56b4e9',
    'unmapped': '#d55e00',
    'mapped': '#0072b2',
}
_OTHER_COLOUR = '#7b5f3d'
RESOLUTION = 110  # dots per inch
_TITLE = 46  # characters
_WIDTHS = 3.2, 2.6, 2, 1.6, 1.2  # of lines, one a twin: what lies beneath an equal one is seen
_ERROR = 'weight_alignment_error'


def colour(run: str) -> str:
    """Returns the colour that a run, 'reference' or a twin, has in every figure."""
    return _COLOURS.get(run, _OTHER_COLOUR)


def empty(width: float, height: float) -> Figure:
    """Returns a figure without axes; width and height are in inches."""
    return Figure(figsize=(width, height), layout='constrained', dpi=RESOLUTION)


class _Plain(LogFormatterSciNotation):
    """Labels where matplotlib labels a logarithmic axis, but 0.04 and no power of ten."""

    def __call__(self, x, pos=None):
        return f'{x:g}' if super().__call__(x, pos) else ''


def png(figure: Figure) -> bytes:
    """Returns the content of a PNG file; the same figure gives the same bytes. No text in it is markup."""
    for axis in (side for axes in figure.axes for side in (axes.xaxis, axes.yaxis) if side.get_scale() == 'log'):
        if isinstance(axis.get_major_formatter(), LogFormatterSciNotation):  # not labels of its own
            axis.set_major_formatter(_Plain())
            axis.set_minor_formatter(_Plain())
    for text in figure.findobj(Text):  # names that people give may hold a $
        text.set_parse_math(False)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={'Software': None})  # savefig would draw it twice
    return buffer.getvalue()


def styled(axis: Axes, title: str, x: str, y: str) -> None:
    """Gives an axis its title, the labels of x and y, and the look that all plots share."""
    axis.set(title=title, xlabel=x, ylabel=y)
    axis.grid(alpha=0.25)
    axis.spines[['top', 'right']].set_visible(False)


def legend(axis: Axes, columns: int = 3) -> None:
    """Names the lines of a styled axis above it, where a legend hides none; the title moves up."""
    _, labels = axis.get_legend_handles_labels()
    if labels:
        look = {'frameon': False, 'fontsize': 8, 'handlelength': 1.4, 'columnspacing': 1, 'borderaxespad': 0.2}
        axis.legend(loc='lower left', bbox_to_anchor=(0, 1), ncols=columns, **look)
        axis.set_title(axis.get_title(), pad=8 + 13 * -(-len(labels) // columns))


def ticks_at(axis: Axes, values: Iterable[float]) -> None:
    """Labels these values of x and no others, all at one height."""
    axis.set_xticks([*values], [f'{value:g}' for value in values], minor=False)
    axis.xaxis.set_minor_locator(NullLocator())


def error_bars(estimates: Iterable[Estimate]) -> np.ndarray:
    """Returns how far intervals reach below their values and above, (2, n); NaN, not drawn, where they are infinite."""
    reach = np.array([(value - low, high - value) for value, low, high, _ in estimates]).T
    return np.where(np.isfinite(reach).all(axis=0), reach, np.nan)


def _values(rows: list[dict], key: str) -> np.ndarray:
    """Returns a metric of every row, float64; NaN where it is None or missing."""
    return np.array([row.get(key) for row in rows], np.float64)


def curves(rows: list[dict], twins: list[str]) -> Figure:
    """Draws training loss, validation loss and accuracy of all runs, and how far each twin is from the reference."""
    figure = empty(12, 7.4 if twins else 3.9)
    axes = figure.subplots(2 if twins else 1, 3, sharex=True, squeeze=False)
    steps = _values(rows, 'step')
    keys = (('train/loss', 'train_loss'), ('eval/loss', 'eval_loss'), ('eval/accuracy', 'eval_accuracy'))
    titles = ('training loss', 'validation loss', 'validation accuracy')
    for (top, *below), (key, key_of_twin), title in zip(axes.T, keys, titles):
        reference = _values(rows, key)
        top.plot(steps, reference, color=colour('reference'), label='reference', marker='.', lw=2)
        for width, twin in zip(_WIDTHS, twins):
            values, look = _values(rows, f'{twin}/{key_of_twin}'), {'color': colour(twin), 'label': twin, 'marker': '.'}
            top.plot(steps, values, lw=1.2, ls='--', **look)
            below[0].plot(steps, values - reference, lw=width, **look)
        if 'loss' in title:
            top.set_yscale('log')
        styled(top, title, '' if below else 'step', '')
        legend(top)
        for bottom in below:
            bottom.axhline(0, color=colour('reference'), lw=0.8)
            styled(bottom, f'{title}: twin - reference', 'step', '')
            legend(bottom)
    return figure


def alignment(rows: list[dict], twins: list[str]) -> Figure:
    """Draws the alignment error of every twin over time, on a log axis; errors that are always 0 become a note."""
    figure = empty(12, 4.8)
    axis = figure.subplots()
    title, zeros = 'Distance from the reference over the length of the path', []
    for width, twin in zip(_WIDTHS, twins):
        errors = _values(rows, f'{twin}/{_ERROR}')
        if (errors > 0).any():
            axis.plot(_values(rows, 'step'), errors, color=colour(twin), label=twin, marker='.', lw=width)
        elif (errors == 0).any():
            zeros.append(twin)
    if axis.lines:
        axis.set_yscale('log')
    styled(axis, f'{title}; exactly 0: {", ".join(zeros)}' if zeros else title, 'step', 'weight alignment error')
    legend(axis, columns=6)
    return figure


def scatter(weights: Mapping[str, np.ndarray], settings: Settings, twins: list[str]) -> Figure:
    """Draws weights of STE against the reference's: with its recipe, before and after M, and with nothing adjusted.

    Args:
      weights: by 'RUN/LAYER', (n,) quantized weights in units of their layer's range.
      settings: the setting of the run.
      twins: of them those that show what the recipe does; if there is none, all.
    """
    layers = [name.removeprefix('reference/') for name in weights if name.startswith('reference/')]
    pooled = {run: np.concatenate([weights[f'{run}/{layer}'] for layer in layers]) for run in ['reference', *twins]}
    panels = [(twin, 'raw', 'w / R', pooled['reference']) for twin in _telling(settings, twins)]
    recipe = next((twin for twin, *_ in panels if settings.twins[twin].recipe.remaps_initialization), None)
    if recipe is not None:
        mapped = np.asarray(jax.jit(_weight_map(settings))(pooled['reference'], np.float32(1)))
        panels.insert(1, (recipe, 'through M', 'M(w) / R', mapped))
    figure = empty(3.9 * len(panels), 4.1)
    axes = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True).ravel()
    limit = 1.15 * max(1.0, min(2.0, np.abs(pooled['reference']).max()))
    for axis, (twin, title, x, reference) in zip(axes, panels):
        axis.plot([-limit, limit], [-limit, limit], color='#bbbbbb', lw=0.8, label='equal')
        axis.scatter(reference, pooled[twin], s=2, alpha=0.35, color=colour(twin), lw=0)
        for threshold in _thresholds(settings.estimator.quantizer):
            axis.axvline(threshold, color='#dddddd', lw=0.6, zorder=0)
        styled(axis, f'{twin}, {title}', f'reference: {x}', 'twin: v / R')
        axis.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect='equal')
        axis.grid(False)
    return figure


def _telling(settings: Settings, twins: list[str]) -> list[str]:
    """Returns the twins to draw: an STE with the recipe first, then the one with nothing adjusted if it is another."""
    ste = [twin for twin in twins if twin in STE_TWINS]
    recipe = [twin for twin in ste if twin != 'naive_ste'][:1]
    naive = [twin for twin in ste if twin == 'naive_ste']
    if recipe and naive and settings.twins[recipe[0]] == settings.twins['naive_ste']:
        return recipe  # which changes nothing
    return [*recipe, *naive] or twins


def estimator(settings: Settings) -> Figure:
    """Draws slope and M over two cells, and all levels of the quantizer over its range."""
    figure = empty(12, 4)
    left, middle, right = figure.subplots(1, 3)
    x = np.linspace(-1, 1, 1600, endpoint=False, dtype=np.float32)
    r = (x + 0.5) % 1 - 0.5
    slope_at = jax.jit(settings.estimator)
    for progress in (0.0, 0.5, 1.0) if settings.estimator.needs('progress') else (0.0,):
        for sign in (1.0, -1.0) if settings.estimator.needs('gradient') else (1.0,):
            slope = slope_at(r, np.full_like(r, sign), np.float32(progress))
            told = (('progress', f'{progress:g}'), ('gradient', f'{sign:+g}'))
            label = ', '.join(f'{name} {value}' for name, value in told if settings.estimator.needs(name))
            left.plot(x, np.asarray(slope), lw=1.8, label=label or 's')
    left.axhline(1, color='#bbbbbb', lw=0.8, label='STE')
    styled(left, shortened(f'slope s of {settings.estimator}'), 'weight, in steps D from a threshold', 's')
    weight_map = _weight_map(settings)
    if weight_map is not None:
        inside = jax.jit(weight_map.on_offsets)(r)
        label = f'M, \N{GREEK SMALL LETTER ALPHA} = {weight_map.alpha:.4g}'
        middle.plot(x, np.round(x - r) + np.asarray(inside), color=colour('ste'), lw=1.8, label=label)
    else:
        middle.text(0.5, 0.5, 'no M: not covered\nby the theorem', ha='center', va='center', transform=middle.transAxes)
    middle.plot([-1, 1], [-1, 1], color='#bbbbbb', lw=0.8, label='unchanged')
    styled(middle, 'M over two cells', 'w, in steps D from a threshold', 'M(w), in steps D')
    quantizer, reach = settings.estimator.quantizer, np.linspace(-1.25, 1.25, 4001, dtype=np.float32)
    right.plot(reach, np.asarray(jax.jit(quantizer.quantize)(reach, np.float32(1))), color='#222222', lw=1.8, label='q')
    right.plot([-1.25, 1.25], [-1.25, 1.25], color='#bbbbbb', lw=0.8, label='unchanged')
    styled(right, f'all {quantizer.intervals + 1} levels of {quantizer.name}', 'w / R', 'q(w) / R')
    for axis in (left, middle, right):
        legend(axis)
    return figure


def limit(found: Mapping) -> Figure:
    """Draws the errors of a ladder against the learning rate, a line a seed, from `limit.in_the_limit`."""
    figure = empty(12, 4.8)
    axis = figure.subplots()
    for twin, errors in found['errors'].items():
        for number, of_seed in enumerate(errors):
            label = twin if number == 0 else None
            axis.plot(found['learning_rates'], of_seed, color=colour(twin), marker='o', ms=4, lw=1, label=label)
    axis.set(xscale='log', yscale='log')
    ticks_at(axis, found['learning_rates'])
    styled(axis, 'Does it vanish? A line a seed', 'learning rate, times steps constant', 'weight alignment error')
    legend(axis, columns=6)
    return figure


def layers(rows: list[dict], twins: list[str]) -> Figure:
    """Draws the alignment error of every layer and twin at the end."""
    last = rows[-1]  # its keys of layers are TWIN/LAYER/METRIC; the name of a layer may contain slashes
    of_layers = [key for key in last if key.count('/') >= 2 and key.endswith(f'/{_ERROR}')]
    names = list(dict.fromkeys(key.split('/', 1)[1].removesuffix(f'/{_ERROR}') for key in of_layers))
    figure = empty(12, 1.6 + 0.28 * len(names) * max(1, len(twins) / 3))
    axis = figure.subplots()
    height = 0.8 / max(1, len(twins))
    for index, twin in enumerate(twins):
        errors = [last.get(f'{twin}/{name}/{_ERROR}') or 0 for name in names]
        positions = np.arange(len(names)) + (index - (len(twins) - 1) / 2) * height
        axis.barh(positions, errors, height=height, color=colour(twin), label=twin)
    axis.set_yticks(np.arange(len(names)), [_drawable(name) for name in names])
    axis.invert_yaxis()
    styled(axis, 'Alignment error by layer, at the end', 'weight alignment error', '')
    legend(axis, columns=6)
    return figure


def _drawable(name: str) -> str:
    """Returns a name with what the font lacks, such as a tab, written out instead."""
    font = get_font(findfont(FontProperties()))
    return ''.join(c if font.get_char_index(ord(c)) else c.encode('unicode_escape').decode() for c in name)


def shortened(text: str) -> str:
    """Returns a title that is no wider than a panel."""
    return text if len(text) <= _TITLE else f'{text[: _TITLE - 3]}...'


def _weight_map(settings: Settings) -> WeightMap | None:
    try:
        return WeightMap(settings.estimator)
    except NotCovered:
        return None


def _thresholds(quantizer: Quantizer) -> np.ndarray:
    """Returns the rounding thresholds for a range of 1; none for more than 4 bits, where they would hide the points."""
    if quantizer.bits > 4:
        return np.array([])
    R = jnp.float32(1)
    values = quantizer.values(jnp.arange(quantizer.intervals + 1), R)
    return np.asarray(quantizer.place((values[:-1] + values[1:]) / 2, R).threshold)
