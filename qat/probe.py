"""The transfer class of any optax transformation, found by trying it.

Fed with gradients g_t and with s * g_t, s > 0 constant in time and another for every coordinate, one of class
  identity  gives the same output: it normalises every coordinate, and a slope cancels;
  map       gives s times the output: it is linear in the gradients of each coordinate;
  none      does neither.
Where it reads the weights, as weight decay does, the outputs are also compared with those for gradients g_t and weights
w / s: what is true of these is true of the optimizer once its decay is pulled back, see `qat.theory.pull_back`.
Gradients and weights have another size at every coordinate, over many powers of ten: clipping acts on large gradients
only, and weight decay inside a sign is seen only where it is about as large as the gradient. Placement `update` asks
for nothing: weights that are read are pulled back. Derived from the proofs of arXiv 2405.05171; see `qat.transfer`
for the classes.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
import optax

from qat import weights
from qat.transfer import DECAY, WEIGHTS, Transfer, check_placement

_GRADIENTS, _WEIGHTS = (1e-2, 1e6), (1e-1, 1e6)  # smallest and largest sizes, all far above Adam's eps
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
            tried = _try(transformation, structure, shapes, paths, _STEPS)
            if tried.size == 0:
                tried = _try(transformation, structure, shapes, paths, _MORE_STEPS)
    except Exception as error:
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())[:160]
        raise ValueError(f'the optimizer cannot be probed for its transfer class: {reason}') from error
    if not np.isfinite(tried.size):
        return Transfer('none', 'probed: its output is not finite for large gradients or weights')
    if tried.size == 0:
        return Transfer('none', f'probed: it makes no update in {_MORE_STEPS} steps')
    if placement == 'update':
        how = 'reads weights, which are pulled back' if tried.reads_weights else 'does not depend on the weights'
        pulled_back = (WEIGHTS,) if tried.reads_weights else ()
        return Transfer('map', f"probed: its output {how}, and placement is 'update'", pulled_back=pulled_back)
    if tried.identity:
        return Transfer('identity', 'probed: its output does not change with a slope on the gradient')
    if tried.map and not tried.reads_weights:
        return Transfer('map', 'probed: its output is linear in the gradient of each weight')
    if tried.map_of_quotients:
        reason = 'probed: its output is linear in gradient and weight; weight decay is pulled back'
        return Transfer('map', reason, pulled_back=(DECAY,))
    if tried.identity_of_quotients:
        reason = 'probed: its output does not change with a slope on gradient and weight; weight decay is pulled back'
        return Transfer('identity', reason, pulled_back=(DECAY,))
    reason = (
        'probed: a slope on the gradient neither cancels in its output nor passes through it (clipping by a global '
        'norm is not to be in it, but given as clip_norm)'
    )
    return Transfer('none', reason, tried.scale_free)


@dataclasses.dataclass(frozen=True)
class _Tried:
    identity: bool
    map: bool
    identity_of_quotients: bool  # with weights over the slope
    map_of_quotients: bool
    scale_free: bool
    reads_weights: bool
    size: float  # of the largest output


def _try(transformation, structure, shapes, paths, steps: int) -> _Tried:
    random = np.random.default_rng(0)

    def tree(draw):
        return structure.unflatten([draw(shape).astype(np.float32) for shape in shapes])

    def signed(sizes, shape):
        return random.choice([-1, 1], shape) * np.exp(random.uniform(*np.log(sizes), shape))

    def story(shape):
        # A gradient turns round now and then, but to a tenth: sums over steps must not cancel down to their rounding.
        turned = np.where(random.random((steps, *shape)) < 0.25, -0.1, 1)
        return signed(_GRADIENTS, shape) * turned * random.uniform(0.5, 2, turned.shape)

    params = tree(functools.partial(signed, _WEIGHTS))
    others = jax.tree.map(lambda leaf: 3 * leaf, tree(functools.partial(signed, _WEIGHTS)))
    gradients = tree(story)
    slopes = {layer: np.float32(random.uniform(0.3, 3, leaf.shape)) for layer, leaf in _get(params, paths).items()}
    scaled = {layer: leaf * slopes[layer] for layer, leaf in _get(gradients, paths).items()}
    outputs = _compiled(transformation, paths)
    plain = outputs(params, gradients)
    sloped = outputs(params, _replace(gradients, paths, scaled))
    quotients = {layer: leaf / slopes[layer] for layer, leaf in _get(params, paths).items()}
    of_quotients = outputs(_replace(params, paths, quotients), gradients)
    tripled = outputs(
        params, _replace(gradients, paths, {layer: 3 * leaf for layer, leaf in _get(gradients, paths).items()})
    )
    return _Tried(
        identity=_equal(sloped, plain),
        map=_equal(sloped, {layer: leaf * slopes[layer] for layer, leaf in plain.items()}),
        identity_of_quotients=_equal(sloped, of_quotients),
        map_of_quotients=_equal(sloped, {layer: leaf * slopes[layer] for layer, leaf in of_quotients.items()}),
        scale_free=_equal(tripled, plain),
        reads_weights=not _equal(outputs(others, gradients), plain),
        size=float(np.max([np.abs(leaf).max() for leaf in plain.values()])),
    )


def _compiled(transformation, paths) -> Callable[[object, object], dict[str, np.ndarray]]:
    """(params, gradients) -> the updates of the quantized leaves, (steps, ...) each; the weights stay where they are.

    One compiled program: step by step and operation by operation, a probe would take many times as long.
    """

    @jax.jit
    def run(params, gradients):
        def step(state, given):
            updates, state = transformation.update(given, state, params)
            return state, _get(updates, paths)

        return jax.lax.scan(step, transformation.init(params), gradients)[1]

    return lambda params, gradients: jax.tree.map(np.asarray, run(params, gradients))


def _equal(found: dict, expected: dict) -> bool:
    """Whether all leaves (steps, ...) are equal, in units of the largest output of each coordinate."""
    return all(
        bool((np.abs(found[layer] - leaf) <= _TOLERANCE * np.abs(leaf).max(axis=0)).all())
        for layer, leaf in expected.items()
    )


def _get(tree, paths: tuple[str, ...]) -> dict:
    return weights.get(tree, dict(zip(paths, paths)))


def _replace(tree, paths: tuple[str, ...], leaves: dict):
    return weights.replace(tree, dict(zip(paths, paths)), leaves)
