"""The transfer class of any optax transformation, found by trying it.

Fed with gradients g_t and with s * g_t, s > 0 constant in time and another for every coordinate, one of class
  identity  gives the same output: it normalises every coordinate, and a slope cancels;
  map       gives s times the output: it is linear in the gradients of each coordinate, and does not read the weights;
  none      does neither.
It is tried at several sizes of gradients, since clipping acts on large ones only, and once with weights that outweigh
them, since coupled weight decay is seen only there. Placement `update` asks less: an output that does not depend on the
weights. Derived from the proofs of arXiv 2405.05171; see `qat.optimizers` for the classes.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from qat.lockstep import weights
from qat.optimizers import Transfer, check_placement

_SIZES = ((1.0, 1.0), (1e3, 1.0), (1e6, 1.0), (1.0, 1e6))  # of gradients and of weights
_STEPS, _MORE_STEPS = 6, 70  # more for what makes no update at first, as gradient accumulation
_LONGEST_SIDE = 160  # of a probed weight: optimizers that factor matrices leave those below 128 alone
_TOLERANCE = 1e-3  # relative: far above rounding and Adam's eps, far below the slopes that are tried


@dataclasses.dataclass(frozen=True)
class Probed:
    """Any optax transformation as an optimizer of a lockstep.

    Attributes:
      transformation: with its own learning rate, on which the lockstep's is a factor.
    """

    transformation: optax.GradientTransformation

    def __str__(self):
        return 'the given optimizer'

    def build(self, learning_rate: jax.Array | float) -> optax.GradientTransformation:
        """The transformation with its output times `learning_rate`."""

        def update(gradients, state, params=None, **extra):
            updates, state = self.transformation.update(gradients, state, params, **extra)
            return jax.tree.map(lambda leaf: learning_rate * leaf, updates), state

        return optax.GradientTransformation(self.transformation.init, update)

    def transfer(self, placement: str, params, paths: tuple[str, ...]) -> Transfer:
        """Its transfer class, by probing it on a tree of the structure of `params`; `paths` are the quantized leaves.

        Raises:
          ValueError: it cannot be probed, with the reason.
        """
        check_placement(placement)
        leaves, structure = jax.tree.flatten(params)
        shapes = tuple(tuple(min(side, _LONGEST_SIDE) for side in leaf.shape) for leaf in leaves)
        return _transfer(self.transformation, placement, structure, shapes, paths)


@functools.lru_cache(maxsize=16)
def _transfer(transformation, placement: str, structure, shapes, paths: tuple[str, ...]) -> Transfer:
    try:
        with jax.ensure_compile_time_eval():
            tried = [_try(transformation, structure, shapes, paths, *sizes) for sizes in _SIZES]
    except Exception as error:
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:160]
        raise ValueError(f'the optimizer cannot be probed for its transfer class: {reason}') from error
    if not all(math.isfinite(one.size) for one in tried):
        return Transfer('none', 'probed: its output is not finite for large gradients or weights')
    if any(one.size == 0 for one in tried):
        return Transfer('none', f'probed: it makes no update in {_MORE_STEPS} steps')
    reads_weights = any(one.reads_weights for one in tried)
    if placement == 'update':
        if reads_weights:
            return Transfer('none', 'probed: its output depends on the weights, which M moves')
        return Transfer('map', "probed: its output does not depend on the weights, and placement is 'update'")
    if all(one.identity for one in tried):
        return Transfer('identity', 'probed: its output does not change with a slope on the gradient')
    if all(one.map for one in tried):
        if reads_weights:
            return Transfer('none', 'probed: linear in the gradients, but it reads the weights, which M moves')
        return Transfer('map', 'probed: its output is linear in the gradient of each weight')
    return Transfer('none', 'probed: a slope on the gradient neither cancels in its output nor passes through it')


@dataclasses.dataclass(frozen=True)
class _Tried:
    identity: bool
    map: bool
    reads_weights: bool
    size: float  # of the largest output


def _try(transformation, structure, shapes, paths, gradient_size: float, weight_size: float) -> _Tried:
    for steps in (_STEPS, _MORE_STEPS):
        random = np.random.default_rng(0)

        def tree(draw, *leading):
            return structure.unflatten([draw((*leading, *shape)).astype(np.float32) for shape in shapes])

        def away_from_zero(shape):
            return random.choice([-1, 1], shape) * random.uniform(0.5, 2, shape)  # noqa: B023

        params, others = (jax.tree.map(lambda w: w * weight_size, tree(random.standard_normal)) for _ in range(2))
        gradients = jax.tree.map(lambda g: g * gradient_size, tree(away_from_zero, steps))
        slopes = {layer: np.float32(random.uniform(0.3, 3, leaf.shape)) for layer, leaf in _get(params, paths).items()}
        scaled = {layer: leaf * slopes[layer] for layer, leaf in _get(gradients, paths).items()}
        plain = _outputs(transformation, params, gradients, paths)
        sloped = _outputs(transformation, params, _replace(gradients, paths, scaled), paths)
        elsewhere = _outputs(transformation, others, gradients, paths)
        size = max(float(np.abs(leaf).max()) for leaf in plain.values())
        if size:
            break
    return _Tried(
        identity=_equal(sloped, plain),
        map=_equal(sloped, {layer: leaf * slopes[layer] for layer, leaf in plain.items()}),
        reads_weights=not _equal(elsewhere, plain),
        size=size,
    )


def _outputs(transformation, params, gradients, paths) -> dict[str, np.ndarray]:
    """The updates of the quantized leaves, (steps, ...) each, while the weights stay where they are."""

    def step(state, given):
        updates, state = transformation.update(given, state, params)
        return state, _get(updates, paths)

    def run(params, gradients):
        return jax.lax.scan(step, transformation.init(params), gradients)[1]

    return jax.tree.map(np.asarray, run(jax.tree.map(jnp.asarray, params), jax.tree.map(jnp.asarray, gradients)))


def _equal(found: dict, expected: dict) -> bool:
    """Whether all leaves are equal, in units of the largest entry of each."""
    return all(
        bool(np.abs(found[layer] - leaf).max() <= _TOLERANCE * np.abs(leaf).max()) for layer, leaf in expected.items()
    )


def _get(tree, paths: tuple[str, ...]) -> dict:
    return weights.get(tree, dict(zip(paths, paths)))


def _replace(tree, paths: tuple[str, ...], leaves: dict):
    return weights.replace(tree, dict(zip(paths, paths)), leaves)
