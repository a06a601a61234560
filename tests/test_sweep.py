"""Sweeps: what a grid stands for, what is refused, and that killed, failed and shared points end as they should."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pyarrow.parquet
import pytest

from experiments.data import registry
from experiments.errors import UserError
from experiments.sweeps import plan, pool, report, worker
from experiments.training import sharing
from experiments.workdir.lock import Busy, locked
from scripts import sweep

DIGITS = 'configs/digits.py'
SMALL = ['--config=configs/digits.py', '--config.twins=ste,jitter', '--config.checkpoint_every_steps=2']
GRID = ['--grid=learning_rate=0.04;max_steps=3|0.02;max_steps=6', '--seeds=2']


def test_a_grid_and_what_it_stands_for():
    assert plan.parse('estimator=dsq(k=6.5)|sine(lam=0.6)') == [
        {'estimator': 'dsq(k=6.5)'},
        {'estimator': 'sine(lam=0.6)'},
    ]
    assert plan.parse('learning_rate=0.04;max_steps=3|0.02;max_steps=6')[1] == {
        'learning_rate': '0.02',
        'max_steps': '6',
    }
    points = plan.points(DIGITS, ['--config.batch_size=50'], ['learning_rate=0.1|0.2', 'bits=1|2'], 3)
    assert len(points) == len({point.name for point in points}) == 12
    assert points[0].flags[:2] == ('--config=configs/digits.py', '--config.batch_size=50')
    settings = [plan.resolve(point).config for point in points]
    assert {(c.learning_rate, c.bits, c.seed) for c in settings} == {
        (rate, bits, seed) for rate in (0.1, 0.2) for bits in (1, 2) for seed in range(3)
    }
    assert [c.bits for c in settings] == [1] * 6 + [2] * 6  # what shares a compiled program stands together


@pytest.mark.parametrize(
    'grids, message',
    [
        (['learning_rate'], 'write KEY=VALUE'),
        (['quantized=conv|none'], 'quantized=none: a run in full precision has no twins'),
        (['learning_rate=0.1|'], 'cannot read'),
        (['learning_rate=0.1|0.2;max_steps=3'], 'must set the same keys'),
        (['learning_rate=0.1|0.1'], 'twice'),
        (['learning_rate=0.1', 'learning_rate=0.2'], 'at most once'),
        (['seed=1|2'], '--seeds'),
        (['learning_rat=0.1'], "did you mean 'learning_rate'"),
        (['estimator=dsq|sinus'], "estimator=sinus: estimator: unknown estimator 'sinus'"),
        (['optimizer=sgd|muon'], 'optimizer=muon: twins'),
        (['steps_per_epoch=16'], 'only 15 batches'),
        (['dataset=none.npz'], 'cannot read none.npz'),
    ],
)
def test_a_bad_grid_is_refused_before_anything_starts(grids, message, tmp_path, capsys):
    out = tmp_path / 'out'
    assert sweep.main([f'--config={DIGITS}', f'--out={out}', *(f'--grid={text}' for text in grids)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1 and len(error) <= 301
    assert not out.exists()


@pytest.mark.parametrize(
    'flag, message',
    [
        ('--learning_rate=0.1', 'did you mean --config.learning_rate=0.1?'),
        ('--workdir=x', "unknown flag '--workdir'"),
        ('--seed=3', "did you mean '--seeds'?"),
        ('--config.lr=0.1', "did you mean 'learning_rate'?"),
        ('--cluster=slurm', 'there is no srun here'),
    ],
)
def test_a_flag_of_no_use_is_refused_before_anything_starts(flag, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert sweep.main([f'--config={DIGITS}', f'--out={tmp_path}/out', flag]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1 and '--workdir, ' not in error
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'grids, seeds, refused', [(['bits=1|2'], 2, ''), (['bits=1'], 1, 'bits=1'), (['bits=3'], 1, 'bits=1')]
)
def test_a_folder_is_of_one_sweep_which_may_grow(grids, seeds, refused, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, '_on_this_machine', lambda out, count: [])
    pool.run(tmp_path, plan.points(DIGITS, [], ['bits=1'], 2), 1, None, 'sweep of bits=1')
    before = (tmp_path / worker.PLAN).read_bytes()
    other = plan.points(DIGITS, [], grids, seeds)
    if refused:
        with pytest.raises(UserError, match=f'another sweep, sweep of {refused}; choose another --out'):
            pool.run(tmp_path, other, 1, None, 'x')
        assert (tmp_path / worker.PLAN).read_bytes() == before
    else:
        assert pool.run(tmp_path, other, 1, None, 'x') == 1
        assert set(worker.read_plan(tmp_path)) == set(other)


def test_a_sweep_is_the_same_with_its_flags_in_another_order(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, '_on_this_machine', lambda out, count: [])
    twins, steps = '--config.twins=ste,self', '--config.max_steps=4'
    pool.run(tmp_path, plan.points(DIGITS, [twins, steps], [], 1), 1, None, 'x')
    again = plan.points(str(pathlib.Path(DIGITS).absolute()), [steps, twins], [], 1)
    assert pool.run(tmp_path, again, 1, None, 'x') == 1


def test_points_that_differ_in_rate_and_seed_share_a_program():
    first, *rest = [plan.resolve(point) for point in plan.points(DIGITS, [], ['learning_rate=0.1|0.2'], 2)]
    batches = registry.load(first.config)
    assert all(sharing.programs(made, batches) is sharing.programs(first, batches) for made in rest)
    (other,) = plan.points(DIGITS, ['--config.bits=3', '--config.estimator=sine'], [], 1)
    assert sharing.programs(plan.resolve(other), batches) is not sharing.programs(first, batches)


def test_a_lock_keeps_others_out_and_is_released(tmp_path):
    with locked(tmp_path), pytest.raises(Busy, match='another run'), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


@pytest.fixture(scope='module')
def unbroken(tmp_path_factory) -> pathlib.Path:
    out = tmp_path_factory.mktemp('sweep') / 'out'
    assert sweep.main([*SMALL, *GRID, f'--out={out}']) == 0
    return out


def test_the_table_and_the_report(unbroken):
    rows = pyarrow.parquet.read_table(unbroken / 'table.parquet').to_pylist()
    assert len(rows) == 2 * 2 * 2  # rates, seeds, twins
    for row in rows:
        assert row['steps'] == int(row['max_steps']) and row['twin'] in ('ste', 'jitter')
        (point,) = [p for p in worker.read_plan(unbroken) if dict(p.values).items() <= row.items()]
        result = json.loads((unbroken / worker.POINTS / point.name / 'summary.json').read_text())
        assert row['weight_alignment_error'] == result['twins'][row['twin']]['weight_alignment_error'] > 0
    assert len((unbroken / 'table.csv').read_text().splitlines()) == 9
    page = (unbroken / 'report.html').read_text()
    assert 'http' not in page and page.count('data:image/png') == 1 and 'python -m experiments.sweep' in page
    assert '] (n = 2)' in page and 'Student' in page
    assert report.verdicts(rows) == {
        ('0.04', '3'): {'yes': 0, 'no': 0, 'no verdict': 2},
        ('0.02', '6'): {'yes': 0, 'no': 0, 'no verdict': 2},
    }


def start(out: pathlib.Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, '-m', 'scripts.sweep', *SMALL, *GRID, f'--out={out}', '--workers=2', *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.slow
def test_a_killed_sweep_ends_with_the_same_table(unbroken, tmp_path):
    process = start(tmp_path)
    while not list(tmp_path.glob('points/*/checkpoints/*')):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / 'table.csv').exists()
    again = start(tmp_path)
    _, error = again.communicate(timeout=600)
    assert again.returncode == 0, error
    for name in ('table.csv', 'table.parquet'):
        assert (tmp_path / name).read_bytes() == (unbroken / name).read_bytes()


@pytest.mark.slow
def test_a_signal_reaches_the_workers(tmp_path):
    process = start(tmp_path)
    while not list(tmp_path.glob('points/*/checkpoints/0')):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=600)
    assert process.returncode == 143 and 'stopped; the same command goes on' in error
    assert not (tmp_path / 'table.csv').exists()
    for workdir in tmp_path.glob('points/*'):
        with locked(workdir):  # nobody runs there any more
            assert not (workdir / 'failure.json').exists()


@pytest.mark.slow
def test_submitit_runs_the_workers(unbroken, tmp_path):
    process = start(tmp_path, '--cluster=local')
    _, error = process.communicate(timeout=600)
    assert process.returncode == 0, error
    assert (tmp_path / 'table.csv').read_bytes() == (unbroken / 'table.csv').read_bytes()


@pytest.mark.slow
def test_a_failing_point_does_not_stop_the_others(tmp_path, capsys):
    out = tmp_path / 'out'
    command = [*SMALL, '--grid=learning_rate=1e30|0.01', '--config.max_steps=2']
    assert sweep.main([*command, f'--out={out}', '--config.warmup_fraction=0']) == 1
    shown = capsys.readouterr()
    assert 'failed: learning_rate=1e30' in shown.err and 'not finite' in shown.err and '0.01' in shown.out
    assert len((out / 'table.csv').read_text().splitlines()) == 3
    assert 'not finite' in (out / 'report.html').read_text()


@pytest.mark.parametrize(
    ('code', 'said'),
    [
        ("print('no room'); sys.exit(7)", 'worker 0 ended with exit code 7; '),
        ('import os; print("no room", flush=True); os.kill(os.getpid(), 9)', 'worker 0 was killed by SIGKILL; '),
    ],
)
def test_a_worker_that_ends_by_itself_is_named_with_its_last_line(code, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pool, '_worker_command', lambda *_: [sys.executable, '-c', f'import sys; {code}'])
    assert sweep.main([*SMALL, '--config.max_steps=1', f'--out={tmp_path}']) == 1
    assert f'{said}{tmp_path}/worker-0.log ends with: no room\n' in capsys.readouterr().err


def test_no_plan_is_a_users_error(tmp_path):
    with pytest.raises(UserError, match='cannot read'):
        worker.read_plan(tmp_path)
    (tmp_path / worker.PLAN).write_text('{"points": [3]}')
    with pytest.raises(UserError, match='is no plan of a sweep'):
        worker.read_plan(tmp_path)
