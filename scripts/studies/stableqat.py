"""A recent claim put to the test: is RDFS (StableQAT) better than STE, or STE at another learning rate?"""

from matplotlib.figure import Figure

from experiments.results import figures
from experiments.results.pages import with_interval
from experiments.results.statistics import interval
from experiments.sweeps.report import ERROR, grouped
from scripts.studies.study import BOTH_ENDS, Study, Sweep, error_bars, mark_rates

RATES = {'sgd(momentum=0.9)': (0.08, 0.04, 0.02, 0.01), 'adamw(b2=0.95)': (2e-3, 1e-3, 5e-4, 2.5e-4)}
STEPS = 500
TWINS = {'naive_ste': 'STE, equal learning rate', 'ste': 'STE, with the recipe'}
# One shows around the other where the recipe changes nothing.
MARKERS = {'naive_ste': {'marker': 's', 'ms': 10, 'mfc': 'none', 'lw': 3}, 'ste': {'marker': 'o', 'ms': 4, 'lw': 1.5}}


def _settings(rows: list[dict]) -> dict[tuple[str, float], list[dict]]:
    found = grouped(rows, ['optimizer', 'learning_rate'])
    return {(optimizer, float(rate)): of_one for (optimizer, rate), of_one in found.items()}


def _advantage(of_one: list[dict], twin: str, key: str) -> tuple[float, float, float] | None:
    """The twin's metric less the reference's, RDFS."""
    return interval([row[key] - row[f'reference_{key}'] for row in of_one if row['twin'] == twin])


def figure(rows: list[dict]) -> Figure:
    """Accuracy of both less RDFS's, and how far the weights come apart."""
    drawn = Figure(figsize=(10.5, 7), layout='constrained', dpi=figures.RESOLUTION)
    axes = drawn.subplots(2, len(RATES), squeeze=False)
    for (top, bottom), optimizer in zip(axes.T, RATES):
        for twin, label in TWINS.items():
            for axis, value in ((top, lambda o, t: _advantage(o, t, 'accuracy')), (bottom, _error)):
                points = [
                    (r, *value(of_one, twin)) for (name, r), of_one in _settings(rows).items() if name == optimizer
                ]
                rates, *found = zip(*sorted(points))
                mean, bars = found[0], error_bars(zip(*found))
                axis.errorbar(rates, mean, bars, capsize=3, color=figures.COLOURS[twin], label=label, **MARKERS[twin])
        top.axhline(0, color='#999999', lw=0.8)
        for axis in (bottom, top):
            mark_rates(axis, RATES[optimizer])
        bottom.set_yscale('log')
        figures.styled(top, optimizer, 'learning rate', "validation accuracy less RDFS's")
        figures.styled(bottom, '', 'learning rate', 'weight alignment error')
    axes[0, 0].legend(frameon=False)
    return drawn


def _error(of_one: list[dict], twin: str) -> tuple[float, float, float] | None:
    return interval([row[ERROR] for row in of_one if row['twin'] == twin])


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line a setting."""
    lines = []
    for (optimizer, rate), of_one in _settings(rows).items():
        accuracy = with_interval(interval([row['reference_accuracy'] for row in of_one if row['twin'] == 'ste']))
        cells = [with_interval(_advantage(of_one, twin, 'accuracy')) for twin in TWINS]
        errors = [with_interval(_error(of_one, twin)) for twin in TWINS]
        lines.append([f'`{optimizer}`', f'{rate:g}', accuracy, *cells, *errors])
    accuracies = [f'accuracy of {label}, less' for label in TWINS.values()]
    return ['optimizer', 'learning rate', 'accuracy of RDFS', *accuracies, *(f'error of `{t}`' for t in TWINS)], lines


def findings(rows: list[dict]) -> list[str]:
    """A sentence an optimizer: in how many settings RDFS differs from STE beyond the intervals."""
    said = []
    for optimizer in RATES:
        of_optimizer = [of_one for (name, _), of_one in _settings(rows).items() if name == optimizer]
        different = {
            twin: sum(not low <= 0 <= high for _, low, high in (_advantage(o, twin, 'accuracy') for o in of_optimizer))
            for twin in TWINS
        }
        errors = {twin: [_error(of_one, twin)[0] for of_one in of_optimizer] for twin in TWINS}
        spans = {twin: f'{min(values):.3g} to {max(values):.3g}' for twin, values in errors.items()}
        said.append(
            f'`{optimizer}`: at equal learning rates the accuracies differ, beyond their 95% intervals, in '
            f'{different["naive_ste"]} of {len(of_optimizer)} settings (alignment error {spans["naive_ste"]}); with '
            f'the '
            f'recipe in {different["ste"]} (alignment error {spans["ste"]}).'
        )
    return said


STUDY = Study(
    title='RDFS (StableQAT) against STE: at equal learning rates, and with the recipe',
    question='StableQAT (arXiv 2601.19320) compares its slope RDFS with STE at equal learning rates. Under SGD its '
    'alpha of '
    'about 0.11 makes that a comparison of learning rates; under AdamW the recipe changes nothing. Digits, 500 steps.',
    sweeps=(
        Sweep(
            'stableqat',
            'configs/digits.py',
            (
                'optimizer='
                + '|'.join(f'{call};learning_rate={rate}' for call, rates in RATES.items() for rate in rates),
            ),
            (
                *BOTH_ENDS,
                *('estimator=rdfs(A=0.21)', f'max_steps={STEPS}', 'twins=ste,naive_ste,jitter'),
            ),
        ),
    ),
    seeds=5,
    figure=figure,
    table=table,
    findings=findings,
)
