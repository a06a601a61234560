"""The ladder of a run: the same at half, a quarter, ... of its learning rate over twice, four times the steps.

Every rung is a run of its own with its own workdir, for some seeds each; all of one process share one compilation.
"""

import dataclasses
from collections.abc import Iterator

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


def rungs(settings: Settings) -> Iterator[Rung]:
    """The runs of a ladder, from the highest learning rate down and by seed; the first is the run that asks."""
    for halvings in range(settings.config.ladder):
        for seed in range(settings.config.ladder_seeds):
            folder = f'ladder/rate-over-{2**halvings}-seed-{settings.config.seed + seed}' if halvings or seed else ''
            yield Rung(folder, resolve(_config(settings.config, halvings, seed)))


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
