"""How a study gets from its runs to a committed page.

A study is a module: its docstring asks the question, SWEEPS are its parts, `figure(rows)` is its picture,
`table(rows)` gives (header, lines of cells), `claims(rows)`, if there is one, those of a table before it, and
`stated(rows)` what the paragraphs of its page have to state, in their order: estimates, numbers, names in backticks,
and lists of these.
"""

import csv
import dataclasses
import pathlib
import shutil
from collections.abc import Collection, Iterable
from types import ModuleType

import numpy as np
from matplotlib.axes import Axes

from experiments.errors import UserError
from experiments.results import figures
from experiments.results.metrics import METRICS
from experiments.results.pages import number
from experiments.results.statistics import Estimate, interval, order
from experiments.sweeps import plan, pool, table, worker
from experiments.sweeps.report import ERROR, grouped
from experiments.training.stopping import STOPPED
from experiments.workdir.files import read_json, write_json, write_text
from qat import calls
from scripts.markdown import between, markers
from scripts.markdown import table as markdown_table

# max_steps ends the run, and it is evaluated before the first step and after the last.
BOTH_ENDS = ('num_epochs=1000', 'eval_every_epochs=1000', 'checkpoint_every_steps=1000')
_WRITTEN = 'table'
BEGIN, END = markers(_WRITTEN)  # of what a program writes on a page; the rest is people's
MADE = 'study.json'
CAPTION = (
    "95% intervals of Student's t over n seeds, which a single seed has not; means of errors and ratios are geometric"
)
_SECONDS_AN_HOUR = 3600


def at_constant_length(rates: dict[float, int]) -> str:
    """The grid of learning rates, each with its own number of steps; their product is to be constant."""
    return 'learning_rate=' + '|'.join(f'{rate};max_steps={steps}' for rate, steps in rates.items())


def by_rate(rows: list[dict], key: str = ERROR) -> tuple[list[float], list[list[float]]]:
    """(learning rates, errors (seeds, learning rates)) of the rows of one twin in one setting."""
    ordered = sorted(rows, key=lambda row: float(row['learning_rate']))
    errors = [[row[key] for row in of_seed] for of_seed in grouped(ordered, ['seed']).values()]
    return sorted({float(row['learning_rate']) for row in rows}), errors


def ladder(rows: list[dict], part: str, twin: str) -> tuple[list[float], list[list[float]]]:
    """(learning rates, errors (seeds, learning rates)) of a twin in a part that has one setting."""
    return by_rate([row for row in rows if row['part'] == part and row['twin'] == twin])


def orders(rows: list[dict], part: str, twin: str) -> tuple[Estimate | None, Estimate | None]:
    """The order of a twin's error in a part that has one setting, and that of it in units of jitter's."""
    found = ladder(rows, part, twin)
    return order(*found), order(*found, ladder(rows, part, 'jitter')[1])


def in_jitters(rows: list[dict], part: str, twin: str) -> list[Estimate | None]:
    """The error of a twin in units of that of `jitter`, at every learning rate, from the lowest."""
    return over_seeds(np.divide(ladder(rows, part, twin)[1], ladder(rows, part, 'jitter')[1]))


def over_seeds(errors: Iterable[Iterable[float]]) -> list[Estimate | None]:
    """The geometric mean of every column of (seeds, learning rates)."""
    return [interval(column, log=True) for column in zip(*errors)]


def ends(estimates: Iterable[Estimate]) -> tuple[float, float]:
    """The least and the largest value."""
    values = [found.value for found in estimates]
    return min(values), max(values)


def draw(axis: Axes, x: Iterable[float], estimates: Collection[Estimate], **style) -> None:
    """A line through the estimates, with bars from end to end of their intervals."""
    axis.errorbar(x, [found.value for found in estimates], figures.error_bars(estimates), capsize=3, **style)


def mark_rates(axis: Axes, rates: Iterable[float]) -> None:
    """The x axis logarithmic, with a tick at every learning rate."""
    axis.set_xscale('log')
    axis.set_xticks(sorted(rates), [f'{rate:g}' for rate in sorted(rates)])
    axis.xaxis.minorticks_off()


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One part of a study: what `python -m experiments.sweep` would be given."""

    name: str
    grids: tuple[str, ...]
    overrides: tuple[str, ...]
    seeds: int
    config: str = 'configs/digits.py'

    def points(self, seeds: int | None = None) -> list[plan.Point]:
        """Its runs, of all its seeds or of the first few."""
        return plan.points(
            self.config, [f'--config.{text}' for text in self.overrides], self.grids, seeds or self.seeds
        )


def parts(study: ModuleType, name: str | None) -> tuple[Sweep, ...]:
    """The part of a study with a name, or all.

    Raises:
      UserError: there is no such part.
    """
    found = {part.name: part for part in study.SWEEPS}
    if name is None:
        return study.SWEEPS
    if name not in found:
        raise UserError(calls.unknown('part', name, found))
    return (found[name],)


def run(study: ModuleType, out: pathlib.Path, workers: int, chosen: Iterable[Sweep]) -> int:
    """Runs, or continues, some parts, until a signal stops it; returns the first exit code that is not 0."""
    codes = []
    for part in chosen:
        codes.append(pool.run(out / part.name, part.points(), workers, None, _command(study)))
        if codes[-1] in STOPPED:
            return codes[-1]
    return next((code for code in codes if code), 0)


def _command(study: ModuleType) -> str:
    return f'python -m scripts.study {_name(study)}'


def _name(study: ModuleType) -> str:
    return study.__name__.rpartition('.')[2]


def record(study: ModuleType, out: pathlib.Path, directory: pathlib.Path, chosen: Iterable[Sweep]) -> pathlib.Path:
    """Writes the tables and the page of finished parts into a folder of committed results; returns the page's path.

    The tables of other parts stay, and the hours of running are added to theirs.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for part in chosen:
        shutil.copy(out / part.name / table.CSV, directory / f'{part.name}.csv')
    workdirs = [out / part.name / worker.POINTS / point.name for part in chosen for point in part.points()]
    earlier = 0 if chosen == study.SWEEPS else read_json(directory / MADE)['hours']
    made = {
        'study': _name(study),
        'hours': earlier + sum(map(_seconds, workdirs)) / _SECONDS_AN_HOUR,
        'machine': read_json(workdirs[0] / 'environment.json'),
    }
    write_json(directory / MADE, made)
    return write_page(study, directory)


def _seconds(workdir: pathlib.Path) -> float:
    """What a run took, compilation and training."""
    timing, steps = read_json(workdir / 'timing.json'), read_json(workdir / 'summary.json')['steps']
    return steps / timing['steps_per_second'] + (timing['compile_seconds'] or 0)


def rows(study: ModuleType, directory: pathlib.Path) -> list[dict]:
    """The committed tables of all parts; each row says of which part it is.

    Raises:
      UserError: that of a part is not there yet.
    """
    if lacking := [part.name for part in study.SWEEPS if not (directory / f'{part.name}.csv').is_file()]:
        raise UserError(f'{directory} has no page yet: it lacks {", ".join(lacking)}; run --part={lacking[0]} too')
    found = []
    for part in study.SWEEPS:
        with (directory / f'{part.name}.csv').open(newline='', encoding='utf-8') as file:
            for row in csv.DictReader(file):
                measured = [key for key in (*METRICS, *table.REFERENCE_COLUMNS) if key in row]  # some may be newer
                numbers = {key: float(row[key]) if row[key] else None for key in measured}
                found.append({'part': part.name, **row, **numbers})
    return found


def write_page(study: ModuleType, directory: pathlib.Path) -> pathlib.Path:
    """Writes the figure, and on README.md what stands between the markers; returns the page's path.

    Raises:
      UserError: the page is there, but not its markers.
    """
    path = directory / 'README.md'
    found = (
        path.read_text(encoding='utf-8')
        if path.exists()
        else f'# {_name(study)}\n\n{study.__doc__}\n\n{BEGIN}\n{END}\n'
    )
    found = between(found, _WRITTEN, rendered(study, directory), path)
    (directory / 'figure.png').write_bytes(figures.png(study.figure(rows(study, directory))))
    write_text(path, found)
    return path


def rendered(study: ModuleType, directory: pathlib.Path) -> str:
    """Figure, table, links, and what the runs were: the part of a page that follows from the files beside it."""
    found, made = rows(study, directory), read_json(directory / MADE)
    tables = [*([study.claims] if hasattr(study, 'claims') else []), study.table]
    machine = made['machine']
    return '\n\n'.join(
        [
            '![figure](figure.png)',
            *(markdown_table(*made_of(found)) for made_of in tables),
            f'Brackets are {CAPTION}. Every metric of every run: '
            + ', '.join(f'[{part.name}.csv]({part.name}.csv)' for part in study.SWEEPS)
            + '.',
            f'Written by `{_command(study)}` from the files of {len(found)} runs and twins; '
            f'{number(made["hours"])} hours of running on {machine["devices"]}, jax {machine["versions"]["jax"]}.',
        ]
    )
