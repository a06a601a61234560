"""What a disk does to a run: files cut, emptied, flipped and deleted, rows torn, no room left; and two runs at once."""

import contextlib
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator

import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments import train
from experiments.workdir import checkpoints, checksums
from tests.reliability.processes import (
    INTERRUPTED_AT,
    continue_to_the_same_end,
    differences,
    finish,
    newest_checkpoint,
    start,
    wait_for,
)


def truncate(path: pathlib.Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: pathlib.Path) -> None:
    os.truncate(path, 0)


def flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[pathlib.Path], None]] = {
    'cut in half': truncate,
    'emptied': empty,
    'one bit flipped': flip,
    'deleted': pathlib.Path.unlink,
}


@pytest.mark.slow
@pytest.mark.parametrize('every', [61, 1])
def test_a_damaged_file_of_the_newest_checkpoint(every, interrupted, unbroken, tmp_path):
    """Every file, damaged in each way; or each so-many-th of these cases."""
    newest = newest_checkpoint(interrupted)
    names = [path.relative_to(newest) for path in sorted(newest.rglob('*')) if path.is_file()]
    for name, how in [*itertools.product(names, DAMAGES)][::every]:
        workdir = shutil.copytree(interrupted, tmp_path / f'{name.name} {how}')
        damaged = newest_checkpoint(workdir)
        DAMAGES[how](damaged / name)
        assert f'warning: {damaged}' in continue_to_the_same_end(workdir, unbroken(1))
        shutil.rmtree(workdir)


@pytest.mark.slow
def test_a_half_written_checkpoint(workdir, unbroken):
    """A newer checkpoint folder, of which only a part is there."""
    newer = workdir / 'checkpoints' / str(INTERRUPTED_AT + 1)
    content = next(path for path in newest_checkpoint(workdir).rglob('*') if path.is_file())
    newer.mkdir()
    shutil.copy(content, newer)
    assert f'checkpoints/{INTERRUPTED_AT + 1}: ' in continue_to_the_same_end(workdir, unbroken(1))


@pytest.mark.slow
def test_a_torn_row(workdir, unbroken):
    path = workdir / 'metrics.jsonl'
    os.truncate(path, path.stat().st_size - 100)
    assert 'metrics.jsonl.set-aside' in continue_to_the_same_end(workdir, unbroken(1))


@pytest.mark.slow
def test_without_a_sound_checkpoint_the_run_stops_and_touches_nothing(workdir):
    for step in workdir.glob('checkpoints/[0-9]*'):
        flip(step / 'checksums.json')
    before = contents(workdir)
    code, error = finish(start(workdir))
    assert code == 2 and '\n' not in error and 'no sound checkpoint is left' in error
    after = contents(workdir)
    # What begins with a dot was never whole.
    kept = [name for name in before if name != 'environment.json' and '/.' not in name]
    assert [name for name in kept if after.get(name) != before[name]] == []


def contents(workdir: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(workdir)): path.read_bytes() for path in workdir.rglob('*') if path.is_file()}


@pytest.mark.slow
def test_a_run_without_any_checkpoint_does_not_begin_again_silently(tmp_path, capsys):
    command = ['--config=configs/digits.py', '--config.twins=self', '--config.max_steps=3', f'--workdir={tmp_path}']
    assert train.main(command) == 0
    rows = (tmp_path / 'metrics.jsonl').read_text()
    (tmp_path / 'checkpoints').rename(tmp_path / 'elsewhere')
    assert train.main(command) == 2
    assert 'has come to step 3, and no checkpoint is there any more' in capsys.readouterr().err
    assert (tmp_path / 'metrics.jsonl').read_text() == rows
    (tmp_path / 'checkpoints').rmdir()
    (tmp_path / 'elsewhere').rename(tmp_path / 'checkpoints')
    assert train.main(command) == 0


@pytest.mark.slow
def test_weights_to_start_from_are_those_of_the_newest_sound_checkpoint(tmp_path, capsys):
    flags = ['--config=configs/digits.py', '--config.twins=self', '--config.checkpoint_every_steps=5']
    assert train.main([*flags, '--config.max_steps=7', f'--workdir={tmp_path}']) == 0
    sound = checkpoints.read_weights(str(tmp_path))
    flip(next((tmp_path / 'checkpoints' / '7').rglob('_METADATA')))
    older = checkpoints.read_weights(str(tmp_path))
    assert 'taking step 5' in capsys.readouterr().err
    kernels = (params['conv1']['kernel'] for params, _ in (sound, older))
    assert not np.array_equal(*kernels)
    assert (tmp_path / 'checkpoints' / '7').exists()  # somebody else's: nothing is moved


def test_damage_is_found_wherever_it_is(tmp_path):
    (tmp_path / 'deep').mkdir()
    for name in ('a', 'deep/b'):
        (tmp_path / name).write_bytes(b'12345678')
    checksums.seal(tmp_path)
    assert checksums.damage(tmp_path) is None
    for name in ('a', 'deep/b', 'checksums.json'):
        before = (tmp_path / name).read_bytes()
        for damage in DAMAGES.values():
            damage(tmp_path / name)
            assert name in checksums.damage(tmp_path)
            (tmp_path / name).write_bytes(before)
    assert checksums.damage(tmp_path) is None


@pytest.mark.filterwarnings('ignore')
def test_orbax_by_itself_does_not_find_a_flipped_bit(tmp_path):
    """Why checkpoints are sealed by checksums of ours; where this fails, orbax has learnt it."""
    state = {'weights': np.random.default_rng(0).standard_normal((200, 200), np.float32)}
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(0, args=ocp.args.StandardSave(state))
    found = set()
    for path in [path for path in tmp_path.rglob('*') if path.is_file() and path.stat().st_size]:
        content = path.read_bytes()
        flip(path)
        with contextlib.suppress(Exception), ocp.CheckpointManager(tmp_path) as manager:
            restored = manager.restore(0, args=ocp.args.StandardRestore(state))
            found.add(np.array_equal(restored['weights'], state['weights']))
        path.write_bytes(content)
    assert False in found


@pytest.mark.slow
@pytest.mark.parametrize(
    'room',
    [
        pytest.param(0, id='no room'),
        pytest.param(20_000, id='room for a row'),
        pytest.param(500_000, id='room for a part of a checkpoint'),
    ],
)
def test_a_full_disk(room, workdir, unbroken):
    with small_disk(workdir, room):
        code, error = finish(start(workdir))
    assert code == 2 and '\n' not in error and error.startswith('error: ')
    continue_to_the_same_end(workdir, unbroken(1))  # now there is room


@contextlib.contextmanager
def small_disk(workdir: pathlib.Path, room: int) -> Iterator[None]:
    """Puts a workdir on a file system of its own, with so many bytes left, while it lasts."""
    aside = workdir.with_name('aside')
    workdir.rename(aside)
    workdir.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', workdir], capture_output=True).returncode:
        pytest.skip('this user may not mount a small file system')
    try:
        shutil.copytree(aside, workdir, dirs_exist_ok=True)
        size = shutil.disk_usage(workdir).used + room
        subprocess.run(['mount', '-o', f'remount,size={size}', workdir], check=True)
        yield
        shutil.rmtree(aside)
        shutil.copytree(workdir, aside)
    finally:
        subprocess.run(['umount', workdir], check=True)
        workdir.rmdir()
        aside.rename(workdir)


@pytest.mark.slow
def test_a_second_run_in_the_workdir_is_refused_and_the_first_goes_on(unbroken, tmp_path):
    first = start(tmp_path)
    wait_for(tmp_path / 'metrics.jsonl', first)
    first.send_signal(signal.SIGSTOP)  # so that it is not over before the second begins
    code, error = finish(start(tmp_path))
    first.send_signal(signal.SIGCONT)
    assert code == 2 and 'another run is going on there' in error and '\n' not in error
    assert finish(first)[0] == 0
    assert differences(tmp_path, unbroken(1)) == []
