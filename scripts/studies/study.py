"""What a study is, and how it gets from its runs to a committed page."""

import dataclasses
import functools
import pathlib
import shutil
from collections.abc import Callable, Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.results import figures
from experiments.results.pages import number
from experiments.sweeps import plan, pool, table, worker
from experiments.sweeps.report import ERROR, grouped
from experiments.workdir.files import read_json, write_json

# max_steps ends the run, and it is evaluated before the first step and after the last.
BOTH_ENDS = ('num_epochs=1000', 'eval_every_epochs=1000', 'checkpoint_every_steps=1000')
_SECONDS_AN_HOUR = 3600


def at_constant_length(rates: dict[float, int]) -> str:
    """The grid of learning rates, each with its own number of steps; their product is to be constant."""
    return 'learning_rate=' + '|'.join(f'{rate};max_steps={steps}' for rate, steps in rates.items())


def by_rate(rows: list[dict]) -> tuple[list[float], list[list[float]]]:
    """(learning rates, errors (seeds, learning rates)) of the rows of one twin in one setting."""
    ordered = sorted(rows, key=lambda row: float(row['learning_rate']))
    errors = [[row[ERROR] for row in of_seed] for of_seed in grouped(ordered, ['seed']).values()]
    return sorted({float(row['learning_rate']) for row in rows}), errors


def error_bars(intervals: Iterable[tuple[float, float, float]]) -> list[list[float]]:
    """How far intervals (mean, low, high) reach below their means and above, as matplotlib takes them."""
    found = list(intervals)
    return [[mean - low for mean, low, _ in found], [high - mean for mean, _, high in found]]


def mark_rates(axis: Axes, rates: Iterable[float]) -> None:
    """The x axis logarithmic, with a tick at every learning rate."""
    axis.set_xscale('log')
    axis.set_xticks(sorted(rates), [f'{rate:g}' for rate in sorted(rates)])
    axis.xaxis.minorticks_off()


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One part of a study: what `python -m scripts.sweep` would be given; `seeds` where not the study's."""

    name: str
    config: str
    grids: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    seeds: int | None = None

    @functools.cache  # noqa: B019, there are few
    def points(self, seeds: int) -> list[plan.Point]:
        """Its runs."""
        overrides = [f'--config.{text}' for text in self.overrides]
        return plan.points(self.config, overrides, self.grids, self.seeds or seeds)


@dataclasses.dataclass(frozen=True)
class Study:
    """A question, the runs that answer it, and how their table is read.

    Attributes:
      title: of its page.
      question: a sentence or two.
      sweeps: its parts.
      seeds: of every point.
      figure: the table's rows -> a picture.
      table: the rows -> (header, lines of cells).
      findings: the rows -> paragraphs of what they say, every number from the rows.
    """

    title: str
    question: str
    sweeps: tuple[Sweep, ...]
    seeds: int
    figure: Callable[[list[dict]], Figure]
    table: Callable[[list[dict]], tuple[list[str], list[list[str]]]]
    findings: Callable[[list[dict]], list[str]]


def run(study: Study, out: pathlib.Path, workers: int, command: str) -> int:
    """Runs, or continues, every part; returns the first exit code that is not 0."""
    codes = [pool.run(out / part.name, part.points(study.seeds), workers, None, command) for part in study.sweeps]
    return next((code for code in codes if code), 0)


def rows(study: Study, out: pathlib.Path) -> list[dict]:
    """The table of all parts; each row says of which part it is."""
    return [
        {'part': part.name, **row}
        for part in study.sweeps
        for row in table.rows(out / part.name, part.points(study.seeds))
    ]


def hours(study: Study, out: pathlib.Path) -> float:
    """What the runs took, compilation and training, one after the other."""
    total = 0.0
    for part in study.sweeps:
        for point in part.points(study.seeds):
            workdir = out / part.name / worker.POINTS / point.name
            timing, steps = read_json(workdir / 'timing.json'), read_json(workdir / 'summary.json')['steps']
            total += steps / timing['steps_per_second'] + (timing['compile_seconds'] or 0)
    return total / _SECONDS_AN_HOUR


def record(study: Study, name: str, out: pathlib.Path, directory: pathlib.Path, command: str) -> pathlib.Path:
    """Writes a study's page, figure and table into a folder of committed results; returns the page's path."""
    found, taken = rows(study, out), hours(study, out)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / 'figure.png').write_bytes(figures.png(study.figure(found)))
    for part in study.sweeps:
        shutil.copy(out / part.name / table.CSV, directory / f'{part.name}.csv')
    first = study.sweeps[0]
    environment = read_json(out / first.name / worker.POINTS / first.points(1)[0].name / 'environment.json')
    write_json(directory / 'study.json', {'study': name, 'seeds': study.seeds, 'hours': taken, 'machine': environment})
    path = directory / 'README.md'
    path.write_text(_page(study, found, taken, environment, command))
    _write_index(directory.parent)
    return path


def _write_index(results: pathlib.Path) -> None:
    """README.md of the folder of results: the title of every page below it."""
    titles = {path: path.read_text().splitlines()[0].lstrip('# ') for path in sorted(results.glob('*/README.md'))}
    lines = [f'- [{title}]({path.relative_to(results)})' for path, title in titles.items()]
    (results / 'README.md').write_text('\n'.join(['# What was measured', '', *lines]) + '\n')


def _page(study: Study, found: list[dict], taken: float, environment: dict, command: str) -> str:
    header, lines = study.table(found)
    versions = environment['versions']
    return (
        '\n\n'.join(
            [
                f'# {study.title}',
                study.question,
                *study.findings(found),
                '![figure](figure.png)',
                '\n'.join([_line(header), _line(['---'] * len(header)), *map(_line, lines)]),
                'Brackets are 95% bootstrap intervals of the mean over seeds. Every metric of every run: '
                + ', '.join(f'[{part.name}.csv]({part.name}.csv)' for part in study.sweeps)
                + '.',
                f'Written by `{command}` from the files of {len(found)} runs and twins, {study.seeds} seeds; '
                f'{number(taken)} hours of running on {environment["devices"]}, jax {versions["jax"]}.',
            ]
        )
        + '\n'
    )


def _line(cells: list[str]) -> str:
    return f'| {" | ".join(cells)} |'
