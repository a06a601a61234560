"""Estimator x optimizer: where is an estimator an STE in disguise, and where is it not?"""

import math
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.results import figures
from experiments.results.pages import with_interval
from experiments.results.statistics import Estimate, interval, order
from experiments.sweeps.report import grouped
from qat.lockstep.twins import JITTER
from scripts.studies.study import BOTH_ENDS, Sweep, at_constant_length, by_rate, ends

COVERED = ('ste', 'dsq(k=6.5)', 'soft_round(a=5)', 'sine(lam=0.6)', 'rdfs(A=0.21)', 'dge(k=5,clamp=3)', 'mad')
CONTROLS = ('ewgs(d=0.2)', 'ede', 'reste(o_end=3)', 'swish_sign(b=5)')
STEPS = 200
NEAR = 4  # times jitter
_MIDDLE, _REACH = math.log10(NEAR), 1.6  # of the colours
# By optimizer, the part that follows it to smaller learning rates, at a constant product with the steps.
LIMITS = {'adam(b2=0.95)': 'limit', 'sgd(momentum=0.9)': 'limit-sgd'}
LIMIT_RATES = {
    'adam(b2=0.95)': {2e-4: 125, 1e-4: 250, 5e-5: 500, 2.5e-5: 1000},
    'sgd(momentum=0.9)': {0.02: 200, 0.01: 400, 0.005: 800, 0.0025: 1600},
}


def _alternative(call: str, rate: float, decay: float = 0) -> str:
    """An optimizer at its rate for STEPS steps, and at half of it for twice as many."""
    return '|'.join(
        f'{call};weight_decay={decay};learning_rate={rate / part};max_steps={STEPS * part}' for part in (1, 2)
    )


# Learning rates at which 5 to 20% of the codes should move under DSQ; the page says how many did.
LINEAR = (_alternative('sgd', 0.2), _alternative('sgd(momentum=0.9)', 0.02))
NORMALISING = (
    _alternative('signsgd', 2e-4),
    _alternative('lion(b1=0.9,b2=0.95)', 1e-4),
    _alternative('rmsprop(decay=0.95)', 1e-4),
    _alternative('adam(b2=0.95)', 1e-4),
    _alternative('adamw(b2=0.95)', 1e-4, decay=0.01),
)
WITHOUT_RECIPE = (_alternative('adafactor', 1e-3), _alternative('muon', 2e-3))
PULLED_BACK = (_alternative('sgd(momentum=0.9)', 0.02, decay=1e-3), _alternative('adam(b2=0.95)', 1e-4, decay=1e-3))


def _sweep(name: str, estimators: tuple[str, ...], optimizers: tuple[str, ...], twin: str) -> Sweep:
    grids = (f'estimator={"|".join(estimators)}', f'optimizer={"|".join(optimizers)}')
    return Sweep(name, grids, (*BOTH_ENDS, f'twins={twin},jitter'), seeds=3)


def _limit(optimizer: str, estimators: tuple[str, ...], *overrides: str) -> Sweep:
    grids = (f'estimator={"|".join(estimators)}', at_constant_length(LIMIT_RATES[optimizer]))
    overrides = (*BOTH_ENDS, f'optimizer={optimizer}', *overrides)
    return Sweep(LIMITS[optimizer], grids, overrides, seeds=3)


_WITH_TWINS = (f'{COVERED[1]};twins=ste,jitter', *(f'{control};twins=naive_ste,jitter' for control in CONTROLS))
SWEEPS = (
    _sweep('with-recipe', COVERED, (*LINEAR, *NORMALISING), 'ste'),
    _sweep('without-recipe', COVERED, WITHOUT_RECIPE, 'naive_ste'),
    _sweep('decay', COVERED, PULLED_BACK, 'ste'),
    _sweep('controls', CONTROLS, NORMALISING, 'naive_ste'),
    _sweep('controls-elsewhere', CONTROLS, (*LINEAR, *WITHOUT_RECIPE, PULLED_BACK[0]), 'naive_ste'),
    _sweep('controls-decay', CONTROLS, PULLED_BACK[1:], 'naive_ste'),
    _limit('adam(b2=0.95)', (COVERED[1], *CONTROLS), 'twins=naive_ste,jitter'),
    _limit('sgd(momentum=0.9)', _WITH_TWINS),
)


class Cell(NamedTuple):
    """The STE twin's error over the jitter twin's, the geometric mean of the learning rates, a value a seed."""

    ratios: np.ndarray
    recipe: bool  # whether there is one

    @property
    def ratio(self) -> Estimate:
        """Over seeds."""
        return interval(self.ratios, log=True)

    def above(self, other: 'Cell') -> bool:
        """Whether it is larger than another beyond chance, paired by seeds."""
        if not other.ratios.any():
            return self.ratio.low > 0
        return interval(self.ratios / other.ratios, log=True).low > 1


Cells = dict[tuple[str, str], Cell]  # by estimator and optimizer


def of_matrix(rows: list[dict]) -> list[dict]:
    """The rows of all parts but the limits; the optimizer's name says where there is weight decay."""
    return [
        {**row, 'optimizer': row['optimizer'] + (' + decay' if float(row['weight_decay']) else '')}
        for row in rows
        if row['part'] not in LIMITS.values()
    ]


def cells(rows: list[dict]) -> Cells:
    """The matrix."""
    found = {}
    for key, of_cell in grouped(of_matrix(rows), ['estimator', 'optimizer']).items():
        twin = next(row['twin'] for row in of_cell if row['twin'] != 'jitter')
        errors = [by_rate([row for row in of_cell if row['twin'] == name])[1] for name in (twin, 'jitter')]
        ratios = np.divide(*errors)
        found[key] = Cell(ratios.prod(axis=1) ** (1 / ratios.shape[1]), twin == 'ste')
    return found


def by_class(found: Cells) -> dict[str, list[str]]:
    """The optimizers of the matrix by class."""
    classes = {'map': [], 'identity': [], 'none': []}
    for (name, optimizer), cell in found.items():
        if name == COVERED[1]:
            classes[('map' if optimizer.startswith('sgd') else 'identity') if cell.recipe else 'none'].append(optimizer)
    return classes


def covered(found: Cells, optimizers: tuple[str, ...]) -> dict[tuple[str, str], float]:
    """The ratios of the estimators that the theorem covers and that are not STE itself."""
    return {key: cell.ratio.value for key, cell in found.items() if key[0] in COVERED[1:] and key[1] in optimizers}


def separating(found: Cells, control: str, optimizers: tuple[str, ...]) -> list[str]:
    """The optimizers under which a control is above every covered estimator."""
    return [o for o in optimizers if all(found[control, o].above(found[name, o]) for name in COVERED[1:])]


def limit_orders(rows: list[dict], optimizer: str, relative: bool = True) -> dict[str, Estimate | None]:
    """By estimator: the order of the STE twin's error, in units of that of `jitter` or plain."""
    found = {}
    for (name,), of_one in grouped([r for r in rows if r['part'] == LIMITS[optimizer]], ['estimator']).items():
        jitter = by_rate([row for row in of_one if row['twin'] == 'jitter'])[1] if relative else None
        found[name] = order(*by_rate([row for row in of_one if row['twin'] != 'jitter']), jitter)
    return found


def stated(rows: list[dict]) -> list:
    """What the page has to state."""
    found = cells(rows)
    classes = by_class(found)
    recipes = {key: found[key].ratio for key in covered(found, classes['map'] + classes['identity'])}
    worst = max(recipes, key=recipes.get)
    within = [sum(getattr(ratio, end) <= NEAR for ratio in recipes.values()) for end in ('value', 'high')]
    adam, sgd = LIMITS
    moved = sorted(row['moved_fraction'] for row in of_matrix(rows) if row['twin'] == 'jitter')
    dsq, without = f'`{COVERED[1]}`', covered(found, classes['none']).values()
    return [
        *(
            f'{JITTER - 1:.0%}',
            recipes[worst],
            [f'`{name}`' for name in worst],
            NEAR,
            within[0],
            len(recipes),
            within[1],
        ),
        *(_beside(found, classes['map']), _beside(found, classes['identity']), 0),
        *(0, f'`{sgd}`', _named(limit_orders(rows, sgd, relative=False)), 0, dsq, limit_orders(rows, sgd)[COVERED[1]]),
        *(f'`{adam}`', _named(limit_orders(rows, adam, relative=False)), dsq, limit_orders(rows, adam)[COVERED[1]], 0),
        *(min(without), max(without), [f'{moved[place]:.1%}' for place in (0, -1, len(moved) // 2)]),
    ]


def _beside(found: Cells, optimizers: list[str]) -> list:
    """The covered estimators under some optimizers, and each control beside them."""
    ratios = covered(found, optimizers).values()
    said = [len(optimizers), min(ratios), max(ratios)]
    for control in CONTROLS:
        of_control = ends(found[control, optimizer].ratio for optimizer in optimizers)
        said += [f'`{control}`', of_control, len(separating(found, control, optimizers))]
    return said


def _named(estimates: dict[str, Estimate]) -> list:
    return [(estimate, f'`{name}`') for name, estimate in estimates.items()]


def figure(rows: list[dict]) -> Figure:
    """The heat map; cells without a recipe are hatched, for there naive_ste is shown."""
    found = cells(rows)
    estimators, optimizers = (list(dict.fromkeys(key)) for key in zip(*found))
    size = (1.15 * len(optimizers) + 3, 0.5 * len(estimators) + 2.4)
    drawn = Figure(figsize=size, layout='constrained', dpi=figures.RESOLUTION)
    axis = drawn.subplots()
    values = np.full((len(estimators), len(optimizers)), np.nan)
    for (estimator, optimizer), cell in found.items():
        line, column = estimators.index(estimator), optimizers.index(optimizer)
        values[line, column] = math.log10(max(cell.ratio.value, 0.01))
        colour = 'white' if abs(values[line, column] - _MIDDLE) > 0.75 * _REACH else 'black'
        axis.text(column, line, f'{cell.ratio.value:.2g}', ha='center', va='center', fontsize=8, color=colour)
        if not cell.recipe:
            place = (column - 0.5, line - 0.5)
            axis.add_patch(Rectangle(place, 1, 1, fill=False, hatch='///', edgecolor='#666666', lw=0))
    image = axis.imshow(values, cmap='RdYlBu_r', vmin=_MIDDLE - _REACH, vmax=_MIDDLE + _REACH, aspect='auto')
    axis.set_xticks(range(len(optimizers)), optimizers, rotation=35, ha='right', fontsize=8)
    axis.set_yticks(range(len(estimators)), estimators, fontsize=8)
    drawn.colorbar(image, label="log10 of the STE twin's error over jitter's", shrink=0.8)
    axis.set_title(f'Error of ste (hatched, without a recipe: of naive_ste) over that of jitter; {NEAR} divides')
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line an estimator, a column an optimizer, what has no recipe in italics; behind them the limits' orders."""
    found = cells(rows)
    estimators, optimizers = (list(dict.fromkeys(key)) for key in zip(*found))
    lines = []
    for estimator in estimators:
        of_one = [found[estimator, optimizer] for optimizer in optimizers]
        shown = [with_interval(cell.ratio) if cell.recipe else f'*{with_interval(cell.ratio)}*' for cell in of_one]
        limits = [with_interval(limit_orders(rows, optimizer).get(estimator)) for optimizer in LIMITS]
        lines.append([f'`{estimator}`', *shown, *limits])
    header = ['estimator', *(f'`{optimizer}`' for optimizer in optimizers)]
    return [*header, *(f'order under `{optimizer}`' for optimizer in LIMITS)], lines
