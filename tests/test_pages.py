"""Every number on the committed pages is the one in the files beside them."""

import pathlib
import re

import pytest

from configs import common
from experiments.results.metrics import METRICS
from experiments.results.pages import number, with_interval
from experiments.results.statistics import Estimate
from experiments.sweeps.report import ERROR
from experiments.workdir.files import read_json
from qat import estimators
from qat.lockstep.twins import JITTER
from qat.theory.small_parameters import KAPPA_WARNING
from qat.theory.weight_map import alpha
from scripts.studies import convergence, kappa, matrix, paper_table, placement, stableqat, study

RESULTS = pathlib.Path('docs/results')
STUDIES = (convergence, kappa, matrix, paper_table, placement, stableqat)
DSQ = 'dsq(k=6.5)'
RUNS = sorted(path.parent for path in RESULTS.glob('*/*/summary.json'))


def committed(module) -> pathlib.Path:
    return RESULTS / module.__name__.rpartition('.')[2]


def stated(module) -> str:
    """What people wrote on a study's page, less its words: the numbers, and the code spans that have a digit."""
    _, text = (committed(module) / 'README.md').read_text().split(study.BEGIN)[0].split('\n', 1)
    found = re.findall(r'`[^`]+`|(?<!\w)-?\d+(?:\.\d+)?%?(?: \[[^]]+\])?(?: \(n = \d+\))?', ' '.join(text.split()))
    return ' '.join(token for token in found if re.search(r'\d', token))


def said(*facts) -> str:
    """Facts as `stated` finds them: estimates with their intervals, other floats in three digits, lists one by one."""
    texts = []
    for fact in facts:
        if isinstance(fact, Estimate):
            texts.append(with_interval(fact))
        elif isinstance(fact, list | tuple):
            texts.append(said(*fact))
        else:
            texts.append(f'{fact:.3g}' if isinstance(fact, float) else str(fact))
    return ' '.join(text for text in texts if re.search(r'\d', text))


def code(name: str) -> str:
    return f'`{name}`'


def ends(estimates) -> tuple[float, float]:
    """The least and the largest value."""
    values = [found.value for found in estimates]
    return min(values), max(values)


def test_kappa():
    rows = study.rows(kappa, committed(kappa))
    parts = [kappa.settings(rows, part) for part in kappa.BETA1]
    beta1 = [f'`beta1={value:g}`' for value in kappa.BETA1.values()]
    short, middle, _ = (f'`beta2={value}`' for value in kappa.BETA2)
    (low, high), without = kappa.at_equal_kappa(parts[0]).items(), kappa.at_equal_kappa(parts[1])
    assert not kappa.at_equal_kappa([found for found in parts[0] if found.beta2 >= kappa.BETA1['kappa']])
    at_short = [[found.error.value for found in part if found.beta2 == min(kappa.BETA2)] for part in parts]
    calm, wild = zip(*map(kappa.told_apart, parts))
    assert stated(kappa) == said(
        *('`(1 - beta2) D`', 6.5, beta1[0], short, low[1], middle, low[0], high[1], high[0], beta1[1]),
        *(list(without.values()), beta1[0], short, short, at_short[0], beta1[0], at_short[1], beta1[1]),
        *(KAPPA_WARNING, calm[0], beta1[0], calm[1], beta1[1], wild, beta1[1], beta1[0], '`beta2`', 0.95),
    )


def test_matrix():
    rows = study.rows(matrix, committed(matrix))
    cells = matrix.cells(rows)
    classes = matrix.by_class(cells)
    covered = {name: matrix.covered(cells, optimizers).values() for name, optimizers in classes.items()}
    recipes = {key: cells[key].ratio for key in matrix.covered(cells, classes['map'] + classes['identity'])}
    worst = max(recipes, key=recipes.get)

    def beside(name):
        found = [len(classes[name]), min(covered[name]), max(covered[name])]
        for control in matrix.CONTROLS:
            ratios = ends(cells[control, optimizer].ratio for optimizer in classes[name])
            found += [code(control), ratios, len(matrix.separating(cells, control, classes[name]))]
        return found

    def limit(optimizer):
        found = matrix.limit_orders(rows, optimizer, relative=False)
        return code(optimizer), [(estimate, code(name)) for name, estimate in found.items()]

    adam, sgd = matrix.LIMITS
    plain, under_sgd, under_adam = (matrix.limit_orders(rows, *which) for which in ((sgd, False), (sgd,), (adam,)))
    assert all(plain[DSQ].low > plain[name].high > 0 > plain[name].low for name in matrix.CONTROLS)
    assert [name for name, found in under_adam.items() if not found.low <= 0 <= found.high] == [DSQ]
    assert [name for name in matrix.CONTROLS if not cells[name, 'signsgd'].ratios.any()] == [*matrix.CONTROLS[:3]]
    moved = sorted(row['moved_fraction'] for row in matrix.of_matrix(rows) if row['twin'] == 'jitter')
    within = [sum(getattr(found, end) <= matrix.NEAR for found in recipes.values()) for end in ('value', 'high')]
    assert stated(matrix) == said(
        *(f'{JITTER - 1:.0%}', recipes[worst], [*map(code, worst)], matrix.NEAR, within[0], len(recipes), within[1]),
        *(beside('map'), beside('identity'), 0, 0, limit(sgd), 0, code(DSQ), under_sgd[DSQ]),
        *(limit(adam), code(DSQ), under_adam[DSQ], 0, min(covered['none']), max(covered['none'])),
        *(f'{moved[place]:.1%}' for place in (0, -1, len(moved) // 2)),
    )


def test_paper_table():
    rows = study.rows(paper_table, committed(paper_table))
    errors = {bits: paper_table.cells(rows, ERROR, bits) for bits in paper_table.BITS}
    moved = paper_table.cells(rows, paper_table.MOVED)
    sgd, adam = paper_table.OPTIMIZERS
    assert all(found[adam, 'default'] == found[adam, 'naive'] for found in errors.values())

    def shown(bits, optimizer, *columns):
        return [errors[bits][optimizer, column] for column in columns]

    def main(optimizer, last):
        ratios = [paper_table.ratio(rows, optimizer, *pair) for pair in (('default', 'jitter'), (last, 'default'))]
        return *shown('2', optimizer, 'default', 'jitter', 'scaledown', last), *ratios, moved[optimizer, 'default']

    def other(bits):
        return bits, *shown(bits, sgd, 'default', 'jitter', 'naive'), *shown(bits, adam, 'default', 'jitter')

    assert stated(paper_table) == said(
        paper_table.EPOCHS, 100, 128, 2, JITTER, main(sgd, 'naive'), main(adam, 'map'), 1, 4, other('1'), other('4')
    )


def test_placement():
    rows = study.rows(placement, committed(placement))
    orders, relative, ratios = placement.orders(rows), placement.relative_orders(rows), placement.ratios(rows)
    facts = []
    for optimizer in placement.RATES:
        gradient, update = ((optimizer, name) for name in placement.TWINS)
        gained = placement.gained(rows, optimizer)
        assert gained.low > 0 and update[1] == 'update' and orders[update].low < 0.3 and relative[update].low < 0
        facts += [code(optimizer), orders[gradient], ends(ratios[gradient]), orders[update], gained]
        facts += [ends(ratios[update]), relative[update]]
    assert stated(placement) == said(6.5, facts, f'{JITTER - 1:.0%}', 0.3, orders[update].low)


def test_stableqat():
    rows = study.rows(stableqat, committed(stableqat))
    facts = {}
    for optimizer, rates in stableqat.RATES.items():
        for twin in stableqat.TWINS:
            advantages, errors = (
                [found for (name, _), found in stableqat.means(rows, twin, value).items() if name == optimizer]
                for value in (stableqat.advantage, stableqat.error)
            )
            reached = min(found.low for found in advantages), max(found.high for found in advantages)
            facts[optimizer, twin] = stableqat.differing(rows, twin, optimizer), len(rates), *reached, ends(errors)
    (differing, settings, lowest, _, errors), recipe, naive, same = facts.values()
    assert naive == same and lowest > 0  # STE the more accurate
    slope = alpha(estimators.make('rdfs', 2, A=0.21))
    assert stated(stableqat) == said(
        *('2601.19320', f'{slope:.2f}', stableqat.STEPS, '`sgd(momentum=0.9)`', '95%', differing, settings, errors),
        *(recipe, '`adamw(b2=0.95)`', same, 1, settings, 1, settings),
    )


@pytest.mark.parametrize('module', STUDIES)
def test_the_table_is_that_of_the_files_beside_it(module):
    page = (committed(module) / 'README.md').read_text()
    assert page.partition(study.BEGIN)[2] == f'\n\n{study.rendered(module, committed(module))}\n\n{study.END}\n'


@pytest.mark.parametrize('directory', RUNS, ids=lambda path: path.name)
def test_a_page_of_runs_shows_what_the_runs_left(directory):
    page = (directory.parent / 'README.md').read_text()
    text = page.partition(f'\n## {directory.name}: ')[2].partition('\n## ')[0]
    names = ('summary', 'config', 'timing', 'environment')
    summary, config, timing, environment = (read_json(directory / f'{name}.json') for name in names)
    assert text.startswith(f'{config["estimator"]} under {config["optimizer"]}\n\n{summary["verdict"]}\n')
    assert f'```\n{environment["command"]}\n```' in text
    defaults = common.get_config().to_dict()
    changed = [f'`{key}={config[key]}`' for key in config if key != 'name' and config[key] != defaults[key]]
    versions = f'Python {environment["python"]}, jax {environment["versions"]["jax"]}'
    assert f'`configs/common.py`: {", ".join(changed)}.\n' in text
    assert f'{summary["steps"]:,} steps, {number(timing["steps_per_second"])} a second' in text
    assert f'({environment["devices"]}); {versions}.' in text
    table = [[cell.strip() for cell in line[1:-1].split('|')] for line in text.splitlines() if line.startswith('| ')]
    reference, twins = summary['reference'], summary['twins']
    assert table == [
        ['metric', 'reference', *twins],
        *(
            [key, number(reference[key]) if key in reference else '', *(number(twin[key]) for twin in twins.values())]
            for key in METRICS
            if key in summary['twins']['jitter']  # a metric may be newer
        ),
    ]
    assert all((directory.parent / link).exists() for link in re.findall(r'\]\((\S+\.png)\)', text))


def test_what_is_said_of_the_runs():
    rows = (RESULTS / 'mnist' / 'README.md').read_text().partition('## The rows\n\n')[2]
    measured = read_json(RESULTS / 'mnist' / 'mnist-sgd' / 'summary.json')['twins']['jitter']  # a metric may be newer
    lines = [f'- `{key}`: {metric.meaning}' for key, metric in METRICS.items() if key in measured]
    assert rows.splitlines() == lines
    for optimizer, nearer in (('sgd', 0.95), ('adam', 0.8)):
        twins = read_json(RESULTS / 'mnist_resnet50' / f'mnist-resnet50-{optimizer}' / 'summary.json')['twins']
        assert twins['jitter'][ERROR] > nearer * twins['ste'][ERROR]
        assert optimizer == 'adam' or twins['naive_ste'][ERROR] > 1.5 * twins['ste'][ERROR]


def test_the_list_of_pages_is_whole():
    titles = {path: path.read_text().splitlines()[0].lstrip('# ') for path in sorted(RESULTS.glob('*/README.md'))}
    lines = [f'- [{title}]({path.relative_to(RESULTS)})' for path, title in titles.items()]
    assert (RESULTS / 'README.md').read_text() == '\n'.join(['# What was measured', '', *lines]) + '\n'
