"""Workdirs that somebody edited: generated edits of every file. A result, the step before, or one line, and an end."""

import contextlib
import json
import pathlib
import shutil
import signal

import jax
import numpy as np
import pytest

from experiments import report
from experiments.errors import UserError
from experiments.results import finished
from experiments.workdir import beginning, checksums, places, records, rows, same_run
from experiments.workdir.checkpoints import Checkpoints
from experiments.workdir.files import read_json
from tests.reliability import workdirs
from tests.reliability.processes import PATIENCE_SECONDS, continue_to_the_same_end, differences, finish, start
from tests.reliability.workdirs import EVERY, ROWS, STEPS, TWINS

IDENTITY = {'seed': '0', 'num_epochs': '7', 'content of some.py': 'a digest'}
FAST = len(workdirs.EDITS)  # one of each kind
LONGEST_LINE = 300


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> pathlib.Path:
    return workdirs.make(tmp_path_factory.mktemp('whole') / 'run')


@contextlib.contextmanager
def ends():
    """What waits for ever, as for a pipe, fails instead."""
    signal.alarm(PATIENCE_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def refused(function, *arguments):
    """What a function returns, or None where it says in one line why not."""
    try:
        with ends():
            return function(*arguments)
    except UserError as error:
        assert str(error) and '\n' not in str(error)


def resumed(workdir: pathlib.Path) -> tuple:
    """What a run goes on from."""
    places.check_workdir(workdir, workdir)
    with Checkpoints(workdir) as checkpoints:
        begin = beginning.beginning(workdir, checkpoints, EVERY)
        return begin, checkpoints.restore(begin.step, workdirs.state(0))


def files(workdir: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(workdir)) for path in workdir.rglob('*') if path.is_file())


def check_edit(whole: pathlib.Path, name: str, number: int, copy: pathlib.Path) -> str:
    """Edits, and reads all that resuming and reporting read; says how resuming ended."""
    workdir = workdirs.edited(whole, name, number, copy)
    shown = [refused(function, workdir) for function in (finished.rows, finished.result)]
    shown += [refused(finished.weights, workdir, TWINS), refused(finished.environment, workdir)]
    refused(records.check_same_processes, workdir, 1)
    refused(same_run.check_same_run, workdir, IDENTITY)
    refused(records.first_step, workdir)
    steps = [row['step'] for row in shown[0] or []]
    assert steps == sorted(set(steps)) and all(type(step) is int for step in steps)
    found = refused(resumed, workdir)
    if found is None:
        return 'refused'
    begin, state = found
    assert begin.step in STEPS and begin.recorded
    assert list(begin.rows) == [row for row in ROWS if row['step'] <= begin.step]
    assert all(map(np.array_equal, jax.tree.leaves(state), jax.tree.leaves(workdirs.state(begin.step))))
    return 'whole' if begin.step == STEPS[-1] else 'the step before'


@pytest.mark.parametrize('count', [FAST, pytest.param(50, marks=pytest.mark.slow)])
def test_generated_edits_of_every_file(count, whole, tmp_path, capsys):
    found, names = {}, files(whole)
    if count == FAST:
        names = [name for name in names if not name.startswith(('checkpoints/5', 'checkpoints/10/state/ocdbt'))]
    for name in names:
        for number in range(count):
            end = check_edit(whole, name, number, tmp_path / 'copy')
            found.setdefault(end, set()).add(name)
            shutil.rmtree(tmp_path / 'copy')
    assert {'metrics.jsonl', 'weights.npz'} <= found['whole']
    assert any(name.startswith('checkpoints/10') for name in found['the step before'])
    assert 'metrics.jsonl' in found['refused']  # where it is a folder or a link that leads out
    assert all(len(line) < 2 * LONGEST_LINE for line in capsys.readouterr().err.splitlines())


A_ROW = json.dumps(ROWS[1])


@pytest.mark.parametrize(
    'line',
    [
        json.dumps({key: value for key, value in ROWS[1].items() if key != 'eval/loss'}),
        A_ROW.replace('0.5', '"0.5"'),
        A_ROW.replace('0.5', 'Infinity'),
        A_ROW.replace('0.5', '1e999'),
        A_ROW.replace('0.5', '{"a": 1}'),
        A_ROW.replace('0.5', '[0.5, "a"]'),
        A_ROW.replace('0.5', '[' * 10**5),
        A_ROW.replace('"step": 5', '"step": "5"'),
        A_ROW.replace('"step": 5', '"step": true'),
        A_ROW.replace('"step": 5', '"step": 0'),
        A_ROW.replace('"step": 5', '"step": -5'),
        '[1, 2]',
        '{}',
    ],
)
def test_rows_end_before_one_that_no_run_wrote(line, tmp_path):
    (tmp_path / 'metrics.jsonl').write_text('\n'.join([json.dumps(ROWS[0]), line, json.dumps(ROWS[2]), '']))
    assert rows.read_rows(tmp_path) == ROWS[:1]


def test_rows_may_gain_a_metric_and_are_read_as_written(tmp_path):
    given = [*ROWS[:1], {**ROWS[1], 'a newer metric': 1, 'by code': [0.5, 0.5]}]
    (tmp_path / 'metrics.jsonl').write_text(rows.text(given))
    assert rows.read_rows(tmp_path) == given


def test_checksums_read_nothing_but_files_of_the_folder(tmp_path):
    folder, outside = tmp_path / 'sealed', tmp_path / 'outside'
    folder.mkdir()
    outside.write_bytes(b'x')
    (folder / 'a').write_bytes(b'x')
    checksums.seal(folder)
    sums = read_json(folder / 'checksums.json')
    for name in ('../outside', str(outside), '/dev/zero', 'pipe', 'link'):
        (folder / 'checksums.json').write_text(json.dumps({**sums, name: sums['a']}))
        if name == 'pipe':
            workdirs.os.mkfifo(folder / name)
        elif name == 'link':
            (folder / name).symlink_to(outside)
        with ends():
            assert 'is missing' in checksums.damage(folder)
    for text in ('{}', '[]', '3', '{"a": 3}', '[' * 10**5):
        (folder / 'checksums.json').write_text(text)
        assert checksums.damage(folder)


def test_what_an_operating_system_puts_there_does_no_harm_and_what_else_is_there_does(whole, tmp_path):
    workdir = shutil.copytree(whole, tmp_path / 'run')
    left = [workdir / 'checkpoints' / name for name in ('.git/config', '.DS_Store', '.nfs0001', '10/state/.DS_Store')]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_text('theirs')
    (workdir / 'checkpoints' / '.15').mkdir()
    assert resumed(workdir)[0].step == 10
    assert all(path.read_text() == 'theirs' for path in left) and not (workdir / 'checkpoints' / '.15').exists()
    (workdir / 'checkpoints' / '10' / 'state' / 'another').write_text('theirs')
    assert resumed(workdir)[0].step == 5


def test_thousands_of_empty_folders_of_steps(whole, tmp_path, capsys):
    workdir = shutil.copytree(whole, tmp_path / 'run')
    for step in range(100, 3100):
        (workdir / 'checkpoints' / str(step)).mkdir()
    for name in ('007', '9' * 200, '٣'):
        (workdir / 'checkpoints' / name).mkdir()
    assert resumed(workdir)[0].step == 10
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 4 and '2997 more like these' in error[-1]
    shutil.rmtree(workdir / 'checkpoints' / '10')
    shutil.rmtree(workdir / 'checkpoints' / '5')
    (workdir / 'checkpoints' / '11').mkdir()
    with pytest.raises(UserError, match='no sound checkpoint is left'):
        resumed(workdir)


@pytest.mark.parametrize('how', [workdirs.deleted, workdirs.cut, workdirs.emptied])
@pytest.mark.parametrize('name', ['weights.npz', 'metrics.jsonl', 'summary.json', 'config.json'])
def test_the_report_of_a_partly_copied_workdir(name, how, whole, tmp_path, capsys):
    workdir = shutil.copytree(whole, tmp_path / 'run')
    if (name, how) == ('metrics.jsonl', workdirs.cut):
        (workdir / name).write_text(A_ROW[:-9])
    else:
        how(workdir / name, workdirs.random.Random(0))
    before = files(workdir)
    assert report.main([str(workdir)]) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and error.count('\n') == 1 and name in error and len(error) <= LONGEST_LINE + 1
    assert files(workdir) == before


def test_a_report_does_not_believe_an_edited_config(whole, tmp_path, capsys):
    workdir = shutil.copytree(whole, tmp_path / 'run')
    path = workdir / 'config.json'
    path.write_text(path.read_text().replace('"learning_rate": 0.01', '"learning_rate": 5.0'))
    assert report.main([str(workdir)]) == 2
    assert 'config.json is not what the run wrote there: learning_rate' in capsys.readouterr().err


@pytest.mark.parametrize('how', [workdirs.deleted, *(pytest.param(e, marks=pytest.mark.slow) for e in workdirs.EDITS)])
def test_the_report_shows_an_environment_as_missing(how, whole, tmp_path, capsys):
    workdir = shutil.copytree(whole, tmp_path / 'run')
    how(workdir / 'environment.json', workdirs.random.Random(0))
    code = report.main([str(workdir)])
    assert code == 0 or 'environment.json' in capsys.readouterr().err
    if how in (workdirs.deleted, workdirs.emptied, workdirs.cut):
        assert code == 0 and 'The command and the versions are missing' in (workdir / 'report.html').read_text()


@pytest.mark.slow
@pytest.mark.parametrize('start_at', [0, 25])
def test_an_edited_run_goes_on_to_the_same_end_or_says_why_not(start_at, interrupted, unbroken, tmp_path):
    """As processes, from resuming to the report."""
    for turn, name in enumerate(files(interrupted)):
        workdir = workdirs.edited(interrupted, name, start_at + turn, tmp_path / 'copy')
        code, error = finish(start(workdir))
        told = [line for line in error.splitlines() if not line.startswith('warning: ')]
        if code == 0:
            assert not differences(workdir, unbroken(1)) and not told
            assert report.main([str(workdir)]) == 0
        else:
            assert code == 2 and len(told) == 1 and told[0].startswith('error: ') and len(told[0]) <= LONGEST_LINE
        shutil.rmtree(workdir)


@pytest.mark.slow
def test_rows_twice_or_swapped_change_no_summary(workdir, unbroken):
    path = workdir / 'metrics.jsonl'
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(''.join([lines[1], lines[0], lines[0], *lines[2:]]).replace('0.5', '0.6'))
    assert 'is not as the run wrote it' in continue_to_the_same_end(workdir, unbroken(1))
