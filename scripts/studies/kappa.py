"""kappa: under Adam, does the agreement with STE depend on learning rate and beta2 through kappa alone?"""

import itertools

from matplotlib.figure import Figure
from scipy import stats

from experiments import figures
from experiments.command_line import load
from experiments.pages import number, with_interval
from experiments.settings import KAPPA_WARNING
from experiments.statistics import interval
from experiments.sweep_report import ERROR, grouped
from qat.quantizers import UniformQuantizer
from scripts.studies.study import BOTH_ENDS, Study, Sweep, at_constant_length

CONFIG = 'configs/digits.py'
RATES = {2e-3: 250, 5e-4: 1000, 1.25e-4: 4000}  # their product is 1/2
BETA2 = (0.8, 0.95, 0.99)
FAN_IN = 3 * 3 * 32  # of conv2, where nearly all quantized weights are


def kappa(row: dict) -> float:
    """Of the layer conv2."""
    bits = load(CONFIG).bits
    step = float(UniformQuantizer(bits).step((6 / FAN_IN) ** 0.5))
    return float(row['learning_rate']) / ((1 - _beta2(row)) * step)


def _beta2(row: dict) -> float:
    return float(row['optimizer'].partition('b2=')[2].rstrip(')'))


def _means(rows: list[dict], twin: str) -> list[tuple]:
    """(beta2, rate, kappa, interval of the error) of every setting, by kappa."""
    of_twin = [row for row in rows if row['twin'] == twin]
    groups = grouped(of_twin, ['optimizer', 'learning_rate']).values()
    found = [(_beta2(g[0]), float(g[0]['learning_rate']), kappa(g[0]), interval([r[ERROR] for r in g])) for g in groups]
    return sorted(found, key=lambda setting: setting[2])


def figure(rows: list[dict]) -> Figure:
    """Error of `ste` against kappa, and against the learning rate, a line a beta2."""
    drawn = Figure(figsize=(10.5, 4.4), layout='constrained', dpi=figures.RESOLUTION)
    left, right = drawn.subplots(1, 2, sharey=True)
    for beta2, of_one in itertools.groupby(sorted(_means(rows, 'ste')), key=lambda setting: setting[0]):
        _, rates, kappas, errors = zip(*of_one)
        mean = [error[0] for error in errors]
        bars = [[m - low for m, low, _ in errors], [high - m for m, _, high in errors]]
        for axis, x in ((left, kappas), (right, rates)):
            axis.errorbar(x, mean, bars, marker='o', capsize=3, label=f'beta2 = {beta2}')
    left.axvline(KAPPA_WARNING, color='#999999', ls=':', label='warning')
    for axis, label in ((left, 'kappa of conv2'), (right, 'learning rate')):
        axis.set(xscale='log', yscale='log')
        figures.styled(axis, f'error of ste against {label}', label, 'weight alignment error')
    left.legend(frameon=False, fontsize=8)
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line a setting."""
    jitter = {(beta2, rate): error for beta2, rate, _, error in _means(rows, 'jitter')}
    lines = [
        [f'{rate:g}', f'{beta2:g}', number(value), with_interval(error), with_interval(jitter[beta2, rate])]
        for beta2, rate, value, error in _means(rows, 'ste')
    ]
    return ['learning rate', 'beta2', 'kappa', 'error of `ste`', 'error of `jitter`'], lines


def findings(rows: list[dict]) -> list[str]:
    """Whether kappa orders the errors, better than its parts do."""
    beta2, rates, kappas, errors = zip(*_means(rows, 'ste'))
    mean = [error[0] for error in errors]
    by = {'kappa': kappas, 'the learning rate': rates, '1 / (1 - beta2)': [1 / (1 - b) for b in beta2]}
    ranks = {name: float(stats.spearmanr(x, mean).statistic) for name, x in by.items()}
    calm = [m for m, k in zip(mean, kappas) if k <= KAPPA_WARNING]
    wild = [m for m, k in zip(mean, kappas) if k > KAPPA_WARNING]
    said = [
        "Spearman's rank correlation of the error with "
        + ', with '.join(f'{name}: {number(rank)}' for name, rank in ranks.items())
        + f'. Closest: {max(ranks, key=lambda name: abs(ranks[name]))}.'
    ]
    if calm and wild:
        said.append(
            f'At kappa up to {KAPPA_WARNING} the error lies between {number(min(calm))} and {number(max(calm))}, above '
            f'it between {number(min(wild))} and {number(max(wild))}.'
        )
    return said


STUDY = Study(
    title='kappa: when Adam makes the estimator vanish, and when it does not',
    question="Adam hides a slope as long as a weight stays near one place within the second moment's memory. "
    'kappa = learning rate / ((1 - beta2) D) counts the cells it can cross in that time. DSQ (k = 6.5) on digits, '
    'learning rate times steps constant: is the error a function of kappa?',
    sweeps=(
        Sweep(
            'kappa',
            CONFIG,
            (
                f'optimizer={"|".join(f"adam(b2={beta2})" for beta2 in BETA2)}',
                at_constant_length(RATES),
            ),
            (*BOTH_ENDS, 'twins=ste,jitter'),
        ),
    ),
    seeds=3,
    figure=figure,
    table=table,
    findings=findings,
)
