"""What a person does with an answer: it in plain words first, then the next command, and the recipe to take home.

What is known of an answer is its beginning, see `qat.lockstep.verdict` and `experiments.results.limit`.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping

from experiments.results import commands, explanation, limit, take_home
from experiments.setup import users
from experiments.setup.settings import Settings
from experiments.workdir.records import ORIGIN
from qat.lockstep import verdict
from qat.transfer import DECAY

_SHORTEST_LADDER = 3
_LONGER = 4  # times the steps, where nobody knows how many times
_FIRST_SENTENCES = {
    verdict.YES: ('yes', 'Yes. At this setting you can use STE in place of {}.'),
    f'{verdict.YES}, STE{verdict.BY_RECIPE}': (
        'yes',
        'Yes. At this setting you can use STE by the recipe below in place of {}.',
    ),
    verdict.NO: (
        'no',
        'No. At this setting the weights take another path with STE than with {}; loss and accuracy may be equal.',
    ),
    verdict.FULL_PRECISION: (
        'open',
        'Nothing is quantized in this run: it is in full precision, and compares nothing.',
    ),
    verdict.NONE: ('open', 'This run cannot tell whether you can use STE in place of {}.'),
    limit.YES: ('yes', 'Yes. At ever smaller learning rates {} becomes STE: it is an STE in disguise.'),
    limit.NO: ('no', 'No. At ever smaller learning rates {} stays different from STE: it is no STE in disguise.'),
    limit.UNSETTLED: ('open', 'This ladder cannot tell whether {} becomes STE at ever smaller learning rates.'),
    limit.NOT_ASKED: ('open', 'Whether {} becomes STE at ever smaller learning rates was not asked.'),
}
_DOUBTED = ('but', 'Yes here, but with a caution: at this setting STE trains like {}, and elsewhere it may not.')
_PROVISOS = {  # of the recipe, by the kind of the answer at the setting
    'but': 'The recipe below is sure only where the caution above is gone.',
    'no': 'At this setting the recipe below changes the path of the weights. It is for smaller learning rates{}.',
    'open': 'This run does not say how well the recipe below works. It is for small learning rates{}.',
}
_OF_THE_LIMIT = {  # what is known of those, by the kind of the answer in the limit
    'yes': ', at which the difference vanishes',
    'no': ', and there the difference did not vanish either: stay with {}',
    'open': '; whether the difference vanishes there, this run does not say',
}


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer: its kind, 'yes', 'but', 'no' or 'open'; a first sentence in plain words; and why, in numbers."""

    kind: str
    sentence: str
    why: str


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
    known = [(*_first(whole), whole) for whole in wholes if whole]  # '': not of a run in full precision
    return [Answer(kind, sentence.format(subject), _why(whole)) for kind, sentence, whole in known]


def _first(whole: str) -> tuple[str, str]:
    found = [beginning for beginning in _FIRST_SENTENCES if whole.startswith(beginning)]
    first = _FIRST_SENTENCES[max(found, key=len, default=verdict.NONE)]  # one may begin with another
    return _DOUBTED if first[0] == 'yes' and verdict.BEWARE in whole else first


def _why(whole: str) -> str:
    """What an answer says after what its first sentence says too."""
    return '' if whole in (limit.NOT_ASKED, verdict.FULL_PRECISION) else whole.partition(': ')[2] or whole


def to_do(settings: Settings, result: Mapping, workdir: pathlib.Path) -> list[Step]:
    """Returns what to do after a run: the next command, and the recipe for another program."""
    flags = [f'--config={workdir}/config.json', f'--workdir={workdir}']
    if not settings.quantizes:
        return [_quantize(settings, flags, workdir)]
    if result['verdict'].startswith(verdict.NONE):
        again = _remedy(settings, result, flags)
    else:
        again = [] if (workdir / ORIGIN).exists() else _ladder(settings, result, flags)  # which begins at the beginning
    kinds = [answer.kind for answer in answers(result, '')]
    return again + _recipe(settings, flags, *kinds) + _activations(settings)


def _quantize(settings: Settings, flags: list[str], workdir: pathlib.Path) -> Step:
    """A run of the estimator from the weights of a run in full precision."""
    twins = commands.twins_to_check(settings)
    has_convolutions = 'conv' in users.fields(settings.model_class)
    wanted, kernels = ('conv', 'the convolutions') if has_convolutions else ('all', 'all kernels')
    changes = [f'--config.quantized={wanted}', f'--config.init_from={workdir}', f'--config.twins={twins}']
    command = commands.train_command(flags, [*changes, _beside(flags, 'quantized')])
    return Step(f'Quantize {kernels}, starting from these weights:', command)


def _remedy(settings: Settings, result: Mapping, flags: list[str]) -> list[Step]:
    """The run again, with what the verdict says that it lacked, and as much more of it as is missing."""
    config, whole, more = settings.config, result['verdict'], _LONGER
    cut_short = result['steps'] == config.max_steps
    if 'codes' in whole and 'are needed' in whole:
        more = _times_more(result['twins']['jitter'])
        whole = 'more steps' if cut_short else 'larger learning rate'
    longer = [f'--config.num_epochs={config.num_epochs * more}']
    remedies = {
        'was not run': [f'--config.twins={commands.twins_to_check(settings)}'],
        'smaller learning rate': [f'--config.learning_rate={config.learning_rate / 4:g}'],
        'larger learning rate': [f'--config.learning_rate={config.learning_rate * more:g}'],
        'more steps': [*longer, *([f'--config.max_steps={config.max_steps * more}'] if cut_short else [])],
    }
    changes = next((found for said, found in remedies.items() if said in whole), [])
    command = commands.train_command(flags, [*changes, _beside(flags, 'again')])
    return [Step('Run again so that it can tell, for example:', command)] if changes else []


def _times_more(jitter: Mapping) -> int:
    """By what to multiply steps or learning rate so that twice the codes change that a verdict needs."""
    found = min(jitter['changed_codes'] / verdict.FEWEST_CHANGES, jitter['changed_fraction'] / verdict.SMALLEST_SHARE)
    return max(_LONGER, math.ceil(2 / max(found, 0.01)))  # where none changed, by 200


def _ladder(settings: Settings, result: Mapping, flags: list[str]) -> list[Step]:
    """The first ladder, or a longer one where one has not settled it."""
    config, twins = settings.config, settings.twins.keys()
    if 'limit' in result and _first(result['limit']['answer'])[0] != 'open':
        return []
    rungs = _SHORTEST_LADDER if config.ladder == 1 else config.ladder + 1
    changes = [f'--config.ladder={rungs}']
    if 'jitter' not in twins or not twins & set(verdict.STE_TWINS):
        changes += [f'--config.twins={commands.twins_to_check(settings)}', _beside(flags, 'ladder')]
    said = (
        f'Ask the limit: the same at 1/2 to 1/{2 ** (rungs - 1)} of the learning rate, {config.ladder_seeds} seeds '
        f'each, takes {(2**rungs - 1) * config.ladder_seeds} times as long as this run:'
    )
    return [Step(said, commands.train_command(flags, changes))]


def _beside(flags: list[str], name: str) -> str:
    """The flag for a workdir of another run, beside this one's."""
    return f'{flags[-1]}-{name}'


def _activations(settings: Settings) -> list[Step]:
    """What the answers leave open where activations are quantized."""
    if settings.activations is None:
        return []
    kept = f'Go on rounding activations as here, to {settings.activations.quantizer.name} with {settings.activations}'
    return [Step(f'{kept}, in your own program too: all of the above is about the weights.')]


def _recipe(settings: Settings, flags: list[str], here: str, in_the_limit: str = 'open') -> list[Step]:
    """What to do at home, after what the answers leave of it."""
    found, name = explanation.recipe(settings), settings.estimator
    if found is None:
        or_ste = ', or try STE with nothing adjusted' if here in ('yes', 'but') else ''
        return [Step(f'Stay with {name}{or_ste}: no recipe is known.')]
    of_the_limit = _OF_THE_LIMIT[in_the_limit].format(name)
    proviso = [Step(_PROVISOS[here].format(of_the_limit))] if here in _PROVISOS else []
    by_itself = commands.as_config(settings)
    command = commands.train_command(flags, [*by_itself, _beside(flags, 'ste')])
    adjusted = ' of the recipe' if found.remaps_initialization else ''
    train = [Step(f'Train the STE{adjusted} by itself:', command)] if by_itself else []
    use = f'In your own program use STE{found.twin(name).clip.passes_in_words} in place of {name}'
    if lacking := take_home.lacking(settings):
        whole = f'In your own program {explanation.recipe_in_words(found, name)}'
        return [*proviso, Step(f'{whole}. There is no program to copy for {lacking}.'), *train]
    if not take_home.table(settings):
        rest = '; '.join(explanation.pulled_back_in_words(found).values())
        changes = f'for every quantized weight v {rest}' if rest else 'change nothing else'
        return [*proviso, Step(f'{use}, and {changes}.'), *train]
    return [*proviso, *_programs(settings, use), *train]


def _programs(settings: Settings, use: str) -> list[Step]:
    """The recipe as programs, and in words what they leave out; `use` says what they are for."""
    found = explanation.recipe(settings)
    pulled_back = explanation.pulled_back_in_words(found)
    decay, moves = pulled_back.pop(DECAY, ''), found.remaps_initialization
    start = 'start its quantized weights from M of what they would start from' if moves else ''
    *first, last = filter(None, (use, start, decay))
    (file,), tabulated = take_home.table(settings), ' and '.join([*(['M'] if moves else []), *(['s'] if decay else [])])
    where = f'{file} is {tabulated} over one cell, R the range of a layer' + (', v a quantized weight' if decay else '')
    rate = f'the learning rate of the quantized weights, and of no other, is multiplied by {take_home.factor(settings)}'
    yours = ', around the optimizer with the weight decay that it has' if decay else ''
    call = ', with a function to call before every step' if decay else ''
    rest = '; '.join(pulled_back.values())
    return [
        Step(f'{", ".join(first)}, and {last}; {where}:', take_home.start(settings)),
        Step(f'{f"and {rate}. " if moves else ""}In JAX with optax{yours}:', take_home.in_jax(settings)),
        Step(f'In PyTorch instead{call}:', take_home.in_torch(settings)),
        *([Step(f'And for every quantized weight v {rest}.')] if rest else []),
    ]
