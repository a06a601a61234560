"""A run whose place is not its own, or not there any more: links, other programs, moved folders."""

import json
import os
import pathlib
import shutil
import signal

import pytest

from experiments import sweep, train
from experiments.errors import UserError
from experiments.results import finished
from experiments.training import converting
from experiments.workdir import places
from experiments.workdir.checkpoints import Checkpoints
from experiments.workdir.files import free_name, replacing, write_text
from experiments.workdir.lock import locked
from experiments.workdir.records import Records
from tests.reliability import workdirs
from tests.reliability.processes import finish, start, wait_for
from tests.reliability.workdirs import ROWS

# A workdir that is not there any more


def deleted(workdir: pathlib.Path) -> None:
    shutil.rmtree(workdir)


def moved(workdir: pathlib.Path) -> None:
    workdir.rename(workdir.with_name('elsewhere'))


def made_again(workdir: pathlib.Path) -> None:
    moved(workdir)
    shutil.copytree(workdir.with_name('elsewhere'), workdir)


@pytest.mark.parametrize('happens', [deleted, moved, made_again])
def test_a_workdir_that_is_another_is_noticed_before_each_write(happens, tmp_path):
    workdir = tmp_path / 'run'
    workdir.mkdir()
    with locked(workdir) as check, Checkpoints(workdir, check) as kept, Records(workdir, [], check) as log:
        log.append(ROWS[0])
        check()
        happens(workdir)
        there = sorted(workdir.rglob('*'))
        for write in (lambda: log.append(ROWS[1]), lambda: kept.save_now(workdirs.state(1))):
            with pytest.raises(UserError, match='was deleted, moved or made again'):
                write()
        assert sorted(workdir.rglob('*')) == there


def test_checkpoints_are_not_written_through_links(tmp_path):
    outside, workdir = tmp_path / 'outside', tmp_path / 'run'
    (workdir / 'checkpoints').mkdir(parents=True)
    outside.mkdir()
    (outside / 'theirs').touch()
    (workdir / 'checkpoints' / '.1').symlink_to(outside)  # what a killed run leaves is removed, the link alone
    with Checkpoints(workdir) as kept:
        (workdir / 'checkpoints' / '.2').symlink_to(outside)
        for step in (1, 2):
            kept.save_now(workdirs.state(step))
        assert kept.newest() == 2 and not (workdir / 'checkpoints' / '2').is_symlink()
    assert [path.name for path in outside.iterdir()] == ['theirs']


@pytest.mark.slow
@pytest.mark.parametrize('happens', [deleted, moved, made_again])
def test_a_run_ends_in_one_line_where_its_workdir_goes_away(happens, tmp_path):
    process = start(tmp_path / 'run')
    wait_for(tmp_path / 'run' / 'metrics.jsonl', process)
    process.send_signal(signal.SIGSTOP)
    happens(tmp_path / 'run')
    process.send_signal(signal.SIGCONT)
    code, error = finish(process)
    assert code == 2 and error.startswith('error: ') and '\n' not in error


# Names that are somebody else's


@pytest.mark.parametrize('name', ['summary.json', 'report.html', 'figures', 'metrics.jsonl', 'checkpoints'])
def test_files_of_another_program_are_not_written_over(name, tmp_path, capsys):
    (tmp_path / 'notes.txt').write_text('no harm')
    places.check_workdir(tmp_path, tmp_path)
    if '.' in name:
        (tmp_path / name).write_text('theirs')
    else:
        (tmp_path / name).mkdir()
    before = sorted(tmp_path.rglob('*'))
    assert train.main(['--config=configs/digits.py', f'--workdir={tmp_path}']) == 2
    error = capsys.readouterr().err
    assert error.startswith(f'error: workdir {tmp_path} has {name} and no config.json') and error.count('\n') == 1
    assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.parametrize('name', ['checkpoints', 'tensorboard', 'figures', 'metrics.jsonl', 'ladder/a-rung'])
def test_links_are_not_followed_out_of_a_workdir(name, tmp_path):
    workdir, outside = workdirs.make(tmp_path / 'run'), tmp_path / 'outside'
    outside.mkdir()
    path = workdir / name
    shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)
    if '/' in name:
        path.parent.symlink_to(outside)
    else:
        path.symlink_to(outside)
    (outside / path.name).mkdir()
    with pytest.raises(UserError, match='is a link that leads out of'):
        places.check_workdir(workdir, workdir)
        places.check_workdir(path, workdir)
    (tmp_path / 'linked').symlink_to(workdirs.make(tmp_path / 'whole'))  # the workdir itself is the user's choice
    places.check_workdir(tmp_path / 'linked', tmp_path / 'linked')


@pytest.mark.parametrize('name', ['summary.json', 'report.html', '.lock', 'weights.npz'])
def test_folders_and_pipes_where_files_are_to_be(name, tmp_path):
    workdir = workdirs.make(tmp_path / 'run')
    (workdir / name).unlink(missing_ok=True)
    for make in (os.mkdir, os.mkfifo):
        make(workdir / name)
        with pytest.raises(UserError, match=f'{name} must be a file to write to'):
            places.check_workdir(workdir, workdir)
        (os.rmdir if make is os.mkdir else os.unlink)(workdir / name)


def test_a_planted_link_is_not_written_through(tmp_path):
    (tmp_path / 'theirs').write_text('theirs')
    for name in ('.file.partial', 'file'):
        (tmp_path / name).symlink_to(tmp_path / 'theirs')
    write_text(tmp_path / 'file', 'ours')
    assert (tmp_path / 'theirs').read_text() == 'theirs' and (tmp_path / 'file').read_text() == 'ours'
    assert not (tmp_path / 'file').is_symlink()
    (tmp_path / 'figures').mkdir()
    (tmp_path / 'figures' / 'a.png').symlink_to(tmp_path / 'theirs')
    with replacing(tmp_path / 'figures' / 'a.png') as partial:
        partial.write_bytes(b'ours')
    assert (tmp_path / 'theirs').read_text() == 'theirs'


def test_a_free_name_is_free(tmp_path):
    for name in ('5.set-aside', '5.set-aside-3', '5.set-aside.txt'):
        (tmp_path / name).write_text('')
    (tmp_path / '5.set-aside-2').symlink_to('nowhere')
    assert free_name(tmp_path / '5.set-aside').name == '5.set-aside-4'
    assert free_name(tmp_path / '6.set-aside').name == '6.set-aside'


def test_what_a_killed_convert_left_is_removed_and_nothing_else(tmp_path):
    for name in ('.unfinished-out-1', '.unfinished-out-2', '.unfinished-out-theirs', '.unfinished-other-1'):
        (tmp_path / name / 'workdir').mkdir(parents=True)
        (tmp_path / name / '.lock').write_text('')
    (tmp_path / '.unfinished-out-theirs' / '.lock').unlink()
    with locked(tmp_path / '.unfinished-out-2'):
        converting._remove_unfinished(tmp_path, '.unfinished-out-')
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ['.unfinished-other-1', '.unfinished-out-2', '.unfinished-out-theirs']


# Sweeps and tables


@pytest.mark.parametrize('name', ['table.csv', 'report.html', 'worker-0.log', 'points'])
def test_a_sweep_begins_only_where_it_can_end(name, tmp_path, capsys):
    if name == 'points':
        (tmp_path / name).write_text('')
    else:
        (tmp_path / name).mkdir()
    assert sweep.main(['--config=configs/digits.py', '--grid', 'bits=2|3', f'--out={tmp_path}']) == 2
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and f'{name} must be a' in error
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_summary_of_another_program_is_told_by_the_table(tmp_path):
    workdir = workdirs.make(tmp_path / 'run')
    assert finished.result(workdir, ('self',))['steps'] == 10
    whole = json.loads((workdir / 'summary.json').read_text())
    ladder = {'answer': '', 'errors': {'ste': [[1.0, 2.0]], 'jitter': [[1.0]]}, 'learning_rates': [1, 2], 'seeds': 1}
    for change in ({'steps': '10'}, {'verdict': None}, {'twins': {}}, {'reference': {}}, {'limit': ladder}):
        (workdir / 'summary.json').write_text(json.dumps(whole | change))
        with pytest.raises(UserError, match='is not the summary of this run'):
            finished.result(workdir, ('self',))
