"""Order of convergence: does the alignment error vanish with the learning rate, as the theorem says?"""

from matplotlib.figure import Figure

from experiments.results import figures
from experiments.results.pages import with_interval
from experiments.results.statistics import order
from experiments.sweeps.report import grouped
from scripts.studies.study import BOTH_ENDS, Sweep, at_constant_length, by_rate, draw, mark_rates, over_seeds

MAIN, KINK = 'convergence', 'kink'  # parts
ESTIMATORS = ('ste', 'dsq(k=6.5)', 'soft_round(a=5)', 'sine(lam=0.6)', 'rdfs(A=0.21)', 'dge(k=5,clamp=3)', 'mad')
RATES = {0.04: 250, 0.023: 435, 0.0132: 758, 0.0076: 1316, 0.0044: 2273, 0.0025: 4000}  # their product is 10
KINKED = 'dge(k=5,clamp=3)'  # |2r|^(1/k-1)/k near a threshold, cut off there: the higher the clamp, the sharper
BLUNTED = ('dge(k=5,clamp=1.5)', 'dge(k=5,clamp=0.75)')
KINK_RATES = {rate: steps for rate, steps in RATES.items() if rate > 0.003}
TWINS = ('ste', 'jitter')


def _sweep(name: str, estimators: tuple[str, ...], rates: dict[float, int], seeds: int) -> Sweep:
    grids = (f'estimator={"|".join(estimators)}', at_constant_length(rates))
    return Sweep(name, grids, (*BOTH_ENDS, f'twins={",".join(TWINS)}'), seeds)


SWEEPS = (_sweep(MAIN, ESTIMATORS, RATES, seeds=5), _sweep(KINK, BLUNTED, KINK_RATES, seeds=3))


def by_estimator(rows: list[dict], twin: str, part: str = MAIN) -> dict[str, tuple[list[float], list[list[float]]]]:
    """By estimator: (learning rates, errors (seeds, learning rates)) of a twin in a part."""
    chosen = [row for row in rows if row['part'] == part and row['twin'] == twin]
    return {name: by_rate(of_one) for (name,), of_one in grouped(chosen, ['estimator']).items()}


def orders(rows: list[dict], twin: str) -> dict[str, tuple[float, float, float] | None]:
    """By estimator: the fitted slope of log error over log learning rate, with its interval."""
    return {name: order(*found) for name, found in by_estimator(rows, twin).items()}


def orders_beside_the_kink(rows: list[dict]) -> dict[str, tuple[float, float, float]]:
    """The orders of the kinked estimator and of its blunted forms, all at the learning rates of the latter."""
    shared = [row for row in rows if float(row['learning_rate']) in KINK_RATES]
    kinked = by_estimator(shared, 'ste')[KINKED]
    return {name: order(*found) for name, found in {KINKED: kinked, **by_estimator(shared, 'ste', KINK)}.items()}


def figure(rows: list[dict]) -> Figure:
    """Error against learning rate, a line an estimator, with the jitter twin's beside it."""
    drawn = Figure(figsize=(11, 4.6), layout='constrained', dpi=figures.RESOLUTION)
    axes = drawn.subplots(1, 2, sharey=True)
    for axis, twin in zip(axes, TWINS):
        for place, (name, (rates, errors)) in enumerate(by_estimator(rows, twin).items()):
            found = over_seeds(errors)
            if all(mean for mean, _, _ in found):  # the axis is logarithmic
                draw(axis, rates, found, marker='o', ms=4, label=name, color=f'C{place}')
        axis.plot(rates, [0.1 * rate / 0.01 for rate in rates], color='#999999', ls=':', label='slope 1')
        mark_rates(axis, rates)
        axis.set_yscale('log')
        figures.styled(axis, f'twin {twin}', 'learning rate, times steps = 10', 'weight alignment error')
    axes[0].legend(frameon=False, fontsize=8)
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line an estimator: the order, and the errors at both ends."""
    errors = [by_estimator(rows, twin) for twin in TWINS]
    lines = []
    for name, found in orders(rows, 'ste').items():
        ends = [over_seeds(of_twin[name][1])[end] for of_twin in errors for end in (-1, 0)]
        lines.append([f'`{name}`', *map(with_interval, (found, *ends))])
    header = ['estimator', 'order of `ste`', *(f'`{t}` at {rate}' for t in TWINS for rate in (max(RATES), min(RATES)))]
    return header, lines
