"""The table of a sweep -> report.html and its figures, for a person who did not run it."""

import collections
import pathlib
from collections.abc import Iterable

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from experiments.results import figures, pages
from experiments.results.metrics import METRICS
from experiments.results.statistics import CONFIDENCE, interval
from experiments.workdir.files import write_text
from qat.lockstep.verdict import ANSWERS

ERROR = 'weight_alignment_error'
SHOWN = [name for name, metric in METRICS.items() if metric.in_sweeps]
_IN_THE_TERMINAL = (ERROR, 'quantized_weight_agreement_moved')
_NOT_OF_THE_GRID = {'seed', 'steps', 'verdict', 'twin', 'reference_accuracy', 'reference_loss', *METRICS}
_MOST_PANELS = 24


def grid_keys(rows: list[dict]) -> list[str]:
    """The keys of the grid, in order."""
    return [key for key in rows[0] if key not in _NOT_OF_THE_GRID]


def grouped(rows: Iterable[dict], keys: Iterable[str]) -> dict[tuple, list[dict]]:
    """Rows by their values of these keys, in order of appearance."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def summarize(rows: list[dict]) -> list[dict]:
    """A row a setting and twin: the number of seeds, and (mean, low, high) of what is shown."""
    keys = grid_keys(rows)
    return [
        {
            'setting': ', '.join(f'{key}={value}' for key, value in zip(keys, values)) or 'the config',
            'twin': values[-1],
            'seeds': len(of_seeds),
            **{key: interval([row[key] for row in of_seeds]) for key in SHOWN},
        }
        for values, of_seeds in grouped(rows, [*keys, 'twin']).items()
    ]


def verdicts(rows: list[dict]) -> dict[tuple, int]:
    """How many runs of each setting ended with which answer."""
    counts = collections.Counter()
    for (*values, _), (first, *_) in grouped(rows, [*grid_keys(rows), 'seed']).items():
        answer = next(answer for answer in ANSWERS if first['verdict'].startswith(answer))
        counts[(*values, answer)] += 1
    return dict(counts)


def terminal_table(rows: list[dict]) -> Table:
    """The alignment errors for the terminal."""
    table = Table('setting', 'twin', 'seeds', 'alignment error', 'of the moved, equal codes')
    for row in summarize(rows):
        table.add_row(
            row['setting'], row['twin'], str(row['seeds']), *(pages.with_interval(row[key]) for key in _IN_THE_TERMINAL)
        )
    return table


def _axis(rows: list[dict]) -> str | None:
    """The grid's key that is drawn along x: the learning rate, else the first one with several numbers."""
    numeric = []
    for key in grid_keys(rows):
        try:
            if len({float(row[key]) for row in rows}) > 1:
                numeric.append(key)
        except ValueError:
            continue
    return 'learning_rate' if 'learning_rate' in numeric else next(iter(numeric), None)


def _panels(rows: list[dict], axis: str | None) -> dict[tuple, list[dict]]:
    """Rows by the grid's other keys, but for those that only follow along with the axis."""
    keys = [key for key in grid_keys(rows) if key != axis]
    if axis is not None:
        follows = {key: len(grouped(rows, [axis, key])) == len(grouped(rows, [axis])) for key in keys}
        keys = [key for key in keys if not follows[key] or len(grouped(rows, [key])) == 1]
    return grouped(rows, [key for key in keys if len(grouped(rows, [key])) > 1])


def figure(rows: list[dict]) -> Figure:
    """The alignment error of every twin: along the axis of the grid, or setting by setting, with its interval."""
    axis = _axis(rows)
    return _against(rows, axis) if axis else _by_setting(rows)


def _against(rows: list[dict], axis: str) -> Figure:
    panels = list(_panels(rows, axis).items())[:_MOST_PANELS]
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    drawn = Figure(figsize=(3.6 * columns + 1, 3.1 * lines + 0.6), layout='constrained', dpi=figures.RESOLUTION)
    axes = drawn.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for place, (values, of_panel) in zip(axes, panels):
        for (twin,), of_twin in grouped(of_panel, ['twin']).items():
            found = {
                float(x): interval([row[ERROR] for row in same]) for (x,), same in grouped(of_twin, [axis]).items()
            }
            points = sorted((x, *mean) for x, mean in found.items() if mean and mean[0] > 0)
            if points:
                x, mean, low, high = map(np.array, zip(*points))
                place.errorbar(
                    x,
                    mean,
                    (mean - low, high - mean),
                    color=figures.colour(twin),
                    label=twin,
                    marker='o',
                    ms=4,
                    capsize=3,
                )
        figures.styled(place, ', '.join(values) or ERROR, axis, 'weight alignment error')
    for place in axes[len(panels) :]:
        place.set_visible(False)
    if any(place.lines for place in axes):
        axes[0].set(xscale='log', yscale='log')
        axes[0].legend(frameon=False, fontsize=8)
    return drawn


def _by_setting(rows: list[dict]) -> Figure:
    settings = _panels(rows, None)
    drawn = Figure(figsize=(9, 1.4 + 0.42 * len(settings)), layout='constrained', dpi=figures.RESOLUTION)
    place = drawn.subplots()
    for line, of_setting in enumerate(settings.values()):
        for (twin,), of_twin in grouped(of_setting, ['twin']).items():
            found = interval([row[ERROR] for row in of_twin])
            if found and found[0] > 0:
                mean, low, high = found
                bars = [[mean - low], [high - mean]]
                place.errorbar(mean, line, xerr=bars, color=figures.colour(twin), label=twin, marker='o', capsize=3)
    place.set_yticks(range(len(settings)), [', '.join(values) or 'the config' for values in settings])
    place.invert_yaxis()
    figures.styled(place, 'Alignment error at the end', 'weight alignment error', '')
    if place.lines:
        place.set_xscale('log')
        named = dict(zip(*reversed(place.get_legend_handles_labels())))
        place.legend(named.values(), named.keys(), frameon=False, fontsize=8)
    return drawn


def write(out: pathlib.Path, rows: list[dict], missing: dict[str, str], command: str) -> pathlib.Path:
    """Writes report.html and figures/alignment.png; returns the page's path.

    Args:
      out: folder of the sweep.
      rows: its table.
      missing: why a run is not in the table, by its name.
      command: that made the sweep.
    """
    picture = figures.png(figure(rows))
    (out / 'figures').mkdir(exist_ok=True)
    (out / 'figures' / 'alignment.png').write_bytes(picture)
    page = pages.render(
        'sweep.html.jinja',
        keys=grid_keys(rows),
        rows=summarize(rows),
        shown={key: METRICS[key].meaning for key in SHOWN},
        verdicts=verdicts(rows),
        missing=missing,
        command=command,
        runs=len(grouped(rows, [*grid_keys(rows), 'seed'])),
        confidence=f'{CONFIDENCE:.0%}',
        picture=pages.inline(picture),
    )
    path = out / 'report.html'
    write_text(path, page)
    return path
