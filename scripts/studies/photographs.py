"""Residual networks with batch norm on photographs: is STE still the estimator, and what hides it?

Data and weights: CIFAR-10 as a folder of images in runs/cifar10, a ResNet-20 for it in full precision as
runs/resnet20_cifar10.safetensors, and ImageNet's archives, whole or of some classes, in
runs/imagenet64/downloads/manual. A run on ImageNet takes 11 GB: give these parts one worker.
"""

import itertools
import textwrap
from collections.abc import Collection, Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.results import figures
from experiments.results.pages import with_interval
from experiments.results.statistics import Estimate, interval
from experiments.sweeps.report import ERROR, grouped
from qat import calls
from scripts.studies.study import (
    BOTH_ENDS,
    Sweep,
    at_constant_length,
    draw,
    in_jitters,
    ladder,
    mark_rates,
    orders,
    over_seeds,
)

SGD, ADAM = 'sgd(momentum=0.9)', 'adam(b2=0.95)'
TWINS = ('ste', 'naive_ste', 'jitter', 'reshuffle')
_PHOTOGRAPHS = ('dataset=folder:runs/cifar10', 'batch_size=32', 'max_validation_examples=1000')
_PRETRAINED = 'init_from=runs/resnet20_cifar10.safetensors'
_UNDER_ADAM = (f'optimizer={ADAM}', 'weight_decay=0')
_SCRATCH_RATES = {0.01: 20, 0.005: 40, 0.0025: 80, 0.00125: 160}  # their product is 0.2
_EARLY_RATES = {0.002: 10, 0.001: 20, 0.0005: 40, 0.00025: 80}  # 0.02: before most differences have grown
_PRETRAINED_RATES = {0.004: 20, 0.002: 40, 0.001: 80, 0.0005: 160}  # 0.08
_FOUR_BITS = ('bits=4', 'estimator=dsq(k=18)', 'range=max_abs')
_FOUR_BITS_RATES = {0.001: 20, 0.00025: 80}
# In the pretrained network, and in deeper ones, frozen statistics end in infinity, also at 4 bits: the scales of the
# rounded weights are others. What is frozen from the start is mean 0 and variance 1, so that nothing is normalised.
_FROZEN_RATES = {0.0025: 20, 0.000625: 80}
_FROZEN_EARLY_RATES = {0.00016: 20, 0.00004: 80}  # about a sixteenth as far, in shorter steps
_BATCH_RATES = {0.004: 20, 0.002: 40}
_ADAM_RATES = {8e-4: 12, 4e-4: 24, 2e-4: 48, 1e-4: 96}  # 0.0096
_IMAGENET_SGD_RATES = {0.002: 8, 0.0005: 32}  # 0.016: before most differences have grown
_IMAGENET_ADAM_RATES = {2e-4: 8, 5e-5: 32}  # 0.0016
MIDDLE = 0.0025  # the learning rate of what is measured at one
HORIZON, PERTURBATION = 'horizon', 'perturbation'
SIZES = (1e-6, 1e-4, 1e-2)  # of a change of the learning rate of the quantized kernels
_PLANTED = '|'.join(f'scripts/studies/planted.py:constant(height={1 + size})' for size in SIZES)


def _part(name: str, *overrides: str, grids=(), rates=None, twins=TWINS) -> Sweep:
    grids = (*grids, *([at_constant_length(rates)] if rates else []))
    overrides = (*BOTH_ENDS, *_PHOTOGRAPHS, f'twins={",".join(twins)}', *overrides)
    return Sweep(name, grids, overrides, seeds=3, config='configs/cifar10_resnet20.py')


def _imagenet(name: str, rates: dict[float, int], *overrides: str) -> Sweep:
    data = ('data_dir=runs/imagenet64', 'batch_size=16', 'max_validation_examples=200')
    overrides = (*BOTH_ENDS, *data, 'twins=ste,naive_ste,jitter', *overrides)
    return Sweep(name, (at_constant_length(rates),), overrides, seeds=6, config='configs/imagenet64_resnet50.py')


def _ends(rates: dict[float, int]) -> dict[float, int]:
    """The highest rate, and a quarter of it."""
    return dict(itertools.islice(rates.items(), 0, 3, 2))


LADDERS = {  # parts, and what they are
    'scratch-sgd': 'ResNet-20 from scratch, SGD with decay',
    'early': 'ResNet-20 from scratch, a tenth as far, SGD with decay',
    'scratch-adam': 'ResNet-20 from scratch, Adam',
    'pretrained-sgd': 'ResNet-20 pretrained, SGD with decay',
    'pretrained-adam': 'ResNet-20 pretrained, Adam',
    'depth': 'ResNet-8 from scratch, SGD with decay',
    'frozen': 'ResNet-8 from scratch, nothing normalised, SGD with decay',
    'frozen-early': 'ResNet-8 from scratch, nothing normalised, a sixteenth as far, SGD with decay',
    'batch': 'ResNet-20 pretrained, batches of 128, SGD with decay',
    'four-bits': 'ResNet-20 pretrained, 4 bits, SGD with decay',
    'imagenet-sgd': 'ResNet-50 on ImageNet, SGD with decay',
    'imagenet-adam': 'ResNet-50 on ImageNet, Adam',
}
CAUSES = ('depth', 'frozen', 'frozen-early', 'four-bits', 'batch')
SWEEPS = (
    _part('scratch-sgd', rates=_SCRATCH_RATES),
    _part('pretrained-sgd', _PRETRAINED, rates=_PRETRAINED_RATES),
    _part('early', rates=_EARLY_RATES),
    _part('scratch-adam', *_UNDER_ADAM, rates=_ADAM_RATES),
    _part('pretrained-adam', _PRETRAINED, *_UNDER_ADAM, rates=_ADAM_RATES),
    _part(HORIZON, grids=('learning_rate=' + '|'.join(f'{MIDDLE};max_steps={steps}' for steps in (5, 10, 20, 40)),)),
    _part(
        PERTURBATION,
        f'learning_rate={MIDDLE}',
        'max_steps=80',
        grids=(f'estimator={_PLANTED}',),
        twins=('naive_ste', 'jitter'),
    ),
    _part('depth', 'model=resnet8', rates=_ends(_SCRATCH_RATES)),
    _part('four-bits', _PRETRAINED, *_FOUR_BITS, rates=_FOUR_BITS_RATES),
    _part('frozen', 'model=resnet8(frozen_statistics=True)', rates=_FROZEN_RATES),
    _part('frozen-early', 'model=resnet8(frozen_statistics=True)', rates=_FROZEN_EARLY_RATES),
    _part('batch', _PRETRAINED, 'batch_size=128', rates=_BATCH_RATES),
    _imagenet('imagenet-sgd', _IMAGENET_SGD_RATES, f'optimizer={SGD}', 'weight_decay=1e-4'),
    _imagenet('imagenet-adam', _IMAGENET_ADAM_RATES, *_UNDER_ADAM),
)


def twins_of(rows: list[dict], part: str) -> list[str]:
    """The twins of a part, without what is `ste` under another name."""
    there = {row['twin'] for row in rows if row['part'] == part}
    same = ladder(rows, part, 'ste') == ladder(rows, part, 'naive_ste')
    return [twin for twin in TWINS if twin in there and not (same and twin == 'naive_ste')]


def gap(rows: list[dict], parts: Collection[str], twin: str) -> Estimate:
    """By how many points the final accuracy of a twin differs from the reference's, in size, over all runs of parts."""
    chosen = [row for row in rows if row['part'] in parts and row['twin'] == twin]
    return interval([100 * abs(row['accuracy'] - row['reference_accuracy']) for row in chosen])


def over_steps(rows: list[dict]) -> dict[str, dict[int, Estimate]]:
    """By twin and number of steps, the error at the end of runs at the learning rate MIDDLE."""
    chosen = [row for row in rows if row['part'] in (HORIZON, 'scratch-sgd') and float(row['learning_rate']) == MIDDLE]
    found = grouped(sorted(chosen, key=lambda row: int(row['max_steps'])), ['twin', 'max_steps'])
    by_twin = {twin: {} for twin in TWINS}
    for (twin, steps), of_one in found.items():
        by_twin[twin][int(steps)] = interval([row[ERROR] for row in of_one], log=True)
    return by_twin


def after_perturbation(rows: list[dict]) -> dict[float, Estimate]:
    """By the relative change of the learning rate of the quantized kernels, the error that it has led to."""
    chosen = [row for row in rows if row['part'] == PERTURBATION and row['twin'] == 'naive_ste']
    found = {}
    for (estimator,), of_one in grouped(chosen, ['estimator']).items():
        size = calls.parse(estimator.partition(':')[2])[1]['height'] - 1
        found[float(f'{size:.1g}')] = interval([row[ERROR] for row in of_one], log=True)
    return found


def largest(rows: list[dict], parts: Iterable[str], twin: str) -> Estimate:
    """The error of a twin in units of that of `jitter` where it is largest, over parts and learning rates."""
    return max((found for part in parts for found in in_jitters(rows, part, twin)), key=lambda found: found.value)


def least(rows: list[dict], parts: Iterable[str], twin: str) -> Estimate:
    """The same where it is least."""
    return min((found for part in parts for found in in_jitters(rows, part, twin)), key=lambda found: found.value)


def stated(rows: list[dict]) -> list:
    """What the page has to state."""
    early, sgd, adam = 'early', ('scratch-sgd', 'pretrained-sgd'), ('scratch-adam', 'pretrained-adam')
    errors, lengths = over_steps(rows), [[5, 10, 20, 40], 80]
    sizes = [(f'{size:g}', found) for size, found in after_perturbation(rows).items()]
    return [
        *('`ResNet-20`', '`ResNet-8`', 32, 2, 6.5, 1e-4, '1%', max(_SCRATCH_RATES), '`ResNet-50`'),
        *(0.02, max(_EARLY_RATES)),
        *(in_jitters(rows, early, twin)[-1] for twin in ('ste', 'naive_ste', 'reshuffle')),
        *(MIDDLE, lengths, [list(errors[twin].values()) for twin in ('ste', 'jitter', 'naive_ste')]),
        *('1%', MIDDLE, 80, sizes),
        *(0.2, 0.08, [orders(rows, part, twin) for part in sgd for twin in ('ste', 'naive_ste')]),
        *(largest(rows, sgd, 'ste'), least(rows, sgd, 'naive_ste'), least(rows, sgd, 'reshuffle')),
        *(largest(rows, adam, 'ste'), least(rows, adam, 'reshuffle')),
        *_of_imagenet(rows),
        '`ResNet-8`',
        *([in_jitters(rows, part, twin)[-1] for twin in ('ste', 'naive_ste')] for part in CAUSES),
        in_jitters(rows, 'frozen-early', 'ste')[0],
        *(gap(rows, parts, twin) for parts in (sgd, adam) for twin in ('ste', 'reshuffle')),
    ]


def _of_imagenet(rows: list[dict]) -> list:
    sgd, adam = _IMAGENET_SGD_RATES, _IMAGENET_ADAM_RATES
    # The travel of both, then what is measured, each from the highest learning rate.
    said = ['`ResNet-50`', *(rate * steps for rate, steps in (*[*sgd.items()][:1], *[*adam.items()][:1])), *sgd]
    said += [in_jitters(rows, 'imagenet-sgd', twin)[::-1] for twin in ('ste', 'naive_ste')]
    return [*said, *adam, in_jitters(rows, 'imagenet-adam', 'ste')[::-1]]


def _axis(axis: Axes, title: str, x: str) -> None:
    axis.set_yscale('log')
    figures.styled(axis, textwrap.fill(title, 30), x, 'alignment error')
    axis.title.set_fontsize(9)


def figure(rows: list[dict]) -> Figure:
    """The error of every twin against the learning rate, a panel a part; then against steps and a planted change."""
    drawn = Figure(figsize=(16, 11), layout='constrained', dpi=figures.RESOLUTION)
    *axes, steps, change, spare = drawn.subplots(3, 5, sharey=True).flat
    spare.remove()
    for axis, (part, title) in zip(axes, LADDERS.items()):
        for twin in twins_of(rows, part):
            rates, errors = ladder(rows, part, twin)
            draw(axis, rates, over_seeds(errors), marker='o', ms=4, label=twin, color=figures.colour(twin))
        mark_rates(axis, rates)
        _axis(axis, title, 'learning rate, times steps constant')
    for twin, found in over_steps(rows).items():
        draw(steps, list(found), found.values(), marker='o', ms=4, color=figures.colour(twin))
    steps.set_xscale('log')
    _axis(steps, f'from scratch at learning rate {MIDDLE}', 'steps')
    found = after_perturbation(rows)
    draw(change, list(found), found.values(), marker='o', ms=4, color='#555555')
    change.set_xscale('log')
    _axis(change, 'learning rate of the kernels changed', 'relative change')
    axes[0].legend(frameon=False, fontsize=8)
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line a part and twin: its order alone and in jitters, its error in jitters at both ends, accuracy."""
    lines = []
    for part, title in LADDERS.items():
        rates = [f'{rate:g}' for rate in ladder(rows, part, 'ste')[0]]
        for twin in twins_of(rows, part):
            lowest, *_, highest = in_jitters(rows, part, twin)
            shown = (*orders(rows, part, twin), highest, lowest, gap(rows, (part,), twin))
            lines.append([title, f'{rates[-1]} to {rates[0]}', f'`{twin}`', *map(with_interval, shown)])
    header = ['training', 'learning rates', 'twin', 'order of the error', 'of error / `jitter`']
    header += ['error / `jitter` at the highest rate', 'at the lowest', 'accuracy apart, points']
    return header, lines
