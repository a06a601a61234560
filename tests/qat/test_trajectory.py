"""The streaming metrics equal the plain-Python oracle, exactly: equality, not closeness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qat import trajectory
from tests.qat import oracle

CODES = 256  # that a code of 8 bits can be


def stream(reference: np.ndarray, twin: np.ndarray) -> dict:
    """The metrics of codes (steps, weights), as the trainer computes them."""

    def step(carry, codes):
        a, b, lag = carry
        a, b = trajectory.advance(a, codes[0]), trajectory.advance(b, codes[1])
        return (a, b, trajectory.advance_lag(lag, a, b)), None

    start = trajectory.begin(reference[0]), trajectory.begin(twin[0]), jnp.zeros(reference.shape[1], jnp.uint32)
    (a, b, lag), _ = jax.jit(lambda: jax.lax.scan(step, start, (jnp.asarray(reference[1:]), jnp.asarray(twin[1:]))))()
    weights = jnp.float32(reference[-1])
    path = trajectory.begin_path(weights)
    sums = trajectory.measure_weights(weights, jnp.asarray(reference[-1]), weights, jnp.asarray(twin[-1]), path, 1.0)
    sums |= trajectory.measure_codes(jnp.asarray(reference[-1]), jnp.asarray(twin[-1]), CODES)
    return trajectory.summarize([sums | trajectory.measure_histories(a, b, lag)])


def check(reference: np.ndarray, twin: np.ndarray) -> None:
    expected = oracle.metrics(reference.T.tolist(), twin.T.tolist(), CODES)
    actual = stream(reference.astype(np.int32), twin.astype(np.int32))
    assert {key: actual[key] for key in expected} == expected


def walk(random, steps: int, weights: int, bits: int) -> np.ndarray:
    """Codes that mostly stay, often step, sometimes jump, and in a third of the weights oscillate."""
    top = 2**bits - 1
    codes = [random.integers(0, top + 1, weights)]
    oscillating = random.random(weights) < 1 / 3
    for t in range(steps):
        stepped = np.clip(codes[-1] + random.choice([-1, 0, 0, 0, 1], weights), 0, top)
        jumped = np.where(random.random(weights) < 0.02, random.integers(0, top + 1, weights), stepped)
        back_and_forth = np.clip(codes[0] + t % 2, 0, top)
        codes.append(np.where(oscillating & (random.random(weights) < 0.8), back_and_forth, jumped))
    return np.array(codes)


def delayed(random, codes: np.ndarray) -> np.ndarray:
    """A twin that goes through the same codes up to three steps late, some weights apart from it."""
    delays = random.integers(0, 4, codes.shape[1])
    rows = np.maximum(np.arange(len(codes))[:, None] - delays, 0)
    late = np.take_along_axis(codes, rows, axis=0)
    return np.where(random.random(codes.shape[1]) < 0.3, walk(random, len(codes) - 1, codes.shape[1], 1), late)


@pytest.mark.parametrize('bits', range(1, 9))
def test_random_walks(bits):
    random = np.random.default_rng(bits)
    reference = walk(random, 60, 10_000, bits)
    check(reference, delayed(random, reference))


@settings(max_examples=15)
@given(st.data())
def test_short_sequences(data):
    """All that hypothesis can think of on three codes, where stacks collapse most."""
    codes = st.lists(st.integers(0, 2), min_size=16, max_size=16)
    both = data.draw(st.lists(st.tuples(codes, codes), min_size=8, max_size=8))
    reference, twin = (np.array([pair[side] for pair in both]).T for side in (0, 1))
    check(reference, twin)


def test_every_sequence_of_three_codes():
    """All 3^9 of them against the same, shifted: nothing about the window of three is left to chance."""
    every = np.array(np.meshgrid(*[range(3)] * 9)).reshape(9, -1)
    check(every, np.roll(every, 1, axis=1))
    check(every, every)


def test_identical_sequences_at_other_times():
    reference = np.array([[0, 1, 1, 2, 2, 2, 2]]).T
    twin = np.array([[0, 0, 0, 1, 1, 1, 2]]).T
    assert stream(reference, twin)['average_change_point_error'] == (2 + 3) / 2


def test_nothing_tracked_and_nothing_moved_give_none():
    still = np.zeros((5, 3), np.int32)
    metrics = stream(still, still)
    assert metrics['quantized_weight_agreement_moved'] is None and metrics['average_change_point_error'] is None
    assert metrics['moved_fraction'] == 0 and metrics['weight_alignment_error'] is None
    weights = jnp.ones(3)
    untracked = trajectory.measure_weights(weights, weights, weights, weights, trajectory.begin_path(weights), 1.0)
    nothing = trajectory.summarize([untracked])
    for key in ('moved_fraction', 'flips_reference', 'flips_twin', 'never_flipped_reference', 'never_flipped_twin'):
        assert nothing[key] is None
    assert metrics['flips_twin'] == 0 and metrics['never_flipped_twin'] == 1


def test_shares_of_codes_are_over_layers_with_equally_many():
    def layer(reference, twin, count):
        return sums | trajectory.measure_codes(jnp.asarray(reference), jnp.asarray(twin), count)

    ones = jnp.ones(3)
    sums = trajectory.measure_weights(ones, ones, ones, ones, trajectory.begin_path(ones), 1.0)
    first, second = layer([0, 0, 3], [1, 2, 3], 4), layer([[1, 3, 3, 3, 3]], [[0, 0, 0, 0, 1]], 4)
    found = trajectory.summarize([first, second])
    assert found['code_shares_reference'] == [2 / 8, 1 / 8, 0, 5 / 8]
    assert found['code_shares_twin'] == [4 / 8, 2 / 8, 1 / 8, 1 / 8]
    other = layer([0, 1], [1, 1], 2)
    assert trajectory.summarize([other])['code_shares_twin'] == [0, 1]
    assert trajectory.summarize([first, other])['code_shares_twin'] is None
    assert trajectory.summarize([sums])['code_shares_reference'] is None


def test_the_path_does_not_stall():
    """A float32 sum of a million steps of 1e-4 stops at about 1,000 times too little precision; Kahan's does not."""
    small, steps = jnp.float32(1e-4), 1_000_000

    def advance(t, carry):
        path, weights = carry
        moved = weights + jnp.where(t % 2 == 0, small, -small)
        return trajectory.advance_path(path, weights, moved, 1.0), moved

    start = jnp.zeros(1)
    path, _ = jax.jit(lambda: jax.lax.fori_loop(0, steps, advance, (trajectory.begin_path(start), start)))()
    assert float(path.length) == pytest.approx(float(small) * steps, rel=1e-6)
    naive = jax.lax.fori_loop(0, steps, lambda _, total: total + small, jnp.float32(0))
    assert abs(float(naive) / (float(small) * steps) - 1) > 1e-4


@pytest.mark.parametrize('shape', [(), (1, 1, 1, 4), (1, 1, 1, 1)])
def test_lengths_are_in_units_of_the_range(shape):
    random = np.random.default_rng(0)
    before, after = random.normal(size=(2, 1, 3, 5, 4)).astype(np.float32)
    range_ = random.uniform(0.1, 1, shape).astype(np.float32)
    path = trajectory.advance_path(trajectory.begin_path(before), before, after, range_)
    assert float(path.length) == pytest.approx(np.sum(abs(after - before).astype(np.float64) / range_), rel=1e-6)


def test_alignment_errors_by_hand():
    start, twin = jnp.float32([0.0, 1.0]), jnp.float32([0.5, 2.0])
    path = trajectory.advance_path(trajectory.begin_path(start), start, jnp.float32([1.0, 1.0]), 2.0)
    path = trajectory.advance_path(path, jnp.float32([1.0, 1.0]), twin, 2.0)
    codes = jnp.int32([0, 1])
    metrics = trajectory.summarize(
        [trajectory.measure_weights(jnp.float32([0.25, 3.0]), codes, twin, codes + 1, path, 2.0)]
    )
    assert metrics['weight_alignment_error'] == (0.25 + 1) / (1 + 0.5 + 1)
    assert metrics['weight_alignment_error_displacement'] == (0.25 + 1) / (0.5 + 1)
    assert metrics['quantized_weight_agreement'] == 0


def test_movement_by_hand():
    path = trajectory.advance_path(trajectory.begin_path(jnp.zeros(2)), jnp.zeros(2), jnp.float32([1.0, 0.5]), 1.0)
    codes = jnp.int32([1, 2])
    sums = trajectory.measure_movement(codes, jnp.int32([1, 3]), path, 0.25)
    found = trajectory.summarize([trajectory.measure_weights(codes, codes, codes, codes, path, 1.0) | sums])
    assert found['changed_codes'] == 1 and found['path_length'] == (1.0 + 0.5) / 0.25 / 2


def test_counts_are_summed_in_64_bits():
    lag = jnp.full(100_000, 2**31 + 5, jnp.uint32)
    history = trajectory.begin(jnp.zeros(100_000, jnp.int32))
    moved = trajectory.advance(history, jnp.ones(100_000, jnp.int32))
    weights = jnp.ones(100_000)
    sums = trajectory.measure_weights(weights, weights, weights, weights, trajectory.begin_path(weights), 1.0)
    metrics = trajectory.summarize([sums | trajectory.measure_histories(moved, moved, lag)])
    assert metrics['average_change_point_error'] == 2**31 + 5
    often = moved.replace(changes=lag.astype(jnp.int32) - 6)  # the most that fits
    metrics = trajectory.summarize([sums | trajectory.measure_histories(often, moved, lag)])
    assert metrics['flips_reference'] == 100_000 * (2**31 - 1) and metrics['flips_twin'] == 100_000


def test_bytes_of_a_history():
    kernel = jnp.zeros((3, 3, 4, 5), jnp.int32)
    history = trajectory.begin(kernel)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(history)) == 19 * kernel.size
