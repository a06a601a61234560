"""The report's pictures, each a function from what a run left behind to a matplotlib figure."""

import io
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.setup.settings import Settings
from qat.quantizers import UniformQuantizer
from qat.theory.coverage import NotCovered
from qat.theory.weight_map import WeightMap

_COLOURS = {
    'reference': '#222222',
    'ste': '#0072b2',
    'naive_ste': '#d55e00',
    'map_ste': '#cc79a7',
    'jitter': '#009e73',
    'self': '#999999',
}
_ANOTHER = '#7b5f3d'  # of a run that has none of its own yet
RESOLUTION = 110  # dots an inch


def colour(run: str) -> str:
    """Of a run in every picture, by its name."""
    return _COLOURS.get(run, _ANOTHER)


def png(figure: Figure) -> bytes:
    """The picture as a file's content, the same bytes for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', metadata={'Software': None})
    return buffer.getvalue()


def styled(axis, title: str, x: str, y: str) -> None:
    """Labels and the look of every plot."""
    axis.set(title=title, xlabel=x, ylabel=y)
    axis.grid(alpha=0.25)
    axis.spines[['top', 'right']].set_visible(False)


def _series(rows: list[dict], key: str) -> tuple[list, list]:
    points = [(row['step'], row[key]) for row in rows if row.get(key) is not None]
    return tuple(zip(*points)) if points else ([], [])


def curves(rows: list[dict], twins: list[str]) -> Figure:
    """Validation loss and accuracy and training loss of every run, and each twin's difference."""
    figure = Figure(figsize=(12, 6.2), layout='constrained', dpi=RESOLUTION)
    axes = figure.subplots(2, 3, sharex=True)
    keys = (('train/loss', 'train_loss'), ('eval/loss', 'eval_loss'), ('eval/accuracy', 'eval_accuracy'))
    titles = ('training loss', 'validation loss', 'validation accuracy')
    for (top, bottom), (reference, of_twin), title in zip(axes.T, keys, titles):
        top.plot(*_series(rows, reference), color=colour('reference'), label='reference', lw=2)
        for twin in twins:
            top.plot(*_series(rows, f'{twin}/{of_twin}'), color=colour(twin), label=twin, lw=1.2, ls='--')
            differences = [
                {'step': row['step'], 'difference': row[f'{twin}/{of_twin}'] - row[reference]}
                for row in rows
                if row.get(f'{twin}/{of_twin}') is not None and row.get(reference) is not None
            ]
            bottom.plot(*_series(differences, 'difference'), color=colour(twin), label=twin, lw=1.4)
        if 'loss' in title:
            top.set_yscale('log')
        bottom.axhline(0, color=colour('reference'), lw=0.8)
        styled(top, title, '', '')
        styled(bottom, f'{title}: twin - reference', 'step', '')
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure


def alignment(rows: list[dict], twins: list[str]) -> Figure:
    """The alignment error of every twin over time, on a log axis."""
    figure = Figure(figsize=(8, 4.2), layout='constrained', dpi=RESOLUTION)
    axis = figure.subplots()
    zeros = []
    for twin in twins:
        steps, errors = _series(rows, f'{twin}/weight_alignment_error')
        if any(errors):
            axis.plot(steps, errors, color=colour(twin), label=twin, marker='.', lw=1.6)
        elif steps:
            zeros.append(twin)
    if axis.lines:
        axis.set_yscale('log')
        axis.legend(frameon=False)
    if zeros:
        axis.text(0.99, 0.02, f'exactly 0: {", ".join(zeros)}', transform=axis.transAxes, ha='right', color='#666666')
    styled(axis, 'Distance from the reference over the length of the path', 'step', 'weight alignment error')
    return figure


def scatter(weights: Mapping[str, np.ndarray], settings: Settings, twins: list[str]) -> Figure:
    """Twin weights against reference weights, all layers in units of their range: raw, and through M."""
    layers = [name.removeprefix('reference/') for name in weights if name.startswith('reference/')]
    pooled = {run: np.concatenate([weights[f'{run}/{layer}'] for layer in layers]) for run in ['reference', *twins]}
    weight_map = _weight_map(settings)
    views = [('raw', 'w / R', pooled['reference'])]
    if weight_map is not None:
        through = np.asarray(jax.jit(weight_map)(pooled['reference'], jnp.float32(1)))
        views.append(('through M', 'M(w) / R', through))
    figure = Figure(figsize=(3.1 * len(twins), 3.2 * len(views)), layout='constrained', dpi=RESOLUTION)
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
    """Slope, M and quantizer over two cells, in units of the step around a threshold at 0."""
    figure = Figure(figsize=(12, 3.6), layout='constrained', dpi=RESOLUTION)
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


def layers(rows: list[dict], twins: list[str]) -> Figure:
    """The alignment error of every layer at the end, by twin."""
    last, suffix = rows[-1], '/weight_alignment_error'
    names = list(
        dict.fromkeys(
            key.split('/', 1)[1].removesuffix(suffix) for key in last if key.count('/') >= 2 and key.endswith(suffix)
        )
    )
    figure = Figure(figsize=(8, 1.6 + 0.28 * len(names) * max(1, len(twins) / 3)), layout='constrained', dpi=RESOLUTION)
    axis = figure.subplots()
    height = 0.8 / max(1, len(twins))
    for index, twin in enumerate(twins):
        errors = [last.get(f'{twin}/{name}{suffix}') or 0 for name in names]
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
    """For a range of 1; none where they would only blacken the picture."""
    if quantizer.bits > 4:
        return np.array([])
    return (np.arange(quantizer.intervals) - (quantizer.intervals - 1) / 2) * 2 / quantizer.intervals
