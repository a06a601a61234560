"""Optimizers by name, each with the transfer class that it has (`qat.transfer`).

To add one: a builder `_name(learning_rate, decay, *, arguments)` and its line in `FAMILIES`. `qat.probe` finds the
class of any optax transformation, and tests/qat/test_optimizers.py compares that with what the line says.
"""

import dataclasses
import fnmatch
from collections.abc import Callable

import jax
import optax
import optax.contrib

from qat import calls, weights
from qat.calls import Interval
from qat.transfer import DECAY, WEIGHTS, Transfer, check_placement

ALL, MATRICES = 'all', 'matrices'  # what decays
_SHOWN = 6  # paths, of many

_BETA = Interval(0, 1 - 2**-25, low_included=True)  # from there on it is 1 in float32
_DOMAINS = {  # of every argument that is a number; ends below what float32 and int32 hold
    **dict.fromkeys(('momentum', 'b1', 'b2', 'decay', 'beta', 'adam_b1', 'adam_b2', 'decay_rate'), _BETA),
    'eps': Interval(0, 1e6, low_included=True),
    'ns_steps': Interval(1, 100, low_included=True, whole=True),
    'min_dim_size_to_factor': Interval(1, 2**31, low_included=True, whole=True),
    'clipping_threshold': Interval(0, 1e6),
}


def _sgd(learning_rate, decay, *, momentum=0.0, nesterov=False):
    return optax.sgd(learning_rate, momentum or None, nesterov)


def _sgdw(learning_rate, decay, *, momentum=0.0, nesterov=False):
    # arXiv 1711.05101, algorithm 1: the decay does not go through the momentum.
    return optax.chain(_sgd(learning_rate, 0.0, momentum=momentum, nesterov=nesterov), _shrink(learning_rate * decay))


def _shrink(share, mask=None):
    """Subtracts a share of the weights, of those that the mask lets through."""
    return optax.add_decayed_weights(-share, mask)


def _signsgd(learning_rate, decay):
    return optax.sign_sgd(learning_rate)


def _adam(learning_rate, decay, *, b1=0.9, b2=0.999, eps=1e-8):
    return optax.adam(learning_rate, b1, b2, eps)


def _adamw(learning_rate, decay, *, b1=0.9, b2=0.999, eps=1e-8):
    return optax.adamw(learning_rate, b1, b2, eps, weight_decay=decay)


def _rmsprop(learning_rate, decay_, *, decay=0.9, eps=1e-8, momentum=0.0, centered=False):
    # eps outside the root, as in Adam: inside, the default would outweigh gradients of 1e-4, and the slope with them.
    return optax.rmsprop(learning_rate, decay, eps, eps_in_sqrt=False, centered=centered, momentum=momentum or None)


def _lion(learning_rate, decay, *, b1=0.9, b2=0.99):
    return optax.lion(learning_rate, b1, b2, weight_decay=decay)


def _adafactor(
    learning_rate,
    decay,
    *,
    min_dim_size_to_factor=32,
    decay_rate=0.8,
    multiply_by_parameter_scale=True,
    clipping_threshold=1.0,
    momentum=0.0,
):
    # optax's default of 128 would factor no kernel of a small ConvNet.
    return optax.adafactor(
        learning_rate,
        min_dim_size_to_factor,
        decay_rate,
        multiply_by_parameter_scale=multiply_by_parameter_scale,
        clipping_threshold=clipping_threshold,
        momentum=momentum or None,
    )


def _muon(learning_rate, decay, *, beta=0.95, ns_steps=5, nesterov=True, adam_b1=0.9, adam_b2=0.999):
    return optax.contrib.muon(
        learning_rate,
        ns_steps=ns_steps,
        beta=beta,
        nesterov=nesterov,
        weight_decay=decay,
        adam_weight_decay=decay,
        adam_b1=adam_b1,
        adam_b2=adam_b2,
        muon_weight_dimension_numbers=_matrices,
    )


def _matrices(params):
    """Which parameters Muon orthogonalizes: every weight of two axes or more, as a matrix.

    Its rows are all axes but the last. By itself optax sends leaves that are not 2-D, conv kernels too, to AdamW.
    """

    def numbers(leaf, is_matrix):
        return optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1) if is_matrix else None

    return jax.tree.map(numbers, params, weights.matrices(params))


@dataclasses.dataclass(frozen=True)
class _Family:
    """What is known of an optimizer.

    Attributes:
      build: (learning rate, weight decay, arguments) -> its optax transformation.
      transfer_class: under placement `gradient`, without weight decay.
      decay: 'coupled' (added to the gradient), 'decoupled' or 'unsupported'.
      memories: the arguments that are decays of what it averages; empty where nothing it remembers has to cancel.
      moments: by the name of a field of its optax state, the power of the gradient with which that grows, read by
        `experiments.convert`; fields that do not grow are left out.
      scale_free: see `Transfer`; said of class `none`, where it matters.
    """

    build: Callable
    transfer_class: str
    decay: str
    memories: tuple[str, ...] = ()
    moments: dict[str, int] = dataclasses.field(default_factory=dict)
    scale_free: bool = False


_ADAM_MOMENTS = {'mu': 1, 'nu': 2}
FAMILIES = {
    'sgd': _Family(_sgd, 'map', 'coupled', moments={'trace': 1}),
    'sgdw': _Family(_sgdw, 'map', 'decoupled', moments={'trace': 1}),
    'signsgd': _Family(_signsgd, 'identity', 'coupled'),
    'adam': _Family(_adam, 'identity', 'coupled', ('b1', 'b2'), _ADAM_MOMENTS),
    'adamw': _Family(_adamw, 'identity', 'decoupled', ('b1', 'b2'), _ADAM_MOMENTS),
    'rmsprop': _Family(_rmsprop, 'identity', 'coupled', ('decay',), _ADAM_MOMENTS),
    'lion': _Family(_lion, 'identity', 'decoupled', ('b1', 'b2'), {'mu': 1}),
    'adafactor': _Family(_adafactor, 'none', 'unsupported', scale_free=True),
    'muon': _Family(_muon, 'none', 'decoupled', scale_free=True),
}


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimizer with every argument but the learning rate fixed. Make one with `make` or `parse`.

    Attributes:
      name: of its family.
      parameters: the arguments.
      weight_decay: at least 0.
      decayed: the parameters that decay: ALL, MATRICES (of two axes or more), or a pattern of paths, '*/kernel'.
    """

    name: str
    parameters: tuple[tuple[str, object], ...]
    weight_decay: float
    decayed: str = ALL

    def __str__(self):
        return calls.write(self.name, dict(self.parameters))

    def build(self, learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
        """The optax transformation: gradients -> updates to be added to the weights."""
        family, arguments = FAMILIES[self.name], dict(self.parameters)
        if not self.weight_decay:
            return family.build(learning_rate, 0.0, **arguments)
        if family.decay == 'coupled':
            decay = optax.add_decayed_weights(self.weight_decay, self._mask)
            return optax.chain(decay, family.build(learning_rate, 0.0, **arguments))
        if self._mask is None:
            return family.build(learning_rate, self.weight_decay, **arguments)
        # Decoupled decay is a term of its own in every update, so that it may as well be added behind the others.
        apart = _shrink(learning_rate * self.weight_decay, self._mask)
        return optax.chain(family.build(learning_rate, 0.0, **arguments), apart)

    def check_decayed(self, params) -> None:
        """Refuses a choice of parameters that none of a tree (of arrays or shapes) belongs to.

        Raises:
          ValueError: with some that there are.
        """
        if not any(jax.tree.leaves(self.decays_of(params))):
            shown = ', '.join(weights.all_paths(params)[:_SHOWN])
            raise ValueError(f'{self.decayed!r} is no weight of the model. Try all, matrices, or a pattern of {shown}')

    def decays_of(self, params):
        """Whether each parameter decays: a tree of bools."""
        if self.decayed == MATRICES:
            return weights.matrices(params)
        structure = jax.tree.structure(params)
        return structure.unflatten(
            self.decayed == ALL or fnmatch.fnmatchcase(path, self.decayed) for path in weights.all_paths(params)
        )

    @property
    def _mask(self) -> Callable | None:
        return None if self.decayed == ALL else self.decays_of

    @property
    def moments(self) -> dict[str, int]:
        """The power of the gradient with which each field of its state grows."""
        return FAMILIES[self.name].moments

    def transfer(self, placement: str, params=None, paths: tuple[str, ...] = ()) -> Transfer:
        """The transfer class under this placement of the estimator, whatever the parameters are.

        Raises:
          ValueError: an unknown placement.
        """
        check_placement(placement)
        family, arguments = FAMILIES[self.name], dict(self.parameters)
        if placement == 'update':
            reads = self.weight_decay or arguments.get('multiply_by_parameter_scale')
            how = 'reads the weights only where they can be pulled back' if reads else 'does not depend on the weights'
            reason = f"the output of {self.name} {how}, and placement is 'update'"
            return Transfer('map', reason, pulled_back=(WEIGHTS,) if reads else ())
        reason = {
            'map': f'the updates of {self.name} are linear in the gradients',
            'identity': f'{self.name} normalises every coordinate of the gradient, so the slope cancels',
            'none': f'{self.name} mixes the gradients of different weights',
        }[family.transfer_class]
        # Coupled decay meets the slope where gradients do; decoupled decay only where weights are moved by M.
        meets = {'coupled': ('map', 'identity'), 'decoupled': ('map',), 'unsupported': ()}[family.decay]
        if self.weight_decay and family.transfer_class in meets:
            return Transfer(family.transfer_class, f'{reason}; weight decay is pulled back', pulled_back=(DECAY,))
        return Transfer(family.transfer_class, reason, family.scale_free)

    @property
    def decays(self) -> tuple[float, ...]:
        """The decays of the averages that a slope has to cancel in, b1 and b2 of Adam; () where there are none."""
        return tuple(dict(self.parameters)[name] for name in FAMILIES[self.name].memories)


def parse(text: str, weight_decay: float = 0.0, decayed: str = ALL) -> Optimizer:
    """The optimizer of a call with literals, such as 'adam(b2=0.95)'; nothing is evaluated.

    Raises:
      ValueError: as `make`, or not of that form.
    """
    name, arguments = calls.parse(text)
    return make(name, weight_decay, decayed, **arguments)


def make(name: str, weight_decay: float = 0.0, decayed: str = ALL, /, **arguments) -> Optimizer:
    """The optimizer of this name.

    Raises:
      ValueError: unknown name or argument, a value outside its domain, or a weight decay that is
        negative or that the optimizer does not have.
    """
    if name not in FAMILIES:
        raise ValueError(calls.unknown('optimizer', name, FAMILIES))
    if weight_decay < 0:
        raise ValueError(f'weight_decay must be at least 0, got {weight_decay!r}')
    if weight_decay and FAMILIES[name].decay == 'unsupported':
        raise ValueError(f'{name} is offered without weight decay: set weight_decay to 0')
    bound = calls.bind(f'optimizer {name!r}', FAMILIES[name].build, arguments, _DOMAINS, leading=2)
    return Optimizer(name, tuple(bound.items()), weight_decay, decayed)
