"""A workdir as a finished run leaves it, made without training, and edits of its files by people and disks."""

import json
import os
import pathlib
import random
import shutil
from collections.abc import Callable

import numpy as np

from configs import digits
from experiments.workdir.checkpoints import Checkpoints
from experiments.workdir.files import write_json, write_text
from experiments.workdir.rows import text
from experiments.workdir.same_run import write_identity
from qat.lockstep.state import RunState, State
from qat.lockstep.tracking import Tracking

EVERY, STEPS = 5, (5, 10)  # steps between rows, and those of the checkpoints
TWINS = ('self',)
ROWS = [
    {
        'step': step,
        'train/loss': None,
        'eval/accuracy': 0.5,
        'eval/loss': 2.0 - step / 9,
        'self/weight_alignment_error': 0,
    }
    for step in range(0, STEPS[-1] + 1, EVERY)
]


def state(step: int, size: int = 7) -> State:
    """A state as small as a state can be."""
    run = RunState({'kernel': np.full(size, step, np.float32)}, {}, (), np.float32(0))
    return State(np.int32(step), {'kernel': np.float32(1)}, {'reference': run}, Tracking({}, {}, {}))


def make(workdir: pathlib.Path) -> pathlib.Path:
    """Writes the workdir."""
    workdir.mkdir()
    config = digits.get_config()
    config.twins = ','.join(TWINS)
    metrics = {'accuracy': 0.5, 'loss': 1.0}
    write_json(workdir / 'config.json', config.to_dict())
    write_identity(workdir, {key: json.dumps(value) for key, value in config.to_dict().items()})
    write_json(
        workdir / 'environment.json',
        {
            **dict.fromkeys(('command', 'python', 'platform', 'devices'), 'some'),
            'processes': 1,
            'versions': {'jax': '0'},
        },
    )
    summary = {
        'steps': STEPS[-1],
        'verdict': 'Cannot tell on this run.',
        'reference': metrics,
        'twins': {'self': metrics},
    }
    write_json(workdir / 'summary.json', {**summary, 'config': 'digits', 'limit': {'answer': 'not asked'}})
    write_text(workdir / 'metrics.jsonl', text(ROWS))
    write_json(workdir / 'timing.json', {'devices': 1})
    np.savez(workdir / 'weights.npz', **{f'{run}/conv1': np.linspace(-1, 1, 9) for run in ('reference', *TWINS)})
    with Checkpoints(workdir) as checkpoints:
        for step in STEPS:
            checkpoints.save_now(state(step), [row for row in ROWS if row['step'] <= step])
    return workdir


def cut(path: pathlib.Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size) if path.stat().st_size else 0)


def emptied(path: pathlib.Path, _) -> None:
    os.truncate(path, 0)


def flipped(path: pathlib.Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes() or b'x')
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def deleted(path: pathlib.Path, _) -> None:
    path.unlink()


def lines_moved(path: pathlib.Path, chance: random.Random) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b''.join(chance.choices(lines, k=len(lines) + chance.choice((-1, 0, 1)))))


def foreign(path: pathlib.Path, chance: random.Random) -> None:
    """What another program writes."""
    contents = [*('{}', '[]', '3', 'null', '"x"', '{"a": 1}', '{"step": 1}', '[' * 10**5, '{"a":' * 10**5)]
    path.write_text(chance.choice([*contents, '{"step": Infinity}\n', '{"step": 1e999}\n', '\x00', 'step,loss\n1,2\n']))


def value_changed(path: pathlib.Path, chance: random.Random) -> None:
    """One value of a JSON text, or of one of its lines, by one of another type, or away with its key."""
    try:
        lines = [path.read_text()] if path.suffix == '.json' else path.read_text().splitlines()
        number = chance.randrange(len(lines))
        content = json.loads(lines[number])
    except ValueError:
        return flipped(path, chance)
    place = content
    while isinstance(inner := place[key := chance.choice(sorted(place))], dict) and inner and chance.random() < 0.7:
        place = inner
    if chance.random() < 0.3:
        del place[key]
    else:
        others = (None, True, 'x', [], {}, [1], float('inf'), float('nan'), -1, 10**400, 1.5, '../../../etc/passwd')
        place[key] = chance.choice(others)
    lines[number] = json.dumps(content)
    path.write_text(''.join(f'{line}\n' for line in lines))


def a_folder(path: pathlib.Path, _) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: pathlib.Path, _) -> None:
    path.unlink()
    os.mkfifo(path)


def a_link_out(path: pathlib.Path, chance: random.Random) -> None:
    path.unlink()
    path.symlink_to(chance.choice(['/dev/zero', '/nowhere', '/etc/hostname', path.name]))


EDITS: tuple[Callable[[pathlib.Path, random.Random], None], ...] = (
    *(cut, emptied, flipped, deleted, lines_moved, foreign, value_changed, value_changed),
    *(a_folder, a_pipe, a_link_out),
)


def edited(whole: pathlib.Path, name: str, number: int, copy: pathlib.Path) -> pathlib.Path:
    """A copy of a workdir in which one file is edited in one way; the number says how."""
    shutil.copytree(whole, copy)
    EDITS[number % len(EDITS)](copy / name, random.Random(f'{name} {number}'))
    return copy
