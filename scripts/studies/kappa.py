"""kappa: under Adam, does the agreement with STE depend on learning rate and beta2 through kappa alone?"""

import itertools
import math
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.results import figures
from experiments.results.pages import with_interval
from experiments.results.statistics import Estimate, interval
from experiments.setup.config_file import load
from experiments.sweeps.report import ERROR, grouped
from qat import calls
from qat.quantizers import UniformQuantizer
from qat.theory.small_parameters import KAPPA_WARNING
from scripts.studies.study import BOTH_ENDS, Sweep, at_constant_length, draw

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
    """A learning rate and a beta2, and the errors of `ste` and of `jitter` there, a value a seed."""

    beta2: float
    rate: float
    kappa: float
    ste: np.ndarray
    jitter: np.ndarray

    @property
    def error(self) -> Estimate:
        """Of `ste`."""
        return interval(self.ste, log=True)

    @property
    def ratio(self) -> Estimate:
        """The error of `ste` in units of that of `jitter`."""
        return interval(self.ste / self.jitter, log=True)


def kappa(row: dict) -> float:
    """Of the layer conv2."""
    step = float(UniformQuantizer(load(CONFIG).bits).step_size((6 / FAN_IN) ** 0.5))
    return float(row['learning_rate']) / ((1 - _beta2(row)) * step)


def _beta2(row: dict) -> float:
    return calls.parse(row['optimizer'])[1]['b2']


def settings(rows: list[dict], part: str) -> list[Setting]:
    """Those of a part, by kappa."""
    chosen = [row for row in rows if row['part'] == part]
    found = []
    for (_, rate), of_one in grouped(chosen, ['optimizer', 'learning_rate']).items():
        errors = ([row[ERROR] for row in of_one if row['twin'] == twin] for twin in ('ste', 'jitter'))
        found.append(Setting(_beta2(of_one[0]), float(rate), kappa(of_one[0]), *map(np.array, errors)))
    return sorted(found, key=lambda setting: setting.kappa)


def at_equal_kappa(found: list[Setting]) -> dict[float, Estimate]:
    """By kappa, where two settings share it: how many times larger the error is at the smaller beta2, paired by seeds.

    Were the error a function of kappa, this would be 1.
    """
    pairs = [(one, other) for one, other in itertools.combinations(found, 2) if math.isclose(one.kappa, other.kappa)]
    ordered = [sorted(pair, key=lambda setting: setting.beta2) for pair in pairs]
    return {one.kappa: interval(one.ste / other.ste, log=True) for one, other in ordered}


def told_apart(found: list[Setting]) -> tuple[tuple[int, int], tuple[int, int]]:
    """In how many settings `ste` is farther away than `jitter` beyond chance, of how many: up to the warning, above."""
    sides = [[one.ratio.low > 1 for one in found if (one.kappa > KAPPA_WARNING) == above] for above in (False, True)]
    return tuple((sum(side), len(side)) for side in sides)


def stated(rows: list[dict]) -> list:
    """What the page has to state."""
    parts = [settings(rows, part) for part in BETA1]
    momentum, none = (f'`beta1={value:g}`' for value in BETA1.values())
    short, middle, _ = (f'`beta2={value}`' for value in BETA2)
    (low, high), without = at_equal_kappa(parts[0]).items(), list(at_equal_kappa(parts[1]).values())
    at_short = [[found.error.value for found in part if found.beta2 == min(BETA2)] for part in parts]
    calm, wild = zip(*map(told_apart, parts))
    return [
        *('`(1 - beta2) D`', 6.5, momentum, short, low[1], middle, low[0], high[1], high[0], none, without),
        *(momentum, short, short, at_short[0], momentum, at_short[1], none),
        *(KAPPA_WARNING, calm[0], momentum, calm[1], none, wild, none, momentum, '`beta2`', 0.95),
    ]


def figure(rows: list[dict]) -> Figure:
    """Error of `ste`, alone and in units of `jitter`, against kappa, with momentum and without, a line a beta2."""
    drawn = Figure(figsize=(11, 8), layout='constrained', dpi=figures.RESOLUTION)
    axes = drawn.subplots(2, len(BETA1), sharex=True, sharey='row')
    for (top, bottom), (part, beta1) in zip(axes.T, BETA1.items()):
        for beta2 in BETA2:
            found = [setting for setting in settings(rows, part) if setting.beta2 == beta2]
            x, look = [setting.kappa for setting in found], {'marker': 'o', 'label': f'beta2 = {beta2}'}
            draw(top, x, [setting.error for setting in found], **look)
            draw(bottom, x, [setting.ratio for setting in found], **look)
        for axis, label in ((top, 'error of ste'), (bottom, 'ste / jitter')):
            axis.axvline(KAPPA_WARNING, color='#999999', ls=':', label='warning')
            axis.set(xscale='log', yscale='log')
            figures.styled(axis, f'beta1 = {beta1}', 'kappa of conv2', label)
    axes[0, 0].legend(frameon=False, fontsize=8)
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line a setting."""
    lines = []
    for part, beta1 in BETA1.items():
        for found in settings(rows, part):
            numbers = (f'{beta1:g}', f'{found.rate:g}', f'{found.beta2:g}', f'{found.kappa:.3g}')
            lines.append([*numbers, with_interval(found.error), with_interval(found.ratio)])
    return ['beta1', 'learning rate', 'beta2', 'kappa', 'error of `ste`', '`ste` / `jitter`'], lines
