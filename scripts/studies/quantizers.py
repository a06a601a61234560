"""Other quantizers and ranges: does STE follow the estimator where theory says so, and only there?

Covered under SGD: fixed ranges, whatever the values and the clip rule, and a step size that is trained beside u = w/D.
Not covered: ranges that read the latent weights, trained beside w (LSQ) or computed at every step. Under Adam STE needs
no M, and all of them are covered.
"""

from matplotlib.figure import Figure

from experiments.results import figures
from experiments.results.pages import with_interval
from qat.lockstep.verdict import LIMIT
from scripts.studies.claims import HEADER, NOT_SHOWN, YES, within
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

_SGD_RATES = {0.01: 500, 0.005: 1000, 0.0025: 2000}  # their product is 5
_SHORT_RATES = {0.002: 500, 0.001: 1000, 0.0005: 2000}  # 1: the smallest steps of e2m1 are an eighth of those of 2 bits
_ADAM_RATES = {1e-3: 250, 5e-4: 500, 2.5e-4: 1000}  # 1/4
_ADAM = 'optimizer=adam(b2=0.95)'
_TERNARY = ('quantizer=ternary', 'range=mean_abs', 'clip_rule=pass')
_TWO_BITS = 'range=max_abs'
_UNITS = (_TWO_BITS, 'range_policy=learned_u')
COVERED = {  # by name: what it is, its rates and its settings
    'ternary': ('ternary, fixed range, `pass`', _SGD_RATES, _TERNARY),
    'e2m1': ('e2m1, fixed range', _SHORT_RATES, ('quantizer=e2m1', _TWO_BITS, 'estimator=sine')),
    'trust': ('2 bits, fixed range, `trust`', _SGD_RATES, (_TWO_BITS, 'clip_rule=trust(T=0.5)')),
    # u is larger than w by 1/D, and its gradient is smaller by D.
    'learned-u': ('2 bits, D trained beside u', _SGD_RATES, (*_UNITS, 'kernel_learning_rate_factor=20')),
}
NOT_COVERED = {
    'learned': ('2 bits, D trained beside w', _SGD_RATES, (_TWO_BITS, 'range_policy=learned')),
    'dynamic': ('ternary, dynamic range, `pass`', _SGD_RATES, (*_TERNARY, 'range_policy=dynamic')),
}
UNDER_ADAM = {
    'adam-learned': ('2 bits, D trained beside w, Adam', _ADAM_RATES, (_TWO_BITS, 'range_policy=learned', _ADAM)),
    'adam-learned-u': (
        '2 bits, D trained beside u, Adam',
        _ADAM_RATES,
        (*_UNITS, 'kernel_learning_rate_factor=4', _ADAM),
    ),
    'adam-dynamic': ('ternary, dynamic range, `pass`, Adam', _ADAM_RATES, (*_TERNARY, 'range_policy=dynamic', _ADAM)),
}
PARTS = {**COVERED, **NOT_COVERED, **UNDER_ADAM}
SEEDS = dict.fromkeys(PARTS, 4) | {'learned-u': 12}  # four left open whether it is beyond its null


def twins(part: str) -> tuple[str, ...]:
    """The STE twins of a part: the recipe, or what is nearest to one."""
    return ('map_ste', 'naive_ste') if part in NOT_COVERED else ('ste', 'naive_ste') if part in COVERED else ('ste',)


SWEEPS = tuple(
    Sweep(
        name,
        (at_constant_length(rates),),
        (*BOTH_ENDS, *settings, f'twins={",".join(twins(name))},jitter'),
        SEEDS[name],
    )
    for name, (_, rates, settings) in PARTS.items()
)


def stated(rows: list[dict]) -> list:
    """What the page has to state."""
    said = [6.5]
    for part in COVERED:
        said += [*orders(rows, part, 'ste'), in_jitters(rows, part, 'ste')[0]]
        said += [orders(rows, part, 'naive_ste')[0], in_jitters(rows, part, 'naive_ste')[0]]
    for part in NOT_COVERED:
        for twin in twins(part):
            said += [orders(rows, part, twin)[0], in_jitters(rows, part, twin)[0]]
    for part in UNDER_ADAM:
        said += [orders(rows, part, 'ste')[0], in_jitters(rows, part, 'ste')[0]]
    return said


def figure(rows: list[dict]) -> Figure:
    """The error against the learning rate, a panel a part, a line a twin."""
    drawn = Figure(figsize=(15, 8), layout='constrained', dpi=figures.RESOLUTION)
    *axes, spare = drawn.subplots(2, 5, sharey=True).flat
    spare.remove()
    for axis, (part, (title, rates, _)) in zip(axes, PARTS.items()):
        for twin in (*twins(part), 'jitter'):
            found, errors = ladder(rows, part, twin)
            draw(axis, found, over_seeds(errors), marker='o', ms=4, label=twin, color=figures.colour(twin))
        mark_rates(axis, rates)
        axis.set_yscale('log')
        figures.styled(axis, title.replace('`', ''), 'learning rate, times steps constant', 'weight alignment error')
        axis.legend(frameon=False, fontsize=8)
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line a part and twin: what theory says, the order, that in units of `jitter`, and those units at both ends."""
    lines = []
    for part, (title, rates, _) in PARTS.items():
        for twin in twins(part):
            beside = in_jitters(rows, part, twin)
            shown = (*orders(rows, part, twin), beside[-1], beside[0])
            predicted = 'falls' if twin == 'ste' else 'stays'
            lines.append(
                [title, f'{max(rates):g} to {min(rates):g}', f'`{twin}`', predicted, *map(with_interval, shown)]
            )
    header = ['training', 'learning rates', 'twin', 'predicted', 'order', 'order of error / `jitter`']
    return [*header, 'error / `jitter` at the highest rate', 'at the lowest'], lines


def claims(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Where STE follows, by docs/theory.md, and what came out."""
    whose, lines = 'docs/theory.md', []
    for part in COVERED:
        (_, order), (_, without) = (orders(rows, part, twin) for twin in twins(part))
        measured = f'order {with_interval(order)}; without the recipe {with_interval(without)}'
        converges = YES if order.low > max(0, without.high) else NOT_SHOWN
        predicted = 'order of error / `jitter` above 0'
        lines.append([f'SGD, {_title(part)}: STE with the recipe converges', whose, predicted, measured, converges])
    for part in (*NOT_COVERED, *UNDER_ADAM):
        recipe = 'the recipe of a fixed range will do' if part in NOT_COVERED else 'nothing has to be adjusted'
        beside = in_jitters(rows, part, twins(part)[0])
        measured = f'{with_interval(beside[-1])} x `jitter`, at the lowest rate {with_interval(beside[0])}'
        predicted = f'{"above" if part in NOT_COVERED else "at most"} {LIMIT:g} x `jitter`'
        lines.append([f'{_title(part)}: {recipe}', whose, predicted, measured, within(beside)])
    return HEADER, lines


def _title(part: str) -> str:
    return PARTS[part][0]
