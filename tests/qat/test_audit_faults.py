"""Faults that a fake-quantizer may hide from a fit: each must be told, and none may pass for STE."""

import numpy as np
import pytest

import qat

w = np.linspace(-1.2, 1.2, 4001)
code = np.round(w / 0.1)
r = w / 0.1 - code  # from the nearest threshold
q = (np.clip(np.floor(w / 0.1), -8, 7) + 0.5) * 0.1
s = (np.abs(w) <= 0.75) * 1.0
q8 = (np.clip(np.floor(w * 128), -128, 127) + 0.5) / 128
s8 = (np.abs(w) <= 127.5 / 128) * 1.0
steep = s * 6 / np.tanh(6) / np.cosh(12 * r) ** 2
chance = np.where(np.random.default_rng(0).random(w.size) < 0.006, -1, 1)
spike = np.where(np.arange(w.size) == 2500, -0.75, q)
cell = (w > 0.22) & (w < 0.232)
UNEQUAL, POSITIVE, SINGLE, FALLS = (
    'not the same in every cell',
    'not positive everywhere',
    'no single slope',
    'q falls at ',
)

# what is sampled, and a word of the reason
FAULTS = {
    'an outermost code is negative': (q, np.where(w > 0.7, -s, s), POSITIVE),
    'an outermost code is weaker': (q, np.where(np.abs(w) > 0.7, 0.3 * s, s), UNEQUAL),
    'an outermost code has half, and no clamp behind it': (q, np.where(np.abs(w) > 0.7, 0.5 * s, s), UNEQUAL),
    'a tenth of a cell is negative': (q, np.where(cell, -s, s), SINGLE),
    'a tenth of a cell is silent': (q, np.where(cell, 0, s), SINGLE),
    'a fifth of one cell in 255': (q8, np.where((w * 128 > 20) & (w * 128 < 20.2), -s8, s8), SINGLE),
    'next to every threshold': (q, np.where(np.abs(r) < 0.004, -s, s), SINGLE),
    'a sign by chance': (q, chance * s, SINGLE),
    'only where the slope is small, in half of the cells': (q, steep + 0.01 * s * (w > 0), 'nor is its harmonic mean'),
    'codes overflow': ((np.mod(code + 8, 16) - 8) * 0.1, np.ones_like(w), FALLS + '2 of 4001'),
    'one sample falls': (spike, s, FALLS + '1 of 4001'),
    'the clip leaks': (q, np.where(s > 0, s, 0.01), 'other: from 0.01 to 0.01 passes'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_is_told(fault):
    rounded, slope, word = FAULTS[fault]
    found = qat.audit(w, rounded, slope)
    assert found.verdict == 'not_covered' and word in '; '.join(found.reasons)
    if word in (UNEQUAL, POSITIVE, SINGLE):
        assert found.alpha is None and not found.pooled.agree


def test_what_is_negative_anywhere_is_not_covered_under_adam_either():
    for fault in ('an outermost code is negative', 'a tenth of a cell is negative', 'next to every threshold'):
        assert qat.audit(w, *FAULTS[fault][:2]).identity_reasons == ('its slope is not positive everywhere',)


def test_without_a_fault_all_is_well():
    assert qat.audit(w, q, s).verdict == 'ste'
    assert qat.audit(w, q, steep).names[0] == 'dsq(k=90)'
    tied = np.where(np.abs(r) < 1e-9, 0.0, s)  # a convention at thresholds, as of |w| at 0
    assert (np.abs(r) < 1e-9).sum() > 1 and qat.audit(w, q, tied).verdict == 'ste'


def test_samples_that_end_inside_the_range_do_not_tell():
    short = np.abs(w) < 0.47
    found = qat.audit(w[short], q[short], s[short])
    assert (found.verdict, found.outside.rule) == ('unknown', 'unknown')
    assert 'do not reach half a step' in found.notes[-1]


def test_an_advice_about_bits_goes_the_right_way():
    short = np.abs(w) < 0.47
    assert 'sample a wider range' in qat.audit(w[short], q[short], bits=8).doubts[0]
    assert 'it has no more' in qat.audit(w, q, bits=8).doubts[0]
    assert 'it rounds to more than that' in qat.audit(w, q, bits=2).doubts[0]
