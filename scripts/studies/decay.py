"""Weight decay and clipping: does STE follow the estimator once they are pulled back, and only then?

What reads the weights, or the size of the gradient, reads w of the estimator and v = M(w) of STE. The recipe has the
twin read w = M^-1(v) instead; `map_ste` has the rest of SGD's recipe, and `naive_ste` nothing.
"""

from matplotlib.figure import Figure

from experiments.results import figures
from experiments.results.pages import with_interval
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

_SGD_RATES = {0.02: 500, 0.01: 1000, 0.005: 2000}  # their product is 10
_ADAM_RATES = {2e-3: 250, 1e-3: 500, 5e-4: 1000}  # 1/2
PARTS = {  # by name: what it is, its rates, its own settings and its twins
    'sgd': ('SGD, decay 0.01', _SGD_RATES, ('weight_decay=0.01',), ('ste', 'map_ste', 'naive_ste')),
    'clipping': ('SGD, norm clipped to 0.5', _SGD_RATES, ('clip_norm=0.5',), ('ste', 'map_ste', 'naive_ste')),
    'adam': (
        'Adam, coupled decay 0.01',
        _ADAM_RATES,
        ('optimizer=adam(b2=0.95)', 'weight_decay=0.01'),
        ('ste', 'naive_ste'),
    ),
}
SWEEPS = tuple(
    Sweep(name, (at_constant_length(rates),), (*BOTH_ENDS, *settings, f'twins={",".join(twins)},jitter'), seeds=4)
    for name, (_, rates, settings, twins) in PARTS.items()
)


def stated(rows: list[dict]) -> list:
    """What the page has to state."""
    said = [6.5, 2, 10, 0.5]
    for part, threshold in (('sgd', 0.01), ('clipping', 0.5), ('adam', 0.01)):
        said += [threshold, orders(rows, part, 'ste'), in_jitters(rows, part, 'ste')[0]]
        for twin in PARTS[part][3][1:]:
            said += [orders(rows, part, twin)[0], in_jitters(rows, part, twin)[0]]
    return said


def figure(rows: list[dict]) -> Figure:
    """The error against the learning rate, a panel a part, a line a twin."""
    drawn = Figure(figsize=(12, 4.2), layout='constrained', dpi=figures.RESOLUTION)
    for axis, (part, (title, rates, _, twins)) in zip(drawn.subplots(1, len(PARTS), sharey=True), PARTS.items()):
        for twin in (*twins, 'jitter'):
            found, errors = ladder(rows, part, twin)
            draw(axis, found, over_seeds(errors), marker='o', ms=4, label=twin, color=figures.colour(twin))
        mark_rates(axis, rates)
        axis.set_yscale('log')
        figures.styled(axis, title, 'learning rate, times steps constant', 'weight alignment error')
        axis.legend(frameon=False, fontsize=8)
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line a part and twin: the order, that in units of `jitter`, and those units at both ends."""
    lines = []
    for part, (title, _, _, twins) in PARTS.items():
        for twin in twins:
            rates, beside = ladder(rows, part, twin)[0], in_jitters(rows, part, twin)
            shown = (*orders(rows, part, twin), beside[-1], beside[0])
            lines.append([title, f'{rates[-1]:g} to {rates[0]:g}', f'`{twin}`', *map(with_interval, shown)])
    header = ['training', 'learning rates', 'twin', 'order', 'order of error / `jitter`']
    return [*header, 'error / `jitter` at the highest rate', 'at the lowest'], lines
