"""Writes the report of a sweep from its table, for a person who did not run it."""

import pathlib
from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments import terminal
from experiments.results import figures, limit, pages
from experiments.results.metrics import METRICS
from experiments.results.statistics import CONFIDENCE, Estimate, interval, pooled_order
from qat.lockstep.verdict import ANSWERS, LIMIT, NO, NONE, STE_TWINS, YES

ERROR = 'weight_alignment_error'
SHOWN = [name for name, metric in METRICS.items() if metric.in_sweeps]
_IN_THE_TERMINAL = (ERROR, 'quantized_weight_agreement_moved')
_NOT_OF_THE_GRID = {'seed', 'steps', 'verdict', 'twin', 'reference_accuracy', 'reference_loss', *METRICS}
_MOST_PANELS = 24
_ANSWERS = {YES: 'yes', NO: 'no', NONE: 'no verdict'}
_READINGS = {limit.YES: 'vanishes', limit.NO: 'stays', limit.UNSETTLED: 'not settled'}
_SAME_PATH = 1.1  # the paths of learning rate times steps may differ so much


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

    A row has 'setting', 'twin', and Estimates, or None where no seed has one: 'in_jitter', how many times jitter's the
    error is; 'reference', the accuracy of that; and every metric in SHOWN.
    """
    keys = grid_keys(rows)
    jitter = {_run(row, keys): row[ERROR] for row in rows if row['twin'] == 'jitter'}
    return [
        {
            'setting': ', '.join(f'{key}={value}' for key, value in zip(keys, values)) or 'the config',
            'twin': values[-1],
            'in_jitter': interval((_ratio(row[ERROR], jitter.get(_run(row, keys))) for row in of_seeds), log=True),
            'reference': interval(row['reference_accuracy'] for row in of_seeds),
            **{key: over_seeds(of_seeds, key) for key in SHOWN},
        }
        for values, of_seeds in grouped(rows, [*keys, 'twin']).items()
    ]


def _run(row: dict, keys: Iterable[str]) -> tuple:
    return tuple(row[key] for key in (*keys, 'seed'))


def _ratio(error: float | None, jitter: float | None) -> float | None:
    return error / jitter if error is not None and jitter else None


def over_seeds(rows: Iterable[dict], key: str) -> Estimate | None:
    """Returns a metric's mean over rows, a row a seed, with its interval: the geometric mean of an error."""
    return interval((row[key] for row in rows), log=METRICS[key].is_error)


def verdicts(rows: list[dict]) -> dict[tuple, dict[str, int]]:
    """Returns how many runs answer 'yes', 'no' and 'no verdict' at their setting, by the values of the grid's keys."""
    counts = {}
    for (*values, _), (first, *_) in grouped(rows, [*grid_keys(rows), 'seed']).items():
        answer = next((said for said in ANSWERS if first['verdict'].startswith(said)), NONE)
        counts.setdefault(tuple(values), dict.fromkeys(_ANSWERS.values(), 0))[_ANSWERS[answer]] += 1
    return counts


def _first_sentence(rows: list[dict]) -> str:
    """Returns what was swept, and how it went."""
    alternatives = {key: list(grouped(rows, [key])) for key in grid_keys(rows)}
    swept = ', '.join(f'{len(found)} values of {key}' for key, found in alternatives.items() if len(found) > 1)
    seeds, by_setting = len(grouped(rows, ['seed'])), verdicts(rows).values()
    sums = {answer: sum(counts[answer] for counts in by_setting) for answer in _ANSWERS.values()}
    told = ', '.join(f'{count} {answer}' for answer, count in sums.items())
    return (
        f'{sum(sums.values())} finished runs: {swept or "one setting"}, {seeds} seed{"s" if seeds > 1 else ""}. '
        f'Can STE take the place of the estimator? {told}.'
    )


def orders(rows: list[dict]) -> list[dict]:
    """Returns the orders of convergence of the STE twin, a row for each setting with two or more learning rates.

    A row has 'setting', 'twin', 'rates', and two Estimates over the seeds that have all the rates: 'plain', the power
    of the learning rate that the error falls by, and 'in_jitter', the same of the error in units of jitter's; None
    where an error is 0. 'reading' is what they say, in words; 'same_path' whether learning rate times steps is the same
    at all rates, as the limit asks.
    """
    found = []
    for values, of_panel in _panels(rows, 'learning_rate').items() if 'learning_rate' in grid_keys(rows) else ():
        at = {twin: _by_rate(same) for (twin,), same in grouped(of_panel, ['twin']).items()}
        rates, twin = sorted(_numbers(of_panel, 'learning_rate')), next(filter(at.__contains__, STE_TWINS), None)
        whole = [seed for seed, errors in at.get(twin, {}).items() if len(errors) == len(rates) > 1]
        if not whole or 'jitter' not in at:
            continue
        errors, jitter = ([[at[name][seed][rate] for rate in rates] for seed in whole] for name in (twin, 'jitter'))
        paths = [float(row['learning_rate']) * row['steps'] for row in of_panel]
        found.append(
            {
                'setting': ', '.join(values) or 'the config',
                'twin': twin,
                'rates': rates,
                'plain': (plain := pooled_order(rates, errors)),
                'in_jitter': (in_jitter := pooled_order(rates, errors, jitter)),
                'reading': _reading(plain, in_jitter, np.asarray(errors), np.asarray(jitter)),
                'same_path': max(paths) <= _SAME_PATH * min(paths),
            }
        )
    return found


def _reading(plain: Estimate | None, in_jitter: Estimate | None, errors: np.ndarray, jitter: np.ndarray) -> str:
    """Returns what the errors of a twin say in the limit: those as small as jitter's need not fall faster."""
    found = limit.reading(in_jitter, plain) if plain and in_jitter else limit.UNSETTLED
    if found != limit.YES and (errors <= LIMIT * jitter).all():
        return f'within {LIMIT:g} times jitter already'
    return _READINGS[found]


def _by_rate(rows: list[dict]) -> dict[str, dict[float, float]]:
    """Returns the alignment errors of one twin, by seed and learning rate."""
    known = (row for row in rows if row[ERROR] is not None)  # the others ended with numbers that are not finite
    of_seed = grouped(known, ['seed']).items()
    return {seed: {float(row['learning_rate']): row[ERROR] for row in same} for (seed,), same in of_seed}


def terminal_table(rows: list[dict]) -> str:
    """Returns the table for the terminal: alignment error and agreement of every setting, named once, and twin."""
    lines, last = [], None
    for row in summarize(rows):
        numbers = (pages.with_interval(row[key]) for key in _IN_THE_TERMINAL)
        lines.append(('' if row['setting'] == last else row['setting'], row['twin'], *numbers))
        last = row['setting']
    return terminal.table(('setting', 'twin', 'alignment error', 'of the moved, equal codes'), lines)


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


def _errors(rows_at: Mapping[float, list[dict]]) -> dict[str, tuple[list[float], list[float], np.ndarray]]:
    """Returns, by twin, the positions in order, the geometric means of the alignment error there, and the error bars.

    What is 0 is left out: the axis is logarithmic.
    """
    points = {}
    for position, rows in sorted(rows_at.items()):
        for (twin,), of_twin in grouped(rows, ['twin']).items():
            found = over_seeds(of_twin, ERROR)
            if found and found.value > 0:
                points.setdefault(twin, {})[position] = found
    return {
        twin: ([*found], [at.value for at in found.values()], figures.error_bars(found.values()))
        for twin, found in points.items()
    }


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
        for twin, (x, means, bars) in _errors(rows_at).items():
            look = {'color': figures.colour(twin), 'marker': 'o', 'ms': 4, 'capsize': 3}
            place.errorbar(x, means, bars, label=twin, **look)
        figures.styled(place, figures.shortened(', '.join(values) or ERROR), axis, 'weight alignment error')
    for place in axes[len(panels) :]:
        place.set_visible(False)
    if any(place.lines for place in axes):
        axes[0].set(xscale='log', yscale='log')
        figures.ticks_at(axes[0], sorted(_numbers(rows, axis)))
    for place in axes:
        figures.legend(place)
    return drawn


def _by_setting(rows: list[dict]) -> Figure:
    settings = _panels(rows, None)
    drawn = figures.empty(9, 1.4 + 0.42 * len(settings))
    place = drawn.subplots()
    for twin, (line, means, bars) in _errors(dict(enumerate(settings.values()))).items():
        look = {'color': figures.colour(twin), 'marker': 'o', 'ls': '', 'capsize': 3}
        place.errorbar(means, line, xerr=bars, label=twin, **look)
    names = [figures.shortened(', '.join(values)) or 'the config' for values in settings]
    place.set_yticks(range(len(settings)), names)
    place.invert_yaxis()
    figures.styled(place, 'Alignment error at the end', 'weight alignment error', '')
    if place.lines:
        place.set_xscale('log')
        figures.legend(place)
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
        first=_first_sentence(rows),
        orders=orders(rows),
        limit=LIMIT,
        confidence=f'{CONFIDENCE:.0%}',
    )
