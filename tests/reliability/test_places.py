"""A run whose place is not its own, or not there any more: links, other programs, moved folders, full disks."""

import errno
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from experiments import report, sweep, train
from experiments.errors import UserError
from experiments.results import finished, pages
from experiments.training import converting
from experiments.workdir import events, places
from experiments.workdir.checkpoints import Checkpoints
from experiments.workdir.files import free_name, replacing, write_text
from experiments.workdir.lock import locked
from experiments.workdir.records import Records, read_rows
from tests.reliability import workdirs
from tests.reliability.processes import ROOT, finish, start, wait_for
from tests.reliability.test_damage import small_disk
from tests.reliability.workdirs import ROWS


def nothing() -> None:
    pass


# TensorBoard, which a run can do without


def test_events_hold_the_numbers_of_the_rows(tmp_path):
    writer = events.Events(tmp_path / 'tensorboard', 3)
    writer.append(ROWS[1])
    writer.close()
    (path,) = (tmp_path / 'tensorboard').iterdir()
    content = path.read_bytes()
    assert path.name.startswith('events.out.tfevents.') and b'eval/accuracy' in content
    assert b'train/loss' not in content  # None
    assert b'step' not in content.replace(b'steps', b'')


@pytest.mark.parametrize('at', ['the first write', 'a later write', 'the folder'])
def test_a_run_lives_without_tensorboard(at, tmp_path, monkeypatch, capsys):
    if at == 'the folder':
        (tmp_path / 'tensorboard').write_text('')
    if at == 'the first write':
        monkeypatch.setattr(events, 'free_name', lambda path: pathlib.Path('/dev/full'))
    with Records(tmp_path, [], nothing) as log:
        if at == 'a later write':
            log._events._file.close()
            log._events._file._writer = open('/dev/full', 'wb')  # noqa: SIM115
        for row in ROWS:
            log.append(row)
    assert read_rows(tmp_path) == ROWS
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('warning: no more events for TensorBoard in') and line.endswith('the run goes on')


# Checkpoints that cannot be written


def spoil_folder(workdir: pathlib.Path) -> None:
    shutil.rmtree(workdir / 'checkpoints')
    (workdir / 'checkpoints').write_text('')


def remove_folder(workdir: pathlib.Path) -> None:
    shutil.rmtree(workdir / 'checkpoints')


@pytest.mark.parametrize('spoil', [spoil_folder, remove_folder])
def test_a_checkpoint_that_cannot_be_written_is_one_line_and_leaves_no_thread(spoil, tmp_path, capfd):
    before = set(threading.enumerate())
    with Checkpoints(tmp_path) as kept:
        kept.save_now(workdirs.state(1))
        spoil(tmp_path)
        with pytest.raises(UserError, match=r'cannot save .*make room or mend its rights'):
            kept.save_now(workdirs.state(2))
    left = [each for each in set(threading.enumerate()) - before if each.is_alive() and not each.daemon]
    assert left == [] and capfd.readouterr().err == ''


LIMITED = """
import pathlib, resource, sys
from tests.reliability import workdirs
from experiments.errors import UserError, tell
from experiments.workdir.checkpoints import Checkpoints
try:
    with Checkpoints(pathlib.Path(sys.argv[1])) as kept:
        kept.save_now(workdirs.state(1))
        limit = getattr(resource, sys.argv[2])
        resource.setrlimit(limit, (int(sys.argv[3]), int(sys.argv[3])))
        for step in range(2, 9):
            kept.save_now(workdirs.state(step, 10**5))
except UserError as error:
    sys.exit(tell(error))
"""


@pytest.mark.slow
@pytest.mark.parametrize('limit, to', [('RLIMIT_FSIZE', 10**5)])
def test_a_limit_on_the_size_of_files(limit, to, tmp_path):
    assert hasattr(resource, limit)
    process = subprocess.run(
        [sys.executable, '-c', LIMITED, tmp_path, limit, str(to)], cwd=ROOT, capture_output=True, text=True
    )
    assert process.returncode == 2 and process.stderr.count('\n') == 1 and 'File too large' in process.stderr


def use_up_inodes(workdir: pathlib.Path) -> None:
    there = os.statvfs(workdir)
    subprocess.run(['mount', '-o', f'remount,nr_inodes={there.f_files - there.f_ffree + 9}', workdir], check=True)


@pytest.mark.slow
@pytest.mark.parametrize('spoil', [use_up_inodes, spoil_folder, remove_folder])
def test_a_checkpoint_that_cannot_be_written_ends_a_run_in_one_line(spoil, workdir):
    with small_disk(workdir, 10**8):
        process = start(workdir)
        rows = workdir / 'metrics.jsonl'
        rows.unlink()  # it comes back where training begins
        wait_for(rows, process)
        spoil(workdir)
        code, error = finish(process)
    lines = [line for line in error.splitlines() if not line.startswith('warning: ')]
    assert code == 2 and len(lines) == 1 and lines[0].startswith('error: ')


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


# Reports and sweeps


def test_a_report_on_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pages, 'write_text', full)
    monkeypatch.setattr(pages.figures, 'png', lambda _: b'')
    workdir = workdirs.make(tmp_path / 'run')
    assert report.main([str(workdir)]) == 2
    error = capsys.readouterr().err
    assert 'No space left on device' in error and error.count('\n') == 1


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
