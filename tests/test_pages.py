"""Every number on the committed pages is the one in the files beside them."""

import itertools
import pathlib
import re

import pytest

from configs import common
from experiments.results.metrics import METRICS
from experiments.results.pages import number, with_interval
from experiments.setup.settings import KAPPA_WARNING
from experiments.sweeps.report import ERROR
from experiments.workdir.files import read_json
from qat import estimators
from qat.lockstep.twins import JITTER
from qat.theory.weight_map import alpha
from scripts.studies import convergence, kappa, matrix, paper_table, placement, stableqat, study

RESULTS = pathlib.Path('docs/results')
STUDIES = (convergence, kappa, matrix, paper_table, placement, stableqat)
RUNS = sorted(path.parent for path in RESULTS.glob('*/*/summary.json'))


def committed(module) -> pathlib.Path:
    return RESULTS / module.__name__.rpartition('.')[2]


def stated(module) -> str:
    """What people wrote on a study's page, less its words: the numbers, and the code spans that have a digit."""
    _, text = (committed(module) / 'README.md').read_text().split(study.BEGIN)[0].split('\n', 1)
    found = re.findall(r'`[^`]+`|(?<!\w)-?\d+(?:\.\d+)?%?(?: \[[^]]+\])?', ' '.join(text.split()))
    return ' '.join(token for token in found if re.search(r'\d', token))


def between(values) -> str:
    return f'{number(min(values))} {number(max(values))}'


def test_convergence():
    rows = study.rows(convergence, committed(convergence))
    found = convergence.orders(rows, 'ste')
    errors = {twin: convergence.by_estimator(rows, twin) for twin in convergence.TWINS}
    assert found.pop('ste') is None and not any(map(any, errors['ste']['ste'][1]))
    ste, jitter = ([*itertools.chain(*errors[twin]['mad'][1])] for twin in convergence.TWINS)
    assert found.pop('mad')
    slowest, *_, fastest = sorted(found, key=lambda name: found[name][0])
    assert [name for name in found if found[name][0] < 0.7] == [slowest] == [convergence.KINKED]
    kinked, *blunted = convergence.orders_beside_the_kink(rows).values()
    assert all(low > kinked[0] for _, low, _ in blunted)
    one, other = convergence.BLUNTED
    (length,) = {f'{rate * steps:.0f}' for rate, steps in convergence.RATES.items()}
    assert stated(convergence) == (
        f'{length} {with_interval(found[slowest])} `{slowest}` {with_interval(found[fastest])} `{fastest}` '
        f'{sum(low > 0.4 for _, low, _ in found.values())} {len(found)} 0.4 0 '
        f'{sum(a < b for a, b in zip(ste, jitter))} {len(ste)} 0.7 {number(found[slowest][0])} `{slowest}` '
        f'{min(convergence.KINK_RATES)} {with_interval(kinked)} `{slowest}` {with_interval(blunted[0])} `{one}` '
        f'{with_interval(blunted[1])} `{other}`'
    )


def test_kappa():
    rows = study.rows(kappa, committed(kappa))
    main, without = (kappa.settings(rows, part) for part in kappa.BETA1)
    every = [
        kappa.correlations(found)
        for found in (main, [setting for setting in main if setting.beta2 >= kappa.BETA1['kappa']], without)
    ]
    assert [found['kappa'] >= 0.95 for found in every] == [False, True, True]
    whole, longer, none = (' '.join(map(number, found.values())) for found in every)
    calm = [setting.error[0] for setting in main if setting.kappa <= KAPPA_WARNING]
    wild = [setting.error[0] for setting in main if setting.kappa > KAPPA_WARNING]
    shortest = min(kappa.BETA2)
    at_shortest, at_shortest_without = (
        ' '.join(number(setting.error[0]) for setting in found if setting.beta2 == shortest)
        for found in (main, without)
    )
    assert stated(kappa) == (
        f'`(1 - beta2) D` 6.5 `beta1=0.9` {whole} `1 / (1 - beta2)` 0.95 {KAPPA_WARNING} {between(calm)} '
        f'{between(wild)} `beta1=0.9` `beta2={shortest}` {longer} `beta1=0` {none} `beta2={shortest}` {at_shortest} '
        f'`beta1=0.9` {at_shortest_without} `beta1=0`'
    )


def test_matrix():
    rows = study.rows(matrix, committed(matrix))
    cells = matrix.cells(rows)
    optimizers = {optimizer: cells['dsq(k=6.5)', optimizer].recipe for _, optimizer in cells}
    linear = [name for name, recipe in optimizers.items() if recipe and name.startswith('sgd')]
    normalising = [name for name, recipe in optimizers.items() if recipe and not name.startswith('sgd')]
    ratios = matrix.covered(cells, [*linear, *normalising])
    worst = max(ratios, key=ratios.get)

    def beside(columns) -> str:
        text = f'{len(columns)} {between(matrix.covered(cells, columns).values())}'
        for control in matrix.CONTROLS:
            name, of = (f' `{control}`' if '(' in control else ''), (f' {len(columns)}' if 'ewgs' in control else '')
            reached = between([cells[control, optimizer].ratio[0] for optimizer in columns])
            text += f'{name} {reached} {len(matrix.separating(cells, control, columns))}{of}'
        return text

    def limit(optimizer) -> str:
        found = matrix.limit_orders(rows, optimizer).items()
        return ' '.join(
            f'{with_interval(value)} `{name}`' if '(' in name else with_interval(value) for name, value in found
        )

    exact = [control for control in matrix.CONTROLS if not any(cells[control, 'signsgd'].ratio)]
    assert exact == [*matrix.CONTROLS[:3]]
    without = matrix.covered(cells, [name for name, recipe in optimizers.items() if not recipe]).values()
    moved = sorted(row['moved_fraction'] for row in matrix.of_matrix(rows) if row['twin'] == 'jitter')
    adam, sgd = matrix.LIMITS
    assert stated(matrix) == (
        f'{JITTER - 1:.0%} {number(ratios[worst])} `{worst[0]}` `{worst[1]}` {matrix.JITTER_MULTIPLE} '
        f'{sum(ratio <= matrix.JITTER_MULTIPLE for ratio in ratios.values())} {len(ratios)} {beside(linear)} '
        f'{beside(normalising)} 0 `{adam}` {limit(adam)} `{sgd}` {limit(sgd)} {between(without)} '
        f'{moved[0]:.1%} {moved[-1]:.1%} {moved[len(moved) // 2]:.1%}'
    )


def test_paper_table():
    rows = study.rows(paper_table, committed(paper_table))
    errors = {bits: paper_table.cells(rows, ERROR, bits) for bits in paper_table.BITS}
    moved = paper_table.cells(rows, paper_table.MOVED)
    sgd, adam = paper_table.OPTIMIZERS
    assert all(found[adam, 'default'] == found[adam, 'naive'] for found in errors.values())
    seeds = {part.name: part.seeds for part in paper_table.SWEEPS}

    def shown(bits, optimizer, *columns) -> str:
        return ' '.join(with_interval(errors[bits][optimizer, column]) for column in columns)

    def main(optimizer, last) -> str:
        before = shown('2', optimizer, 'default', 'jitter', 'scaledown')
        after = f'{shown("2", optimizer, last)} {with_interval(moved[optimizer, "default"])}'
        return f'{before} {seeds[paper_table.SCALEDOWN]} {after}'

    def other(bits) -> str:
        under_sgd, under_adam = shown(bits, sgd, 'default', 'jitter', 'naive'), shown(bits, adam, 'default', 'jitter')
        return f'{bits} {seeds[paper_table.OTHER_BITS]} {under_sgd} {under_adam}'

    assert stated(paper_table) == (
        f'{paper_table.EPOCHS} 100 128 2 {JITTER} {main(sgd, "naive")} {main(adam, "map")} {other("1")} {other("4")}'
    )


def test_placement():
    rows = study.rows(placement, committed(placement))
    orders, beside = placement.orders(rows), placement.beside_jitter(rows)
    texts = []
    for optimizer in placement.RATES:
        gradient, update = (orders[optimizer, name] for name in placement.TWINS)
        assert update[1] > gradient[2] and (update[1] > 0.3) == optimizer.startswith('adafactor')
        ratios = ' '.join(between(beside[optimizer, name]) for name in placement.TWINS)
        texts.append(f'{with_interval(gradient)} {with_interval(update)} 0.3 {ratios}')
    assert stated(placement) == f'6.5 {" ".join(texts)}'


def test_stableqat():
    rows = study.rows(stableqat, committed(stableqat))
    texts = []
    for optimizer, rates in stableqat.RATES.items():
        text, errors = [f'`{optimizer}` 95%'], []
        for twin in stableqat.TWINS:
            found = stableqat.means(rows, twin, stableqat.error).items()
            errors.append([mean for (name, _), (mean, *_) in found if name == optimizer])
            text.append(f'{stableqat.differing(rows, twin, optimizer)} {len(rates)} {between(errors[-1])}')
        texts.append(text)
    (sgd, *under_sgd), (adamw, naive, recipe) = texts
    assert naive == recipe and errors[0] == errors[1]  # of AdamW, the last optimizer
    slope = alpha(estimators.make('rdfs', 2, A=0.21))
    assert stated(stableqat) == f'2601.19320 {slope:.2f} {stableqat.STEPS} {sgd} {" ".join(under_sgd)} {adamw} {naive}'


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
