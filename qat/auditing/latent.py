"""Whether layers read their codes only: the theorem of arXiv 2405.05171 asks that the gradient of everything else be a
function of the quantized weights, so that two sets of latent weights with the same codes give the same bits.
"""

import dataclasses
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from qat import weights

_SHARES = (3e-2, 3e-3, 3e-4, 3e-5)  # of the deviation of a weight, by which latent weights are moved
_ROUNDING = 2.0**-20  # of the largest magnitude: w + stop_gradient(q - w) is q but for float32
_EXACT_TO_ROUNDING = ((0.0, _SHARES), (_ROUNDING, _SHARES[:2]))  # moved further, what is not rounded shows
_FEWEST = 0.25  # of a layer's weights that must be able to move
_FAR = (1.0, 0.3, 0.1)  # of the deviation: as far as codes may reach
_WITNESSES = 32  # weights that are moved so far, one by one
_NOT_FINITE = 'not known: outputs or gradients are not finite'
_UNUSED = 'not known: no output changes, wherever it is moved; it is not used, or has one code'


@dataclasses.dataclass(frozen=True)
class LayerAudit:
    """What became of moving one leaf of the parameters.

    Attributes:
      quantized: whether its weights, or most of them, can be moved without any output changing.
      moved: by how much they were moved, of their standard deviation; 0 where not.
      breaches: path of another leaf, or 'argument 1' -> by how much its gradient changed, of its largest magnitude. {}
        if every bit stayed: the layer reads codes only.
      sure: what was compared, or why nothing could be.
    """

    quantized: bool
    moved: float
    breaches: dict[str, float]
    sure: str

    @property
    def covered(self) -> bool | None:
        """Whether the layer is within the theorem, but for float32's rounding; None where that cannot be known."""
        if not (self.quantized and self.sure.startswith('compared')):
            return None
        return all(breach <= _ROUNDING for breach in self.breaches.values())


def audit_layer(f: Callable, params, *arguments) -> dict[str, LayerAudit]:
    """Moves latent weights within their codes, leaf by leaf, and compares the gradients of everything else bit by bit.

    Args:
      f: (params, *arguments) -> outputs: one layer, or a whole model or its loss; any tree of arrays. It is compiled,
        and must give the same when called twice.
      params: a tree of arrays; float leaves are tried one by one.
      *arguments: more that f takes. Gradients of float arrays among them are compared too: of a single layer, its
        inputs, through which it would betray that it reads latent weights.

    Returns:
      By path of the leaf, 'Dense_0/kernel'.

    Raises:
      ValueError: f gives other outputs when called again.
    """
    run = _compiled(f)
    leaves, structure = jax.tree.flatten(params)
    paths = weights.all_paths(params)
    outputs, gradients = run(params, arguments)
    if not _same(outputs, run(params, arguments)[0], 0.0):
        raise ValueError('f gives other outputs when it is called again with the same: fix its random keys')
    found = {}
    for place, (path, leaf) in enumerate(zip(paths, leaves)):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            continue

        def outputs_at(moved, place=place):
            return run(structure.unflatten([*leaves[:place], moved, *leaves[place + 1 :]]), arguments)

        others = [name for name in gradients if name != path]
        found[path] = _layer(leaf, outputs_at, outputs, gradients, others)
    return found


def _layer(leaf, outputs_at: Callable, outputs, gradients: dict, others: list[str]) -> LayerAudit:
    if not _finite(outputs, [gradients[name] for name in others]):
        return LayerAudit(False, 0.0, {}, _NOT_FINITE)
    if all(
        _same(outputs, outputs_at(moved)[0], 0.0) for moved in (-leaf, 3 * leaf, jnp.flip(leaf), leaf + _beyond(leaf))
    ):
        return LayerAudit(False, 0.0, {}, _UNUSED)
    random = np.random.default_rng(0)
    signs = random.choice([-1.0, 1.0], np.shape(leaf))
    size = float(np.std(leaf)) or float(np.abs(leaf).max()) or 1.0

    def breaches_at(leaf):
        again = outputs_at(leaf)[1]
        changes = {name: _change(gradients[name], again[name]) for name in others}
        return {name: change for name, change in changes.items() if change}

    for tolerance, share in ((tolerance, share) for tolerance, shares in _EXACT_TO_ROUNDING for share in shares):
        moved = jnp.asarray(leaf + share * size * signs, leaf.dtype)

        def is_harmless(leaf, most=tolerance):
            return _same(outputs, outputs_at(leaf)[0], most)

        kept = _harmless(leaf, moved, is_harmless)
        if kept is None:
            continue
        breaches = breaches_at(kept)
        if all(breach <= _ROUNDING for breach in breaches.values()):
            for far in _far(leaf, size, is_harmless):
                breaches |= {name: change for name, change in breaches_at(far).items() if change > _ROUNDING}
        alive = [name for name in others if np.any(np.asarray(gradients[name]))]
        sure = (
            f'compared with {len(alive)} gradients that are not 0'
            if alive
            else ('no other gradient goes through it: give its inputs as an argument too')
        )
        return LayerAudit(True, share, breaches, sure)
    return LayerAudit(
        False, 0.0, {}, 'moving it moves the outputs: not quantized, or its scale moves with every weight'
    )


def _beyond(leaf) -> float:
    return 4 * float(np.abs(leaf).max()) + 1


def _far(leaf, size: float, is_harmless: Callable):
    """The weights with a few of them, of all sizes, as far up or as far down as their codes reach."""
    flat = np.asarray(leaf).ravel()
    order = np.argsort(flat)
    witnesses = order[np.unique(np.linspace(0, flat.size - 1, _WITNESSES).astype(int))]
    for direction in (1, -1):
        moved = flat.copy()
        for place, share in itertools.product(witnesses, _FAR):
            if moved[place] != flat[place]:
                continue
            tried = moved.copy()
            tried[place] += direction * share * size
            moved = tried if is_harmless(jnp.asarray(tried.reshape(np.shape(leaf)))) else moved
        yield jnp.asarray(moved.reshape(np.shape(leaf)))


def _harmless(leaf, moved, is_harmless: Callable, depth: int = 12):
    """The moved weights, those put back whose code changes; None where too few could move.

    Halves of the weights are tried, and halves of what changes the outputs, as long as that is few.
    """
    flat, new = np.ravel(leaf), np.ravel(moved)

    def unchanged(kept):
        return is_harmless(jnp.asarray(np.where(kept, new, flat).reshape(np.shape(leaf))))

    pieces, kept = [np.arange(flat.size)], np.zeros(flat.size, bool)
    for _ in range(depth):
        refused = []
        for piece in pieces:
            tried = kept.copy()
            tried[piece] = True
            if unchanged(tried):
                kept = tried
            elif piece.size > 1:
                refused += np.array_split(piece, 2)
        pieces = refused
        if not pieces or len(pieces) > 64:
            break
    changed = kept & (new != flat)
    return jnp.asarray(np.where(kept, new, flat).reshape(np.shape(leaf))) if changed.mean() >= _FEWEST else None


def _compiled(f: Callable) -> Callable:
    """(params, arguments) -> (outputs, gradients by name): of a fixed random sum of the outputs."""

    @jax.jit
    def run(params, arguments):
        def of_floats(params, floats):
            return f(params, *_with(arguments, floats))

        outputs, back = jax.vjp(of_floats, params, _floats(arguments))
        random = np.random.default_rng(1)
        of_outputs = jax.tree.map(lambda leaf: jnp.asarray(random.uniform(0.5, 1.5, leaf.shape), leaf.dtype), outputs)
        return outputs, back(of_outputs)

    def named(params, arguments):
        outputs, (of_params, of_arguments) = run(params, arguments)
        by_path = dict(zip(weights.all_paths(params), jax.tree.leaves(of_params)))
        floats = {f'argument {place}': leaf for place, leaf in of_arguments.items()}
        gradients = {**by_path, **floats}
        return outputs, {name: leaf for name, leaf in gradients.items() if leaf.dtype != jax.dtypes.float0}

    return named


def _floats(arguments) -> dict[int, jax.Array]:
    numbers = {
        place: jnp.asarray(argument)
        for place, argument in enumerate(arguments, 1)
        if isinstance(argument, jax.Array | np.ndarray)
    }
    return {place: argument for place, argument in numbers.items() if jnp.issubdtype(argument.dtype, jnp.floating)}


def _with(arguments, floats: dict) -> list:
    return [floats.get(place, argument) for place, argument in enumerate(arguments, 1)]


def _same(outputs, others, tolerance: float) -> bool:
    pairs = zip(jax.tree.leaves(outputs), jax.tree.leaves(others))
    return all(_change(one, other) <= tolerance for one, other in pairs)


def _finite(*trees) -> bool:
    return all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves(trees))


def _change(before, after) -> float:
    """The largest change over the largest magnitude; 0 only where no bit changed, inf where it is not finite."""
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if np.array_equal(before, after, equal_nan=True):
        return 0.0
    change = float(np.abs(after - before).max() / max(np.abs(before).max(), 1e-300))
    return change if np.isfinite(change) else float('inf')
