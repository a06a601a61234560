"""What a disk does to a run: files cut, emptied, flipped and deleted, rows torn, no room left; and two runs at once."""

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator

from scripts.trials.trial import Finding, Trial, continued, differences, finish, killed_after, start, unbroken, wait_for

_INTERRUPTED_AT = 35  # a checkpoint step of the small run, between two rows


def _truncate(path: pathlib.Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: pathlib.Path) -> None:
    os.truncate(path, 0)


def _flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[pathlib.Path], None]] = {
    'cut in half': _truncate,
    'emptied': _empty,
    'one bit flipped': _flip,
    'deleted': pathlib.Path.unlink,
}


def interrupted(folder: pathlib.Path) -> pathlib.Path:
    """The workdir of a small run that was killed after a checkpoint late in it; made once."""
    workdir = folder / 'interrupted'
    if not workdir.exists():
        killed_after(workdir, _INTERRUPTED_AT)
    return workdir


def files(folder: pathlib.Path, every: int = 1) -> Iterator[Finding]:
    """Every file of the newest checkpoint, or each so-many-th damage, damaged in each way."""
    newest = _newest(interrupted(folder))
    names = [path.relative_to(newest) for path in sorted(newest.rglob('*')) if path.is_file()]
    cases = [(name, how) for name in names for how in DAMAGES]
    for name, how in cases[::every]:
        yield _damaged(
            folder, f'{name} of the newest checkpoint {how}', lambda step, n=name, h=how: DAMAGES[h](step / n)
        )


def half_written(folder: pathlib.Path) -> Iterator[Finding]:
    """A newer checkpoint folder of which only a part is there."""

    def halve(step: pathlib.Path) -> None:
        newer = step.with_name(str(_INTERRUPTED_AT + 1))
        newer.mkdir()
        shutil.copy(next(path for path in step.rglob('*') if path.is_file()), newer)

    yield _damaged(
        folder, 'a half-written checkpoint folder beside it', halve, told=f'checkpoints/{_INTERRUPTED_AT + 1}: '
    )


def torn_row(folder: pathlib.Path) -> Iterator[Finding]:
    """The last line of metrics.jsonl, without its end."""

    def tear(step: pathlib.Path) -> None:
        path = step.parents[1] / 'metrics.jsonl'
        os.truncate(path, path.stat().st_size - 100)

    yield _damaged(folder, 'the last row of metrics.jsonl torn', tear, told='metrics.jsonl.set-aside')


def nothing_left(folder: pathlib.Path) -> Iterator[Finding]:
    """Every checkpoint damaged: one line, exit code 2, and nothing touched."""
    workdir = _copy(folder, 'nothing-left')
    for step in workdir.glob('checkpoints/[0-9]*'):
        _flip(step / 'checksums.json')
    before = _contents(workdir)
    code, error = finish(start(workdir))
    held = code == 2 and error.count('\n') == 0 and 'no sound checkpoint is left' in error
    changed = [name for name, content in before.items() if _contents(workdir).get(name) != content]
    changed = [name for name in changed if name != 'environment.json' and '/.' not in name]  # '/.': was never whole
    yield Finding('every checkpoint damaged', held and not changed, f'ended with {code}: {error} changed: {changed}')


def full_disk(folder: pathlib.Path, rooms: tuple[int, ...] = (0, 20_000, 500_000)) -> Iterator[Finding]:
    """Room for nothing, for a row, or for a part of a checkpoint: one line; and once there is room, the same end."""
    if not can_mount():
        yield Finding('no room left on the disk', None, 'this user may not mount a small file system')
        return
    for room in rooms:
        workdir = _copy(folder, 'full-disk')
        with _disk(workdir, room):
            code, error = finish(start(workdir))
        held = code == 2 and '\n' not in error and error.startswith('error: ')
        yield Finding(f'{room} bytes left on the disk', held, f'ended with {code}: {error[-300:]}')
        yield continued('the same, started again with room', workdir, unbroken(folder))


def can_mount() -> bool:
    """Whether this user may make the small file system that `full_disk` needs."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = not subprocess.run([*_MOUNT, folder], capture_output=True).returncode
        if mounted:
            subprocess.run(['umount', folder], check=True)
        return mounted


_MOUNT = ['mount', '-t', 'tmpfs', 'tmpfs']


@contextlib.contextmanager
def _disk(workdir: pathlib.Path, room: int) -> Iterator[None]:
    """Puts a workdir on a file system of its own, with so many bytes left, while it lasts."""
    aside = workdir.with_name('aside')
    workdir.rename(aside)
    workdir.mkdir()
    subprocess.run([*_MOUNT, str(workdir)], check=True)
    try:
        shutil.copytree(aside, workdir, dirs_exist_ok=True)
        filled = shutil.disk_usage(workdir)
        subprocess.run(['mount', '-o', f'remount,size={filled.used + room}', str(workdir)], check=True)
        yield
        shutil.rmtree(aside)
        shutil.copytree(workdir, aside)
    finally:
        subprocess.run(['umount', str(workdir)], check=True)
        workdir.rmdir()
        aside.rename(workdir)


def two_at_once(folder: pathlib.Path) -> Iterator[Finding]:
    """A second run in the same workdir: refused in one line, the first goes on; killed, it leaves no lock behind."""
    workdir = folder / 'two-at-once'
    first = start(workdir)
    wait_for(workdir / 'metrics.jsonl', first)
    code, error = finish(start(workdir))
    held = code == 2 and 'another run is going on there' in error and error.count('\n') == 0
    yield Finding('a second run in the workdir', held, f'ended with {code}: {error}')
    code, _ = finish(first)
    different = differences(workdir, unbroken(folder))
    yield Finding('the first one', code == 0 and not different, f'ended with {code}, differs in {different}')


def _damaged(folder: pathlib.Path, what: str, do: Callable[[pathlib.Path], None], told: str = '') -> Finding:
    """Does something to the newest checkpoint of an interrupted run, and continues it."""
    workdir = _copy(folder, 'damaged')
    newest = _newest(workdir)
    do(newest)
    expect = told or f'warning: {newest}'
    return continued(what, workdir, unbroken(folder), expect=expect)


def _copy(folder: pathlib.Path, name: str) -> pathlib.Path:
    shutil.rmtree(folder / name, ignore_errors=True)
    return pathlib.Path(shutil.copytree(interrupted(folder), folder / name))


def _newest(workdir: pathlib.Path) -> pathlib.Path:
    return max(workdir.glob('checkpoints/[0-9]*'), key=lambda path: int(path.name))


def _contents(workdir: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(workdir)): path.read_bytes() for path in workdir.rglob('*') if path.is_file()}


def _all(folder: pathlib.Path) -> Iterator[Finding]:
    for each in (files, half_written, torn_row, nothing_left, full_disk, two_at_once):
        yield from each(folder)


TRIAL = Trial(
    'damage',
    'Whatever the disk does to a checkpoint or to metrics.jsonl, the run goes on from the newest sound checkpoint with '
    'a warning, or stops with one line; it never starts from scratch silently. Two runs do not share a workdir.',
    _all,
)
