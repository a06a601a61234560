"""Studies: their pages say what their runs say, and their committed numbers come out again."""

import csv
import importlib
import itertools
import pathlib

import jax
import pytest

from experiments import train
from experiments.data import prepared
from experiments.results import statistics
from experiments.results.metrics import METRICS
from experiments.sweeps import plan
from experiments.sweeps.report import ERROR
from experiments.training import programs
from experiments.workdir.files import read_json
from scripts import study as command_line
from scripts.studies import convergence, kappa, matrix, placement, stableqat

STUDIES = {name: importlib.import_module(f'scripts.studies.{name}').STUDY for name in command_line.NAMES}
RESULTS = pathlib.Path('docs/results')


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch):
    """Made-up rows have no spread worth the time."""
    monkeypatch.setattr(statistics, '_RESAMPLES', 99)


def made_up(name, error) -> list[dict]:
    """Rows of a study as if it had run; `error(values, twin, part)` is the alignment error."""
    found = []
    for part in STUDIES[name].sweeps:
        given = dict(text.split('=', 1) for text in part.overrides)
        for combination in itertools.product(*map(plan.parse, part.grids)):
            values = {key: value for alternative in combination for key, value in alternative.items()}
            twins = {**given, **values}['twins'].split(',')
            for seed, twin in itertools.product(range(part.seeds or STUDIES[name].seeds), twins):
                metrics = dict.fromkeys(METRICS, 0.5) | {ERROR: error(values, twin, part.name)}
                reference = {'reference_accuracy': 0.5, 'reference_loss': 1.0}
                found.append({'part': part.name, **values, 'seed': str(seed), **reference, 'twin': twin, **metrics})
    return found


@pytest.mark.parametrize('name', STUDIES)
def test_a_page_has_a_figure_a_table_and_findings(name):
    rows = made_up(name, lambda values, twin, part: float(values.get('learning_rate', 1)))
    made = STUDIES[name]
    assert made.figure(rows).axes
    header, lines = made.table(rows)
    assert lines and all(len(line) == len(header) for line in lines)
    assert made.findings(rows) and all(found[-1] == '.' for found in made.findings(rows))


def test_convergence_finds_the_order_that_is_there():
    def error(values, twin, part):
        order = 0.5 if values['estimator'].startswith('sine') else 0.9
        return 0.0 if values['estimator'] == 'ste' and twin == 'ste' else float(values['learning_rate']) ** order

    rows = made_up('convergence', error)
    found = convergence.orders(rows, 'ste')
    assert found['ste'] is None
    assert found['sine(lam=0.6)'] == pytest.approx((0.5, 0.5, 0.5))
    assert found['dsq(k=6.5)'] == pytest.approx((0.9, 0.9, 0.9))
    text = ' '.join(convergence.findings(rows))
    assert '5 of 5 intervals' in text and 'Exactly 0 at every learning rate: `ste`' in text
    assert 'Below an order of 0.7: `sine(lam=0.6)` (0.5)' in text


def test_the_matrix_says_which_controls_separate():
    def error(values, twin, part):
        if part.startswith('limit'):
            return float(values['learning_rate']) ** (0.5 if twin == 'naive_ste' else 0.75)
        if twin == 'jitter':
            return 0.1
        if values['estimator'].startswith('swish_sign'):
            return 0.9
        if values['estimator'] == 'ede' and values.get('optimizer') == 'signsgd':
            return 0.0
        return 0.2

    _, under_sgd, under_adam, limit, *_ = matrix.findings(made_up('matrix', error))
    for text, optimizers in ((under_sgd, 2), (under_adam, 5)):
        swish, ede = (_sentence(text, f'`{control}` lies') for control in ('swish_sign(b=5)', 'ede'))
        assert 'between 9 and 9' in swish and f'above every covered estimator in {optimizers} of {optimizers}' in swish
        assert f'in 0 of {optimizers}' in ede
    assert 'between 0 and 2' in _sentence(under_adam, '`ede` lies') and 'Exactly 0 under `signsgd`' in under_adam
    assert (
        limit.count(' 0.5 for `swish_sign(b=5)` (`naive_ste`)') == 2
        and limit.count(' 0.75 for `dsq(k=6.5)` (`ste`)') == 1
    )


def _sentence(text: str, words: str) -> str:
    return next(sentence for sentence in text.split('The negative control ') if words in sentence)


def test_kappa_is_found_to_order_the_errors_when_it_does():
    first, _, cause, _ = kappa.findings(made_up('kappa', lambda values, twin, part: kappa.kappa(values)))
    assert first.startswith("Spearman's rank correlation of the error with kappa at 1,")
    assert cause.count('with kappa at 1,') == 2
    first, *_ = kappa.findings(made_up('kappa', lambda values, twin, part: float(values['learning_rate'])))
    assert 'with the learning rate at 1,' in first and 'with kappa at 1,' not in first


def test_placement_update_is_told_from_gradient_by_its_order():
    def error(values, twin, part):
        return float(values['learning_rate']) ** (0.6 if part == 'update' else 0.0)

    said = placement.findings(made_up('placement', error))
    assert len(said) == 2 and all('differ beyond both intervals' in text and 'is reached' in text for text in said)
    none = placement.findings(made_up('placement', lambda values, twin, part: 0.3))
    assert all('not beyond the intervals' in text and 'not reached' in text and '1 to 1' in text for text in none)


def test_stableqat_counts_the_settings_that_differ():
    rows = made_up('stableqat', lambda values, twin, part: 0.1)
    for row in rows:
        if row['twin'] == 'naive_ste' and row['optimizer'].startswith('sgd'):
            row['accuracy'] = 0.7
    under_sgd, under_adamw = stableqat.findings(rows)
    assert 'in 4 of 4 settings' in under_sgd and 'in 0 of 4 settings' in under_adamw


def shortest_point(name):
    """(part, point) of the run of a study with the fewest steps."""

    def steps(found):
        config = plan.resolve(found[1]).config
        return config.max_steps if config.max_steps > 0 else config.num_epochs * config.steps_per_epoch

    points = [(part.name, point) for part in STUDIES[name].sweeps for point in part.points(1)]
    return min(points, key=steps)


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=[] if name == 'convergence' else pytest.mark.slow)
        for name in STUDIES
        if (RESULTS / name).is_dir()
    ],
)
def test_a_committed_number_comes_out_again(name, tmp_path, monkeypatch):
    """The run of a study with the fewest steps, made again, ends where the committed table says."""
    if name == 'paper_table' and not prepared.is_prepared(prepared.tfds_directory(''), 'mnist'):
        pytest.skip('MNIST is not prepared here')
    monkeypatch.setattr(programs, 'local_devices', lambda _: jax.local_devices()[:1])  # as it was committed
    part, point = shortest_point(name)
    with (RESULTS / name / f'{part}.csv').open() as file:
        of_point = [row for row in csv.DictReader(file) if all(row[key] == value for key, value in point.values)]
    assert train.main([*point.flags, f'--workdir={tmp_path}']) == 0
    twins = read_json(tmp_path / 'summary.json')['twins']
    assert sorted(twins) == sorted(row['twin'] for row in of_point)
    for row in of_point:
        # Another CPU rounds differently, and training amplifies that; a jitter of 1% makes errors of 2%.
        assert twins[row['twin']][ERROR] == pytest.approx(float(row[ERROR]), rel=0.1, abs=1e-3)
        for key in ('quantized_weight_agreement_moved', 'moved_fraction', 'accuracy'):
            assert twins[row['twin']][key] == pytest.approx(float(row[key]), abs=0.02)
