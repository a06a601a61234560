"""A recent claim put to the test: is RDFS (StableQAT) better than STE, or STE at another learning rate?"""

import statistics
from collections.abc import Callable

from matplotlib.figure import Figure

from experiments.results import figures
from experiments.results.pages import with_interval
from experiments.results.statistics import Estimate, interval
from experiments.sweeps.report import ERROR, grouped
from qat import estimators
from qat.theory.weight_map import alpha
from scripts.studies.study import BOTH_ENDS, Sweep, draw, ends, mark_rates

RATES = {'sgd(momentum=0.9)': (0.08, 0.04, 0.02, 0.01), 'adamw(b2=0.95)': (2e-3, 1e-3, 5e-4, 2.5e-4)}
ESTIMATOR, STEPS = 'rdfs(A=0.21)', 500
TWINS = {'naive_ste': 'STE, equal learning rate', 'ste': 'STE, with the recipe'}
# One shows around the other where the recipe changes nothing.
MARKERS = {'naive_ste': {'marker': 's', 'ms': 10, 'mfc': 'none', 'lw': 3}, 'ste': {'marker': 'o', 'ms': 4, 'lw': 1.5}}

_SETTINGS = '|'.join(f'{call};learning_rate={rate}' for call, rates in RATES.items() for rate in rates)
SWEEPS = (
    Sweep(
        'stableqat',
        (f'optimizer={_SETTINGS}',),
        (*BOTH_ENDS, f'estimator={ESTIMATOR}', f'max_steps={STEPS}', 'twins=ste,naive_ste,jitter'),
        seeds=5,
    ),
)


def error(row: dict) -> float:
    """How far the weights come apart."""
    return row[ERROR]


def advantage(row: dict) -> float:
    """The twin's accuracy less the reference's, RDFS."""
    return round(row['accuracy'] - row['reference_accuracy'], 12)  # shares of images: what follows is float's


def means(rows: list[dict], twin: str, value: Callable[[dict], float]) -> dict[tuple[str, str], Estimate]:
    """By optimizer and learning rate: the mean over seeds of a value of a twin's rows; of an error the geometric."""
    chosen = grouped([row for row in rows if row['twin'] == twin], ['optimizer', 'learning_rate'])
    return {setting: interval(map(value, of_one), log=value is error) for setting, of_one in chosen.items()}


def differing(rows: list[dict], twin: str, optimizer: str) -> int:
    """In how many settings of an optimizer the interval of the twin's advantage, paired by seeds, is without 0."""
    of_optimizer = [found for (name, _), found in means(rows, twin, advantage).items() if name == optimizer]
    return sum(not found.low <= 0 <= found.high for found in of_optimizer)


def overall(rows: list[dict], twin: str, optimizer: str) -> Estimate:
    """The twin's advantage in the mean over learning rates, by seeds."""
    chosen = [row for row in rows if (row['twin'], row['optimizer']) == (twin, optimizer)]
    return interval(statistics.mean(map(advantage, of_one)) for of_one in grouped(chosen, ['seed']).values())


def stated(rows: list[dict]) -> list:
    """What the page has to state."""
    facts = {}
    for optimizer, rates in RATES.items():
        for twin in TWINS:
            gained, errors = (
                [found for (name, _), found in means(rows, twin, value).items() if name == optimizer]
                for value in (advantage, error)
            )
            reached = min(found.low for found in gained), max(found.high for found in gained)
            count = differing(rows, twin, optimizer), len(rates)
            facts[optimizer, twin] = overall(rows, twin, optimizer), *count, *reached, ends(errors)
    sgd, adamw = RATES
    gained, differ, settings, _, _, errors = facts[sgd, 'naive_ste']
    return [
        *('2601.19320', f'{alpha(estimators.make("rdfs", 2, A=0.21)):.2f}', STEPS, f'`{sgd}`'),
        *(
            gained,
            '95%',
            differ,
            settings,
            errors,
            facts[sgd, 'ste'],
            f'`{adamw}`',
            facts[adamw, 'ste'],
            settings,
            settings,
        ),
    ]


def figure(rows: list[dict]) -> Figure:
    """Accuracy of both less RDFS's, and how far the weights come apart."""
    drawn = Figure(figsize=(10.5, 7), layout='constrained', dpi=figures.RESOLUTION)
    axes = drawn.subplots(2, len(RATES))
    for (top, bottom), optimizer in zip(axes.T, RATES):
        for twin, label in TWINS.items():
            for axis, value in ((top, advantage), (bottom, error)):
                found = means(rows, twin, value).items()
                rates, values = zip(*sorted((float(rate), mean) for (name, rate), mean in found if name == optimizer))
                draw(axis, rates, values, color=figures.colour(twin), label=label, **MARKERS[twin])
        top.axhline(0, color='#999999', lw=0.8)
        for axis in (bottom, top):
            mark_rates(axis, RATES[optimizer])
        bottom.set_yscale('log')
        figures.styled(top, optimizer, 'learning rate', "validation accuracy less RDFS's")
        figures.styled(bottom, '', 'learning rate', 'weight alignment error')
    axes[0, 0].legend(frameon=False)
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line a setting."""
    columns = {'accuracy of RDFS': means(rows, 'ste', lambda row: row['reference_accuracy'])}
    columns |= {f'accuracy of {label}, less': means(rows, twin, advantage) for twin, label in TWINS.items()}
    columns |= {f'error of `{twin}`': means(rows, twin, error) for twin in TWINS}
    lines = [
        [f'`{optimizer}`', f'{float(rate):g}', *(with_interval(found[optimizer, rate]) for found in columns.values())]
        for optimizer, rate in columns['accuracy of RDFS']
    ]
    return ['optimizer', 'learning rate', *columns], lines
