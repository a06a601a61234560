"""All layers in one array that is cut into blocks, of which a step touches only those in which something changes.

A *packed* array is (blocks, width): the numbers of the layers one after the other, and a few zeros at the end. Arrays
of the same layers have their blocks in common; what there is one of for a block is (blocks,).
"""

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp

_WIDEST = 1024  # a block takes about as long to compute as to go to
_PARTS = 8  # of a block; its width is a multiple
_SPAN = 32  # blocks that are visited together where many change: more than one core has work
_MANY = 1 / 4  # of the blocks
_FEW = 512  # blocks that a core's cache holds: to advance all of them is faster than to look which have changed


def pack(layers: Iterable[jax.Array]) -> jax.Array:
    """Arrays of any shape and one type, packed."""
    flat = [layer.reshape(-1) for layer in layers]
    numbers = sum(layer.size for layer in flat)
    blocks = -(-numbers // _WIDEST)
    width = -(-numbers // (blocks * _PARTS)) * _PARTS
    return jnp.concatenate([*flat, jnp.zeros(blocks * width - numbers, flat[0].dtype)]).reshape(blocks, width)


def unpack(packed, shapes: Mapping[str, tuple[int, ...]]) -> dict:
    """By layer: a tree of packed arrays as a tree of arrays of the layer's shape."""
    starts = itertools.accumulate(map(math.prod, shapes.values()), initial=0)
    return {
        layer: jax.tree.map(functools.partial(_part, start, shape), packed)
        for start, (layer, shape) in zip(starts, shapes.items())
    }


def _part(start: int, shape: tuple[int, ...], packed: jax.Array) -> jax.Array:
    return packed.reshape(-1)[start : start + math.prod(shape)].reshape(shape)


def differing(one: jax.Array, other: jax.Array) -> jax.Array:
    """The blocks in which two packed arrays differ, (blocks,) bool."""
    # Parts first: XLA's CPU backend would write out what it reduces along an axis, but not this.
    return jnp.any(functools.reduce(operator.or_, jnp.split(one != other, _PARTS, axis=1)), axis=1)


def update(changed: jax.Array, advance: Callable, state, given, shared):
    """`advance(state, given, shared)`, at the price of the blocks that change.

    A CPU visits these where there are many blocks. An accelerator, which would wait for every visit, advances all: it
    has the bandwidth.

    Args:
      changed: (blocks,) bool, false where a block is left as it is.
      advance: (state, given, shared) -> the new state, of any number of blocks, each by itself; done once more, it
        changes nothing.
      state: a tree of arrays whose first axis is that of the blocks.
      given: another.
      shared: a tree of what there is one of for all blocks.

    Returns:
      The new state, in the memory of the old one where that is donated.
    """

    if len(changed) <= _FEW:
        return advance(state, given, shared)

    def visited(changed, state, given, shared):
        return _visited(changed, functools.partial(_visit, advance, given, shared), state)

    def all_at_once(_, state, given, shared):
        return advance(state, given, shared)

    # A loop under vmap would select between all old and all new blocks at every visit.
    one_by_one = jax.custom_batching.sequential_vmap(visited)
    return jax.lax.platform_dependent(changed, state, given, shared, cpu=one_by_one, default=all_at_once)


def _visited(changed: jax.Array, visit: Callable, state):
    """The state after visits to all changed blocks, or, if these are many, to all."""
    blocks = len(changed)
    span, many = min(_SPAN, blocks), jnp.mean(changed) > _MANY
    chosen = jnp.where(changed & ~many, jnp.arange(blocks), blocks)
    following = jnp.append(jax.lax.cummin(chosen, reverse=True), blocks)  # by block: the first chosen one from it on

    def visit_one(carry):
        block, state = carry
        return following[block + 1], visit(state, block, 1, changed[block])

    _, state = jax.lax.while_loop(lambda carry: carry[0] < blocks, visit_one, (following[0], state))
    spans = jnp.where(many, -(-blocks // span), 0)  # the last one overlaps the one before
    return jax.lax.fori_loop(0, spans, lambda turn, state: visit(state, turn * span, span, many), state)


def _visit(advance: Callable, given, shared, state, start: jax.Array, span: int, always: jax.Array):
    """The state with so many blocks advanced, in place; `always` holds, which XLA must not know.

    What comes out of a conditional was computed before any of it is written. Without it XLA copies whole arrays at
    every visit, lest one be overwritten while it is still read for another.
    """
    old, read = jax.tree.map(lambda array: jax.lax.dynamic_slice_in_dim(array, start, span), (state, given))
    new = jax.lax.cond(always, advance, lambda old, *_: old, old, read, shared)
    return jax.tree.map(lambda array, part: jax.lax.dynamic_update_slice_in_dim(array, part, start, 0), state, new)
