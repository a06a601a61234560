"""A series of snapshots, found by a folder, a pattern or a file, and the step of each."""

import dataclasses
import glob
import os
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.comparison.orbax_trees import Orbax, tree_in
from experiments.comparison.snapshots import STEP, Moment, Npz, Safetensors, Snapshot, Wanted
from experiments.errors import UserError
from experiments.terminal import note

READERS: dict[str, Callable[[pathlib.Path], Snapshot]] = {'.safetensors': Safetensors, '.npz': Npz}
_PICKLES = ('.pt', '.pth', '.pkl', '.pickle', '.ckpt', '.bin', '.joblib')
_LATEST = 2**31 - 1  # steps are counted in 32 bits
_MOST = 10**6  # snapshots in one file
_CHECKPOINTS = 'checkpoints'  # in a workdir


@dataclasses.dataclass(frozen=True)
class Series:
    """Snapshots over time.

    Attributes:
      where: what the user gave.
      snapshots: by step, in time.
      has_steps: whether these are steps of training; otherwise only the order is known, 0, 1, 2 ...
    """

    where: str
    snapshots: dict[int, Snapshot]
    has_steps: bool


def find(where: str, every: int | None) -> Series:
    """The series in a folder, of a pattern such as 'run/*.npz', or in one file whose arrays have time as first axis.

    Args:
      where: folder, pattern or file.
      every: updates between two snapshots, the first at 0; None: names or files say the step.

    Raises:
      UserError: there are not two snapshots, or they are pickles, or their steps make no sense.
    """
    paths = sorted(_paths(where), key=lambda path: _natural(str(path)))
    if len(paths) == 1 and paths[0].is_file():
        snapshots, steps = _over_time(_reader(paths[0])(paths[0]))
    else:
        snapshots = [_reader(path)(path) for path in paths]
        steps = _steps_in_names(paths) or (None if every else _steps_inside(snapshots))
    if len(snapshots) < 2:
        raise UserError(f'{where} holds {len(snapshots)} snapshot(s) of weights, and a comparison over time takes two')
    if steps is None and every is None:
        note(
            f'{where}: neither names nor a {STEP!r} say the steps, so that only the order counts; --every=N gives them'
        )
    if every is not None or steps is None:
        steps = [number * (every or 1) for number in range(len(snapshots))]
        return Series(where, _checked(where, steps, snapshots), every is not None)
    return Series(where, _checked(where, steps, snapshots), True)


class Pair(NamedTuple):
    """Two series, snapshot beside snapshot.

    Attributes:
      a: by step, in time.
      b: at the same steps.
      is_every_update: whether nothing happened between snapshots, nor before the first.
      from_start: whether the first is known to be of step 0.
    """

    a: dict[int, Snapshot]
    b: dict[int, Snapshot]
    is_every_update: bool
    from_start: bool


def together(a: Series, b: Series) -> Pair:
    """The snapshots at the steps that both have; where one has no steps, the first beside the first and so on.

    Raises:
      UserError: there are not two such steps.
    """
    known = a.has_steps and b.has_steps
    if not known and len(a.snapshots) != len(b.snapshots):
        raise UserError(
            f'{a.where} has {len(a.snapshots)} snapshots and {b.where} {len(b.snapshots)}, and not both say of which '
            'steps; give the updates between two as --every=N, or as many of each'
        )
    if not known:
        pairs = enumerate(zip(a.snapshots.values(), b.snapshots.values()))
    else:
        pairs = ((step, (here, b.snapshots[step])) for step, here in a.snapshots.items() if step in b.snapshots)
    both = dict(pairs)
    steps = list(both)
    if len(steps) < 2:
        raise UserError(
            f'{a.where} and {b.where} have {len(steps)} step(s) in common, and a comparison over time takes two; '
            'give the updates between two snapshots as --every=N where names mislead'
        )
    for series in (a, b):
        if left_out := len(series.snapshots) - len(steps):
            note(f'{series.where}: {left_out} snapshot(s) left out, whose steps the other series has not')
    from_start = known and steps[0] == 0
    ours, theirs = ({step: pair[index] for step, pair in both.items()} for index in range(2))
    return Pair(ours, theirs, from_start and steps == list(range(len(steps))), from_start)


def _paths(where: str) -> list[pathlib.Path]:
    folder = pathlib.Path(os.path.expanduser(where))
    try:
        found = [folder] if os.path.isfile(folder) else _in_folder(folder)
        found = found or [path for path in map(pathlib.Path, glob.glob(str(folder), recursive=True)) if _is_one(path)]
    except (OSError, ValueError, re.error) as error:  # a null byte, a folder without rights
        raise UserError(f'cannot look for {where!r}: {error}') from None
    pickles = [path for path in found if path.suffix.lower() in _PICKLES]
    readable = [path for path in found if path not in pickles]
    if pickles and not readable:
        raise UserError(
            f'{pickles[0]} may be a pickle, which can run code and is not read; write .safetensors in PyTorch: '
            "safetensors.torch.save_file(model.state_dict(), '100.safetensors')"
        )
    if not readable:
        kinds = ', '.join(READERS)
        raise UserError(f'{where!r} matches no {kinds} files or checkpoints of orbax; give a folder, a glob or a file')
    if len(kinds := {path.suffix for path in readable if path.is_file()}) > 1:
        raise UserError(f'{where} has files of several kinds, {", ".join(sorted(kinds))}; give a pattern, as DIR/*.npz')
    return readable


def _in_folder(folder: pathlib.Path) -> list[pathlib.Path]:
    if not os.path.isdir(folder):
        return []
    if tree_in(folder):
        return [folder]
    found = [path for path in folder.iterdir() if _is_one(path)]
    return found or _in_folder(folder / _CHECKPOINTS)


def _is_one(path: pathlib.Path) -> bool:
    """Whether it may be a snapshot: a file with a suffix that is known, or a checkpoint."""
    if path.is_file():  # a pipe would be waited for
        return path.suffix.lower() in (*READERS, *_PICKLES)
    return path.is_dir() and not path.name.startswith('.') and tree_in(path) is not None


def _reader(path: pathlib.Path) -> Callable[[pathlib.Path], Snapshot]:
    if path.is_dir():
        return Orbax
    if path.suffix not in READERS:
        raise UserError(f'{path} is of no kind that can be read ({", ".join(READERS)}, or a checkpoint of orbax)')
    return READERS[path.suffix]


def _over_time(file: Snapshot) -> tuple[list[Snapshot], list[int] | None]:
    """The moments in one file, and the steps that it gives."""
    headers = file.headers()
    lengths = {name: header.shape[0] for name, header in headers.items() if header.shape}
    if len(set(lengths.values())) != 1:
        shown = ', '.join(f'{name} {headers[name].shape}' for name in list(lengths)[:2]) or 'no arrays'
        raise UserError(
            f'{file.path} is one file, in which time must be the first axis of every array, as long in all; it has '
            f'{shown}; or give a folder or a pattern of many files'
        )
    (length,) = set(lengths.values())
    if length > _MOST:
        raise UserError(f'{file.path} would hold {length} snapshots; time must be the first axis of every array')
    moments = [Moment(file, entry) for entry in range(length)]
    return moments, _whole(file.read([Wanted(STEP)])[0]) if STEP in lengths else None


def _steps_in_names(paths: Sequence[pathlib.Path]) -> list[int] | None:
    """The last number in each file's name, or else in its folder's, where every one has its own."""
    for names in ([path.stem if path.is_file() else path.name for path in paths], [path.parent.name for path in paths]):
        numbers = [re.findall(r'[0-9]+', name) for name in names]
        steps = [int(found[-1]) for found in numbers if found]
        if len(set(steps)) == len(paths):
            return steps
    return None


def _steps_inside(snapshots: Sequence[Snapshot]) -> list[int] | None:
    """What arrays called step say, where every snapshot has one."""
    if not all(STEP in snapshot.headers() for snapshot in snapshots):
        return None
    return [_whole(snapshot.read([Wanted(STEP)])[0].reshape(-1)[:1])[0] for snapshot in snapshots]


def _whole(array: np.ndarray) -> list[int]:
    if array.ndim != 1 or array.dtype.kind not in 'iu' or not array.size:
        raise UserError(
            f'{STEP!r} in a series must be whole numbers, one a snapshot, and is {array.dtype} {array.shape}'
        )
    return array.tolist()


def _checked(where: str, steps: Sequence[int], snapshots: Sequence[Snapshot]) -> dict[int, Snapshot]:
    if len(set(steps)) != len(snapshots) or not 0 <= min(steps) <= max(steps) <= _LATEST:
        raise UserError(
            f'{where}: steps must be different numbers in 0..{_LATEST}, one a snapshot, and range from {min(steps)} to '
            f'{max(steps)} for {len(snapshots)} snapshots; give the updates between two as --every=N'
        )
    return dict(sorted(zip(steps, snapshots)))


def _natural(name: str) -> list:
    """A key by which 9 comes before 10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r'([0-9]+)', name)]
