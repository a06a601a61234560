"""The lines of the study of a language model: a twin in a setting, over seeds, and what theory says of it."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from experiments.results import ranges
from experiments.results.statistics import Estimate, interval
from experiments.setup import settings
from experiments.setup.config_file import load
from experiments.sweeps.report import ERROR, grouped
from qat import estimators, optimizers
from qat.theory import small_parameters
from qat.theory.small_parameters import SLOPE_CHANGE_WARNING

CONFIG = 'configs/shakespeare.py'
MODEL = ('model=transformer(layers=2, width=64, heads=2)', 'context=32', 'max_validation_examples=600')
FIXED = 'uniform;range=max_abs;range_policy=fixed;clip_rule=clip'
DYNAMIC = 'ternary;range=mean_abs;range_policy=dynamic;clip_rule=pass'
COLUMNS = ('estimator', 'quantizer', 'optimizer', 'learning_rate', 'range_policy', 'activation_bits')
YARDSTICKS = ('jitter', 'reshuffle')
SAME, DIFFERS = 'as jitter', 'differs'


class Line(NamedTuple):
    """A twin in a setting of a part, over seeds.

    Attributes:
      part: of the study.
      setting: the values of `COLUMNS` that the part varies, by name.
      twin: its name.
      error: of the weights.
      in_jitters, in_reshuffles: the error over that of these twins.
      loss: final validation loss of the twin less the reference's, in nats.
      loss_of_reshuffle: root mean square of the same of `reshuffle`: what another order of the data does to a run.
      flips: changes of code, over those of the reference.
      dead: share of weights whose code never changed, less the reference's.
    """

    part: str
    setting: dict[str, str]
    twin: str
    error: Estimate
    in_jitters: Estimate
    in_reshuffles: Estimate
    loss: Estimate
    loss_of_reshuffle: float
    flips: Estimate
    dead: Estimate


def lines(rows: list[dict]) -> list[Line]:
    """Those of all twins but the yardsticks."""
    found = []
    for part in dict.fromkeys(row['part'] for row in rows):
        of_part = [row for row in rows if row['part'] == part]
        varied = [key for key in COLUMNS if key in of_part[0]]
        for values, of_setting in grouped(of_part, varied).items():
            twins = {twin: sorted(its, key=_seed) for (twin,), its in grouped(of_setting, ['twin']).items()}
            names = [twin for twin in twins if twin not in YARDSTICKS]
            found += [_line(part, dict(zip(varied, values)), twin, twins) for twin in names]
    return found


def _seed(row: dict) -> int:
    return int(row['seed'])


def _line(part: str, setting: dict[str, str], twin: str, twins: dict[str, list[dict]]) -> Line:
    own, jitter, reshuffle = (twins[name] for name in (twin, *YARDSTICKS))

    def over(others):
        return interval([row[ERROR] / other[ERROR] for row, other in zip(own, others)], log=True)

    def lost(its):
        return [row['loss'] - row['reference_loss'] for row in its]

    return Line(
        part,
        setting,
        twin,
        interval([row[ERROR] for row in own], log=True),
        over(jitter),
        over(reshuffle),
        interval(lost(own)),
        float(np.sqrt(np.mean(np.square(lost(reshuffle))))),
        interval([row['flips_twin'] / row['flips_reference'] for row in own], log=True),
        interval([row['never_flipped_twin'] - row['never_flipped_reference'] for row in own]),
    )


def slope_change(setting: Mapping[str, str]) -> float:
    """The largest over the layers, from the initial weights of seed 0, at a setting of the part `kappa`."""
    optimizer = optimizers.parse(setting['optimizer'])
    kappa = small_parameters.kappa(optimizer, float(setting['learning_rate']), _smallest_step(setting['quantizer']))
    return small_parameters.slope_change(estimators.parse(setting['estimator'], 2), kappa)


@functools.cache
def _smallest_step(quantizer: str) -> float:
    """The least step size D of the layers of the model."""
    config = load(CONFIG)
    _, *choices = (DYNAMIC if quantizer == 'ternary' else FIXED).split(';')
    model, context, _ = (text.partition('=')[2] for text in MODEL)
    config.update({'quantizer': quantizer, 'model': model, 'context': int(context)})
    config.update(dict(choice.split('=') for choice in choices))
    made = settings.resolve(config)
    return min(float(made.estimator.quantizer.step_size(R)) for R in ranges.initial(made).values())


def predicted(line: Line) -> str:
    """What theory says of a line, written before it was measured."""
    if line.part == 'kappa':
        small = slope_change(line.setting) <= SLOPE_CHANGE_WARNING
        return SAME if small else DIFFERS
    if line.part == 'gain':  # kappa 0.05 and 5, times nearly 9 of RDFS
        return DIFFERS if line.setting['optimizer'] == 'adamw(b2=0.999)' else 'at the limit'
    if line.part in ('muon-update', 'muon-update-early', 'sgd-learned-u'):
        return 'falls with the rate' if line.twin == 'ste' else 'stays'
    if line.part in ('muon-gradient', 'muon-gradient-early', 'sgd-learned'):
        return 'stays'
    return DIFFERS if line.twin == 'ste_activations' else SAME
