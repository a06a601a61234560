"""What a comparison leaves: summary.json, report.html and its figures, and a table for the terminal."""

import contextlib
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence

from experiments import terminal
from experiments.comparison import matching
from experiments.comparison.certainty import certainty
from experiments.comparison.following import MAPPED, Rounding, Sums
from experiments.comparison.matching import Layer
from experiments.comparison.series import Pair, Series
from experiments.errors import UserError, printable
from experiments.results import figures, pages
from experiments.results.metrics import METRICS
from experiments.workdir.files import blame_disk, write_json
from qat import trajectory
from qat.lockstep.twins import JITTER
from qat.lockstep.verdict import LIMIT

SUMMARY = 'summary.json'
_ERROR = 'weight_alignment_error'
_DRAWN = 60  # layers


def summarize(a: Series, b: Series, pair: Pair, layers: Sequence[Layer], rounding: Rounding, sums: Sums) -> dict:
    """Returns the content of summary.json, from the sums at the last step.

    `twins` has the metrics of B as those of a run's twin, `unmapped` against A and `mapped` against M(A); `exact` says
    of each metric True, or what it is: an upper or a lower bound, or sampled. What does not exist is None in both.
    """
    twins = {label: _metrics(by_layer.values()) for label, by_layer in sums.items()}
    steps = list(pair.a)
    return {
        'a': printable(a.where),
        'b': printable(b.where),
        'quantizer': rounding.quantizer.name if rounding.range else 'codes',
        'range': rounding.range and rounding.range.text,
        'map': rounding.estimator and str(rounding.estimator),
        'first_step': steps[0],
        'steps': steps[-1],
        'snapshots': len(steps),
        'every_update': pair.is_every_update,
        'weights': matching.weights(layers),
        'left_out': {name: _left_out(series, steps) for name, series in (('a', a), ('b', b))},
        'exact': {
            key: None if all(metrics[key] is None for metrics in twins.values()) else certainty(key, pair)
            for key in next(iter(twins.values()))
        },
        'twins': twins,
        'layers': {
            label: {layer: _metrics([of_layer]) for layer, of_layer in by_layer.items()}
            for label, by_layer in sums.items()
        },
    }


def _left_out(series: Series, steps: Sequence[int]) -> dict[str, int] | None:
    """How many snapshots of a series the other has no like of, and to which step it goes on; None where it has all."""
    count = len(series.snapshots) - len(steps)
    return {'snapshots': count, 'last_step': max(series.snapshots)} if count else None


def _metrics(layers) -> dict[str, float | int | list[float] | None]:
    found = trajectory.summarize(sums for of_layer in layers for sums in of_layer)
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in found.items()
    }


def rows(over_time: Mapping[int, Sums]) -> list[dict]:
    """Returns the alignment errors as rows of metrics.jsonl have them, and of the last step those of layers."""
    found = []
    for step, sums in over_time.items():
        row = {'step': step}
        for label, by_layer in sums.items():
            row |= {f'{label}/{key}': value for key, value in _metrics(by_layer.values()).items()}
        found.append(row)
    return found


@contextlib.contextmanager
def folder(out: pathlib.Path) -> Iterator[None]:
    """Makes the folder of the comparison; what it made goes again where nothing is written into it.

    Raises:
      UserError: it cannot be written, or is not empty.
    """
    missing = [path for path in (out, *out.parents) if not path.exists()]
    try:
        with blame_disk(out, 'out'):
            out.mkdir(parents=True, exist_ok=True)
            if any(out.iterdir()):
                raise UserError(f'out: {out} holds something already; give a new or an empty folder')
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty
            for path in missing:
                path.rmdir()


def write(out: pathlib.Path, result: Mapping, over_time: list[dict]) -> pathlib.Path:
    """Writes summary.json, report.html and figures/*.png, and returns the path of the page.

    Args:
      out: the folder.
      result: of `summarize`.
      over_time: of `rows`.

    Raises:
      UserError: it cannot be written.
    """
    labels = list(result['twins'])
    drawn = {}
    if result['twins'][labels[0]][_ERROR] is not None:
        drawn = {'alignment': figures.alignment(over_time, labels), 'layers': _layers(result, labels)}
    with blame_disk(out, 'out'):
        write_json(out / SUMMARY, result)
        return pages.write(
            out,
            'comparison.html.jinja',
            drawn,
            result=result,
            metrics=_shown(result),
            known=lambda key: in_words(result, key),
            yardstick=yardstick(result),
            most=_DRAWN,
        )


def _layers(result: Mapping, labels: Sequence[str]):
    """Draws the layers with the largest errors."""
    errors = result['layers'][labels[-1]]
    largest = sorted(errors, key=lambda layer: -(errors[layer][_ERROR] or 0))[:_DRAWN]
    row = {f'{label}/{layer}/{_ERROR}': result['layers'][label][layer][_ERROR] for label in labels for layer in largest}
    return figures.layers([row], labels)


def in_words(result: Mapping, key: str) -> str:
    """Returns how a metric is marked for people."""
    known = result['exact'][key]
    if known is None:
        return 'no value' if result['range'] else 'needs weights'
    return 'exact' if known is True else known


def yardstick(result: Mapping) -> str:
    """Returns against what an error is to be read, in a paragraph."""
    if not result['range']:
        return 'Codes have no alignment errors. To judge how far B is from A, save weights.'
    mapped = (
        ' M helps only where B is STE with the recipe: with another map, or without the recipe, the error against M(A) '
        'is about as large as that against A.'
    )
    return (
        f'Is that far? Save a third run too, A once more with {JITTER:g} times the learning rate (jitter), and compare '
        f'A with it in the same way: an error of B up to {LIMIT:g} times its {_ERROR} counts as the same.'
        f'{mapped if MAPPED in result["twins"] else ""}'
    )


def table(result: Mapping) -> str:
    """Returns the table for the terminal, from the content of summary.json."""
    twins = result['twins']
    headings = ['against M(A)' if label == MAPPED else 'against A' for label in twins]
    lines = [
        [key, *(pages.number(metrics[key]) for metrics in twins.values()), in_words(result, key)]
        for key in _shown(result)
    ]
    return terminal.table(['metric', *headings, 'known'], lines)


def _shown(result: Mapping) -> dict:
    return {key: METRICS[key] for key in result['exact'] if key in METRICS}
