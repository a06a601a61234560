"""From a config to the objects it names, every value checked before anything starts."""

import dataclasses
import fnmatch
import math
import re
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from experiments.errors import UserError, blame
from experiments.setup import models, rounding, users
from qat import calls, estimators, optimizers, weights
from qat.activations import in_words
from qat.calls import Interval
from qat.layers import Conv
from qat.lockstep.twins import Twin, check_activations, twins
from qat.pooling import avg_pool
from qat.theory import small_parameters
from qat.theory.recipe import check_passes_alike, is_ste, obstacles
from qat.theory.weight_map import WeightMap, alpha_if_covered
from qat.transfer import Transfer, in_setting

CORRUPT_IMAGES = ('refuse', 'skip')
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}

_NAME = re.compile(r'\w[\w.-]{0,99}')
_POSITIVE = Interval(0, math.inf)
_RATE = Interval(1e-30, 1e30, low_included=True, high_included=True)  # in float32
_COUNT = Interval(1, 2**31 - 1, low_included=True, high_included=True)
_DOMAINS = {
    'seed': Interval(0, 2**32 - 1, low_included=True, high_included=True),
    'batch_size': _COUNT,
    'context': Interval(1, 2**20, low_included=True, high_included=True),
    'image_size': Interval(1, 2048, low_included=True, high_included=True),  # few images of ImageNet have more
    'activation_bits': Interval(0, 8, low_included=True, high_included=True),
    'learning_rate': _RATE,
    'kernel_learning_rate_factor': _RATE,
    'weight_decay': Interval(0, math.inf, low_included=True),
    'clip_norm': Interval(0, 1e30, low_included=True),
    'warmup_fraction': Interval(0, 1, low_included=True, high_included=True),
    'num_epochs': _COUNT,
    'learning_rate_scale': _RATE,
    'epochs_scale': _POSITIVE,
    'eval_every_epochs': _COUNT,
    'checkpoint_every_steps': _COUNT,
    'ladder': Interval(1, 10, low_included=True, high_included=True),  # at the tenth, 512 times the steps
    'ladder_seeds': Interval(1, 1000, low_included=True, high_included=True),
}
_MOST_STEPS = 10**8  # a learning rate each; a month at 40 a second
_COUNT_OR_ALL = ('steps_per_epoch', 'max_steps', 'max_validation_examples', 'learning_rate_images')


@dataclasses.dataclass(frozen=True)
class Settings:
    """A config's objects; none of them has touched a device or a file but the user's."""

    config: ml_collections.ConfigDict  # resolved: every default filled in
    estimator: estimators.Estimator
    optimizer: optimizers.Optimizer
    transfer: Transfer
    twins: dict[str, Twin]
    model_class: Callable[..., nn.Module]
    init_map: WeightMap | None  # M that the initial quantized weights go through
    pull_back: estimators.Estimator | None  # whose weights decay and clipping are of
    activations: estimators.Estimator | None  # what rounds the inputs of the quantized layers

    def model(self, classes: int, axis_name: str | None = None) -> nn.Module:
        """The model with so many outputs; of what is offered, it is given what it has a field for.

        Args:
          classes: the number of outputs.
          axis_name: of the devices that share a batch, under `jax.pmap`.

        Raises:
          UserError: the model refuses its fields.
        """
        offered = {
            'conv': Conv,
            'dense': nn.Dense,
            'avg_pool': avg_pool,
            'classes': classes,
            'context': self.config.context,
            'dtype': DTYPES[self.config.compute_dtype],
            'axis_name': axis_name if self.config.sync_batch_norm else None,
        }
        given = {key: offered[key] for key in users.fields(self.model_class) if key in offered}
        try:
            return self.model_class(**given)
        except Exception as error:  # a model may raise anything
            raise UserError(f'model: {self.config.model}: {error}') from error

    @property
    def quantizes(self) -> bool:
        """Whether anything is quantized; otherwise the run is in full precision, and has no twins."""
        return self.config.quantized != 'none'

    def quantized(self, params) -> frozenset[str]:
        """The paths of the weights to quantize, from a tree of parameters or their shapes; in full precision none.

        Raises:
          UserError: there are none, but should be.
        """
        wanted = self.config.quantized
        axes = {path: leaf.ndim for path, leaf in zip(weights.all_paths(params), jax.tree.leaves(params))}
        kernels = {path for path in axes if path.rpartition('/')[2] == 'kernel'}
        match wanted:
            case 'none':
                return frozenset()
            case 'conv':
                found = {path for path in kernels if axes[path] >= 3}
            case 'all':
                found = kernels
            case _:
                found = {path for path in axes if fnmatch.fnmatchcase(path, wanted)}
        if not found:
            raise UserError(
                f'quantized={wanted}: the model has no such weight. Try --config.quantized=all, or a pattern of '
                f'its weights: {", ".join(list(axes)[:8])}'
            )
        return frozenset(found)

    @property
    def peak_learning_rate(self) -> float:
        config = self.config
        per_batch = 1 if config.learning_rate_images == -1 else config.batch_size / config.learning_rate_images
        return config.learning_rate * config.learning_rate_scale * per_batch

    def learning_rates(self, steps: int) -> np.ndarray:
        """(steps,) float32: linear warm-up, then cosine to 0 over this many steps."""
        warmup = round(self.config.warmup_fraction * steps)
        schedule = optax.warmup_cosine_decay_schedule(
            0 if warmup else self.peak_learning_rate, self.peak_learning_rate, warmup, max(steps, warmup + 1)
        )
        return np.asarray(schedule(np.arange(steps)), np.float32)

    def steps(self, steps_in_data: int) -> tuple[int, int]:
        """(steps an epoch, steps of the run) on data that lasts this many steps."""
        config = self.config
        per_epoch = steps_in_data if config.steps_per_epoch == -1 else config.steps_per_epoch
        if per_epoch > steps_in_data:
            raise UserError(
                f'steps_per_epoch={per_epoch}: the data has only {steps_in_data} batches of {config.batch_size}; '
                '-1 takes all of them'
            )
        wanted = per_epoch * config.num_epochs * config.epochs_scale
        total = wanted if config.max_steps == -1 else min(wanted, config.max_steps)
        if total > _MOST_STEPS:
            raise UserError(f'num_epochs, epochs_scale: {total:.3g} steps, more than {_MOST_STEPS:.0e}; set max_steps')
        return per_epoch, max(1, round(total))

    def kappas(self, ranges: Mapping[str, float]) -> dict[str, float | None]:
        """kappa of every quantized layer, from its R; None outside the identity class."""
        if self.transfer.transfer_class != 'identity':
            return dict.fromkeys(ranges)
        peak = self.peak_learning_rate * self.config.kernel_learning_rate_factor
        return {
            layer: small_parameters.kappa(self.optimizer, peak, float(np.min(self.estimator.quantizer.step_size(R))))
            for layer, R in ranges.items()
        }

    def slope_changes(self, kappas: Mapping[str, float | None]) -> dict[str, float | None]:
        """By layer: how much ln s can change within the memory, from kappa; None where nothing bounds it."""
        changes = {layer: small_parameters.slope_change(self.estimator, kappa) for layer, kappa in kappas.items()}
        return {layer: None if change == math.inf else change for layer, change in changes.items()}

    def warnings(self, ranges: Mapping[str, float]) -> list[str]:
        """What makes the claim doubtful in this setting, a line each."""
        is_identity = self.transfer.transfer_class == 'identity' and not is_ste(self.estimator, self.transfer)
        if not (is_identity and self.quantizes):
            return []
        said = [
            small_parameters.large_slope_change(self.estimator, self.kappas(ranges)),
            small_parameters.longer_numerator(self.optimizer),
        ]
        return [sentence for sentence in said if sentence]

    @property
    def subject(self) -> str:
        """What a verdict is on: estimator and optimizer, and what rounds the activations."""
        return f'{self.estimator} under {self.optimizer}{in_words(self.activations)}'

    def why_no_recipe(self) -> str:
        """The reasons why STE has no recipe here; '' where it has one."""
        return '; '.join(obstacles(self.estimator, self.transfer))

    def alpha(self) -> float | None:
        """The estimator's alpha; None where the theorem does not cover it."""
        return alpha_if_covered(self.estimator)


def resolve(config: ml_collections.ConfigDict) -> Settings:
    """Checks a config and makes what it names.

    Raises:
      UserError: a value that names nothing, or lies outside its domain.
    """
    _check_numbers(config)
    rounding.check(config)
    for key, valid in {'compute_dtype': DTYPES, 'corrupt_images': CORRUPT_IMAGES}.items():
        if config[key] not in valid:
            raise UserError(f'{key}: {calls.unknown(key, config[key], valid)}')
    if not _NAME.fullmatch(config.name):
        raise UserError(
            f'name: {config.name!r} must be letters, digits, ".", "_" and "-", at most 100: it is the name of a folder'
        )
    for key in ('estimator', 'activation_estimator', 'optimizer'):
        _check_own_keys(key, config)
    with blame('estimator'):
        estimator = rounding.estimator(config.estimator, config)
    with blame('init_map'):
        start = rounding.estimator(config.init_map, config) if config.init_map else None
        init_map = WeightMap(start) if start else None
    activations = rounding.activations(config)
    with blame('model'):
        model_class = models.load(config.model)
    with blame('optimizer'):
        optimizer = optimizers.parse(config.optimizer, config.weight_decay, config.decayed)
    with blame('placement'):
        transfer = optimizer.transfer(config.placement)
        if config.placement == 'update' and estimator.needs('gradient'):
            raise ValueError(f"{estimator.name} depends on the incoming gradient, use placement 'gradient'")
    why_moving = rounding.range_policy(config).why_moving
    transfer = in_setting(transfer, config.placement, clips=bool(config.clip_norm), why_moving=why_moving)
    with blame('pull_back'):
        pull_back = _pull_back(config, estimator, transfer)
    resolved = ml_collections.ConfigDict(config)
    if config.quantized == 'none':
        resolved.twins = ''  # without a quantizer there is nothing that they could differ in
    with blame('twins'):
        made = twins(names_of_twins(resolved.twins), estimator, transfer)
        check_activations(made, activations)
    resolved.estimator = rounding.as_written(config.estimator, estimator)
    resolved.init_map = rounding.as_written(config.init_map, start) if start else ''
    resolved.pull_back = rounding.as_written(config.pull_back, pull_back) if pull_back else ''
    if activations:
        resolved.activation_estimator = rounding.as_written(config.activation_estimator, activations)
    resolved.optimizer = str(optimizer)
    return Settings(resolved, estimator, optimizer, transfer, made, model_class, init_map, pull_back, activations)


def names_of_twins(text: str) -> list[str]:
    """The twins of a comma-separated list."""
    return [name.strip() for name in text.split(',') if name.strip()]


def _check_numbers(config) -> None:
    for key, domain in _DOMAINS.items():
        if config[key] not in domain:
            raise UserError(f'{key} must be in {domain}, got {config[key]!r}')
    for key in _COUNT_OR_ALL:
        if config[key] != -1 and config[key] not in _COUNT:
            raise UserError(f'{key} must be -1 or at least 1, got {config[key]!r}')


def _pull_back(config, estimator: estimators.Estimator, transfer: Transfer) -> estimators.Estimator | None:
    """The estimator from whose weights an STE takes what its recipe pulls back."""
    if not config.pull_back:
        return None
    if estimator != estimators.ste_with_clip_of(estimator):
        raise ValueError(f'only a run of ste pulls back, the estimator is {estimator}; leave pull_back out')
    if not transfer.pulled_back:
        raise ValueError('there is nothing to pull back: no weight decay or clipping that meets a slope; leave it out')
    found = rounding.estimator(config.pull_back, config)
    check_passes_alike(found, estimator, transfer)
    return found


def _check_own_keys(key: str, config) -> None:
    """Refuses an argument that is a config key, as in adamw(weight_decay=0.1) or adam(lr=0.1)."""
    if ':' in config[key]:
        return  # what a user's slope takes is its own affair
    with blame(key):
        _, arguments = calls.parse(config[key])
    for name, value in arguments.items():
        own = [name] if name in config else calls.abbreviated(name, config)
        if own:
            raise UserError(f'{key}: {name} is a key of its own, outside of the call: --config.{own[0]}={value!r}')
