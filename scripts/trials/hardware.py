"""A run that goes on elsewhere: on another number of devices, after an older jax, and longer than it was meant to."""

import json
import pathlib
import shutil
from collections.abc import Iterator

from scripts.trials.trial import ROOT, SMALL, STEPS, Finding, Trial, finish, killed_after, start

OLDER = ROOT / 'tests' / 'data' / 'older_jax'  # a workdir, interrupted; its README says how it was made
_INTERRUPTED_AT = STEPS // 2  # by then a checkpoint is there


def other_devices(folder: pathlib.Path, counts: tuple[int, ...] = (1, 4)) -> Iterator[Finding]:
    """From eight devices to others: the rows so far stay as they are, and the run comes to its end."""
    eight = folder / 'eight-devices'
    killed_after(eight, _INTERRUPTED_AT, devices=8)
    for count in counts:
        workdir = folder / f'eight-to-{count}'
        shutil.copytree(eight, workdir, dirs_exist_ok=True)
        yield _goes_on(f'from 8 devices to {count}', workdir, SMALL, count)


def older_jax(folder: pathlib.Path) -> Iterator[Finding]:
    """A workdir that an older jax began."""
    workdir = pathlib.Path(shutil.copytree(OLDER, folder / 'older-jax', dirs_exist_ok=True))
    versions = json.loads((workdir / 'environment.json').read_text())['versions']
    flags = (f'--config={workdir / "config.json"}',)
    yield _goes_on(f'from jax {versions["jax"]}, orbax {versions["orbax-checkpoint"]}', workdir, flags, 1)


def more_epochs(folder: pathlib.Path) -> Iterator[Finding]:
    """A finished run whose num_epochs grows; any other key is refused by name."""
    workdir = folder / 'more-epochs'
    flags = (*SMALL, '--config.max_steps=-1')
    for epochs, steps in ((2, 30), (3, 45)):
        code, error = finish(start(workdir, *flags, f'--config.num_epochs={epochs}'))
        last = json.loads((workdir / 'summary.json').read_text())['steps'] if code == 0 else None
        yield Finding(f'num_epochs={epochs}', last == steps, f'ended with {code} at step {last} {error}')
    for flag, key in (('--config.num_epochs=2', 'num_epochs'), ('--config.seed=1', 'seed')):
        code, error = finish(start(workdir, *flags, flag))
        yield Finding(f'then {flag}', code == 2 and f'differ: {key}.' in error, f'ended with {code}: {error}')


def _goes_on(what: str, workdir: pathlib.Path, flags: tuple[str, ...], devices: int) -> Finding:
    before = (workdir / 'metrics.jsonl').read_text()
    code, error = finish(start(workdir, *flags, devices=devices))
    if code:
        return Finding(what, False, f'ended with {code}: {error}')
    after = (workdir / 'metrics.jsonl').read_text()
    kept = before.splitlines() == after.splitlines()[: before.count('\n')]
    twins = json.loads((workdir / 'summary.json').read_text())['twins']
    same = twins['self']['weight_alignment_error'] == 0
    return Finding(
        what, kept and same, 'came to its end, earlier rows as they were, self at 0' if kept and same else after
    )


def _all(folder: pathlib.Path) -> Iterator[Finding]:
    for each in (other_devices, older_jax, more_epochs):
        yield from each(folder)


TRIAL = Trial(
    'hardware',
    'A checkpoint goes on with another number of devices and after an older jax; of the config, num_epochs alone may '
    'grow.',
    _all,
)
