"""Grids that are not uniform: against their number formats, their definition, and the theorem."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from qat import clipping, estimators
from qat.estimators import ste_with_clip_of
from qat.grids import E2M1, GridQuantizer, quantizer
from qat.quantizers import TernaryQuantizer, UniformQuantizer
from qat.theory.weight_map import WeightMap, alpha

R = np.float32(0.37)
UNEVEN = GridQuantizer('uneven', (-1.0, -0.3, 0.2, 0.5, 1.0))
GRIDS = {'ternary': TernaryQuantizer(), 'e2m1': E2M1, 'uneven': UNEVEN}
SLOPES = ('dsq(k=6.5)', 'sine(lam=0.6)', 'rdfs(A=0.21)', 'dge(k=5, clamp=3)')


def somewhere(seed=0, count=20_000, reach=1.3):
    return np.random.default_rng(seed).uniform(-reach * R, reach * R, count).astype(np.float32)


def levels(grid) -> np.ndarray:
    """The values where R = 1, from the definitions of the formats."""
    e2m1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    known = {'ternary': [-1, 0, 1], 'e2m1': [-value / 6 for value in e2m1[:0:-1]] + [value / 6 for value in e2m1]}
    return np.array(known.get(grid.name, UNEVEN.levels))


def test_e2m1_rounds_as_the_format_does():
    ties = np.float32([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5])
    weights = np.concatenate([np.random.default_rng(0).uniform(-7, 7, 50_000).astype(np.float32), ties, -ties])
    expected = weights.astype(ml_dtypes.float4_e2m1fn).astype(np.float32)
    assert np.array_equal(E2M1.quantize(weights, jnp.float32(6)), expected)


def test_ternary_rounds_as_bitnet_does():
    """q = scale * clip(round(w / scale), -1, 1), scale the mean of |w| (arXiv 2402.17764, equations 1 to 3)."""
    weights = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    scale = np.abs(weights).mean()
    expected = scale * np.clip(np.round(weights / scale), -1, 1)
    np.testing.assert_allclose(TernaryQuantizer().quantize(weights, scale), expected, rtol=1e-6)


@pytest.mark.parametrize('grid', GRIDS.values(), ids=GRIDS)
def test_codes_are_the_nearest_value(grid):
    weights, values = somewhere(count=2000), levels(grid)
    distances = abs(np.float64(weights)[:, None] - np.float64(R) * values)
    nearest, (least, next_) = distances.argmin(axis=1), np.sort(distances, axis=1).T[:2]
    clear = next_ - least > 1e-6
    codes = np.asarray(grid.codes(weights, R))
    assert clear.mean() > 0.99 and (codes == nearest)[clear].all()
    np.testing.assert_allclose(grid.values(codes, R), values[codes] * R, rtol=1e-6)
    assert (np.asarray(grid.codes(grid.values(np.arange(len(values)), R), R)) == np.arange(len(values))).all()


@pytest.mark.parametrize('grid', GRIDS.values(), ids=GRIDS)
def test_a_place_is_in_the_gap_between_the_two_values_around_the_weight(grid):
    weights, values = somewhere(), levels(grid) * R
    clipped = np.clip(weights, -R, R)
    gap = np.clip(np.searchsorted(values, clipped, side='right') - 1, 0, len(values) - 2)
    low, high = values[gap], values[gap + 1]
    threshold, offset, width = grid.place(weights, R)
    inner = (np.abs(clipped - low) > 1e-6) & (np.abs(clipped - high) > 1e-6)
    for found, expected in ((threshold, (low + high) / 2), (np.broadcast_to(width, gap.shape), high - low)):
        np.testing.assert_allclose(np.asarray(found)[inner], expected[inner], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        np.asarray(offset)[inner], ((clipped - (low + high) / 2) / (high - low))[inner], atol=1e-5
    )
    assert grid.step_size(R) == pytest.approx(np.diff(values).min())


@pytest.mark.parametrize('call', SLOPES)
@pytest.mark.parametrize('grid', GRIDS.values(), ids=GRIDS)
def test_M_keeps_every_code_and_fixes_thresholds_and_values(grid, call):
    estimator = estimators.parse(call, grid)
    weight_map, weights = WeightMap(estimator), somewhere(reach=1.1)
    mapped = np.asarray(jax.jit(weight_map)(weights, R))
    assert np.array_equal(grid.codes(mapped, R), grid.codes(weights, R))
    np.testing.assert_allclose(jax.jit(weight_map.inverse)(mapped, R), weights, atol=2e-4 * R)
    values = levels(grid) * R
    fixed = np.float32([*values, *(values[1:] + values[:-1]) / 2])
    np.testing.assert_allclose(weight_map(fixed, R), fixed, atol=1e-6)


@pytest.mark.parametrize('clip', ['clip', 'pass', 'trust(T=0.5)', ''])
@pytest.mark.parametrize('call', ['dsq(k=6.5)', 'mad'])
def test_M_keeps_the_code_of_every_kind_of_float32(call, clip):
    """Of a million bit patterns: subnormal, huge and all between."""
    bits = np.random.default_rng(0).integers(0, 2**32, 1_000_000, np.uint32)
    weights = bits.view(np.float32)[np.isfinite(bits.view(np.float32))]
    made = estimators.parse(call, 'ternary').with_clip(clip)
    weight_map, codes = WeightMap(made), made.quantizer.codes
    for mapped in (jax.jit(weight_map), jax.jit(weight_map.inverse)):
        assert np.array_equal(codes(mapped(weights, R), R), codes(weights, R))


@pytest.mark.parametrize('call', SLOPES)
@pytest.mark.parametrize('grid', [E2M1, UNEVEN], ids=lambda grid: grid.name)
def test_every_finite_cell_has_the_same_alpha(grid, call):
    """The harmonic mean of the slope between two thresholds, by brute force."""
    estimator = estimators.parse(call, grid)
    thresholds = (levels(grid)[1:] + levels(grid)[:-1]) / 2
    for low, high in itertools.pairwise(thresholds):
        cell = np.linspace(low, high, 40_001)
        slopes = np.asarray(estimator.at(np.float32((cell[1:] + cell[:-1]) / 2), np.float32(1)), np.float64)
        assert 1 / np.mean(1 / slopes) == pytest.approx(alpha(estimator), rel=1e-3)


@pytest.mark.parametrize('rule', ['clip', 'pass', 'trust', 'trust(T=1.5)'])
def test_a_small_step_of_the_estimator_is_a_step_of_its_twin_under_every_clip_rule(rule):
    """dM/dw = alpha s_twin(M(w)) / s(w) wherever a gradient passes, and 1 elsewhere."""
    estimator = dataclasses.replace(estimators.parse('dsq(k=6.5)', 2), clip=clipping.parse(rule, UniformQuantizer(2)))
    weight_map = WeightMap(estimator)
    twin = ste_with_clip_of(estimator, weight_map.alpha)
    with jax.enable_x64(True):
        w, h = np.random.default_rng(0).uniform(-3, 3, 3000), 1e-6
        slope, slope_of_twin = np.asarray(estimator.at(w, 1.0)), np.asarray(twin.at(weight_map(w, 1.0), 1.0))
        above, below = (np.asarray(weight_map(w + side, 1.0)) for side in (h, -h))
    passes = slope > 0
    assert np.array_equal(passes, slope_of_twin > 0)
    corners = [1, estimator.clip.reach, 1 / 3, 2 / 3]
    smooth = (np.abs(np.abs(w)[:, None] - corners) > 1e-3).all(axis=1)
    expected = np.where(passes, weight_map.alpha * slope_of_twin / np.where(passes, slope, 1), 1)
    np.testing.assert_allclose(((above - below) / (2 * h))[smooth], expected[smooth], rtol=1e-5)
    with jax.enable_x64(True):
        np.testing.assert_allclose(weight_map.inverse(weight_map(w, 1.0), 1.0), w, atol=1e-5)


def test_trust_reaches_half_a_step_size_as_quest_does():
    """1 where |w - q(w)| <= T, half of the distance between values (arXiv 2502.05003, equation 4)."""
    for bits in (1, 2, 4):
        made = UniformQuantizer(bits)
        estimator = dataclasses.replace(estimators.make('ste', bits), clip=clipping.parse('trust', made))
        weights = somewhere(reach=2.5)
        half = float(made.step_size(R)) / 2
        distance = np.abs(weights - np.asarray(made.quantize(weights, R)))
        clear = np.abs(distance - half) > 1e-6
        assert np.array_equal(np.asarray(estimator.at(weights, R))[clear] > 0, (distance <= half)[clear])


@pytest.mark.parametrize(
    'given, message',
    [('ternay', "did you mean 'ternary'"), (9, r'1\.\.8'), ('2', 'quantizer')],
)
def test_a_quantizer_that_does_not_exist_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        quantizer(given)


@pytest.mark.parametrize(
    'values, thresholds', [((-1, 1, 0), ()), ((-1,), ()), ((0, 1), ()), ((-1, 0, 1), (-0.5,)), ((-1, 0, 1), (0.2, 0.5))]
)
def test_levels_and_thresholds_in_disorder_are_refused(values, thresholds):
    with pytest.raises(ValueError, match=r'levels must|thresholds must'):
        GridQuantizer('mine', values, thresholds)


@pytest.mark.parametrize('rule, message', [('clp', 'clip rule'), ('trust(T=0)', r'\(0, 100\)'), ('pass(T=1)', 'T')])
def test_a_clip_rule_that_does_not_exist_is_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        clipping.parse(rule, UniformQuantizer(2))


@pytest.mark.parametrize('R', [1.0, 0.216, 3e-5])
@pytest.mark.parametrize('grid', GRIDS.values(), ids=GRIDS)
def test_M_keeps_the_code_of_every_float_around_thresholds_and_ends(grid, R):
    """Where rounding decides: the nearest 2^13 floats on either side, in the middle of a cell and near 0 too."""
    scale, near = np.float32(R), np.arange(-(2**13), 2**13, dtype=np.int32)
    values = levels(grid) * scale
    places = np.float32([*values, *(values[1:] + values[:-1]) / 2, 0.25 * values[1] + 0.75 * values[0], 1e-38])
    weights = (np.abs(places).view(np.int32)[:, None] + near).clip(0).view(np.float32) * np.sign(places)[:, None]
    for call in SLOPES[::3]:
        mapped = jax.jit(WeightMap(estimators.parse(call, grid)))(weights, scale)
        np.testing.assert_array_equal(grid.codes(mapped, scale), grid.codes(weights, scale))
