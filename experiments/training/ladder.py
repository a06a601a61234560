"""The ladder of a run: the same at half, a quarter, ... of its learning rate over twice, four times the steps.

Every rung is a run of its own with its own workdir, for some seeds each; all of one process share one compilation.
"""

import dataclasses
import itertools

import ml_collections

from experiments.setup.settings import Settings, resolve


@dataclasses.dataclass(frozen=True)
class Rung:
    """One run of a ladder.

    Attributes:
      folder: its workdir, beneath that of the run that asks; '' if it is that run itself.
      settings: its own.
    """

    folder: str
    settings: Settings


def rungs(settings: Settings) -> list[Rung]:
    """The runs of a ladder, from the highest learning rate down and by seed; the first is the run that asks."""
    config, found = settings.config, [Rung('', settings)]
    for halvings, seed in itertools.product(range(config.ladder), range(config.ladder_seeds)):
        if config.ladder > 1 and (halvings or seed):
            folder = f'ladder/rate-over-{2**halvings}-seed-{config.seed + seed}'
            found.append(Rung(folder, resolve(_config(config, halvings, seed))))
    return found


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
