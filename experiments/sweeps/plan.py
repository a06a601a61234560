"""Turns a grid of settings into the runs that it stands for, and checks every run before any starts.

A grid is written `KEY=VALUE|VALUE|...`. An alternative may set further keys along with the first:
`learning_rate=0.04;max_steps=250|0.02;max_steps=500`. Several grids multiply.
"""

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping

from experiments.data import registry
from experiments.errors import UserError
from experiments.setup import command_line, settings
from experiments.setup.identity import identity
from experiments.training.sharing import fingerprint

_ASSIGNMENT = re.compile(r'\s*([a-z_]+)\s*=(.*)', re.DOTALL)
_LONGEST_NAME = 120  # characters of a folder's name


@dataclasses.dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
      values: (key, value as written) of the grid's keys and the seed.
      flags: the command line of `experiments.train`, without --workdir.
      run: a digest of what the run is: of its resolved config, and of the files that this names.
      steps: of the run, those of its ladder included; 0 where it is not known.
    """

    values: tuple[tuple[str, str], ...]
    flags: tuple[str, ...]
    run: str
    steps: int = dataclasses.field(default=0, compare=False)

    @property
    def name(self) -> str:
        """The name of its folder: readable, and another for every run, be it of another sweep or of an edited file."""
        text = ','.join(f'{key}={value}' for key, value in self.values)
        return f'{re.sub(r"[^A-Za-z0-9_.=,()-]+", "_", text)[:_LONGEST_NAME]}-{self.run[:8]}'


def parse(text: str) -> list[dict[str, str]]:
    """Returns the alternatives of a grid, each as the values, as written, by key.

    Raises:
      UserError: the text is not a grid, repeats an alternative, or has alternatives that set different keys.
    """
    first = _ASSIGNMENT.match(text)
    if not first:
        raise UserError(f'grid: cannot read {text!r}; write KEY=VALUE|VALUE')
    key, values = first.groups()
    alternatives = []
    for alternative in values.split('|'):
        head, *others = alternative.split(';')
        pairs = [_ASSIGNMENT.match(other) for other in others]
        if not head.strip() or not all(pairs):
            raise UserError(f'grid: cannot read {alternative!r} of {text!r}; write VALUE or VALUE;KEY=VALUE')
        alternatives.append({key: head.strip()} | {pair[1]: pair[2].strip() for pair in pairs})
    keys = set(alternatives[0])
    if any(set(alternative) != keys for alternative in alternatives):
        raise UserError(f'grid: every alternative of {text!r} must set the same keys')
    if len({tuple(alternative.items()) for alternative in alternatives}) < len(alternatives):
        raise UserError(f'grid: {text!r} lists an alternative twice')
    return alternatives


def points(config: str, overrides: Iterable[str], grids: Iterable[str], seeds: int) -> list[Point]:
    """Returns every combination of the grids' alternatives with every seed; those that share a program are adjacent.

    Args:
      config: the path of the config.
      overrides: `--config.KEY=VALUE` for all points.
      grids: the grids as written.
      seeds: the number of seeds 0, 1, ...

    Raises:
      UserError: a grid cannot be read, or a point cannot run; it is named.
    """
    parsed = [parse(text) for text in grids]
    keys = [key for alternatives in parsed for key in alternatives[0]]
    if 'seed' in keys or any(keys.count(key) > 1 for key in keys):
        raise UserError(f'grid: each key at most once, and the seeds by --seeds; got {", ".join(keys)}')
    if seeds < 1:
        raise UserError(f'seeds must be at least 1, got {seeds}')
    groups = {}  # points that share a compiled program, by its fingerprint
    data = {}  # steps in a data set, so that each is loaded once
    for combination in itertools.product(*parsed):
        values = tuple((key, value) for alternative in combination for key, value in alternative.items())
        flags = (f'--config={config}', *overrides, *(f'--config.{key}={value}' for key, value in values))
        program, own, steps = _checked(values, flags, data)
        for seed in range(seeds):
            with_seed = (*values, ('seed', str(seed)))
            run = _digest(own | {'seed': json.dumps(seed)})
            groups.setdefault(program, []).append(Point(with_seed, (*flags, f'--config.seed={seed}'), run, steps))
    return [point for group in groups.values() for point in group]


def resolve(point: Point) -> settings.Settings:
    """Returns the objects that the config of a point names.

    Raises:
      UserError: a value names nothing, or lies outside its domain; or a file has changed since the plan was made.
    """
    made = _resolved(point.flags)
    if _digest(identity(made)) != point.run:
        raise UserError('the config, or a file that it names, has changed since the sweep was started; start it again')
    return made


def _resolved(flags: Iterable[str]) -> settings.Settings:
    config, _ = command_line.parse(list(flags))
    return settings.resolve(config)


def _digest(own: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def _checked(values: Iterable[tuple[str, str]], flags: Iterable[str], data: dict) -> tuple[str, dict[str, str], int]:
    """Returns the fingerprint of a run's programs, its identity, and its steps, those of its ladder included.

    `data` is a cache of the steps in each data set.

    Raises:
      UserError: it cannot run; its values are named.
    """
    try:
        made = _resolved(flags)
        if not made.quantizes:
            raise UserError('a run in full precision has no twins, which a sweep compares; use experiments.train')
        config = made.config
        key = (config.dataset, config.data_dir, config.batch_size, config.image_size, config.context)
        if key not in data:
            data[key] = registry.load(config).steps_in_data
        _, steps = made.steps(data[key])
        runs = (2**config.ladder - 1) * config.ladder_seeds if config.ladder > 1 else 1  # a rung has twice the steps
        return fingerprint(made), identity(made), steps * runs
    except UserError as error:
        raise UserError(f'{", ".join(f"{key}={value}" for key, value in values)}: {error}') from None
