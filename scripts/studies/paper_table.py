"""The paper's table on MNIST: how near STE comes to DSQ, beside what a jitter of the learning rate does."""

from matplotlib.figure import Figure

from experiments import figures
from experiments.pages import with_interval
from experiments.report import EXPLANATIONS
from experiments.statistics import interval
from experiments.sweep_report import ERROR, grouped
from scripts.studies.study import Study, Sweep

OPTIMIZERS = {'SGD momentum': 'sgd(momentum=0.9);learning_rate=1e-3', 'Adam': 'adam(b2=0.95);learning_rate=1e-4'}
COLUMNS = {  # of the paper: the part of the study and the twin
    'default': ('default', 'ste'),
    'jitter': ('default', 'jitter'),
    'scaledown': ('scaledown', 'ste'),
    'naive': ('default', 'naive_ste'),
    'map': ('default', 'map_ste'),
}
_EPOCHS = 5  # of 100 steps


def _cells(rows: list[dict], key: str) -> dict[tuple[str, str], tuple[float, float, float] | None]:
    """By optimizer and column: a metric's mean over seeds with its interval."""
    found = grouped(rows, ['optimizer', 'part', 'twin'])
    cells = {}
    for label, alternative in OPTIMIZERS.items():
        for column, (part, twin) in COLUMNS.items():
            of_cell = found.get((alternative.partition(';')[0], part, twin), [])
            cells[label, column] = interval([row[key] for row in of_cell])
    return cells


def figure(rows: list[dict]) -> Figure:
    """The alignment error and the agreement of the moved, a bar a column."""
    drawn = Figure(figsize=(10.5, 4.2), layout='constrained', dpi=figures.RESOLUTION)
    for axis, key in zip(drawn.subplots(1, 2), (ERROR, 'quantized_weight_agreement_moved')):
        cells = _cells(rows, key)
        for place, optimizer in enumerate(OPTIMIZERS):
            values = [cells[optimizer, column] for column in COLUMNS]
            x = [index + 0.4 * place for index in range(len(COLUMNS))]
            mean = [value[0] for value in values]
            bars = [[m - low for m, low, _ in values], [high - m for m, _, high in values]]
            axis.bar(x, mean, 0.38, yerr=bars, capsize=3, label=optimizer, color=('#0072b2', '#d55e00')[place])
        axis.set_xticks([index + 0.2 for index in range(len(COLUMNS))], COLUMNS)
        figures.styled(axis, EXPLANATIONS[key][:60], '', key)
    axis.legend(frameon=False, loc='lower left')
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line a metric."""
    header = [f'{column}, {optimizer}' for optimizer in OPTIMIZERS for column in COLUMNS]
    lines = []
    for key in EXPLANATIONS:
        cells = _cells(rows, key)
        lines.append([f'`{key}`', *map(with_interval, cells.values())])
    return ['metric', *header], lines


def findings(rows: list[dict]) -> list[str]:
    """A sentence an optimizer."""
    errors, codes = _cells(rows, ERROR), _cells(rows, 'quantized_weight_agreement_moved')
    return [
        f'{optimizer}: the error of STE with the recipe is {with_interval(errors[optimizer, "default"])}, where a '
        f'jitter of '
        f'the learning rate makes {with_interval(errors[optimizer, "jitter"])}, a tenth of the learning rate over '
        f'three '
        f'times the epochs {with_interval(errors[optimizer, "scaledown"])}, STE with nothing adjusted '
        f'{with_interval(errors[optimizer, "naive"])}, and the recipe of SGD '
        f'{with_interval(errors[optimizer, "map"])}. '
        f'Of the weights that moved, {with_interval(codes[optimizer, "default"])} end in the same code.'
        for optimizer in OPTIMIZERS
    ]


_OVERRIDES = (f'num_epochs={_EPOCHS}', f'checkpoint_every_steps={100 * _EPOCHS}')
STUDY = Study(
    title="The paper's table: ConvNet on MNIST, DSQ against STE",
    question='Five epochs of 100 steps at batch 128, 2 bits. `default` is STE with the recipe, `jitter` DSQ with '
    '1.01 times '
    'the learning rate, `scaledown` the recipe at a tenth of the learning rate over three times the epochs, `naive` '
    'STE with '
    "nothing adjusted, `map` SGD's recipe whatever the optimizer.",
    sweeps=(
        Sweep(
            'default',
            'configs/mnist.py',
            (f'optimizer={"|".join(OPTIMIZERS.values())}',),
            (*_OVERRIDES, 'twins=ste,naive_ste,map_ste,jitter'),
        ),
        Sweep(
            'scaledown',
            'configs/mnist.py',
            (f'optimizer={"|".join(OPTIMIZERS.values())}',),
            (*_OVERRIDES, 'twins=ste', 'learning_rate_scale=0.1', 'epochs_scale=3'),
        ),
    ),
    seeds=5,
    figure=figure,
    table=table,
    findings=findings,
)
