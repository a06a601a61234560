"""Writes the report of a sweep from its table, for a person who did not run it."""

import collections
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from experiments.results import figures, pages
from experiments.results.metrics import METRICS
from experiments.results.statistics import CONFIDENCE, interval
from qat.lockstep.verdict import ANSWERS

ERROR = 'weight_alignment_error'
SHOWN = [name for name, metric in METRICS.items() if metric.in_sweeps]
_IN_THE_TERMINAL = (ERROR, 'quantized_weight_agreement_moved')
_NOT_OF_THE_GRID = {'seed', 'steps', 'verdict', 'twin', 'reference_accuracy', 'reference_loss', *METRICS}
_MOST_PANELS = 24


def grid_keys(rows: list[dict]) -> list[str]:
    """Returns the config keys that the grid sets, in order."""
    return [key for key in rows[0] if key not in _NOT_OF_THE_GRID]


def grouped(rows: Iterable[dict], keys: Iterable[str]) -> dict[tuple, list[dict]]:
    """Returns the rows by their values of some keys, in order of appearance."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def summarize(rows: list[dict]) -> list[dict]:
    """Returns one row for each setting and twin, with statistics over the seeds.

    A row has 'setting' and 'twin', the number of 'seeds', and (mean, low, high) of every metric in SHOWN, or None
    where no seed has that metric.
    """
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
    """Returns the number of runs by the values of the grid's keys followed by the verdict."""
    counts = collections.Counter()
    for (*values, _), (first, *_) in grouped(rows, [*grid_keys(rows), 'seed']).items():
        answer = next(answer for answer in ANSWERS if first['verdict'].startswith(answer))
        counts[(*values, answer)] += 1
    return dict(counts)


def terminal_table(rows: list[dict]) -> Table:
    """Returns the table for the terminal: alignment error and agreement of every setting and twin."""
    table = Table('setting', 'twin', 'seeds', 'alignment error', 'of the moved, equal codes')
    for row in summarize(rows):
        table.add_row(
            row['setting'], row['twin'], str(row['seeds']), *(pages.with_interval(row[key]) for key in _IN_THE_TERMINAL)
        )
    return table


def _numbers(rows: list[dict], key: str) -> set[float]:
    """Returns the different values of a key as numbers; the empty set if one is not a number."""
    try:
        return {float(row[key]) for row in rows}
    except ValueError:
        return set()


def _axis(rows: list[dict]) -> str | None:
    """Returns the grid's key to draw along x: the learning rate if it varies, else the first number that does."""
    numeric = [key for key in grid_keys(rows) if len(_numbers(rows, key)) > 1]
    return 'learning_rate' if 'learning_rate' in numeric else next(iter(numeric), None)


def _panels(rows: list[dict], axis: str | None) -> dict[tuple, list[dict]]:
    """Returns the rows by the grid's other keys that vary, without those that are a function of the axis."""
    keys = [key for key in grid_keys(rows) if key != axis and len(grouped(rows, [key])) > 1]
    if axis is not None:
        keys = [key for key in keys if len(grouped(rows, [axis, key])) > len(grouped(rows, [axis]))]
    return grouped(rows, keys)


def _errors(rows_at: Mapping[float, list[dict]]) -> dict[str, np.ndarray]:
    """Returns the alignment errors of every twin as an array (4, points), sorted by position.

    Its rows are the position, the mean over seeds, and the distances from there down and up to the interval's ends.
    What is 0 is left out: the axis is logarithmic.
    """
    points = {}
    for position, rows in rows_at.items():
        for (twin,), of_twin in grouped(rows, ['twin']).items():
            found = interval([row[ERROR] for row in of_twin])
            if found and found[0] > 0:
                mean, low, high = found
                points.setdefault(twin, []).append((position, mean, mean - low, high - mean))
    return {twin: np.array(sorted(found)).T for twin, found in points.items()}


def figure(rows: list[dict]) -> Figure:
    """Draws the alignment error of every twin with its interval, along a key of the grid or setting by setting."""
    axis = _axis(rows)
    return _along(rows, axis) if axis else _by_setting(rows)


def _along(rows: list[dict], axis: str) -> Figure:
    panels = list(_panels(rows, axis).items())[:_MOST_PANELS]
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    drawn = figures.empty(3.6 * columns + 1, 3.1 * lines + 0.6)
    axes = drawn.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for place, (values, of_panel) in zip(axes, panels):
        rows_at = {float(x): same for (x,), same in grouped(of_panel, [axis]).items()}
        for twin, (x, mean, down, up) in _errors(rows_at).items():
            look = {'color': figures.colour(twin), 'marker': 'o', 'ms': 4, 'capsize': 3}
            place.errorbar(x, mean, (down, up), label=twin, **look)
        figures.styled(place, ', '.join(values) or ERROR, axis, 'weight alignment error')
    for place in axes[len(panels) :]:
        place.set_visible(False)
    if any(place.lines for place in axes):
        axes[0].set(xscale='log', yscale='log')
        axes[0].legend(frameon=False, fontsize=8)
    return drawn


def _by_setting(rows: list[dict]) -> Figure:
    settings = _panels(rows, None)
    drawn = figures.empty(9, 1.4 + 0.42 * len(settings))
    place = drawn.subplots()
    for twin, (line, mean, down, up) in _errors(dict(enumerate(settings.values()))).items():
        look = {'color': figures.colour(twin), 'marker': 'o', 'ls': '', 'capsize': 3}
        place.errorbar(mean, line, xerr=(down, up), label=twin, **look)
    place.set_yticks(range(len(settings)), [', '.join(values) or 'the config' for values in settings])
    place.invert_yaxis()
    figures.styled(place, 'Alignment error at the end', 'weight alignment error', '')
    if place.lines:
        place.set_xscale('log')
        place.legend(frameon=False, fontsize=8)
    return drawn


def write(out: pathlib.Path, rows: list[dict], missing: dict[str, str], command: str) -> pathlib.Path:
    """Writes report.html and figures/alignment.png, and returns the path of the page.

    Args:
      out: the folder of the sweep.
      rows: its table.
      missing: by the name of every run that is not in the table, why it is not.
      command: the command line that made the sweep.
    """
    return pages.write(
        out,
        'sweep.html.jinja',
        {'alignment': figure(rows)},
        keys=grid_keys(rows),
        rows=summarize(rows),
        shown={key: METRICS[key].meaning for key in SHOWN},
        verdicts=verdicts(rows),
        missing=missing,
        command=command,
        runs=len(grouped(rows, [*grid_keys(rows), 'seed'])),
        confidence=f'{CONFIDENCE:.0%}',
    )
