"""The paper's table on MNIST: how near STE comes to DSQ, beside what a jitter of the learning rate does."""

from matplotlib.figure import Figure

from experiments.results import figures
from experiments.results.metrics import METRICS
from experiments.results.pages import with_interval
from experiments.results.statistics import interval
from experiments.sweeps.report import ERROR, grouped
from scripts.studies.study import Study, Sweep, error_bars

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
_SCALEDOWN_SEEDS, _OTHER_SEEDS = 3, 1  # of 5 at 2 bits: a run takes minutes
_MOVED = 'quantized_weight_agreement_moved'
_EPOCHS = 5  # of 100 steps


def _cells(rows: list[dict], key: str, bits: str = '2') -> dict[tuple[str, str], tuple[float, float, float] | None]:
    """By optimizer and column: a metric's mean over seeds with its interval; None where it was not run."""
    found = grouped(rows, ['optimizer', 'bits', 'part', 'twin'])
    cells = {}
    for label, alternative in OPTIMIZERS.items():
        for column, (part, twin) in COLUMNS.items():
            of_bits = OTHER_BITS if part == DEFAULT and bits != '2' else part
            of_cell = found.get((alternative.partition(';')[0], bits, of_bits, twin), [])
            cells[label, column] = interval([row[key] for row in of_cell])
    return cells


def figure(rows: list[dict]) -> Figure:
    """The alignment error and the agreement of the moved, a bar a column."""
    drawn = Figure(figsize=(10.5, 4.2), layout='constrained', dpi=figures.RESOLUTION)
    left, right = drawn.subplots(1, 2)
    for axis, key in ((left, ERROR), (right, _MOVED)):
        cells = _cells(rows, key)
        for place, optimizer in enumerate(OPTIMIZERS):
            values = [cells[optimizer, column] for column in COLUMNS]
            x = [index + 0.4 * place for index in range(len(COLUMNS))]
            mean = [value[0] for value in values]
            colour = ('#0072b2', '#d55e00')[place]
            axis.bar(x, mean, 0.38, yerr=error_bars(values), capsize=3, label=optimizer, color=colour)
        axis.set_xticks([index + 0.2 for index in range(len(COLUMNS))], COLUMNS)
    left.set_yscale('log')
    left.legend(frameon=False, loc='upper left')
    figures.styled(left, 'weight alignment error', '', '')
    figures.styled(right, 'share of equal codes among the weights that moved', '', '')
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line a metric at 2 bits, and two at 1 and at 4."""
    header = [f'{column}, {optimizer}' for optimizer in OPTIMIZERS for column in COLUMNS]
    asked = [('2', key) for key in METRICS] + [(bits, key) for bits in ('1', '4') for key in (ERROR, _MOVED)]
    lines = []
    for bits, key in asked:
        label = f'`{key}`' if bits == '2' else f'{bits} bit{"" if bits == "1" else "s"}: `{key}`'
        lines.append([label, *map(with_interval, _cells(rows, key, bits).values())])
    return ['metric', *header], lines


def findings(rows: list[dict]) -> list[str]:
    """A sentence an optimizer, and one for the other bits."""
    errors, codes = _cells(rows, ERROR), _cells(rows, _MOVED)
    said = []
    for optimizer in OPTIMIZERS:
        error = {column: with_interval(errors[optimizer, column]) for column in COLUMNS}
        said.append(
            f'{optimizer}: the error of STE with the recipe is {error["default"]}, where a jitter of the learning rate '
            f'makes {error["jitter"]}, a tenth of the learning rate over three times the epochs {error["scaledown"]} '
            f'({_SCALEDOWN_SEEDS} seeds), '
            f'STE with nothing adjusted {error["naive"]}, and the recipe of SGD {error["map"]}. '
            f'Of the weights that moved, {with_interval(codes[optimizer, "default"])} end in the same code.'
        )
    for bits in ('1', '4'):
        of_bits = _cells(rows, ERROR, bits)
        said.append(
            f'At {bits} bit{"" if bits == "1" else "s"} ({_OTHER_SEEDS} seed{"" if _OTHER_SEEDS == 1 else "s"}): '
            + '; '.join(
                f'{optimizer} {with_interval(of_bits[optimizer, "default"])} with the recipe, '
                f'{with_interval(of_bits[optimizer, "jitter"])} for jitter, '
                f'{with_interval(of_bits[optimizer, "naive"])} with nothing adjusted'
                for optimizer in OPTIMIZERS
            )
            + '.'
        )
    return said


_OPTIMIZER_GRID = f'optimizer={"|".join(OPTIMIZERS.values())}'
_OVERRIDES = (f'num_epochs={_EPOCHS}', f'checkpoint_every_steps={100 * _EPOCHS}')
_TWINS = 'twins=ste,naive_ste,map_ste,jitter'


def _bits_grid(*bits: str) -> str:
    return 'bits=' + '|'.join(f'{count};estimator={BITS[count]}' for count in bits)


STUDY = Study(
    title="The paper's table: ConvNet on MNIST, DSQ against STE",
    question='Five epochs of 100 steps at batch 128, 2 bits. `default` is STE with the recipe, `jitter` DSQ with 1.01 '
    'times the learning rate, `scaledown` the recipe at a tenth of the learning rate over three times the epochs, '
    "`naive` STE with nothing adjusted, `map` SGD's recipe whatever the optimizer.",
    sweeps=(
        Sweep(DEFAULT, 'configs/mnist.py', (_bits_grid('2'), _OPTIMIZER_GRID), (*_OVERRIDES, _TWINS)),
        Sweep(
            SCALEDOWN,
            'configs/mnist.py',
            (_bits_grid('2'), _OPTIMIZER_GRID),
            (*_OVERRIDES, 'twins=ste', 'learning_rate_scale=0.1', 'epochs_scale=3'),
            seeds=_SCALEDOWN_SEEDS,
        ),
        Sweep(
            OTHER_BITS,
            'configs/mnist.py',
            (_bits_grid('1', '4'), _OPTIMIZER_GRID),
            (*_OVERRIDES, 'twins=ste,naive_ste,jitter'),
            seeds=_OTHER_SEEDS,
        ),
    ),
    seeds=5,
    figure=figure,
    table=table,
    findings=findings,
)
