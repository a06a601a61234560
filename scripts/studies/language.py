"""A language model and its STE twin: when does the estimator matter to those who train transformers?

A transformer of 2 layers, 64 wide, on tiny Shakespeare, byte by byte. What theory predicts for every line was written
down, in `language_lines.predicted`, before the first run; the parts called early came later, with the same predictions.
"""

import functools

from matplotlib.figure import Figure

from experiments.results import figures
from experiments.results.pages import number, with_interval
from experiments.results.statistics import Estimate
from qat.lockstep.verdict import LIMIT
from qat.theory.small_parameters import SLOPE_CHANGE_WARNING
from scripts.studies import claims as of_claims
from scripts.studies.language_lines import CONFIG, DYNAMIC, FIXED, MODEL, Line, lines, predicted, slope_change
from scripts.studies.study import BOTH_ENDS, Sweep, draw

STEPS = 600
_ROUNDING = ('quantizer=uniform', 'range_policy=fixed', 'clip_rule=clip', 'activation_bits=0')
_COMMON = (*BOTH_ENDS, 'steps_per_epoch=50', *MODEL, *_ROUNDING)
_TWINS = 'twins=ste,jitter,reshuffle'
DSQ = 'soft_round(a=4.333)'  # the slope of DSQ at 2 bits, k = 6.5, on every quantizer
RDFS = 'rdfs(A=0.21)'
_QUANTIZERS = f'quantizer={FIXED}|{DYNAMIC}'
_TWO_BITS = (f'estimator={DSQ}', 'range=max_abs')
BETA2, RATES = (0.95, 0.99, 0.999), (1e-3, 5e-5)
_OPTIMIZERS = f'optimizer={"|".join(f"adamw(b2={beta2})" for beta2 in BETA2)}'
_RATES = f'learning_rate={"|".join(map(str, RATES))}'
_SLOW = ('optimizer=adamw(b2=0.95)', f'learning_rate={RATES[-1]}')
_CALM = (*_SLOW, f'max_steps={STEPS}')
_MUON = (*_TWO_BITS, 'optimizer=muon')
_BEFORE, _BEHIND = ('twins=naive_ste,jitter,reshuffle',), ('placement=update', 'twins=ste,naive_ste,jitter,reshuffle')
_MUON_RATES = 'learning_rate=0.004|0.001'
_EARLY_MUON_RATES = 'learning_rate=0.0002;max_steps=300|0.00005;max_steps=1200'
_CUSTOM = (*_TWO_BITS, f'activation_estimator={DSQ}', 'twins=ste,ste_activations,jitter,reshuffle')
_SGD = ('optimizer=sgd(momentum=0.9)', 'weight_decay=0.0001')
_SGD_RATES = 'learning_rate=0.05;max_steps=300|0.0125;max_steps=1200'
# In units of u = w/D weights are larger, by about 19 where D is what it is here, and their gradients smaller.
_LEARNED = 'range_policy=learned;kernel_learning_rate_factor=1|learned_u;kernel_learning_rate_factor=20'


def _sweep(name: str, grids: tuple[str, ...], overrides: tuple[str, ...], seeds: int = 3) -> Sweep:
    return Sweep(name, grids, (*_COMMON, *overrides), seeds, CONFIG)


SWEEPS = (
    _sweep('kappa', (f'estimator={DSQ}|{RDFS}', _QUANTIZERS, _RATES, _OPTIMIZERS), (f'max_steps={STEPS}', _TWINS)),
    _sweep('muon-gradient', (_MUON_RATES,), (*_MUON, f'max_steps={STEPS}', *_BEFORE)),
    _sweep('muon-update', (_MUON_RATES,), (*_MUON, f'max_steps={STEPS}', *_BEHIND)),
    # Before every difference has grown to that of another order of the data.
    _sweep('muon-gradient-early', (_EARLY_MUON_RATES,), (*_MUON, *_BEFORE)),
    _sweep('muon-update-early', (_EARLY_MUON_RATES,), (*_MUON, *_BEHIND)),
    # kappa of about 0.05 and 5 in most layers.
    _sweep(
        'gain',
        ('optimizer=adamw(b2=0.9)|adamw(b2=0.999)',),
        (f'estimator={RDFS}', 'range=max_abs', 'learning_rate=0.00025', 'max_steps=1200', _TWINS),
        seeds=5,
    ),
    _sweep(
        'sgd-learned',
        (_SGD_RATES,),
        (*_TWO_BITS, *_SGD, 'range_policy=learned', 'twins=map_ste,naive_ste,jitter,reshuffle'),
    ),
    _sweep(
        'sgd-learned-u',
        (_SGD_RATES,),
        (
            *(*_TWO_BITS, *_SGD, 'range_policy=learned_u', 'kernel_learning_rate_factor=100'),
            'twins=ste,naive_ste,jitter,reshuffle',
        ),
    ),
    _sweep('adamw-learned', (_LEARNED,), (*_TWO_BITS, *_CALM, _TWINS)),
    _sweep('activations', ('activation_bits=0|8|4',), (*_TWO_BITS, *_CALM, _TWINS)),
    _sweep('custom-activations', ('activation_bits=4',), (*_CUSTOM, *_CALM)),
    _sweep('custom-activations-early', ('activation_bits=4',), (*_CUSTOM, *_SLOW, 'max_steps=10')),
)


def stated(rows: list[dict]) -> list:
    """What the page has to state."""
    found = [line for line in lines(rows) if line.part == 'kappa']
    calm = [line for line in found if slope_change(line.setting) <= SLOPE_CHANGE_WARNING]
    slow, fast = ([line for line in found if float(line.setting['learning_rate']) == rate] for rate in RATES[::-1])
    slow = [line for line in slow if line not in calm]
    ternary = [line for line in fast if line.setting['quantizer'] == 'ternary']
    gained = [line for line in ternary if line.loss.high < 0]
    at = functools.partial(by_rate, lines(rows))
    return [
        *(2, 64, STEPS, 12, 32, 0.1, SLOPE_CHANGE_WARNING, RATES[1], len(calm)),
        *([line.in_jitters for line in calm], [line.in_reshuffles for line in calm]),
        *(least(slow, 'in_jitters'), most(slow, 'in_jitters'), most(slow, 'in_reshuffles')),
        *(RATES[0], least(fast, 'in_jitters'), most(fast, 'in_jitters')),
        *(least(fast, 'in_reshuffles'), most(fast, 'in_reshuffles'), 0.001),
        *(len(gained), len(ternary), most(gained, 'loss'), least(gained, 'loss')),
        *(min(line.loss_of_reshuffle for line in ternary), max(line.loss_of_reshuffle for line in ternary)),
        *(least(ternary, 'flips').value, most(ternary, 'flips').value),
        *(at('sgd-learned-u', 'ste'), at('muon-gradient-early', 'naive_ste')),
        *(at('muon-update-early', 'ste'), at('muon-update-early', 'naive_ste')),
        *(at('custom-activations-early', 'ste_activations'), at('custom-activations-early', 'ste')),
    ]


def by_rate(found: list[Line], part: str, twin: str) -> list[Estimate]:
    """Errors in units of jitter's of a twin of a part, from the highest learning rate to the lowest."""
    own = [line for line in found if (line.part, line.twin) == (part, twin)]
    return [line.in_jitters for line in sorted(own, key=lambda line: -float(line.setting.get('learning_rate', 0)))]


def least(found: list[Line], name: str) -> Estimate:
    """The smallest of an estimate over lines."""
    return min((getattr(line, name) for line in found), key=lambda one: one.value)


def most(found: list[Line], name: str) -> Estimate:
    """The largest."""
    return max((getattr(line, name) for line in found), key=lambda one: one.value)


def figure(rows: list[dict]) -> Figure:
    """Over the slope change of the part `kappa`: the error in units of both yardsticks, and the losses."""
    drawn = Figure(figsize=(15, 4.6), layout='constrained', dpi=figures.RESOLUTION)
    left, middle, right = drawn.subplots(1, 3)
    of_kappa = sorted((slope_change(line.setting), line) for line in lines(rows) if line.part == 'kappa')
    changes, found = [change for change, _ in of_kappa], [line for _, line in of_kappa]
    for axis, name, title in (
        (left, 'in_jitters', 'error of STE / jitter'),
        (middle, 'in_reshuffles', 'error of STE / reshuffle'),
    ):
        for rate, fill in zip(sorted({line.setting['learning_rate'] for line in found}, key=float), ('full', 'none')):
            chosen = [
                (change, getattr(line, name)) for change, line in of_kappa if line.setting['learning_rate'] == rate
            ]
            style = {'marker': 'o', 'ls': '', 'fillstyle': fill, 'color': figures.colour('ste')}
            draw(axis, *zip(*chosen), **style, label=f'learning rate {rate}')
        axis.axhline(1, color='#bbbbbb', lw=0.8)
        axis.set_yscale('log')
        figures.styled(axis, title, 'kappa x max |d ln s/dr|', '')
    left.axhline(LIMIT, color='#bbbbbb', lw=0.8, ls=':', label='counts as the same up to here')
    middle.legend(frameon=False, fontsize=8)
    sizes = [line.loss_of_reshuffle for line in found]
    for sign in (-1, 1):
        label = 'another order of the data, root mean square' if sign > 0 else None
        right.plot(changes, [sign * size for size in sizes], '_', ms=9, color=figures.colour('reshuffle'), label=label)
    style = {'marker': 'o', 'ls': '', 'color': figures.colour('ste'), 'label': 'STE'}
    draw(right, changes, [line.loss for line in found], **style)
    right.axhline(0, color='#bbbbbb', lw=0.8)
    figures.styled(right, 'final validation loss less the reference’s', 'kappa x max |d ln s/dr|', 'nats')
    right.legend(frameon=False, fontsize=8)
    for axis in (left, middle, right):
        axis.set_xscale('log')
        axis.axvline(SLOPE_CHANGE_WARNING, color='#999999', ls='--', label='a run warns above')
    left.legend(frameon=False, fontsize=8)
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line a part, setting and twin."""
    found = []
    for line in lines(rows):
        setting = ', '.join(line.setting.values())
        change = number(slope_change(line.setting)) if line.part == 'kappa' else ''
        before, behind = (line.in_jitters, line.in_reshuffles, line.loss), (line.flips, line.dead)
        numbers = [*map(with_interval, before), number(line.loss_of_reshuffle), *map(with_interval, behind)]
        found.append([line.part, setting, f'`{line.twin}`', change, predicted(line), *numbers])
    header = ['part', 'setting', 'twin', 'slope change', 'predicted', 'error / `jitter`', 'error / `reshuffle`']
    header += ['loss less the reference’s', 'of `reshuffle` (rms)', 'flips / the reference’s', 'dead, less']
    return header, found


def claims(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Who claims what, and what came out."""
    return of_claims.HEADER, of_claims.claims(rows)
