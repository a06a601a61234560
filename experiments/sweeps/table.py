"""The runs of a sweep as one table, with a row for each run and twin, in CSV and Parquet."""

import pathlib

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from experiments.results import finished
from experiments.results.metrics import METRICS, shown
from experiments.sweeps import worker
from experiments.sweeps.plan import Point
from experiments.workdir.files import replacing

CSV, PARQUET = 'table.csv', 'table.parquet'
REFERENCE_COLUMNS = {'reference_accuracy': 'accuracy', 'reference_loss': 'loss'}


def rows(out: pathlib.Path, points: list[Point]) -> list[dict]:
    """Returns the rows of the finished runs.

    A row has the grid's keys and the seed as written, steps, verdict, the results of the reference, twin, and METRICS,
    without those that only tasks have of which there is no run.
    """
    found = []
    for point in points:
        workdir = out / worker.POINTS / point.name
        if not worker.is_finished(workdir):
            continue
        result = finished.result(workdir)
        shared = {**dict(point.values), 'steps': result['steps'], 'verdict': result['verdict']}
        shared |= {column: result['reference'][key] for column, key in REFERENCE_COLUMNS.items()}
        for twin, metrics in result['twins'].items():
            found.append({**shared, 'twin': twin, **{key: metrics.get(key) for key in METRICS}})
    there = shown({key for row in found for key, value in row.items() if value is not None})
    return [{key: value for key, value in row.items() if key in there or key not in METRICS} for row in found]


def failures(out: pathlib.Path, points: list[Point]) -> dict[str, str]:
    """Returns the reasons of the runs that failed, by the name of the point."""
    reasons = {point.name: worker.failure(out / worker.POINTS / point.name) for point in points}
    return {name: reason for name, reason in reasons.items() if reason}


def write(out: pathlib.Path, found: list[dict]) -> None:
    """Writes the rows as table.csv and table.parquet, each whole or not at all."""
    table = pa.Table.from_pylist(found)
    for name, writer in ((CSV, pa.csv.write_csv), (PARQUET, pa.parquet.write_table)):
        with replacing(out / name) as partial:
            writer(table, str(partial))
