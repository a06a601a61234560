"""qat.audit on arrays that were made from published formulas, in numpy, without this library."""

import numpy as np
import pytest

import qat
from qat.auditing import levels, outside, samples

R = 0.7


def sech(x):
    return 1 / np.cosh(x)


# call -> slope over the offset r from the nearest threshold, at so many bits; and what must be found
SLOPES = {
    'ste': (lambda r, bits: np.ones_like(r), {}),
    'dsq': (lambda r, bits: _dsq(r, 6.5 / (2**bits - 1)), {'k': 6.5}),
    'soft_round': (lambda r, bits: _dsq(r, 2.5), {'a': 5.0}),
    'sine': (lambda r, bits: 1 + 0.6 * np.cos(2 * np.pi * r), {'lam': 0.6}),
    'rdfs': (lambda r, bits: _rdfs(r, np.sqrt(2) * np.pi * 0.21), {'A': 0.21}),
    'dge': (lambda r, bits: np.minimum((np.abs(2 * r) + 1e-300) ** (1 / 5 - 1) / 5, 3), {'k': 5.0, 'clamp': 3.0}),
    'ewgs': (lambda r, bits: 1 + 0.2 * np.where(r < 0, r + 0.5, r - 0.5), {'d': 0.2}),
    'ede': (lambda r, bits: 0.1 * 100**0.7 * sech(0.1 * 100**0.7 * 2 * r) ** 2, {'progress': 0.7}),
    'reste': (lambda r, bits: _reste(np.abs(2 * r), 3.0), {'o_end': 3.0}),
    'swish_sign': (lambda r, bits: _swish(2 * r, 5.0), {'b': 5.0}),
}
TIME = 'changes with time'
NOT_COVERED = {'ewgs': 'depends on the incoming gradient', 'ede': TIME, 'reste': TIME, 'swish_sign': 'not positive'}


def _dsq(r, u):
    return u / np.tanh(u) * sech(2 * u * r) ** 2


def _rdfs(r, c):
    return (1 - c * np.sin(np.pi * np.abs(r))) / (1 + c * np.sin(np.pi * np.abs(r)))


def _reste(x, o):
    return np.where(x <= 0.1, 0.1 ** (1 / o - 1), np.maximum(x, 0.1) ** (1 / o - 1) / o)


def _swish(x, b):
    return b * (2 - b * x * np.tanh(b * x / 2)) / (1 + np.cosh(b * x))


def sampled(slope, bits: int, count: int = 4001, reach: float = 1.3, dtype=np.float32):
    """(w, q, slope) of a uniform quantizer on [-R, R] that clips."""
    w = np.linspace(-reach * R, reach * R, count).astype(dtype).astype(np.float64)
    D = 2 * R / (2**bits - 1)
    code = np.round((np.clip(w, -R, R) + R) / D)
    cell = np.clip(np.floor((np.clip(w, -R, R) + R) / D), 0, 2**bits - 2)
    r = (np.clip(w, -R, R) + R) / D - cell - 0.5
    s = np.where(np.abs(w) <= R, slope(r, bits), 0)
    return w.astype(dtype), (-R + code * D).astype(dtype), s.astype(dtype)


def harmonic_mean(slope, bits: int) -> float:
    r = (np.arange(1_000_000) + 0.5) / 1_000_000 - 0.5
    return 1 / np.mean(1 / slope(r, bits))


def check(name: str, bits: int, **options):
    slope, parameters = SLOPES[name]
    found = qat.audit(*sampled(slope, bits, **options))
    (match,) = [match for match in found.matches if match.name == name]
    assert {**dict(match.parameters), **dict(match.context)} | parameters == pytest.approx(
        {**dict(match.parameters), **dict(match.context)}, abs=1e-3
    )
    assert (found.levels.values.size, found.levels.midway, found.pooled.agree) == (2**bits, True, True)
    if name in NOT_COVERED:
        assert found.alpha is None and NOT_COVERED[name] in found.reasons[0]
    else:
        assert found.reasons == () and found.alpha == pytest.approx(harmonic_mean(slope, bits), abs=1e-5)
    return found


@pytest.mark.parametrize('name, bits', [('dsq', 8), ('dge', 2)])
def test_an_entry_of_the_catalogue_is_recognised(name, bits):
    check(name, bits)


@pytest.mark.slow
@pytest.mark.parametrize('bits', [1, 2, 3, 4, 8])
@pytest.mark.parametrize('name', SLOPES)
def test_every_entry_is_recognised(name, bits):
    check(name, bits)


@pytest.mark.slow
@pytest.mark.parametrize('reach, dtype', [(1.0, np.float32), (1.5, np.float64)])
@pytest.mark.parametrize('name', ['dsq', 'rdfs', 'dge'])
def test_so_it_is_whatever_the_samples_reach_to(name, reach, dtype):
    found = check(name, 3, reach=reach, dtype=dtype)
    assert found.outside.rule == ('clip' if reach > 1 else 'unknown')


@pytest.mark.slow
def test_the_order_of_samples_their_repetition_and_what_is_not_finite_do_not_matter():
    random = np.random.default_rng(0)
    w, q, s = sampled(SLOPES['dsq'][0], 2)
    order = random.permutation(np.concatenate([np.arange(w.size)] * 2))
    w, q, s = (np.append(column[order], np.nan) for column in (w, q, s))
    found, plain = qat.audit(w, q, s), qat.audit(*sampled(SLOPES['dsq'][0], 2))
    assert (found.alpha, found.names) == (plain.alpha, plain.names)
    assert found.notes == (
        '1 of 8003 samples are not finite, and left out',
        '4001 samples are there twice, and are counted once',
    )


def test_a_family_is_named_whole_and_mad_is_told_by_what_it_does_outside():
    w, q, s = sampled(SLOPES['ste'][0], 2)
    beyond = np.where(np.abs(w) > R, R / np.maximum(np.abs(w), R), 1)
    found = qat.audit(w, q, beyond)
    assert (found.names, found.outside.rule, found.alpha, found.reasons) == (('mad',), 'reciprocal', 1.0, ())
    inside = np.abs(w) < R
    assert qat.audit(w[inside], q[inside], s[inside]).names == ('ste', 'mad')


def passing(rule: str):
    """STE at 3 bits, whose slope is 1 as far as a rule lets it pass."""
    w, q, _ = sampled(SLOPES['ste'][0], 3, reach=1.5)
    D = 2 * R / 7
    reach = {'clip': R, 'pass': 9, 'round_clamp': R + D / 2, 'trust': R + D / 4, 'boundary_zero': R - D / 2}[rule]
    return samples.collect(w, q, (np.abs(w) <= reach).astype(float))


@pytest.mark.parametrize('rule', ['clip', 'pass', 'round_clamp', 'trust', 'boundary_zero'])
def test_clip_rules(rule):
    given = passing(rule)
    found = outside.find(given, levels.find(given))
    assert found.rule == rule
    assert found.absorbing == ((0, 7) if rule == 'boundary_zero' else ())
    if rule == 'trust':
        assert abs(found.reach - 0.25) <= found.error < 0.01


def test_sides_that_differ_are_both_named():
    given = passing('pass')
    slope = np.where(given.w < -R, 0, given.slope)
    given = samples.collect(given.w, given.q, slope)
    assert outside.find(given, levels.find(given)).rule == 'clip below, pass above'


def test_values_of_any_grid_are_found_with_thresholds_to_the_distance_of_samples():
    w = np.linspace(-8, 8, 2001)
    values, thresholds = np.array([-6.0, -1.5, -0.5, 0.25, 3.0]), np.array([-4.0, -1.0, 0.0, 2.0])
    found = levels.find(samples.collect(w, values[np.searchsorted(thresholds, w)]))
    np.testing.assert_allclose(found.values, values)
    assert not (found.midway or found.uniform or found.symmetric) and found.zero_point is None
    assert (np.abs(found.thresholds - thresholds) <= found.errors + 1e-9).all() and found.errors.max() < 0.0081


def test_an_asymmetric_grid_has_a_zero_point():
    w = np.linspace(-2, 2, 1001)
    found = levels.find(samples.collect(w, 0.1 * (np.clip(np.round(w / 0.1 + 3), 0, 15) - 3)))
    assert (found.zero_point, found.symmetric, found.uniform, found.ends) == (3.0, False, True, (True, True))


def test_a_slope_that_differs_from_cell_to_cell_is_ste_with_moved_thresholds():
    """DoReFa's tanh: N(w) = integral of dw/s has a closed form, m (w/2 + sinh(2w)/4) with 1/s = m cosh(w)^2."""
    w = np.linspace(-2, 2, 4001)
    m, n = np.tanh(2), 7
    q = 2 * np.round((np.tanh(w) / (2 * m) + 0.5) * n) / n - 1
    found = qat.audit(w, q, sech(w) ** 2 / m)
    assert found.reasons[0].startswith('its slope is not the same in every cell, nor is its harmonic mean')
    t = np.arctanh(m * (2 * (np.arange(n) + 0.5) / n - 1))
    N = m * (t / 2 + np.sinh(2 * t) / 4)
    factor = np.ptp(t) / np.ptp(N)
    assert np.diff(found.moved.thresholds) == pytest.approx(factor * np.diff(N), rel=3e-3)
    assert found.moved.factor == pytest.approx(factor, rel=3e-3)
    assert found.moved.thresholds[0] == found.levels.thresholds[0]


def test_one_gap_with_another_slope_is_seen():
    w, q, s = sampled(SLOPES['ste'][0], 3)
    D = 2 * R / 7
    found = qat.audit(w, q, np.where(np.abs(w) < D / 2, 0.9 * s, s))
    assert not found.pooled.agree and int(found.pooled.disagreement.argmax()) == 3


@pytest.mark.slow
def test_a_slope_outside_the_catalogue_gets_its_alpha_from_the_samples():
    slope = lambda r, bits: 1.2 - np.abs(r)  # noqa: E731
    found = qat.audit(*sampled(slope, 3))
    assert found.matches == () and found.verdict == 'disguised'
    assert found.alpha == pytest.approx(harmonic_mean(slope, 3), rel=1e-4)


MISSING = {
    'no rounding': ((w := np.linspace(-1, 1, 300), w), 'q has 300 different values in 300 samples'),
    'one value': ((w, 0 * w), 'q is 0 at every sample'),
    'too few': ((w[:5], w[:5]), 'there are 5 different weights, and it takes 16'),
    'sizes': ((w, w[1:]), 'must have one entry a sample each, and have 300, 299'),
    'words': ((w, ['a'] * 300), 'q must be an array of real numbers'),
    'nothing': (([], []), 'there are 0 different weights'),
    'complex': ((w, 1j * w), 'q must be an array of real numbers'),
}


@pytest.mark.parametrize('case', MISSING)
def test_what_is_no_sample_of_a_fake_quantizer_is_refused(case):
    given, message = MISSING[case]
    with pytest.raises(ValueError, match=message) as refused:
        qat.audit(*given)
    assert '\n' not in str(refused.value) and len(str(refused.value)) < 250


def test_what_samples_lack_is_said():
    w, q, s = sampled(SLOPES['ste'][0], 4)
    assert 'nothing is known of the slope' in qat.audit(w, q).notes[-1] and qat.audit(w, q).verdict == 'unknown'
    hole = np.abs(w - 0.2) > 0.15
    assert 'no samples between w = 0.0' in qat.audit(w[hole], q[hole]).notes[0]
    with pytest.raises(ValueError, match=r'bits must be an integer in 1\.\.8, got 9'):
        qat.audit(w, q, bits=9)
    assert '8 bits make 256 values, and the samples have 16' in qat.audit(w, q, bits=8).doubts[0]
    silent = qat.audit(w, q, 0 * s)
    assert silent.verdict == 'not_covered' and 'passes no gradient' in silent.reasons[0]


def test_rounding_by_chance_is_told_from_the_samples():
    random = np.random.default_rng(0)
    w = np.linspace(-1, 1, 4001)
    found = qat.audit(w, 0.25 * np.floor(w / 0.25 + random.random(w.size)), np.ones_like(w))
    assert not found.levels.monotone and 'chance or noise' in found.reasons[0]


def test_a_constant_is_no_entry_at_the_end_of_its_domain():
    w, q, s = sampled(SLOPES['ste'][0], 2)
    found = qat.audit(w, q, 0.5 * s)
    assert (found.matches, found.pooled.constant, found.verdict) == ((), 0.5, 'disguised')
    assert found.alpha == pytest.approx(0.5, abs=1e-6)


@pytest.mark.slow
def test_noise_and_few_decimals_leave_the_answer_what_it_is():
    w, q, s = sampled(SLOPES['dsq'][0], 2)
    noise = 1e-3 * np.random.default_rng(0).normal(size=s.size)
    for given, exact in (((np.round(w, 6), np.round(q, 6), np.round(s, 6)), 1e-5), ((w, q, s + noise), 1e-3)):
        found = qat.audit(*given)
        assert (found.verdict, found.outside.rule) == ('disguised', 'clip')
        assert found.alpha == pytest.approx(harmonic_mean(SLOPES['dsq'][0], 2), abs=exact)


@pytest.mark.parametrize('name, bits', [('dsq', 2), ('sine', 3), ('dge', 4)])
@pytest.mark.parametrize('every', [40, 60, 80, 100, 200])
def test_too_few_samples_do_not_tell_rather_than_tell_what_is_wrong(name, bits, every):
    w, q, s = (column[::every] for column in sampled(SLOPES[name][0], bits, reach=1.5))
    if 4 * 2**bits > w.size:
        return  # refused
    found = qat.audit(w, q, s)
    assert (found.verdict in ('disguised', 'unknown'), found.moved, found.reasons) == (True, None, ())
    assert found.verdict == 'disguised' or 'samples' in (*found.doubts, *found.notes)[0]


@pytest.mark.parametrize('name, bits', [('ste', 4), ('dsq', 2), ('sine', 1)])
@pytest.mark.parametrize('deviation', [5e-3, 0.02, 0.1])
def test_noise_is_told_and_is_no_verdict(name, bits, deviation):
    w, q, s = sampled(SLOPES[name][0], bits, reach=1.5)
    passes = np.where(np.abs(w) <= R, s, 1)
    for slope in (s, passes):
        found = qat.audit(w, q, slope + deviation * np.random.default_rng(0).normal(size=s.size))
        assert (found.verdict, found.reasons, found.moved) == ('unknown', (), None)
        assert 'its slope is noisy' in found.doubts[0]


def test_what_noise_does_not_hide_is_still_told():
    w, q, s = sampled(SLOPES['ste'][0], 3)
    noise = 0.01 * np.random.default_rng(0).normal(size=s.size)
    found = qat.audit(w, q, np.where(w > 0, 0.7, 1) * s + noise * (s > 0))
    assert found.verdict == 'not_covered' and 'not the same in every cell' in found.reasons[0]
    assert np.ptp(found.moved.thresholds) == pytest.approx(np.ptp(found.levels.thresholds))
