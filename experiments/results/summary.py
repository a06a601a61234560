"""Turns sums from the devices into a row of metrics.jsonl, and the rows into summary.json."""

import io
import math
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from experiments.results.metrics import METRICS
from experiments.setup.settings import Settings
from experiments.workdir.records import correlations
from qat import trajectory
from qat.lockstep.twins import REFERENCE
from qat.lockstep.verdict import verdict

PER_LAYER = ('weight_alignment_error', 'quantized_weight_agreement')


def row(
    computed_by: Mapping[str, str], step: int, losses: dict, evaluated: dict, measured: dict, rows: list[dict]
) -> dict:
    """Returns the metrics of all runs at a step.

    Args:
      computed_by: by twin, the name of the run whose numbers it shares (its own, unless it is a copy).
      step: updates made.
      losses: mean training loss since the last row, by computed run; None before the first step.
      evaluated: the sums of `Lockstep.evaluate`.
      measured: the result of `Lockstep.measure`.
      rows: the earlier rows, for the correlations.

    Returns:
      A flat dict; what does not exist, or is not finite, is None.
    """
    examples, of_task = evaluated['examples'], evaluated['metrics']
    line = {'step': step, 'train/loss': losses[REFERENCE]}
    line |= {f'eval/{name}': sums[REFERENCE] / examples for name, sums in of_task.items()}
    for twin, run in computed_by.items():
        line |= {f'{twin}/train_loss': losses[run]}
        line |= {f'{twin}/eval_{name}': sums[run] / examples for name, sums in of_task.items()}
        layers = measured[run]
        metrics = trajectory.summarize(layers.values())
        metrics |= correlations([*rows, line], twin)
        wrong = evaluated['both_wrong'][run]
        metrics |= {
            'inference_agreement': evaluated['agreeing'][run] / examples,
            'incorrect_inference_agreement': evaluated['both_wrong_agreeing'][run] / wrong if wrong else None,
        }
        line |= {f'{twin}/{key}': value for key, value in metrics.items()}
        for layer, sums in layers.items():
            of_layer = trajectory.summarize([sums])
            line |= {f'{twin}/{layer}/{key}': of_layer[key] for key in PER_LAYER}
    return {key: _finite(value) for key, value in line.items()}


def _finite(value):
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summarize(settings: Settings, rows: list[dict]) -> dict:
    """Returns the content of summary.json from the setting and the rows of a finished run."""
    last = rows[-1]
    twins = {}
    for twin in settings.twins:
        prefix = f'{twin}/'
        own = {key.removeprefix(prefix): value for key, value in last.items() if key.startswith(prefix)}
        of_all_layers = {key: value for key, value in own.items() if '/' not in key and key != 'train_loss'}
        twins[twin] = {key.removeprefix('eval_'): value for key, value in of_all_layers.items()}
    transfer_class = settings.transfer.transfer_class
    sentence = verdict(str(settings.estimator), str(settings.optimizer), transfer_class, settings.alpha(), twins)
    return {
        'config': settings.config.name,
        'steps': last['step'],
        'verdict': sentence,
        REFERENCE: {key.removeprefix('eval/'): value for key, value in last.items() if key.startswith('eval/')},
        'twins': twins,
    }


def table(result: dict) -> str:
    """Returns the table for the terminal, with the reference and each twin, from the content of summary.json."""
    columns = {metric.heading: name for name, metric in METRICS.items() if metric.heading}
    grid = Table('run', *columns)
    for name, metrics in {REFERENCE: result[REFERENCE], **result['twins']}.items():
        values = [metrics.get(key) for key in columns.values()]
        grid.add_row(name, *('-' if value is None else f'{value:.4f}' for value in values))
    out = io.StringIO()
    Console(file=out, width=100).print(grid)
    return out.getvalue().rstrip()
