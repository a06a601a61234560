"""What a disk does to a run: files cut, emptied, flipped and deleted, rows torn, no room left; and two runs at once."""

import contextlib
import errno
import os
import pathlib
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator

from scripts.trials.trial import Finding, Trial, continued, differences, finish, start, unbroken

_INTERRUPTED_AT = 80  # a checkpoint step of the small run, between two rows


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
        process = start(workdir)
        while not (workdir / 'checkpoints' / str(_INTERRUPTED_AT)).exists() and process.poll() is None:
            pass
        process.kill()
        process.communicate()
    return workdir


def files(folder: pathlib.Path, every: int = 1) -> Iterator[Finding]:
    """Every file of the newest checkpoint, or each so-many-th damage, damaged in each way."""
    newest = _newest(interrupted(folder))
    names = [path.relative_to(newest) for path in sorted(newest.rglob('*')) if path.is_file()]
    cases = [(name, how) for name in names for how in DAMAGES]
    for name, how in cases[::every]:
        yield _damaged(folder, f'{name} of the newest checkpoint {how}', lambda step, n=name, h=how: DAMAGES[h](step / n))


def half_written(folder: pathlib.Path) -> Iterator[Finding]:
    """A newer checkpoint folder of which only a part is there."""

    def halve(step: pathlib.Path) -> None:
        newer = step.with_name(str(int(step.name) + 1))
        newer.mkdir()
        shutil.copy(next(path for path in step.rglob('*') if path.is_file()), newer)

    yield _damaged(folder, 'a half-written checkpoint folder beside it', halve, told='1: checksums.json is missing')


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
    changed = [name for name in changed if name not in ('environment.json', '.lock')]
    yield Finding('every checkpoint damaged', held and not changed, f'ended with {code}: {error} changed: {changed}')


def full_disk(folder: pathlib.Path) -> Iterator[Finding]:
    """No room for a checkpoint: one line, and once there is room, the same end.

    A file system of its own where this user may mount one; elsewhere a limit on the size of files does the same.
    """
    workdir = _copy(folder, 'full-disk')
    with _little_room(workdir) as limit:
        code, error = finish(start(workdir, preexec_fn=limit))
        held = code == 2 and error.count('\n') == 0 and 'Traceback' not in error
        yield Finding('no room left on the disk', held, f'ended with {code}: {error}')
    yield continued('the same, started again with room', workdir, unbroken(folder))


@contextlib.contextmanager
def _little_room(workdir: pathlib.Path) -> Iterator[Callable[[], None] | None]:
    """While it lasts, hardly more fits into a workdir."""
    size = 1000 * (1 + sum(path.stat().st_size for path in workdir.rglob('*') if path.is_file()) // 1000)
    aside = workdir.with_name('room')
    shutil.copytree(workdir, aside, dirs_exist_ok=True)
    mounted = not subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', f'size={size + 200_000}', 'tmpfs', str(workdir)], capture_output=True
    ).returncode
    if not mounted:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        return
    try:
        shutil.copytree(aside, workdir, dirs_exist_ok=True)
        yield None
        shutil.copytree(workdir, aside, dirs_exist_ok=True)
    finally:
        subprocess.run(['umount', str(workdir)], check=True)
        shutil.rmtree(workdir)
        aside.rename(workdir)


def two_at_once(folder: pathlib.Path) -> Iterator[Finding]:
    """A second run in the same workdir: refused in one line, the first goes on; killed, it leaves no lock behind."""
    workdir = folder / 'two-at-once'
    first = start(workdir)
    while not (workdir / 'metrics.jsonl').exists() and first.poll() is None:
        pass
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
    'Whatever the disk does to a checkpoint or to metrics.jsonl, the run goes on from the newest sound checkpoint with a '
    'warning, or stops with one line; it never starts from scratch silently.',
    _all,
)
