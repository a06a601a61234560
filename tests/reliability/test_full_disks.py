"""A disk that takes no more, of bytes, files or rights: a run lives without TensorBoard, and ends in one line else."""

import errno
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import threading

import pytest

from experiments import report
from experiments.errors import UserError
from experiments.results import pages
from experiments.workdir import events
from experiments.workdir.checkpoints import Checkpoints
from experiments.workdir.records import Records
from experiments.workdir.rows import read_rows
from tests.reliability import workdirs
from tests.reliability.processes import ROOT, finish, start, wait_for
from tests.reliability.test_damage import small_disk
from tests.reliability.workdirs import ROWS


def nothing() -> None:
    pass


# TensorBoard, which a run can do without


def test_events_hold_the_numbers_of_the_rows(tmp_path):
    writer = events.Events(tmp_path / 'tensorboard', 3)
    writer.append(ROWS[1] | {'by code': [0.5, 0.5]})
    writer.close()
    (path,) = (tmp_path / 'tensorboard').iterdir()
    content = path.read_bytes()
    assert path.name.startswith('events.out.tfevents.') and b'eval/accuracy' in content
    assert b'train/loss' not in content and b'by code' not in content  # None, and a list
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


# Reports


def test_a_report_on_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pages, 'write_text', full)
    monkeypatch.setattr(pages.figures, 'png', lambda _: b'')
    workdir = workdirs.make(tmp_path / 'run')
    assert report.main([str(workdir)]) == 2
    error = capsys.readouterr().err
    assert 'No space left on device' in error and error.count('\n') == 1
