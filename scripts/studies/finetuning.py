"""Fine-tuning a pretrained ResNet-20 to 2 and 4 bits: does the gradient estimator change the final accuracy?

Data and weights as in the study of photographs. Every comparison is paired: with STE and with another order of the
data a run starts from the same weights, and DSQ's and RDFS's see the same photographs in the same order.
"""

from matplotlib.figure import Figure

from experiments.results import figures
from experiments.results.pages import with_interval
from experiments.results.statistics import Estimate, interval
from experiments.sweeps.report import grouped
from scripts.studies.study import BOTH_ENDS, Sweep

STEPS = 200
OPTIMIZERS = {  # by what parts begin with
    'sgd': ('optimizer=sgd(momentum=0.9)', 'learning_rate=0.004', 'weight_decay=1e-4'),
    'adamw': ('optimizer=adamw', 'learning_rate=5e-4', 'weight_decay=0.01'),
}
RANGES = {'2': 'he_uniform', '4': 'max_abs'}
DSQ = {'2': 'dsq(k=6.5)', '4': 'dsq(k=18)'}
RDFS = dict.fromkeys(DSQ, 'rdfs(A=0.21)')
LAYERS = {'stage*/kernel': 'inner convolutions', 'all': 'all layers'}
OTHERS = {  # what is compared with DSQ: the estimator of its part, its twin there ('' is the run itself), its colour
    'STE with the recipe': ('dsq', 'ste', 'ste'),
    'STE, nothing adjusted': ('dsq', 'naive_ste', 'naive_ste'),
    'RDFS': ('rdfs', '', 'map_ste'),
    'DSQ, another order of the data': ('dsq', 'reshuffle', 'reshuffle'),
}


def _part(optimizer: str, estimator: str, calls: dict[str, str], twins: str) -> Sweep:
    bits = '|'.join(f'{count};estimator={call};range={RANGES[count]}' for count, call in calls.items())
    data = ('dataset=folder:runs/cifar10', 'init_from=runs/resnet20_cifar10.safetensors', 'batch_size=32')
    length = (f'max_steps={STEPS}', 'max_validation_examples=2500', f'twins={twins}')
    grids = (f'bits={bits}', f'quantized={"|".join(LAYERS)}')
    overrides = (*BOTH_ENDS, *data, *length, *OPTIMIZERS[optimizer])
    return Sweep(f'{optimizer}-{estimator}', grids, overrides, 3, 'configs/cifar10_resnet20.py')


SWEEPS = tuple(
    _part(optimizer, *of_estimator)
    for optimizer in OPTIMIZERS
    for of_estimator in (('dsq', DSQ, 'ste,naive_ste,reshuffle'), ('rdfs', RDFS, 'ste'))
)
SETTINGS = [(optimizer, bits, layers) for optimizer in OPTIMIZERS for bits in DSQ for layers in LAYERS]


def accuracies(rows: list[dict], setting: tuple[str, str, str], estimator: str, twin: str) -> list[float]:
    """Of a training in a setting, a value a seed; the twin '' is the run of the estimator itself."""
    optimizer, *own = setting
    found = grouped(rows, ['part', 'bits', 'quantized', 'twin'])[f'{optimizer}-{estimator}', *own, twin or 'ste']
    ordered = sorted(found, key=lambda row: int(row['seed']))
    return [row['accuracy' if twin else 'reference_accuracy'] for row in ordered]


def differences(rows: list[dict], setting: tuple[str, str, str]) -> dict[str, Estimate]:
    """Of the final accuracy less DSQ's, in points, paired by seeds: by what is compared."""
    dsq = accuracies(rows, setting, 'dsq', '')
    return {
        name: interval([100 * (one - other) for one, other in zip(accuracies(rows, setting, estimator, twin), dsq)])
        for name, (estimator, twin, _) in OTHERS.items()
    }


def told_apart(rows: list[dict], name: str) -> tuple[int, int]:
    """In how many settings the interval of a difference is without 0, and of how many."""
    found = [differences(rows, setting)[name] for setting in SETTINGS]
    return sum(not one.low <= 0 <= one.high for one in found), len(found)


def stated(rows: list[dict]) -> list:
    """What the page has to state."""
    found = {setting: differences(rows, setting) for setting in SETTINGS}
    widest = max(one.high - one.low for of_setting in found.values() for one in of_setting.values()) / 2
    counted = [told_apart(rows, name) for name in OTHERS]
    apart = [
        found[setting][name]
        for name in OTHERS
        for setting in SETTINGS
        if not found[setting][name].low <= 0 <= found[setting][name].high
    ]
    means = [one.value for of_setting in found.values() for one in of_setting.values()]
    dsq = [interval([100 * value for value in accuracies(rows, setting, 'dsq', '')]).value for setting in SETTINGS]
    return [
        *('`ResNet-20`', 81.0, STEPS, 32, [2, 4], 6.5, 18, min(dsq), max(dsq)),
        *(counted, apart, sum(count for count, _ in counted), sum(count for _, count in counted), '5%'),
        *(min(means), max(means), widest),
    ]


def _title(setting: tuple[str, str, str]) -> str:
    optimizer, bits, layers = setting
    return f'{optimizer}, {bits} bits, {LAYERS[layers]}'


def figure(rows: list[dict]) -> Figure:
    """The differences of the final accuracy, with their intervals; a line a setting."""
    drawn = figures.empty(9, 1.2 + 0.75 * len(SETTINGS))
    axis = drawn.subplots()
    for place, (name, (*_, colour)) in enumerate(OTHERS.items()):
        found = [differences(rows, setting)[name] for setting in SETTINGS]
        lines = [line + 0.18 * (place - 1.5) for line in range(len(SETTINGS))]
        look = {'fmt': 'o', 'ms': 4, 'capsize': 3, 'label': name, 'color': figures.colour(colour)}
        axis.errorbar([one.value for one in found], lines, xerr=figures.error_bars(found), **look)
    axis.axvline(0, color='#999999', lw=0.8)
    axis.set_yticks(range(len(SETTINGS)), map(_title, SETTINGS))
    axis.invert_yaxis()
    figures.styled(axis, '', "final accuracy less DSQ's, in points", '')
    figures.legend(axis, columns=2)
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line a setting."""
    lines = []
    for setting in SETTINGS:
        dsq = interval([100 * value for value in accuracies(rows, setting, 'dsq', '')])
        lines.append([_title(setting), *map(with_interval, (dsq, *differences(rows, setting).values()))])
    return ['setting', 'accuracy of DSQ, %', *(f'{name}, less DSQ' for name in OTHERS)], lines
