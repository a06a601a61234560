"""The paper's table on MNIST: how near does STE come to DSQ, and how near a jitter of the learning rate?"""

import numpy as np
from matplotlib.figure import Figure

from experiments.results import figures
from experiments.results.metrics import METRICS
from experiments.results.pages import with_interval
from experiments.results.statistics import Estimate, interval
from experiments.sweeps.report import ERROR, grouped, over_seeds
from qat.lockstep.twins import JITTER
from scripts.studies.study import Sweep

OPTIMIZERS = {'SGD momentum': 'sgd(momentum=0.9);learning_rate=1e-3', 'Adam': 'adam(b2=0.95);learning_rate=1e-4'}
DEFAULT, SCALEDOWN, OTHER_BITS = 'default', 'scaledown', 'other-bits'  # parts; the last is `default` at 1 and 4 bits
COLUMNS = {  # of the paper: the part of the study and the twin
    'default': (DEFAULT, 'ste'),
    'jitter': (DEFAULT, 'jitter'),
    'scaledown': (SCALEDOWN, 'ste'),
    'naive': (DEFAULT, 'naive_ste'),
    'map': (DEFAULT, 'map_ste'),
}
BITS = {'2': 'dsq(k=6.5)', '1': 'dsq(k=2)', '4': 'dsq(k=18)'}  # and the paper's DSQ at each
MOVED = 'quantized_weight_agreement_moved'
EPOCHS = 5  # of 100 steps


def _sweep(name: str, bits: tuple[str, ...], seeds: int, *overrides: str) -> Sweep:
    estimators = '|'.join(f'{count};estimator={BITS[count]}' for count in bits)
    grids = (f'bits={estimators}', f'optimizer={"|".join(OPTIMIZERS.values())}')
    overrides = (f'num_epochs={EPOCHS}', f'checkpoint_every_steps={100 * EPOCHS}', *overrides)
    return Sweep(name, grids, overrides, seeds, config='configs/mnist.py')


SWEEPS = (  # fewer seeds beside the main part, for a run takes minutes
    _sweep(DEFAULT, ('2',), 5, 'twins=ste,naive_ste,map_ste,jitter'),
    _sweep(SCALEDOWN, ('2',), 3, 'twins=ste', 'learning_rate_scale=0.1', 'epochs_scale=3'),
    _sweep(OTHER_BITS, ('1', '4'), 1, 'twins=ste,naive_ste,jitter'),
)


def cells(rows: list[dict], key: str, bits: str = '2') -> dict[tuple[str, str], Estimate | None]:
    """By optimizer and column: a metric's mean over seeds; None where it was not run."""
    found = grouped(rows, ['optimizer', 'bits', 'part', 'twin'])
    values = {}
    for label, alternative in OPTIMIZERS.items():
        for column, (part, twin) in COLUMNS.items():
            of_bits = OTHER_BITS if part == DEFAULT and bits != '2' else part
            of_cell = found.get((alternative.partition(';')[0], bits, of_bits, twin), [])
            values[label, column] = over_seeds(of_cell, key)
    return values


def ratio(rows: list[dict], label: str, one: str, other: str) -> Estimate:
    """The error of one column over another's of the same part under an optimizer at 2 bits, paired by seeds."""
    chosen = [row for row in rows if row['part'] == DEFAULT and row['optimizer'] == OPTIMIZERS[label].partition(';')[0]]
    errors = ([row[ERROR] for row in chosen if row['twin'] == COLUMNS[column][1]] for column in (one, other))
    return interval(np.divide(*errors), log=True)


def stated(rows: list[dict]) -> list:
    """What the page has to state."""
    errors, moved = {bits: cells(rows, ERROR, bits) for bits in BITS}, cells(rows, MOVED)

    def shown(bits: str, label: str, *columns: str) -> list[Estimate]:
        return [errors[bits][label, column] for column in columns]

    said = [EPOCHS, 100, 128, 2, JITTER]
    for label, last in zip(OPTIMIZERS, ('naive', 'map')):
        said += shown('2', label, DEFAULT, 'jitter', SCALEDOWN, last)
        said += [ratio(rows, label, DEFAULT, 'jitter'), ratio(rows, label, last, DEFAULT), moved[label, DEFAULT]]
    sgd, adam = OPTIMIZERS
    others = [
        (bits, shown(bits, sgd, DEFAULT, 'jitter', 'naive'), shown(bits, adam, DEFAULT, 'jitter')) for bits in '14'
    ]
    return [*said, 1, 4, *others]


def figure(rows: list[dict]) -> Figure:
    """The alignment error and the agreement of the moved, a bar a column."""
    drawn = Figure(figsize=(10.5, 4.2), layout='constrained', dpi=figures.RESOLUTION)
    left, right = drawn.subplots(1, 2)
    for axis, key in ((left, ERROR), (right, MOVED)):
        found = cells(rows, key)
        for place, (optimizer, colour) in enumerate(zip(OPTIMIZERS, ('#0072b2', '#d55e00'))):
            values = [found[optimizer, column] for column in COLUMNS]
            x = [index + 0.4 * place for index in range(len(COLUMNS))]
            look = {'capsize': 3, 'label': optimizer, 'color': colour}
            axis.bar(x, [value.value for value in values], 0.38, yerr=figures.error_bars(values), **look)
        axis.set_xticks([index + 0.2 for index in range(len(COLUMNS))], COLUMNS)
    left.set_yscale('log')
    left.legend(frameon=False, loc='upper left')
    figures.styled(left, 'weight alignment error', '', '')
    figures.styled(right, 'share of equal codes among the weights that moved', '', '')
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line a metric at 2 bits, and two at 1 and at 4."""
    header = [f'{column}, {optimizer}' for optimizer in OPTIMIZERS for column in COLUMNS]
    measured = [key for key in METRICS if key in rows[0]]
    asked = [('2', key) for key in measured] + [(bits, key) for bits in ('1', '4') for key in (ERROR, MOVED)]
    lines = []
    for bits, key in asked:
        label = f'`{key}`' if bits == '2' else f'{bits} bit{"" if bits == "1" else "s"}: `{key}`'
        lines.append([label, *map(with_interval, cells(rows, key, bits).values())])
    return ['metric', *header], lines
