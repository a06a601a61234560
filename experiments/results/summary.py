"""Turns sums from the devices into a row of metrics.jsonl, and the rows into summary.json."""

import math
from collections.abc import Callable, Mapping, Sequence

from experiments import terminal
from experiments.results import kappas
from experiments.results.limit import NOT_ASKED
from experiments.results.metrics import shown
from experiments.setup.settings import Settings
from experiments.workdir.records import correlations
from qat import trajectory
from qat.estimators import ste_with_clip_of
from qat.lockstep.twins import REFERENCE
from qat.lockstep.verdict import FULL_PRECISION, Evidence, before_saturation, verdict

PER_LAYER = (
    'weight_alignment_error',
    'quantized_weight_agreement',
    'never_flipped_reference',
    'never_flipped_twin',
)


def row(
    computed_by: Mapping[str, str],
    step: int,
    losses: dict,
    evaluated: dict,
    measured: dict,
    rows: list[dict],
    derived: Mapping[str, Callable],
) -> dict:
    """Returns the metrics of all runs at a step.

    Args:
      computed_by: by twin, the name of the run whose numbers it shares (its own, unless it is a copy).
      step: updates made.
      losses: mean training loss since the last row, by computed run; None before the first step.
      evaluated: the sums of `Lockstep.evaluate`.
      measured: the result of `Lockstep.measure`.
      rows: the earlier rows, for the correlations.
      derived: by name, metrics that are functions of the means of the others.

    Returns:
      A flat dict; what does not exist, or is not finite, is None.
    """
    examples = evaluated['examples']
    outcomes = {run: _means(evaluated, run, derived) for run in (REFERENCE, *computed_by.values())}
    line = {'step': step, 'train/loss': losses[REFERENCE]}
    line |= {f'eval/{name}': value for name, value in outcomes[REFERENCE].items()}
    for twin, run in computed_by.items():
        line |= {f'{twin}/train_loss': losses[run]}
        line |= {f'{twin}/eval_{name}': value for name, value in outcomes[run].items()}
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


def _means(evaluated: Mapping, run: str, derived: Mapping[str, Callable]) -> dict[str, float]:
    """Returns the metrics of a run on the validation examples, and what is derived from them."""
    means = {name: sums[run] / evaluated['examples'] for name, sums in evaluated['metrics'].items()}
    return means | {name: function(means) for name, function in derived.items()}


def _finite(value):
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summarize(
    settings: Settings, rows: list[dict], loss_of_guessing: float, ranges: Mapping, cautions: Sequence[str] = ()
) -> dict:
    """Returns the content of summary.json of a finished run, without what a ladder adds.

    Args:
      settings: of the run.
      rows: of metrics.jsonl.
      loss_of_guessing: of a model that knows nothing.
      ranges: R by quantized layer.
      cautions: what makes the claim doubtful in this setting.
    """
    first, last = rows[0], rows[-1]
    reference, twins = _outcomes(last), _twins(settings, last)
    newer = [row for row in rows if 'jitter/changed_codes' in row]  # than the first version of a run that went on
    measured = [row for row in newer[:-1] if row['step']] + [last]
    kappa = {layer: found for layer, found in settings.kappas(ranges).items() if found is not None}
    evidence = Evidence(
        settings.subject,
        over_time=[_twins(settings, row) for row in measured],
        reference=reference,
        untrained_loss=loss_of_guessing if first['step'] else min(loss_of_guessing, first['eval/loss']),
        first_loss=None if first['step'] else first['eval/loss'],
        reason=settings.why_no_recipe(),
        cautions=cautions,
        adjusted=settings.transfer.adjusts,
        is_ste=settings.estimator == ste_with_clip_of(settings.estimator),
    )
    return {
        'config': settings.config.name,
        'steps': last['step'],
        'verdict': verdict(evidence) if settings.quantizes else FULL_PRECISION,
        'limit': {'answer': NOT_ASKED if settings.quantizes else ''},
        **kappas.record(settings, kappa or None),
        'compared': _compared(evidence.over_time, [row['step'] for row in measured]),
        REFERENCE: reference,
        'twins': twins,
    }


def _compared(over_time: Sequence[Mapping], steps: Sequence[int]) -> dict:
    """Returns the last evaluation before saturation: its step, and the errors by twin; where there is none, the end."""
    count = before_saturation(over_time) if 'jitter' in over_time[-1] else len(over_time)
    errors = {twin: metrics['weight_alignment_error'] for twin, metrics in over_time[count - 1].items()}
    return {'step': steps[count - 1], 'errors': errors}


def _outcomes(row: dict) -> dict:
    """Returns the reference's metrics of validation in a row."""
    return {key.removeprefix('eval/'): value for key, value in row.items() if key.startswith('eval/')}


def _twins(settings: Settings, row: dict) -> dict:
    """Returns the metrics of every twin in a row."""
    twins = {}
    for twin in settings.twins:
        prefix = f'{twin}/'
        own = {key.removeprefix(prefix): value for key, value in row.items() if key.startswith(prefix)}
        of_all_layers = {key: value for key, value in own.items() if '/' not in key and key != 'train_loss'}
        twins[twin] = {key.removeprefix('eval_'): value for key, value in of_all_layers.items()}
    return twins


def table(result: dict) -> str:
    """Returns the table for the terminal, with the reference and each twin, from the content of summary.json."""
    columns = {metric.heading: name for name, metric in shown(result[REFERENCE]).items() if metric.heading}
    rows = []
    for name, metrics in {REFERENCE: result[REFERENCE], **result['twins']}.items():
        values = [metrics.get(key) for key in columns.values()]
        rows.append([name, *('-' if value is None else f'{value:.4f}' for value in values)])
    return terminal.table(['run', *columns], rows)
