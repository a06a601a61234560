"""Studies: their functions find what is there, people's text survives, and committed numbers come out again."""

import csv
import importlib
import itertools
import pathlib
import shutil

import jax
import pytest

from experiments import train
from experiments.data import prepared
from experiments.errors import UserError
from experiments.results.metrics import METRICS
from experiments.sweeps import plan, worker
from experiments.sweeps.report import ERROR
from experiments.training import sharing
from experiments.workdir.files import read_json, write_json
from qat.lockstep.verdict import NO
from scripts import study as command_line
from scripts.studies import convergence, decay, finetuning, kappa, matrix, photographs, placement, stableqat, study

STUDIES = {name: importlib.import_module(f'scripts.studies.{name}') for name in command_line.NAMES}
RESULTS = pathlib.Path('docs/results')


def made_up(name, error) -> list[dict]:
    """Rows of a study as if it had run; `error(values, twin, part)` is the alignment error."""
    found = []
    for part in STUDIES[name].SWEEPS:
        given = dict(text.split('=', 1) for text in part.overrides)
        for combination in itertools.product(*map(plan.parse, part.grids)):
            values = {key: value for alternative in combination for key, value in alternative.items()}
            twins = {**given, **values}['twins'].split(',')
            for seed, twin in itertools.product(range(part.seeds), twins):
                metrics = dict.fromkeys(METRICS, 0.5) | {ERROR: error(values, twin, part.name), 'verdict': NO}
                reference = {'reference_accuracy': 0.5, 'reference_loss': 1.0}
                found.append({'part': part.name, **values, 'seed': str(seed), **reference, 'twin': twin, **metrics})
    return found


@pytest.mark.parametrize('name', STUDIES)
def test_a_study_has_a_question_a_figure_and_a_table(name):
    rows = made_up(name, lambda values, twin, part: float(values.get('learning_rate', 1)))
    assert '?' in STUDIES[name].__doc__ and STUDIES[name].figure(rows).axes
    header, lines = STUDIES[name].table(rows)
    assert lines and all(len(line) == len(header) for line in lines)


def test_convergence_finds_the_order_that_is_there():
    def error(values, twin, part):
        order = {'sine(lam=0.6)': 0.5, convergence.BLUNTED[0]: 0.7}.get(values['estimator'], 0.9)
        order = 0.4 if twin == 'jitter' else order
        return 0.0 if values['estimator'] == 'ste' and twin == 'ste' else float(values['learning_rate']) ** order

    rows = made_up('convergence', error)
    found, relative = convergence.orders(rows, 'ste'), convergence.relative_orders(rows, convergence.ADAM)
    assert found['ste'] is None and found['sine(lam=0.6)'] == pytest.approx((0.5, 0.5, 0.5, 5))
    assert found['dsq(k=6.5)'] == pytest.approx((0.9, 0.9, 0.9, 5))
    assert relative['sine(lam=0.6)'] == pytest.approx((0.1, 0.1, 0.1, 8))
    beside = convergence.orders(convergence.beside_the_kink(rows), 'ste', convergence.KINK)
    assert [estimate.value for estimate in beside.values()] == pytest.approx([0.9, 0.7, 0.9])


def test_the_matrix_says_which_controls_separate():
    def error(values, twin, part):
        if part.startswith('limit'):
            return float(values['learning_rate']) ** (0.5 if twin == 'naive_ste' else 0.75)
        return 0.1 if twin == 'jitter' else 0.9 if values['estimator'].startswith('swish_sign') else 0.2

    rows = made_up('matrix', error)
    cells, optimizers = matrix.cells(rows), ['sgd', 'signsgd']
    assert (
        list(matrix.covered(cells, optimizers).values()) == pytest.approx([2] * 12) and cells['mad', 'sgd'].ratio.n == 3
    )
    assert [len(matrix.separating(cells, c, optimizers)) for c in ('ede', 'swish_sign(b=5)')] == [0, 2]
    assert cells['dsq(k=6.5)', 'sgd'].recipe and not cells['dsq(k=6.5)', 'muon'].recipe
    found = [matrix.limit_orders(rows, o, relative)['dsq(k=6.5)'][0] for o in matrix.LIMITS for relative in (0, 1)]
    assert found == pytest.approx([0.5, -0.25, 0.75, 0])


@pytest.mark.parametrize('cause, factor', [(kappa.kappa, 1), (lambda row: float(row['learning_rate']), 4)])
def test_kappa_alone_gives_equal_errors_at_equal_kappa(cause, factor):
    settings = kappa.settings(made_up('kappa', lambda values, twin, part: cause(values)), 'kappa')
    found = kappa.at_equal_kappa(settings).values()
    assert [estimate.value for estimate in found] == pytest.approx([factor] * 2) and len(settings) == 9


def test_placement_tells_the_orders_apart():
    def error(values, twin, part):
        return float(values['learning_rate']) ** (0.6 if part == 'update' else 0.0) * (2 if twin == 'jitter' else 1)

    rows = made_up('placement', error)
    found, relative, ratios = placement.orders(rows), placement.relative_orders(rows), placement.ratios(rows)
    for optimizer in placement.RATES:
        assert found[optimizer, 'update'].low == pytest.approx(0.6) and found[optimizer, 'gradient'].high == 0
        assert placement.gained(rows, optimizer).value == pytest.approx(0.6)
        assert relative[optimizer, 'update'].value == pytest.approx(0)
        assert [estimate.value for estimate in ratios[optimizer, 'update']] == pytest.approx([0.5] * 4)


def test_decay_and_photographs_find_the_orders_that_are_there():
    def error(values, twin, part):
        return float(values.get('learning_rate', 1)) ** {'ste': 0.9, 'jitter': 0.4}.get(twin, 0.0)

    for module, part in ((decay, 'sgd'), (photographs, 'pretrained-sgd')):
        rows = made_up(module.__name__.rpartition('.')[2], error)
        for twin, expected in (('ste', (0.9, 0.5)), ('naive_ste', (0.0, -0.4))):
            found = study.orders(rows, part, twin)
            assert [estimate.value for estimate in found] == pytest.approx(expected)
    assert photographs.twins_of(rows, 'scratch-adam') == [*photographs.TWINS]
    over_steps, sizes = photographs.over_steps(rows), photographs.after_perturbation(rows)
    assert list(over_steps['ste']) == [5, 10, 20, 40, 80] and list(sizes) == [1e-6, 1e-4, 1e-2]


def test_finetuning_pairs_what_it_compares():
    rows = made_up('finetuning', lambda values, twin, part: 0.1)
    for row in rows:
        lead = {'sgd-rdfs': 0.02, 'sgd-dsq': 0.0}.get(row['part'], 0.0)
        row['reference_accuracy'] = 0.5 + 0.01 * int(row['seed']) + lead
        row['accuracy'] = row['reference_accuracy'] + (0.03 if row['twin'] == 'naive_ste' else 0.0)
    found = finetuning.differences(rows, ('sgd', '2', 'all'))
    assert [round(estimate.value, 9) for estimate in found.values()] == [0, 3, 2, 0]
    assert all(estimate.high - estimate.low < 1e-9 for estimate in found.values())
    assert finetuning.told_apart(rows, 'RDFS') == (4, 8)


def test_stableqat_counts_the_settings_that_differ():
    rows = made_up('stableqat', lambda values, twin, part: 0.1)
    for row in rows:
        if row['twin'] == 'naive_ste' and row['optimizer'].startswith('sgd'):
            row['accuracy'] = 0.7
    assert [stableqat.differing(rows, 'naive_ste', optimizer) for optimizer in stableqat.RATES] == [4, 0]


def test_a_page_waits_for_all_parts(tmp_path):
    first, second, *_ = (part.name for part in placement.SWEEPS)
    (tmp_path / f'{first}.csv').write_text('')
    with pytest.raises(UserError, match=f'it lacks {second}.* run --part={second} too'):
        study.write_page(placement, tmp_path)


def test_a_part_is_recorded_beside_the_others(tmp_path):
    """The tables of other parts stay, and so do the hours that they took."""
    shutil.copytree(RESULTS / 'placement', tmp_path, dirs_exist_ok=True)
    (chosen,) = study.parts(placement, 'update')
    before = read_json(tmp_path / study.MADE)
    for point in chosen.points():
        workdir = tmp_path / 'update' / worker.POINTS / point.name
        workdir.mkdir(parents=True)
        files = {'environment': before['machine'], 'timing': {'steps_per_second': 1, 'compile_seconds': None}}
        for name, content in ({'summary': {'steps': 360}} | files).items():
            write_json(workdir / f'{name}.json', content)
    shutil.copy(tmp_path / 'update.csv', tmp_path / 'update' / 'table.csv')
    study.record(placement, tmp_path, tmp_path, (chosen,))
    assert read_json(tmp_path / study.MADE)['hours'] == pytest.approx(before['hours'] + 0.1 * len(chosen.points()))


def test_what_people_wrote_survives(tmp_path):
    shutil.copytree(RESULTS / 'placement', tmp_path, dirs_exist_ok=True)
    page = tmp_path / 'README.md'
    page.unlink()
    study.write_page(placement, tmp_path)
    assert page.read_text().startswith(f'# placement\n\n{placement.__doc__}\n\n{study.BEGIN}\n\n![figure]')
    page.write_text(f'Before.\n{study.BEGIN}\nold\n{study.END}\nAfter.\n')
    study.write_page(placement, tmp_path)
    table = study.rendered(placement, tmp_path)
    assert page.read_text() == f'Before.\n{study.BEGIN}\n\n{table}\n\n{study.END}\nAfter.\n'
    page.write_text(f'Before.\n{study.BEGIN}\nAfter.\n')
    with pytest.raises(UserError, match='once each'):
        study.write_page(placement, tmp_path)
    assert page.read_text().endswith('After.\n')


def shortest_point(name):
    """(part, point) of the run of a study with the fewest steps."""

    def steps(found):
        config = plan.resolve(found[1]).config
        return config.max_steps if config.max_steps > 0 else config.num_epochs * config.steps_per_epoch

    points = [(part.name, point) for part in STUDIES[name].SWEEPS for point in part.points(1)]
    return min(points, key=steps)


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in STUDIES if (RESULTS / name).is_dir()])
def test_a_committed_number_comes_out_again(name, tmp_path, monkeypatch):
    """The run of a study with the fewest steps, made again, ends where the committed table says."""
    if name == 'paper_table' and not prepared.is_prepared(prepared.tfds_directory(''), 'mnist'):
        pytest.skip('MNIST is not prepared here')
    if name in ('photographs', 'finetuning') and not pathlib.Path('runs/cifar10').exists():
        pytest.skip('the photographs are not here')
    monkeypatch.setattr(sharing, 'local_devices', lambda _: jax.local_devices()[:1])  # as it was committed
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
