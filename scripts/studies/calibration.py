"""Calibration of the verdict: how often does it tell what is the same apart, and miss what is not?"""

import re

from matplotlib.figure import Figure
from scipy import stats

from experiments.results import figures
from experiments.results.pages import with_interval
from experiments.results.statistics import CONFIDENCE, interval
from experiments.sweeps.report import ERROR, grouped
from qat.lockstep.twins import JITTER
from qat.lockstep.verdict import ANSWERS, FEWEST_CHANGES, LIMIT, NO
from scripts.studies.study import Sweep

_RATIO = re.compile(r'was (?:(\S+) times )?as far')  # without a number: as far
_PLANTED = 'scripts/studies/planted.py'
SAME = {
    'ste': 'STE and itself',
    f'{_PLANTED}:constant(height=1.01)': 'learning rate of the kernels 1% higher',
    f'{_PLANTED}:constant(height=0.99)': 'learning rate of the kernels 1% lower',
}
JITTERED = [name for estimator, name in SAME.items() if estimator != 'ste']
DIFFERENT = {
    f'{_PLANTED}:constant(height=1.1)': 'alpha wrong by 10%',
    f'{_PLANTED}:constant(height=0.9)': 'alpha wrong by -10%',
    f'{_PLANTED}:constant(height=2.0)': 'slope wrong by a factor of 2',
    f'{_PLANTED}:constant(height=0.5)': 'slope wrong by a factor of 1/2',
    f'{_PLANTED}:dsq_of_alpha_1(k=6.5)': 'M left out',
}
HARD = list(DIFFERENT.values())[:2]  # a wrong alpha; the others are far away
ADAM = ('optimizer=adam(b2=0.95)', 'learning_rate=1e-3')
WRONG_RECIPE = "SGD's recipe under Adam"
SWEEPS = (
    Sweep('same', (f'estimator={"|".join(SAME)}',), ('twins=naive_ste,jitter',), seeds=30),
    Sweep('different', (f'estimator={"|".join(DIFFERENT)}',), ('twins=naive_ste,jitter',), seeds=10),
    Sweep('adam', ('estimator=dsq(k=6.5)',), (*ADAM, 'twins=map_ste,jitter'), seeds=8),
)


def of(row: dict) -> str:
    """What is the same, or is not, in the run of a row."""
    return {**SAME, **DIFFERENT}.get(row['estimator'], WRONG_RECIPE)


def answers(rows: list[dict]) -> dict[str, dict[str, int]]:
    """By what was planted: how many runs gave each answer."""
    runs = grouped([row for row in rows if row['twin'] == 'jitter'], ['part', 'estimator'])
    return {
        of(of_one[0]): {answer: sum(row['verdict'].startswith(answer) for row in of_one) for answer in ANSWERS}
        for of_one in runs.values()
    }


def ratios(rows: list[dict]) -> dict[str, list[float]]:
    """By what was planted: the error of the twin over that of jitter at the end, a seed each."""
    found = {}
    for of_run in grouped(rows, ['part', 'estimator', 'seed']).values():
        errors = {row['twin']: row[ERROR] for row in of_run}
        jitter = errors.pop('jitter')
        found.setdefault(of(of_run[0]), []).extend(error / jitter for error in errors.values())
    return found


def largest(rows: list[dict]) -> dict[str, list[float]]:
    """By what was planted: the largest ratio of a run, by which the verdict decides, as it says; a seed each."""
    found = {}
    for row in rows:
        if row['twin'] == 'jitter':
            said = _RATIO.search(row['verdict'])
            found.setdefault(of(row), []).append(float(said[1] or 1) if said else 0.0)  # 0: exactly STE
    return found


def other_seeds(rows: list[dict]) -> tuple[int, int]:
    """How many ordered pairs of seeds have jitters that the limit tells apart, and of how many pairs."""
    pairs = [
        (one[ERROR], other[ERROR])
        for of_one in grouped([row for row in rows if row['twin'] == 'jitter'], ['part', 'estimator']).values()
        for one in of_one
        for other in of_one
        if one is not other
    ]
    return sum(one > LIMIT * other for one, other in pairs), len(pairs)


def told_apart(rows: list[dict], names) -> tuple[int, int]:
    """Of some of what was planted: the runs that say 'no', and all runs."""
    counts = [counts for name, counts in answers(rows).items() if name in names]
    return sum(found[NO] for found in counts), sum(sum(found.values()) for found in counts)


def at_most(hits: int, runs: int) -> float:
    """The largest rate, with 95% confidence, at which so few hits come of so many runs (exact, one-sided)."""
    return float(stats.binomtest(hits, runs, alternative='less').proportion_ci(CONFIDENCE).high)


def stated(rows: list[dict]) -> list:
    """What the page has to state."""
    false, hard, all_of_them = told_apart(rows, JITTERED), told_apart(rows, HARD), told_apart(rows, DIFFERENT.values())
    missed, of_hard = (all_of_them[1] - all_of_them[0], all_of_them[1]), (hard[1] - hard[0], hard[1])
    found, of_adam = largest(rows), told_apart(rows, [WRONG_RECIPE])
    said = [f'{JITTER - 1:.0%}', LIMIT, FEWEST_CHANGES, false, f'{at_most(*false):.1%}', '95%']
    said += [told_apart(rows, [SAME['ste']]), other_seeds(rows), '10%', of_hard, f'{at_most(*of_hard):.1%}', missed]
    said += [of_adam, max(max(found[name]) for name in JITTERED), min(min(found[name]) for name in HARD)]
    return said


def figure(rows: list[dict]) -> Figure:
    """The largest ratio of every run, a point a seed."""
    found = {name: values for name, values in largest(rows).items() if any(values)}
    drawn = figures.empty(8.5, 1 + 0.42 * len(found))
    axis = drawn.subplots()
    for line, (name, values) in enumerate(found.items()):
        colour = figures.colour('jitter' if name in SAME.values() else 'naive_ste')
        axis.plot(values, [line] * len(values), 'o', ms=4, alpha=0.6, color=colour)
    axis.axvline(LIMIT, color='#999999', ls=':')
    axis.set(xscale='log', yticks=range(len(found)), yticklabels=list(found))
    axis.invert_yaxis()
    figures.styled(axis, 'The same (green), different (orange)', 'largest ratio of the error to that of jitter', '')
    return drawn


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """A line for everything that was planted."""
    ratio = largest(rows)
    at_the_end = {name: interval(values, log=True) for name, values in ratios(rows).items()}
    lines = [
        [
            name,
            *map(str, counts.values()),
            f'{min(ratio[name]):.2g} to {max(ratio[name]):.2g}',
            with_interval(at_the_end[name]),
        ]
        for name, counts in answers(rows).items()
    ]
    header = ['what was planted', *(f'"{answer}"' for answer in ANSWERS)]
    return [*header, 'largest ratio of a run', 'ratio at the end'], lines
