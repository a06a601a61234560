"""kappa: under Adam, does the agreement with STE depend on learning rate and beta2 through kappa alone?"""

import itertools

from matplotlib.figure import Figure
from scipy import stats

from experiments.results import figures
from experiments.results.pages import number, with_interval
from experiments.results.statistics import interval
from experiments.setup.command_line import load
from experiments.setup.settings import KAPPA_WARNING
from experiments.sweeps.report import ERROR, grouped
from qat import calls
from qat.quantizers import UniformQuantizer
from scripts.studies.study import BOTH_ENDS, Study, Sweep, at_constant_length, error_bars, mark_rates

CONFIG = 'configs/digits.py'
RATES = {2e-3: 250, 5e-4: 1000, 1.25e-4: 4000}  # their product is 1/2
BETA2 = (0.8, 0.95, 0.99)
BETA1 = {'kappa': 0.9, 'without-momentum': 0.0}  # by part; of the first, Adam's own
COLLAPSED = 0.95  # rank correlation with kappa
FAN_IN = 3 * 3 * 32  # of conv2, where nearly all quantized weights are


def kappa(row: dict) -> float:
    """Of the layer conv2."""
    bits = load(CONFIG).bits
    step = float(UniformQuantizer(bits).step((6 / FAN_IN) ** 0.5))
    return float(row['learning_rate']) / ((1 - _beta2(row)) * step)


def _beta2(row: dict) -> float:
    return calls.parse(row['optimizer'])[1]['b2']


def _means(rows: list[dict], part: str, twin: str = 'ste') -> list[tuple]:
    """(beta2, rate, kappa, interval of the error) of every setting of a part, by kappa."""
    chosen = [row for row in rows if row['part'] == part and row['twin'] == twin]
    groups = grouped(chosen, ['optimizer', 'learning_rate']).values()
    found = [(_beta2(g[0]), float(g[0]['learning_rate']), kappa(g[0]), interval([r[ERROR] for r in g])) for g in groups]
    return sorted(found, key=lambda setting: setting[2])


def figure(rows: list[dict]) -> Figure:
    """Error of `ste` against kappa, against the learning rate, and against kappa without momentum, a line a beta2."""
    drawn = Figure(figsize=(13, 4.4), layout='constrained', dpi=figures.RESOLUTION)
    main, without = BETA1
    panels = ((main, 2, 'kappa of conv2'), (main, 1, 'learning rate'), (without, 2, 'kappa of conv2'))
    axes = drawn.subplots(1, len(panels), sharey=True)
    for axis, (part, place, label) in zip(axes, panels):
        for beta2, of_one in itertools.groupby(sorted(_means(rows, part)), key=lambda setting: setting[0]):
            settings = list(of_one)
            errors = [setting[3] for setting in settings]
            x = [setting[place] for setting in settings]
            axis.errorbar(
                x, [e[0] for e in errors], error_bars(errors), marker='o', capsize=3, label=f'beta2 = {beta2}'
            )
        if place == 2:
            axis.axvline(KAPPA_WARNING, color='#999999', ls=':', label='warning')
            axis.set_xscale('log')
        else:
            mark_rates(axis, RATES)
        axis.set_yscale('log')
        figures.styled(axis, f'beta1 = {BETA1[part]}', label, '')
    axes[0].set_ylabel('weight alignment error of ste')
    axes[0].legend(frameon=False, fontsize=8)
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line a setting."""
    lines = []
    for part, beta1 in BETA1.items():
        jitter = {(beta2, rate): error for beta2, rate, _, error in _means(rows, part, 'jitter')}
        for beta2, rate, value, error in _means(rows, part):
            shown = (with_interval(error), with_interval(jitter[beta2, rate]))
            lines.append([f'{beta1:g}', f'{rate:g}', f'{beta2:g}', number(value), *shown])
    return ['beta1', 'learning rate', 'beta2', 'kappa', 'error of `ste`', 'error of `jitter`'], lines


def findings(rows: list[dict]) -> list[str]:
    """Whether kappa orders the errors better than its parts do, and where it does not."""
    main, without = BETA1
    settings = _means(rows, main)
    longer = [setting for setting in settings if setting[0] >= BETA1[main]]
    means = {True: [], False: []}
    for _, _, value, error in settings:
        means[value <= KAPPA_WARNING].append(error[0])
    calm, wild = (f'{number(min(part))} and {number(max(part))}' for part in (means[True], means[False]))
    return [
        f"Spearman's rank correlation of the error {_ranks(settings)}. They collapse on one curve where the first is "
        f'at least {COLLAPSED}.',
        f'At kappa up to {KAPPA_WARNING} the error lies between {calm}, above it between {wild}.',
        'The cause looked for: kappa counts the memory of the second moment, 1 / (1 - beta2) steps, but the numerator '
        f'remembers too, and with beta1 = {BETA1[main]} for longer than the second moment at beta2 = {min(BETA2)}: '
        'gradients with the slopes of where a weight was are divided by the slopes of where it is. Leaving those '
        f'settings out, the error correlates {_ranks(longer)}. With beta1 = {BETA1[without]:g}, where the numerator '
        f'remembers nothing, over all beta2 {_ranks(_means(rows, without))}.',
        f'At beta2 = {min(BETA2)} the errors are, from the lowest learning rate to the highest, '
        + '; '.join(
            f'{", ".join(number(error[0]) for beta2, _, _, error in _means(rows, part) if beta2 == min(BETA2))} with '
            f'beta1 = {beta1:g}'
            for part, beta1 in BETA1.items()
        )
        + '.',
    ]


def _ranks(settings: list[tuple]) -> str:
    """Spearman's correlations of the mean error with kappa, and with what it is made of."""
    beta2, rates, kappas, errors = zip(*settings)
    mean = [error[0] for error in errors]
    by = {'kappa': kappas, 'the learning rate': rates, '1 / (1 - beta2)': [1 / (1 - b) for b in beta2]}
    return ', '.join(f'with {name} at {number(float(stats.spearmanr(x, mean).statistic))}' for name, x in by.items())


def _part(name: str, optimizer: str) -> Sweep:
    grids = (f'optimizer={"|".join(optimizer.format(beta2) for beta2 in BETA2)}', at_constant_length(RATES))
    return Sweep(name, CONFIG, grids, (*BOTH_ENDS, 'twins=ste,jitter'))


STUDY = Study(
    title='kappa: when Adam makes the estimator vanish, and when it does not',
    question="Adam hides a slope as long as a weight stays near one place within the second moment's memory. "
    'kappa = learning rate / ((1 - beta2) D) counts the cells it can cross in that time. DSQ (k = 6.5) on digits, '
    'learning rate times steps constant: is the error a function of kappa?',
    sweeps=(_part('kappa', 'adam(b2={})'), _part('without-momentum', 'adam(b1=0,b2={})')),
    seeds=3,
    figure=figure,
    table=table,
    findings=findings,
)
