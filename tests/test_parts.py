"""Layers in parts have the ranges of the whole, whatever their shape."""

import pathlib
from typing import NamedTuple

import numpy as np
import pytest

from experiments.comparison import following
from experiments.comparison.matching import Layer
from experiments.comparison.shared_ranges import SharedRange
from experiments.comparison.snapshots import Header
from experiments.errors import UserError

RULES = {  # by call, of weights whose outputs are their last axis
    'max_abs': lambda w: np.abs(w).max(),
    'channel_max_abs': lambda w: np.abs(w).max(axis=tuple(range(w.ndim - 1)), keepdims=True),
    'mean_abs': lambda w: np.abs(w).mean(),
    'he_uniform': lambda w: np.sqrt(6 / np.prod(w.shape[:-1])),
    'block_max_abs(size=4)': lambda w: (
        np.abs(w).reshape(*w.shape[:-2], -1, 4, w.shape[-1]).max(axis=-2).repeat(4, axis=-2)
    ),
    '0.7': lambda w: 0.7,
}


class InMemory(NamedTuple):
    """A snapshot of one layer."""

    weights: np.ndarray
    path: pathlib.Path = pathlib.Path('memory')

    def headers(self):
        return {'w': Header(self.weights.shape, 'float32')}

    def read(self, wanted):
        return [self.weights[index] for _, index in wanted]


@pytest.mark.parametrize('outputs', ['first', 'last'])
@pytest.mark.parametrize('rule', RULES)
@pytest.mark.parametrize('shape', [(16, 8), (1, 16, 8), (2, 2, 12, 4), (4, 8, 12)])
def test_a_layer_in_parts_has_the_ranges_of_the_whole(rule, outputs, shape):
    weights = np.random.default_rng(4).normal(size=shape).astype(np.float32)
    to_last, to_first = ((0, -1), (-1, 0)) if outputs == 'first' else ((0, 0), (0, 0))
    turned = np.moveaxis(weights, *to_last)
    expected = np.moveaxis(np.broadcast_to(RULES[rule](turned), turned.shape), *to_first)
    for largest in (5, 30, 1000):
        found = np.full(shape, np.nan)
        for group, ranges in following.ranged(
            InMemory(weights), 0, [Layer('w', 'w', shape)], SharedRange(rule, outputs), largest
        ):
            assert sum(part.size for part in group) <= largest
            for part, R in zip(group, ranges):
                found[np.ix_(*part.index)] = R
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize('outputs, shape', [('last', (4, 6, 8)), ('first', (4, 8, 6)), ('first', (8,))])
def test_blocks_that_do_not_fit_are_refused_whatever_the_parts(outputs, shape):
    for largest in (3, 1000):
        with pytest.raises(UserError, match='not made of such blocks'):
            how = SharedRange('block_max_abs(size=4)', outputs)
            next(following.ranged(InMemory(np.ones(shape, np.float32)), 0, [Layer('w', 'w', shape)], how, largest))
