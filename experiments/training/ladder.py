"""The ladder of a run: the same at half, a quarter, ... of its learning rate over twice, four times the steps.

Every rung is a run of its own with its own workdir, for some seeds each; all of one process share one compilation.
"""

import dataclasses
import itertools
import pathlib

import ml_collections

from experiments.errors import UserError
from experiments.setup.settings import Settings, resolve
from experiments.workdir.records import ORIGIN
from qat.lockstep.verdict import STE_TWINS


@dataclasses.dataclass(frozen=True)
class Rung:
    """One run of a ladder.

    Attributes:
      folder: its workdir, beneath that of the run that asks; '' if it is that run itself.
      settings: its own.
    """

    folder: str
    settings: Settings


def check(settings: Settings, workdir: pathlib.Path) -> None:
    """Refuses a ladder that could give no answer.

    Raises:
      UserError: no quantizer, no yardstick, no STE twin, or a run that `experiments.convert` began in the middle.
    """
    if not settings.quantizes:
        raise UserError('ladder: with quantized=none there is no estimator to ask the limit of; use --config.ladder=1')
    if 'jitter' not in settings.twins or not set(settings.twins) & set(STE_TWINS):
        raise UserError('ladder: needs the twins jitter and one of STE, as in --config.twins=ste,naive_ste,jitter')
    if (workdir / ORIGIN).exists():
        raise UserError(f'ladder: {workdir} began in the middle of another run; climb a ladder from the beginning')


def rungs(settings: Settings) -> list[Rung]:
    """The runs of a ladder, from the highest learning rate down and by seed; the first is the run that asks."""
    config, found = settings.config, [Rung('', settings)]
    for halvings, seed in itertools.product(range(config.ladder), range(config.ladder_seeds)):
        if config.ladder > 1 and (halvings or seed):
            folder = f'ladder/rate-over-{2**halvings}-seed-{config.seed + seed}'
            found.append(Rung(folder, _resolved(folder, _config(config, halvings, seed))))
    return found


def _resolved(folder: str, config: ml_collections.ConfigDict) -> Settings:
    try:
        return resolve(config)
    except UserError as error:  # it names values that the user has not given
        raise UserError(f'ladder, ladder_seeds: the run {folder} of the ladder: {error}') from None


def _config(config: ml_collections.ConfigDict, halvings: int, seed: int) -> ml_collections.ConfigDict:
    longer = 2**halvings
    return ml_collections.ConfigDict(
        {
            **config,
            'ladder': 1,
            'seed': config.seed + seed,
            'learning_rate_scale': config.learning_rate_scale / longer,
            'epochs_scale': config.epochs_scale * longer,
            'max_steps': config.max_steps if config.max_steps == -1 else config.max_steps * longer,
            'eval_every_epochs': config.eval_every_epochs * longer,
        }
    )
