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
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments.results.statistics import Estimate
from experiments.setup.settings import Settings
from qat.quantizers import UniformQuantizer
from qat.theory.coverage import NotCovered
from qat.theory.weight_map import WeightMap

matplotlib.rcdefaults()  # a user's matplotlibrc is for the user's figures: here it could ask for LaTeX

_COLOURS = {
    'reference': '#222222',
    'ste': '#0072b2',
    'naive_ste': '#d55e00',
    'map_ste': '#cc79a7',
    'jitter': '#009e73',
    'self': '#999999',
}
_OTHER_COLOUR = '#7b5f3d'
RESOLUTION = 110  # dots per inch
_ERROR = 'weight_alignment_error'


def colour(run: str) -> str:
    """Returns the colour that a run, 'reference' or a twin, has in every figure."""
    return _COLOURS.get(run, _OTHER_COLOUR)


def empty(width: float, height: float) -> Figure:
    """Returns a figure without axes; width and height are in inches."""
    return Figure(figsize=(width, height), layout='constrained', dpi=RESOLUTION)


def png(figure: Figure) -> bytes:
    """Returns the content of a PNG file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', metadata={'Software': None})
    return buffer.getvalue()


def styled(axis: Axes, title: str, x: str, y: str) -> None:
    """Gives an axis its title, the labels of x and y, and the look that all plots share."""
    axis.set(title=title, xlabel=x, ylabel=y)
    axis.grid(alpha=0.25)
    axis.spines[['top', 'right']].set_visible(False)


def error_bars(estimates: Iterable[Estimate]) -> np.ndarray:
    """Returns how far intervals reach below their values and above, (2, n); NaN, not drawn, where they are infinite."""
    reach = np.array([(value - low, high - value) for value, low, high, _ in estimates]).T
    return np.where(np.isfinite(reach).all(axis=0), reach, np.nan)


def _values(rows: list[dict], key: str) -> np.ndarray:
    """Returns a metric of every row, float64; NaN where it is None or missing."""
    return np.array([row.get(key) for row in rows], np.float64)


def curves(rows: list[dict], twins: list[str]) -> Figure:
    """Draws training loss, validation loss and accuracy of all runs, and how far each twin is from the reference."""
    figure = empty(12, 6.2)
    axes = figure.subplots(2, 3, sharex=True)
    steps = _values(rows, 'step')
    keys = (('train/loss', 'train_loss'), ('eval/loss', 'eval_loss'), ('eval/accuracy', 'eval_accuracy'))
    titles = ('training loss', 'validation loss', 'validation accuracy')
    for (top, bottom), (key, key_of_twin), title in zip(axes.T, keys, titles):
        reference = _values(rows, key)
        top.plot(steps, reference, color=colour('reference'), label='reference', lw=2)
        for twin in twins:
            values = _values(rows, f'{twin}/{key_of_twin}')
            top.plot(steps, values, color=colour(twin), label=twin, lw=1.2, ls='--')
            bottom.plot(steps, values - reference, color=colour(twin), label=twin, lw=1.4)
        if 'loss' in title:
            top.set_yscale('log')
        bottom.axhline(0, color=colour('reference'), lw=0.8)
        styled(top, title, '', '')
        styled(bottom, f'{title}: twin - reference', 'step', '')
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure


def alignment(rows: list[dict], twins: list[str]) -> Figure:
    """Draws the alignment error of every twin over time, on a log axis; errors that are always 0 become a note."""
    figure = empty(8, 4.2)
    axis = figure.subplots()
    zeros = []
    for twin in twins:
        errors = _values(rows, f'{twin}/{_ERROR}')
        if (errors > 0).any():
            axis.plot(_values(rows, 'step'), errors, color=colour(twin), label=twin, marker='.', lw=1.6)
        elif (errors == 0).any():
            zeros.append(twin)
    if axis.lines:
        axis.set_yscale('log')
        axis.legend(frameon=False)
    if zeros:
        axis.text(0.99, 0.02, f'exactly 0: {", ".join(zeros)}', transform=axis.transAxes, ha='right', color='#666666')
    styled(axis, 'Distance from the reference over the length of the path', 'step', 'weight alignment error')
    return figure


def scatter(weights: Mapping[str, np.ndarray], settings: Settings, twins: list[str]) -> Figure:
    """Draws the weights of each twin against the reference's, directly and, where M is known, after M.

    Args:
      weights: by 'RUN/LAYER', (n,) quantized weights in units of their layer's range.
      settings: the setting of the run.
    """
    layers = [name.removeprefix('reference/') for name in weights if name.startswith('reference/')]
    pooled = {run: np.concatenate([weights[f'{run}/{layer}'] for layer in layers]) for run in ['reference', *twins]}
    weight_map = _weight_map(settings)
    views = [('raw', 'w / R', pooled['reference'])]
    if weight_map is not None:
        mapped = np.asarray(jax.jit(weight_map)(pooled['reference'], jnp.float32(1)))
        views.append(('through M', 'M(w) / R', mapped))
    figure = empty(3.1 * len(twins), 3.2 * len(views))
    axes = figure.subplots(len(views), len(twins), squeeze=False, sharex=True, sharey=True)
    limit = 1.15 * max(1.0, min(2.0, np.abs(pooled['reference']).max()))
    for line, (title, x, reference) in zip(axes, views):
        for axis, twin in zip(line, twins):
            axis.plot([-limit, limit], [-limit, limit], color='#bbbbbb', lw=0.8)
            axis.scatter(reference, pooled[twin], s=2, alpha=0.35, color=colour(twin), lw=0)
            for threshold in _thresholds(settings.estimator.quantizer):
                axis.axvline(threshold, color='#dddddd', lw=0.6, zorder=0)
            styled(axis, f'{twin}, {title}', f'reference: {x}', 'twin: v / R')
            axis.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect='equal')
            axis.grid(False)
    return figure


def estimator(settings: Settings) -> Figure:
    """Draws slope, M and quantizer over two cells; x is the weight in steps from a threshold."""
    figure = empty(12, 3.6)
    left, middle, right = figure.subplots(1, 3)
    x = np.linspace(-1, 1, 1600, endpoint=False, dtype=np.float32)
    r = (x + 0.5) % 1 - 0.5
    for progress in (0.0, 0.5, 1.0) if settings.estimator.needs('progress') else (0.0,):
        for sign in (1.0, -1.0) if settings.estimator.needs('gradient') else (1.0,):
            slope = settings.estimator(jnp.asarray(r), jnp.full(r.shape, sign), jnp.float32(progress))
            left.plot(x, np.asarray(slope), lw=1.8, label=f'progress {progress:g}, gradient {sign:+g}')
    if len(left.lines) > 1:
        left.legend(frameon=False, fontsize=8)
    left.axhline(1, color='#bbbbbb', lw=0.8)
    styled(left, f'slope s of {settings.estimator}', 'weight, in steps from a threshold', 's')
    weight_map = _weight_map(settings)
    if weight_map is not None:
        inside = weight_map.on_offsets(jnp.asarray(r))
        middle.plot(x, np.round(x - r) + np.asarray(inside), color=colour('ste'), lw=1.8)
        middle.text(0.05, 0.9, f'alpha = {weight_map.alpha:.4f}', transform=middle.transAxes)
    else:
        middle.text(0.5, 0.5, 'no M: not covered\nby the theorem', ha='center', va='center', transform=middle.transAxes)
    middle.plot([-1, 1], [-1, 1], color='#bbbbbb', lw=0.8)
    styled(middle, 'M, from its weights to STE weights', 'w', 'M(w)')
    right.step(x, np.floor(x) + 0.5, where='mid', color='#222222', lw=1.8)
    right.plot([-1, 1], [-1, 1], color='#bbbbbb', lw=0.8)
    styled(right, f'quantizer, {settings.estimator.bits} bits', 'w', 'q(w)')
    return figure


def limit(found: Mapping) -> Figure:
    """Draws the errors of a ladder against the learning rate, a line a seed, from `limit.in_the_limit`."""
    figure = empty(8, 4.2)
    axis = figure.subplots()
    for twin, errors in found['errors'].items():
        for number, of_seed in enumerate(errors):
            label = twin if number == 0 else None
            axis.plot(found['learning_rates'], of_seed, color=colour(twin), marker='o', ms=4, lw=1, label=label)
    axis.set(xscale='log', yscale='log')
    axis.set_xticks(found['learning_rates'], [f'{rate:g}' for rate in found['learning_rates']], minor=False)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.legend(frameon=False)
    styled(axis, 'Does it vanish? A line a seed', 'learning rate, times steps constant', 'weight alignment error')
    return figure


def layers(rows: list[dict], twins: list[str]) -> Figure:
    """Draws the alignment error of every layer and twin at the end."""
    last = rows[-1]  # its keys of layers are TWIN/LAYER/METRIC; the name of a layer may contain slashes
    of_layers = [key for key in last if key.count('/') >= 2 and key.endswith(f'/{_ERROR}')]
    names = list(dict.fromkeys(key.split('/', 1)[1].removesuffix(f'/{_ERROR}') for key in of_layers))
    figure = empty(8, 1.6 + 0.28 * len(names) * max(1, len(twins) / 3))
    axis = figure.subplots()
    height = 0.8 / max(1, len(twins))
    for index, twin in enumerate(twins):
        errors = [last.get(f'{twin}/{name}/{_ERROR}') or 0 for name in names]
        positions = np.arange(len(names)) + (index - (len(twins) - 1) / 2) * height
        axis.barh(positions, errors, height=height, color=colour(twin), label=twin)
    axis.set_yticks(np.arange(len(names)), names)
    axis.invert_yaxis()
    axis.legend(frameon=False, fontsize=8)
    styled(axis, 'Alignment error by layer, at the end', 'weight alignment error', '')
    return figure


def _weight_map(settings: Settings) -> WeightMap | None:
    try:
        return WeightMap(settings.estimator)
    except NotCovered:
        return None


def _thresholds(quantizer: UniformQuantizer) -> np.ndarray:
    """Returns the rounding thresholds for a range of 1; none for more than 4 bits, where they would hide the points."""
    if quantizer.bits > 4:
        return np.array([])
    return (np.arange(quantizer.intervals) - (quantizer.intervals - 1) / 2) * 2 / quantizer.intervals
