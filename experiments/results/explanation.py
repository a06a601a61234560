"""What the theorem of arXiv 2405.05171 says about a setting before any training: in words, as a record, as a figure."""

import inspect
import math
import pathlib
import textwrap
from collections.abc import Mapping

import jax
import numpy as np

from experiments import terminal
from experiments.errors import UserError
from experiments.results import kappas as of_memory
from experiments.setup import rounding
from experiments.setup.settings import Settings
from qat.activations import in_words
from qat.estimators import Estimator
from qat.lockstep.twins import computed_by, not_ste
from qat.optimizers import ALL
from qat.theory.coverage import TOLERANCE, NotCovered, cautions, conditions_that_fail
from qat.theory.recipe import UNCHANGED, Recipe, is_ste, obstacles
from qat.theory.recipe import recipe as recipe_for
from qat.theory.weight_map import WeightMap
from qat.transfer import DECAY, NORM, WEIGHTS

_PARAGRAPHS, _LONGEST_PARAGRAPH = 2, 250  # how much of a slope's docstring is shown; the second in characters
_ANSWERED = _LIMIT, _SETTING = 'In the limit', 'At this setting'
_IN_THE_LIMIT = {
    'exact': 'yes, exactly, at every learning rate',
    'map': 'yes, with the recipe: a step adds an error of order (learning rate)^2',
    'identity': 'yes, with the recipe: kappa falls with the learning rate; eps must be far below slope times gradient',
    'none': 'not by what is known; a ladder tries what STE does',
}
_AT_THIS_SETTING = 'only a run tells: the first command below; a ladder, the second, tries the limit'

_TWINS = {
    'ste': 'the straight-through estimator with the recipe',
    'naive_ste': 'the straight-through estimator with nothing adjusted',
    'map_ste': 'the straight-through estimator with the recipe of SGD, whatever the optimizer',
    'jitter': 'the reference with 1.01 times the learning rate, the yardstick: a change nobody cares about',
    'reshuffle': 'the reference on another order of the same data: what the order alone does',
    'self': 'an exact copy of the reference',
    'ste_activations': 'the reference with the straight-through estimator on the activations alone',
}
_RANGES = {  # by range policy
    'fixed': '',
    'dynamic': 'computed from the weights at every step: STE has the same range only where it has the same weights, '
    'under Adam and its like while kappa is small. A fixed range has a recipe under SGD too',
    'learned': 'the step size D is trained beside w (LSQ), by a gradient that reads w: STE has the same D only where '
    'it has the same weights, under Adam and its like while kappa is small. learned_u has a recipe under SGD too',
    'learned_u': 'D is trained beside u = w/D, by a gradient that reads codes only: what is said of w is true of u. '
    'The learning rate moves u, which is in step sizes',
}
FULL_PRECISION = (
    'nothing is quantized (quantized=none): estimator, bits, range and activation_bits are not used, and there are no '
    'twins'
)


def recipe(settings: Settings) -> Recipe | None:
    """Returns what turns STE into the estimator under this optimizer, or None if no such recipe is known."""
    try:
        return recipe_for(settings.estimator, settings.transfer)
    except NotCovered:
        return None


def _failing(settings: Settings) -> tuple[str, ...]:
    """Returns the theorem's conditions that fail, of those that the optimizer's transfer class asks for."""
    return conditions_that_fail(settings.estimator, settings.transfer.transfer_class)


def record(settings: Settings, kappas: Mapping[str, float | None] | None) -> dict:
    """Returns what the theory says as JSON values; what does not exist is None.

    Args:
      settings: the setting.
      kappas: kappa by quantized layer; None unless the transfer class is `identity`.
    """
    found = recipe(settings)
    return {
        'estimator': str(settings.estimator),
        'parameters': {key: _json_value(value) for key, value in settings.estimator.parameters},
        'bits': settings.estimator.bits,
        'optimizer': str(settings.optimizer),
        'placement': settings.config.placement,
        'alpha': settings.alpha(),
        'covered': not _failing(settings),
        'reasons': obstacles(settings.estimator, settings.transfer),
        'cautions': [] if _failing(settings) else list(cautions(settings.estimator)),
        'transfer_class': settings.transfer.transfer_class,
        **of_memory.record(settings, kappas),
        'learning_rate_factor': found.learning_rate_factor if found else None,
        'remaps_initialization': found.remaps_initialization if found else False,
        'pulled_back': list(found.pulled_back) if found else [],
        'activation_bits': settings.config.activation_bits,
        'activation_estimator': str(settings.activations) if settings.activations else None,
    }


def _json_value(value):
    """Returns a parameter itself if JSON has a value for it, otherwise its text."""
    in_json = isinstance(value, bool | int | str | None) or (isinstance(value, float) and math.isfinite(value))
    return value if in_json else repr(value)


def rounded(settings: Settings) -> str:
    """Returns what is rounded and how, as the rest of a sentence that names the estimator or the model."""
    return rounding.in_words(settings.config, settings.estimator) + in_words(settings.activations)


def setting(settings: Settings) -> str:
    """Returns the setting as one line."""
    config = settings.config
    what = f'{settings.estimator}{rounded(settings)}' if settings.quantizes else 'full precision'
    decay = f', weight decay {config.weight_decay:g}' if config.weight_decay else ''
    decay += f' of {config.decayed}' if decay and config.decayed != ALL else ''
    decay += f', gradients clipped to norm {config.clip_norm:g}' if config.clip_norm else ''
    return (
        f'{what}, {config.model}, {settings.optimizer}, '
        f"learning rate {settings.peak_learning_rate:.4g}{decay}, placement '{config.placement}'"
    )


def words(settings: Settings, kappas: Mapping[str, float] | None = None) -> dict[str, str]:
    """Returns what the theory says, as sentences by their label; without `kappas` nothing of them."""
    estimator, transfer, found = settings.estimator, settings.transfer, recipe(settings)
    failing, alpha = _failing(settings), settings.alpha()
    said = {'Slope': f'{estimator}: {_slope_in_words(estimator)}'}
    if failing:
        said['Theorem'] = f'does not cover {estimator}: {"; ".join(failing)}'
    else:
        said['Theorem'] = _covered_in_words(estimator, alpha)
        said['Caution'] = '; '.join(cautions(estimator))
    if alpha is not None:
        said['alpha'] = f'{alpha:.4g}, the harmonic mean of the slope over a cell'
        said['M(w)'] = _map_in_words(estimator)
    said['Range'] = _RANGES[settings.config.range_policy]
    said['Activations'] = _activations_in_words(settings.activations)
    said['Transfer class'] = f'{transfer.transfer_class}: {transfer.reason}'
    if kappas is not None:
        said |= of_memory.words(settings, kappas)
    said['Recipe'] = recipe_in_words(found, estimator) if found else f'none is known: {settings.why_no_recipe()}'
    exact = is_ste(estimator, transfer) or (found == UNCHANGED and not settings.optimizer.decays)
    said[_LIMIT] = _IN_THE_LIMIT['exact' if exact else transfer.transfer_class if found else 'none']
    said[_SETTING] = 'yes, exactly' if exact else _AT_THIS_SETTING
    return said


def theory(settings: Settings, result: Mapping) -> dict[str, str]:
    """Returns the same without the two answers, for the report of a run that has measured them.

    Args:
      settings: of the run.
      result: the content of its summary.json.
    """
    said = words(settings)
    if settings.transfer.transfer_class == 'identity' and settings.optimizer.decays:
        said |= of_memory.what_they_are(settings, result)
    unused = ('alpha', 'M(w)') if settings.transfer.transfer_class == 'identity' else ()
    return {label: sentence for label, sentence in said.items() if sentence and label not in (*_ANSWERED, *unused)}


def twins(settings: Settings) -> dict[str, str]:
    """Returns what each twin of a run is, in words, by name; of one that is another's copy, whose."""
    return {
        name: _TWINS[name] if name == of else f'here the same run as {of}'
        for name, of in computed_by(settings.twins).items()
    }


def _slope_in_words(estimator: Estimator) -> str:
    """Returns the beginning of the slope's docstring, without the verdict, which is for the default parameters."""
    text = inspect.getdoc(estimator.slope) or 'a docstring in its file would say here what it is'
    paragraphs = text.partition('Verdict:')[0].strip().split('\n\n')[:_PARAGRAPHS]
    return '\n'.join(textwrap.shorten(paragraph, _LONGEST_PARAGRAPH, placeholder=' …') for paragraph in paragraphs)


def _covered_in_words(estimator: Estimator, alpha: float | None) -> str:
    if alpha is None:
        lacking = '; '.join(conditions_that_fail(estimator))
        return f'covers {estimator} under this optimizer, which needs no M; there is none, since {lacking}'
    if cautions(estimator):
        return f'covers {estimator} but for the caution below: its slope is the same in every cell and at all times'
    return f'covers {estimator}: its slope is positive, finite, Lipschitz, the same in every cell and at all times'


def _map_in_words(estimator: Estimator) -> str:
    offsets = np.linspace(-0.5, 0.5, 1001, dtype=np.float32)
    shift = float(np.abs(np.asarray(jax.jit(WeightMap(estimator).on_offsets)(offsets)) - offsets).max())
    outside = f'; outside the range {estimator.clip.map_in_words}' if estimator.clip.passes else ''
    if shift < TOLERANCE:
        return f'the identity{outside}'
    return (
        'T + alpha D (integral of dx/s(x) from 0 to (w - T)/D), T the threshold of the gap in which w lies, D its '
        f'width; moves a weight by {shift:.2g} D at most, and changes no code{outside}'
    )


def _activations_in_words(activations: Estimator | None) -> str:
    if activations is None:
        return ''
    said = (
        f'the inputs of the quantized layers are rounded to {activations.quantizer.name}, with {activations} in all '
        'runs, STE twins too: what is said here is of the weights, and stands. Where rounding jumps, gradients jump: '
        'read the errors beside those of jitter'
    )
    if not_ste(activations):
        said += (
            f'. What the theorem does not cover, under any optimizer, is STE in place of {activations} on the '
            'activations: they are no weights that M could map. The twin ste_activations tries it'
        )
    return said


def recipe_in_words(found: Recipe, estimator: Estimator) -> str:
    """Returns what to do to train STE in place of an estimator, in the imperative."""
    ste = f'use ste{found.twin(estimator).clip.passes_in_words}'
    changes = []
    if found.remaps_initialization:
        factor = found.learning_rate_factor
        changes += [f'multiply the learning rate of the quantized kernels by {factor:.4g}', 'start from M(w0)']
    changes += pulled_back_in_words(found).values()
    return f'{ste}, {", ".join(changes) or "change nothing else"}'


def pulled_back_in_words(found: Recipe) -> dict[str, str]:
    """Returns a clause on each thing that a recipe pulls back, for quantized weights v."""
    source = 'w = M^-1(v)' if found.remaps_initialization else 'w = v'
    clauses = {
        WEIGHTS: f'give the optimizer {source} to read instead of v',
        DECAY: f'let weight decay act on w/s(w), {source}, instead of v (on w/alpha where s is 0)',
        NORM: f'clip by the norm of s(w) g, {source}, instead of g (s the slope, g the gradient of v)',
    }
    return {what: clauses[what] for what in found.pulled_back}


def page(said: Mapping[str, str], to_copy: Mapping[str, str]) -> str:
    """Returns the text for the terminal.

    Args:
      said: sentences by label, wrapped in two columns; an empty one is left out.
      to_copy: lines by label that are not wrapped, so that they can be copied; an empty one is left out.
    """
    sentences = terminal.table([], [pair for pair in said.items() if pair[1]])
    return '\n'.join([sentences, '', *(f'{label}:\n  {line}' for label, line in to_copy.items() if line)])


def draw(settings: Settings, directory: pathlib.Path) -> pathlib.Path:
    """Writes the figure of slope, alpha, M and quantizer, estimator.png, into a directory, and returns its path.

    Raises:
      UserError: it cannot be written.
    """
    from experiments.results import figures  # imported late: matplotlib costs a second, and JSON needs no figure

    path = directory / 'estimator.png'
    try:
        picture = figures.png(figures.estimator(settings))
        directory.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
    except OSError as error:
        raise UserError(f'out: cannot write {path}: {error.strerror}') from None
    return path
