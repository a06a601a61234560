"""What a person does with an answer: it in plain words first, then the next command, and the recipe to take home.

What is known of an answer is its beginning, see `qat.lockstep.verdict` and `experiments.results.limit`.
"""

import dataclasses
import pathlib
from collections.abc import Mapping

import numpy as np

from experiments.results import explanation, limit
from experiments.setup.settings import Settings
from experiments.workdir.records import ORIGIN
from qat.lockstep import verdict
from qat.theory.weight_map import WeightMap

MAP_FILE = 'weight_map.csv'
_OFFSETS = 1001  # rows of the table of M
_SHORTEST_LADDER = 3
_FIRST_SENTENCES = {
    verdict.YES: ('yes', 'Yes. At this setting you can use STE in place of {}.'),
    verdict.NO: ('no', 'No. At this setting STE does not train like {}.'),
    verdict.NONE: ('open', 'This run cannot tell whether you can use STE in place of {}.'),
    limit.YES: ('yes', 'Yes. At ever smaller learning rates {} becomes STE: it is an STE in disguise.'),
    limit.NO: ('no', 'No. At ever smaller learning rates {} stays different from STE: it is no STE in disguise.'),
    limit.UNSETTLED: ('open', 'This ladder cannot tell whether {} becomes STE at ever smaller learning rates.'),
    limit.NOT_ASKED: ('open', 'Whether {} becomes STE at ever smaller learning rates was not asked.'),
}


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer: its kind, 'yes', 'no' or 'open'; a first sentence in plain words; and the whole, with its numbers."""

    kind: str
    sentence: str
    whole: str


@dataclasses.dataclass(frozen=True)
class Step:
    """One thing to do, and what to copy for it, perhaps ''."""

    sentence: str
    to_copy: str = ''


def answers(result: Mapping, subject: str) -> list[Answer]:
    """Returns the answers of a run: at its setting, and in the limit.

    Args:
      result: the content of summary.json; a run may be older than its 'limit'.
      subject: what they are on, such as 'dsq(k=6.5)'.
    """
    wholes = [result['verdict'], *([result['limit']['answer']] if 'limit' in result else [])]
    known = [(*_first(whole), whole) for whole in wholes]
    return [Answer(kind, sentence.format(subject), whole) for kind, sentence, whole in known]


def _first(whole: str) -> tuple[str, str]:
    found = [beginning for beginning in _FIRST_SENTENCES if whole.startswith(beginning)]
    return _FIRST_SENTENCES[max(found, key=len, default=verdict.NONE)]  # one may begin with another


def to_do(settings: Settings, result: Mapping, workdir: pathlib.Path) -> list[Step]:
    """Returns what to do after a run: the next command, and the recipe for another program."""
    flags = [f'--config={workdir}/config.json', f'--workdir={workdir}']
    if result['verdict'].startswith(verdict.NONE):
        again = _remedy(settings, result['verdict'], flags)
    else:
        again = [] if (workdir / ORIGIN).exists() else _ladder(settings, result, flags)  # which begins at the beginning
    return again + _recipe(settings, flags)


def _remedy(settings: Settings, whole: str, flags: list[str]) -> list[Step]:
    """The run again, with what the verdict says that it lacked."""
    config = settings.config
    remedies = {
        'was not run': f'--config.twins={explanation.twins_to_check(settings)}',
        'smaller learning rate': f'--config.learning_rate={config.learning_rate / 4:g}',
        'larger learning rate': f'--config.learning_rate={config.learning_rate * 4:g}',
        'more steps': f'--config.num_epochs={config.num_epochs * 4}',
    }
    changes = [flag for said, flag in remedies.items() if said in whole][:1]
    command = explanation.train_command(flags, [*changes, _beside(flags, 'again')])
    return [Step('Run again so that it can tell, for example:', command)] if changes else []


def _ladder(settings: Settings, result: Mapping, flags: list[str]) -> list[Step]:
    """The first ladder, or a longer one where one has not settled it."""
    config, twins = settings.config, settings.twins.keys()
    if 'limit' in result and _first(result['limit']['answer'])[0] != 'open':
        return []
    rungs = _SHORTEST_LADDER if config.ladder == 1 else config.ladder + 1
    changes = [f'--config.ladder={rungs}']
    if 'jitter' not in twins or not twins & set(verdict.STE_TWINS):
        changes += [f'--config.twins={explanation.twins_to_check(settings)}', _beside(flags, 'ladder')]
    said = (
        f'Ask the limit: the same at 1/2 to 1/{2 ** (rungs - 1)} of the learning rate, {config.ladder_seeds} seeds '
        f'each, takes {(2**rungs - 1) * config.ladder_seeds} times as long as this run:'
    )
    return [Step(said, explanation.train_command(flags, changes))]


def _beside(flags: list[str], name: str) -> str:
    """The flag for a workdir of another run, beside this one's."""
    return f'{flags[-1]}-{name}'


def _recipe(settings: Settings, flags: list[str]) -> list[Step]:
    found, name = explanation.recipe(settings), settings.estimator
    if found is None:
        return [Step(f'Stay with {name}, or try STE with nothing adjusted: no recipe is known.')]
    by_itself = explanation.as_config(settings)
    command = explanation.train_command(flags, [*by_itself, _beside(flags, 'ste')])
    train = [Step('Train the STE of the recipe by itself:', command)] if by_itself else []
    said = ' that passes gradients outside the range too' if name.clip.passes else ''
    if not found.remaps_initialization:
        return [Step(f'In your own program use STE{said} in place of {name}, and change nothing else.'), *train]
    factor, outside = f'{found.learning_rate_factor:.6g}', _PASSING if said else 'w'
    start = _START.format(file=MAP_FILE, bits=name.bits, outside=outside)
    return [
        Step(
            f'In your own program use STE{said} in place of {name}. Start the quantized weights from M of what they '
            f'would start from ({MAP_FILE} is M over one cell), R the range of a layer ({settings.config.range}):',
            start,
        ),
        Step(
            f'and multiply the learning rate of the quantized weights, and of no other, by {factor}. In optax:',
            _OPTAX.format(factor=factor),
        ),
        Step('In PyTorch:', _TORCH.format(factor=factor, rate=f'{settings.peak_learning_rate:g}')),
        *train,
    ]


def weight_map(settings: Settings) -> str | None:
    """Returns M over one cell as CSV: offsets from the threshold, before and after, in step sizes; None without M."""
    found = explanation.recipe(settings)
    if found is None or not found.remaps_initialization:
        return None
    offsets = np.linspace(-0.5, 0.5, _OFFSETS, dtype=np.float32)
    mapped = np.asarray(WeightMap(settings.estimator).on_offsets(offsets))
    return 'w,M(w)\n' + ''.join(f'{before:.9g},{after:.9g}\n' for before, after in zip(offsets, mapped))


_PASSING = 'np.sign(w) * (R**2 + w**2) / (2 * R)'
_START = """\
import numpy as np

offset, mapped = np.loadtxt('{file}', delimiter=',', skiprows=1, unpack=True)


def M(w, R, bits={bits}):
    D = 2 * R / (2**bits - 1)  # the quantizer's step
    cell = np.clip(np.floor((w + R) / D), 0, 2**bits - 2)  # w is nearest to the threshold -R + (cell + 1/2) D
    inside = -R + D * (cell + 0.5 + np.interp((w + R) / D - cell - 0.5, offset, mapped))
    return np.where(np.abs(w) <= R, inside, {outside})
"""
_OPTAX = """\
import jax, optax


def quantized(params):  # True for the weights that are quantized
    return jax.tree_util.tree_map_with_path(lambda path, _: 'kernel' in jax.tree_util.keystr(path), params)


optimizer = optax.chain(optimizer, optax.masked(optax.scale({factor}), quantized))
"""
_TORCH = """\
optimizer = torch.optim.SGD([  # or what you use
    {{'params': quantized_weights, 'lr': {factor} * {rate}}},
    {{'params': all_others, 'lr': {rate}}},
], momentum=0.9)
with torch.no_grad():
    for w, R in zip(quantized_weights, ranges):
        w.copy_(torch.from_numpy(M(w.cpu().numpy(), R)))
"""
