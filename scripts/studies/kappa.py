"""kappa: under Adam, does the agreement with STE depend on learning rate and beta2 through kappa alone?"""

from typing import NamedTuple

from matplotlib.figure import Figure
from scipy import stats

from experiments.results import figures
from experiments.results.pages import number, with_interval
from experiments.results.statistics import interval
from experiments.setup.command_line import load
from experiments.sweeps.report import ERROR, grouped
from qat import calls
from qat.quantizers import UniformQuantizer
from qat.theory.small_parameters import KAPPA_WARNING
from scripts.studies.study import BOTH_ENDS, Sweep, at_constant_length, draw, mark_rates

CONFIG = 'configs/digits.py'
RATES = {2e-3: 250, 5e-4: 1000, 1.25e-4: 4000}  # their product is 1/2
BETA2 = (0.8, 0.95, 0.99)
BETA1 = {'kappa': 0.9, 'without-momentum': 0.0}  # by part; of the first, Adam's own
FAN_IN = 3 * 3 * 32  # of conv2, where nearly all quantized weights are


def _part(name: str, optimizer: str) -> Sweep:
    grids = (f'optimizer={"|".join(optimizer.format(beta2) for beta2 in BETA2)}', at_constant_length(RATES))
    return Sweep(name, grids, (*BOTH_ENDS, 'twins=ste,jitter'), seeds=3, config=CONFIG)


SWEEPS = (_part('kappa', 'adam(b2={})'), _part('without-momentum', 'adam(b1=0,b2={})'))


class Setting(NamedTuple):
    """A learning rate and a beta2, and the mean error over seeds there, with its interval."""

    beta2: float
    rate: float
    kappa: float
    error: tuple[float, float, float]


def kappa(row: dict) -> float:
    """Of the layer conv2."""
    step = float(UniformQuantizer(load(CONFIG).bits).step_size((6 / FAN_IN) ** 0.5))
    return float(row['learning_rate']) / ((1 - _beta2(row)) * step)


def _beta2(row: dict) -> float:
    return calls.parse(row['optimizer'])[1]['b2']


def settings(rows: list[dict], part: str, twin: str = 'ste') -> list[Setting]:
    """Those of a part, by kappa."""
    chosen = [row for row in rows if row['part'] == part and row['twin'] == twin]
    found = [
        Setting(_beta2(of_one[0]), float(rate), kappa(of_one[0]), interval([row[ERROR] for row in of_one]))
        for (_, rate), of_one in grouped(chosen, ['optimizer', 'learning_rate']).items()
    ]
    return sorted(found, key=lambda setting: setting.kappa)


def correlations(found: list[Setting]) -> dict[str, float]:
    """Spearman's rank correlation of the mean error with kappa, and with what kappa is made of."""
    beta2, rates, kappas, errors = zip(*found)
    causes = {'kappa': kappas, 'learning rate': rates, 'memory': [1 / (1 - b) for b in beta2]}
    means = [mean for mean, _, _ in errors]
    return {name: float(stats.spearmanr(values, means).statistic) for name, values in causes.items()}


def figure(rows: list[dict]) -> Figure:
    """Error of `ste` against kappa, against the learning rate, and against kappa without momentum, a line a beta2."""
    drawn = Figure(figsize=(13, 4.4), layout='constrained', dpi=figures.RESOLUTION)
    main, without = BETA1
    panels = ((main, 'kappa', 'kappa of conv2'), (main, 'rate', 'learning rate'), (without, 'kappa', 'kappa of conv2'))
    axes = drawn.subplots(1, len(panels), sharey=True)
    for axis, (part, along, label) in zip(axes, panels):
        for beta2 in BETA2:
            found = [setting for setting in settings(rows, part) if setting.beta2 == beta2]
            x = [getattr(setting, along) for setting in found]
            draw(axis, x, [setting.error for setting in found], marker='o', label=f'beta2 = {beta2}')
        if along == 'kappa':
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
        for ste, jitter in zip(settings(rows, part), settings(rows, part, 'jitter')):
            numbers = (f'{beta1:g}', f'{ste.rate:g}', f'{ste.beta2:g}', number(ste.kappa))
            lines.append([*numbers, with_interval(ste.error), with_interval(jitter.error)])
    return ['beta1', 'learning rate', 'beta2', 'kappa', 'error of `ste`', 'error of `jitter`'], lines
