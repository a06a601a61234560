"""Visits to the blocks that change leave what advancing all of them does, whatever share of the weights changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat import trajectory
from qat.lockstep import blocks

SHARES = {'none': 0, 'one': None, 'few': 1e-4, 'some': 1e-3, 'many': 0.5, 'all': 1}


@pytest.fixture(autouse=True)
def visits_however_few(monkeypatch):
    monkeypatch.setattr(blocks, '_FEW', 0)


def advance(state, codes, step):
    (reference, twin), lag, since = state
    lag = trajectory.advance_lag(lag, reference, twin, (step - since)[:, None])
    advanced = [trajectory.advance(history, code) for history, code in zip((reference, twin), codes)]
    return advanced, lag, jnp.full_like(since, step)


def counted(state, step):
    """The histories, and the lags with the steps since the last change."""
    (reference, twin), lag, since = state
    return reference, twin, trajectory.advance_lag(lag, reference, twin, (step + 1 - since)[:, None])


@jax.jit
def visited(state, codes, step):
    changed = blocks.differing(codes[0], state[0][0].code) | blocks.differing(codes[1], state[0][1].code)
    return blocks.update(changed, advance, state, codes, step)


def start(codes: np.ndarray):
    packed = blocks.pack([jnp.asarray(codes, jnp.uint8)])
    return [trajectory.begin(packed)] * 2, jnp.zeros(packed.shape, jnp.uint32), jnp.zeros(len(packed), jnp.int32)


def moved(random, codes: np.ndarray, share: float | None) -> np.ndarray:
    """Codes of which this share is another; None: a single one is."""
    which = random.random(codes.shape) < share if share is not None else np.arange(codes.size) == codes.size // 2
    return np.where(which, (codes + random.integers(1, 3, codes.shape)) % 4, codes)


def stories(random, numbers: int, share: float | None, steps: int) -> list[list[jax.Array]]:
    """By step, the packed codes of two runs that begin with zeros."""
    both, told = [np.zeros(numbers, int)] * 2, []
    for _ in range(steps):
        both = [moved(random, codes, share) for codes in both]
        told.append([blocks.pack([jnp.asarray(codes, jnp.uint8)]) for codes in both])
    return told


@pytest.mark.parametrize('numbers', [1, 5000, 100_000])  # one block, fewer than are visited together, more
@pytest.mark.parametrize('share', SHARES)
def test_visits_leave_what_advancing_all_does(share, numbers):
    sparse = dense = start(np.zeros(numbers, int))
    for step, codes in enumerate(stories(np.random.default_rng(0), numbers, SHARES[share], 6), 1):
        sparse, dense = visited(sparse, codes, step), jax.jit(advance)(dense, codes, step)
        for one, other in zip(jax.tree.leaves(counted(sparse, step)), jax.tree.leaves(counted(dense, step))):
            assert np.array_equal(one, other)


def test_lags_wrap_as_sums_do():
    state = start(np.zeros(8, int))
    late = 2**31 - 2
    state = visited(state, [state[0][0].code + 1, state[0][1].code], 1)
    state = visited(state, [state[0][0].code + 1, state[0][1].code], late)
    _, _, lag = counted(state, late)
    assert np.all(np.asarray(lag)[0, :8] == (late - 1 + 2) % 2**32)


def test_seeds_side_by_side_are_each_by_itself():
    random, numbers = np.random.default_rng(1), 3000
    told = [stories(random, numbers, share, 1)[0] for share in (0, 0.3)]
    state = start(np.zeros(numbers, int))
    codes = jax.tree.map(lambda *each: jnp.stack(each), *told)
    found = jax.jit(jax.vmap(visited, in_axes=(None, 0, None)))(state, codes, 1)
    for seed, own in enumerate(told):
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(visited(state, own, 1))):
            assert np.array_equal(one[seed], other)


@pytest.mark.parametrize('shapes', [[()], [(3, 5), (), (7,)], [(3, 3, 64, 64), (1, 2000)]])
def test_layers_come_out_as_they_went_in(shapes):
    layers = {str(n): np.random.default_rng(n).integers(0, 255, shape) for n, shape in enumerate(shapes)}
    packed = blocks.pack(map(jnp.asarray, layers.values()))
    assert packed.ndim == 2 and packed.size - sum(layer.size for layer in layers.values()) < 8 * len(packed)
    found = blocks.unpack({'tree': packed}, {name: layer.shape for name, layer in layers.items()})
    assert all(np.array_equal(found[name]['tree'], layer) for name, layer in layers.items())


def test_the_state_is_overwritten_where_it_lies():
    state = start(np.zeros(1_000_000, int))
    step = jax.jit(visited, donate_argnums=0)
    memory = step.lower(state, [history.code for history in state[0]], 1).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= memory.output_size_in_bytes - 1024
    assert memory.temp_size_in_bytes < 4 * 1_000_000  # less than a copy of one field
