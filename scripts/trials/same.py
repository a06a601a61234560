"""The same command twice: the same bytes."""

import pathlib
from collections.abc import Iterator

from scripts.trials.trial import Finding, Trial, differences, finish, start, unbroken


def twice(folder: pathlib.Path, devices: tuple[int, ...] = (1, 4)) -> Iterator[Finding]:
    """Beside the unbroken run another, on each number of devices."""
    for count in devices:
        code, _ = finish(start(folder / f'again-{count}', devices=count))
        different = differences(unbroken(folder, count), folder / f'again-{count}')
        yield Finding(f'twice on {count} device(s)', code == 0 and not different, f'differ in {different or "nothing"}')


TRIAL = Trial('same', 'The same command twice gives the same bytes on CPU.', twice)
