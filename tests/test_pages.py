"""Every number on the committed pages is the one in the files beside them."""

import importlib
import math
import pathlib
import re

import numpy as np
import pytest

from configs import common
from experiments.results.metrics import METRICS
from experiments.results.pages import number, with_interval
from experiments.results.statistics import Estimate, interval
from experiments.sweeps.report import ERROR, grouped
from experiments.workdir.files import read_json
from qat import estimators, optimizers
from qat.lockstep.verdict import LIMIT
from qat.quantizers import UniformQuantizer
from qat.theory import small_parameters
from qat.theory.small_parameters import SLOPE_CHANGE_WARNING
from scripts import real_settings
from scripts.studies import (
    calibration,
    convergence,
    decay,
    kappa,
    matrix,
    paper_table,
    placement,
    stableqat,
    study,
)
from scripts.study import NAMES

RESULTS = pathlib.Path('docs/results')
STUDIES = tuple(importlib.import_module(f'scripts.studies.{name}') for name in NAMES)
DSQ = 'dsq(k=6.5)'
RUNS = sorted(path.parent for path in RESULTS.glob('*/*/summary.json'))


def committed(module) -> pathlib.Path:
    return RESULTS / module.__name__.rpartition('.')[2]


def stated(module) -> str:
    """What people wrote on a study's page, less its words: the numbers, and the code spans that have a digit."""
    _, text = (committed(module) / 'README.md').read_text().split(study.BEGIN)[0].split('\n', 1)
    found = re.findall(
        r'`[^`]+`|(?<!\w)-?\d+(?:\.\d+)?(?:e-\d+)?%?(?: \[[^]]+\])?(?: \(n = \d+\))?', ' '.join(text.split())
    )
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


@pytest.mark.parametrize('module', STUDIES)
def test_a_page_states_what_its_files_say(module):
    assert stated(module) == said(module.stated(study.rows(module, committed(module))))


def test_what_pages_claim_in_words():
    rows = {module: study.rows(module, committed(module)) for module in STUDIES}

    main, kink = rows[convergence], convergence.beside_the_kink(rows[convergence])
    kinked, *blunted = convergence.orders(kink, 'ste', convergence.KINK).values()
    beside = convergence.relative_orders(kink, convergence.KINK).values()
    assert not any(found.value for found in convergence.ratios(main)['ste'])
    assert convergence.orders(main, 'ste', convergence.LARGE)['mad'].low < 0
    assert all(found.low > kinked.high for found in blunted)
    assert max(found.low for found in beside) < min(found.high for found in beside)

    settings = kappa.settings(rows[kappa], 'kappa')
    assert not kappa.at_equal_kappa([found for found in settings if found.beta2 >= kappa.BETA1['kappa']])

    adam, sgd = matrix.LIMITS
    plain, under_adam = matrix.limit_orders(rows[matrix], sgd, False), matrix.limit_orders(rows[matrix], adam)
    assert all(plain[DSQ].low > plain[name].high and plain[name].low < 0 for name in matrix.CONTROLS)
    assert all(found.low <= 0 <= found.high for found in under_adam.values())
    cells = matrix.cells(rows[matrix])
    assert [name for name in matrix.CONTROLS if not cells[name, 'signsgd'].ratios.any()] == [*matrix.CONTROLS[:3]]

    _, adam = paper_table.OPTIMIZERS
    assert paper_table.ratio(rows[paper_table], adam, 'naive', 'default') == (1, 1, 1, 5)

    orders, relative = placement.orders(rows[placement]), placement.relative_orders(rows[placement])
    for optimizer in placement.RATES:
        assert placement.gained(rows[placement], optimizer).low > 0
        assert orders[optimizer, 'update'].low < 0.3 and relative[optimizer, 'update'].low < 0

    planted = calibration.told_apart(rows[calibration], calibration.DIFFERENT.values())
    false = calibration.told_apart(
        rows[calibration], [name for name in calibration.SAME.values() if name != calibration.SAME['ste']]
    )
    assert calibration.at_most(*false) <= 0.05 and planted[0] >= 0.9 * planted[1]

    for part in ('sgd', 'adam'):
        (plain, _), *others = (study.orders(rows[decay], part, twin) for twin in decay.PARTS[part][3])
        assert all(plain.low > other.high and other.low < 0.05 for other, _ in others)
    assert study.orders(rows[decay], 'sgd', 'ste')[1].low > 0

    sgd, _ = stableqat.RATES
    at_equal_rates, by_the_recipe = (stableqat.overall(rows[stableqat], twin, sgd) for twin in stableqat.TWINS)
    assert at_equal_rates.low > by_the_recipe.high and by_the_recipe.low <= 0 <= by_the_recipe.high


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


def test_real_settings_are_shown_as_they_are_computed():
    assert real_settings.PAGE.read_text() == real_settings.page()
    _, _, rest = real_settings.README.read_text().partition(real_settings.BEGIN)
    assert rest.partition(real_settings.END)[0] == f'\n\n{real_settings.summary()}\n\n'
    int4, _, ternary, cnn = real_settings.SETTINGS
    assert int4.kappa == pytest.approx(2e-5 / (1e-3 * 2 * 0.06 / 15)) and cnn.kappa == pytest.approx(20)
    assert ternary.slope_change == pytest.approx(
        2 * 5 * math.tanh(2.5) * 1.2e-3 / (0.05 * 0.02 * (2 / math.pi) ** 0.5), rel=1e-3
    )


def by_slope_change(rows: list[dict]) -> list[tuple[float, float]]:
    """(slope change of conv2, error of `ste` in units of `jitter`) of every setting in which a slope has to cancel.

    Left out: constant slopes, optimizers without a memory, a numerator that remembers longer, and weight decay.
    """
    defaults = {'estimator': DSQ, 'optimizer': 'adam(b2=0.95)', 'weight_decay': '0'}
    keys, found = ('part', *defaults, 'learning_rate'), []
    step = float(UniformQuantizer(2).step_size((6 / kappa.FAN_IN) ** 0.5))
    for (_, estimator, name, decayed, rate), of_one in grouped([defaults | row for row in rows], keys).items():
        optimizer = optimizers.parse(name)
        of_memory = small_parameters.kappa(optimizer, float(rate), step)
        if of_memory is None or small_parameters.longer_numerator(optimizer) or decayed != '0':
            continue
        change = small_parameters.slope_change(estimators.parse(estimator, 2), of_memory)
        ste, jitter = (np.array([row[ERROR] for row in of_one if row['twin'] == twin]) for twin in ('ste', 'jitter'))
        if change:
            found.append((change, interval(ste / jitter, log=True).value))
    return found


def test_a_run_warns_where_a_verdict_was_seen_to_change():
    parts = {convergence: ('adam', 'adam-large'), kappa: tuple(kappa.BETA1), matrix: ('with-recipe',)}
    rows = [row for of, names in parts.items() for row in study.rows(of, committed(of)) if row['part'] in names]
    found = by_slope_change([row for row in rows if row['twin'] in ('ste', 'jitter')])
    calm = [ratio for change, ratio in found if change <= SLOPE_CHANGE_WARNING]
    warned = [ratio for change, ratio in found if change > SLOPE_CHANGE_WARNING]
    assert max(calm) < LIMIT < max(warned)
    above = f'above it up to {max(warned):.2f} times in {len(warned)}'
    said = f'at most {max(calm):.2f} times that of `jitter` in {len(calm)} settings, {above}'
    assert said in ' '.join(pathlib.Path('docs/theory.md').read_text().split())


def test_the_list_of_pages_is_whole():
    titles = {path: path.read_text().splitlines()[0].lstrip('# ') for path in sorted(RESULTS.glob('*/README.md'))}
    lines = [f'- [{title}]({path.relative_to(RESULTS)})' for path, title in titles.items()]
    assert (RESULTS / 'README.md').read_text() == '\n'.join(['# What was measured', '', *lines]) + '\n'
