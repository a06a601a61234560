"""The answers of a verdict, on numbers: what makes a run unable to tell, and where the limits lie."""

import dataclasses
import math

import pytest

from qat.lockstep.verdict import LIMIT, NO, NONE, SATURATED, YES, Evidence, verdict


def twin(error, changed=3000, of_the_way=0.06, path_length=1.0, **outcomes):
    return {
        'weight_alignment_error': error,
        'weight_alignment_error_displacement': of_the_way,
        'changed_codes': changed,
        'changed_fraction': changed / 19_000,
        'path_length': path_length,
        **outcomes,
    }


def evidence(now=None, before=(), **changes) -> Evidence:
    now = {'ste': twin(0.03), 'naive_ste': twin(0.3), 'jitter': twin(0.02)} | (now or {})
    now = {name: metrics for name, metrics in now.items() if metrics}
    return dataclasses.replace(Evidence('mine() under sgd', [*before, now]), **changes)


NAN = float('nan')
CHAOS = {'ste': twin(0.9), 'naive_ste': twin(0.9), 'jitter': twin(0.5, of_the_way=0.6)}
TRAINED = {'accuracy': 0.9, 'loss': 0.3}
CASES = {
    'within the limit': (YES, 'ste was 1.5 times as far', evidence()),
    'as far as jitter': (YES, 'ste was as far from the reference as 1% more', evidence({'ste': twin(0.02)})),
    'beyond it': (NO, f'up to {LIMIT:g} counts as the same', evidence({'ste': twin(0.06)})),
    'early is evidence too': (
        NO,
        'ste was 4 times as far',
        evidence(before=[{'ste': twin(0.04), 'naive_ste': twin(0.3), 'jitter': twin(0.01)}]),
    ),
    'but not before codes change': (
        YES,
        'ste was 1.5 times as far',
        evidence(before=[{'ste': twin(0.04), 'naive_ste': twin(0.3), 'jitter': twin(0.01, changed=20)}]),
    ),
    'the larger the jitter, the more may pass': (NONE, 'saturated', evidence({'jitter': twin(0.4, of_the_way=0.5)})),
    'chaos at the end, alike before': (
        YES,
        'The run is chaotic: at its end 1% more learning rate is apart by 60% of the distance from the start. Compared '
        'were the first 1 of 3 evaluations, up to 20%.',
        evidence(CHAOS, before=[{'ste': twin(0.01), 'naive_ste': twin(0.3), 'jitter': twin(0.01)}, CHAOS]),
    ),
    'chaos at the end, different before': (
        NO,
        'ste was 4 times as far',
        evidence(CHAOS, before=[{'ste': twin(0.04), 'naive_ste': twin(0.3), 'jitter': twin(0.01)}]),
    ),
    'chaos before enough codes change': (
        NONE,
        'saturated',
        evidence(CHAOS, before=[{'ste': twin(0.01), 'naive_ste': twin(0.3), 'jitter': twin(0.01, changed=20)}]),
    ),
    'chaos, and at its end not finite': (
        NONE,
        'not finite',
        evidence(CHAOS | {'ste': twin(NAN)}, before=[{'ste': twin(0.01), 'jitter': twin(0.01)}]),
    ),
    'just below saturation': (YES, '', evidence({'jitter': twin(0.02, of_the_way=SATURATED)})),
    'without a recipe the closest counts': (
        NO,
        'naive_ste was 4 times as far from the reference as 1% more learning rate is (jitter); up to 2.5 counts as the '
        'same. No recipe is known: so.',
        evidence({'ste': None, 'naive_ste': twin(0.08), 'map_ste': twin(0.5)}, reason='so'),
    ),
    'and may be near': (YES, '', evidence({'ste': None, 'naive_ste': twin(0.01)}, reason='so')),
    'exactly': (YES, 'exactly', evidence({'ste': twin(0.0)})),
    'STE itself': (YES, 'is STE itself, so there is nothing to compare.', evidence(is_ste=True)),
    'STE itself, unmoved': (YES, 'is STE itself', evidence({'jitter': twin(0.02, changed=9)}, is_ste=True)),
    'STE itself, not finite': (NONE, 'not finite', evidence({'ste': twin(NAN)}, is_ste=True)),
    'to rounding': (YES, 'exactly', evidence({'ste': None, 'naive_ste': twin(7e-7)})),
    'exactly, and chaos': (YES, 'exactly', evidence({'ste': twin(0.0), 'jitter': twin(0.4, of_the_way=0.5)})),
    'not finite': (NONE, 'the twin ste', evidence({'ste': twin(NAN)})),
    'does not exist': (NONE, 'the twin ste', evidence({'ste': twin(None)})),
    'a loss that is not finite': (NONE, 'the twin naive_ste', evidence({'naive_ste': twin(0.3, loss=math.inf)})),
    'the reference is not finite': (NONE, "reference's", evidence(reference={'loss': None, 'accuracy': 0.1})),
    'did not train': (NONE, 'did not train', evidence(reference=TRAINED | {'loss': 2.4}, untrained_loss=2.3)),
    'trained, not yet below guessing': (
        NONE,
        'its loss fell from 15 to 2.4, and guessing has 2.3; try more steps',
        evidence(reference=TRAINED | {'loss': 2.4}, untrained_loss=2.3, first_loss=15.0),
    ),
    'by the recipe': (
        YES,
        'STE by the recipe trains like mine() under sgd: at its worst in this run ste was 1.5 times as far',
        evidence(adjusted=True),
    ),
    'what the recipe buys': (YES, 'With nothing adjusted (naive_ste) it was 15 times as far.', evidence(adjusted=True)),
    'other by the recipe': (NO, 'with STE by the recipe than with', evidence({'ste': twin(0.06)}, adjusted=True)),
    'plain STE': (YES, 'yes, STE trains like', evidence()),
    'nothing happened': (
        NONE,
        '0 codes changed, and 100 are needed; try a larger learning rate, or more steps',
        evidence({'ste': twin(None, 0, None, 0.0), 'jitter': twin(None, 0, None, 0.0)}),
    ),
    'too few codes': (NONE, 'next to nothing happened', evidence({'jitter': twin(0.02, changed=99)})),
    'too small a share': (
        NONE,
        '10000 codes changed, and 20000 (0.1% of all) are needed',
        evidence({'jitter': twin(0.02, changed=10_000) | {'changed_fraction': 5e-4}}),
    ),
    'no yardstick': (NONE, 'jitter was not run', evidence({'jitter': None})),
    'no twin': (NONE, 'ste or naive_ste was not run', evidence({'ste': None, 'naive_ste': None})),
}


@pytest.mark.parametrize('answer, said, of', CASES.values(), ids=CASES)
def test_answers(answer, said, of):
    found = verdict(of)
    assert found.startswith(answer) and said in found and 'mine() under sgd' in found, found
    assert found.endswith('.') and '\n' not in found


def test_outcomes_and_cautions_are_told():
    now = {'ste': twin(0.03, accuracy=0.91, loss=0.29), 'naive_ste': twin(0.3, accuracy=0.9, loss=0.3)}
    found = verdict(evidence(now, reference=TRAINED, untrained_loss=2.3, cautions=['kappa is large']))
    assert found.endswith(
        'ste ends with accuracy 0.9100 against 0.9000 and loss 0.2900 against 0.3000 of the reference. '
        'Beware: kappa is large.'
    )


def test_another_order_of_the_data_is_the_practitioners_yardstick():
    now = {'ste': twin(0.03, accuracy=0.91, loss=0.29), 'reshuffle': twin(0.6, accuracy=0.88, loss=0.3)}
    found = verdict(evidence(now | {'naive_ste': None}, reference=TRAINED, untrained_loss=2.3))
    assert found.endswith(
        'At the end it is 0.05 times as far from the reference as another order of the data is (reshuffle); its '
        'accuracy differs by +0.0100 and that of reshuffle by -0.0200.'
    )
    assert 'reshuffle' not in verdict(evidence({'reshuffle': twin(0.0)}))
