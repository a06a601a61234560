"""Placement `update`: does the slope behind the optimizer give Muon and Adafactor the recipe that they lack?"""

from matplotlib.figure import Figure

from experiments.results import figures
from experiments.results.pages import with_interval
from experiments.results.statistics import order
from experiments.sweeps.report import grouped
from scripts.studies.study import BOTH_ENDS, Sweep, by_rate, draw, mark_rates, over_seeds

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


def orders(rows: list[dict]) -> dict[tuple[str, str], tuple[float, float, float] | None]:
    """By optimizer and placement: the fitted slope of log error over log learning rate, with its interval."""
    return {setting: order(*found) for setting, found in by_setting(rows).items()}


def beside_jitter(rows: list[dict]) -> dict[tuple[str, str], list[float]]:
    """By optimizer and placement: the mean error over the jitter twin's, at every learning rate."""
    jitter = by_setting(rows, jitter=True)
    return {
        setting: [
            mean / of_jitter for (mean, *_), (of_jitter, *_) in zip(*map(over_seeds, (errors, jitter[setting][1])))
        ]
        for setting, (_, errors) in by_setting(rows).items()
    }


def figure(rows: list[dict]) -> Figure:
    """Error against learning rate, a panel an optimizer, a line a placement."""
    drawn = Figure(figsize=(10.5, 4.2), layout='constrained', dpi=figures.RESOLUTION)
    axes = dict(zip(RATES, drawn.subplots(1, len(RATES), sharey=True)))
    for (optimizer, placement), (rates, errors) in by_setting(rows).items():
        draw(axes[optimizer], rates, over_seeds(errors), marker='o', label=f'placement {placement}')
    for optimizer, axis in axes.items():
        mark_rates(axis, RATES[optimizer])
        axis.set_yscale('log')
        axis.legend(frameon=False)
        figures.styled(axis, optimizer, 'learning rate, times steps constant', 'weight alignment error')
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line an optimizer and placement."""
    found, lines = orders(rows), []
    for (optimizer, placement), (rates, errors) in by_setting(rows).items():
        lowest, *_, highest = over_seeds(errors)
        shown = map(with_interval, (highest, lowest, found[optimizer, placement]))
        lines.append([f'`{optimizer}`', placement, f'{rates[-1]:g} to {rates[0]:g}', *shown])
    return ['optimizer', 'placement', 'learning rates', 'error at the highest', 'at the lowest', 'order'], lines
