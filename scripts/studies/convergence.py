"""Order of convergence: does the alignment error vanish with the learning rate, as the theorem says?

The twin `jitter`, which differs in next to nothing, comes nearer with the learning rate too. So the order that answers
is that of the error in units of jitter's: above 0 the error falls faster than what hides small differences.
"""

import itertools
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.results import figures
from experiments.results.pages import with_interval
from experiments.results.statistics import Estimate, order
from experiments.sweeps.report import ERROR, grouped
from qat.lockstep.twins import JITTER
from scripts.studies.study import BOTH_ENDS, Sweep, at_constant_length, by_rate, draw, ends, mark_rates, over_seeds

MAIN, KINK, ADAM, LARGE = 'convergence', 'kink', 'adam', 'adam-large'  # parts; the last at ten times adam's rates
ESTIMATORS = ('ste', 'dsq(k=6.5)', 'soft_round(a=5)', 'sine(lam=0.6)', 'rdfs(A=0.21)', 'dge(k=5,clamp=3)', 'mad')
RATES = {0.04: 250, 0.023: 435, 0.0132: 758, 0.0076: 1316, 0.0044: 2273, 0.0025: 4000}  # their product is 10
KINKED = 'dge(k=5,clamp=3)'  # |2r|^(1/k-1)/k near a threshold, cut off there: the higher the clamp, the sharper
BLUNTED = ('dge(k=5,clamp=1.5)', 'dge(k=5,clamp=0.75)')
KINK_RATES = {rate: steps for rate, steps in RATES.items() if rate > 0.003}
ADAM_RATES = {4e-4: 125, 2e-4: 250, 1e-4: 500, 5e-5: 1000}  # their product is 1/20
LARGE_RATES = {4e-3: 125, 2e-3: 250, 1e-3: 500, 5e-4: 1000}  # and here 1/2
OPTIMIZERS = {MAIN: 'sgd(momentum=0.9)', KINK: 'sgd(momentum=0.9)', ADAM: 'adam(b2=0.95)', LARGE: 'adam(b2=0.95)'}
LADDERS = {MAIN: RATES, ADAM: ADAM_RATES, LARGE: LARGE_RATES}
TWINS = ('ste', 'jitter')


def _sweep(name: str, estimators: tuple[str, ...], rates: dict[float, int], seeds: int, *overrides: str) -> Sweep:
    grids = (f'estimator={"|".join(estimators)}', at_constant_length(rates))
    return Sweep(name, grids, (*BOTH_ENDS, f'twins={",".join(TWINS)}', *overrides), seeds)


SWEEPS = (
    _sweep(MAIN, ESTIMATORS, RATES, 5),
    _sweep(KINK, BLUNTED, KINK_RATES, 3),
    _sweep(ADAM, ESTIMATORS[1:], ADAM_RATES, 8, f'optimizer={OPTIMIZERS[ADAM]}'),
    _sweep(LARGE, ESTIMATORS[1:], LARGE_RATES, 8, f'optimizer={OPTIMIZERS[LARGE]}'),
)

Ladder = tuple[list[float], list[list[float]]]  # learning rates, and errors (seeds, learning rates)


def by_estimator(rows: list[dict], twin: str, part: str = MAIN, key: str = ERROR) -> dict[str, Ladder]:
    """The ladder of a twin in a part, by estimator."""
    chosen = [row for row in rows if row['part'] == part and row['twin'] == twin]
    return {name: by_rate(of_one, key) for (name,), of_one in grouped(chosen, ['estimator']).items()}


def orders(rows: list[dict], twin: str, part: str = MAIN, key: str = ERROR) -> dict[str, Estimate | None]:
    """The order of a twin's error, by estimator."""
    return {name: order(*found) for name, found in by_estimator(rows, twin, part, key).items()}


def relative_orders(rows: list[dict], part: str = MAIN) -> dict[str, Estimate | None]:
    """The order of the error of `ste` in units of that of `jitter`, by estimator."""
    jitter = by_estimator(rows, 'jitter', part)
    return {name: order(*found, jitter[name][1]) for name, found in by_estimator(rows, 'ste', part).items()}


def ratios(rows: list[dict], part: str = MAIN) -> dict[str, list[Estimate | None]]:
    """The error of `ste` in units of that of `jitter` at every learning rate, by estimator."""
    jitter = by_estimator(rows, 'jitter', part)
    return {
        name: over_seeds(np.divide(errors, jitter[name][1]))
        for name, (_, errors) in by_estimator(rows, 'ste', part).items()
    }


def beside_the_kink(rows: list[dict]) -> list[dict]:
    """The rows of the kinked estimator and of its blunted forms as one part, KINK, at the rates of the latter."""
    kinked = [row for row in rows if row['part'] == MAIN and row['estimator'] == KINKED]
    shared = [row for row in kinked if float(row['learning_rate']) in KINK_RATES]
    return [{**row, 'part': KINK} for row in shared] + [row for row in rows if row['part'] == KINK]


def _panel(axis: Axes, rates: list[float], lines: dict[str, list[Estimate | None]], title: str) -> None:
    for name, found in lines.items():
        if all(found) and all(estimate.value for estimate in found):  # the axis is logarithmic
            draw(axis, rates, found, marker='o', ms=4, label=name, color=f'C{ESTIMATORS.index(name)}')
    mark_rates(axis, rates)
    axis.set_yscale('log')
    figures.styled(axis, title, 'learning rate, times steps constant', '')


def stated(rows: list[dict]) -> list:
    """What the page has to state."""
    main, adam, large = ({k: v for k, v in relative_orders(rows, part).items() if v} for part in LADDERS)
    rest = [name for name in main if name != 'mad']
    found = [ratios(rows, part) for part in LADDERS]
    reached = [[ends(of_part[name][place] for name in rest) for place in (-1, 0)] for of_part in found]
    spans = [(max(rates), min(rates)) for rates in LADDERS.values()]
    jitter = [ends(orders(rows, 'jitter', key=key).values()) for key in (ERROR, f'{ERROR}_displacement')]
    lowest, *_, highest = sorted(main, key=main.get)
    mad = [itertools.chain(*by_estimator(rows, twin)['mad'][1]) for twin in TWINS]
    smaller = [one < other for one, other in zip(*mad)]
    kink, kinked = beside_the_kink(rows), f'`{KINKED}`'
    blunt = [(estimate, f'`{name}`') for name, estimate in orders(kink, 'ste', KINK).items()]

    def above(estimates: dict[str, Estimate], names: Iterable[str] = rest) -> tuple[int, int]:
        return sum(estimates[name].low > 0 for name in names), len(names)

    return [
        *(
            10,
            0.05,
            0.5,
            0,
            f'{JITTER - 1:.0%}',
            jitter,
            0,
            0,
            main[lowest],
            f'`{lowest}`',
            main[highest],
            above(main, main),
        ),
        *(0, reached[0], 0, sum(smaller), len(smaller)),
        *(spans[2], reached[2], ends(large[name] for name in rest), above(large), 0),
        *(spans[1], reached[1], above(adam), 0, above(orders(rows, 'ste', ADAM))),
        *(max(estimate.value for of_part in found[1:] for estimate in of_part['mad']), spans[2]),
        *(orders(rows, 'ste', LARGE)['mad'], kinked, min(KINK_RATES), blunt),
        *(list(relative_orders(kink, KINK).values()), 0.4),
    ]


def figure(rows: list[dict]) -> Figure:
    """Errors against the learning rate, and their ratio; a line an estimator, a row of panels a ladder of rates."""
    drawn = Figure(figsize=(14, 12.6), layout='constrained', dpi=figures.RESOLUTION)
    for axes, (part, rates) in zip(drawn.subplots(len(LADDERS), 3), LADDERS.items()):
        for axis, twin in zip(axes, TWINS):
            lines = {name: over_seeds(errors) for name, (_, errors) in by_estimator(rows, twin, part).items()}
            _panel(axis, sorted(rates), lines, f'{OPTIMIZERS[part]}: error of {twin}')
        axes[1].sharey(axes[0])
        _panel(axes[2], sorted(rates), ratios(rows, part), f'{OPTIMIZERS[part]}: ste / jitter')
        axes[2].axhline(1, color='#999999', ls=':')
        axes[0].legend(frameon=False, fontsize=8)
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line an estimator and optimizer: the three orders, and `ste` in units of `jitter` at both ends."""
    lines = []
    for part, optimizer in OPTIMIZERS.items():
        plain, beside, found = orders(rows, 'ste', part), orders(rows, 'jitter', part), ratios(rows, part)
        rates = [f'{rate:g}' for rate in by_estimator(rows, 'ste', part)[next(iter(found))][0]]
        for name, relative in relative_orders(rows, part).items():
            shown = (plain[name], beside[name], relative, found[name][-1], found[name][0])
            lines.append([f'`{optimizer}`', f'`{name}`', f'{rates[-1]} to {rates[0]}', *map(with_interval, shown)])
    header = ['optimizer', 'estimator', 'learning rates', 'order of `ste`', 'of `jitter`', 'of `ste` / `jitter`']
    return [*header, '`ste` / `jitter` at the highest rate', 'at the lowest'], lines
