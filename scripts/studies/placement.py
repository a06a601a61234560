"""Placement `update`: does the slope behind the optimizer give Muon and Adafactor the recipe that they lack?"""

import numpy as np
from matplotlib.figure import Figure

from experiments.results import figures
from experiments.results.pages import with_interval
from experiments.results.statistics import Estimate, order
from experiments.sweeps.report import grouped
from qat.lockstep.twins import JITTER
from scripts.studies.study import BOTH_ENDS, Sweep, by_rate, draw, ends, mark_rates, over_seeds

RATES = {  # by optimizer: learning rates and steps, of constant product
    'muon': {4e-3: 125, 2e-3: 250, 1e-3: 500, 5e-4: 1000},
    'adafactor(multiply_by_parameter_scale=False)': {2e-3: 125, 1e-3: 250, 5e-4: 500, 2.5e-4: 1000},
}
TWINS = {'gradient': 'map_ste', 'update': 'ste'}  # by placement, the twin with the same recipe: M and alpha


def _sweep(placement: str, twin: str) -> Sweep:
    settings = '|'.join(
        f'{call};learning_rate={rate};max_steps={steps};placement={placement}'
        for call, rates in RATES.items()
        for rate, steps in rates.items()
    )
    grids, overrides = (f'optimizer={settings}',), (*BOTH_ENDS, f'twins={twin},jitter')
    return Sweep(placement, grids, overrides, seeds=3)


SWEEPS = tuple(_sweep(placement, twin) for placement, twin in TWINS.items())


def by_setting(rows: list[dict], jitter: bool = False) -> dict[tuple[str, str], tuple]:
    """By optimizer and placement: (learning rates, errors (seeds, learning rates)) of the recipe's twin, or jitter."""
    chosen = [row for row in rows if row['twin'] == ('jitter' if jitter else TWINS[row['placement']])]
    return {setting: by_rate(of_one) for setting, of_one in grouped(chosen, ['optimizer', 'placement']).items()}


def orders(rows: list[dict]) -> dict[tuple[str, str], Estimate | None]:
    """By optimizer and placement: the order of the recipe's error."""
    return {setting: order(*found) for setting, found in by_setting(rows).items()}


def relative_orders(rows: list[dict]) -> dict[tuple[str, str], Estimate | None]:
    """By optimizer and placement: the order of the recipe's error in units of that of `jitter`."""
    jitter = by_setting(rows, jitter=True)
    return {setting: order(*found, jitter[setting][1]) for setting, found in by_setting(rows).items()}


def ratios(rows: list[dict]) -> dict[tuple[str, str], list[Estimate | None]]:
    """By optimizer and placement: the recipe's error in units of that of `jitter`, at every learning rate."""
    jitter = by_setting(rows, jitter=True)
    return {key: over_seeds(np.divide(errors, jitter[key][1])) for key, (_, errors) in by_setting(rows).items()}


def gained(rows: list[dict], optimizer: str) -> Estimate | None:
    """How much larger the order is with placement `update` than with `gradient`, paired by seeds."""
    found = by_setting(rows)
    return order(*found[optimizer, 'update'], found[optimizer, 'gradient'][1])


def stated(rows: list[dict]) -> list:
    """What the page has to state."""
    plain, relative, beside = orders(rows), relative_orders(rows), ratios(rows)
    said = [6.5]
    for optimizer in RATES:
        gradient, update = ((optimizer, placement) for placement in TWINS)
        said += [f'`{optimizer}`', plain[gradient], ends(beside[gradient]), plain[update], gained(rows, optimizer)]
        said += [ends(beside[update]), relative[update]]
    return [*said, f'{JITTER - 1:.0%}', 0.3, plain[update].low]


def figure(rows: list[dict]) -> Figure:
    """Error against learning rate, alone and in units of `jitter`; a column an optimizer, a line a placement."""
    drawn = Figure(figsize=(10.5, 8), layout='constrained', dpi=figures.RESOLUTION)
    axes = dict(zip(RATES, drawn.subplots(2, len(RATES), sharey='row').T))
    found = ratios(rows)
    for (optimizer, placement), (rates, errors) in by_setting(rows).items():
        for axis, values in zip(axes[optimizer], (over_seeds(errors), found[optimizer, placement])):
            draw(axis, rates, values, marker='o', label=f'placement {placement}')
    for optimizer, (top, bottom) in axes.items():
        for axis, label in ((top, 'weight alignment error'), (bottom, 'the same / jitter')):
            mark_rates(axis, RATES[optimizer])
            axis.set_yscale('log')
            figures.styled(axis, optimizer, 'learning rate, times steps constant', label)
        bottom.axhline(1, color='#999999', ls=':')
        top.legend(frameon=False)
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line an optimizer and placement: the order, that in units of `jitter`, and those units at both ends."""
    plain, relative, beside = orders(rows), relative_orders(rows), ratios(rows)
    lines = []
    for setting, (rates, _) in by_setting(rows).items():
        shown = (plain[setting], relative[setting], beside[setting][-1], beside[setting][0])
        optimizer, placement = setting
        lines.append([f'`{optimizer}`', placement, f'{rates[-1]:g} to {rates[0]:g}', *map(with_interval, shown)])
    header = ['optimizer', 'placement', 'learning rates', 'order', 'order of error / `jitter`']
    return [*header, 'error / `jitter` at the highest rate', 'at the lowest'], lines
