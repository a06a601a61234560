"""Estimator x optimizer: where is an estimator an STE in disguise, and where is it not?"""

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from experiments.results import figures
from experiments.results.pages import number, with_interval
from experiments.results.statistics import interval, order
from experiments.results.verdict import JITTER_MULTIPLE
from experiments.sweeps.report import ERROR, grouped
from scripts.studies.study import BOTH_ENDS, Study, Sweep, at_constant_length, by_rate

COVERED = ('ste', 'dsq(k=6.5)', 'soft_round(a=5)', 'sine(lam=0.6)', 'rdfs(A=0.21)', 'dge(k=5,clamp=3)', 'mad')
CONTROLS = ('ewgs(d=0.2)', 'ede', 'reste(o_end=3)', 'swish_sign(b=5)')
STEPS = 200
_MIDDLE, _REACH = math.log10(JITTER_MULTIPLE), 1.6  # of the colours
# By optimizer, the part that follows it to smaller learning rates, at a constant product with the steps.
LIMITS = {'adam(b2=0.95)': 'limit', 'sgd(momentum=0.9)': 'limit-sgd'}
LIMIT_RATES = {2e-4: 125, 1e-4: 250, 5e-5: 500, 2.5e-5: 1000}
LIMIT_RATES_SGD = {0.02: 200, 0.01: 400, 0.005: 800, 0.0025: 1600}


def _alternative(call: str, rate: float, decay: float = 0) -> str:
    """An optimizer at its rate for STEPS steps, and at half of it for twice as many."""
    return '|'.join(
        f'{call};weight_decay={decay};learning_rate={rate / part};max_steps={STEPS * part}' for part in (1, 2)
    )


# Learning rates at which 5 to 20% of the codes move under DSQ; the findings say how many did.
LINEAR = (_alternative('sgd', 0.2), _alternative('sgd(momentum=0.9)', 0.02))
NORMALISING = (
    _alternative('signsgd', 2e-4),
    _alternative('lion(b1=0.9,b2=0.95)', 1e-4),
    _alternative('rmsprop(decay=0.95)', 1e-4),
    _alternative('adam(b2=0.95)', 1e-4),
    _alternative('adamw(b2=0.95)', 1e-4, decay=0.01),
)
WITHOUT_RECIPE = (
    _alternative('adafactor', 1e-3),
    _alternative('muon', 2e-3),
    _alternative('sgd(momentum=0.9)', 0.02, decay=1e-3),
)


def _sweep(name: str, estimators: tuple[str, ...], optimizers: tuple[str, ...], twin: str) -> Sweep:
    grids = (f'estimator={"|".join(estimators)}', f'optimizer={"|".join(optimizers)}')
    return Sweep(name, 'configs/digits.py', grids, (*BOTH_ENDS, f'twins={twin},jitter'))


def _cells(rows: list[dict]) -> dict[tuple[str, str], dict]:
    """By estimator and optimizer: the STE twin's error over the jitter twin's, its interval over seeds and rates."""
    cells = {}
    of_matrix = [{**row, 'optimizer': _label(row)} for row in rows if row['part'] not in LIMITS.values()]
    for (estimator, optimizer), of_cell in grouped(of_matrix, ['estimator', 'optimizer']).items():
        ratios = []
        for of_run in grouped(of_cell, ['learning_rate', 'seed']).values():
            errors = {row['twin']: row[ERROR] for row in of_run}
            ratios.append(next(error for twin, error in errors.items() if twin != 'jitter') / errors['jitter'])
        cells[estimator, optimizer] = {'ratio': interval(ratios), 'recipe': any(r['twin'] == 'ste' for r in of_cell)}
    return cells


def _label(row: dict) -> str:
    return row['optimizer'] + (' + decay' if float(row['weight_decay']) else '')


def figure(rows: list[dict]) -> Figure:
    """The heat map; cells without a recipe are hatched, for there naive_ste is shown."""
    cells = _cells(rows)
    estimators, optimizers = (list(dict.fromkeys(key)) for key in zip(*cells))
    drawn = Figure(
        figsize=(1.15 * len(optimizers) + 3, 0.5 * len(estimators) + 2.4), layout='constrained', dpi=figures.RESOLUTION
    )
    axis = drawn.subplots()
    values = np.full((len(estimators), len(optimizers)), np.nan)
    for (estimator, optimizer), cell in cells.items():
        line, column = estimators.index(estimator), optimizers.index(optimizer)
        values[line, column] = math.log10(max(cell['ratio'][0], 0.01))
        dark = abs(values[line, column] - _MIDDLE) > 0.75 * _REACH
        colour = 'white' if dark else 'black'
        axis.text(column, line, f'{cell["ratio"][0]:.2g}', ha='center', va='center', fontsize=8, color=colour)
        if not cell['recipe']:
            place = (column - 0.5, line - 0.5)
            axis.add_patch(Rectangle(place, 1, 1, fill=False, hatch='///', edgecolor='#666666', lw=0))
    image = axis.imshow(values, cmap='RdYlBu_r', vmin=_MIDDLE - _REACH, vmax=_MIDDLE + _REACH, aspect='auto')
    axis.set_xticks(range(len(optimizers)), optimizers, rotation=35, ha='right', fontsize=8)
    axis.set_yticks(range(len(estimators)), estimators, fontsize=8)
    drawn.colorbar(image, label="log10 of the STE twin's error over jitter's", shrink=0.8)
    axis.set_title(
        f'Error of ste (hatched, without a recipe: of naive_ste) over that of jitter; {JITTER_MULTIPLE} divides'
    )
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line an estimator, a column an optimizer; what has no recipe is in italics."""
    cells = _cells(rows)
    estimators, optimizers = (list(dict.fromkeys(key)) for key in zip(*cells))

    def cell(estimator: str, optimizer: str) -> str:
        found = cells[estimator, optimizer]
        return with_interval(found['ratio']) if found['recipe'] else f'*{with_interval(found["ratio"])}*'

    lines = [[f'`{name}`', *(cell(name, optimizer) for optimizer in optimizers)] for name in estimators]
    return ['estimator', *(f'`{optimizer}`' for optimizer in optimizers)], lines


def _limit(rows: list[dict], optimizer: str) -> str:
    """At which order the error of the STE twin vanishes with the learning rate, by estimator."""
    of_twin = [row for row in rows if row['part'] == LIMITS[optimizer] and row['twin'] != 'jitter']
    found = grouped(of_twin, ['estimator', 'twin'])
    return (
        f'Under `{optimizer}`, learning rate times steps constant, the error follows the learning rate to the power '
        + ', '.join(
            f'{with_interval(order(*by_rate(of_one)))} for `{name}` (`{twin}`)'
            for (name, twin), of_one in found.items()
        )
        + '.'
    )


def findings(rows: list[dict]) -> list[str]:
    """Whether the positives separate from the controls, what the limit says of those that do not, how many moved."""
    cells = _cells(rows)
    positives = {key: c['ratio'][0] for key, c in cells.items() if c['recipe'] and key[0] != 'ste'}
    without = [c['ratio'][0] for key, c in cells.items() if not c['recipe'] and key[0] not in (*CONTROLS, 'ste')]
    moved = [row['moved_fraction'] for row in rows if row['twin'] == 'jitter' and row['part'] not in LIMITS.values()]
    worst = max(positives, key=positives.get)
    return [
        f'With a recipe, the error of `ste` is at most {number(positives[worst])} times that of `jitter` '
        f'(`{worst[0]}` under `{worst[1]}`), and at most {JITTER_MULTIPLE} times in '
        f'{sum(ratio <= JITTER_MULTIPLE for ratio in positives.values())} of {len(positives)} cells.',
        _controls_beside_positives(cells, 'map'),
        _controls_beside_positives(cells, 'identity'),
        ' '.join(['What separates in the limit?', *(_limit(rows, optimizer) for optimizer in LIMITS)]),
        f'Where no recipe is known, `naive_ste` lies between {number(min(without))} and {number(max(without))} times '
        f'`jitter`.',
        f'Of the codes, between {min(moved):.1%} and {max(moved):.1%} moved, in the median {np.median(moved):.1%}.',
    ]


def _controls_beside_positives(cells: dict, transfer: str) -> str:
    """How the covered estimators lie under the optimizers of a transfer class, and each control beside them."""
    columns = {
        optimizer: [cells[name, optimizer]['ratio'][0] for name in COVERED if name != 'ste']
        for _, optimizer in cells
        if cells[COVERED[1], optimizer]['recipe'] and optimizer.startswith('sgd') == (transfer == 'map')
    }
    largest = {optimizer: max(ratios) for optimizer, ratios in columns.items()}
    said = [
        f'Under the optimizers of class `{transfer}` the covered estimators lie between '
        f'{number(min(map(min, columns.values())))} and {number(max(largest.values()))}.'
    ]
    for control in CONTROLS:
        ratios = {optimizer: cells[control, optimizer]['ratio'] for optimizer in columns}
        above = [optimizer for optimizer, ratio in ratios.items() if ratio[1] > largest[optimizer]]
        means = [ratio[0] for ratio in ratios.values()]
        nothing = [f'`{optimizer}`' for optimizer, ratio in ratios.items() if not any(ratio)]
        said.append(
            f'The negative control `{control}` lies between {number(min(means))} and {number(max(means))} there; with '
            f'its whole interval above every covered estimator in {len(above)} of {len(columns)}.'
            + (f' Exactly 0 under {", ".join(nothing)}.' if nothing else '')
        )
    return ' '.join(said)


STUDY = Study(
    title='Estimator x optimizer: which are interchangeable with STE',
    question='For every estimator of the catalogue and ten optimizers, on digits: how far does STE end from the '
    'estimator, in units of what a change of the learning rate by 1% does?',
    sweeps=(
        _sweep('with-recipe', COVERED, (*LINEAR, *NORMALISING), 'ste'),
        _sweep('without-recipe', COVERED, WITHOUT_RECIPE, 'naive_ste'),
        _sweep('controls', CONTROLS, NORMALISING, 'naive_ste'),
        _sweep('controls-elsewhere', CONTROLS, (*LINEAR, *WITHOUT_RECIPE), 'naive_ste'),
        Sweep(
            LIMITS['adam(b2=0.95)'],
            'configs/digits.py',
            (f'estimator={"|".join((COVERED[1], *CONTROLS))}', at_constant_length(LIMIT_RATES)),
            (*BOTH_ENDS, 'optimizer=adam(b2=0.95)', 'twins=naive_ste,jitter'),
        ),
        Sweep(
            LIMITS['sgd(momentum=0.9)'],
            'configs/digits.py',
            (
                'estimator='
                + '|'.join(
                    [f'{COVERED[1]};twins=ste,jitter', *(f'{control};twins=naive_ste,jitter' for control in CONTROLS)]
                ),
                at_constant_length(LIMIT_RATES_SGD),
            ),
            (*BOTH_ENDS, 'optimizer=sgd(momentum=0.9)'),
        ),
    ),
    seeds=3,
    figure=figure,
    table=table,
    findings=findings,
)
