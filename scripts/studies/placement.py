"""Placement `update`: does the slope behind the optimizer give Muon and Adafactor the recipe that they lack?"""

import numpy as np
from matplotlib.figure import Figure

from experiments.results import figures
from experiments.results.pages import number, with_interval
from experiments.results.statistics import interval, order
from experiments.sweeps.report import grouped
from scripts.studies.study import BOTH_ENDS, Study, Sweep, by_rate, error_bars, mark_rates

RATES = {  # by optimizer: learning rates and steps, of constant product
    'muon': {4e-3: 125, 2e-3: 250, 1e-3: 500, 5e-4: 1000},
    'adafactor(multiply_by_parameter_scale=False)': {2e-3: 125, 1e-3: 250, 5e-4: 500, 2.5e-4: 1000},
}
LOWEST_ORDER = 0.3
TWINS = {'gradient': 'map_ste', 'update': 'ste'}  # the same recipe: M and alpha


def _grids(placement: str) -> tuple[str, ...]:
    return (
        'optimizer='
        + '|'.join(
            f'{call};learning_rate={rate};max_steps={steps};placement={placement}'
            for call, rates in RATES.items()
            for rate, steps in rates.items()
        ),
    )


def _errors(rows: list[dict]) -> dict[tuple[str, str], tuple[list[float], list[list[float]]]]:
    """By optimizer and placement: (rates, errors (seeds, rates)) of the twin with the recipe."""
    return {
        (optimizer, placement): by_rate([row for row in of_both if row['twin'] == TWINS[placement]])
        for (optimizer, placement), of_both in grouped(rows, ['optimizer', 'placement']).items()
    }


def figure(rows: list[dict]) -> Figure:
    """Error against learning rate, a panel an optimizer, a line a placement."""
    drawn = Figure(figsize=(10.5, 4.2), layout='constrained', dpi=figures.RESOLUTION)
    axes = dict(zip(RATES, drawn.subplots(1, len(RATES), sharey=True)))
    for (optimizer, placement), (rates, errors) in _errors(rows).items():
        found = [interval(column) for column in zip(*errors)]
        means, bars = [f[0] for f in found], error_bars(found)
        axes[optimizer].errorbar(rates, means, bars, marker='o', capsize=3, label=f'placement {placement}')
    for optimizer, axis in axes.items():
        mark_rates(axis, RATES[optimizer])
        axis.set_yscale('log')
        axis.legend(frameon=False)
        figures.styled(axis, optimizer, 'learning rate, times steps constant', 'weight alignment error')
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line an optimizer and placement."""
    lines = []
    for (optimizer, placement), (rates, errors) in _errors(rows).items():
        ends = [with_interval(interval([seed[index] for seed in errors])) for index in (-1, 0)]
        span = f'{rates[-1]:g} to {rates[0]:g}'
        lines.append([f'`{optimizer}`', placement, span, *ends, with_interval(order(rates, errors))])
    return ['optimizer', 'placement', 'learning rates', 'error at the highest', 'at the lowest', 'order'], lines


def findings(rows: list[dict]) -> list[str]:
    """A sentence an optimizer."""
    orders = {key: order(*errors) for key, errors in _errors(rows).items()}
    said = []
    for optimizer in RATES:
        before, behind = orders[optimizer, 'gradient'], orders[optimizer, 'update']
        apart = 'beyond both intervals' if behind[1] > before[2] else 'not beyond the intervals'
        said.append(
            f'`{optimizer}`: with placement `gradient` the error follows the learning rate to the power '
            f'{with_interval(before)}, with placement `update` to the power {with_interval(behind)}. The two differ '
            f'{apart}; a lower end above {LOWEST_ORDER}, asked for beforehand, is '
            f'{"" if behind[1] > LOWEST_ORDER else "not "}reached. In units of what `jitter` does, the error with '
            'placement '
            + ', '.join(f'`{placement}` is {_beside_jitter(rows, optimizer, placement)}' for placement in TWINS)
            + '.'
        )
    return said


def _beside_jitter(rows: list[dict], optimizer: str, placement: str) -> str:
    """The range over learning rates of the mean error over the jitter twin's."""
    of_both = [row for row in rows if row['optimizer'] == optimizer and row['placement'] == placement]
    means = {
        twin: np.mean(by_rate([row for row in of_both if row['twin'] == twin])[1], axis=0)
        for twin in (TWINS[placement], 'jitter')
    }
    ratios = means[TWINS[placement]] / means['jitter']
    return f'{number(ratios.min())} to {number(ratios.max())}'


STUDY = Study(
    title='Placement: the slope before or behind the optimizer',
    question='Muon and Adafactor mix the gradients of different weights, and no recipe is known for them. With the '
    "slope on the optimizer's output instead (placement `update`), the recipe of SGD should hold. DSQ (k = 6.5) on "
    'digits; the twin starts from M(w0) and takes alpha times the learning rate in both. Shampoo, of the same kind, is '
    'left out: no maintained package has it for optax.',
    sweeps=tuple(
        Sweep(
            placement,
            'configs/digits.py',
            _grids(placement),
            (*BOTH_ENDS, f'twins={twin},jitter'),
        )
        for placement, twin in TWINS.items()
    ),
    seeds=3,
    figure=figure,
    table=table,
    findings=findings,
)
